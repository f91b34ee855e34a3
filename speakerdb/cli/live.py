"""Long work as a person sees it: a live view on a terminal, a line every few seconds elsewhere, and a clean stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from speakerdb.cli.output import clean, clock, exit_code_of, plural, span
from speakerdb.cli.session import Session
from speakerdb.cli.show import current_text, failed_text, shares_text, speed_text
from speakerdb.core.pace import Meter
from speakerdb.errors import LeaseHeld, ModelUnavailable
from speakerdb.reports import Progress, WorkEvent, WorkReport
from speakerdb.reports.seeing import Pace

if TYPE_CHECKING:
    from speakerdb.service import SpeakerDB

LINE_SECONDS = 5.0
WORK_LEASE = "work"
SHOWN_RECORDINGS = 4


class StopSignals:
    """Turns Ctrl-C, SIGTERM and a closed terminal into a question asked between steps. A second Ctrl-C interrupts."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self.signum is not None

    def __enter__(self) -> StopSignals:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is None or hangs_up_unheard(number):
                continue
            if threading.current_thread() is threading.main_thread():
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == getattr(signal, "SIGHUP", None):
            _leave_terminal()
        elif self.signum == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.signum = number


def hangs_up_unheard(number: int) -> bool:
    """Whether whoever started this process wants it to outlive its terminal (`nohup`)."""
    return number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) is signal.SIG_IGN


