"""Giving the alias its first target is guarded like a swap: two processes at it, one of which wakes late."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from speakerdb.errors import Conflict, IndexMissing, IndexUnavailable
from speakerdb.index.opening import open_index
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.testing.backends import Backend
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices
from speakerdb.testing.faults import Fault, FaultQueue, FaultyIndex
from speakerdb.testing.invariants import check
from speakerdb.testing.machine_world import Clock
from speakerdb.types import SERVING_ALIAS


class Stage:
    """A library that two processes open; the first one's index calls can be stopped or lost."""

    def __init__(self, settings: Settings, *, lost: bool = False) -> None:
        self.settings = settings
        self.lost = lost
        self.clock = Clock()
        self.faults = FaultQueue()
        self.index = FaultyIndex(open_index(settings), self.faults)

    def open(self, index: FaultyIndex | None = None) -> SpeakerDB:
        return SpeakerDB.open(self.settings, index=index, executor=FakeExecutor(), clock=self.clock)

    def stop_at(self, point: int) -> list[str]:
        """Let another process open the library and finish a migration at the `point`-th point."""
        points: list[str] = []

        def called(call: str, when: str) -> None:
            points.append(f"{when} {call}")
            if len(points) == point:
                self.other()

        self.index.on_call(called)
        return points

    def other(self) -> None:
        """What the other process does, once the first one's lease has expired."""
        self.clock.now += 61_000_000
        with self.open() as db:
            if self.lost:
                db.rebuild_index("v4")
                db.rebuild_index("v3")
                db.rollback()
            db.start_migration("v4", force=True)
            db.work()
            if not self.lost:
                db.finalize()

    def one_target(self) -> str:
        targets = self.index.inner.aliases().get(SERVING_ALIAS, ())
        assert len(targets) == 1, f"the alias names {targets}"
        with self.open() as db:
            db.work()
            check(db)
        return targets[0]


@pytest.fixture
def empty(tmp_path: Path) -> Settings:
    settings = fake_settings(tmp_path)
    SpeakerDB.upgrade(settings)
    return settings


@pytest.fixture
def empty_on_servers(tmp_path: Path, servers_backend: Backend) -> Iterator[Settings]:
    settings = fake_settings(tmp_path, **servers_backend.make(tmp_path))
    yield settings
    servers_backend.remove(settings)


@pytest.mark.parametrize("point", range(1, 22))
def test_a_first_start_is_stopped_and_wakes_after_a_migration(empty: Settings, point: int) -> None:
    _stopped(empty, point)


@pytest.mark.parametrize("point", [5, 9, 13, 16])
def test_on_servers_a_first_start_is_stopped_and_wakes_after_a_migration(
    empty_on_servers: Settings, point: int
) -> None:
    assert _stopped(empty_on_servers, point), "no point is passed so late"


def _stopped(settings: Settings, point: int) -> bool:
    stage = Stage(settings)
    points = stage.stop_at(point)
    with suppress(Conflict):
        stage.open(stage.index).close()
    stage.index = FaultyIndex(open_index(settings), stage.faults)
    with closing(stage.index):
        assert stage.one_target() == ("speakers_v4" if len(points) >= point else "speakers_v3")
    return len(points) >= point


@pytest.mark.parametrize("nth", range(4))
def test_an_alias_change_of_a_first_start_arrives_after_a_migration(empty: Settings, nth: int) -> None:
    _late(empty, nth)


@pytest.mark.parametrize("nth", [1, 2])
def test_on_servers_an_alias_change_of_a_first_start_arrives_after_a_migration(
    empty_on_servers: Settings, nth: int
) -> None:
    assert _late(empty_on_servers, nth), "there are not so many changes"


def _late(settings: Settings, nth: int) -> bool:
    stage = Stage(settings)
    stage.faults.next("update_aliases", *[Fault.PASS] * nth, Fault.HOLD)
    with closing(stage.index):
        with suppress(IndexUnavailable):
            stage.open(FaultyIndex(stage.index, FaultQueue())).close()
            stage.index = FaultyIndex(open_index(settings), stage.faults)
        held = stage.index.held > 0
        if held:
            stage.other()
            stage.index.deliver_late()
            assert stage.one_target() == "speakers_v4"
    return held


@pytest.mark.parametrize("point", range(1, 24))
def test_a_rebuild_is_stopped_and_wakes_after_a_roll_back(tmp_path: Path, point: int) -> None:
    settings = fake_settings(tmp_path)
    with SpeakerDB.open(settings, executor=FakeExecutor(), clock=Clock()) as db:
        db.add(None, two_voices(), recording_id="one", waveform=silence(20))
        db.work()
        db.start_migration("v4", force=True)
        db.work()
        db.finalize()
    for file in tmp_path.glob("index.db*"):
        file.unlink()
    stage = Stage(settings, lost=True)
    stage.clock.now += 10_000_000
    points = stage.stop_at(point)
    with stage.open(stage.index) as db, suppress(Conflict, IndexMissing):
        db.rebuild_index("v4")
    stage.index = FaultyIndex(open_index(settings), stage.faults)
    with closing(stage.index):
        if len(points) >= point:
            assert stage.one_target() == "speakers_v3"
