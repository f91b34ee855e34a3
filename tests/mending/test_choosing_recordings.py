"""Retry, waive and what goes first: by error code, by library, by a list, by share."""

from __future__ import annotations

from pathlib import Path

import pytest

from speakerdb.catalog import choosing, database
from speakerdb.catalog.choosing import Part
from speakerdb.errors import InvalidInput, MediaMissing, MediaUnreadable, NoMigration, NotFound
from speakerdb.extraction.extract import Extracted, Task
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_extract, fake_settings, silence, two_voices

BROKEN = {"a1": MediaMissing, "a2": MediaUnreadable, "b1": MediaMissing, "b2": MediaMissing}


def some_break(task: Task) -> Extracted:
    if task.generation.name == "v4" and task.recording_id in BROKEN:
        raise BROKEN[task.recording_id](f"{task.recording_id} is broken.")
    return fake_extract(task)


@pytest.fixture
def db(tmp_path: Path):  # type: ignore[no-untyped-def]
    with SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor(some_break)) as opened:
        for name in ("a0", "a1", "a2", "b0", "b1", "b2"):
            opened.add(None, two_voices(), recording_id=name, library=name[0], waveform=silence(20))
        opened.work()
        opened.start_migration("v4", force=True)
        yield opened


def states(db: SpeakerDB) -> dict[str, str]:
    from speakerdb.catalog.schema import work_items

    with db.catalog.read() as tx:
        rows = tx.execute(work_items.select().where(work_items.c.generation == "v4"))
        return {row.recording_id: row.state for row in rows}


def test_failed_recordings_are_chosen_by_code_library_and_list(db: SpeakerDB) -> None:
    db.work()
    assert {name for name, state in states(db).items() if state == "failed"} == set(BROKEN)
    assert {view.generations["v4"] for view in db.speakers(recording="a1")} == {"failed"}
    assert {view.generations["v4"] for view in db.speakers(recording="a0")} == {"embedded"}
    assert db.retry(code="media-missing", library="b") == 2
    assert {name for name, state in states(db).items() if state == "queued"} == {"b1", "b2"}
    db.work()
    assert db.retry(listed=["a1", "a2", "a0"], why="the disk is back") == 2, "a0 had not failed"
    db.work()
    assert db.waive(why="lost", library="b", code="media-missing") == 2
    assert db.waive(why="lost", listed=["a1"], code="media-unreadable") == 0, "all that is said must hold"
    assert db.waive(why="noise", listed=["a2"]) == 1
    assert {name for name, state in states(db).items() if state == "failed"} == {"a1"}
    kinds = [(e["kind"], e["why"], e["entity"]) for e in db.overview.events(limit=4)]
    assert ("item-waived", "noise", "a2") in kinds
    assert db.retry(listed=["a2"]) == 1, "who names a recording means it, waived or not"


def test_a_list_that_names_something_unknown_changes_nothing(db: SpeakerDB) -> None:
    db.work()
    before = states(db)
    with pytest.raises(NotFound, match="2 of 3 recordings are not in the library: 'nobody', '/x"):
        db.retry(listed=["a1", "nobody", "/x\u0000y"])
    with pytest.raises(NotFound):
        db.waive(why="x", library="no such library")
    with pytest.raises(InvalidInput):
        db.waive(why=" ", code="media-missing")
    assert states(db) == before


def order(db: SpeakerDB) -> list[str]:
    from speakerdb.catalog.schema import work_items

    with db.catalog.read() as tx:
        rows = tx.execute(
            work_items.select()
            .where(work_items.c.generation == "v4", work_items.c.state == "queued")
            .order_by(work_items.c.priority, work_items.c.id)
        )
        return [row.recording_id for row in rows]


def test_a_library_or_a_list_goes_first(db: SpeakerDB) -> None:
    assert db.migrator.first(Part(library="b")) == 3
    assert order(db)[:3] == ["b0", "b1", "b2"]
    assert db.migrator.first(Part(listed=("a2",))) == 1
    assert set(order(db)[:4]) == {"a2", "b0", "b1", "b2"}
    assert db.migrator.first(Part(listed=("a2",))) == 0, "it goes first already"
    done = db.work(limit=4)
    assert done.recordings_done + done.recordings_failed == 4
    assert set(order(db)) == {"a0", "a1"}
    with pytest.raises(NotFound):
        db.migrator.first(Part(library="c"))


def test_a_share_is_chosen_as_if_by_chance_and_holds_every_smaller_one(tmp_path: Path) -> None:
    places = {f"recording-{number}": choosing._place(f"recording-{number}") for number in range(2000)}
    assert all(0 <= place < 1 for place in places.values())
    quarter = [name for name, place in places.items() if place < 0.25]
    assert 420 < len(quarter) < 580
    with SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor()) as db:
        with pytest.raises(NoMigration):
            db.migrator.first(Part(share=0.5))
        for name in list(places)[:40]:
            db.add(None, two_voices(), recording_id=name, waveform=silence(20))
        db.work()
        db.start_migration("v4", force=True)
        few = {name for name in list(places)[:40] if places[name] < 0.25}
        assert db.migrator.first(Part(share=0.25)) == len(few) > 0
        assert set(order(db)[: len(few)]) == few
        more = {name for name in list(places)[:40] if places[name] < 0.5}
        assert db.migrator.first(Part(share=0.5)) == len(more) - len(few)
        assert set(order(db)[: len(more)]) == more
        db.work(limit=len(more))
        db.migrator.first(Part(share=1.0))


def test_long_lists_come_in_parts(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "IDS_A_STATEMENT", 2)
    assert db.migrator.first(Part(listed=("a0", "a1", "a2", "b0", "b1"))) == 5
    with db.catalog.read() as tx:
        assert choosing.resolve_all(tx, ["b1", "a0", "a0", "b2"]) == ["b1", "a0", "b2"]
