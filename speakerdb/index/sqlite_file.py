"""The SQLite file under the embedded index: opening, its schema, transactions, and its errors as ours."""

# ruff: noqa: S608 - names of tables are made of integers of our own, never of what was given.

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from speakerdb.core.digests import bucket_of, digest_of
from speakerdb.errors import (
    BackendError,
    ConfigurationError,
    DatabaseReadOnly,
    IndexUnavailable,
    InvalidInput,
    SchemaNewer,
    StorageFull,
)

_APPLICATION_ID = 0x53504958  # "SPIX"
_SCHEMA_VERSION = 3
_BUSY_SECONDS = 30.0
_IMMUTABLE = "?immutable=1"

_SCHEMA = (
    # AUTOINCREMENT: an index that is dropped and made again has another id, so no cache takes it for the old one.
    """CREATE TABLE indices (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        dimension INTEGER NOT NULL CHECK (dimension > 0),
        metadata TEXT NOT NULL,
        changes INTEGER NOT NULL DEFAULT 0,
        documents INTEGER NOT NULL DEFAULT 0 CHECK (documents >= 0),
        tombstones INTEGER NOT NULL DEFAULT 0 CHECK (tombstones >= 0),
        newest INTEGER NOT NULL DEFAULT 0,
        purged INTEGER NOT NULL DEFAULT 0)""",
    """CREATE TABLE aliases (
        alias TEXT NOT NULL,
        index_id INTEGER NOT NULL REFERENCES indices (id),
        PRIMARY KEY (alias, index_id)) WITHOUT ROWID""",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)

REBUILD_HINT = "Move the file away and build the index again from SQL with `speakerdb index rebuild GENERATION`."


class IndexFile:
    """One connection that writes and one that reads, each under its own lock; a scan opens one of its own."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path).absolute()
        self._uri = self.path.as_uri()
        self._closed = False
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise IndexUnavailable(f"The folder of the index {self.path} cannot be made: {error.strerror}.") from error
        with self.translated():
            self._open_file()
            self._writer = self.connect()
            self._reader = self.connect()

    def connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _open_file(self) -> None:
        """Make the schema where it is absent. Several processes may do this at once."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                with closing(self.connect()) as connection:
                    self._ensure_schema(connection)
            except sqlite3.OperationalError as error:
                in_read_only_folder = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY_DIRECTORY
                if in_read_only_folder and self._is_at_rest() and not self._uri.endswith(_IMMUTABLE):
                    self._uri += _IMMUTABLE
                    continue
                # Changing to WAL needs the file alone and does not wait for it as other statements do.
                if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def _is_at_rest(self) -> bool:
        """Whether the file alone is the whole database: nothing committed waits in a log beside it."""
        log = self.path.with_name(self.path.name + "-wal")
        return not log.exists() or log.stat().st_size == 0

    def _ensure_schema(self, connection: sqlite3.Connection) -> None:
        if self._has_schema(connection):
            self._upgrade(connection)
            return
        connection.execute("PRAGMA page_size = 8192")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise IndexUnavailable(
                f"The file system of {self.path} cannot hold a SQLite database in WAL mode.",
                hint="Put the data folder on a local disk.",
            )
        connection.execute("BEGIN IMMEDIATE")
        if not self._has_schema(connection):
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute("COMMIT")

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        """Version 1 did not keep an index's highest version; version 2 no digests, and it purged nothing."""
        if _version(connection) == _SCHEMA_VERSION:
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
            ids = [id for (id,) in connection.execute("SELECT id FROM indices")]
            if _version(connection) < 2:
                connection.execute("ALTER TABLE indices ADD COLUMN newest INTEGER NOT NULL DEFAULT 0")
                for id in ids:
                    connection.execute(
                        f"UPDATE indices SET newest = (SELECT ifnull(max(version), 0) FROM documents_{id}) WHERE id = {id}"
                    )
            if _version(connection) < 3:
                connection.execute("ALTER TABLE indices ADD COLUMN purged INTEGER NOT NULL DEFAULT 0")
                for id in ids:
                    _add_digests(connection, f"documents_{id}")
                connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _has_schema(self, connection: sqlite3.Connection) -> bool:
        application, version, tables = connection.execute(
            "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)"
            " FROM pragma_application_id, pragma_user_version"
        ).fetchone()
        if application == _APPLICATION_ID and version > _SCHEMA_VERSION:
            raise SchemaNewer(f"The index {self.path} was written by a newer speakerdb.")
        if application != _APPLICATION_ID and (application, version, tables) != (0, 0, 0):
            raise ConfigurationError(f"{self.path} is a SQLite database, but not an index of speakerdb.")
        return bool(application == _APPLICATION_ID)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """The one place where SQLite's errors become ours: by its error codes, never by text."""
        try:
            yield
        except sqlite3.Error as error:
            raise _translation(error, self.path) from error
        except UnicodeEncodeError as error:
            raise InvalidInput("A name or an id is not valid Unicode text.") from error

    @contextmanager
    def _transaction(
        self, lock: threading.Lock, connection: sqlite3.Connection, begin: str
    ) -> Iterator[sqlite3.Connection]:
        with lock, self.translated():
            self.refuse_closed()
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        return self._transaction(self._read_lock, self._reader, "BEGIN")

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        return self._transaction(self._write_lock, self._writer, "BEGIN IMMEDIATE")

    def refuse_closed(self) -> None:
        if self._closed:
            raise IndexUnavailable(f"The index {self.path} was closed.")

    def close(self) -> None:
        """Close both connections."""
        with self._write_lock, self._read_lock, self.translated():
            self._closed = True
            self._writer.close()
            self._reader.close()


def index_digests(connection: sqlite3.Connection, table: str) -> None:
    """What `digests` reads, and nothing else of a table."""
    connection.execute(f"CREATE INDEX {table}_digest ON {table} (bucket, digest)")


def _add_digests(connection: sqlite3.Connection, table: str) -> None:
    connection.create_function("bucket_of", 1, bucket_of, deterministic=True)
    connection.create_function("digest_of", 3, digest_of, deterministic=True)
    connection.execute(f"ALTER TABLE {table} ADD COLUMN bucket INTEGER")
    connection.execute(f"ALTER TABLE {table} ADD COLUMN digest INTEGER")
    connection.execute(f"UPDATE {table} SET bucket = bucket_of(id), digest = digest_of(id, version, content_hash)")
    index_digests(connection, table)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _primary_code(error: sqlite3.Error) -> int | None:
    """SQLite's result code without its extension; None for errors of the Python module itself."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _translation(error: sqlite3.Error, path: Path) -> BackendError:
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    match _primary_code(error):
        case sqlite3.SQLITE_FULL:
            return StorageFull(f"There is no room left for the index {path}.", sqlite=name)
        case sqlite3.SQLITE_READONLY:
            return DatabaseReadOnly(f"The index {path} cannot be written.", sqlite=name)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return IndexUnavailable(f"The index {path} is damaged, or not a database.", hint=REBUILD_HINT, sqlite=name)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return IndexUnavailable(f"The index {path} was locked for over {_BUSY_SECONDS:.0f} s.", sqlite=name)
        case _:
            return IndexUnavailable(f"The index {path} cannot be used: {error} ({name}).", sqlite=name)
