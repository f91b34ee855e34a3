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


def quick_check(tx: Transaction) -> list[str]:
    """What SQLite's own check finds wrong with the file; empty where it is sound. Reads every page once."""
    found = [str(row[0]) for row in tx.execute(sa.text("PRAGMA quick_check(5)"))]
    return [] if found == ["ok"] else found


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
