"""`speakerdb migrate`: move the library to another generation, and back."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speakerdb.cli.live import work_unless_another_does
from speakerdb.cli.output import plural
from speakerdb.cli.session import JsonFlag, Session, WhyOption, YesFlag
from speakerdb.cli.show import lag_text, say, show_gates, show_migration, show_preflight, show_swap, show_work
from speakerdb.errors import GateFailed, InvalidInput, NoMigration, PreflightFailed
from speakerdb.reports import GateReport, MigrationView, Preflight, SourceLag, WorkReport

if TYPE_CHECKING:
    from speakerdb.catalog.choosing import Part
    from speakerdb.service import SpeakerDB

app = typer.Typer(no_args_is_help=True, help="Move the library to another generation, and back.")

CodeOption = Annotated[str | None, typer.Option(help="Only those that failed with this error code.")]
RecordingOption = Annotated[str | None, typer.Option(metavar="ID", help="Only this recording.")]
LibraryOption = Annotated[str | None, typer.Option(help="Only of this library.")]
ListOption = Annotated[
    Path | None,
    typer.Option(
        "--list", metavar="FILE", help="Only the recordings of this file: an id or a path a line. - reads them."
    ),
]


def _listed(file: Path | None) -> tuple[str, ...] | None:
    """The lines of a list of recordings; empty ones and those that begin with # are left out."""
    if file is None:
        return None
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The list {file} cannot be read: {error}.", hint="Give a text file.") from error
    lines = tuple(line for each in text.splitlines() if (line := each.strip()) and not line.startswith("#"))
    if not lines:
        raise InvalidInput(f"The list {file} is empty.", hint="Give an id or a path a line.")
    return lines


def _share(text: str) -> float:
    """`25%` as 0.25."""
    number = text.removesuffix("%")
    try:
        share = float(number) / 100
    except ValueError:
        share = 0.0
    if not text.endswith("%") or not 0.0 < share <= 1.0:
        raise InvalidInput(f"`--part {text}` is not a share of the library.", hint="For example `--part 25%`.")
    return share


def _part(share: str | None, library: str | None, file: Path | None) -> Part | None:
    """What is to go first; None where nothing was said."""
    given = [each for each in (share, library, file) if each is not None]
    if len(given) > 1:
        raise InvalidInput("Give one of `--part`, `--library` and `--list`.", hint="The command can be given again.")
    if not given:
        return None
    from speakerdb.catalog.choosing import Part

    return Part(None if share is None else _share(share), library, _listed(file))


def _required(db: SpeakerDB) -> MigrationView:
    view = db.migration()
    if view is None:
        raise NoMigration("There has been no migration.")
    return view


