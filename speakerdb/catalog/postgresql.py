"""PostgreSQL as the catalog's database: one writer at a time, as SQLite has, and the server's clock.

A transaction that writes takes one advisory lock of the database before anything else. It is READ COMMITTED: a snapshot of
REPEATABLE READ is made by the first statement, which is the one that waits for the lock, so what the writer before it
committed would be invisible. With the lock each statement sees all that was committed, and nobody else commits: every rule
that holds where BEGIN IMMEDIATE keeps others out holds here. Row locks would add nothing.
Transactions that read are REPEATABLE READ, READ ONLY: one point in time.

This is the only place that knows psycopg.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.abc import PQGen
from psycopg.errors import _WaitTimeout

from speakerdb.errors import (
    ConfigurationError,
    DatabaseReadOnly,
    DatabaseUnavailable,
    InvalidInput,
    SpeakerDBError,
    StorageFull,
)
from speakerdb.reports.mending import DoctorCheck

Result = TypeVar("Result")

OLDEST = 14
"""The oldest major version that is supported."""
WRITE_LOCK = 0x5370_6B72_6442_0001
"""The key of the advisory lock that writers take; advisory locks belong to one database of a server."""
STATEMENT_SECONDS = 600.0
"""How long one statement may take: the server ends it then, and a server that says nothing at all is given up."""
CONNECT_SECONDS = 10
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 30, 10, 3
STEP_BACK = 1_000_000
"""Microseconds. A server's clock that went back by more was set back; less is the noise of measuring."""

_REACH = "See that the database server runs and can be reached by `database_url`, then run it again."
_MEND = "Mend `database_url`: server, port, user, password and database."
_GIVE_ONE = "Put that of the user of `database_url` into the variable PGPASSWORD, or into a password file (PGPASSFILE)."
_NAME = (
    "See that `database_url` names the server as this machine's name service does. In a password an @ is written %40."
)
_GRANT = (
    "Make the user of `database_url` the owner of the database or schema, or give it the rights to create and write."
)
_PRIMARY = "It is a standby, or default_transaction_read_only is set: let `database_url` name the primary, or lift it."

# By the whole SQLSTATE, then by its class, https://www.postgresql.org/docs/current/errcodes-appendix.html
_ERRORS: dict[str, tuple[type[SpeakerDBError], str, str | None]] = {
    "53100": (StorageFull, "The disk of the database server is full.", None),
    "53300": (DatabaseUnavailable, "The database server has as many connections as it allows.",
              "Close others, or raise max_connections on the server; then run it again."),
    "25006": (DatabaseReadOnly, "The database cannot be written.", _PRIMARY),
    "55P03": (DatabaseUnavailable, "The database is locked by another process.",
              "Wait for the process that writes, or stop it; then run it again."),
    "40001": (DatabaseUnavailable, "The database gave the transaction up for another one.", "Run it again."),
    "40P01": (DatabaseUnavailable, "The database gave the transaction up for another one.", "Run it again."),
    "57014": (DatabaseUnavailable, "The database took too long for a statement, or somebody cancelled it.",
              "See what the server is busy with (pg_stat_activity), then run it again."),
    "25P03": (DatabaseUnavailable, "The database ended a transaction that stood still for too long.", "Run it again."),
    "42501": (ConfigurationError, "The database's user may not do this.", _GRANT),
    "3D000": (ConfigurationError, "The database does not exist.", f"Create it with `createdb`. {_MEND}"),
    "3F000": (ConfigurationError, "The database has no schema to work in.", _GRANT),
    "XX001": (DatabaseUnavailable, "The database is damaged.", "Restore it from a backup."),
    "XX002": (DatabaseUnavailable, "The database is damaged.", "Let the server rebuild the index (REINDEX DATABASE)."),
    "22003": (InvalidInput, "A number is too large to be stored.", None),
    "22021": (InvalidInput, "A text holds a character that cannot be stored.", None),
    "22P05": (InvalidInput, "A text holds a character that cannot be stored.", None),
    "08": (DatabaseUnavailable, "The connection to the database server was lost.", _REACH),
    "28": (ConfigurationError, "The database server refuses the user or the password.", _MEND),
    "53": (DatabaseUnavailable, "The database server is short of something it needs.", _REACH),
    "57": (DatabaseUnavailable, "The database server is shutting down, starting, or ended the connection.", _REACH),
    "58": (DatabaseUnavailable, "The database server could not read or write its files.", _REACH),
}  # fmt: skip
# libpq gives no SQLSTATE for a connection that is refused (tried), only the server's words. Where they are not English, the
# answer is that the server cannot be used now, with its words in the message.
_REFUSED = re.compile(
    r"password|authentication|pg_hba|(role|database|user) \".*\" (does not exist|is not permitted)|permission denied"
)
_UNKNOWN_HOST = re.compile(r"failed to resolve host '([^']*)'")
_NUMBERS = re.compile(r" \([0-9a-f.:]+\)(?=,)")
"""The address that a server's name stands for."""
_TOLD = re.compile(r"\b(FATAL|ERROR|PANIC):\s*")


