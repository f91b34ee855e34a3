"""`speakerdb index`: the vector indices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from speakerdb.cli import adopting
from speakerdb.cli.output import plural
from speakerdb.cli.session import JsonFlag, Session, YesFlag
from speakerdb.cli.show import say
from speakerdb.errors import InvalidInput

if TYPE_CHECKING:
    from speakerdb.reports.rebuilding import RebuildProgress, RebuildReport

app = typer.Typer(no_args_is_help=True, help="Vector indices.")


@app.callback()
def group() -> None:
    """Vector indices."""


@app.command()
def rebuild(
    ctx: typer.Context,
    generation: Annotated[
        str | None, typer.Argument(metavar="[GENERATION]", help="For example v4.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every live generation, as after `speakerdb restore`.")] = False,
    serve: Annotated[
        bool,
        typer.Option(
            "--serve",
            help="Let the alias name it where SQL says that it serves and the alias names another generation's index."
            " Asks first. Part of `--all`.",
        ),
    ] = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Build an index again from the vectors in SQL, without audio or a model.

    The new index is made beside the one that is there, compared with SQL, and takes its place in one step; the other
    serves until then.
    """
    session = Session.of(ctx, as_json)
    if (generation is None) == (not every):
        raise InvalidInput("Give either a generation or `--all`.", hint="See `speakerdb status` for what is live.")
    with session.open() as db:
        names = db.serving.live() if generation is None else (generation,)
        disagreement = db.serving.disagreement()
        serve = (serve or every) and disagreement is not None and disagreement.stated in names
        if serve and disagreement is not None:
            session.confirm(f"{disagreement.sentence} Let {disagreement.stated} serve?", yes=yes)
        reports = [
            db.rebuild_index(name, serve=serve, on_progress=lambda progress: _tell(session, progress)) for name in names
        ]
    if generation is None:
        session.result({"indices": reports}, lambda console, _: _show_all(console, reports))
    else:
        session.result(reports[0], _show)


def _tell(session: Session, progress: RebuildProgress) -> None:
    if progress.documents in (0, progress.total) or session.err.is_terminal:
        session.note(f"{progress.generation}: {progress.doing} {progress.documents:,} of {progress.total:,} documents")


def _show(console: Console, report: RebuildReport) -> None:
    place = f" in the place of {report.replaced}" if report.replaced else ""
    serving = " The alias names it now." if report.alias_moved else ""
    say(
        console,
        f"{report.generation}: {plural(report.documents, 'document')} written to {report.index}{place}, equal to SQL,"
        f" in {report.seconds:.1f} s.{serving}",
    )


def _show_all(console: Console, reports: list[RebuildReport]) -> None:
    for report in reports:
        _show(console, report)


app.command("import")(adopting.import_)
app.command()(adopting.adopt)
