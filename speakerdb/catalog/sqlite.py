"""SQLite as the catalog's database: a file, in WAL mode, durable on power loss, with foreign keys on.

Transactions that write begin IMMEDIATE, so that what they read first cannot change before they write.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from speakerdb.errors import BackendError, DatabaseReadOnly, DatabaseUnavailable, SpeakerDBError, StorageFull
from speakerdb.reports.mending import DoctorCheck

# Primary result codes, https://www.sqlite.org/rescode.html
_ERRORS: dict[int, tuple[type[BackendError], str]] = {
    5: (DatabaseUnavailable, "The database is locked by another process."),
    6: (DatabaseUnavailable, "The database is locked."),
    8: (DatabaseReadOnly, "The database cannot be written."),
    10: (DatabaseUnavailable, "Reading or writing the database file failed."),
    11: (DatabaseUnavailable, "The database file is damaged."),
    13: (StorageFull, "The disk that holds the database is full."),
    14: (DatabaseUnavailable, "The database file cannot be opened."),
    26: (DatabaseUnavailable, "The file is not a database."),
}


class SQLite:
    """A database in a file (`path`; None for one in memory or given as a URI)."""

    backing_up = "A database in memory is gone when its process ends: set `database_url` to a file."
    restoring = "Restore the latest backup with `speakerdb restore FILE`; keep the damaged file until it is done."

    def __init__(self, url: sa.URL, *, patience: float, as_it_is: bool = False) -> None:
        """`patience`: seconds to wait for another process's lock. `as_it_is`: do not put the file into WAL mode first."""
        name = url.database or ""
        self.path = None if name in ("", ":memory:") or name.startswith("file:") else Path(name).absolute()
        self.url = url.render_as_string(hide_password=True)
        self._patience = patience
        # The parameters of a failing statement are vectors and people's names: never in a message.
        self.engine = sa.create_engine(url, connect_args={"timeout": patience}, hide_parameters=True)
        if not as_it_is:
            sa.event.listen(self.engine, "connect", self._configure)
        sa.event.listen(self.engine, "connect", _no_implicit_begin)

    def now(self) -> int:
        """This machine's clock."""
        return time.time_ns() // 1000

    @staticmethod
    def begin(connection: sa.Connection, *, writing: bool) -> None:
        """Begin a transaction; one that writes waits here for the one that is writing."""
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    @staticmethod
    def translation(error: BaseException) -> SpeakerDBError | None:
        """A driver's error as ours, by its result code; None for one that is a fault of our own."""
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return None
        known = _ERRORS.get(code & 0xFF)
        if known is None:
            return None
        kind, message = known
        return kind(message, sqlite_error=getattr(error, "sqlite_errorname", str(code)))

    @staticmethod
    def damage(tx: sa.Connection) -> list[str]:
        """What SQLite's own check finds wrong with the file; empty where it is sound. Reads every page once."""
        found = [str(row[0]) for row in tx.execute(sa.text("PRAGMA quick_check(5)"))]
        return [] if found == ["ok"] else found

    @staticmethod
    def checks(_tx: sa.Connection) -> Iterator[DoctorCheck]:
        """There is no server to look at."""
        return iter(())

    def _configure(self, connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        try:
            cursor.execute(f"PRAGMA busy_timeout = {int(self._patience * 1000)}")
            cursor.execute("PRAGMA foreign_keys = ON")
            if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = FULL")
        finally:
            cursor.close()


def _no_implicit_begin(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
