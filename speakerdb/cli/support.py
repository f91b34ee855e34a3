"""`speakerdb support-bundle`: what somebody else needs to help, without names, paths or secrets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from speakerdb.cli.doctor import examined
from speakerdb.cli.output import size
from speakerdb.cli.session import JsonFlag, Session, open_service
from speakerdb.cli.show import say
from speakerdb.errors import NotFound, SpeakerDBError
from speakerdb.reports.mending import SupportReport
from speakerdb.settings import Settings


def support_bundle(
    ctx: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.zip", help="Where to write it; a dated name in this folder unless given."),
    ] = None,
    network: Annotated[bool, typer.Option("--network", help="Let the doctor ask the hub for models, too.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Pack versions, settings, doctor, status, events and the log into a zip; names, paths and secrets are replaced.

    Works with a broken library, too: what cannot be read is told of inside. Nothing is sent anywhere.
    """
    from speakerdb.support import EVENTS, collect, write

    session = Session.of(ctx, as_json)
    path = out or Path(f"speakerdb-support-{datetime.now(UTC):%Y%m%d-%H%M%S}.zip")
    session.note("Looking at this machine; it takes half a minute.")
    report = examined(session, network=network, show=False)
    try:
        settings: Settings | None = session.settings()
    except SpeakerDBError:
        settings = None
    status, events = _library(settings, EVENTS)
    files, problems = collect(settings, report, status, events, verbs=tuple(_verbs(ctx.find_root().command)))
    session.result(write(path, files, problems), _show)


def _library(settings: Settings | None, limit: int) -> tuple[object, object]:
    """Status and events, or the error that kept each from being read. A library that is not there is not made, and one
    of an older schema is not upgraded."""
    from speakerdb.catalog.health import file_of

    nothing = NotFound("There is no library.")
    if settings is None:
        return nothing, nothing
    try:
        path = file_of(settings.catalog_url)
        if path is not None and not path.is_file():
            return nothing, nothing
        with open_service(settings.model_copy(update={"auto_upgrade": False})) as db:
            return _or_error(db.status), _or_error(lambda: db.events(limit=limit))
    except SpeakerDBError as error:
        return error, error
    except Exception as error:  # noqa: BLE001 - a library so broken that nobody foresaw how is what a bundle is for
        unforeseen = SpeakerDBError(f"The library cannot be opened: {type(error).__name__}.")
        return unforeseen, unforeseen


def _or_error(question: Any) -> object:
    try:
        return question()
    except SpeakerDBError as error:
        return error


def _verbs(command: Any, before: str = "") -> Iterator[str]:
    """Every verb with its groups, ``migrate start``."""
    for name, inner in getattr(command, "commands", {}).items():
        path = f"{before} {name}".strip()
        yield path
        yield from _verbs(inner, path)


def _show(console: Console, report: SupportReport) -> None:
    say(console, f"{report.path}, {size(report.size)}. It holds:")
    for name, what in report.files.items():
        say(console, f"  {name:<15}{what}")
    for problem in report.problems:
        say(console, f"Could not be read: {problem} (told of inside)")
    say(console, "Names, paths and texts are replaced by hashes; look into it before you hand it on. Nothing was sent.")
