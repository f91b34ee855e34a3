"""`speakerdb work`: drain the queue."""

from __future__ import annotations

from typing import Annotated

import typer

from speakerdb.cli.live import run_work
from speakerdb.cli.session import MAX_COUNT, JsonFlag, Session
from speakerdb.cli.show import show_work


def work(
    ctx: typer.Context,
    forever: Annotated[bool, typer.Option("--forever", help="Wait for more when the queue is empty.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, max=MAX_COUNT, metavar="N", help="Stop after N recordings.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Queue what failed again first.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Extract what is queued, until the queue is empty. Continues whatever was stopped or killed.

    Ends with the exit code of the first recording that failed, if one did.
    """
    session = Session.of(ctx, as_json)
    with session.open() as db:
        report, exit_code = run_work(
            session, db, again="Run `speakerdb work` to continue.", limit=limit, forever=forever, retry=retry
        )
    session.result(report, show_work)
    raise typer.Exit(exit_code)
