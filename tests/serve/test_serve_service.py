"""The service in this process: what an outage does to its jobs, and that they go on by themselves when it is over."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from serve_kit import add, drained, holder, states, wait_for

from speakerdb import worker
from speakerdb.catalog import repairs, schema
from speakerdb.core.drift import Sums
from speakerdb.errors import ModelUnavailable
from speakerdb.extraction.extract import Extracted, Task
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.reports.jobs import JobView
from speakerdb.scheduler import Service, jobs
from speakerdb.scheduler import service as service_module
from speakerdb.service import SpeakerDB
from speakerdb.testing.damage import lay
from speakerdb.testing.factories import FakeExecutor, fake_extract, fake_settings, silence, two_voices
from speakerdb.testing.faults import Fault, FaultyIndex, SimulatedCrash
from speakerdb.testing.invariants import Monitor
from speakerdb.testing.servers.postgres import PostgresServer
from speakerdb.types import SERVING_ALIAS

Open = Callable[..., SpeakerDB]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run often, so that a test waits for little."""
    for name in ("TICK_SECONDS", "WATCH_SECONDS", "RECOVER_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(service_module, name, 0.1)
    monkeypatch.setattr(jobs, "FIRST_DELAY_SECONDS", 0.1)
    monkeypatch.setattr(jobs, "TRANSIENT_DELAY_SECONDS", 0.4)
    monkeypatch.setattr(jobs, "DELAY_SECONDS", 0.4)
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(worker, "MODEL_RETRY_SECONDS", 0.1)


class Outage:
    """A plan for a `FaultyIndex`: while `down`, no request reaches it, or none of these."""

    def __init__(self, *calls: str) -> None:
        self.down = False
        self._calls = calls

    def __call__(self, call: str, arguments: tuple[Any, ...]) -> Fault:
        return Fault.LOSE_REQUEST if self.down and call in (self._calls or (call,)) else Fault.PASS


@pytest.fixture
def executor() -> FakeExecutor:
    return FakeExecutor()


@pytest.fixture
def open_db(tmp_path: Path, executor: FakeExecutor) -> Iterator[Open]:
    """Opens the library, as one process more."""
    opened: list[SpeakerDB] = []

    def make(**more: Any) -> SpeakerDB:
        index = more.pop("index", None)
        opened.append(SpeakerDB.open(fake_settings(tmp_path, **more), executor=executor, index=index))
        return opened[-1]

    yield make
    for db in opened:
        db.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Service]]:
    """Starts services, and ends them."""
    started: list[Service] = []

    def start(db: SpeakerDB, **more: Any) -> Service:
        started.append(Service(db, **more))
        started[-1].start()
        return started[-1]

    yield start
    left = [service for service in started if not service.stop()]
    assert left == [], "a job did not end"


def job(service: Service, name: str) -> JobView:
    return next(view for view in service.jobs() if view.name == name)


def test_it_works_and_is_ready(open_db: Open, serve: Callable[..., Service]) -> None:
    db = open_db()
    service = Service(db)
    assert service.ready() == (
        False, ["The database and the index were not looked at yet.", "Its jobs were not started."]
    )  # fmt: skip
    service = serve(db)
    add(db, "a", "b")
    wait_for(lambda: drained(db), "the work")
    wait_for(lambda: service.ready() == (True, []), "its readiness")
    assert job(service, "work").state == "running"
    db.remove("a")
    wait_for(lambda: drained(db), "the tombstones")
    assert service.stop()
    assert service.ready()[0] is False
    assert holder(db) is None
    Monitor().check(db)


