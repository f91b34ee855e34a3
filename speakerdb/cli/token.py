"""`speakerdb token`: keys to the HTTP API."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from speakerdb.cli.output import table, when
from speakerdb.cli.session import JsonFlag, Session, WhyOption, YesFlag
from speakerdb.cli.show import say
from speakerdb.reports.access import Role, TokenCreated, TokenView

app = typer.Typer(no_args_is_help=True, help="Tokens: keys to the HTTP API.")


@app.callback()
def group() -> None:
    """Tokens: keys to the HTTP API."""


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Who uses it; this name stands in the events of what is done with it.")],
    role: Annotated[Role, typer.Option(help="What it allows.")] = Role.READER,
    days: Annotated[
        int | None, typer.Option(min=1, max=3650, metavar="N", help="It expires after N days; never unless given.")
    ] = None,
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a token, and print its secret, this once. From the first token on, nobody gets in without one."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        made = db.access.create(name, role, days, why=why)
    session.result(made, _show_created)


@app.command("list")
def list_tokens(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """List every token that was ever made. The secrets are not kept."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.access.tokens(), _show_tokens)


@app.command()
def revoke(
    ctx: typer.Context,
    token: Annotated[str, typer.Argument(metavar="ID", help="The token's id, or a unique beginning of it.")],
    yes: YesFlag = False,
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Take a token back: it opens nothing from the next request on. Asks first."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        if not yes:
            session.check_terminal()
            found = db.access.token(token)
            session.confirm(f"Revoke the token {found.name} ({found.id})?", yes=yes)
        session.result(
            db.access.revoke(token, why=why), lambda console, view: say(console, f"{view.name} ({view.id}) is revoked.")
        )


def _show_created(console: Console, made: TokenCreated) -> None:
    token = made.token
    until = "and does not expire" if token.expires_at is None else f"until {when(token.expires_at)}"
    say(console, f"{token.name} ({token.id}), {token.role.value}, {until}. Its secret, shown this once:")
    say(console, str(made.secret))


def _show_tokens(console: Console, tokens: list[TokenView]) -> None:
    rows = [
        (t.id, t.name, t.role.value, t.state, t.who, when(t.created_at), when(t.expires_at), when(t.last_used_at))
        for t in tokens
    ]
    console.print(table(("id", "name", "role", "state", "made by", "made", "expires", "last used"), rows))
