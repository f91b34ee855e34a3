"""What is told to Prometheus, what it costs, and that a scrape never fails."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from promql import Scrape
from serve_kit import add

from speakerdb import metrics
from speakerdb.errors import DatabaseUnavailable, MediaUnreadable
from speakerdb.extraction.extract import Extracted, Task
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.metrics import KEPT_SECONDS, Metrics
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_extract, fake_settings
from speakerdb.testing.faults import Fault, FaultyIndex


class Told:
    """The metrics of a library, with a clock that a test moves."""

    def __init__(self, db: SpeakerDB) -> None:
        self.now = 0.0
        self.db = db
        self.metrics = Metrics(db, clock=lambda: self.now)

    def value(self, name: str, **labels: str) -> float | None:
        """One series now; None where it is not told."""
        found = Scrape.of(0.0, self.metrics.render()).series.get(name, {})
        return found.get(frozenset(labels.items()))

    def later(self) -> None:
        self.now += 100 * KEPT_SECONDS


@pytest.fixture
def executor() -> FakeExecutor:
    return FakeExecutor()


@pytest.fixture
def open_db(tmp_path: Path, executor: FakeExecutor) -> Iterator[Callable[..., SpeakerDB]]:
    opened: list[SpeakerDB] = []

    def make(index: Any = None) -> SpeakerDB:
        opened.append(SpeakerDB.open(fake_settings(tmp_path), executor=executor, index=index))
        return opened[-1]

    yield make
    for db in opened:
        db.close()


@pytest.fixture
def told(open_db: Callable[..., SpeakerDB]) -> Told:
    return Told(open_db())


def test_what_is_done_is_counted(told: Told, executor: FakeExecutor) -> None:
    def answer(task: Task) -> Extracted:
        if task.recording_id == "broken":
            raise MediaUnreadable("it is broken")
        return fake_extract(task)

    executor.answer = answer
    assert told.value("speakerdb_recordings_total", result="done") == 0.0, "a rate has something to begin with"
    add(told.db, "a", "b", "broken")
    told.db.worker.run(on_step=told.metrics.worked)
    assert told.value("speakerdb_recordings_total", result="done") == 2.0
    assert told.value("speakerdb_recordings_total", result="failed") == 1.0
    assert told.value("speakerdb_audio_seconds_total") == 40.0
    assert told.value("speakerdb_documents_total", outcome="written") == 4.0
    assert told.value("speakerdb_recording_failures_total", code="media-unreadable") == 1.0
    told.metrics.observe("GET", "/v1/speakers/{speaker}", 200, 0.02)
    labels = {"method": "GET", "route": "/v1/speakers/{speaker}", "status": "200"}
    assert told.value("speakerdb_request_seconds_count", **labels) == 1.0


def test_what_is_waiting_is_read_from_the_database(told: Told) -> None:
    add(told.db, "a")
    assert told.value("speakerdb_work_items", generation="v3", state="queued") == 1.0
    assert told.value("speakerdb_library_recordings") == 1.0
    assert told.value("speakerdb_oldest_inconsistency_seconds", generation="v3") == 0.0
    told.db.work()
    told.db.remove("a")
    told.later()
    assert told.value("speakerdb_lag_documents", generation="v3") == 2.0
    age = told.value("speakerdb_oldest_inconsistency_seconds", generation="v3")
    assert age is not None
    assert age > 0.0
    told.db.work()
    told.later()
    assert told.value("speakerdb_lag_documents", generation="v3") == 0.0


def test_who_holds_a_lease_and_for_how_long_nobody_does(told: Told) -> None:
    lease = told.db.catalog.acquire("work")
    assert told.value("speakerdb_lease_held", lease="work") == 1.0
    assert told.value("speakerdb_lease_epoch", lease="work") == 1.0
    assert told.value("speakerdb_lease_holder", lease="work", holder=lease.holder) == 1.0
    told.later()
    assert told.value("speakerdb_lease_without_holder_seconds", lease="work") == 0.0
    told.db.catalog.release(lease)
    told.later()
    assert told.value("speakerdb_lease_held", lease="work") == 0.0
    told.later()
    assert told.value("speakerdb_lease_without_holder_seconds", lease="work") == 100 * KEPT_SECONDS
    told.db.catalog.acquire("work")
    told.later()
    assert told.value("speakerdb_lease_without_holder_seconds", lease="work") == 0.0


def test_where_a_migration_is(told: Told) -> None:
    add(told.db, "a", "b")
    told.db.work()
    assert told.value("speakerdb_migration_active") == 0.0
    told.db.start_migration("v4", force=True)
    told.db.pause("quiet hours")
    told.later()
    assert told.value("speakerdb_migration_state", source="v3", target="v4", state="running") == 1.0
    assert told.value("speakerdb_migration_paused") == 1.0
    assert told.value("speakerdb_migration_done_ratio") == 0.0
    assert told.value("speakerdb_migration_recordings", state="queued") == 2.0
    told.db.resume()
    told.db.work()
    told.db.finalize()
    told.later()
    assert told.value("speakerdb_migration_done_ratio") == 1.0
    end = told.value("speakerdb_rollback_end_timestamp_seconds")
    assert end is not None
    assert end > told.db.catalog.now() / 1e6
    assert told.value("speakerdb_source_lag_speakers") == 0.0


def test_what_the_last_repair_found(told: Told) -> None:
    add(told.db, "a")
    told.db.work()
    told.db.repairer.check()
    compared = told.value("speakerdb_repair_last_compared", generation="v3", kind="check")
    assert told.value("speakerdb_repair_last_state", generation="v3", kind="check", state="done") == 1.0
    assert told.value("speakerdb_repair_last_timestamp_seconds", generation="v3", kind="check") is not None
    assert compared is not None


def test_what_an_operator_wants_is_told(told: Told) -> None:
    assert told.value("speakerdb_preferences_in_force") == 0.0
    assert told.value("speakerdb_halted", reason="extraction-paused") == 0.0
    told.db.live.set("preference", "v4/v3", why="a test")
    told.db.live.set("paused", "on", why="a test")
    told.later()
    assert told.value("speakerdb_preference", library="all", preference="v4/v3") == 1.0
    assert told.value("speakerdb_preferences_in_force") == 1.0
    assert told.value("speakerdb_halted", reason="extraction-paused") == 1.0


@contextmanager
def counted(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> Iterator[list[None]]:
    """Calls `act` before each reading transaction."""
    reads: list[None] = []
    read = db.catalog.read

    def watched() -> Any:
        reads.append(None)
        act()
        return read()

    with monkeypatch.context() as patched:
        patched.setattr(db.catalog, "read", watched)
        yield reads


def test_many_scrapes_read_once(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(told.db, monkeypatch, lambda: None) as reads:
        told.metrics.render()
        once = len(reads)
        for _ in range(5):
            told.metrics.render()
        assert len(reads) == once
        told.later()
        told.metrics.render()
        assert len(reads) > once


def test_what_is_costly_to_read_is_read_less_often(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow() -> None:
        told.now += 10.0  # by the clock of the metrics

    with counted(told.db, monkeypatch, slow) as reads:
        told.metrics.render()
        once = len(reads)
        told.now += 10 * KEPT_SECONDS
        told.metrics.render()
        assert len(reads) == once


def test_a_database_that_is_away_leaves_its_gauges_out(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise DatabaseUnavailable("away")

    told.metrics.render()
    told.later()
    with counted(told.db, monkeypatch, away):
        assert told.value("speakerdb_database_up") == 0.0
        assert told.value("speakerdb_library_recordings") is None, "a number of before would look as if all were well"
        assert told.value("speakerdb_disk_free_bytes") is not None
    assert told.value("speakerdb_database_up") == 1.0
    assert told.value("speakerdb_scrape_errors_total") is not None


def test_a_database_that_is_frozen_costs_a_scrape_little(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "PATIENCE_SECONDS", 0.2)
    thaw = threading.Event()
    try:
        with counted(told.db, monkeypatch, thaw.wait) as reads:
            assert told.value("speakerdb_database_up") == 0.0
            told.later()
            assert told.value("speakerdb_database_up") == 0.0
            assert len(reads) == 1, "no second thread waits beside the first"
    finally:
        thaw.set()


def test_the_index_is_never_asked(tmp_path: Path, open_db: Callable[..., SpeakerDB]) -> None:
    calls: list[str] = []

    def plan(call: str, _arguments: tuple[Any, ...]) -> Fault:
        calls.append(call)
        return Fault.PASS

    told = Told(open_db(FaultyIndex(EmbeddedIndex(tmp_path / "index.db"), plan)))
    calls.clear()
    assert told.value("speakerdb_index_up") is None, "nobody has looked"
    assert calls == []


def test_nothing_is_global_and_nothing_is_held(tmp_path: Path) -> None:
    before = set(REGISTRY._names_to_collectors)
    db = SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor())
    assert metrics.of(db) is metrics.of(db)
    assert b"speakerdb_info" in metrics.render(db)
    assert set(REGISTRY._names_to_collectors) == before
    held = weakref.ref(db)
    db.close()
    del db
    gc.collect()
    assert held() is None, "its metrics hold the library"
