"""Tokens, and who the caller is."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response
from pydantic import Field

from speakerdb.access import MOST_DAYS
from speakerdb.api.parts import CallerOf, Given, GivenId, Id, Library, Name, Said, because
from speakerdb.api.route import Routes
from speakerdb.reports.access import Role, TokenCreated, TokenView

routes = Routes("tokens")


class NewToken(Said):
    """A new token."""

    id: GivenId = None
    name: Annotated[Name, Field(description="Who uses it; it stands in the events of what is done with it.")]
    role: Role
    days: Annotated[int | None, Field(ge=1, le=MOST_DAYS, description="It expires after so many days.")] = None


class Self(Given):
    """Who asks. `name` is null while there is no token."""

    name: str | None
    role: Role
    address: str


@routes.get("/me", Role.READER, response_model=Self)
def show_caller(caller: CallerOf) -> Self:
    """Whom the server takes you for, and what you may."""
    return Self(name=caller.who, role=caller.role, address=caller.address)


@routes.post("/tokens", Role.ADMIN, "token create", response_model=TokenCreated, status_code=201)
def create_token(given: NewToken, db: Library, response: Response) -> TokenCreated:
    """Make a token. The secret is in this answer and nowhere else; the same `id` again gives the token without it (200)."""
    with because(given.why):
        made = db.access.create(given.name, given.role, given.days, token_id=given.id)
    response.status_code = 200 if made.secret is None else 201
    return made


@routes.get("/tokens", Role.ADMIN, "token list", response_model=list[TokenView])
def list_tokens(db: Library) -> list[TokenView]:
    """Every token that was ever made, the oldest first."""
    return db.access.tokens()


@routes.delete("/tokens/{token}", Role.ADMIN, "token revoke", response_model=TokenView)
def revoke_token(token: Id, db: Library, why: Annotated[str | None, Query(max_length=2000)] = None) -> TokenView:
    """Take a token back: it opens nothing from the next request on."""
    with because(why):
        return db.access.revoke(token)
