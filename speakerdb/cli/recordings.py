"""`speakerdb recordings`."""

from __future__ import annotations

from typing import Annotated

import typer

from speakerdb.cli.session import MAX_COUNT, JsonFlag, Session
from speakerdb.cli.show import show_recordings

app = typer.Typer(no_args_is_help=True, help="Recordings of the library.")


@app.command("list")
def list_recordings(
    ctx: typer.Context,
    library: Annotated[str | None, typer.Option(help="Only of this library.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, max=MAX_COUNT, metavar="N", help="At most N.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List recordings."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.recordings(library=library, limit=limit), show_recordings)
