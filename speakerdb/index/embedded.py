"""The embedded vector index: documents and aliases in one SQLite file, exact search in memory.

The file is the truth and is durable at every commit (WAL, synchronous=FULL). The matrices are caches: each search reads
the change counter of its index from the file and takes over what changed since, whichever process wrote it.

Threads: an instance may be used from several at once. One connection writes and one reads, each under its own lock, so
that a long write stops no search; a scan has a connection, and with it a snapshot, of its own.

Where file and folder cannot be written, reading works and every write raises `DatabaseReadOnly`. In such a folder, with
no writer at work, the file is opened as immutable: open it again when somebody else has changed it.
"""

# ruff: noqa: S608 - names of tables are made of integers of our own, never of what was given.

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from speakerdb.core.digests import BucketDigest, Mark, bucket_of, digest_of
from speakerdb.errors import (
    AliasMoved,
    IndexExists,
    IndexMissing,
    IndexUnavailable,
    InvalidInput,
)
from speakerdb.index.documents import encoded
from speakerdb.index.matrix import Matrix, checked_queries
from speakerdb.index.sqlite_file import REBUILD_HINT, IndexFile, index_digests
from speakerdb.types import (
    AliasAction,
    Document,
    Filter,
    FloatArray,
    Hit,
    IndexInfo,
    Kind,
    WriteOutcome,
    WriteResult,
)

_LOAD_ROWS = 512
_IDS_A_STATEMENT = 500
_ANY = Filter()
_KINDS = {kind.value: kind for kind in Kind}

_COLUMNS = "id, version, kind, library_id, recording_id, profile_id, vector"


class _Target(NamedTuple):
    """A concrete index as it is in the file."""

    id: int
    name: str
    dimension: int
    changes: int
    documents: int
    purged: int
    """The last change up to which some tombstone was purged: a cache that did not follow it may hold what it buried."""

    @property
    def table(self) -> str:
        return f"documents_{self.id}"


