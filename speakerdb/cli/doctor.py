"""`speakerdb doctor`: look at everything a run depends on."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from speakerdb.cli.output import clean
from speakerdb.cli.session import JsonFlag, Session
from speakerdb.cli.show import say
from speakerdb.errors import SpeakerDBError
from speakerdb.reports.mending import DoctorCheck, DoctorReport
from speakerdb.settings import Settings

NAME_WIDTH = 18


def doctor(
    ctx: typer.Context,
    no_network: Annotated[
        bool, typer.Option("--no-network", help="Do not ask the hub for models that are not here.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Look at Python, torch, CUDA, decoding, models, disk, database, index and clock, and say what mends what is broken.

    Changes and creates nothing. Exit status 1 where a check fails.
    """
    session = Session.of(ctx, as_json)
    report = examined(session, network=not no_network, show=not session.json)
    session.result(report, _show_verdict)
    if report.verdict == "fail":
        raise typer.Exit(1)


def examined(session: Session, *, network: bool, show: bool) -> DoctorReport:
    """Every check, each shown as soon as it is done; also where the settings cannot be read."""
    from speakerdb.doctor import examine

    settings: Settings | None = None
    problem: SpeakerDBError | None = None
    try:
        settings = session.settings()
    except SpeakerDBError as error:
        problem = error
    checks: list[DoctorCheck] = []
    for check in examine(settings, network=network, problem=problem):
        checks.append(check)
        if show:
            _show_check(session.out, check)
    return DoctorReport.of(tuple(checks))


def _show_check(console: Console, check: DoctorCheck) -> None:
    say(console, f"{check.verdict:<8}{clean(check.name):<{NAME_WIDTH}}{check.found}")
    if check.mend and check.verdict != "pass":
        say(console, f"{'':<{8 + NAME_WIDTH}}next: {check.mend}")


def _show_verdict(console: Console, report: DoctorReport) -> None:
    failed = [check.name for check in report.checks if check.verdict == "fail"]
    warned = [check.name for check in report.checks if check.verdict == "warn"]
    if failed:
        say(console, f"Broken: {', '.join(failed)}.")
    elif warned:
        say(console, f"Nothing is broken; look at: {', '.join(warned)}.")
    else:
        say(console, "Nothing is broken.")
