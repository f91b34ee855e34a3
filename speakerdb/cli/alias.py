"""`speakerdb alias`: what serves, and a person's way to say it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from speakerdb.cli.output import facts
from speakerdb.cli.session import JsonFlag, Session, YesFlag
from speakerdb.cli.show import pairs, say, show_checks
from speakerdb.errors import GateFailed
from speakerdb.reports import GateReport
from speakerdb.reports.pointing import AliasReport, AliasView

app = typer.Typer(no_args_is_help=True, help="The alias, which says what serves.")


@app.command()
def show(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """What the alias names, and whether that is what the database says."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.alias(), _show)


@app.command("set")
def set_(
    ctx: typer.Context,
    generation: Annotated[str, typer.Argument(metavar="GENERATION", help="Whose index it is to name, for example v4.")],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Why; kept in the events.")],
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Although the index does not equal the database, or a swap is announced that cannot be decided.",
        ),
    ] = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Let the alias name the index of a live generation. Asks first.

    For when somebody has moved it, and for emergencies: `migrate finalize` and `migrate rollback` are the way in order, and
    only they tell the database. The index is brought up to date and compared with the database before.
    """
    session = Session.of(ctx, as_json)
    with session.open() as db:
        view = db.alias()
        named = " and ".join(view.indices) or "nothing"
        other = view.stated is not None and view.stated != generation
        doubt = f" By the database {view.stated} should serve, and `status` will say so." if other else ""
        session.confirm(f"The alias names {named}. Let {generation} serve?{doubt}", yes=yes)
        try:
            report = db.set_alias(generation, why=why, force=force)
        except GateFailed as error:
            gates = error.details.get("report")
            if isinstance(gates, GateReport) and not session.json:
                session.show(lambda console: show_checks(console, "Not equal", gates.checks))
            raise
    session.result(report, _told)


def _show(console: Console, view: AliasView) -> None:
    console.print(
        facts(
            (
                ("alias", view.alias),
                ("names", ", ".join(view.indices) or "nothing"),
                ("generation", view.generation),
                ("by the database", view.stated or "whatever it names"),
                ("kept current", pairs(view.current)),
            )
        )
    )
    if view.intention is not None:
        say(console, f"A swap is announced ({view.intention}) and not decided: `speakerdb work` does it.")
    if view.problem is not None:
        say(console, f"{view.problem} next: see `speakerdb status`, or `speakerdb alias set GENERATION --why TEXT`")


def _told(console: Console, report: AliasReport) -> None:
    if not report.moved:
        say(console, f"The alias names {report.index} of {report.generation} already.")
        return
    equal = "equal to SQL" if report.check is not None and report.check.verdict == "pass" else "NOT equal to SQL"
    left = " and ".join(report.left) or "nothing"
    say(console, f"The alias names {report.index} of {report.generation} ({equal}); before: {left}.")
