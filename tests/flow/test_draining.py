"""Draining the queue: executors, errors, stops, progress."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from speakerdb.errors import LeaseHeld, MediaUnreadable, ModelUnavailable, NotFinite
from speakerdb.executors import InlineExecutor, ProcessExecutor
from speakerdb.extraction import Extracted, Extraction, Loader, Task
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
    with pytest.raises(ModelUnavailable):
        db.work()


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


def _die(task: Task) -> Extracted:
    if task.recording_id == "deadly":
        os._exit(9)
    return fake_extract(task)


def _hang(task: Task) -> Extracted:
    if task.recording_id == "endless":
        time.sleep(600)
    return fake_extract(task)


def _process_id(_: object) -> int:
    return os.getpid()


@pytest.fixture
def pool() -> ProcessExecutor:
    made = ProcessExecutor(2)
    yield made  # type: ignore[misc]
    made.close()


@pytest.mark.parametrize(
    ("function", "name", "code", "attempts"),
    [(_die, "deadly", "worker-died", 3), (_hang, "endless", "worker-timeout", 1)],
)
def test_a_recording_that_ruins_its_worker_fails_and_the_others_are_done(
    tmp_path: Path, pool: ProcessExecutor, function: Callable[[Task], Extracted], name: str, code: str, attempts: int
) -> None:
    settings = fake_settings(tmp_path)
    with SpeakerDB.open(settings, executor=pool) as db:
        extraction = Extraction(
            db.catalog,
            pool,
            db.generations,
            load=Loader(),
            timeout=15.0,
            function=function,
        )
        for each in ("a", name, "b", "c"):
            add(db, each)
        with db.catalog.holding("work") as lease:
            while extraction.step(lease).taken:
                pass
        with db.catalog.read() as tx:
            states = {r: s for r, s in tx.exec_driver_sql("SELECT recording_id, state FROM work_items")}  # noqa: C416
            errors = tx.exec_driver_sql("SELECT error_code, attempts FROM work_items WHERE state = 'failed'").all()
    assert states == {"a": "done", "b": "done", "c": "done", name: "failed"}
    assert [tuple(row) for row in errors] == [(code, attempts)]


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