class EmbeddedIndex:
    """A `VectorIndex` in the SQLite file `path`, which is made where it is absent (with its folder)."""

    def __init__(self, path: Path) -> None:
        self._file = IndexFile(path)
        self.path = self._file.path
        self._reading, self._writing = self._file.reading, self._file.writing
        self._matrices: dict[int, Matrix] = {}

    # Indices and aliases

    def create(self, name: str, dimension: int, metadata: Mapping[str, Any]) -> None:
        """Make a concrete index; see the port. `InvalidInput` for an empty name, a dimension below 1, or metadata
        that JSON cannot hold."""
        if not name or dimension < 1:
            raise InvalidInput("An index needs a name and a dimension of at least 1.")
        try:
            text = json.dumps(dict(metadata), sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"The metadata of index {name} cannot be written as JSON: {error}.") from error
        # Looked up first without a write, so that it can be said again of an index that is only to be read.
        with self._reading() as db:
            if _same_index_exists(db, name, dimension, text):
                return
        with self._writing() as db:
            if _same_index_exists(db, name, dimension, text):
                return
            added = db.execute(
                "INSERT INTO indices (name, dimension, metadata) VALUES (?, ?, ?)", (name, dimension, text)
            )
            table = f"documents_{added.lastrowid}"
            db.execute(
                f"CREATE TABLE {table} ("
                " id TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL, content_hash TEXT NOT NULL,"
                " kind TEXT NOT NULL, library_id TEXT NOT NULL, recording_id TEXT, profile_id TEXT,"
                " seq INTEGER NOT NULL,"
                f" vector BLOB CHECK (vector IS NULL OR length(vector) = {4 * dimension}),"
                " bucket INTEGER, digest INTEGER)"
            )
            db.execute(f"CREATE INDEX {table}_seq ON {table} (seq)")
            index_digests(db, table)

    def drop(self, name: str, *, token: str | None = None) -> None:
        """Remove a concrete index; see the port."""
        with self._writing() as db:
            row = db.execute("SELECT id FROM indices WHERE name = ?", (name,)).fetchone()
            if token is not None:
                held = db.execute("SELECT 1 FROM aliases WHERE alias = ? AND index_id = ?", (token, row and row[0]))
                if held.fetchone() is None:
                    raise AliasMoved(f"The alias {token!r} does not name the index {name!r}; nothing was dropped.")
            if row is None:
                return
            db.execute("DELETE FROM aliases WHERE index_id = ?", row)
            db.execute("DELETE FROM indices WHERE id = ?", row)
            db.execute(f"DROP TABLE documents_{row[0]}")
        self._matrices.pop(row[0], None)

    def indices(self, counted: Collection[str] | None = None) -> Mapping[str, IndexInfo]:
        """All concrete indices by name, and what is in those of `counted`; see the port."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT name, dimension, metadata, documents, tombstones, newest FROM indices ORDER BY name"
            )
            try:
                return {
                    name: IndexInfo(
                        name, dimension, json.loads(mark), *(counts if counted is None or name in counted else ())
                    )
                    for name, dimension, mark, *counts in rows
                }
            except ValueError as error:
                raise self._damaged() from error

    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        """All aliases with the concrete indices they name (sorted)."""
        found: dict[str, tuple[str, ...]] = {}
        with self._reading() as db:
            for alias, name in db.execute(
                "SELECT alias, name FROM aliases JOIN indices ON indices.id = index_id ORDER BY alias, name"
            ):
                found[alias] = (*found.get(alias, ()), name)
        return found

    def update_aliases(self, actions: Sequence[AliasAction]) -> None:
        """Apply all actions in order, or none; see the port. `IndexExists` when an alias would take an index's name."""
        with self._writing() as db:
            for action in actions:
                if action.verb == "add":
                    _add_alias(db, action.alias, action.index)
                elif action.verb == "remove":
                    removed = db.execute(
                        "DELETE FROM aliases WHERE alias = ? AND index_id = (SELECT id FROM indices WHERE name = ?)",
                        (action.alias, action.index),
                    ).rowcount
                    if action.must_exist and not removed:
                        raise AliasMoved(f"The alias {action.alias} does not name the index {action.index}.")
                else:
                    raise InvalidInput(f"An alias action is add or remove, not {action.verb!r}.")

    # Documents

    def bulk(self, write_alias: str, documents: Sequence[Document]) -> Sequence[WriteResult]:
        """Write documents in one transaction; see the port."""
        with self._writing() as db:
            target = _alias_target(db, write_alias)
            if target is None:
                raise IndexMissing(f"{write_alias} is not an alias of exactly one index; nothing was written.")
            blobs, problems = encoded(documents, target.dimension)
            ids = [document.id for place, document in enumerate(documents) if place not in problems]
            stored: dict[str, tuple[int, bool]] = {
                id: (version, bool(dead))
                for id, version, dead in _by_id(db, f"id, version, vector IS NULL FROM {target.table}", ids)
            }
            before = [dead for _, dead in stored.values()]
            accepted: dict[str, int] = {}
            results = []
            for place, document in enumerate(documents):
                if place in problems:
                    results.append(WriteResult(document.id, WriteOutcome.REJECTED, problems[place]))
                elif document.id in stored and document.version <= stored[document.id][0]:
                    detail = f"the index holds version {stored[document.id][0]}"
                    results.append(WriteResult(document.id, WriteOutcome.CONFLICT, detail))
                else:
                    stored[document.id] = (document.version, document.deleted)
                    accepted[document.id] = place
                    results.append(WriteResult(document.id, WriteOutcome.WRITTEN))
            if accepted:
                after = [dead for _, dead in stored.values()]
                db.execute(
                    "UPDATE indices SET changes = changes + 1, documents = documents + ?, tombstones = tombstones + ?,"
                    " newest = max(newest, ?) WHERE id = ?",
                    (
                        after.count(False) - before.count(False),
                        after.count(True) - before.count(True),
                        max(documents[place].version for place in accepted.values()),
                        target.id,
                    ),
                )
                _write(db, target, [(documents[place], blobs[place]) for place in accepted.values()])
        return results

    def fetch(self, index: str, ids: Sequence[str]) -> Mapping[str, Document]:
        """Documents by id from the file; see the port. Their vectors are read-only arrays."""
        with self._reading() as db:
            target = _resolved(db, index)
            rows = _by_id(db, f"{_COLUMNS}, content_hash FROM {target.table}", ids)
            return {row[0]: self._document(row, target.dimension) for row in rows}

    def scan(
        self, index: str, *, after: str | None = None, buckets: Collection[int] | None = None
    ) -> Generator[Document, None, None]:
        """All documents by id as they are at the time of this call; see the port.

        The snapshot is held until the generator is at its end, closed or forgotten, also past `close`.
        """
        documents = self._scanned(index, after, buckets)
        next(documents)  # Up to its first yield: the snapshot is of the call, not of the first document.
        return cast("Generator[Document, None, None]", documents)

    def _scanned(
        self, index: str, after: str | None, buckets: Collection[int] | None
    ) -> Generator[Document | None, None, None]:
        self._file.refuse_closed()
        with self._file.translated(), closing(self._file.connect()) as db:
            db.execute("BEGIN")
            target = _resolved(db, index)
            yield None
            chosen = ""
            if buckets is not None:
                # Asked of the id alone, so that nothing else of a document is read that is not wanted.
                db.create_function("wanted", 1, lambda id: bucket_of(id) in buckets, deterministic=True)
                chosen = "AND wanted(id)"
            for row in db.execute(
                f"SELECT {_COLUMNS}, content_hash FROM {target.table} WHERE id > ? {chosen} ORDER BY id",
                (after or "",),
            ):
                yield self._document(row, target.dimension)

    def marks(self, index: str, *, buckets: Collection[int] | None = None) -> Generator[Mark, None, None]:
        """Id, version and digest of all documents by id as they are at the time of this call; see the port."""
        found = self._marks(index, buckets)
        next(found)  # as in `scan`
        return cast("Generator[Mark, None, None]", found)

    def _marks(self, index: str, buckets: Collection[int] | None) -> Generator[Mark | None, None, None]:
        self._file.refuse_closed()
        with self._file.translated(), closing(self._file.connect()) as db:
            db.execute("BEGIN")
            target = _resolved(db, index)
            yield None
            for id, version, bucket, digest in db.execute(
                f"SELECT id, version, bucket, digest FROM {target.table} ORDER BY id"
            ):
                own = bucket_of(id)
                if buckets is None or own in buckets:
                    yield Mark(id, version, digest if bucket == own else None)

    def purge(self, index: str, tombstones: Sequence[tuple[str, int]]) -> int:
        """Forget tombstones in one transaction; see the port."""
        wanted = dict(tombstones)
        with self._writing() as db:
            target = _resolved(db, index)
            found = [
                (id, seq)
                for id, version, seq, dead in _by_id(
                    db, f"id, version, seq, vector IS NULL FROM {target.table}", list(wanted)
                )
                if dead and version == wanted[id]
            ]
            if found:
                db.executemany(f"DELETE FROM {target.table} WHERE id = ?", [(id,) for id, _ in found])
                db.execute(
                    "UPDATE indices SET tombstones = max(0, tombstones - ?), purged = max(purged, ?) WHERE id = ?",
                    (len(found), max(seq for _, seq in found), target.id),
                )
        return len(found)

    def _document(self, row: tuple[Any, ...], dimension: int) -> Document:
        self._refuse_damaged([row], dimension)
        id, version, kind, library_id, recording_id, profile_id, blob, content_hash = row
        vector = None if blob is None else np.frombuffer(blob, "<f4").astype(np.float32, copy=False)
        return Document(id, version, content_hash, _KINDS[kind], library_id, recording_id, profile_id, vector)

    def _refuse_damaged(self, rows: Sequence[tuple[Any, ...]], dimension: int) -> None:
        size = 4 * dimension
        for _, version, kind, _, _, _, blob, *_ in rows:
            whole = blob is None or (type(blob) is bytes and len(blob) == size)
            if not (whole and kind in _KINDS and type(version) is int):
                raise self._damaged()

    def _damaged(self) -> IndexUnavailable:
        return IndexUnavailable(f"The index {self.path} is damaged.", hint=REBUILD_HINT)

    # Search

    def search(self, index: str, queries: FloatArray, k: int, where: Filter = _ANY) -> Sequence[Sequence[Hit]]:
        """The k best live documents a query, exactly; see the port. `InvalidInput` for what cannot be searched."""
        with self._reading() as db:
            target = _resolved(db, index)
            if len(self._matrices) > 1:
                known = {id for (id,) in db.execute("SELECT id FROM indices")}
                self._matrices = {id: matrix for id, matrix in self._matrices.items() if id in known}
            matrix = self._matrices.get(target.id)
            if matrix is None:
                matrix = self._matrices[target.id] = Matrix(target.dimension)
        unit = checked_queries(queries, target.dimension, k)
        with matrix.lock:
            if matrix.seen < target.changes:
                self._follow(matrix, target.id)
            return matrix.search(unit, k, where)

    def _follow(self, matrix: Matrix, index_id: int) -> None:
        """Take over from the file what changed since the cache was brought up to date."""
        with self._reading() as db:
            target = _target(db, "id = ?", index_id)
            if target is None:
                raise IndexMissing("The index was dropped while it was searched.")
            if matrix.seen < target.purged:
                matrix.clear()  # what it holds may have been buried by a tombstone that is not there any more
            if not matrix.seen:
                matrix.reserve(target.documents)
            cursor = db.execute(f"SELECT {_COLUMNS} FROM {target.table} WHERE seq > ?", (matrix.seen,))
            while rows := cursor.fetchmany(_LOAD_ROWS):
                self._refuse_damaged(rows, target.dimension)
                matrix.apply(rows)
            matrix.seen = target.changes

    def ping(self, index: str) -> None:
        """The file answers for all of it: says if the index is missing. Nothing is read into memory, as a search would."""
        self.refresh(index)

    def refresh(self, index: str) -> None:
        """Every search sees what is in the file: there is nothing to do but to say so if the index is missing."""
        with self._reading() as db:
            _resolved(db, index)

    def tune(self, name: str, *, loading: bool) -> None:  # noqa: ARG002  a load is like any other write here
        """Nothing to change; says if the index is missing."""
        self.refresh(name)

    def digests(self, index: str) -> Mapping[int, BucketDigest]:
        """Counts and sums by bucket, through a connection of its own: it stops no search; see the port."""
        self._file.refuse_closed()
        with self._file.translated(), closing(self._file.connect()) as db:
            db.execute("BEGIN")
            target = _resolved(db, index)
            # What somebody else put into the file has no bucket.
            rows = db.execute(
                f"SELECT ifnull(bucket, -1) AS place, count(*), ifnull(sum(digest), 0) FROM {target.table} GROUP BY bucket"
            )
            return {bucket: BucketDigest(count, digest) for bucket, count, digest in rows}

    def troubles(self) -> Sequence[str]:
        """None: what is wrong with a file is an error at once."""
        return ()

    def reopened(self) -> EmbeddedIndex:
        """A second instance on the same file."""
        return EmbeddedIndex(self.path)

    def close(self) -> None:
        """Close both connections and forget the caches. Scans that are open keep their snapshot."""
        self._file.close()
        self._matrices = {}


