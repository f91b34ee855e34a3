"""Tokens: who may use the HTTP API, as what, and for how long.

A secret has 256 random bits, is shown once and stored as its SHA-256: nobody can guess it, so nothing slower is needed.
Once a token was made, nobody gets in without one, also when all of them are revoked or expired: that an expiry opens a
door is nothing that anybody expects.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import Literal

from speakerdb.catalog import journal, library, schema, tokens
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.tokens import TokenRow
from speakerdb.core.texts import MAX_ID_LENGTH, flaw
from speakerdb.errors import AlreadyExists, BackendError, InvalidInput, NotFound
from speakerdb.reports.access import Role, TokenCreated, TokenView

PREFIX = "sdb_"
"""What every secret begins with, so that a scanner for secrets, and our own log, can know one."""
SECRET_BYTES = 32
DAY = 24 * 3600 * 1_000_000
"""Microseconds."""
MOST_DAYS = 3650
_LONGEST_SECRET = 200
NOTED_AGAIN_SECONDS = 60.0
"""For so long nobody tries to note that a token is used, where the database could not be written."""

logger = logging.getLogger("speakerdb.access")


class Access:
    """Makes, checks and revokes tokens."""

    def __init__(self, catalog: Catalog, *, who: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._catalog = catalog
        self._who = who
        self._clock = clock
        self._noting = threading.Lock()
        self._note_after = float("-inf")

    def create(
        self, name: str, role: Role, days: int | None = None, *, token_id: str | None = None, why: str | None = None
    ) -> TokenCreated:
        """A new token; it expires after so many days, or never. The secret is in the answer and nowhere else.

        With an id of the caller's it may be repeated: the same again gives the token without its secret,
        `AlreadyExists` where the id is another one's. Raises `InvalidInput`.
        """
        library.storable(name, "token")
        if days is not None and not 1 <= days <= MOST_DAYS:
            raise InvalidInput(f"A token lasts 1 to {MOST_DAYS:,} days.", hint="Leave the days out for one that lasts.")
        if token_id is not None and (found := flaw(token_id, MAX_ID_LENGTH)) is not None:
            raise InvalidInput(f"The id of a token {found}.")
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        with self._catalog.job() as tx:
            now = self._catalog.now()
            known = None if token_id is None else tokens.find(tx, token_id)
            if known is not None:
                if (known.name, known.role, _days(known)) != (name, role.value, days):
                    raise AlreadyExists(f"The token {known.id!r} is there already, and is another one.")
                return TokenCreated(_view(known, now), None)
            who = journal.actor().who or self._who
            expires = None if days is None else now + days * DAY
            row = TokenRow(token_id or library.new_id("tok"), name, role.value, _digest(secret), who, now, expires)
            tokens.insert(tx, row)
            journal.record(
                tx, "token-created", self._who, now, entity_id=row.id, why=why,
                name=name, role=role.value, expires_at=expires,
            )  # fmt: skip
            return TokenCreated(_view(row, now), secret)

    def check(self, secret: str) -> TokenView | None:
        """The token of a secret, if it is valid now; None for one that is unknown, expired or revoked."""
        if len(secret) > _LONGEST_SECRET:
            return None
        digest = _digest(secret)
        with self._catalog.read() as tx:
            row = tokens.by_digest(tx, digest)
        if row is None or not hmac.compare_digest(row.digest, digest):
            return None
        now = self._catalog.now()
        view = _view(row, now)
        if view.state != "valid":
            return None
        if row.last_used_at is None or row.last_used_at // DAY != now // DAY:
            self._note_use(row.id, now)
        return view

    def revoke(self, given: str, *, why: str | None = None) -> TokenView:
        """Take a token back, by id or the beginning of one; it opens nothing from the next request on. May be repeated."""
        with self._catalog.job() as tx:
            now = self._catalog.now()
            row = self._find(tx, given)
            if row.revoked_at is None:
                tokens.revoke(tx, row.id, now)
                journal.record(
                    tx, "token-revoked", self._who, now, entity_id=row.id, why=why, name=row.name, role=row.role
                )
            return _view(self._find(tx, row.id), now)

    def token(self, given: str) -> TokenView:
        """One token, by id or the beginning of one."""
        with self._catalog.read() as tx:
            return _view(self._find(tx, given), self._catalog.now())

    def tokens(self) -> list[TokenView]:
        """Every token that was ever made, the oldest first."""
        with self._catalog.read() as tx:
            now = self._catalog.now()
            return [_view(row, now) for row in tokens.listed(tx)]

    def any_tokens(self) -> bool:
        """Whether a token was ever made; then nobody gets in without one."""
        with self._catalog.read() as tx:
            return tokens.any_made(tx)

    def _note_use(self, token_id: str, now: int) -> None:
        """Who asks must not be turned away because the database cannot be written, nor wait for it each time: one request at
        once waits, and after it none for a while. The next one notes it."""
        if self._clock() < self._note_after or not self._noting.acquire(blocking=False):
            return
        try:
            with self._catalog.job() as tx:
                tokens.used(tx, token_id, now)
        except BackendError as error:
            self._note_after = self._clock() + NOTED_AGAIN_SECONDS
            logger.warning("token-use-not-noted token=%s code=%s", token_id, error.code)
        finally:
            self._noting.release()

    @staticmethod
    def _find(tx: Transaction, given: str) -> TokenRow:
        try:
            row = tokens.find(tx, library.resolve_id(tx, schema.tokens, given, "token"))
        except NotFound as error:
            raise NotFound(error.message, hint="List them with `speakerdb token list`.") from error
        assert row is not None
        return row


def is_loopback(host: str) -> bool:
    """Whether an address (or `localhost`) is of this machine alone."""
    name = host.strip().removeprefix("[").removesuffix("]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _days(row: TokenRow) -> int | None:
    return None if row.expires_at is None else (row.expires_at - row.created_at) // DAY


def _view(row: TokenRow, now: int) -> TokenView:
    state: Literal["valid", "expired", "revoked"] = "valid"
    if row.revoked_at is not None:
        state = "revoked"
    elif row.expires_at is not None and row.expires_at <= now:
        state = "expired"
    return TokenView(
        row.id, row.name, Role(row.role), state, row.who,
        row.created_at, row.expires_at, row.revoked_at, row.last_used_at,
    )  # fmt: skip
