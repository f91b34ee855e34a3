"""Who may ask what of the HTTP API."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Role(StrEnum):
    """What a token allows. Each role may do what those before it may."""

    READER = "reader"
    """Ask: lists, matches, status."""
    OPERATOR = "operator"
    """Change what the library holds and what things are called, and let it work."""
    ADMIN = "admin"
    """Change what serves: migrations' swaps, the alias, leases, live settings, tokens."""

    def allows(self, wanted: Role) -> bool:
        """Whether this role may do what `wanted` may."""
        order = list(Role)
        return order.index(self) >= order.index(wanted)


@dataclass(frozen=True, slots=True)
class TokenView:
    """A key to the HTTP API, without its secret. Instants are microseconds since the epoch in UTC."""

    id: str
    name: str
    role: Role
    state: Literal["valid", "expired", "revoked"]
    who: str
    """Who made it."""
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    last_used_at: int | None
    """When it was first used on the last day of its use."""


@dataclass(frozen=True, slots=True)
class TokenCreated:
    """A new token. `secret` is shown this once; None where the token was made by an earlier call with the same id."""

    token: TokenView
    secret: str | None
