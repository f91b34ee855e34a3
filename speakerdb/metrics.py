"""What is told to Prometheus: counters of this process, and gauges that are read from the database when they are asked for.

Each library has a registry of its own; nothing is global. The gauges are kept for some seconds, and for longer where it is
costly to read them. A database that does not answer costs a scrape at most `PATIENCE_SECONDS`, and leaves its gauges out:
a number of before would look as if all were well. The index is never asked for a scrape; the service says how it is.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from weakref import WeakKeyDictionary

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from speakerdb import __version__
from speakerdb.catalog import activity, gauges, journal, library, vectors, work
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction
from speakerdb.core.lifecycle import State
from speakerdb.errors import SpeakerDBError
from speakerdb.extraction import StepReport
from speakerdb.live import Live, Preferences
from speakerdb.projector import ProjectionReport
from speakerdb.reports.jobs import JobView
from speakerdb.reports.work import Work
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.types import SERVING_ALIAS

CONTENT_TYPE = CONTENT_TYPE_LATEST
KEPT_SECONDS = 5.0
"""For so long an answer of the database is told again."""
SHARE = 0.05
"""Reading takes at most this share of the time, however large the library."""
PATIENCE_SECONDS = 5.0
"""How long a scrape waits for the database."""
REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

logger = logging.getLogger("speakerdb.metrics")


class Metrics:
    """The metrics of one library in one process."""

    def __init__(self, db: SpeakerDB, *, clock: Callable[[], float] = time.monotonic) -> None:
        # Of the library its parts are held and not itself: `of` forgets the metrics with it.
        self.registry = registry = CollectorRegistry(auto_describe=False)
        self._recordings = Counter(
            "speakerdb_recordings", "Recordings that this process extracted.", ["result"], registry=registry
        )
        self._audio = Counter("speakerdb_audio_seconds", "Seconds of audio of those that are done.", registry=registry)
        self._speech = Counter("speakerdb_speech_seconds", "Seconds of speech that were used.", registry=registry)
        self._forwards = Counter("speakerdb_forwards", "Passes through a model's network.", registry=registry)
        self._embedded = Counter(
            "speakerdb_embedded_seconds", "Seconds of speech that passed a network.", registry=registry
        )
        self._decoded = Counter("speakerdb_decoded_seconds", "Seconds of sound that were decoded.", registry=registry)
        self._loads = Counter("speakerdb_model_loads", "Models that workers loaded.", registry=registry)
        self._times = Counter(
            "speakerdb_extraction_seconds",
            "Seconds that workers were busy, and what with.",
            ["part"],
            registry=registry,
        )
        self._documents = Counter(
            "speakerdb_documents", "Documents that this process wrote to indices.", ["outcome"], registry=registry
        )
        self._failures = Counter(
            "speakerdb_recording_failures",
            "Recordings that failed for good here, by code.",
            ["code"],
            registry=registry,
        )
        self._runs = Counter("speakerdb_job_runs", "Runs of a job that met no error.", ["job"], registry=registry)
        self._seconds = Counter("speakerdb_job_seconds", "Seconds that they took.", ["job"], registry=registry)
        self._job_failures = Counter(
            "speakerdb_job_failures", "Errors that jobs met, by code.", ["job", "code"], registry=registry
        )
        self._hooks = Counter(
            "speakerdb_hook_runs", "Runs of the command hook, by what became of them.", ["outcome"], registry=registry
        )
        self._requests = Histogram(
            "speakerdb_request_seconds", "Seconds from a request to its answer.", ["method", "route", "status"],
            buckets=REQUEST_BUCKETS, registry=registry,
        )  # fmt: skip
        self._scrapes_failed = Counter("speakerdb_scrape_errors", "Scrapes without the database.", registry=registry)
        for result in ("done", "failed"):
            self._recordings.labels(result)  # told from the first scrape on, so that a rate has something to begin with
        for outcome in ("written", "confirmed", "ahead", "rejected"):
            self._documents.labels(outcome)
        for part in ("all", "network", "decode", "load"):
            self._times.labels(part)
        self.gauges = Gauges(db.catalog, db.settings, db.live, db.preferences, self._scrapes_failed.inc, clock=clock)
        registry.register(self.gauges)

    def render(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self.registry)

    # What happens

    def worked(self, report: StepReport, projected: ProjectionReport) -> None:
        """A batch was extracted, and what waited was written."""
        self._recordings.labels("done").inc(report.done)
        self._recordings.labels("failed").inc(report.failed)
        self._audio.inc(report.audio_seconds)
        self._speech.inc(report.speech_seconds)
        self._passed(report.work)
        for error in report.errors:
            self._failures.labels(error.code).inc()
        self.projected(projected)

    def _passed(self, work: Work) -> None:
        self._forwards.inc(work.forwards)
        self._embedded.inc(work.embedded_seconds)
        self._decoded.inc(work.decoded_seconds)
        self._loads.inc(work.loads)
        times = {
            "all": work.total_time,
            "network": work.network_time,
            "decode": work.decode_time,
            "load": work.load_time,
        }
        for part, seconds in times.items():
            self._times.labels(part).inc(seconds)

    def projected(self, report: ProjectionReport) -> None:
        """Documents were written."""
        for outcome in ("written", "confirmed", "ahead", "rejected"):
            self._documents.labels(outcome).inc(getattr(report, outcome))

    def job_ran(self, job: str, seconds: float) -> None:
        """A run of a job met no error."""
        self._runs.labels(job).inc()
        self._seconds.labels(job).inc(max(0.0, seconds))

    def job_failed(self, job: str, code: str) -> None:
        """A run of a job met an error."""
        self._job_failures.labels(job, code).inc()

    def hook_ran(self, outcome: str) -> None:
        """The command hook was run: ``delivered``, ``failed``, or ``passed-over``, after the last attempt."""
        self._hooks.labels(outcome).inc()

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered. `route` is the pattern of its path, never the path: that would be a series for each."""
        self._requests.labels(method, route, str(status)).observe(seconds)


