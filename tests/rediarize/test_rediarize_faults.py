"""A process that dies at any statement, or around any commit, of a diarization or a revert: as if it had not begun, or done.

At every fifth of these places, and at each of them in the profile `thorough`.
After recovery the library equals one that nothing happened to.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import settings
from rediarize_kit import SECONDS, added, again, are_searchable, by_hand, said_of, state_of, turns, turns_of

from speakerdb.catalog.database import Database, Transaction
from speakerdb.diarizers.asked import Asked
from speakerdb.service import SpeakerDB
from speakerdb.testing import invariants
from speakerdb.testing.factories import silence
from speakerdb.testing.faults import SimulatedCrash
from tests.listen.conftest import Ear

OTHERWISE = turns((0.0, 9.0, "S0"), (10.0, 19.0, "S1"), (25.0, 26.0, "S2"))


class Crashing:
    """Counts statements that write, and commits; the chosen one crashes, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = 0
        self.at: int | None = None
        write = Database.write

        def count(what: str) -> None:
            number, self.seen = self.seen, self.seen + 1
            if number == self.at:
                raise SimulatedCrash(f"{what} {number}")

        @contextmanager
        def watched(database: Database) -> Iterator[Transaction]:
            with write(database) as tx:

                def statement(_: Any, __: Any, text: str, *___: Any) -> None:
                    if not text.lstrip().upper().startswith("SELECT"):
                        count(text.split(" ", 1)[0])

                sa.event.listen(tx, "before_cursor_execute", statement)
                try:
                    yield tx
                finally:
                    sa.event.remove(tx, "before_cursor_execute", statement)
                count("before commit")
            count("after commit")

        monkeypatch.setattr(Database, "write", watched)


class Later:
    """A clock that can be put forward, past the expiry of what a dead process held."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000

    def __call__(self) -> int:
        self.now += 1
        return self.now


def opened(folder: Path, clock: Later, ear: Ear) -> SpeakerDB:
    return by_hand(folder, ear, clock=clock)


def filled(folder: Path, clock: Later, ear: Ear) -> SpeakerDB:
    """Three speakers with names and a person; and it was diarized once more than it came."""
    db = opened(folder, clock, ear)
    ids = added(db)
    db.assign(ids["A"], db.create_profile("Ann").id)
    db.rename_speaker(ids["C"], "Cem")
    ear.turns = turns((0.0, 9.5, "S0"), (10.0, 19.5, "S1"), (20.0, 29.5, "S2"))
    again(db)
    ear.turns = OTHERWISE
    return db


def state(db: SpeakerDB) -> tuple[object, ...]:
    """What is to be the same, whoever died: ids are made up anew in each library, so labels stand for speakers."""
    said = said_of(db)
    profiles = {one.id: one.name for one in db.profiles()}
    return (
        sorted((label, name, profiles.get(profile or "")) for label, name, profile in said.values()),
        sorted((start, end, said[id][0]) for start, end, id in turns_of(db)),
        len(db.rediarizing.sets("r")),
        are_searchable(db, "v3", [*said, *profiles]),
    )


def rediarized(db: SpeakerDB) -> None:
    db.extraction.keep("r", silence(SECONDS))
    db.rediarizing.queue(["r"], Asked(accept_lost=True))
    db.work()


def go_on(db: SpeakerDB) -> None:
    db.extraction.keep("r", silence(SECONDS))
    db.work()


def reverted(db: SpeakerDB) -> None:
    db.rediarizing.revert("r")
    go_on(db)


def crashes(act: Callable[[], Any]) -> bool:
    """Whether the process dies. It lets go of nothing: the object is left as it lies, only its files are closed."""
    try:
        act()
    except SimulatedCrash:
        return True
    return False


@pytest.mark.parametrize("act", [rediarized, reverted])
def test_a_crash_at_every_statement(
    act: Callable[[SpeakerDB], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, ear = Later(), Ear()
    crashing = Crashing(monkeypatch)
    filled(tmp_path / "begun", clock, ear).close()
    shutil.copytree(tmp_path / "begun", tmp_path / "whole")
    with opened(tmp_path / "whole", clock, ear) as db:
        before = state(db)
        crashing.seen = 0
        act(db)
        total = crashing.seen
        after = state(db)
        invariants.check(db)
    assert after != before
    assert total >= 20
    came_back, points = 0, range(0, total, 1 if settings().max_examples >= 1000 else 5)
    for number in points:
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "begun", folder)
        crashing.at = None
        with opened(folder, clock, ear) as db:
            db.extraction.keep("r", silence(SECONDS))
            crashing.seen, crashing.at = 0, number
            assert crashes(lambda db=db: act(db)), number
        clock.now += 3_600_000_000
        with opened(folder, clock, ear) as db:
            go_on(db)
            found = state(db)
            assert found in (before, after), number
            if found == before:
                came_back += 1
                assert state_of(db) in (None, "done"), number
                act(db)
                assert state(db) == after, number
            invariants.check(db)
    # What dies before its request is written down has not begun; everything later is finished by whoever comes next.
    assert 0 < came_back < len(points)
