"""`speakerdb speakers`: voices in recordings, their names and profiles."""

from __future__ import annotations

from typing import Annotated

import typer

from speakerdb.cli.session import MAX_COUNT, WORK_HINT, JsonFlag, Session, WhyOption
from speakerdb.cli.show import show_speaker, show_speakers
from speakerdb.cli.show_people import show_speaker_details, show_split
from speakerdb.errors import InvalidInput
from speakerdb.reports import SpeakerView

app = typer.Typer(no_args_is_help=True, help="Speakers: one voice in one recording.")

SpeakerId = Annotated[str, typer.Argument(metavar="ID", help="The speaker's id, or a unique beginning of it.")]


@app.command("list")
def list_speakers(
    ctx: typer.Context,
    recording: Annotated[str | None, typer.Option(metavar="ID", help="Only of this recording.")] = None,
    profile: Annotated[str | None, typer.Option(metavar="ID", help="Only of this profile.")] = None,
    library: Annotated[str | None, typer.Option(help="Only of this library.")] = None,
    unnamed: Annotated[bool, typer.Option("--unnamed", help="Only those with neither a name nor a profile.")] = False,
    name: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Only those whose name, or whose profile's name, holds this text."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, max=MAX_COUNT, metavar="N", help="At most N.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List speakers with their names and what is embedded."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        found = db.people.speakers(
            recording=recording, profile=profile, library_name=library, unnamed=unnamed, name=name, limit=limit
        )
    session.result(found, show_speakers)


@app.command()
def show(
    ctx: typer.Context,
    speaker: SpeakerId,
    turns: Annotated[int, typer.Option(min=0, max=MAX_COUNT, metavar="N", help="Show the first N turns.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """Show one speaker: its turns with their numbers, and its statistics in every live generation."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.voices.speaker(speaker, turns=turns), show_speaker_details)


@app.command()
def rename(
    ctx: typer.Context,
    speaker: SpeakerId,
    name: Annotated[str | None, typer.Argument(help="The new name.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take its name away.")] = False,
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Name a speaker, or take its name away with --clear."""
    session = Session.of(ctx, as_json)
    if (name is None) != clear:
        raise InvalidInput("Give either a name or `--clear`.", hint="For example `speakerdb speakers rename ID Ada`.")
    with session.open() as db:
        session.result(db.people.rename_speaker(speaker, name, why=why), show_speaker)


@app.command()
def assign(
    ctx: typer.Context,
    speaker: SpeakerId,
    profile: Annotated[
        str | None, typer.Argument(metavar="[PROFILE]", help="The profile's id, or a unique beginning of it.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="PERSON", help="The profile's name instead of its id.")] = None,
    create: Annotated[bool, typer.Option("--create", help="Make the profile where nobody has that name.")] = False,
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say that a speaker is a person: put it into a profile."""
    session = Session.of(ctx, as_json)
    if (profile is None) == (name is None):
        raise InvalidInput(
            "Give either a profile's id or `--name`.", hint="For example `speakerdb speakers assign ID --name Ada`."
        )
    if create and name is None:
        raise InvalidInput("`--create` goes with `--name`.", hint="An id names a profile that is there already.")
    with session.open() as db:
        if name is None:
            view = db.people.assign(speaker, profile, why=why)
        else:
            view = db.people.assign_by_name(speaker, name, create=create, why=why)
    _show_moved(session, view)


@app.command()
def unassign(ctx: typer.Context, speaker: SpeakerId, why: WhyOption = None, as_json: JsonFlag = False) -> None:
    """Take a speaker out of its profile."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        view = db.people.assign(speaker, None, why=why)
    _show_moved(session, view)


def _show_moved(session: Session, view: SpeakerView) -> None:
    session.result(view, show_speaker)
    if not session.json:
        session.note(WORK_HINT)


@app.command()
def split(
    ctx: typer.Context,
    speaker: SpeakerId,
    turns: Annotated[
        str | None, typer.Option(metavar="NUMBERS", help="These turns, by the numbers that `show` prints: 3,5-9.")
    ] = None,
    start: Annotated[
        float | None,
        typer.Option("--from", metavar="SECONDS", help="The turns from this position of the recording on."),
    ] = None,
    end: Annotated[float | None, typer.Option("--to", metavar="SECONDS", help="The turns up to this position.")] = None,
    label: Annotated[
        str | None, typer.Option(metavar="LABEL", help="The new speaker's label. One is made up without.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would move, and change nothing.")] = False,
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a new speaker of some of a speaker's turns: two people were taken for one.

    Whole turns move; none is ever cut. The recording is extracted again by the next `speakerdb work`.
    """
    session = Session.of(ctx, as_json)
    from speakerdb.people.splitting import Choice

    with session.open() as db:
        report = db.people.split(speaker, Choice(turns, start, end), label=label, why=why, dry_run=dry_run)
        session.result(report, show_split)
