"""Draining the queue: executors, errors, stops, progress."""

import ctypes
import faulthandler
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import sqlalchemy as sa

from speakerdb.errors import LeaseHeld, MediaUnreadable, ModelUnavailable, NotFinite
from speakerdb.executors import Executor, InlineExecutor, Overdue, ProcessExecutor
from speakerdb.extraction import Extracted, Loader, Task
from speakerdb.extraction.drain import Extraction
from speakerdb.reports import WorkEvent
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FAKE_CHECKSUM, FakeExecutor, fake_extract, fake_settings
from speakerdb.types import Embedding
from tests.flow.conftest import add


def test_work_drains_and_tells_how_far_it_is(db: SpeakerDB) -> None:
    for n in range(40):
        add(db, f"r{n}")
    told: list[WorkEvent] = []
    report = db.work(on_event=told.append)
    assert (report.recordings_done, report.speakers_embedded, report.documents_written) == (40, 80, 80)
    assert (report.audio_seconds, report.stopped, report.models) == (800.0, "drained", {"v3": "fake"})
    assert told[0].current
    assert told[-1].progress.recordings_done == 40
    assert told[-1].audio_seconds == 800.0
    assert db.work().recordings_done == 0


def test_limit_and_stop_leave_the_rest_queued(db: SpeakerDB, executor: FakeExecutor) -> None:
    for n in range(40):
        add(db, f"r{n}")
    assert (db.work(limit=5).recordings_done, db.progress().recordings_queued) == (5, 35)
    seen: list[str] = []

    def answer(task: Task) -> Extracted:
        seen.append(task.recording_id)
        return fake_extract(task)

    executor.answer = answer
    report = db.work(stop=lambda: len(seen) >= 3)
    assert (report.stopped, report.recordings_done) == ("stopped", 3)
    with db.catalog.read() as tx:
        left = tx.exec_driver_sql("SELECT state, attempts, count(*) FROM work_items GROUP BY 1, 2 ORDER BY 1").all()
    assert [tuple(row) for row in left] == [("done", 1, 8), ("queued", 0, 32)]


def test_for_ever_waits_for_more(db: SpeakerDB) -> None:
    done = threading.Event()
    reports = []
    thread = threading.Thread(target=lambda: reports.append(db.work(forever=True, stop=done.is_set)))
    thread.start()
    add(db, "late")
    until = time.monotonic() + 30
    while not db.progress().recordings_done and time.monotonic() < until:
        time.sleep(0.01)
    done.set()
    thread.join()
    assert (reports[0].recordings_done, reports[0].stopped) == (1, "stopped")


def test_only_one_works_at_a_time(open_db: Callable[..., SpeakerDB]) -> None:
    one, two = open_db(), open_db()
    add(one, "r")
    with one.catalog.holding("work"), pytest.raises(LeaseHeld):
        two.work()
    assert two.work().recordings_done == 1


def test_a_broken_recording_stops_nobody(db: SpeakerDB, executor: FakeExecutor) -> None:
    def answer(task: Task) -> Extracted:
        if task.recording_id == "r1":
            raise MediaUnreadable("cannot be decoded")
        if task.recording_id == "r2":
            raise ZeroDivisionError("nobody foresaw this")
        return fake_extract(task)

    executor.answer = answer
    for n in range(4):
        add(db, f"r{n}")
    report = db.work()
    assert (report.recordings_done, report.recordings_failed) == (2, 2)
    assert {(e.recording_id, e.code) for e in report.errors} == {("r1", "media-unreadable"), ("r2", "extraction")}
    assert any("nobody foresaw this" in e.message for e in report.errors)


def test_a_vector_that_is_wrong_never_reaches_sql(db: SpeakerDB, executor: FakeExecutor) -> None:
    wrong = {"nan": np.full(24, np.nan), "long": np.full(24, 0.5), "zero": np.zeros(24)}

    def answer(task: Task) -> Extracted:
        found = fake_extract(task)
        if task.recording_id in wrong:
            vector = wrong[task.recording_id].astype(np.float32)
            results = {s: Embedding(vector, 5.0, 1, 1.0, None) for s in found.results}
            return Extracted(task.recording_id, task.content_version, results, 1.0, "fake", FAKE_CHECKSUM, ())
        return found

    executor.answer = answer
    for name in (*wrong, "right"):
        add(db, name)
    report = db.work()
    assert report.recordings_done == 1
    assert {e.code for e in report.errors} == {NotFinite.code}
    assert db.status().progress["v3"].speakers_embedded == 2


