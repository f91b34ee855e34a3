"""Sound and turns that change while a migration runs: both generations follow, and no old vector answers meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from speakerdb.errors import GateFailed, NotEmbedded
from speakerdb.extraction import Extracted, Task
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import fake_extract, fake_vector
from speakerdb.types import Turn
from tests.files.conftest import SECONDS, Shelf


def replaced(shelf: Shelf) -> None:
    """The file is another one; it is added again with the same turns."""
    path = shelf.write("a.wav", number=9)
    shelf.db.add(path, [Turn(0, SECONDS / 2, "A"), Turn(SECONDS / 2, SECONDS, "B")], recording_id="a.wav")


def accepted(shelf: Shelf) -> None:
    """The file is another one, and is accepted as it is."""
    shelf.write("a.wav", number=9)
    shelf.db.files.accept(["a.wav"])


def edited(shelf: Shelf) -> None:
    """The turns are others: the labels have changed places."""
    turns = [Turn(0, SECONDS / 2, "B"), Turn(SECONDS / 2, SECONDS, "A")]
    shelf.db.add(shelf.media / "a.wav", turns, recording_id="a.wav")


def answers(db: SpeakerDB, generation: str, speaker: str, version: int) -> list[str]:
    """Who is found by the very vector that the speaker has, or had, at a content version."""
    vector = fake_vector(f"{generation}/{speaker}/{version}", db.generations[generation].dimension)
    found = db.match(vector=vector, generation=generation)
    return [match.id for match in found.matches if match.score > 0.99]


@pytest.mark.parametrize("how", [replaced, accepted, edited], ids=lambda how: how.__name__)
def test_a_change_while_a_migration_runs(shelf: Shelf, how: Callable[[Shelf], None]) -> None:
    db = shelf.db
    shelf.add("a.wav", "b.wav")
    db.work()
    db.start_migration("v4", force=True)
    db.work()
    speaker = next(s.id for s in db.speakers(recording="a.wav") if s.label == "A")
    for generation in ("v3", "v4"):
        assert answers(db, generation, speaker, 1) == [speaker]
    how(shelf)
    # From this moment on, before anybody has worked: nobody is found by what the speaker was.
    for generation in ("v3", "v4"):
        assert answers(db, generation, speaker, 1) == []
    assert db.speaker(speaker).generations == {"v3": "stale", "v4": "stale"}
    with pytest.raises(NotEmbedded):
        db.match(speaker=speaker)
    assert {key for key, item in shelf.items().items() if item[0] == "queued"} == {("a.wav", "v3"), ("a.wav", "v4")}
    with pytest.raises(GateFailed):
        db.finalize()

    # One generation is done before the other: it answers with the new vector, and the other with neither.
    def only_v3(task: Task) -> Extracted:
        if task.generation.name == "v4":
            raise ZeroDivisionError("not yet")
        return fake_extract(task)

    shelf.executor.answer = only_v3
    db.work()
    assert (answers(db, "v3", speaker, 2), answers(db, "v3", speaker, 1)) == ([speaker], [])
    assert (answers(db, "v4", speaker, 2), answers(db, "v4", speaker, 1)) == ([], [])
    with pytest.raises(GateFailed):
        db.finalize()
    shelf.executor.answer = fake_extract
    db.work(retry=True)
    assert (answers(db, "v4", speaker, 2), answers(db, "v4", speaker, 1)) == ([speaker], [])
    assert db.finalize().serving == "v4"
    assert answers(db, "v4", speaker, 2) == [speaker]
    # And within the roll-back period, both follow as well.
    shelf.write("b.wav", number=11)
    db.files.accept(["b.wav"])
    assert db.work().recordings_done == 2
    assert db.rollback().source_lag == 0