class _Connection(psycopg.Connection[Any]):
    """A connection that does not wait for ever: a server that is stopped keeps its sockets open and says nothing."""

    def wait(self, gen: PQGen[Result], interval: float = 0.1, timeout: float | None = None) -> Result:
        try:
            return super().wait(gen, interval, STATEMENT_SECONDS * 1.1 if timeout is None else timeout)
        except _WaitTimeout as error:
            self.close()  # what the server does with the statement is unknown: nothing else may follow on this one
            raise psycopg.OperationalError("the server did not answer in time") from error


class ServerClock:
    """The server's time without asking for it: what it said last, and what has passed here since by a clock that never jumps.

    Every transaction brings a new reading. An answer that came late tells a time that has passed, and counts only where even
    the time at which it was asked for says so: noise takes no time back. A server whose clock was set back is followed, or
    leases would be fought over.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: tuple[int, int] | None = None
        self._last = 0

    @property
    def known(self) -> bool:
        """Whether the server was ever asked."""
        return self._read is not None

    def learn(self, server: int, asked: int | None = None) -> None:
        """The server said its time, in microseconds since the epoch; it was `asked` then, by `time.monotonic_ns`."""
        with self._lock:
            heard = time.monotonic_ns()
            if self._read is not None:
                said, at = self._read
                then = said + ((heard if asked is None else asked) - at) // 1000
                if then <= server < said + (heard - at) // 1000:
                    return  # its clock agrees with ours, and the answer was under way for the difference
            self._read = server, heard

    def __call__(self) -> int:
        with self._lock:
            assert self._read is not None
            server, at = self._read
            now = server + (time.monotonic_ns() - at) // 1000
            if self._last - STEP_BACK <= now < self._last:
                return self._last
            self._last = now
            return now


class PostgreSQL:
    """A database on a server."""

    path = None
    restoring = (
        "Restore its latest backup with `pg_restore` into an empty database, and let `database_url` name that one."
    )

    def __init__(self, url: sa.URL, *, patience: float, writer_idle: float) -> None:
        """`patience`: seconds to wait for another process's lock. `writer_idle`: a process that stands still for so many
        seconds inside a transaction that writes is put out by the server, because it keeps all other writers waiting."""
        if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
            raise ConfigurationError(
                f"The driver {url.drivername!r} is not supported.",
                hint="Let database_url begin with postgresql+psycopg://",
            )
        self.url = _shown(url)
        address = _shown(url.set(drivername="postgresql", password=None))
        self.backing_up = (
            f'Use the server\'s own tools: `pg_dump --format=custom --file=speakerdb.dump "{address}"`. To bring it back into an'
            " empty database, `pg_restore --no-owner --exit-on-error --dbname=ADDRESS speakerdb.dump`, then"
            " `speakerdb index rebuild --all`."
        )
        self._patience = patience
        self._begin_to_write = _WRITE.format(idle=max(1, round(writer_idle * 1000)))
        self._clock = ServerClock()
        arguments = {
            "connect_timeout": CONNECT_SECONDS, "client_encoding": "utf8", "application_name": "speakerdb",
            "keepalives": 1, "keepalives_idle": KEEPALIVE_IDLE, "keepalives_interval": KEEPALIVE_INTERVAL,
            "keepalives_count": KEEPALIVE_COUNT,
            "tcp_user_timeout": 1000 * (KEEPALIVE_IDLE + KEEPALIVE_INTERVAL * KEEPALIVE_COUNT),
        }  # fmt: skip
        given = url.set(drivername="postgresql+psycopg")
        arguments = {name: value for name, value in arguments.items() if name not in given.query}
        # The parameters of a failing statement are vectors and people's names: never in a message.
        self.engine = sa.create_engine(given, connect_args=arguments, hide_parameters=True, pool_recycle=1800)
        sa.event.listen(self.engine, "do_connect", _connect)
        sa.event.listen(self.engine, "connect", self._configure)

    def now(self) -> int:
        """The server's clock."""
        if not self._clock.known:
            with self.engine.connect() as connection, connection.begin():
                pass  # a transaction's first answer holds the time
        return self._clock()

    def begin(self, connection: sa.Connection, *, writing: bool) -> None:
        """Begin a transaction; one that writes waits here for the one that is writing. One message, one answer."""
        driver: Any = connection.connection.driver_connection
        asked = time.monotonic_ns()
        try:
            with driver.cursor() as cursor:
                cursor.execute(self._begin_to_write if writing else _READ)
                while cursor.nextset():
                    pass
                now, read_only = cursor.fetchone()
        except psycopg.Error as error:
            if driver.closed:
                connection.invalidate(error)
            raise self.translation(error) or error from error
        self._clock.learn(now, asked)
        if writing and read_only == "on":
            raise DatabaseReadOnly("The database cannot be written.", hint=_PRIMARY)

    @staticmethod
    def translation(error: BaseException) -> SpeakerDBError | None:
        """A driver's error as ours, by its SQLSTATE; None for one that is a fault of our own.

        What the driver's own error says is cut down to what no person's data can be in.
        """
        if not isinstance(error, psycopg.Error):
            return None
        state = error.sqlstate
        if state is None:
            return _without_state(error)
        # DETAIL lines quote the row, and errors of class 22 the value.
        told = "" if state.startswith("22") else error.diag.message_primary or ""
        error.args = (f"{told} (SQLSTATE {state})".strip(),)
        known = _ERRORS.get(state) or _ERRORS.get(state[:2])
        if known is None:
            return None
        kind, message, hint = known
        return kind(message, hint=hint, sqlstate=state)

    @staticmethod
    def damage(_tx: sa.Connection) -> list[str]:
        """Nothing is known: a server looks after its own files."""
        return []

    @staticmethod
    def checks(tx: sa.Connection) -> Iterator[DoctorCheck]:
        """Version and settings of the server."""
        asked = ("server_version", "synchronous_commit", "fsync", "full_page_writes", "max_connections")
        activity = sa.table("pg_stat_activity", sa.column("backend_type"))
        used = sa.select(sa.func.count()).where(activity.c.backend_type == "client backend")
        row = tx.execute(
            sa.select(
                *(sa.func.current_setting(name).label(name) for name in asked),
                used.scalar_subquery().label("used"),
            )
        ).one()
        yield DoctorCheck("database server", "pass", f"PostgreSQL {row.server_version}, UTF8")
        unsafe = [name for name in ("fsync", "full_page_writes") if getattr(row, name) == "off"]
        if unsafe:
            yield DoctorCheck(
                "database safety", "warn", f"{' and '.join(unsafe)} off: a power failure can destroy the database",
                f"Switch {' and '.join(unsafe)} on in the server's configuration.",
            )  # fmt: skip
        else:
            yield DoctorCheck("database safety", "pass", f"what is acknowledged is on disk ({row.synchronous_commit})")
        found = f"{row.used} of {row.max_connections} connections are in use"
        if row.used > 0.9 * int(row.max_connections):
            yield DoctorCheck("database clients", "warn", found, "Raise max_connections on the server, or close some.")
        else:
            yield DoctorCheck("database clients", "pass", found)
        yield DoctorCheck("database disk", "skipped", "it is the server's: its room cannot be seen from here")

    def _configure(self, connection: psycopg.Connection[Any], _record: Any) -> None:
        """What every session of ours needs. Set, not passed as `options`: those belong to whoever wrote the address."""
        try:
            _check_server(connection)
            connection.autocommit = True  # we say BEGIN ourselves
            connection.execute(_SESSION, {
                "lock": f"{self._patience * 1000:.0f}ms", "statement": f"{STATEMENT_SECONDS * 1000:.0f}ms",
                "idle": str(KEEPALIVE_IDLE), "interval": str(KEEPALIVE_INTERVAL), "count": str(KEEPALIVE_COUNT),
            })  # fmt: skip
        except psycopg.Error as error:
            connection.close()
            raise self.translation(error) or error from error
        except ConfigurationError:
            connection.close()
            raise


