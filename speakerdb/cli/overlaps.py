"""`speakerdb overlaps`: where two or more talk at once."""

from __future__ import annotations

from typing import Annotated

import typer

from speakerdb.cli.session import MAX_COUNT, JsonFlag, Session
from speakerdb.cli.show_statistics import show_overlaps

app = typer.Typer(no_args_is_help=True, help="Overlaps: where two or more talk at once.")


@app.command("list")
def list_overlaps(
    ctx: typer.Context,
    recording: Annotated[str | None, typer.Option(metavar="ID", help="Of this recording.")] = None,
    speaker: Annotated[str | None, typer.Option(metavar="ID", help="Those in which this speaker talks.")] = None,
    least_seconds: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="Only those that are at least so long.")
    ] = 0.0,
    limit: Annotated[int | None, typer.Option(min=1, max=MAX_COUNT, metavar="N", help="At most N.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the overlaps of a recording or of a speaker: when, how surely, and who holds the floor."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        found = db.statistics.overlaps(recording=recording, speaker=speaker, least_seconds=least_seconds, limit=limit)
    session.result(found, show_overlaps)
