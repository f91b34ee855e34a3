"""What is deleted after a time and what never is; the reminder before a roll-back period ends."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from serve_kit import add

from speakerdb.catalog import journal, schema
from speakerdb.events import KINDS, ROUTINE
from speakerdb.housekeeping import DAY, PART, Housekeeping
from speakerdb.service import SpeakerDB
from speakerdb.settings import ScheduleSettings
from speakerdb.testing.factories import FakeExecutor, fake_settings

NOW = 1_800_000_000_000_000


class Library:
    """A library whose clock a test moves."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        settings = fake_settings(folder, rollback_days=30.0)
        self.db = SpeakerDB.open(settings, executor=FakeExecutor(), clock=lambda: self.now)

    def keeper(self, **more: Any) -> Housekeeping:
        return Housekeeping(self.db.catalog, ScheduleSettings(**more), who="test")

    def kinds(self) -> Counter[str]:
        with self.db.catalog.read() as tx:
            return Counter(tx.scalars(sa.select(schema.events.c.kind)))

    def every_kind(self) -> None:
        """One event of each kind, now."""
        with self.db.catalog.job() as tx:
            for kind in KINDS:
                journal.record(tx, kind, "somebody", self.now)

    def wait(self, days: float) -> None:
        self.now += int(days * DAY)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    made = Library(tmp_path)
    yield made
    made.db.close()


def test_by_itself_no_event_is_ever_deleted(library: Library) -> None:
    library.every_kind()
    library.wait(10_000)
    before = library.kinds()
    assert library.keeper().clean_up().events == 0
    assert library.kinds() == before


def test_only_routine_goes_and_only_when_it_is_old(library: Library) -> None:
    library.every_kind()
    library.wait(20)
    library.every_kind()
    library.wait(20)
    assert library.keeper(keep_events_days=30).clean_up().events == len(ROUTINE)
    left = library.kinds()
    assert {kind: left[kind] for kind in ROUTINE if kind != "events-cleaned"} == dict.fromkeys(
        (kind for kind in ROUTINE if kind != "events-cleaned"), 1
    )
    assert left["events-cleaned"] == 2, "one of before, and the one that says so"
    assert {left[kind] for kind in KINDS if kind not in ROUTINE} == {2}
    assert library.keeper(keep_events_days=30).clean_up().events == 0


def test_routine_is_what_nobody_decided_and_nothing_asks_about() -> None:
    assert set(ROUTINE) <= set(KINDS)
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for path in (Path(schema.__file__).parent).glob("*.py")
        if path.name not in ("schema.py", "cleaning.py")
    )
    asked = {kind for kind in KINDS if f'"{kind}"' in source.replace("journal.record(", "")}
    assert not asked & set(ROUTINE), "the code asks the events for it"


def test_what_belongs_to_a_migration_stays_and_so_does_the_newest(library: Library) -> None:
    add(library.db, "a")
    library.db.work()
    library.db.start_migration("v4", force=True)
    with library.db.catalog.job() as tx:
        found = journal.newest(tx, "speakers")
        assert found is not None
        journal.record(tx, "items-retried", "somebody", library.now, migration_id=found.id)
        journal.record(tx, "backup-made", "somebody", library.now)
    library.wait(100)
    library.keeper(keep_events_days=1).clean_up()
    left = library.kinds()
    assert left["items-retried"] == 1
    assert left["backup-made"] == 1, "the newest of all: numbers only grow"
    assert left["recording-added"] == 0


def test_many_go_in_parts_and_a_stop_is_heard_between_them(library: Library) -> None:
    with library.db.catalog.job() as tx:
        for _ in range(PART + 10):
            journal.record(tx, "recording-added", "somebody", library.now)
    library.wait(10)
    keeper = library.keeper(keep_events_days=1)
    asked = iter([False, True, True])
    assert keeper.clean_up(stop=lambda: next(asked)).events == PART
    assert keeper.clean_up().events == 10
    assert library.kinds()["recording-added"] == 0


def test_old_repair_runs_go_and_the_last_of_each_kind_stays(library: Library) -> None:
    def run(kind: str, state: str, days_ago: float) -> None:
        at = library.now - int(days_ago * DAY)
        with library.db.catalog.job() as tx:
            tx.execute(
                sa.insert(schema.repair_runs).values(
                    generation="v3", kind=kind, epoch=1, who="test", state=state, started_at=at,
                    ended_at=None if state == "running" else at, compared=1, found="{}", done="{}", deletions=0,
                )
            )  # fmt: skip

    for days in (400, 300, 200, 50):
        run("check", "done", days)
    run("check", "refused", 300)
    run("walk", "done", 300)
    run("walk", "running", 300)
    assert library.keeper(keep_runs_days=90).clean_up().repair_runs == 3
    with library.db.catalog.read() as tx:
        rows = tx.execute(sa.select(schema.repair_runs.c.kind, schema.repair_runs.c.state)).all()
    assert sorted(map(tuple, rows)) == [
        ("check", "done"), ("check", "refused"), ("walk", "done"), ("walk", "running")
    ]  # fmt: skip


def reminders(library: Library) -> list[dict[str, Any]]:
    query = (
        sa.select(schema.events.c.data).where(schema.events.c.kind == "rollback-ending").order_by(schema.events.c.id)
    )
    with library.db.catalog.read() as tx:
        return [json.loads(data) for data in tx.scalars(query)]


def test_it_reminds_once_a_day_before_and_after_the_end_until_it_is_retired(library: Library) -> None:
    keeper, second = library.keeper(remind_days=7), library.keeper(remind_days=7)
    assert not keeper.remind(), "there is no migration"
    add(library.db, "a")
    library.db.work()
    library.db.start_migration("v4", force=True)
    library.db.work()
    assert not keeper.remind(), "it is not finalized"
    library.db.finalize()
    library.wait(22)
    assert not keeper.remind(), "it is early"
    library.wait(2)
    assert keeper.remind()
    assert not keeper.remind()
    assert not second.remind(), "another process neither"
    library.wait(1)
    assert second.remind()
    library.wait(6)
    assert keeper.remind(), "it is over"
    assert [round(each["days_left"]) for each in reminders(library)] == [6, 5, -1]
    library.db.retire()
    library.wait(1)
    assert not keeper.remind()


def test_a_reminder_by_a_clock_that_was_ahead_does_not_take_the_place_of_the_right_one(library: Library) -> None:
    add(library.db, "a")
    library.db.work()
    library.db.start_migration("v4", force=True)
    library.db.work()
    library.db.finalize()
    keeper = library.keeper(remind_days=7)
    library.wait(365)
    assert keeper.remind()
    library.wait(-365)
    assert not keeper.remind(), "it is early"
    library.wait(24)
    assert keeper.remind()
    assert not keeper.remind()
