"""`speakerdb undo`: takes the last change of names and people back."""

from __future__ import annotations

from typing import Annotated

import typer

from speakerdb.cli.session import JsonFlag, Session, YesFlag
from speakerdb.cli.show_people import show_undo

WhyOption = Annotated[str | None, typer.Option("--why", metavar="TEXT", help="Why; it is kept in the audit trail.")]
"""Of every verb that changes names or people."""


def undo(
    ctx: typer.Context,
    event: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=2**63 - 1,
            metavar="ID",
            help="The change of this event, instead of the last. See `speakerdb events`.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be taken back, and change nothing.")
    ] = False,
    yes: YesFlag = False,
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Take back the last change of names and people that still stands. Run it again for the one before.

    A name, an assignment, a split, and a profile that was created, renamed, merged or deleted can be taken back. A change
    is refused where something has changed since that would be lost.
    """
    session = Session.of(ctx, as_json)
    with session.open() as db:
        if not (dry_run or yes):
            session.check_terminal()
            planned = db.people.undo(event, dry_run=True)
            session.show(lambda console: show_undo(console, planned))
            session.confirm("Take it back?", yes=yes)
            event = planned.event  # what was shown, whatever happened meanwhile
        session.result(db.people.undo(event, why=why, dry_run=dry_run), show_undo)