def test_a_model_that_is_missing_leaves_its_work_queued(db: SpeakerDB, executor: FakeExecutor) -> None:
    def without_v3(task: Task) -> Extracted:
        if task.generation.name == "v3":
            raise ModelUnavailable("no model", hint="get it")
        return fake_extract(task)

    add(db, "a")
    db.work()
    db.start_migration("v4", force=True)
    executor.answer = without_v3
    add(db, "b")
    told: list[WorkEvent] = []
    report = db.work(on_event=told.append)
    assert (report.recordings_done, report.recordings_failed) == (2, 0)
    assert "no model" in " ".join(event.notice for event in told)
    assert db.progress("v3").recordings_queued == 1
    (wait,) = db.status().waiting
    assert (wait.generation, wait.reason, wait.recordings) == ("v3", "model-unavailable", 1)
    assert "no model" in wait.message
    with pytest.raises(ModelUnavailable):
        db.work()
    executor.answer = fake_extract
    db.work()
    assert db.status().waiting == ()


def test_a_recording_that_changes_while_it_is_extracted_is_extracted_again(
    db: SpeakerDB, executor: FakeExecutor
) -> None:
    report = add(db, "r")

    def answer(task: Task) -> Extracted:
        if task.content_version == 1:
            add(db, "r")  # sound in memory has no fingerprint, so this counts as changed
        return fake_extract(task)

    executor.answer = answer
    assert db.work().recordings_done == 1
    with db.catalog.read() as tx:
        versions = tx.exec_driver_sql("SELECT DISTINCT content_version FROM embeddings").scalars().all()
    assert versions == [2]
    assert db.speaker(report.speakers["SPEAKER_00"]).generations == {"v3": "embedded"}


def test_a_recording_that_is_removed_while_it_is_extracted_stays_away(db: SpeakerDB, executor: FakeExecutor) -> None:
    add(db, "r")

    def answer(task: Task) -> Extracted:
        db.remove("r")
        return fake_extract(task)

    executor.answer = answer
    assert db.work().speakers_embedded == 0
    assert db.index.indices()["speakers_v3"].documents == 0


# Worker processes


def _ruin(task: Task) -> Extracted:
    """Ends its process in the way that the recording is called after, or answers."""
    match task.recording_id:
        case "exits":
            os._exit(9)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "crashes":
            faulthandler.disable()
            ctypes.string_at(0)
        case "swells":
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + 2**28, size + 2**28))
            np.ones(2**30)
    return fake_extract(task)


def _fall_together(task: Task) -> Extracted:
    """ "deadly" ends its process once "beside" is being worked on, which the first time does not come to its end."""
    begun = Path(os.environ["BEGUN"])
    if task.recording_id == "beside" and not begun.exists():
        begun.touch()
        time.sleep(600)
    if task.recording_id == "deadly":
        while not begun.exists():
            time.sleep(0.01)
        os._exit(9)
    return fake_extract(task)


def _process_id(_: object) -> int:
    return os.getpid()


@pytest.fixture
def pool() -> Iterator[ProcessExecutor]:
    made = ProcessExecutor(2)
    yield made
    made.close()


Items: TypeAlias = dict[str, tuple[str, int, str | None, str | None]]


def drained(db: SpeakerDB, pool: Executor, function: Callable[[Task], Extracted], timeout: float = 120.0) -> Items:
    """Work through the queue with another function in the place of `extract`; how every item ended."""
    extraction = Extraction(db.catalog, pool, db.generations, load=Loader(), timeout=timeout, function=function)
    with db.catalog.holding("work") as lease:
        while not extraction.step(lease).over:
            pass
    return items(db)


def items(db: SpeakerDB) -> Items:
    with db.catalog.read() as tx:
        sql = "SELECT recording_id, state, attempts, error_code, error_message FROM work_items"
        return {row[0]: tuple(row[1:]) for row in tx.exec_driver_sql(sql)}  # type: ignore[misc]


def set_attempts(db: SpeakerDB, attempts: int, *names: str) -> None:
    """As if they had been tried before."""
    with db.catalog.job() as tx:
        for name in names:
            statement = sa.text("UPDATE work_items SET attempts = :attempts WHERE recording_id = :name")
            tx.execute(statement, {"attempts": attempts, "name": name})