def test_jobs_survive_an_index_that_is_away(
    tmp_path: Path, open_db: Open, serve: Callable[..., Service], caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage()
    index = FaultyIndex(EmbeddedIndex(tmp_path / "index.db"), outage)
    db = open_db(index=index)
    with caplog.at_level(logging.INFO, "speakerdb.scheduler"):
        service = serve(db)
        wait_for(lambda: service.ready()[0], "its readiness")
        outage.down = True
        add(db, "a")
        wait_for(lambda: states(db)["a"][0] == "done", "the extraction, which needs no index")
        wait_for(lambda: not service.ready()[0], "that it is not ready")
        assert any("index-unavailable" in reason for reason in service.ready()[1])
        wait_for(lambda: job(service, "project").code == "index-unavailable", "the failure of a job")
        wait_for(lambda: job(service, "project").failures > 2, "more tries")
        outage.down = False
        wait_for(lambda: drained(db), "that it goes on by itself")
        wait_for(lambda: service.ready() == (True, []), "its readiness")
        wait_for(lambda: all(view.code is None for view in service.jobs()), "that every job is well")
    failed = [record.getMessage() for record in caplog.records if record.msg.startswith("job-failed")]
    assert len([text for text in failed if "job=project" in text]) == 1, "logged once"
    assert b'speakerdb_job_failures_total{code="index-unavailable",job="project"}' in service.metrics.render()


def test_an_index_that_answers_no_search_is_not_up_though_its_alias_is_there(
    tmp_path: Path, open_db: Open, serve: Callable[..., Service]
) -> None:
    """As one that is closed, or has lost a shard."""
    outage = Outage("ping")
    db = open_db(index=FaultyIndex(EmbeddedIndex(tmp_path / "index.db"), outage))
    service = serve(db, jobs=False)
    wait_for(lambda: service.ready() == (True, []), "its readiness, without a document")
    assert b"speakerdb_index_up 1.0" in service.metrics.render()
    outage.down = True
    wait_for(lambda: not service.ready()[0], "that it is not ready")
    assert any("index-unavailable" in reason for reason in service.ready()[1])
    told = service.metrics.render()
    assert b"speakerdb_index_up 0.0" in told
    assert b'speakerdb_serving{generation="v3"} 1.0' in told
    outage.down = False
    wait_for(lambda: service.ready() == (True, []), "that it is ready again")
    assert b"speakerdb_index_up 1.0" in service.metrics.render()


# A thread that had a connection while another one let go of the whole pool gives it back to a pool that nobody holds: it is
# closed when it is collected, which psycopg tells of.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_jobs_survive_a_database_that_is_away(
    tmp_path: Path, open_db: Open, serve: Callable[..., Service], own_postgres: PostgresServer
) -> None:
    db = open_db(database_url=own_postgres.new_database())
    service = serve(db)
    wait_for(lambda: service.ready()[0], "its readiness")
    own_postgres.stop()
    wait_for(lambda: not service.ready()[0], "that it is not ready")
    wait_for(lambda: job(service, "work").code == "database-unavailable", "the failure of the work")
    assert b"speakerdb_database_up 0.0" in service.metrics.render()
    own_postgres.start()
    wait_for(lambda: service.ready() == (True, []), "its readiness")
    add(db, "a")
    wait_for(lambda: drained(db), "that it goes on by itself")
    assert holder(db) is not None
    assert service.stop()
    db.close()
    gc.collect()


def test_a_model_that_cannot_be_loaded_is_told_and_tried_again(
    open_db: Open, serve: Callable[..., Service], executor: FakeExecutor
) -> None:
    there = threading.Event()

    def answer(task: Task) -> Extracted:
        if not there.is_set():
            raise ModelUnavailable("the hub is away")
        return fake_extract(task)

    executor.answer = answer
    db = open_db()
    service = serve(db)
    add(db, "a")
    wait_for(lambda: any("model-unavailable" in reason for reason in service.ready()[1]), "that it is told")
    wait_for(lambda: service.ready()[0], "that it answers all the same")
    there.set()
    wait_for(lambda: drained(db), "the work")
    wait_for(lambda: service.ready() == (True, []), "that nothing is said any more")