_ASK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, current_setting('transaction_read_only')"
_READ = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_ASK}"
# Not READ WRITE: whoever made the database read-only means it.
_WRITE = (
    "BEGIN ISOLATION LEVEL READ COMMITTED;"
    " SET LOCAL idle_in_transaction_session_timeout = '{idle}ms';"
    f" SELECT pg_advisory_xact_lock({WRITE_LOCK}); {_ASK}"
)
# Durable when it is acknowledged, whatever the server's default is. The keepalives here are the server's own: with them it
# finds that a machine has vanished, and ends its transaction.
_SESSION = """SELECT set_config('lock_timeout', %(lock)s, false), set_config('statement_timeout', %(statement)s, false),
 set_config('tcp_keepalives_idle', %(idle)s, false), set_config('tcp_keepalives_interval', %(interval)s, false),
 set_config('tcp_keepalives_count', %(count)s, false),
 CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', false) END"""


def _connect(_dialect: Any, _record: Any, arguments: list[Any], named: dict[str, Any]) -> Any:
    try:
        return _Connection.connect(*arguments, **named)
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(f"The setting database_url cannot be used: {str(error).strip()}.") from error


def _check_server(connection: psycopg.Connection[Any]) -> None:
    version = connection.info.server_version // 10_000
    if version < OLDEST:
        raise ConfigurationError(
            f"The database server is PostgreSQL {version}; {OLDEST} or newer is needed.", hint="Upgrade the server."
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigurationError(
            f"The database stores text as {encoding}, which cannot hold every name.",
            hint="Create one with `createdb --encoding=UTF8 --template=template0 NAME`, and name it in `database_url`.",
        )


def _without_state(error: psycopg.Error) -> SpeakerDBError | None:
    """Errors that the server did not send: no connection, a lost one, or a value that cannot be sent."""
    if isinstance(error, psycopg.DataError):  # NUL in a text, or half a character
        error.args = (type(error).__name__,)
        return InvalidInput("A text holds a character that cannot be stored.")
    if not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return None
    attempt = error.pgconn
    error._pgconn = None  # it holds the password, for whoever looks into the error
    if unknown := _UNKNOWN_HOST.match(str(error)):
        name = repr(unknown[1])
        if "@" in name:  # what follows an @ in a password is taken for the host, and not to be shown
            name = "of `database_url`"
            error.args = ("failed to resolve the host",)
        return DatabaseUnavailable(f"The host {name} is not known to this machine.", hint=_NAME)
    if attempt is None and not isinstance(error, psycopg.errors.ConnectionTimeout):
        return DatabaseUnavailable("The connection to the database server was lost.", hint=_REACH)
    told = _NUMBERS.sub("", str(error).strip().partition("\n")[0]).rstrip(".")
    if attempt is not None and attempt.needs_password:
        return ConfigurationError("The database server asks for a password, and none is given.", hint=_GIVE_ONE)
    if _TOLD.search(told) and _REFUSED.search(told):
        return ConfigurationError(f"The database server refuses the connection: {_TOLD.split(told)[-1]}.", hint=_MEND)
    return DatabaseUnavailable(f"The database server cannot be used: {told}.", hint=_REACH)


def _shown(url: sa.URL) -> str:
    """The address without secrets, wherever they stand in it."""
    hidden = {name: "***" for name in url.query if "password" in name or "secret" in name}
    return url.update_query_dict(hidden).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")
