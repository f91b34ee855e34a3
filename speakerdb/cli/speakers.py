"""`speakerdb speakers`: voices in recordings, their names and profiles."""

from __future__ import annotations

from typing import Annotated

import typer

from speakerdb.cli.session import JsonFlag, Session
from speakerdb.cli.show import show_speaker, show_speakers
from speakerdb.errors import InvalidInput

app = typer.Typer(no_args_is_help=True, help="Speakers: one voice in one recording.")

SpeakerId = Annotated[str, typer.Argument(metavar="ID", help="The speaker's id, or a unique beginning of it.")]


@app.command("list")
def list_speakers(
    ctx: typer.Context,
    recording: Annotated[str | None, typer.Option(metavar="ID", help="Only of this recording.")] = None,
    profile: Annotated[str | None, typer.Option(metavar="ID", help="Only of this profile.")] = None,
    library: Annotated[str | None, typer.Option(help="Only of this library.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="At most N.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List speakers with their names and what is embedded."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        found = db.speakers(recording=recording, profile=profile, library=library, limit=limit)
    session.result(found, show_speakers)


@app.command()
def show(ctx: typer.Context, speaker: SpeakerId, as_json: JsonFlag = False) -> None:
    """Show one speaker."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.speaker(speaker), show_speaker)


@app.command()
def rename(
    ctx: typer.Context,
    speaker: SpeakerId,
    name: Annotated[str | None, typer.Argument(help="The new name.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take its name away.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Name a speaker, or take its name away with --clear."""
    session = Session.of(ctx, as_json)
    if (name is None) != clear:
        raise InvalidInput("Give either a name or `--clear`.", hint="For example `speakerdb speakers rename ID Ada`.")
    with session.open() as db:
        session.result(db.rename_speaker(speaker, name), show_speaker)


@app.command()
def assign(
    ctx: typer.Context,
    speaker: SpeakerId,
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="The profile's id, or a unique beginning of it.")],
    as_json: JsonFlag = False,
) -> None:
    """Say that a speaker is a person: put it into a profile."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.assign(speaker, profile), show_speaker)


@app.command()
def unassign(ctx: typer.Context, speaker: SpeakerId, as_json: JsonFlag = False) -> None:
    """Take a speaker out of its profile."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.assign(speaker, None), show_speaker)
