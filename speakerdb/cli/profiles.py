"""`speakerdb profiles`: persons across recordings."""

from __future__ import annotations

from typing import Annotated

import typer

from speakerdb.cli.session import JsonFlag, Session
from speakerdb.cli.show import show_profiles

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
        session.result(db.profiles(library=library), show_profiles)


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The person's name.")],
    library: Annotated[str, typer.Option(help="The library it belongs to.")] = "default",
    as_json: JsonFlag = False,
) -> None:
    """Create a profile."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.create_profile(name, library=library), lambda console, view: show_profiles(console, [view]))


@app.command()
def rename(
    ctx: typer.Context,
    profile: ProfileId,
    name: Annotated[str, typer.Argument(help="The new name.")],
    as_json: JsonFlag = False,
) -> None:
    """Rename a profile."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.rename_profile(profile, name), lambda console, view: show_profiles(console, [view]))


@app.command()
def merge(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The profile that ends; its id still leads to the other.")
    ],
    into: Annotated[str, typer.Argument(metavar="INTO", help="The profile that stays.")],
    as_json: JsonFlag = False,
) -> None:
    """Say that two profiles are one person."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.merge_profiles(source, into), lambda console, view: show_profiles(console, [view]))
