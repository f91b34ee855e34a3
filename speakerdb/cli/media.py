"""`speakerdb media`: the files of the recordings. Are they there, where did they move to, which changed ones are right?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from speakerdb.cli.output import document, exit_code_of, plural, table
from speakerdb.cli.session import JsonFlag, Session, WhyOption, YesFlag
from speakerdb.cli.show import say
from speakerdb.errors import MediaError
from speakerdb.reports.files import (
    AcceptReport,
    FileChange,
    FileCheck,
    FileFinding,
    FileProgress,
    Moved,
    OnFiles,
    RelocateReport,
)

app = typer.Typer(no_args_is_help=True, help="The recordings' files: check them, follow those that moved.")

SHOWN = 50
"""Rows of a table; with `--json` there are all of them."""
LINE_SECONDS = 5.0
REDRAW_SECONDS = 0.1

LibraryOption = Annotated[str | None, typer.Option(help="Only of this library.")]
DryRunFlag = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]


@app.command()
def check(
    ctx: typer.Context,
    library: LibraryOption = None,
    recording: Annotated[str | None, typer.Option(metavar="ID", help="Only this recording.")] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also open each file and decode its first frame, in a process of its own.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Look at every recording's file: missing, changed, unreadable, or outside the media roots. Changes nothing.

    Ends with exit code 0 when all files are as they were, else with 6.
    """
    session = Session.of(ctx, as_json)
    with session.open() as db, _Listed(session, "files") as listed:
        with _shown(session, "Looking") as progress:
            report = db.files.check(
                library_name=library,
                recording=recording,
                deep=deep,
                on_finding=lambda found: listed.add(found, shown=found.wrong),
                on_progress=progress,
            )
        listed.result(report, _show_check)
    raise typer.Exit(0 if report.ok else MediaError.exit_code)


@app.command()
def relocate(
    ctx: typer.Context,
    old: Annotated[str, typer.Argument(metavar="OLD", help="The folder or file as it was.", show_default=False)],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Where it is now.", show_default=False)],
    library: LibraryOption = None,
    why: WhyOption = None,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """The recordings' files were moved: give those that lay at OLD, or in that folder, their place below NEW.

    Each file is compared with its fingerprint first; what is missing or different at the new place stays as it is and is
    listed. Recordings that failed because their file was missing are queued again. It can be run again.
    """
    session = Session.of(ctx, as_json)
    with session.open() as db, _Listed(session, "recordings") as listed:
        with _shown(session, "Comparing") as progress:
            report = db.files.relocate(
                old,
                new,
                library_name=library,
                dry_run=dry_run,
                why=why,
                on_change=lambda change: listed.add(change, shown=change.outcome is Moved.REFUSED),
                on_progress=progress,
            )
        listed.result(report, _show_relocated)
    raise typer.Exit(MediaError.exit_code if report.refused else 0)


@app.command()
def accept(
    ctx: typer.Context,
    recordings: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="Recordings whose file was changed on purpose.")
    ] = None,
    all_changed: Annotated[bool, typer.Option("--all-changed", help="All whose file has changed.")] = False,
    library: LibraryOption = None,
    why: WhyOption = None,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Files were changed and their turns still fit: take them as they are, and extract their recordings again.

    The turns are checked against the new length; a file that cannot be read, or ends before its turns do, is refused.
    """
    session = Session.of(ctx, as_json)
    ids = recordings or []
    with session.open() as db:
        if all_changed and not (dry_run or yes):
            session.check_terminal()
            with _shown(session, "Looking") as progress:
                would = db.files.accept(all_changed=True, library_name=library, dry_run=True, on_progress=progress)
            files = plural(would.accepted, "changed file")
            session.confirm(f"Take {files} as they are, and extract their recordings again?", yes=False)
        with _Listed(session, "recordings") as listed:
            with _shown(session, "Opening") as progress:
                report = db.files.accept(
                    ids,
                    all_changed=all_changed,
                    library_name=library,
                    dry_run=dry_run,
                    why=why,
                    on_change=lambda change: listed.add(change, shown=change.outcome is Moved.REFUSED),
                    on_progress=progress,
                )
            listed.result(report, _show_accepted)
    raise typer.Exit(exit_code_of(next(iter(report.refused))) if report.refused else 0)


class _Listed:
    """What was found, one by one: the first rows of a table, or all that goes into the JSON document.

    A library may have a million files, so the rows of the document wait in a file and not in memory.
    """

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  closed with this object
        self.rows: list[Any] = []
        self.total = 0

    def __enter__(self) -> _Listed:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, row: FileFinding | FileChange, *, shown: bool) -> None:
        """One row; those that are not to be shown are only counted in the report."""
        if not shown:
            return
        self.total += 1
        if self._session.json:
            self._file.write(document(row).replace("\n", "\n    ") + "\0")
        elif len(self.rows) < SHOWN:
            self.rows.append(row)

    def result(self, report: Any, show: Callable[[Console, Any, _Listed], None]) -> None:
        """The command's answer: the report as text, or as a document with every row in it."""
        if not self._session.json:
            show(self._session.out, report, self)
            self._session.stdout.flush()
            return
        out = self._session.stdout
        out.write(document(report).removesuffix("\n}") + f',\n  "{self._name}": [')
        self._file.seek(0)
        between = "\n    "
        for row in _pieces(self._file):
            out.write(between + row)
            between = ",\n    "
        out.write("\n  ]\n}\n" if self.total else "]\n}\n")
        out.flush()


