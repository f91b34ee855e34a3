"""`speakerdb explain`: where one thing stands, why, and what happens next."""

from __future__ import annotations

from typing import Annotated

import typer

from speakerdb.cli.screens import show_explanation
from speakerdb.cli.session import JsonFlag, Session


def explain(
    ctx: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="A recording, speaker or profile: its id, the beginning of it, or a file's path."
        ),
    ],
    as_json: JsonFlag = False,
) -> None:
    """Where a recording, a speaker or a profile stands in each generation, why, and what happens next.

    Of something that was removed it tells what the events still know.
    """
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.explain.about(what), show_explanation)
