"""Connections, transactions and time. The only room that knows which database it is.

SQLite runs in WAL mode with `synchronous=FULL` (durable on power loss) and foreign keys on; transactions that write begin
IMMEDIATE, so that what they read first cannot change before they write. Driver errors are translated here, once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from speakerdb.errors import (
    BackendError,
    ConfigurationError,
    DatabaseReadOnly,
    DatabaseUnavailable,
    LeaseLost,
    SpeakerDBError,
    StorageFull,
)

Transaction: TypeAlias = sa.Connection
Row: TypeAlias = sa.Row[Any]
Item = TypeVar("Item")

IDS_A_STATEMENT = 5000
"""A statement holds only so many parameters: 32,766 in SQLite, unless it was built with more."""
BUSY_TIMEOUT_SECONDS = 30.0
FENCE_POLL_SECONDS = 0.02

# Primary result codes, https://www.sqlite.org/rescode.html
_SQLITE_ERRORS: dict[int, tuple[type[BackendError], str]] = {
    5: (DatabaseUnavailable, "The database is locked by another process."),
    6: (DatabaseUnavailable, "The database is locked."),
    8: (DatabaseReadOnly, "The database cannot be written."),
    10: (DatabaseUnavailable, "Reading or writing the database file failed."),
    11: (DatabaseUnavailable, "The database file is damaged."),
    13: (StorageFull, "The disk that holds the database is full."),
    14: (DatabaseUnavailable, "The database file cannot be opened."),
    26: (DatabaseUnavailable, "The file is not a database."),
}


class Database:
    """An engine with our transaction rules. Threads may share it; processes open their own."""

    def __init__(self, url: str, *, clock: Callable[[], int] | None = None, as_it_is: bool = False) -> None:
        """`as_it_is` opens a file that is only to be read without putting it into WAL mode first."""
        try:
            parsed = sa.make_url(url)
        except sa.exc.ArgumentError as error:
            raise ConfigurationError("The setting database_url is not an address.") from error
        if parsed.get_backend_name() != "sqlite":
            raise ConfigurationError(
                f"Databases of the kind {parsed.get_backend_name()!r} are not supported.",
                hint="Use an address that begins with sqlite:///",
            )
        self.url = parsed.render_as_string(hide_password=True)
        name = parsed.database or ""
        self.path = None if name in ("", ":memory:") or name.startswith("file:") else Path(name).absolute()
        self._clock = clock or _now
        # The parameters of a failing statement are vectors and people's names: never in a message.
        self._engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_SECONDS}, hide_parameters=True)
        if not as_it_is:
            sa.event.listen(self._engine, "connect", _configure_sqlite)
        sa.event.listen(self._engine, "connect", _no_implicit_begin)
        sa.event.listen(self._engine, "begin", _begin_sqlite)
        sa.event.listen(self._engine, "handle_error", _translate)
        self._writing = self._engine.execution_options(speakerdb_begin="BEGIN IMMEDIATE")

    def now(self) -> int:
        """Microseconds since the epoch by the database's clock (SQLite has this machine's)."""
        return self._clock()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A transaction that sees one point in time."""
        with self._engine.begin() as tx:
            yield tx

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that may write. Committed at the end of the block, rolled back when it raises."""
        with self._writing.begin() as tx:
            yield tx

    @contextmanager
    def raw(self) -> Iterator[Any]:
        """The driver's own connection, outside of any transaction; its errors are translated as all others."""
        try:
            pooled = self._engine.raw_connection()
            try:
                yield pooled.driver_connection
            finally:
                pooled.close()
        except self._engine.dialect.loaded_dbapi.Error as error:
            translated = translation(error)
            if translated is None:
                raise
            raise translated from error

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def lease_lost(name: str) -> LeaseLost:
    return LeaseLost(
        f"This process no longer holds the lease {name!r}; another one has taken over.",
        hint="Nothing of this step was committed. See `speakerdb status` for who works now.",
        lease=name,
    )


def _now() -> int:
    return time.time_ns() // 1000


def _no_implicit_begin(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_SECONDS * 1000)}")
        cursor.execute("PRAGMA foreign_keys = ON")
        if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
    finally:
        cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("speakerdb_begin", "BEGIN"))


def _translate(context: sa.engine.ExceptionContext) -> SpeakerDBError | None:
    return translation(context.original_exception)


def translation(error: BaseException) -> SpeakerDBError | None:
    """A driver's error as ours, by its code; None for one that is a fault of our own."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    known = _SQLITE_ERRORS.get(code & 0xFF)
    if known is None:
        return None
    kind, message = known
    return kind(message, sqlite_error=getattr(error, "sqlite_errorname", str(code)))


def parts(items: Sequence[Item], size: int | None = None) -> Iterator[Sequence[Item]]:
    """The same in order, some at a time: as many as one statement holds, unless `size` says less."""
    step = IDS_A_STATEMENT if size is None else size
    for start in range(0, len(items), step):
        yield items[start : start + step]


def upsert(dialect: str, table: sa.Table) -> Any:
    """An INSERT that knows ON CONFLICT in the dialect's own way."""
    if dialect != "sqlite":
        raise ConfigurationError(f"Databases of the kind {dialect!r} are not supported.")
    return sqlite.insert(table)


@contextmanager
def savepoint(tx: Transaction) -> Iterator[None]:
    """A part of a transaction that is taken back alone when it raises.

    Not after a `BackendError`: SQLite ends the whole transaction by itself when the disk is full, and whatever came after
    that would be committed statement by statement. It goes through, and takes the transaction with it.
    """
    nested = tx.begin_nested()
    try:
        yield
    except BackendError:
        raise
    except BaseException:
        nested.rollback()
        raise
    nested.commit()
