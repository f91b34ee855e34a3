"""Bringing in a library as a person sees it: progress while it runs, then what came of it and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from speakerdb.cli.live import LINE_SECONDS, StopSignals, work_unless_another_does
from speakerdb.cli.output import clean, clock, facts, plural, table
from speakerdb.cli.session import Session
from speakerdb.cli.show import say, show_work
from speakerdb.core.commands import command
from speakerdb.reports import as_json
from speakerdb.reports.intake import IntakeEvent, IntakeReport

if TYPE_CHECKING:
    from speakerdb.diarizers.asked import Asked

SHOWN_REFUSALS = 20
HIDDEN_FIELDS = ("sample", "refused", "refused_by_code")


class IntakeView:
    """One line that is redrawn on a terminal; elsewhere a line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed = monotonic()
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> IntakeView:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def __call__(self, event: IntakeEvent) -> None:
        if self._live is not None:
            self._live.update(Text(line_text(event)))
        elif monotonic() - self._printed >= LINE_SECONDS:
            self._printed = monotonic()
            self._console.print(line_text(event), soft_wrap=True)


def line_text(event: IntakeEvent) -> str:
    """How far it is, in one line."""
    rate = f", {event.recordings / event.elapsed:,.0f} a second" if event.elapsed > 0 else ""
    return (
        f"{plural(event.recordings, 'recording')}{rate}: {event.added:,} added, {event.changed:,} changed,"
        f" {event.unchanged:,} unchanged, {event.refused:,} refused, elapsed {clock(event.elapsed)}"
    )


def run_intake(
    session: Session,
    paths: Sequence[Path],
    *,
    turns: Path | None,
    library: str,
    now: bool,
    dry_run: bool,
    refused: Path | None,
    asked: Asked | None,
) -> int:
    """Bring in files, folders and manifests; the exit code."""
    work, work_code = None, 0
    with session.open() as db:
        if refused is None and not dry_run:
            stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ")
            refused = db.settings.data_dir / "refused" / f"{stamp}.jsonl"
        with StopSignals() as stop, IntakeView(session.err) as view:
            report = db.ingest.bring_in(
                paths, turns=turns, library_name=library, dry_run=dry_run, refused=refused, on_event=view, stop=stop,
                asked=asked,
            )  # fmt: skip
        if now and not dry_run and not report.stopped and report.recordings > report.refused:
            work, work_code = work_unless_another_does(session, db, again="Run `speakerdb work` to continue.")
    if session.json:
        session.result(_answer(report) | {"work": work}, lambda *_: None)
    else:
        session.show(lambda console: show_intake(console, report))
        if work is not None:
            session.show(lambda console: show_work(console, work))
        _note_next(session, report, worked=work is not None)
    if report.stopped and stop.signum is not None:
        session.note("Stopped after the current part; nothing is lost. Run it again to continue.")
        return 128 + stop.signum
    return report.sample[0].exit_code if report.sample else work_code


def _answer(report: IntakeReport) -> dict[str, Any]:
    """The report as one document; `refused` is the total, the codes, and a sample."""
    answer = {name: value for name, value in as_json(report).items() if name not in HIDDEN_FIELDS}
    answer["recordings"] = report.recordings
    answer["refused"] = {
        "total": report.refused,
        "by_code": dict(report.refused_by_code),
        "sample": as_json(report.sample),
    }
    if report.sample:
        first = report.sample[0]
        answer["error"] = {
            "code": first.code, "message": f"{first.where}: {first.message}", "hint": first.hint, "details": {},
            "exit_code": first.exit_code,
        }  # fmt: skip
    return answer


def show_intake(console: Console, report: IntakeReport) -> None:
    """What came of it."""
    would = "Would be " if report.dry_run else ""
    rows: list[tuple[str, object]] = [
        (f"{would}added".capitalize(), f"{report.added:,}"),
        (f"{would}changed".capitalize(), f"{report.changed:,}"),
        ("Unchanged", f"{report.unchanged:,}"),
        ("Refused", f"{report.refused:,}"),
    ]
    extra = (
        ("Without turns, to be diarized", report.to_diarize),
        ("Turns", report.turns),
        ("Segments that name no speaker", report.without_speaker),
        ("Speakers named", report.named),
        ("Profiles made", report.profiles_made),
        ("Names kept that the library has otherwise", report.kept),
        ("Failed before, tried again", report.retried),
    )
    rows += [(name, f"{count:,}") for name, count in extra if count]
    left = [f"{count:,} {why}" for why, count in report.left_out.items() if count]
    rows += [("Left out of the folders", ", ".join(left))] if left else []
    console.print(facts(rows))
    if not report.refused:
        return
    console.print(table(("refused as", "recordings"), report.refused_by_code.items(), right=("recordings",)))
    for each in report.sample[:SHOWN_REFUSALS]:
        say(console, f"{each.where}: {each.message} [{each.code}]")
    if report.refused > SHOWN_REFUSALS:
        say(console, f"and {report.refused - SHOWN_REFUSALS:,} more")


def _note_next(session: Session, report: IntakeReport, *, worked: bool) -> None:
    if report.refused_file is not None:
        session.note(
            f"The refused ones stand in {clean(report.refused_file)}: correct them there, then"
            f" `{command('add', report.refused_file)}`."
        )
    if not report.dry_run and not worked and (report.added or report.changed or report.retried):
        does = "diarizes and extracts" if report.to_diarize else "extracts"
        session.note(f"next: `speakerdb work` {does} what is queued.")