def test_a_model_that_nobody_waits_for_any_more_is_not_told_of(
    open_db: Open, serve: Callable[..., Service], executor: FakeExecutor
) -> None:
    """Its migration was cancelled: nothing will ever be asked of it again, so nothing can show that it is over."""

    def answer(task: Task) -> Extracted:
        if task.generation.name == "v4":
            raise ModelUnavailable("the hub is away")
        return fake_extract(task)

    executor.answer = answer
    db = open_db()
    add(db, "a")
    db.work()
    service = serve(db)
    db.start_migration("v4", force=True)
    wait_for(lambda: any("model-unavailable" in reason for reason in service.ready()[1]), "that it is told")
    db.cancel()
    wait_for(lambda: service.ready() == (True, []), "that nothing is said any more")
    assert job(service, "work").state == "running", "the same run goes on"


def test_one_job_that_fails_stops_no_other(
    open_db: Open, serve: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    db = open_db()

    def broken() -> None:
        raise ZeroDivisionError("nobody foresaw it")

    monkeypatch.setattr(db.migrator, "recover_if_needed", lambda: None)
    monkeypatch.setattr(db.housekeeping, "remind", broken)
    service = serve(db)
    add(db, "a")
    wait_for(lambda: drained(db), "the work")
    wait_for(lambda: job(service, "remind").code == "internal", "the failure")
    wait_for(lambda: service.ready()[0], "its readiness")
    assert service.ready()[1] == ["The job remind fails (internal): ZeroDivisionError: nobody foresaw it"]


def test_only_one_of_two_works_and_the_other_takes_over(open_db: Open, serve: Callable[..., Service]) -> None:
    first_db, second_db = open_db(), open_db()
    first = serve(first_db)
    wait_for(lambda: holder(first_db), "the lease of the first")
    second = serve(second_db)
    wait_for(lambda: job(second, "work").state == "standby", "the second")
    add(second_db, "a")
    wait_for(lambda: drained(first_db), "the work")
    assert first.stop()
    wait_for(lambda: job(second, "work").state == "running", "the take-over")


def test_a_lease_that_a_person_breaks_is_taken_again(open_db: Open, serve: Callable[..., Service]) -> None:
    db = open_db()
    service = serve(db)
    wait_for(lambda: holder(db), "the first lease")
    epoch = db.catalog.acquire("other").epoch  # some other lease is nobody's business
    assert epoch == 1
    db.catalog.break_lease("work", "ada", why="a test")
    wait_for(lambda: any(view.failures for view in service.jobs() if view.name == "work"), "that it is noticed")
    wait_for(lambda: holder(db), "that it is taken again")
    add(db, "a")
    wait_for(lambda: drained(db), "the work")


def test_what_a_dead_process_announced_is_decided_while_another_works(
    open_db: Open, serve: Callable[..., Service], tmp_path: Path
) -> None:
    db = open_db(lease_seconds=1.5)
    add(db, "a")
    db.work()
    db.start_migration("v4", force=True)
    db.work()
    service = serve(db)
    wait_for(lambda: job(service, "work").state == "running", "the work")

    def die(call: str, when: str) -> None:
        if (call, when) == ("update_aliases", "before") and swaps.pop():
            raise SimulatedCrash("before the swap")

    swaps = [True, False]  # the token is put first
    index = FaultyIndex(EmbeddedIndex(tmp_path / "index.db"), lambda _call, _arguments: Fault.PASS)
    other = open_db(index=index, lease_seconds=1.5)
    index.on_call(die)
    with pytest.raises(SimulatedCrash):
        other.finalize()
    assert (announced := db.migration()) is not None
    assert announced.state == "finalizing"
    other.close()
    wait_for(lambda: (found := db.migration()) is not None and found.state == "running", "the decision")
    assert db.status().serving == "v3"


def test_a_clock_that_is_set_back_stops_no_job(open_db: Open, serve: Callable[..., Service]) -> None:
    """APScheduler goes by the wall clock: set back by an hour, nothing would run for an hour."""
    wall = [1000.0]
    db = open_db()
    service = serve(db, wall=lambda: wall[0], clock=lambda: 0.0)
    wait_for(lambda: job(service, "watch").runs > 1, "its first runs")
    scheduler = service._scheduler
    assert scheduler is not None
    for each in scheduler.get_jobs():  # what a clock that was set back does to them
        each.modify(next_run_time=each.next_run_time + timedelta(hours=1))
    before = job(service, "watch").runs
    wall[0] -= 3600.0
    wait_for(lambda: job(service, "watch").runs > before + 2, "that they go on")


def test_what_cannot_be_ended_in_time_is_told(
    open_db: Open, executor: FakeExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def answer(task: Task) -> Extracted:
        begun.set()
        go_on.wait()
        return fake_extract(task)

    executor.answer = answer
    db = open_db()
    add(db, "a")
    service = Service(db)
    service.start()
    begun.wait()
    with caplog.at_level(logging.INFO, "speakerdb.scheduler"):
        assert not service.stop(0.2)
    assert "service-stopped unfinished=work" in caplog.text
    go_on.set()
    wait_for(lambda: holder(db) is None, "its end")


def test_a_repair_in_one_long_statement_is_left_to_the_end_of_the_process_and_does_no_more(
    open_db: Open, serve: Callable[..., Service], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody can look at a signal within a statement. Afterwards it stops at once, and another process repairs."""
    begun, go_on = threading.Event(), threading.Event()

    def gate() -> int:
        begun.set()
        go_on.wait()
        return 1

    def slow(tx: sa.Connection, generation: str) -> Sums:
        if not begun.is_set():
            tx.connection.driver_connection.create_function("gate", 0, gate)  # type: ignore[union-attr]
            tx.exec_driver_sql("SELECT gate()")
        return sums(tx, generation)

    sums = repairs.sums
    monkeypatch.setattr(repairs, "sums", slow)
    db, other = (open_db(repair={"grace_seconds": 0}) for _ in range(2))
    add(db, "a")
    db.work()
    name = db.index.aliases()[SERVING_ALIAS][0]
    lay(db.index, name, [])
    service = Service(db)
    service.start()
    assert begun.wait(60)
    with caplog.at_level(logging.INFO, "speakerdb.scheduler"):
        assert not service.stop(0.2)
    (unfinished,) = [text.rpartition("=")[2] for text in caplog.messages if "service-stopped" in text]
    assert unfinished in ("check", "walk")
    other.add(None, two_voices(), recording_id="b", waveform=silence(20))
    go_on.set()
    wait_for(lambda: db.repairer.status().holder is None, "its end")
    (run,) = db.repairer.history()
    assert (run.state, dict(run.done)) == ("stopped", {})
    serve(other)
    wait_for(lambda: done(other) == {"check", "walk"}, "the repairs of the other")
    wait_for(lambda: drained(other), "the rest")
    assert len(list(other.index.scan(name))) == 4


def test_without_jobs_it_only_looks(open_db: Open, serve: Callable[..., Service]) -> None:
    db = open_db()
    service = serve(db, jobs=False)
    wait_for(lambda: service.ready() == (True, []), "its readiness")
    assert [view.name for view in service.jobs()] == ["watch"]


def test_a_repair_is_due_once_whichever_process_asks(open_db: Open, serve: Callable[..., Service]) -> None:
    db = open_db()
    add(db, "a")
    db.work()
    first = serve(db)
    wait_for(lambda: done(db) == {"check", "walk"}, "the first repairs")
    before = how_many(db)
    assert first.stop()
    second = serve(open_db())
    for name in ("check", "walk"):
        wait_for(
            lambda n=name: job(second, n).last_started and job(second, n).state == "waiting", f"that {name} has looked"
        )
    assert how_many(db) == before


def done(db: SpeakerDB) -> set[str]:
    """The kinds of repairs that came to their end."""
    with db.catalog.read() as tx:
        return set(tx.scalars(sa.select(schema.repair_runs.c.kind).where(schema.repair_runs.c.state == "done")))


def how_many(db: SpeakerDB) -> int:
    with db.catalog.read() as tx:
        return tx.scalar(sa.select(sa.func.count()).select_from(schema.repair_runs)) or 0