def _leave_terminal() -> None:
    """The terminal is gone: what would be written to it goes nowhere, instead of failing in the middle of a step."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        # A terminal that hung up may no longer say that it is one; a file or a pipe still works and is left alone.
        if os.isatty(descriptor) or not _usable(descriptor):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _usable(descriptor: int) -> bool:
    try:
        os.write(descriptor, b"")
    except OSError:
        return False
    return True


class LiveView:
    """Progress bars, what is being worked on, the rate and what is left; redrawn in place."""

    def __init__(self, console: Console, stopping: Callable[[], bool]) -> None:
        self._console = console
        self._stopping = stopping
        self._event: WorkEvent | None = None
        self._rate = _Rate()
        self._received = self._began = monotonic()
        self._notices: set[str] = set()
        self._live = Live(get_renderable=self.render, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveView:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def __call__(self, event: WorkEvent) -> None:
        if event.notice and event.notice not in self._notices:
            self._notices.add(event.notice)
            self._console.print(clean(event.notice), soft_wrap=True)
        self._rate.see(event)
        self._event, self._received = event, monotonic()

    def render(self) -> RenderableType:
        """What stands on the terminal now."""
        event = self._event
        if event is None:
            return Text(f"starting ({clock(monotonic() - self._began)})")
        elapsed = event.elapsed + monotonic() - self._received
        progress = event.progress
        bars = Table.grid(padding=(0, 2))
        bars.add_row(
            "recordings",
            _bar(progress.recordings_done, progress.recordings_total),
            f"{progress.recordings_done:,} of {progress.recordings_total:,}",
        )
        bars.add_row(
            "audio",
            _bar(progress.audio_seconds_done, progress.audio_seconds_total),
            f"{clock(progress.audio_seconds_done)} of {clock(progress.audio_seconds_total)}",
        )
        lines: list[RenderableType] = [bars]
        if event.to_diarize:
            lines.append(Text(f"{plural(event.to_diarize, 'recording')} to diarize"))
        lines += [
            Text(f"now: {current_text(c)}", no_wrap=True, overflow="ellipsis") for c in event.current[:SHOWN_RECORDINGS]
        ]
        if len(event.current) > SHOWN_RECORDINGS:
            lines.append(Text(f"and {len(event.current) - SHOWN_RECORDINGS} more"))
        lines.append(Text(f"{self._rate.text(event)}, elapsed {clock(elapsed)}{self._rate.left(event)}"))
        if event.work.total_time:
            lines.append(
                Text(f"{plural(event.work.forwards, 'segment')} through the network; {shares_text(event.work)}")
            )
        if progress.errors:
            lines.append(Text(f"failed {failed_text(progress.errors)}"))
        if self._stopping():
            lines.append(Text("stopping after this step"))
        return Group(*lines)


class LineView:
    """The same as one line, at once and then every few seconds, for logs and pipes."""

    def __init__(self, console: Console, interval: float) -> None:
        self._console = console
        self._interval = interval
        self._event: WorkEvent | None = None
        self._rate = _Rate()
        self._received = 0.0
        self._printed: float | None = None
        self._notices: set[str] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="speakerdb-progress", daemon=True)

    def __enter__(self) -> LineView:
        self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._ticker.join()
        if self._event is not None:
            self._print()

    def __call__(self, event: WorkEvent) -> None:
        with self._lock:
            if event.notice and event.notice not in self._notices:
                self._notices.add(event.notice)
                self._console.print(clean(event.notice), soft_wrap=True)
            self._rate.see(event)
            self._event, self._received = event, monotonic()
        if self._printed is None or monotonic() - self._printed >= self._interval:
            self._print()

    def _tick(self) -> None:
        while not self._closed.wait(self._interval):
            if self._printed is not None and monotonic() - self._printed >= self._interval:
                self._print()

    def _print(self) -> None:
        with self._lock:
            event = self._event
            if event is not None:
                waited = monotonic() - self._received
                self._printed = monotonic()
                self._console.print(_line(event, self._rate, event.elapsed + waited), soft_wrap=True)


def _bar(done: float, total: float) -> ProgressBar:
    return ProgressBar(total=max(total, 1e-9), completed=done if total else 1e-9, width=40)


class _Rate:
    """The pace of this run, by the same rule as `speakerdb migrate status` reads it from outside."""

    def __init__(self) -> None:
        self._meter = Meter()
        self._pace: Pace | None = None

    def see(self, event: WorkEvent) -> None:
        """Take one more event into account."""
        progress = event.progress
        self._meter.add(event.elapsed, progress.recordings_done, progress.audio_seconds_done)
        self._pace = self._meter.pace(left_recordings=progress.recordings_queued, left_audio=_audio_left(progress))

    def text(self, event: WorkEvent) -> str:
        """How fast audio is worked through."""
        if self._pace is not None:
            return speed_text(self._pace)
        if event.elapsed > 0 and event.audio_seconds:
            return f"{event.audio_seconds / event.elapsed:.1f} x real time"
        return "rate not known yet"

    def left(self, event: WorkEvent) -> str:
        """The time that is left; nothing where nothing is."""
        left = event.eta if self._pace is None or self._pace.left is None else self._pace.left
        return f", left {span(left)}" if left is not None or event.progress.recordings_queued else ""


def _audio_left(progress: Progress) -> float:
    """Of the audio that is not done, the share of the recordings in the queue: what failed is not worked on."""
    others = progress.recordings_total - progress.recordings_done
    share = min(1.0, progress.recordings_queued / others) if others > 0 else 0.0
    return share * (progress.audio_seconds_total - progress.audio_seconds_done)


def _line(event: WorkEvent, rate: _Rate, elapsed: float) -> str:
    """A whole event in one line."""
    progress = event.progress
    parts = [f"{event.to_diarize:,} to diarize"] if event.to_diarize else []
    if progress.recordings_total or not event.to_diarize:
        parts += [
            f"{progress.recordings_done:,}/{progress.recordings_total:,} recordings",
            f"{clock(progress.audio_seconds_done)} of {clock(progress.audio_seconds_total)} audio",
            rate.text(event),
        ]
    parts += [
        f"elapsed {clock(elapsed)}{rate.left(event)}",
    ]
    if event.work.total_time:
        parts.append(shares_text(event.work))
    if progress.errors:
        parts.append(f"failed {failed_text(progress.errors)}")
    if event.current:
        more = f" and {len(event.current) - 1} more" if len(event.current) > 1 else ""
        parts.append(f"now {current_text(event.current[0])}{more}")
    return ", ".join(parts)


def work_view(console: Console, stopping: Callable[[], bool]) -> AbstractContextManager[Callable[[WorkEvent], None]]:
    """The view that suits where standard error goes."""
    return LiveView(console, stopping) if console.is_terminal else LineView(console, LINE_SECONDS)


def run_work(
    session: Session, db: SpeakerDB, *, again: str, limit: int | None = None, forever: bool = False, retry: bool = False
) -> tuple[WorkReport, int]:
    """Drain the queue with a view; `again` says what to do when it was stopped.

    Returns the report and the exit code: 0, that of the first failed recording, that of a missing model, or 128
    and the number of the signal that stopped it.
    """
    with StopSignals() as stop, work_view(session.err, stop) as view:
        report = db.work(on_event=view, stop=stop, limit=limit, forever=forever, retry=retry)
    sys.stderr.flush()
    if stop.signum is not None and report.stopped == "stopped":
        session.note(f"Stopped after the current step; nothing is lost. {again}")
        return report, 128 + stop.signum
    if report.errors:
        return report, exit_code_of(report.errors[0].code)
    return report, ModelUnavailable.exit_code if report.unavailable else 0


def work_unless_another_does(session: Session, db: SpeakerDB, *, again: str) -> tuple[WorkReport | None, int]:
    """The same for a verb that has queued something: where a service works already, that is its work, and all is well."""
    try:
        return run_work(session, db, again=again)
    except LeaseHeld as error:
        if error.details.get("lease") != WORK_LEASE:
            raise
        session.note(
            f"{clean(str(error.details['holder']))} works on the queue, and does this too: see `speakerdb status`."
        )
        return None, 0
