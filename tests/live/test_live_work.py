"""What runs follows live settings: a pause, quiet hours, how much at once; and `status` says why nothing is extracted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from speakerdb.extraction.extract import Task
from speakerdb.live import live as live_module
from speakerdb.reports import Status
from speakerdb.reports.live import Halt
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_extract, silence, two_voices

Open = Callable[..., SpeakerDB]


@pytest.fixture(autouse=True)
def heard_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "CACHE_SECONDS", 0.0)


def add(db: SpeakerDB, *names: str) -> None:
    for name in names:
        db.add(None, two_voices(), recording_id=name, waveform=silence(20))


def done(db: SpeakerDB) -> int:
    return db.progress("v3").recordings_done


def test_a_pause_ends_a_run_gives_back_what_has_not_begun_and_keeps_the_rest(open_db: Open) -> None:
    seen: list[str] = []

    def answer(task: Task) -> Any:
        seen.append(task.recording_id)
        if len(seen) == 2:
            db.live.set("paused", "on", why="the machine is needed")
        return fake_extract(task)

    db = open_db(executor=FakeExecutor(answer))
    add(db, "a", "b", "c", "d")
    report = db.work()
    assert (report.stopped, report.recordings_done, seen) == ("halted", 2, ["a", "b"])
    assert db.work().stopped == "halted"
    status = db.status()
    (wait,) = status.waiting
    assert (wait.reason, wait.recordings, wait.command) == ("extraction-paused", 2, "speakerdb live clear paused")
    assert "the machine is needed" in wait.message
    assert [p.severity for p in status.problems if p.code == "extraction-paused"] == ["warning"]
    db.live.clear("paused")
    assert (db.work().recordings_done, seen) == (2, ["a", "b", "c", "d"])
    assert [p.code for p in db.status().problems] == []


def test_indices_are_kept_current_while_it_is_paused(db: SpeakerDB) -> None:
    add(db, "a")
    db.work()
    db.live.set("paused", "on")
    db.remove("a")
    report = db.work()
    assert (report.stopped, report.documents_written) == ("halted", 2)


def test_a_run_for_ever_waits_and_goes_on(open_db: Open) -> None:
    db, other = open_db(), open_db()
    db.live.set("paused", "on")
    add(db, "a", "b")
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        if steps == 3:
            assert done(other) == 0
            assert other.leases()[-1].held, "it holds its place"
            other.live.clear("paused")
        return done(other) == 2

    report = db.work(forever=True, stop=stop)
    assert (report.stopped, report.recordings_done) == ("stopped", 2)


def test_a_pause_that_is_over_is_not_kept_by_a_recording_that_takes_long(
    open_db: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Counting(2)
    db, other = open_db(executor=executor, workers=2), open_db()
    add(db, "slow")
    gate = threading.Event()
    submit = executor.submit

    def submitted(*given: Any, **more: Any) -> Future[Any]:
        monkeypatch.setattr(executor, "submit", submit)
        other.live.set("paused", "on")  # it is noticed between two steps
        return submit(*given, **more)

    def before(number: int) -> None:
        if number == 1:
            assert gate.wait(30)

    monkeypatch.setattr(executor, "submit", submitted)
    executor.before = before
    halts, ended = halted(db), threading.Event()
    with ThreadPoolExecutor(1) as thread:
        run = thread.submit(db.work, forever=True, stop=ended.is_set)
        try:
            wait_for(lambda: halts[-1:] == [True])
            add(other, "a")
            other.live.clear("paused")
            wait_for(lambda: done(other) == 1)
        finally:
            gate.set()
            ended.set()
        assert run.result(30).recordings_done == 2


def halted(db: SpeakerDB) -> list[bool]:
    """What the worker hears from now on, each time that it asks whether it is to rest."""
    told: list[bool] = []
    asked = db.worker._halt

    def halt() -> Halt | None:
        found = asked()
        told.append(found is not None)
        return found

    db.worker._halt = halt
    return told


def wait_for(happened: Callable[[], bool]) -> None:
    late = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < late
        time.sleep(0.02)


def test_a_pause_lets_the_models_go(open_db: Open) -> None:
    executor = FakeExecutor()
    db = open_db(executor=executor)
    db.live.set("paused", "on")
    looks = iter([False] * 6 + [True])
    db.work(forever=True, stop=lambda: next(looks, True))
    assert executor.restarts == 1


def test_quiet_hours_end_a_run_and_are_no_problem(db: SpeakerDB) -> None:
    add(db, "a")
    now = datetime.now(UTC)
    begin, end = now - timedelta(hours=1), now + timedelta(hours=1)
    db.live.set("quiet_hours", f"{begin:%H:%M}-{end:%H:%M}")
    assert db.work().stopped == "halted"
    status: Status = db.status()
    assert [wait.reason for wait in status.waiting] == ["quiet-hours"]
    assert status.problems == ()
    (place,) = (p for p in db.explain.about("a").places if p.generation == "v3")
    assert "quiet hours" in place.why + place.next
    db.live.set("quiet_hours", f"{end:%H:%M}-{begin:%H:%M}")
    assert db.work().recordings_done == 1


class Counting:
    """Runs tasks in threads, and knows how many there were at once."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(8)
        self.before: Callable[[int], None] = lambda _: None
        self._count = 0

    def submit(self, function: Callable[[Any], Any], task: Any, **more: Any) -> Future[Any]:
        with self._lock:
            self._count += 1
            self._now += 1
            self.most = max(self.most, self._now)
            number = self._count

        def run() -> Any:
            try:
                self.before(number)
                return fake_extract(task)
            finally:
                with self._lock:
                    self._now -= 1

        return self._pool.submit(run)

    def resize(self, workers: int) -> None:
        self.width = workers

    def restart(self) -> str:
        return ""

    def close(self) -> None:
        self._pool.shutdown()


def test_how_many_at_once_follows_in_the_middle_of_a_batch(open_db: Open) -> None:
    executor = Counting(1)
    db = open_db(executor=executor, workers=1)
    add(db, *"abcdef")
    gate = threading.Barrier(3, timeout=30)

    def before(number: int) -> None:
        if number == 1:
            other.live.set("concurrency", "3")
        elif number in (2, 3, 4):
            gate.wait()  # three at once, or nobody gets on

    other = open_db()
    executor.before = before
    assert db.work().recordings_done == 6
    assert executor.most == 3
    db.live.clear("concurrency")
    executor.most, executor.before = 0, lambda _: None
    add(db, *"ghij")
    db.work()
    assert executor.most == 1