@app.command()
def start(
    ctx: typer.Context,
    to: Annotated[str, typer.Option("--to", metavar="GENERATION", help="The generation to move to, for example v4.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the pre-flight.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Start it and leave the work to `speakerdb work`.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Start although the pre-flight does not pass.")] = False,
    rediarize: Annotated[
        bool,
        typer.Option(
            "--rediarize",
            help="Diarize recordings that have a file again first, and keep their names. Only when it is started.",
        ),
    ] = False,
    part: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Let this share of the recordings go first, for example 25%.")
    ] = None,
    library: Annotated[str | None, typer.Option(help="Let the recordings of this library go first.")] = None,
    listed: Annotated[
        Path | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="Let the recordings of this file go first: an id or a path a line. - reads them.",
        ),
    ] = None,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Start a migration and work through it, or continue the one that runs.

    The serving generation answers matches all the while. Ctrl-C stops after the current step; the same command
    continues.
    """
    session = Session.of(ctx, as_json)
    exit_code = 0
    work: WorkReport | None = None
    first = _part(part, library, listed)
    with session.open() as db:
        view = db.migration()
        running = view is not None and view.target == to and view.state == "running"
        if running and rediarize:
            raise InvalidInput(
                f"The migration to {to} runs already; `--rediarize` is given when one is started.",
                hint="Queue recordings by themselves: `speakerdb rediarize`.",
            )
        preflight = None
        if dry_run or not running:
            session.note("Pre-flight: loading both models and opening a sample of the files.")
            preflight = db.preflight(to, rediarize=rediarize)
        if preflight is not None:
            _print_preflight(session, preflight)
        if dry_run:
            session.result({"preflight": preflight, "migration": None, "work": None}, lambda *_: None)
            raise typer.Exit(0 if preflight is None or preflight.passed else PreflightFailed.exit_code)
        if preflight is not None:
            view = _begin(session, db, preflight, force=force, yes=yes, rediarize=rediarize)
            session.note(f"Migration {view.id} from {view.source} to {view.target} started.")
        elif view is not None:
            session.note(f"Migration {view.id} from {view.source} to {view.target} is running; this continues it.")
        if first is not None:
            session.note(f"Of what is queued, {plural(db.migrator.first(first), 'recording')} first.")
        if not detach:
            again = f"Run `speakerdb migrate start --to {to}` again to continue."
            work, exit_code = work_unless_another_does(session, db, again=again)
            view = db.migration()
    answer = {"preflight": preflight, "migration": view, "work": work}
    session.result(answer, lambda console, _: _show_started(console, work, view))
    raise typer.Exit(exit_code)


def _print_preflight(session: Session, preflight: Preflight) -> None:
    session.show(lambda console: show_preflight(console, preflight))


def _begin(
    session: Session, db: SpeakerDB, preflight: Preflight, *, force: bool, yes: bool, rediarize: bool
) -> MigrationView:
    if not preflight.passed:
        failed = ", ".join(c.name for c in preflight.checks if c.verdict == "fail")
        if not force:
            raise PreflightFailed(
                f"The pre-flight does not pass: {failed}.",
                hint="Mend what it names, or start anyway with `--force`.",
                report=preflight,
            )
        session.confirm(f"The pre-flight does not pass ({failed}). Start anyway?", yes=yes)
    return db.start_migration(preflight.target, force=force, checked=preflight, rediarize=rediarize)


def _show_started(console: Any, work: WorkReport | None, view: MigrationView | None) -> None:
    if work is not None:
        # The migration lists all that failed, and with it what failed now.
        show_work(console, work if view is None else replace(work, errors=()))
    if view is not None:
        show_migration(console, view)


@app.command()
def status(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Where the newest migration stands, and what to do next."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.migration(), show_migration)


@app.command()
def finalize(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only measure the gates and print them.")] = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Prove the target and let it serve. Asks first, with the gates in view."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        if dry_run:
            measured = db.check_gates()
            session.result(measured, show_gates)
            raise typer.Exit(0 if measured.proven else GateFailed.exit_code)
        if not yes:
            view = _required(db)
            session.check_terminal()
            report = db.check_gates()
            session.show(lambda console: show_gates(console, report))
            doubt = (
                "" if report.proven else "Not all gates pass now; they are checked again after what waits was drained. "
            )
            session.confirm(f"{doubt}Let {view.target} serve instead of {view.serving}?", yes=False)
        try:
            swap = db.finalize()
        except GateFailed as error:
            gates = error.details.get("report")
            if isinstance(gates, GateReport) and not session.json:
                session.show(lambda console: show_gates(console, gates))
            raise
    session.result(swap, show_swap)


@app.command()
def rollback(
    ctx: typer.Context,
    now: Annotated[bool, typer.Option("--now", help="Swap first and report what the source lacks after.")] = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Let the source generation serve again. Asks first, and says what would be missing."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        view = db.migration() if yes else _required(db)
        if view is not None and view.lag is not None and view.lag.any:
            session.note(f"{view.source} is behind: {lag_text(view.lag)}. {_behind(view.lag, now=now)}")
        if view is not None:
            session.confirm(f"Let {view.source} serve again instead of {view.serving}?", yes=yes)
        try:
            swap = db.rollback(now=now)
        except GateFailed as error:
            gates = error.details.get("report")
            if isinstance(gates, GateReport) and not session.json:
                session.show(lambda console: show_gates(console, gates))
            raise
    session.result(swap, show_swap)


def _behind(lag: SourceLag, *, now: bool) -> str:
    """What that means for who rolls back."""
    documents = "" if not lag.documents_waiting else (
        "Documents are written after the alias has moved. " if now else "Documents are written first. "
    )  # fmt: skip
    if not lag.speakers:
        return f"{documents}Nobody would be missing."
    retry = " after `speakerdb migrate retry`" if lag.recordings_failed else ""
    return (
        f"{documents}Nobody finds {plural(lag.speakers, 'speaker')} until {lag.generation} has them too:"
        f" `speakerdb work`{retry} extracts them, before the roll-back or after it."
    )


@app.command()
def pause(
    ctx: typer.Context,
    why: Annotated[str, typer.Option(metavar="TEXT", help="Why; shown by `status`, and kept in the events.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Pause the migration after the current step."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.pause(why), show_migration)


@app.command()
def resume(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Let a paused migration go on."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.resume(), show_migration)


@app.command()
def retry(
    ctx: typer.Context,
    code: CodeOption = None,
    recording: RecordingOption = None,
    library: LibraryOption = None,
    listed: ListOption = None,
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Queue failed recordings again: all of them, or those that are chosen."""
    session = Session.of(ctx, as_json)
    lines = _listed(listed)
    with session.open() as db:
        count = db.retry(code=code, recording=recording, library=library, listed=lines, why=why)
    session.result(
        {"queued": count},
        lambda console, value: say(
            console,
            f"{plural(value['queued'], 'recording')} queued again."
            + (" next: `speakerdb work`." if value["queued"] else ""),
        ),
    )


@app.command()
def waive(
    ctx: typer.Context,
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Why they may be left behind; kept in the events.")],
    code: CodeOption = None,
    recording: RecordingOption = None,
    library: LibraryOption = None,
    listed: ListOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Let the migration be finalized without recordings that failed: those with one error code, of one library, or named.

    Where several are given, all must hold.
    """
    session = Session.of(ctx, as_json)
    if code is None and recording is None and library is None and listed is None:
        raise InvalidInput(
            "Say which ones: `--code`, `--recording`, `--library` or `--list`.",
            hint="See `speakerdb migrate status` for what failed.",
        )
    lines = _listed(listed)
    with session.open() as db:
        count = db.waive(why=why, code=code, recording=recording, library=library, listed=lines)
    session.result(
        {"waived": count}, lambda console, value: say(console, f"{plural(value['waived'], 'recording')} waived.")
    )


@app.command()
def cancel(ctx: typer.Context, yes: YesFlag = False, as_json: JsonFlag = False) -> None:
    """End a migration that was not finalized. Embeddings are kept, and a new start uses them. Asks first."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        if not yes:
            view = _required(db)
            session.confirm(f"Cancel the migration from {view.source} to {view.target}?", yes=False)
        session.result(db.cancel(), show_migration)


@app.command()
def retire(
    ctx: typer.Context,
    purge: Annotated[bool, typer.Option("--purge", help="Also delete the source's vectors from SQL.")] = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """End the roll-back period: drop the source's index. Asks first."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        if not yes:
            view = _required(db)
            vectors = " and delete its vectors" if purge else ""
            session.confirm(f"Drop the index of {view.source}{vectors}? There is no roll-back after that.", yes=False)
        session.result(db.retire(purge=purge), show_migration)