def _target(db: sqlite3.Connection, condition: str, value: int | str) -> _Target | None:
    row = db.execute(
        f"SELECT id, name, dimension, changes, documents, purged FROM indices WHERE {condition}", (value,)
    ).fetchone()
    return None if row is None else _Target(*row)


def _alias_target(db: sqlite3.Connection, alias: str) -> _Target | None:
    """The one index that `alias` names; None when it names none or several, or is no alias."""
    rows = db.execute("SELECT index_id FROM aliases WHERE alias = ?", (alias,)).fetchall()
    return _target(db, "id = ?", rows[0][0]) if len(rows) == 1 else None


def _resolved(db: sqlite3.Connection, name: str) -> _Target:
    target = _target(db, "name = ?", name) or _alias_target(db, name)
    if target is None:
        raise IndexMissing(f"{name} is neither an index nor an alias of exactly one index.")
    return target


def _same_index_exists(db: sqlite3.Connection, name: str, dimension: int, metadata: str) -> bool:
    """Whether the index is there as described. `IndexExists` when something else has its name."""
    row = db.execute("SELECT dimension, metadata FROM indices WHERE name = ?", (name,)).fetchone()
    if row is not None and row != (dimension, metadata):
        raise IndexExists(f"An index {name} exists with another dimension or other metadata.")
    if db.execute("SELECT 1 FROM aliases WHERE alias = ?", (name,)).fetchone() is not None:
        raise IndexExists(f"{name} is the name of an alias.")
    return row is not None