def _pieces(file: Any) -> Iterator[str]:
    rest = ""
    while chunk := file.read(1 << 16):
        *whole, rest = (rest + chunk).split("\0")
        yield from whole


@contextmanager
def _shown(session: Session, what: str) -> Iterator[OnFiles]:
    """How far it is: a bar on a terminal, a line every few seconds elsewhere."""
    console = session.err
    last = monotonic()
    if not console.is_terminal:

        def line(progress: FileProgress) -> None:
            nonlocal last
            if monotonic() - last >= LINE_SECONDS:
                last = monotonic()
                session.note(f"{what}: {progress.done:,} of {progress.total:,}, {progress.wrong:,} not right")

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(what, total=None)

        def bar(progress: FileProgress) -> None:
            nonlocal last
            if monotonic() - last >= REDRAW_SECONDS:
                last = monotonic()
                bars.update(task, completed=progress.done, total=progress.total)

        yield bar


def _show_check(console: Console, report: FileCheck, listed: _Listed) -> None:
    if listed.rows:
        rows = [(f.recording_id, f.state.value, f.code, f.path, f.detail) for f in listed.rows]
        console.print(table(["recording", "state", "code", "file", "what was found"], rows))
        _say_more(console, listed)
    counts = ", ".join(f"{count:,} {state}" for state, count in sorted(report.states.items())) or "none"
    say(console, f"{plural(report.checked, 'recording')}: {counts}.")
    for step in report.next_steps:
        say(console, f"next: {step}")


def _show_relocated(console: Console, report: RelocateReport, listed: _Listed) -> None:
    _show_changes(console, listed)
    verb = "would move" if report.dry_run else "moved"
    refused = f", {plural(sum(report.refused.values()), 'recording')} left as they are" if report.refused else ""
    say(console, f"{report.relocated:,} of {plural(report.matched, 'recording')} {verb} from {report.old} to {report.new}"
        f"{refused}.")  # fmt: skip
    if report.queued:
        say(
            console,
            f"next: `speakerdb work` extracts {plural(report.queued, 'item')} that had failed without the file.",
        )


def _show_accepted(console: Console, report: AcceptReport, listed: _Listed) -> None:
    _show_changes(console, listed)
    verb = "would be accepted" if report.dry_run else "accepted"
    say(console, f"{plural(report.accepted, 'changed file')} {verb}, {report.unchanged:,} had not changed, "
        f"{sum(report.refused.values()):,} refused.")  # fmt: skip
    if report.accepted and not report.dry_run:
        say(console, f"next: `speakerdb work` extracts them again for {', '.join(report.queued)}.")


def _show_changes(console: Console, listed: _Listed) -> None:
    if listed.rows:
        rows = [(c.recording_id, c.code, c.old, c.detail) for c in listed.rows]
        console.print(table(["recording", "code", "file", "why it is left as it is"], rows))
        _say_more(console, listed)


def _say_more(console: Console, listed: _Listed) -> None:
    if listed.total > len(listed.rows):
        say(console, f"{listed.total - len(listed.rows):,} more; `--json` lists all {listed.total:,}.")
