"""What is asked of a database file about its health, without making one."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from speakerdb.catalog.database import Database, Transaction
from speakerdb.catalog.schema import events, projections
from speakerdb.errors import ConfigurationError


def file_of(url: str) -> Path | None:
    """The file of an SQLite address; None for a database in memory or on a server."""
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise ConfigurationError("The setting database_url is not an address.") from error
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def kind_of(url: str) -> str:
    """The kind of database that an address names, as it begins; nothing else of it."""
    kind, _, rest = url.partition("://")
    return kind if rest and kind.replace("+", "").isalnum() else "unknown"


def secrets_of(url: str) -> tuple[str, ...]:
    """The secrets in an address."""
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        return (url,)
    given = [
        parsed.password,
        *(value for name, value in parsed.query.items() if "password" in name or "secret" in name),
    ]
    return tuple(str(value) for value in given if value)


def hosts_of(url: str) -> tuple[str, ...]:
    """The servers that an address names, but for names without a dot, which may be any word."""
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        return ()
    more = parsed.query.get("host", ())
    named = [parsed.host or "", *((more,) if isinstance(more, str) else more)]
    return tuple(one for name in named for one in name.split(",") if "." in one and "/" not in one)


def newest(tx: Transaction) -> int:
    """The latest instant that the database knows (of an event, or a version), in microseconds; 0 for an empty one."""
    return max(
        int(tx.scalar(sa.select(sa.func.max(events.c.at))) or 0),
        int(tx.scalar(sa.select(sa.func.max(projections.c.version))) or 0),
    )


def write_nothing(database: Database) -> None:
    """Begin a transaction that could write, and end it. Raises what keeps the database from being written."""
    with database.write() as tx:
        tx.execute(sa.text("SELECT 1"))
