"""`speakerdb plot`: a picture of the library."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from speakerdb.cli.session import JsonFlag, Session
from speakerdb.cli.show import say
from speakerdb.reports.seeing import Picture


class PlotKind(StrEnum):
    """What can be drawn."""

    SIMILARITIES = "similarities"
    PROGRESS = "progress"
    SPEECH = "speech"
    TALK = "talk"
    VOICE = "voice"
    CHANGE = "change"
    OVERLAPS = "overlaps"


def plot(
    ctx: typer.Context,
    kind: Annotated[
        PlotKind,
        typer.Argument(metavar="KIND", help="similarities, progress, speech, talk, voice, change or overlaps."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to, as .svg, .png or .pdf; KIND.svg in this folder unless given."),
    ] = None,
    library: Annotated[str | None, typer.Option(help="Only of this library.")] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="ID", help="Of this person alone: talk, voice or change.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Draw a picture: similarities of same and different profiles, progress over time, seconds of speech by speaker; who
    talks how much, how voices sound, how they change over the years, or how much is overlap."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        drawn = db.plots.draw(kind.value, out or Path(f"{kind.value}.svg"), library_name=library, profile=profile)
    session.result(drawn, show_picture)


def show_picture(console: Console, picture: Picture) -> None:
    """Where the picture is."""
    say(console, f"{picture.kind} drawn into {picture.path}")
