"""`speakerdb profiles`: persons across recordings."""

from __future__ import annotations

from typing import Annotated

import typer

from speakerdb.cli.session import MAX_COUNT, WORK_HINT, JsonFlag, Session, WhyOption, YesFlag
from speakerdb.cli.show import show_profiles
from speakerdb.cli.show_people import show_profile_details

app = typer.Typer(no_args_is_help=True, help="Profiles: one person across recordings.")

ProfileId = Annotated[str, typer.Argument(metavar="ID", help="The profile's id, or a unique beginning of it.")]


@app.command("list")
def list_profiles(
    ctx: typer.Context,
    library: Annotated[str | None, typer.Option(help="Only of this library.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List profiles."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.people.profiles(library_name=library), show_profiles)


@app.command()
def show(
    ctx: typer.Context,
    profile: ProfileId,
    rows: Annotated[
        int, typer.Option(min=0, max=MAX_COUNT, metavar="N", help="Show at most N rows of each list.")
    ] = 20,
    as_json: JsonFlag = False,
) -> None:
    """Show one profile: how well its speakers fit together, who does not fit, and where the person appears."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.voices.profile(profile, rows=rows), show_profile_details)


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The person's name.")],
    library: Annotated[str, typer.Option(help="The library it belongs to.")] = "default",
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Create a profile."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        view = db.people.create_profile(name, library_name=library, why=why)
        session.result(view, lambda console, value: show_profiles(console, [value]))


@app.command()
def rename(
    ctx: typer.Context,
    profile: ProfileId,
    name: Annotated[str, typer.Argument(help="The new name.")],
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Rename a profile."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        view = db.people.rename_profile(profile, name, why=why)
        session.result(view, lambda console, value: show_profiles(console, [value]))


@app.command()
def merge(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The profile that ends; its id still leads to the other.")
    ],
    into: Annotated[str, typer.Argument(metavar="INTO", help="The profile that stays.")],
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say that two profiles are one person. `speakerdb undo` takes it back."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        view = db.people.merge_profiles(source, into, why=why)
        session.result(view, lambda console, value: show_profiles(console, [value]))
    if not session.json:
        session.note(WORK_HINT)


@app.command()
def delete(
    ctx: typer.Context,
    profile: ProfileId,
    yes: YesFlag = False,
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Delete a profile that no speaker belongs to. `speakerdb undo` takes it back."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        if not yes:
            session.check_terminal()
            found = db.people.profile(profile)
            session.confirm(f"Delete the profile {found.name} ({found.id})?", yes=yes)
        view = db.people.delete_profile(profile, why=why)
        session.result(view, lambda console, value: show_profiles(console, [value]))
