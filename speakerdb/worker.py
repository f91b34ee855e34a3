"""The loop around the steps: extract a batch, project it, and so on until nothing is left. Shows how far it is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from speakerdb.catalog import asking, journal, work
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.leases import Lease
from speakerdb.errors import BackendError, IndexMissing, IndexUnavailable, SpeakerDBError
from speakerdb.extraction import StepReport
from speakerdb.extraction.drain import LEASE_NAME, Extraction
from speakerdb.generations import undefined
from speakerdb.migrator import Migrator
from speakerdb.projector import ProjectionReport, Projector
from speakerdb.reports import CurrentRecording, OnWork, Progress, WorkEvent, WorkReport
from speakerdb.reports.live import Halt
from speakerdb.reports.work import Work
from speakerdb.types import SERVING_ALIAS, Generation

EVENT_SECONDS = 0.5
"""No two events of one run are closer than this."""
COUNTING_SHARE = 0.05
"""Counting how far the work is takes at most this share of the time, however large the library."""
REPOOL_SECONDS = 10.0
"""How often profiles are pooled again while the queue is being drained; always once it is empty."""
IDLE_SECONDS = 1.0
AWAY_SECONDS, LONGEST_AWAY_SECONDS = 5.0, 60.0
"""How long such a run leaves an index alone that could not be written, at first and at most."""
MODEL_RETRY_SECONDS = 60.0
"""How long a run that waits for more leaves a model alone that could not be loaded."""

logger = logging.getLogger("speakerdb.worker")

Stopped = Literal["drained", "waiting", "paused", "halted", "stopped", "limit"]
OnStep = Callable[[StepReport, ProjectionReport], None]
"""Called after each batch with what it did, and what was written to indices after it."""


class Worker:
    """Drains the queue of work."""

    def __init__(
        self,
        catalog: Catalog,
        generations: Mapping[str, Generation],
        extraction: Extraction,
        projector: Projector,
        migrator: Migrator,
        *,
        halt: Callable[[], Halt | None] = lambda: None,
    ) -> None:
        """`halt` says why nothing is to be extracted now; it is asked often."""
        self._catalog = catalog
        self._generations = generations
        self._extraction = extraction
        self._projector = projector
        self._migrator = migrator
        self._halt = halt
        self._projecting = threading.Lock()
        self._away: dict[str, tuple[float, float]] = {}
        """Generations whose index could not be written: until when it is left alone, and for how long that is."""

    def run(
        self,
        *,
        on_event: OnWork | None = None,
        on_step: OnStep = lambda _, __: None,
        stop: Callable[[], bool] = lambda: False,
        hurry: Callable[[], bool] = lambda: False,
        limit: int | None = None,
        forever: bool = False,
    ) -> WorkReport:
        """Work until the queue is empty (or for ever, or for `limit` recordings, or until `stop()`).

        `LeaseHeld` while another live process works. Raises the error of a model that cannot be loaded when nothing
        else is left to do; its items stay queued. While `halt` gives a reason nothing is extracted, and what has not begun is
        given back: a run then ends, unless it is for ever; indices are kept current meanwhile. Where `hurry()` turns true
        after `stop()` did, what runs is given back, and what is to be written to an index stays marked.
        """
        self._migrator.recover_if_needed()
        with self._catalog.holding(LEASE_NAME) as lease:
            begun = self._extraction.begin(lease)
            on_step(begun, ProjectionReport())
            try:
                return self._drain(lease, begun, _Meter(self._catalog, on_event), on_step, stop, hurry, limit, forever)
            except (Exception, KeyboardInterrupt):
                self._extraction.abandon(lease)  # what goes on from step to step
                raise

    def _drain(
        self,
        lease: Lease,
        total: StepReport,
        meter: _Meter,
        on_step: OnStep,
        stop: Callable[[], bool],
        hurry: Callable[[], bool],
        limit: int | None,
        forever: bool,
    ) -> WorkReport:
        written = ProjectionReport()
        pooled_at = blocked_at = time.monotonic()
        stopped: Stopped = "drained"
        blocked: dict[str, SpeakerDBError] = {}
        rested = False
        while True:
            if stop():
                stopped = "stopped"
                break
            left = None if limit is None else limit - total.taken
            if left is not None and left <= 0:
                stopped = "limit"
                break
            halted = self._halt() is not None
            if halted and not forever:
                stopped = "halted"
                break
            rested = rested and halted
            if rested:
                report = StepReport()
            elif halted:
                # What runs may take hours: who lets extraction go on meanwhile need not wait for it.
                report = self._extraction.step(
                    lease, limit=0, hurry=hurry, stop=lambda: True, until=lambda: self._halt() is None
                )
                if not report.running:
                    self._extraction.rest()
                    rested = True
            else:
                report = self._extraction.step(
                    lease, without=blocked, limit=left, stop=lambda: stop() or self._halt() is not None, hurry=hurry,
                    observe=meter.working,
                )  # fmt: skip
            total.add(report)
            if report.unavailable:
                blocked |= report.unavailable
                blocked_at = time.monotonic()
            meter.step(report)
            if report.over:
                blocked |= self._undefined()
            if report.over and not forever:
                on_step(report, ProjectionReport())
                stopped = "waiting" if blocked else "paused" if self._paused() else "drained"
                break
            settle = report.over or time.monotonic() - pooled_at >= REPOOL_SECONDS
            projected = self._project_on(settle, hurry) if forever else self.project(settle=settle, stop=hurry)
            written += projected
            on_step(report, projected)
            if settle:
                pooled_at = time.monotonic()
            if report.over:
                self._catalog.keep(lease)
                self._wait(stop)
            if forever and blocked and time.monotonic() - blocked_at >= MODEL_RETRY_SECONDS:
                blocked.clear()
        last = self._extraction.step(lease, limit=0, hurry=hurry, stop=stop, observe=meter.working)
        total.add(last)
        meter.step(last)
        on_step(last, ProjectionReport())
        blocked |= last.unavailable
        written += self._project_on(True, hurry) if forever else self.project(settle=True, stop=hurry)
        if blocked and stopped != "stopped" and not (total.done or total.diarized or total.failed):
            raise next(iter(blocked.values()))
        meter.finish()
        return WorkReport(
            recordings_done=total.done,
            recordings_failed=total.failed,
            speakers_embedded=total.embedded,
            speakers_unembeddable=total.unembeddable,
            documents_written=written.written,
            audio_seconds=total.audio_seconds,
            speech_seconds=total.speech_seconds,
            seconds=meter.elapsed,
            stopped=stopped,
            models=total.models,
            errors=tuple(total.errors),
            unavailable={name: _sentence(name, error) for name, error in blocked.items()},
            work=total.work,
            recordings_diarized=total.diarized,
        )

    def _live(self) -> list[Generation]:
        with self._catalog.read() as tx:
            live = journal.live_generations(tx)
        return [self._generations[name] for name in live if name in self._generations]

    def _undefined(self) -> dict[str, SpeakerDBError]:
        """Live generations that another process has begun to move to and this one's settings do not define: their items stay
        in the queue."""
        with self._catalog.read() as tx:
            live = journal.live_generations(tx)
        return {name: undefined(name) for name in live if name not in self._generations}

    def project_if_idle(self, *, settle: bool, stop: Callable[[], bool]) -> ProjectionReport | None:
        """The same as `project`; None where another thread is at it: two of them would write each document twice."""
        with self._if_idle() as idle:
            return self._project(settle=settle, stop=stop) if idle else None

    @contextmanager
    def _if_idle(self) -> Iterator[bool]:
        """Whether no other thread writes to indices; none begins meanwhile."""
        idle = self._projecting.acquire(blocking=False)
        try:
            yield idle
        finally:
            if idle:
                self._projecting.release()

    def project(self, *, settle: bool, stop: Callable[[], bool] = lambda: False) -> ProjectionReport:
        """Write what waits in every live generation, whatever is the matter with the index of another; then the first
        error. With `settle` dirty profiles are pooled first. `stop()` leaves the rest marked."""
        with self._projecting:
            return self._project(settle=settle, stop=stop)

    def _project_on(self, settle: bool, stop: Callable[[], bool]) -> ProjectionReport:
        """The same for a run that does not end: what is extracted is safe in SQL, so an index that is away holds up neither
        extraction nor other indices. It is left alone for a while that grows; whoever keeps indices current tells of it."""
        total = ProjectionReport()
        with self._if_idle() as idle:
            for generation in self._live() if idle else ():
                left_alone, delay = self._away.get(generation.name, (0.0, 0.0))
                if time.monotonic() < left_alone:
                    continue
                try:
                    total += self._projected(generation, settle, stop)
                    self._away.pop(generation.name, None)
                except (IndexUnavailable, IndexMissing) as error:
                    delay = min(2 * delay or AWAY_SECONDS, LONGEST_AWAY_SECONDS)
                    self._away[generation.name] = time.monotonic() + delay, delay
                    logger.warning("index-left-alone generation=%s code=%s", generation.name, error.code)
        return total

    def _project(self, *, settle: bool, stop: Callable[[], bool]) -> ProjectionReport:
        total = ProjectionReport()
        failed: list[BackendError] = []
        for generation in self._live():
            try:
                total += self._projected(generation, settle, stop)
            except BackendError as error:
                failed.append(error)
        if failed:
            raise failed[0]
        return total

    def _projected(self, generation: Generation, settle: bool, stop: Callable[[], bool]) -> ProjectionReport:
        act = self._projector.settle if settle else self._projector.drain
        try:
            return act(generation, stop=stop)
        except IndexMissing:
            # Its migration may have ended between the two statements; otherwise the index is really gone.
            if generation in self._live():
                raise
            return ProjectionReport()

    def _paused(self) -> bool:
        with self._catalog.read() as tx:
            return bool(journal.paused_targets(tx)) and work.open_count(tx) > 0

    def _wait(self, stop: Callable[[], bool]) -> None:
        until = time.monotonic() + IDLE_SECONDS
        while time.monotonic() < until and not stop():
            time.sleep(0.05)


class _Meter:
    """Tells how far a run is, without spending more than a small share of the time on counting."""

    def __init__(self, catalog: Catalog, on_event: OnWork | None) -> None:
        self._catalog = catalog
        self._on_event = on_event
        self._begun = time.monotonic()
        self._next = 0.0
        self._already: float | None = None
        self._current: Sequence[CurrentRecording] = ()
        self._work = Work()
        self._notices: list[str] = []
        self._told: set[str] = set()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._begun

    def working(self, current: Sequence[CurrentRecording]) -> None:
        """These recordings are being worked on now."""
        self._current = current
        self._tell()

    def step(self, report: StepReport) -> None:
        """A batch was committed."""
        self._current = ()
        self._work += report.work
        unavailable = [_sentence(name, error) for name, error in report.unavailable.items()]
        self._notices += [n for n in (*report.notices, *unavailable) if n not in self._told and n not in self._notices]
        self._tell(now=bool(self._notices))

    def finish(self) -> None:
        """The run is over."""
        self._current = ()
        self._tell(now=True)

    def _tell(self, *, now: bool = False) -> None:
        if self._on_event is None or (not now and time.monotonic() < self._next):
            return
        begun = time.monotonic()
        with self._catalog.read() as tx:
            active = journal.active(tx, SERVING_ALIAS)
            live = journal.live_generations(tx)
            shown = active.target if active is not None and active.target in live else None
            to_diarize = asking.to_diarize(tx)
            progress = work.progress(tx, shown) if shown else _together([work.progress(tx, name) for name in live])
        cost = time.monotonic() - begun
        self._next = time.monotonic() + max(EVENT_SECONDS, cost / COUNTING_SHARE)
        told, self._notices = self._notices, []
        self._told.update(told)
        if self._already is None:
            self._already = progress.audio_seconds_done
        audio = progress.audio_seconds_done - self._already
        eta, current = self._eta(progress, audio), tuple(self._current)
        event = WorkEvent(progress, current, self.elapsed, audio, eta, " ".join(told), self._work, to_diarize)
        self._on_event(event)

    def _eta(self, progress: Progress, audio: float) -> tuple[float, float] | None:
        left = progress.audio_seconds_total - progress.audio_seconds_done
        if audio <= 0 or self.elapsed < 1.0 or not progress.recordings_queued:
            return None
        seconds = left * self.elapsed / audio
        return (seconds * 0.8, seconds * 1.5)


def _together(parts: Sequence[Progress]) -> Progress:
    if len(parts) == 1:
        return parts[0]
    errors: dict[str, int] = {}
    for part in parts:
        for code, count in part.errors.items():
            errors[code] = errors.get(code, 0) + count
    names = (
        "recordings_total", "recordings_done", "recordings_failed", "recordings_waived", "recordings_queued",
        "audio_seconds_total", "audio_seconds_done", "speakers_embedded", "speakers_unembeddable", "documents_waiting",
        "segments_embedded", "speech_seconds_embedded",
    )  # fmt: skip
    return Progress(
        generation=None, errors=errors, **{name: sum(getattr(part, name) for part in parts) for name in names}
    )


def _sentence(generation: str, error: SpeakerDBError) -> str:
    return f"{generation}: {error.message} {error.hint} Its recordings stay queued."