class Gauges(Collector):
    """Reads what is from the database, at most every few seconds."""

    def __init__(
        self,
        catalog: Catalog,
        settings: Settings,
        live: Live,
        preferences: Preferences,
        failed: Callable[[], None],
        *,
        clock: Callable[[], float],
    ) -> None:
        self._catalog = catalog
        self._settings = settings
        self._live = live
        self._preferences = preferences
        self._failed = failed
        self._clock = clock
        self._lock = threading.Lock()
        self._read: tuple[float, list[Metric]] | None = None
        """Until when it is told again, and what."""
        self._reading: threading.Thread | None = None
        self._unheld: dict[str, float] = {}
        """Since when this process has seen nobody hold a lease, by its own clock."""
        self.index_up: bool | None = None
        self.serving: str | None = None
        self.jobs: Callable[[], Sequence[JobView]] = lambda: ()

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names are known when it is asked."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every gauge. Raises nothing for a database or an index that is away."""
        yield _gauge("speakerdb_info", "The version of this process.", [((__version__,), 1)], ["version"])
        read = self._from_database()
        yield _gauge("speakerdb_database_up", "Whether the database answered.", [((), read is not None)])
        if self.index_up is not None:
            yield _gauge(
                "speakerdb_index_up", "Whether the index answered when it was last asked.", [((), self.index_up)]
            )
        if self.serving is not None:
            yield _gauge(
                "speakerdb_serving", "The generation that the alias names.", [((self.serving,), 1)], ["generation"]
            )
        yield from self._of_jobs()
        yield from self._of_disk()
        yield from read or ()

    def _of_jobs(self) -> Iterator[Metric]:
        views = list(self.jobs())
        if not views:
            return
        failing = [((view.name,), view.code is not None) for view in views]
        yield _gauge("speakerdb_job_failing", "Whether the last run of a job met an error.", failing, ["job"])
        succeeded = [((view.name,), view.last_succeeded / 1e6) for view in views if view.last_succeeded is not None]
        yield _gauge(
            "speakerdb_job_last_success_timestamp_seconds", "When a job last ran without an error.", succeeded, ["job"]
        )

    def _of_disk(self) -> Iterator[Metric]:
        try:
            free = shutil.disk_usage(self._settings.data_dir).free
        except OSError:
            logger.warning("disk-not-read")  # a folder that is gone: the database says so, too
            return
        yield _gauge("speakerdb_disk_free_bytes", "Room that is left where the library lies.", [((), free)])
        floor = self._settings.disk_floor_mb * 1_000_000
        yield _gauge("speakerdb_disk_floor_bytes", "The setting disk_floor_mb.", [((), floor)])

    def _from_database(self) -> list[Metric] | None:
        """What the database says, or said a moment ago; None where it does not answer in time."""
        with self._lock:
            if self._read is not None and self._clock() < self._read[0]:
                return self._read[1]
            if self._reading is None or not self._reading.is_alive():
                self._read = None
                # In a thread of its own: a server that is frozen answers after minutes, and a scrape waits for seconds.
                self._reading = threading.Thread(target=self._look, name="speakerdb-gauges", daemon=True)
                self._reading.start()
            reading = self._reading
        reading.join(PATIENCE_SECONDS)  # without the lock: scrapes wait beside each other, not one after the other
        read = self._read
        if read is None:
            self._failed()
            return None
        return read[1]

    def _look(self) -> None:
        began = self._clock()
        try:
            found = list(self._of_operators())
            with self._catalog.read() as tx:
                found += self._in(tx)
        except SpeakerDBError as error:
            logger.warning("gauges-not-read code=%s", error.code)
            return
        took = self._clock() - began
        self._read = (self._clock() + max(KEPT_SECONDS, took / SHARE), found)

    def _of_operators(self) -> Iterator[Metric]:
        """What somebody wants to be otherwise than it is by itself."""
        halt = self._live.halt()
        values = [
            ((reason,), halt is not None and halt.reason == reason) for reason in ("extraction-paused", "quiet-hours")
        ]
        yield _gauge(
            "speakerdb_halted", "Whether nothing is extracted because somebody wants it so.", values, ["reason"]
        )
        stand = []
        for home in dict.fromkeys(["", *self._live.get().preference]):
            wanted = self._preferences.of(home)
            if wanted is not None and wanted.generation is not None:
                stand.append(((home or "all", wanted.text), 1))
        yield _gauge(
            "speakerdb_preference", "Preferences of a generation that stand against the alias.", stand,
            ["library", "preference"],
        )  # fmt: skip
        yield _gauge("speakerdb_preferences_in_force", "How many of them there are.", [((), len(stand))])

    def _in(self, tx: Transaction) -> Iterator[Metric]:
        now = self._catalog.now()
        live = journal.live_generations(tx)
        yield _gauge(
            "speakerdb_live_generation", "Generations that are kept current.", [((n,), 1) for n in live], ["generation"]
        )
        counts = library.counts(tx)
        for name in ("recordings", "speakers", "profiles"):
            yield _gauge(f"speakerdb_library_{name}", f"How many {name} the library holds.", [((), counts[name])])
        yield from self._of_queue(tx)
        yield from self._of_documents(tx, live, now)
        yield from self._of_leases(tx, now)
        yield from self._of_migration(tx)
        yield from self._of_repair(tx, live)

    def _of_queue(self, tx: Transaction) -> Iterator[Metric]:
        items = [((generation, state), count) for generation, state, count in gauges.items_by_state(tx)]
        yield _gauge(
            "speakerdb_work_items", "Recordings by what became of them in a generation.", items, ["generation", "state"]
        )
        failed = [((generation, code), count) for generation, code, count in gauges.failed_by_code(tx)]
        yield _gauge(
            "speakerdb_failed_recordings", "Recordings that have failed, by code.", failed, ["generation", "code"]
        )

    def _of_documents(self, tx: Transaction, live: Sequence[str], now: int) -> Iterator[Metric]:
        found = gauges.lags(tx)
        lags = {name: found.get(name, gauges.Lag()) for name in live}
        away = [one for one in gauges.quarantined(tx) if one.generation in live]
        rows = [((name,), lag.rows) for name, lag in lags.items()]
        yield _gauge("speakerdb_lag_documents", "Documents that wait to be written.", rows, ["generation"])
        rejected = [((name,), lag.rejected - lag.waived) for name, lag in lags.items()]
        yield _gauge(
            "speakerdb_rejected_documents", "Of them, those that the index refuses, without those that were waived.",
            rejected, ["generation"],
        )  # fmt: skip
        ages = []
        for name, lag in lags.items():
            oldest = [lag.oldest]
            oldest += [one.oldest for one in away if one.generation == name]
            begun = min((instant for instant in oldest if instant is not None), default=now)
            ages.append(((name,), max(0.0, (now - begun) / 1e6)))
        yield _gauge(
            "speakerdb_oldest_inconsistency_seconds",
            "For how long the index has not been as SQL says: the oldest document that waits or is in quarantine.",
            ages, ["generation"],
        )  # fmt: skip
        quarantined = [((one.generation, one.code), one.documents) for one in away]
        yield _gauge(
            "speakerdb_quarantined_documents", "Documents that a repair could not mend.", quarantined,
            ["generation", "code"],
        )  # fmt: skip

    def _of_leases(self, tx: Transaction, now: int) -> Iterator[Metric]:
        views = activity.lease_views(tx, self._catalog, now)
        yield _gauge(
            "speakerdb_lease_held", "Whether a live process holds it.", [((v.name,), v.held) for v in views], ["lease"]
        )
        yield _gauge(
            "speakerdb_lease_epoch", "How often it was taken.", [((v.name,), v.epoch) for v in views], ["lease"]
        )
        holders = [((view.name, view.holder), 1) for view in views if view.held and view.holder is not None]
        yield _gauge("speakerdb_lease_holder", "Who holds it.", holders, ["lease", "holder"])
        unheld = []
        for view in views:
            if view.held:
                self._unheld.pop(view.name, None)
            since = self._unheld.setdefault(view.name, self._clock()) if not view.held else self._clock()
            unheld.append(((view.name,), self._clock() - since))
        yield _gauge(
            "speakerdb_lease_without_holder_seconds", "For how long this process has seen nobody hold it.", unheld,
            ["lease"],
        )  # fmt: skip

    def _of_migration(self, tx: Transaction) -> Iterator[Metric]:
        row = journal.active(tx, SERVING_ALIAS)
        yield _gauge("speakerdb_migration_active", "Whether a migration is not at its end.", [((), row is not None)])
        if row is None:
            return
        labels = ["source", "target", "state"]
        yield _gauge(
            "speakerdb_migration_state", "Where it is.", [((row.source, row.target, row.state.value), 1)], labels
        )
        yield _gauge("speakerdb_migration_paused", "Whether it is paused.", [((), row.paused)])
        yield _gauge("speakerdb_migration_started_timestamp_seconds", "When it began.", [((), row.started_at / 1e6)])
        progress = work.progress(tx, row.target)
        states = [
            ((name,), getattr(progress, f"recordings_{name}"))
            for name in ("total", "done", "failed", "waived", "queued")
        ]
        yield _gauge("speakerdb_migration_recordings", "Recordings of its target.", states, ["state"])
        total = progress.audio_seconds_total
        share = progress.audio_seconds_done / total if total > 0 else 1.0
        yield _gauge("speakerdb_migration_done_ratio", "Share of the audio that is done.", [((), share)])
        if row.state is State.FINALIZED and row.rollback_until is not None:
            yield _gauge(
                "speakerdb_rollback_end_timestamp_seconds", "When the roll-back period ends.",
                [((), row.rollback_until / 1e6)],
            )  # fmt: skip
        lag = vectors.lacking(tx, row.source)
        yield _gauge("speakerdb_source_lag_speakers", "Speakers that a roll-back would lack.", [((), lag)])

    def _of_repair(self, tx: Transaction, live: Sequence[str]) -> Iterator[Metric]:
        # Of one that is live no more the last run gets older for ever, and nobody can mend what it found.
        runs = [run for run in gauges.last_runs(tx) if run.generation in live]
        ended = [((run.generation, run.kind), (run.ended_at or run.started_at) / 1e6) for run in runs]
        labels = ["generation", "kind"]
        yield _gauge("speakerdb_repair_last_timestamp_seconds", "When a repair last ran.", ended, labels)
        states = [((run.generation, run.kind, run.state), 1) for run in runs]
        yield _gauge("speakerdb_repair_last_state", "How it ended.", states, [*labels, "state"])
        compared = [((run.generation, run.kind), run.compared) for run in runs]
        yield _gauge("speakerdb_repair_last_compared", "Documents that it compared.", compared, labels)
        found = [
            ((run.generation, run.kind, difference), count) for run in runs for difference, count in run.found.items()
        ]
        yield _gauge("speakerdb_repair_last_findings", "What it found, by class.", found, [*labels, "difference"])


def _gauge(
    name: str, text: str, values: Iterable[tuple[tuple[str, ...], float]], labels: Sequence[str] = ()
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=list(labels))
    for given, value in values:
        family.add_metric(list(given), float(value))
    return family


_of_libraries: WeakKeyDictionary[SpeakerDB, Metrics] = WeakKeyDictionary()
_making = threading.Lock()


def of(db: SpeakerDB) -> Metrics:
    """The metrics of an open library; the same ones each time."""
    with _making:
        found = _of_libraries.get(db)
        if found is None:
            found = _of_libraries[db] = Metrics(db)
        return found


def render(db: SpeakerDB) -> bytes:
    """The metrics of an open library in Prometheus's text format."""
    return of(db).render()
