"""Each alert rule on the metrics of a library that is in that trouble, and all of them on one that is well."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import yaml
from promql import Scrape, fires, names
from serve_kit import add

from speakerdb.catalog import schema, vectors
from speakerdb.errors import DeletionBrake, MediaUnreadable, StorageFull
from speakerdb.extraction.extract import Extracted, Task
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.metrics import KEPT_SECONDS, Metrics
from speakerdb.scheduler.jobs import Job
from speakerdb.scheduler.watch import Watch
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_extract, fake_settings, fake_vector
from speakerdb.testing.faults import Fault, FaultyIndex, SimulatedCrash
from speakerdb.types import Document, Kind

ROOT = Path(__file__).resolve().parents[2]
GROUPS = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text(encoding="utf-8"))["groups"]
RULES: dict[str, dict[str, Any]] = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
NOW = 1_800_000_000_000_000


class Library:
    """A library with two recordings that is well; a clock that a test moves, and what Prometheus scraped of it."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.folder, self.now, self.own = folder, NOW, 0.0
        self.executor = FakeExecutor()
        self.down = False
        self.dies = False
        self.index = FaultyIndex(EmbeddedIndex(folder / "index.db"), self._plan)
        self.db = SpeakerDB.open(
            fake_settings(folder, **more), executor=self.executor, index=self.index, clock=lambda: self.now
        )
        self.metrics = Metrics(self.db, clock=lambda: self.own)
        self.scrapes: list[Scrape] = []
        add(self.db, "a", "b")
        self.work()

    def _plan(self, call: str, arguments: tuple[Any, ...]) -> Fault:
        if self.dies and call == "update_aliases" and len(arguments[0]) > 1:
            return Fault.CRASH_BEFORE
        return Fault.LOSE_REQUEST if self.down else Fault.PASS

    def work(self) -> None:
        """Drain the queue, and count it."""
        self.db.worker.run(on_step=self.metrics.worked)

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * 1e6)
        self.own += max(seconds, 2 * KEPT_SECONDS)

    def look(self) -> None:
        """What the service looks at."""
        Watch(self.db, self.metrics).look()

    def scrape(self) -> None:
        """Ask for the metrics, as they are now."""
        self.own += 2 * KEPT_SECONDS
        self.scrapes.append(Scrape.of(self.now / 1e6, self.metrics.render()))

    def firing(self) -> set[str]:
        """The alerts that the scrapes so far set off, whatever their `for` is."""
        return {name for name, rule in RULES.items() if fires(rule["expr"], self.scrapes)}

    def migrated(self) -> None:
        """A migration that is finalized."""
        self.db.start_migration("v4", force=True)
        self.work()
        self.db.finalize()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Library]]:
    made: list[Library] = []

    def build(**more: Any) -> Library:
        made.append(Library(tmp_path, **more))
        return made[-1]

    yield build
    for library in made:
        library.db.close()


@pytest.fixture
def library(make: Callable[..., Library]) -> Library:
    return make()


def check(library: Library) -> None:
    library.db.repairer.check()


# The troubles, by the alert that must tell of them


