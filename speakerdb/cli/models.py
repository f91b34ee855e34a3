"""`speakerdb models`: get the models, check them, carry them to a machine without network."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from speakerdb.cli.output import cell, exit_code_of, plural, size, table
from speakerdb.cli.session import JsonFlag, Session, YesFlag
from speakerdb.cli.show import say
from speakerdb.core.commands import command
from speakerdb.errors import ModelUnavailable
from speakerdb.reports.calibrating import CalibrationProgress, CalibrationReport, OnCalibration
from speakerdb.reports.mending import (
    ClearReport,
    CopyProgress,
    FetchedModel,
    InstallReport,
    ModelsReport,
    ModelView,
    OnCopy,
    PackReport,
)

if TYPE_CHECKING:
    from speakerdb.models.manage import Models

app = typer.Typer(no_args_is_help=True, help="Models: fetch, verify, carry to a machine without network.")

Generations = Annotated[
    list[str] | None, typer.Option("--generation", "-g", metavar="GENERATION", help="Only this one; may be repeated.")
]


@app.callback()
def group() -> None:
    """Models: fetch, verify, carry to a machine without network."""


@app.command("list")
def list_models(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Which models the settings name, and where they lie on this machine. Asks no network."""
    session = Session.of(ctx, as_json)
    session.result(_models(session).overview(), _show_models)


