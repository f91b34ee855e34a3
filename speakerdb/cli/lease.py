"""`speakerdb lease`: who works, and the way to take it away from who does not any more."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from speakerdb.cli.screens import lease_text, show_leases
from speakerdb.cli.session import JsonFlag, Session, YesFlag
from speakerdb.cli.show import say
from speakerdb.reports.seeing import LeaseView

app = typer.Typer(no_args_is_help=True, help="Who works, and whether that process still lives.")

_RISKS = {
    "work": "If it lives, what it is extracting is thrown away and extracted again.",
    "migration": "If it lives, the finalize, roll-back or rebuild that it is at ends without effect; an alias change that it"
    " has sent already is decided by whoever comes next.",
    "repair": "If it lives, its run ends; what it has mended stays.",
}


@app.command("list")
def list_(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Every lease, which process holds it, and whether that one still lives as far as can be known from here."""
    session = Session.of(ctx, as_json)
    with session.look() as db:
        session.result(db.overview.leases(), show_leases)


@app.command("break")
def break_(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="work, migration or repair.")],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Why; kept in the events.")],
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Take a lease away from whoever holds it. Asks first.

    Hardly ever needed: a process that died is succeeded within a minute by itself. Its holder, if it lives, commits nothing
    more and stops.
    """
    session = Session.of(ctx, as_json)
    with session.look() as db:
        found = next((one for one in db.overview.leases() if one.name == name), None)
        if found is not None and found.state != "free":
            session.note(lease_text(found))
            risk = _RISKS.get(name, "If it lives, what it is at is thrown away.")
            session.confirm(f"{risk} Take the lease {name!r} away?", yes=yes)
        broken = db.break_lease(name, why=why, epoch=None if found is None else found.epoch)
    session.result(broken, _show)


def _show(console: Console, broken: LeaseView) -> None:
    say(console, f"The lease {broken.name!r} was taken away from {broken.holder} and is free.")
