"""`speakerdb index`: the vector indices."""

from __future__ import annotations

from typing import Annotated

import typer

from speakerdb.cli.output import plural
from speakerdb.cli.session import JsonFlag, Session
from speakerdb.cli.show import say

app = typer.Typer(no_args_is_help=True, help="Vector indices.")


@app.callback()
def group() -> None:
    """Vector indices."""


@app.command()
def rebuild(
    ctx: typer.Context,
    generation: Annotated[str, typer.Argument(metavar="GENERATION", help="For example v4.")],
    as_json: JsonFlag = False,
) -> None:
    """Build a generation's index again from the vectors in SQL, without audio or a model."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        documents = db.rebuild_index(generation)
    text = f"{generation}: {plural(documents, 'document')} written."
    session.result({"generation": generation, "documents": documents}, lambda console, _: say(console, text))
