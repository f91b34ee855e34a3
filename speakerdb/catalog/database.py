"""Connections, transactions and time. What differs between databases is in `sqlite` and `postgresql`, and nowhere else.

One process writes at a time, on either of them; a reader sees one point in time. Driver errors are translated here, once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from speakerdb.catalog.sqlite import SQLite
from speakerdb.errors import (
    BackendError,
    ConfigurationError,
    DatabaseUnavailable,
    InvalidInput,
    LeaseLost,
    SpeakerDBError,
)
from speakerdb.reports.mending import DoctorCheck

if TYPE_CHECKING:
    from speakerdb.catalog.postgresql import PostgreSQL

Transaction: TypeAlias = sa.Connection
Row: TypeAlias = sa.Row[Any]
Item = TypeVar("Item")

IDS_A_STATEMENT = 5000
"""A statement holds only so many parameters: 32,766 in SQLite (unless it was built with more), 65,535 in PostgreSQL."""
BUSY_TIMEOUT_SECONDS = 30.0
WRITER_IDLE_SECONDS = 20.0
"""Less than the patience of those who wait for the writer, and than a lease stands: who stopped keeps nobody from going on."""
FENCE_POLL_SECONDS = 0.02
_STREAMS = "speakerdb_streams"


class Database:
    """An engine with our transaction rules. Threads may share it; processes open their own."""

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], int] | None = None,
        as_it_is: bool = False,
        writer_idle: float = WRITER_IDLE_SECONDS,
    ) -> None:
        """`as_it_is` opens a file that is only to be read without putting it into WAL mode first. `writer_idle`: seconds that a
        process may stand still inside a transaction that writes before a server puts it out; a file cannot."""
        self._dialect = _dialect(url, as_it_is=as_it_is, writer_idle=writer_idle)
        self.url = self._dialect.url
        """The address, without secrets."""
        self.path: Path | None = self._dialect.path
        """The database's file; None where it is none."""
        self._clock = clock or self._dialect.now
        self._engine = self._dialect.engine
        sa.event.listen(self._engine, "begin", self._begin)
        sa.event.listen(self._engine, "handle_error", self._translate)
        sa.event.listen(self._engine, "after_execute", _remember_stream)
        self._writing = self._engine.execution_options(speakerdb_writes=True)
        self._process = os.getpid()

    def now(self) -> int:
        """Microseconds since the epoch by the database's clock (SQLite has this machine's)."""
        return self._clock()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A transaction that sees one point in time."""
        with self._begun(self._engine) as tx:
            yield tx

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that may write, alone. Committed at the end of the block, rolled back when it raises."""
        with self._begun(self._writing) as tx:
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
            translated = self._dialect.translation(error)
            if translated is None:
                raise
            raise translated from error

    def damage(self) -> list[str]:
        """What the database itself finds wrong with its files; empty where it is sound, or nothing can be known."""
        with self.read() as tx:
            return self._dialect.damage(tx)

    def checks(self) -> Iterator[DoctorCheck]:
        """What is to be known of the server; nothing where there is none."""
        with self.read() as tx:
            yield from self._dialect.checks(tx)

    @property
    def restoring(self) -> str:
        """How a damaged database is mended."""
        return self._dialect.restoring

    @property
    def backing_up(self) -> str:
        """How a database that is no file is backed up, and brought back."""
        return self._dialect.backing_up

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def _begun(self, engine: sa.Engine) -> Iterator[Transaction]:
        if os.getpid() != self._process:
            # A child must not talk on its parent's connections, nor close them.
            self._engine.dispose(close=False)
            self._process = os.getpid()
        connection, transaction = self._connected(engine)
        with connection, transaction:
            try:
                yield connection
            finally:
                if not connection.invalidated:
                    # What was not read to its end must not be closed later, when another transaction has the connection.
                    for result in connection.info.pop(_STREAMS, ()):
                        result.close()

    def _connected(self, engine: sa.Engine) -> tuple[sa.Connection, sa.RootTransaction]:
        """A connection, and its transaction that has begun.

        A server that was restarted leaves dead connections behind, which show at the first word: each that is met is let go,
        and another one is tried, once more than the pool holds. Nothing had been said before, so nothing is done twice.
        The pool itself stays: other threads' connections belong to it.
        """
        pool = engine.pool
        tries = 2 + (pool.checkedin() if isinstance(pool, sa.pool.QueuePool) else 0)
        for left in reversed(range(tries)):
            try:
                connection = engine.connect()
            except sa.exc.TimeoutError as error:
                raise DatabaseUnavailable(
                    "All connections of this process to the database are in use.", hint="Use fewer threads at once."
                ) from error
            try:
                return connection, connection.begin()
            except BaseException as error:
                lost = connection.invalidated
                connection.close()
                if not left or not (lost and isinstance(error, DatabaseUnavailable)):
                    raise
        raise AssertionError("the last time returns or raises")

    def _begin(self, connection: sa.Connection) -> None:
        self._dialect.begin(connection, writing="speakerdb_writes" in connection.get_execution_options())

    def _translate(self, context: sa.engine.ExceptionContext) -> SpeakerDBError | None:
        error = context.original_exception
        if isinstance(error, UnicodeEncodeError):
            return InvalidInput("A text holds a character that cannot be stored.")
        if isinstance(error, OverflowError):
            return InvalidInput("A number is too large to be stored.")
        translated = self._dialect.translation(error)
        if translated is None and context.sqlalchemy_exception is not None:
            # A translation may have cut the driver's words down.
            context.sqlalchemy_exception.args = (f"({type(error).__module__}.{type(error).__name__}) {error}",)
        return translated


