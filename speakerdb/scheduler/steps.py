"""What the jobs of the service do, each a bounded step (only `work` goes on for as long as the process has the lease).

Every replica has every job. A lease decides who works: one process extracts, one repairs, one runs the command hook; the
others look again every second, and one of them takes over. Whatever two may do at once does no harm twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from speakerdb.catalog import activity, gauges, journal, work
from speakerdb.errors import SpeakerDBError
from speakerdb.extraction import StepReport
from speakerdb.extraction.drain import LEASE_NAME as WORK_LEASE
from speakerdb.hooks import Hooks
from speakerdb.metrics import Metrics
from speakerdb.projector import ProjectionReport
from speakerdb.scheduler.jobs import Answer, Job
from speakerdb.service import SpeakerDB
from speakerdb.worker import REPOOL_SECONDS

FRESH_SECONDS = 5.0
"""For so long a row is left to the process that works, which projects what it has extracted; then anybody takes it."""

logger = logging.getLogger("speakerdb.scheduler")


class Steps:
    """The steps over one library."""

    def __init__(self, db: SpeakerDB, metrics: Metrics, *, stop: Callable[[], bool], hurry: Callable[[], bool]) -> None:
        """`stop()` says that this process is to end; `hurry()` that there is no time to finish what runs."""
        self._db = db
        self._metrics = metrics
        self._stop = stop
        self._hurry = hurry
        self._hooks = Hooks(db.catalog, db.settings.hooks, metrics)
        self._settled = 0.0
        self._began = False
        """Whether this run of `work` has got the lease."""
        self._unavailable: dict[str, SpeakerDBError] = {}
        self.working: Job | None = None
        """The job that does `work`, to which errors are told that do not end a run."""

    @property
    def hooked(self) -> bool:
        """Whether a command hook is set."""
        return self._hooks.wanted

    def work(self) -> Answer | None:
        """Extract what is queued for as long as this process has the lease; stand by while another one has it."""
        if self._another_works():
            return "standby"
        self._unavailable.clear()
        self._began = False
        try:
            self._db.worker.run(forever=True, stop=self._stop, hurry=self._hurry, on_step=self._worked)
        finally:
            if self._began:
                logger.info("work-ended")
        return None

    def project(self) -> Answer | None:
        """Write what waits to the indices. What is fresh is left to the process that works, if there is another."""
        lags, mine = self._waiting()
        now = time.monotonic()
        settle = mine and now - self._settled >= REPOOL_SECONDS
        if not lags and not settle:
            return None if mine else "standby"
        report = self._db.worker.project_if_idle(settle=settle, stop=self._stop)
        if report is None:
            return "idle"
        self._metrics.projected(report)
        if settle:
            self._settled = now
        return None

    def recover(self) -> Answer | None:
        """Decide what a process that died in the middle of a swap left behind."""
        self._db.migrator.recover_if_needed()
        return None

    def check(self) -> Answer | None:
        """Compare SQL with each live index by buckets, and mend what differs, if nobody did so of late."""
        if not self._due("check", 60.0 * self._db.settings.schedule.check_minutes):
            return "idle"
        self._db.repairer.check(stop=self._stop)
        return None

    def walk(self) -> Answer | None:
        """The next share of the comparison that reads the vectors, if nobody did one of late."""
        if not self._due("walk", 3600.0 * self._db.settings.schedule.walk_hours):
            return "idle"
        self._db.repairer.walk(stop=self._stop)
        return None

    def clean_up(self) -> Answer | None:
        """Delete what is kept for long enough."""
        report = self._db.housekeeping.clean_up(stop=self._stop)
        if report.events or report.repair_runs:
            logger.info("cleaned-up events=%d repair_runs=%d", report.events, report.repair_runs)
        return None

    def remind(self) -> Answer | None:
        """Write down that a roll-back period ends soon."""
        if self._db.housekeeping.remind():
            logger.warning("rollback-ending")
        return None

    def hooks(self) -> Answer | None:
        """Run the command hook for what has happened."""
        self._hooks.deliver(stop=self._stop)
        return None

    # Small parts

    def _worked(self, report: StepReport, projected: ProjectionReport) -> None:
        """A batch was committed, or there was none. A model that cannot be loaded ends no run, and is told all the same."""
        self._metrics.worked(report, projected)
        if not self._began:
            self._began = True
            logger.info("work-began")
        job = self.working
        if job is None:
            return
        job.alive()
        for generation in report.models:
            self._unavailable.pop(generation, None)
        for generation, error in report.unavailable.items():
            self._unavailable[generation] = error
            job.met(error)
        if report.over and self._unavailable:
            # A migration that was cancelled, say, leaves nothing that its model could be loaded for.
            with self._db.catalog.read() as tx:
                awaited = work.open_lanes(tx, self._unavailable)
            self._unavailable = {lane: error for lane, error in self._unavailable.items() if lane in awaited}
        if not self._unavailable:
            job.recovered()

    def _another_works(self) -> bool:
        """Whether another live process has the lease. Asked before it is taken: to ask is to read, to try is to write."""
        with self._db.catalog.read() as tx:
            views = activity.lease_views(tx, self._db.catalog, self._db.catalog.now())
        own = self._db.catalog.holder.name
        return any(view.name == WORK_LEASE and view.held and view.holder != own for view in views)

    def _waiting(self) -> tuple[bool, bool]:
        """Whether documents wait that this process should write; and whether no other process works."""
        mine = not self._another_works()
        with self._db.catalog.read() as tx:
            found = gauges.lags(tx)
            live = journal.live_generations(tx)
        late = self._db.catalog.now() - int(FRESH_SECONDS * 1e6)
        waits = [lag for name, lag in found.items() if name in live and lag.rows > lag.rejected]
        return any(mine or (lag.oldest is not None and lag.oldest < late) for lag in waits), mine

    def _due(self, kind: str, seconds: float) -> bool:
        """Whether no process has carried out, or refused, a repair of this kind for so long. One that failed or was stopped
        does not count, and a clock that was moved back makes it due."""
        with self._db.catalog.read() as tx:
            last = gauges.last_repaired(tx, kind)
        now = self._db.catalog.now()
        return last is None or not 0 <= now - last < seconds * 1e6