def _add_alias(db: sqlite3.Connection, alias: str, index: str) -> None:
    if not alias or _target(db, "name = ?", alias) is not None:
        raise IndexExists(f"{alias!r} cannot be an alias: it is empty or the name of an index.")
    target = _target(db, "name = ?", index)
    if target is None:
        raise IndexMissing(f"There is no index {index} to name {alias}.")
    db.execute("INSERT OR IGNORE INTO aliases (alias, index_id) VALUES (?, ?)", (alias, target.id))


def _by_id(db: sqlite3.Connection, what: str, ids: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    for start in range(0, len(ids), _IDS_A_STATEMENT):
        part = ids[start : start + _IDS_A_STATEMENT]
        yield from db.execute(f"SELECT {what} WHERE id IN ({', '.join('?' * len(part))})", part)


def _write(db: sqlite3.Connection, target: _Target, documents: Sequence[tuple[Document, bytes | None]]) -> None:
    seq = target.changes + 1
    db.executemany(
        f"INSERT INTO {target.table} ({_COLUMNS}, content_hash, seq, bucket, digest)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET version = excluded.version, kind = excluded.kind,"
        " library_id = excluded.library_id, recording_id = excluded.recording_id, profile_id = excluded.profile_id,"
        " vector = excluded.vector, content_hash = excluded.content_hash, seq = excluded.seq,"
        " bucket = excluded.bucket, digest = excluded.digest"
        " WHERE excluded.version > version",
        [
            (
                d.id,
                d.version,
                d.kind.value,
                d.library_id,
                d.recording_id,
                d.profile_id,
                blob,
                d.content_hash,
                seq,
                bucket_of(d.id),
                digest_of(d.id, d.version, d.content_hash),
            )
            for d, blob in documents
        ],
    )
