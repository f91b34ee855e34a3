"""`speakerdb live`: settings that every process follows within seconds, without a restart."""

from __future__ import annotations

from typing import Annotated

import typer

from speakerdb.cli.screens import show_live
from speakerdb.cli.session import JsonFlag, Session, WhyOption

app = typer.Typer(no_args_is_help=True, help="Settings that every process follows within seconds.")

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="paused, concurrency, quiet_hours or preference.", show_default=False)
]
LibraryOption = Annotated[str | None, typer.Option(help="For this library only; of `preference` alone.")]


@app.command()
def show(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """What is set, who set it and why."""
    session = Session.of(ctx, as_json)
    with session.look() as db:
        session.result(db.live.get(fresh=True), show_live)


@app.command("set")
def set_(
    ctx: typer.Context,
    name: NameArgument,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="What it is to be; see below.", show_default=False)],
    library: LibraryOption = None,
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Set one. Every process that works with the library follows it within seconds."""
    session = Session.of(ctx, as_json)
    with session.look() as db:
        session.result(db.live.set(name, value, library=library, why=why), show_live)


@app.command()
def clear(
    ctx: typer.Context,
    name: NameArgument,
    library: LibraryOption = None,
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Give one its ordinary meaning again."""
    session = Session.of(ctx, as_json)
    with session.look() as db:
        session.result(db.live.clear(name, library=library, why=why), show_live)