def _remember_stream(
    connection: sa.Connection, _statement: Any, _many: Any, _parameters: Any, options: Any, result: Any
) -> None:
    if "yield_per" in options:
        connection.info.setdefault(_STREAMS, []).append(result)


def _dialect(url: str, *, as_it_is: bool, writer_idle: float) -> SQLite | PostgreSQL:
    try:
        parsed = sa.make_url(url)
        kind = parsed.get_backend_name()
    except (sa.exc.ArgumentError, ValueError):
        # Without the cause: it may quote what was given, and with it a password.
        raise ConfigurationError("The setting database_url is not an address.") from None
    if kind == "sqlite":
        return SQLite(parsed, patience=BUSY_TIMEOUT_SECONDS, as_it_is=as_it_is)
    if kind in ("postgresql", "postgres"):
        from speakerdb.catalog.postgresql import PostgreSQL  # its driver is loaded where it is used

        return PostgreSQL(parsed, patience=BUSY_TIMEOUT_SECONDS, writer_idle=writer_idle)
    raise ConfigurationError(
        f"Databases of the kind {kind!r} are not supported.",
        hint="Use an address that begins with sqlite:/// or postgresql+psycopg://",
    )


def lease_lost(name: str, *, over: bool = False, unsure: bool = False) -> LeaseLost:
    """What to raise: somebody else has it; or (`over`) its run has reached its limit; or (`unsure`) it could not be renewed for
    so long that somebody else may have it."""
    if over:
        message, hint = f"The run under the lease {name!r} has reached its limit of time.", "Run it again to go on."
    elif unsure:
        message = f"This process could not renew the lease {name!r} in time; another one may have taken over."
        hint = "Nothing more of this step was done. See `speakerdb status`, then run it again."
    else:
        message = f"This process no longer holds the lease {name!r}; another one has taken over."
        hint = "Nothing of this step was committed. See `speakerdb status` for who works now."
    return LeaseLost(message, hint=hint, lease=name)


def parts(items: Sequence[Item], size: int | None = None) -> Iterator[Sequence[Item]]:
    """The same in order, some at a time: as many as one statement holds, unless `size` says less."""
    step = IDS_A_STATEMENT if size is None else size
    for start in range(0, len(items), step):
        yield items[start : start + step]


def can_hold(text: str) -> bool:
    """Whether every database could hold it: half a character is no text, and PostgreSQL has no NUL in one."""
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)


def held(text: str | None) -> str | None:
    """A text that a person gave, to be stored. `InvalidInput` where a database could not hold it."""
    if text is not None and not can_hold(text):
        raise InvalidInput("A text holds a character that cannot be stored.", hint="Give it without.")
    return text


def cleaned(text: str) -> str:
    """A text of another program's, to be stored: what cannot be is replaced."""
    return text if can_hold(text) else text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def upsert(dialect: str, table: sa.Table) -> Any:
    """An INSERT that knows ON CONFLICT in the dialect's own way."""
    if dialect == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


@lru_cache
def replacing(dialect: str, table: sa.Table, *columns: str) -> sa.Insert:
    """An INSERT that gives these columns their new values where a row of the same primary key is there already."""
    statement = upsert(dialect, table)
    keys = [column.name for column in table.primary_key]
    return statement.on_conflict_do_update(  # type: ignore[no-any-return]
        index_elements=keys, set_={name: statement.excluded[name] for name in columns}
    )


def holds(dialect: str, column: sa.ColumnElement[Any], text: str) -> sa.ColumnElement[bool]:
    """Whether a column holds a text, character by character. (LIKE does not tell "A" from "a" everywhere.)"""
    return (sa.func.instr if dialect == "sqlite" else sa.func.strpos)(column, text) > 0


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
