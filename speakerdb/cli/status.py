"""`speakerdb status` and `speakerdb events`."""

from __future__ import annotations

from typing import Annotated

import typer

from speakerdb.cli.session import JsonFlag, Session
from speakerdb.cli.show import show_events, show_status


def status(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """What serves, what runs, what waits, what is broken."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.status(), show_status)


def events(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most N, newest first.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """The audit trail: who did what, newest first."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.events(limit=limit), show_events)