def test_each_way_a_worker_can_end_costs_one_attempt_and_is_told(tmp_path: Path, pool: ProcessExecutor) -> None:
    ways = {
        "exits": "ended with exit status 9",
        "killed": "killed by signal 9 (SIGKILL), as the system does when memory runs out",
        "crashes": f"killed by signal {signal.SIGSEGV:d} (SIGSEGV)",
        "swells": "ran out of memory",
    }
    with SpeakerDB.open(fake_settings(tmp_path), executor=pool) as db:
        for name in ("first", *ways, "last"):
            add(db, name)
        # Twice from the beginning would only take longer.
        set_attempts(db, 2, "killed", "crashes", "swells")
        ended = drained(db, pool, _ruin)
    assert ended["first"][0] == ended["last"][0] == "done"
    assert {name: ended[name][:3] for name in ways} == dict.fromkeys(ways, ("failed", 3, "worker-died"))
    for name, told in ways.items():
        assert told in (ended[name][3] or "")
    assert (ended["exits"][3] or "").count("ended with exit status 9") == 3
    assert [f"Attempt {n}: " in (ended["exits"][3] or "") for n in (1, 2, 3)] == [True] * 3


def test_what_ran_beside_a_dying_worker_costs_an_attempt_and_comes_through_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEGUN", str(tmp_path / "begun"))
    with SpeakerDB.open(fake_settings(tmp_path / "data"), executor=ProcessExecutor(1, depth=2)) as db:
        for name in ("deadly", "beside", "after"):
            add(db, name)
        ended = drained(db, db._executor, _fall_together)
    assert ended["beside"][:2] == ("done", 2)
    assert ended["after"][:2] == ("done", 1)
    assert ended["deadly"][:3] == ("failed", 3, "worker-died")
    told = ended["deadly"][3] or ""
    assert "Attempt 1: its worker process, with 2 recordings in it, ended with exit status 9." in told
    assert "Attempt 3: its worker process ended with exit status 9." in told


class Stuck(FakeExecutor):
    """Ends the recordings named, as if their time were over; others are answered at once."""

    width = 2

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names

    def submit(self, function: Callable[..., object], task: Any, **more: Any) -> Future[Any]:
        if task.recording_id not in self.names:
            return super().submit(function, task, **more)
        future: Future[Any] = Future()
        future.set_exception(Overdue("It took too long."))
        return future


def test_a_hang_costs_one_attempt_of_its_own_recording_only_and_the_third_is_the_end(tmp_path: Path) -> None:
    stuck = Stuck("endless")
    with SpeakerDB.open(fake_settings(tmp_path), executor=stuck) as db:
        for name in ("a", "endless", "b"):
            add(db, name)
        ended = drained(db, stuck, fake_extract, timeout=0.01)
        assert ended["a"][:2] == ended["b"][:2] == ("done", 1)
        assert ended["endless"][:3] == ("failed", 3, "worker-died")
        assert (ended["endless"][3] or "").count("took more than 0.01 s") == 3
        assert stuck.restarts == 0
        # Tried again, it begins with its first attempt and without its history.
        db.retry()
        assert items(db)["endless"] == ("queued", 0, None, None)


@pytest.mark.parametrize("width", [1, 2])
def test_models_are_loaded_once_a_batch_where_only_one_fits(tmp_path: Path, width: int) -> None:
    """Two recordings for each of two generations, queued in turn: one generation after the other, and no way back."""
    order: list[str] = []

    def answer(task: Task) -> Extracted:
        order.append(task.generation.name)
        return fake_extract(task)

    executor = FakeExecutor(answer)
    executor.width = width
    settings = fake_settings(tmp_path, batch_recordings=4, models={"keep": "one"})
    with SpeakerDB.open(settings, executor=executor) as db:
        db.start_migration("v4", force=True)
        for n in range(6):
            add(db, f"r{n}")
        db.work()
    loads = sum(before != after for before, after in zip(["", *order], order, strict=False))
    assert order.count("v3") == order.count("v4") == 6
    assert loads == 4, f"three batches of both models, each begins with the model that is loaded: {order}"


def test_workers_end_with_close_and_are_fresh_after_a_restart(pool: ProcessExecutor) -> None:
    first = pool.submit(_process_id, None).result(timeout=60)
    assert first != os.getpid()
    pool.restart()
    second = pool.submit(_process_id, None).result(timeout=60)
    assert second != first
    pool.close()
    pool.close()
    for process in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_inline_carries_errors_in_the_future() -> None:
    error = InlineExecutor().submit(_raise, None).exception()
    assert isinstance(error, KeyError)


def _raise(_: object) -> None:
    raise KeyError("as it was")