@app.command()
def fetch(
    ctx: typer.Context,
    generation: Generations = None,
    force: Annotated[bool, typer.Option("--force", help="Download again what is here already.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Download models from the hub, into its cache (HF_HOME is honoured) and into speakerdb's own folder of models."""
    session = Session.of(ctx, as_json)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read by the hub's library when it is imported
    models = _models(session)
    fetched: list[FetchedModel] = []
    for one in models.fetch(generation or (), force=force, on_terms=lambda view: _tell_terms(session, view)):
        fetched.append(one)
        if not session.json:
            _show_fetched(session.out, one)
    session.result({"models": fetched}, lambda _console, _value: None)
    refused = [one.code for one in fetched if one.code is not None]
    if refused:
        raise typer.Exit(exit_code_of(refused[0]))


@app.command()
def verify(
    ctx: typer.Context,
    generation: Generations = None,
    repair: Annotated[bool, typer.Option("--repair", help="Get a damaged copy again.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Compute the checksum of every copy again: good, missing, damaged, or unknown (no checksum is pinned).

    Exit status 7 where a copy is damaged, or where a generation that was named is nowhere on this machine.
    """
    session = Session.of(ctx, as_json)
    with _progress(session) as on_copy:
        report = _models(session).verify(generation or (), repair=repair, on_copy=on_copy)
    session.result(report, _show_models)
    damaged = any(place.verdict == "damaged" for view in report.models for place in view.places)
    if damaged or (generation and not all(view.usable for view in report.models)):
        raise typer.Exit(ModelUnavailable.exit_code)


@app.command()
def pack(
    ctx: typer.Context,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A .tar or .zip file, or a folder, that is not there yet.")
    ],
    generation: Generations = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the models of this machine as a bundle, with checksums, versions, licences and pinned requirements."""
    session = Session.of(ctx, as_json)
    session.result(_models(session).pack(out, generation or ()), _show_pack)


@app.command()
def install(
    ctx: typer.Context,
    bundle: Annotated[Path, typer.Argument(metavar="FILE-OR-FOLDER", help="What `models pack` made.")],
    as_json: JsonFlag = False,
) -> None:
    """Put the models of a bundle on this machine. All of it is checked first; installing it again is fine."""
    session = Session.of(ctx, as_json)
    models = _models(session)
    with _progress(session) as on_copy:
        report = models.install(bundle, on_copy=on_copy)
    session.result(report, _show_install)


@app.command()
def calibrate(
    ctx: typer.Context,
    generation: Annotated[str, typer.Argument(metavar="GENERATION", help="One whose recipe says int8.")],
    segments: Annotated[
        int, typer.Option(min=10, max=1000, help="Segments of the library's speech that the network is measured on.")
    ] = 40,
    as_json: JsonFlag = False,
) -> None:
    """Quantise a generation's network to int8 with this library's own speech, once, before its first extraction.

    Needs NNCF: `pip install 'speakerdb[int8]'`. Nothing is written to the library.
    """
    session = Session.of(ctx, as_json)
    with session.open() as db, _stages(session) as on_progress:
        report = db.calibrating.calibrate(generation, segments=segments, on_progress=on_progress)
    session.result(report, _show_calibration)


@app.command()
def clear(
    ctx: typer.Context,
    generation: Generations = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove models from speakerdb's own folder. The hub's cache stays, and is named."""
    session = Session.of(ctx, as_json)
    models = _models(session)
    planned = models.clear(generation or (), dry_run=True)
    if dry_run or not planned.removed:
        session.result(planned, _show_clear)
        return
    session.confirm(
        f"Remove {plural(len(planned.removed), 'model')} ({size(planned.freed)}) from {planned.folder}?", yes=yes
    )
    session.result(models.clear(generation or ()), _show_clear)


def _models(session: Session) -> Models:
    from speakerdb.models.manage import Models

    return Models(session.settings())


@contextmanager
def _progress(session: Session) -> Iterator[OnCopy]:
    """A bar for each file on a terminal; nothing elsewhere."""
    if not session.err.is_terminal:
        yield lambda _: None
        return
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=session.err, transient=True
    )
    tasks: dict[str, object] = {}

    def show(copy: CopyProgress) -> None:
        if copy.what not in tasks:
            tasks[copy.what] = bars.add_task(copy.what, total=copy.total)
        bars.update(tasks[copy.what], completed=copy.done)  # type: ignore[arg-type]

    with bars:
        yield show


@contextmanager
def _stages(session: Session) -> Iterator[OnCalibration]:
    """A line that says what is being done, on a terminal; nothing elsewhere."""
    if not session.err.is_terminal:
        yield lambda _: None
        return
    line = Progress(TextColumn("{task.description}"), TimeElapsedColumn(), console=session.err, transient=True)
    task = line.add_task("")

    def show(progress: CalibrationProgress) -> None:
        of = f", voice {progress.done + 1} of {progress.of}" if progress.of else ""
        line.update(task, description=f"{progress.stage}{of}")

    with line:
        yield show


def _tell_terms(session: Session, view: ModelView) -> None:
    session.note(f"{view.generation}: {view.id}, licence {view.licence or 'not known here'}. Its page: {view.page}")
    if view.gated:
        session.note(
            "  It is gated: you need an account there, its terms accepted on that page, and a token of that account in"
            " HF_TOKEN."
        )


def _show_models(console: Console, report: ModelsReport) -> None:
    rows: list[tuple[object, ...]] = []
    for view in report.models:
        for place in view.places:
            what = place.detail or (place.sha256 or "")[:12] or (size(place.size) if place.size is not None else "")
            rows.append((view.generation, view.id, place.place, place.verdict, place.path, what))
        if not view.places:
            rows.append((view.generation, view.id, "-", "no checkpoint needed", None, ""))
    console.print(table(("generation", "model", "where", "verdict", "path", "detail"), rows))
    for view in report.models:
        if view.weights:
            terms = ", gated" if view.gated else ""
            pin = f"pinned {view.pinned[:12]}…" if view.pinned else "no checksum pinned"
            say(console, f"{view.generation}: {view.dimension} dimensions, licence {cell(view.licence)}{terms}, {pin}")
            say(console, f"  computed by {view.backend or 'a back end that is not known yet'}: {view.why}")
    for kept in report.kept:
        if not kept.generations:
            say(console, f"Kept, and used by no generation: {kept.id} {kept.sha256[:12]}… ({size(kept.size)})")
    for name in report.unreadable:
        say(console, f"Damaged in {report.folder}: {name}")
    for repaired in report.repaired:
        say(console, f"Repaired: {repaired}")
    say(console, f"speakerdb's models: {report.folder}. The hub's cache: {report.cache}.")
    if report.offline:
        say(console, "The hub is not asked: models.offline or HF_HUB_OFFLINE is set.")
    _notes(console, report.notices)


def _show_calibration(console: Console, report: CalibrationReport) -> None:
    say(
        console,
        f"{report.generation}: {report.model}, quantised with {plural(report.segments, 'segment')} of"
        f" {plural(report.recordings, 'recording')} in {report.seconds:,.0f} s.",
    )
    say(
        console,
        f"Against float, on {plural(report.compared_speakers, 'other speaker')}: cosine of a segment"
        f" {report.lowest_segment:.4f} at the lowest, {report.median_segment:.4f} at the median; of a speaker"
        f" {report.lowest_speaker:.4f} at the lowest.",
    )
    _notes(console, report.notices)
    for skipped in report.skipped:
        say(console, f"left out: {skipped}")
    say(console, f"It is in {report.folder}. Carry that folder to every machine that extracts for {report.generation}.")


def _show_fetched(console: Console, one: FetchedModel) -> None:
    match one.outcome:
        case "refused":
            say(console, f"{one.generation}: {one.message}\n  next: {one.hint}")
        case "no-weights":
            say(console, f"{one.generation}: {one.id} needs no checkpoint.")
        case "local":
            say(console, f"{one.generation}: {one.id} is not fetched. {one.message}")
        case _:
            verb = "fetched" if one.outcome == "fetched" else "here already"
            say(console, f"{one.generation}: {one.id} {verb}, {size(one.size or 0)}, SHA-256 {one.sha256}")
            if not one.pinned:
                say(
                    console,
                    "  No checksum is pinned, so it is not loaded yet. If you trust it, set"
                    f" SPEAKERDB_GENERATIONS__{one.generation.upper()}__SHA256={one.sha256}",
                )


def _show_pack(console: Console, report: PackReport) -> None:
    say(console, f"{report.path}: {plural(len(report.models), 'model')}, {size(report.size)}.")
    for model in report.models:
        say(console, f"  {model.id}, licence {cell(model.licence)}, SHA-256 {model.sha256}")
    for generation, why in report.left_out.items():
        say(console, f"  left out: {generation} ({why})")
    say(
        console,
        f"  requirements.txt: {plural(report.requirements, 'package')}. Its checksums show damage, not who made it.",
    )
    say(console, f"There: {command('models install', Path(report.path).name)}")


def _show_install(console: Console, report: InstallReport) -> None:
    for one in report.models:
        verb = "installed" if one.new else "here already"
        say(
            console, f"{one.model.id} {verb}, SHA-256 {one.model.sha256}, for {', '.join(one.model.generations) or '-'}"
        )
    _notes(console, report.notices)
    say(console, f"In {report.folder}. See it all with: speakerdb doctor --no-network")


def _show_clear(console: Console, report: ClearReport) -> None:
    verb = "would be removed" if report.dry_run else "removed"
    say(console, f"{plural(len(report.removed), 'model')} {verb} from {report.folder}, {size(report.freed)}.")
    for folder, octets in report.cache.items():
        say(console, f"Stays in the hub's cache: {folder} ({size(octets)}); remove that folder if nobody else uses it.")


def _notes(console: Console, notices: Sequence[str]) -> None:
    for notice in notices:
        say(console, notice)
