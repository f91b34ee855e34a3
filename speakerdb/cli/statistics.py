"""`speakerdb statistics`: how people talk, and how their voices sound."""

from __future__ import annotations

from typing import Annotated

import typer

from speakerdb.cli.session import MAX_COUNT, JsonFlag, Session
from speakerdb.cli.show_statistics import show_library_talk, show_profile_talk, show_speaker_talk

app = typer.Typer(no_args_is_help=True, help="How people talk and how their voices sound.")

Rows = Annotated[int, typer.Option(min=0, max=MAX_COUNT, metavar="N", help="Show at most N rows of each list.")]


@app.command()
def speaker(
    ctx: typer.Context,
    speaker: Annotated[str, typer.Argument(metavar="ID", help="The speaker's id, or a unique beginning of it.")],
    as_json: JsonFlag = False,
) -> None:
    """One voice in one recording: how much it talks, interruptions, overlap, speech rate, level and pitch."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.statistics.speaker(speaker), show_speaker_talk)


@app.command()
def profile(
    ctx: typer.Context,
    profile: Annotated[str, typer.Argument(metavar="ID", help="The profile's id, or a unique beginning of it.")],
    rows: Rows = 20,
    as_json: JsonFlag = False,
) -> None:
    """One person across recordings: the same, by month, and how the voice changed over the years."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.statistics.profile(profile, rows=rows), show_profile_talk)


@app.command()
def library(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The library's name.")] = "default",
    rows: Rows = 20,
    as_json: JsonFlag = False,
) -> None:
    """A library: totals, how much of its talk is overlap, and the people who talk most."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.statistics.library(name, rows=rows), show_library_talk)
