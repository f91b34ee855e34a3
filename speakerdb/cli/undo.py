"""`speakerdb undo`: takes the last change of names and people back."""

from __future__ import annotations

from typing import Annotated

import typer

from speakerdb.cli.session import WORK_HINT, JsonFlag, Session, WhyOption, YesFlag
from speakerdb.cli.show_people import show_undo

RENAMES = ("speaker-renamed", "profile-renamed", "profile-created", "profile-deleted")
"""What touches no vector, so that nothing is to be worked on afterwards."""


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
        report = db.people.undo(event, why=why, dry_run=dry_run)
    session.result(report, show_undo)
    if report.undone and report.kind not in RENAMES and not session.json:
        session.note(WORK_HINT)
