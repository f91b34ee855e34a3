"""Rows of tokens, the keys to the HTTP API. What is kept of a secret is its SHA-256."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import sqlalchemy as sa

from speakerdb.catalog.database import Row, Transaction, can_hold
from speakerdb.catalog.schema import tokens


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token as it stands in SQL."""

    id: str
    name: str
    role: str
    digest: str
    who: str
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None


_by_digest = sa.select(tokens).where(tokens.c.digest == sa.bindparam("secret_digest"))


def by_digest(tx: Transaction, digest: str) -> TokenRow | None:
    """The token whose secret has this SHA-256."""
    return _token(tx.execute(_by_digest, {"secret_digest": digest}).one_or_none())


def find(tx: Transaction, token_id: str) -> TokenRow | None:
    """A token by id."""
    if not can_hold(token_id):
        return None
    return _token(tx.execute(sa.select(tokens).where(tokens.c.id == token_id)).one_or_none())


def insert(tx: Transaction, row: TokenRow) -> None:
    """A new token."""
    tx.execute(sa.insert(tokens), [asdict(row)])


def listed(tx: Transaction) -> list[TokenRow]:
    """Every token that was ever made, the oldest first."""
    rows = tx.execute(sa.select(tokens).order_by(tokens.c.created_at, tokens.c.id))
    return [TokenRow(**row._mapping) for row in rows]


def revoke(tx: Transaction, token_id: str, now: int) -> None:
    """From now on it opens nothing."""
    tx.execute(sa.update(tokens).where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None)).values(revoked_at=now))


def used(tx: Transaction, token_id: str, now: int) -> None:
    """Note that it was used."""
    tx.execute(sa.update(tokens).where(tokens.c.id == token_id).values(last_used_at=now))


_any_made = sa.select(tokens.c.id).limit(1)


def any_made(tx: Transaction) -> bool:
    """Whether a token was ever made."""
    return tx.scalar(_any_made) is not None


def _token(row: Row | None) -> TokenRow | None:
    return None if row is None else TokenRow(**row._mapping)
