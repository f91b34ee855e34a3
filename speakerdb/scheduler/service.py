"""`Service`: the jobs of one process on their schedule, how they stand, and their end.

APScheduler runs them; its jobs live in memory, in every replica. Which process works is decided by leases, never by which
one was started first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from speakerdb import metrics as metering
from speakerdb.metrics import Metrics
from speakerdb.reports.jobs import JobView
from speakerdb.scheduler.jobs import Job, Step
from speakerdb.scheduler.steps import Steps
from speakerdb.scheduler.watch import Watch
from speakerdb.service import SpeakerDB

STOP_SECONDS = 10.0
"""Within this time a process that is told to end has given back what it does."""
FINISH_SHARE = 0.4
"""Of that time: so long it may finish what it does; then it is given back."""
TICK_SECONDS = 1.0
WATCH_SECONDS = 2.0
RECOVER_SECONDS = 5.0
CLEAN_SECONDS = 3600.0
REMIND_SECONDS = 600.0
LOOK_SECONDS = 60.0
"""How often a job with a long period asks whether it is due, at least."""
JUMP_SECONDS = 1.5
"""By so much a clock steps back before the schedule is put right; less is noise."""
POLL_SECONDS = 0.02

logger = logging.getLogger("speakerdb.scheduler")


class Service:
    """Keeps a library current until it is stopped. Starts once."""

    def __init__(
        self,
        db: SpeakerDB,
        *,
        jobs: bool = True,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without `jobs` it only looks whether the database and the index answer. `wall` is the clock that may jump."""
        self._db = db
        self._wall = wall
        self._clock = clock
        self._stopped_at: float | None = None
        self._deadline = STOP_SECONDS
        self.metrics: Metrics = metering.of(db)
        self._watch = Watch(db, self.metrics)
        self._steps = Steps(db, self.metrics, stop=lambda: self.stopping, hurry=self._hurry)
        self._jobs = [self._job(*each) for each in self._plan(jobs)]
        self._steps.working = next((job for job in self._jobs if job.name == "work"), None)
        self._scheduler: BackgroundScheduler | None = None
        self._clock_watch: threading.Thread | None = None
        self.metrics.gauges.jobs = self.jobs

    def _plan(self, jobs: bool) -> list[tuple[str, Step, float]]:
        """Name, step, and how often it is looked at. `check` and `walk` know themselves whether they are due."""
        schedule = self._db.settings.schedule
        steps = self._steps
        plan: list[tuple[str, Step, float]] = [("watch", self._watch.look, WATCH_SECONDS)]
        if jobs:
            plan += [
                ("work", steps.work, TICK_SECONDS),
                ("project", steps.project, TICK_SECONDS),
                ("recover", steps.recover, RECOVER_SECONDS),
                ("check", steps.check, min(LOOK_SECONDS, 6.0 * schedule.check_minutes)),
                ("walk", steps.walk, min(LOOK_SECONDS, 360.0 * schedule.walk_hours)),
                ("clean-up", steps.clean_up, CLEAN_SECONDS),
                ("remind", steps.remind, REMIND_SECONDS),
            ]
        if jobs and steps.hooked:
            plan.append(("hooks", steps.hooks, TICK_SECONDS))
        return plan

    def _job(self, name: str, step: Step, every: float) -> Job:
        return Job(name, step, every, counter=self.metrics, stopping=lambda: self.stopping)

    # Its life

    def start(self) -> None:
        """Begin. The jobs run in threads of this process."""
        if self._scheduler is not None:
            raise RuntimeError("a service is started once")
        quiet = logging.getLogger("speakerdb.scheduler.apscheduler")
        quiet.setLevel(logging.CRITICAL)  # that a run is still going on is no news; what a run met is told by the job
        scheduler = BackgroundScheduler(
            jobstores={"default": MemoryJobStore()},
            executors={"default": ThreadPoolExecutor(len(self._jobs))},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=UTC,
            logger=quiet,
        )
        for job in self._jobs:
            scheduler.add_job(
                job.run, IntervalTrigger(seconds=job.every, timezone=UTC), id=job.name, next_run_time=datetime.now(UTC)
            )
        self._scheduler = scheduler
        scheduler.start()
        self._clock_watch = threading.Thread(target=self._watch_clock, name="speakerdb-clock", daemon=True)
        self._clock_watch.start()
        logger.info("service-started jobs=%s", ",".join(job.name for job in self._jobs))

    def begin_stop(self, deadline: float = STOP_SECONDS) -> None:
        """Tell every job to come to an end. Only writes a number, so a signal's handler may call it."""
        if self._stopped_at is None:
            self._deadline = deadline
            self._stopped_at = self._clock()

    @property
    def stopping(self) -> bool:
        """Whether it was told to end."""
        return self._stopped_at is not None

    def stop(self, deadline: float = STOP_SECONDS) -> bool:
        """End every job: what can be finished soon is, the rest is given back. Whether all of them ended in time, counted
        from the first time it was told; where not, ending the process gives the leases back, as after a crash."""
        self.begin_stop(deadline)
        assert self._stopped_at is not None
        if self._scheduler is None:
            return True
        self._scheduler.remove_all_jobs()
        until = self._stopped_at + self._deadline
        while (left := [job.name for job in self._jobs if job.running]) and self._clock() < until:
            time.sleep(POLL_SECONDS)
        self._scheduler.shutdown(wait=False)
        if self._clock_watch is not None:
            self._clock_watch.join(TICK_SECONDS)
        self._scheduler = None
        logger.log(logging.WARNING if left else logging.INFO, "service-stopped unfinished=%s", ",".join(left) or "-")
        return not left

    def _hurry(self) -> bool:
        return self._stopped_at is not None and self._clock() - self._stopped_at >= FINISH_SHARE * self._deadline

    # How it stands

    def ready(self) -> tuple[bool, list[str]]:
        """Whether this process can answer questions, and what stands in the way or needs a person. A job that fails makes
        nobody unready: the other replicas would fail in the same way, and questions are answered all the same."""
        reasons = ["It is being stopped."] if self.stopping else []
        reasons += self._watch.reasons()
        if self._scheduler is None and not self.stopping:
            reasons.append("Its jobs were not started.")
        return not reasons, reasons + [said for job in self._jobs if (said := job.standing) is not None]

    def jobs(self) -> list[JobView]:
        """Every job of this process."""
        return [job.view() for job in self._jobs]

    # The clock

    def _watch_clock(self) -> None:
        """APScheduler goes by the clock on the wall. Where that is set back by an hour, all jobs would rest for an hour."""
        before = self._wall() - self._clock()
        while not self.stopping:
            time.sleep(TICK_SECONDS / 4)
            now = self._wall() - self._clock()
            if now - before < -JUMP_SECONDS:
                logger.warning("clock-set-back seconds=%.0f", before - now)
                self.wake()
            before = now

    def wake(self) -> None:
        """Look at every job now."""
        scheduler = self._scheduler
        for job in [] if scheduler is None else scheduler.get_jobs():
            job.modify(next_run_time=datetime.now(UTC))
