"""`speakerdb db`: the database's schema."""

from __future__ import annotations

import typer

from speakerdb.cli.session import JsonFlag, Session, upgrade_schema
from speakerdb.cli.show import say

app = typer.Typer(no_args_is_help=True, help="The database's schema.")


@app.callback()
def group() -> None:
    """The database's schema."""


@app.command()
def upgrade(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Bring the schema up to this version of speakerdb. Fine to run again, and by two processes at once."""
    session = Session.of(ctx, as_json)
    revision = upgrade_schema(session.settings())
    session.result(
        {"revision": revision}, lambda console, value: say(console, f"The schema is at {value['revision']}.")
    )