def database_away(library: Library) -> None:
    library.db.catalog.close()
    path = library.folder / "catalog.db"
    for beside in ("-wal", "-shm"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
    path.write_text("this is no database" * 1000)


def index_away(library: Library) -> None:
    library.down = True
    library.look()


def nobody_works(library: Library) -> None:
    add(library.db, "c")
    library.scrape()
    library.wait(200)


def index_behind(library: Library) -> None:
    library.db.remove("a")
    library.wait(1000)


def documents_refused(library: Library) -> None:
    library.db.remove("a")
    with library.db.catalog.job() as tx:
        waiting = vectors.waiting_documents(tx, "v3", 10)
        vectors.reject(tx, "v3", [(each.id, each.version, "too large") for each in waiting])


def quarantine(library: Library) -> None:
    with library.db.catalog.job() as tx:
        tx.execute(
            sa.insert(schema.quarantine).values(
                generation="v3", entity_id="spk", difference="missing", code="rejected", message="no", attempts=1,
                first_at=library.now, last_at=library.now, next_at=library.now,
            )
        )  # fmt: skip


def repair_refused(library: Library) -> None:
    library.wait(3600)
    generation = library.db.generations["v3"]
    unknown = [
        Document(
            f"unknown-{n:03}", NOW - 1, f"hash{n}", Kind.SPEAKER, "lib", "rec", None,
            np.asarray(fake_vector(str(n), generation.model.dimension)),
        )
        for n in range(50)
    ]  # fmt: skip
    library.index.bulk(generation.write_alias, unknown)
    library.wait(3600)
    with pytest.raises(DeletionBrake):
        check(library)


def no_repair(library: Library) -> None:
    check(library)
    library.wait(4000)


def recordings_fail(library: Library) -> None:
    def answer(task: Task) -> Extracted:
        raise MediaUnreadable("it is broken")

    library.executor.answer = answer
    library.scrape()
    add(library.db, *(f"broken{n}" for n in range(12)))
    library.work()


def job_fails(library: Library) -> None:
    def step() -> None:
        raise StorageFull("no room")

    job = Job("clean-up", step, 1.0, counter=library.metrics)
    job.run()
    library.metrics.gauges.jobs = lambda: [job.view()]


def migration_stands(library: Library) -> None:
    library.db.start_migration("v4", force=True)
    library.scrape()
    library.wait(3600)


def swap_unfinished(library: Library) -> None:
    library.db.start_migration("v4", force=True)
    library.work()
    library.dies = True
    with pytest.raises(SimulatedCrash):
        library.db.finalize()


def rollback_ends(library: Library) -> None:
    library.migrated()
    library.wait(28 * 86_400)


def source_lags(library: Library) -> None:
    def answer(task: Task) -> Extracted:
        if task.generation.name == "v3":
            raise MediaUnreadable("its model is gone")
        return fake_extract(task)

    library.migrated()
    library.executor.answer = answer
    add(library.db, "c")
    library.work()


def preference_stands(library: Library) -> None:
    library.db.live.set("preference", "v3", why="a test")


def paused(library: Library) -> None:
    library.db.live.set("paused", "on", why="a test")


def answers_fail(library: Library) -> None:
    library.scrape()
    for status in (200, 200, 503):
        library.metrics.observe("GET", "/v1/matches", status, 0.1)


def hook_fails(library: Library) -> None:
    library.scrape()
    library.metrics.hook_ran("passed-over")


TROUBLES: dict[str, Callable[[Library], None]] = {
    "SpeakerdbDatabaseAway": database_away,
    "SpeakerdbIndexAway": index_away,
    "SpeakerdbNobodyWorks": nobody_works,
    "SpeakerdbIndexBehind": index_behind,
    "SpeakerdbDocumentsRefused": documents_refused,
    "SpeakerdbQuarantine": quarantine,
    "SpeakerdbRepairRefused": repair_refused,
    "SpeakerdbNoRepair": no_repair,
    "SpeakerdbRecordingsFail": recordings_fail,
    "SpeakerdbJobFails": job_fails,
    "SpeakerdbMigrationStands": migration_stands,
    "SpeakerdbSwapUnfinished": swap_unfinished,
    "SpeakerdbRollbackEnds": rollback_ends,
    "SpeakerdbSourceLags": source_lags,
    "SpeakerdbPreferenceStands": preference_stands,
    "SpeakerdbPaused": paused,
    "SpeakerdbDiskLow": lambda _library: None,
    "SpeakerdbAnswersFail": answers_fail,
    "SpeakerdbHookFails": hook_fails,
}


def test_a_library_that_is_well_sets_off_nothing(library: Library) -> None:
    library.look()
    library.scrape()
    check(library)
    library.metrics.observe("GET", "/v1/matches", 200, 0.1)
    add(library.db, "c")
    library.work()
    library.wait(300)
    check(library)
    library.look()
    library.scrape()
    assert library.firing() == set()


@pytest.mark.parametrize("trouble", [no_repair, quarantine, repair_refused])
def test_a_generation_that_was_retired_sets_off_nothing(library: Library, trouble: Callable[[Library], None]) -> None:
    """Nobody compares its index any more: it has none."""
    library.scrape()
    library.migrated()
    trouble(library)
    library.db.retire()
    check(library)
    library.scrape()
    assert library.firing() == set()


def test_what_a_person_has_waived_sets_off_nothing(library: Library) -> None:
    library.scrape()
    library.db.assign(library.db.speakers()[0].id, library.db.create_profile("Ada").id)
    with library.db.catalog.job() as tx:
        waiting = vectors.waiting_documents(tx, "v3", 10)
        vectors.reject(tx, "v3", [(each.id, each.version, "too large") for each in waiting])
    library.work()
    library.wait(1000)
    check(library)
    library.scrape()
    assert library.firing() >= {"SpeakerdbIndexBehind", "SpeakerdbDocumentsRefused", "SpeakerdbQuarantine"}
    assert library.db.repairer.waive_quarantined(why="it may stay so") == 1
    library.scrape()
    assert library.firing() == set()


@pytest.mark.parametrize("alert", RULES)
def test_a_trouble_sets_off_its_alert(make: Callable[..., Library], alert: str) -> None:
    library = make(disk_floor_mb=10**9) if alert == "SpeakerdbDiskLow" else make()
    library.look()
    library.scrape()
    TROUBLES[alert](library)
    library.scrape()
    assert alert in library.firing()


def test_every_trouble_has_its_rule_and_every_rule_its_trouble() -> None:
    assert set(TROUBLES) == set(RULES)


def test_every_metric_that_a_rule_names_is_told(library: Library) -> None:
    source = inspect.getsource(inspect.getmodule(Metrics))  # type: ignore[arg-type]
    for alert, rule in RULES.items():
        for name in names(rule["expr"]):
            told = re.sub(r"(_total|_count|_bucket|_sum)$", "", name)
            assert f'"{told}"' in source, f"{alert}: {name}"


def test_every_rule_says_what_to_do() -> None:
    for alert, rule in RULES.items():
        assert re.fullmatch(r"Speakerdb[A-Za-z]+", alert)
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "do"}
        assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))
