"""What stands in a library, by plain reads: SQL as text on a connection of its own, the index by its file or over HTTP."""

# ruff: noqa: S608 - names of tables are made of integers of our own, never of what was given.

from __future__ import annotations

import base64
import json
import random
import sqlite3
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

from speakerdb.core.digests import bucket_of, digest_of
from speakerdb.errors import Conflict
from speakerdb.settings import Settings
from speakerdb.testing.history import Sample, now

Damage: TypeAlias = Literal["lost", "vector", "stranger"]
_PAGE = 10_000
_STARTING_SECONDS, _PAUSE_SECONDS = 30.0, 0.05
"""An index that was made just now has no shard at work yet."""
_LOOSE = (
    "SELECT 'projection ' || generation || '/' || entity_id FROM projections p WHERE kind = 'speaker' AND NOT deleted"
    " AND NOT EXISTS (SELECT 1 FROM speakers s WHERE s.id = p.entity_id)",
    "SELECT 'projection ' || generation || '/' || entity_id FROM projections p WHERE kind = 'profile' AND NOT deleted"
    " AND NOT EXISTS (SELECT 1 FROM profiles s WHERE s.id = p.entity_id AND s.merged_into IS NULL)",
    "SELECT 'embedding ' || generation || '/' || entity_id FROM embeddings e WHERE"
    " NOT EXISTS (SELECT 1 FROM speakers s WHERE s.id = e.entity_id)"
    " AND NOT EXISTS (SELECT 1 FROM profiles s WHERE s.id = e.entity_id AND s.merged_into IS NULL)",
    "SELECT 'work item ' || recording_id FROM work_items w WHERE"
    " NOT EXISTS (SELECT 1 FROM recordings r WHERE r.id = w.recording_id)",
)
_UNDONE = (
    "SELECT r.id || ' has no work item for ' || g.name FROM recordings r CROSS JOIN generations g WHERE g.live"
    " AND NOT EXISTS (SELECT 1 FROM work_items w WHERE w.recording_id = r.id AND w.generation = g.name)"
)
_LENGTHS = (
    'SELECT t.recording_id, s.label, sum("end" - "start") FROM turns t JOIN speakers s ON s.id = t.speaker_id'
    " GROUP BY 1, 2"
)
_MIGRATION = "SELECT id, state, source, target FROM migrations ORDER BY id DESC LIMIT 1"


class Looking:
    """Reads one library."""

    def __init__(self, settings: Settings) -> None:
        self._engine = sa.create_engine(settings.catalog_url, poolclass=sa.NullPool)
        self._index: _File | _Server
        if settings.opensearch.hosts:
            self._index = _Server(settings.opensearch.hosts[0], settings.opensearch.prefix)
        else:
            self._index = _File(settings.index_path)

    def sample(self, *, documents: bool = False) -> Sample:
        """Everything, now."""
        begin = now()
        with self._reading() as tx:
            sql = _sql(tx)
            live = [row[0] for row in tx.exec_driver_sql("SELECT name FROM generations WHERE live ORDER BY name")]
        aliases = self._index.aliases()
        after = self.migration()
        held = None
        if documents:
            held = {
                name: self._index.living(index) for name in live for index in aliases.get(f"speakers_{name}_write", ())
            }
        return Sample(begin, now(), sql, aliases, after, held)

    def migration(self) -> list[Any] | None:
        """The newest migration: id, state, source, target."""
        with self._reading() as tx:
            return _migration(tx)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with self._reading() as tx:
            return [tuple(row) for row in tx.exec_driver_sql(query)]

    def has_rows(self, generation: str) -> bool:
        """Whether the database knows any document of a generation."""
        with self._reading() as tx:
            query = sa.text("SELECT 1 FROM projections WHERE generation = :generation LIMIT 1")
            return tx.execute(query, {"generation": generation}).first() is not None

    def serves(self, generation: str) -> bool:
        """Whether a generation has an index that its write alias names; and the alias that is read names one."""
        aliases = self._index.aliases()
        return len(aliases.get(f"speakers_{generation}_write", ())) == 1 and len(aliases.get("speakers", ())) == 1

    def index_of(self, generation: str) -> str | None:
        """The index that the write alias of a generation names."""
        return next(iter(self._index.aliases().get(f"speakers_{generation}_write", ())), None)

    # Behind the library's back. `Conflict` while somebody else writes to the file.

    def drop(self, index: str) -> None:
        """An index is deleted, with the aliases that name it."""
        self._index.drop(index)

    def damage(self, index: str, how: Damage, chance: random.Random) -> None:
        """One document is lost, has other numbers than its hash says, or comes from nowhere."""
        living = self._index.living(index)
        if how == "stranger" or living:
            self._index.damage(
                index, f"stranger-{chance.getrandbits(32)}" if how == "stranger" else chance.choice(living), how
            )

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        level = "REPEATABLE READ" if self._engine.dialect.name == "postgresql" else "AUTOCOMMIT"
        with self._engine.connect().execution_options(isolation_level=level) as tx:
            if level == "AUTOCOMMIT":  # the driver of SQLite begins none by itself for a query
                tx.exec_driver_sql("BEGIN")
            yield tx
            if level == "AUTOCOMMIT":
                tx.exec_driver_sql("ROLLBACK")


def _sql(tx: sa.Connection) -> dict[str, Any]:
    def rows(query: str) -> list[Any]:
        return list(tx.exec_driver_sql(query))

    recordings: dict[str, list[Any]] = {
        id: [created, version, {}]
        for id, created, version in rows("SELECT id, created_at, content_version FROM recordings")
    }
    for id, label, seconds in rows(_LENGTHS):
        recordings[id][2][label] = seconds
    return {
        "recordings": recordings,
        "speakers": {id: rest for id, *rest in rows("SELECT id, recording_id, label, name, profile_id FROM speakers")},
        "profiles": {id: rest for id, *rest in rows("SELECT id, name, merged_into FROM profiles")},
        "migration": _migration(tx),
        "loose": [found for query in _LOOSE for (found,) in rows(query)],
        "undone": [found for (found,) in rows(_UNDONE)],
    }


def _migration(tx: sa.Connection) -> list[Any] | None:
    row = tx.exec_driver_sql(_MIGRATION).one_or_none()
    return None if row is None else list(row)


class _File:
    """The embedded index, by its file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def aliases(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        query = "SELECT alias, name FROM aliases JOIN indices ON indices.id = index_id ORDER BY alias, name"
        with self._connected() as db:
            for alias, name in db.execute(query):
                found.setdefault(alias, []).append(name)
        return found

    def living(self, index: str) -> list[str]:
        with self._connected() as db:
            found = db.execute("SELECT id FROM indices WHERE name = ?", (index,)).fetchone()
            if found is None:
                raise Conflict("It is gone already.")
            (number,) = found
            rows = db.execute(f"SELECT id FROM documents_{number} WHERE vector IS NOT NULL ORDER BY id")
            return [id for (id,) in rows]

    def damage(self, index: str, id: str, how: Damage) -> None:
        with self._writing() as db:
            found = db.execute("SELECT id, dimension FROM indices WHERE name = ?", (index,)).fetchone()
            if found is None:
                return
            table, blob = f"documents_{found[0]}", struct.pack("<f", found[1] ** -0.5) * found[1]
            if how == "lost":
                db.execute(f"DELETE FROM {table} WHERE id = ?", (id,))
            elif how == "vector":
                db.execute(f"UPDATE {table} SET vector = ? WHERE id = ? AND vector IS NOT NULL", (blob, id))
            else:
                db.execute(
                    f"INSERT INTO {table} (id, version, content_hash, kind, library_id, seq, vector, bucket, digest)"
                    " VALUES (?, 1, 'none', 'speaker', 'nowhere', 1, ?, ?, ?)",
                    (id, blob, bucket_of(id), digest_of(id, 1, "none")),
                )

    def drop(self, index: str) -> None:
        with self._writing() as db:
            found = db.execute("SELECT id FROM indices WHERE name = ?", (index,)).fetchone()
            if found is None:
                raise Conflict("It is gone already.")
            number = found[0]
            db.execute("DELETE FROM aliases WHERE index_id = ?", (number,))
            db.execute("DELETE FROM indices WHERE id = ?", (number,))
            db.execute(f"DROP TABLE documents_{number}")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as db:
            yield db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """`Conflict` while somebody else writes: it may be one who was stopped, and is to be woken by who asks here."""
        with closing(sqlite3.connect(self._path, timeout=0.2, isolation_level=None)) as db:
            try:
                db.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                raise Conflict("Somebody writes to the index.") from error
            yield db
            db.execute("COMMIT")


@contextmanager
def _gone_is_a_conflict() -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise
        raise Conflict("It is gone already.") from error


class _Server:
    """An index in OpenSearch, over HTTP."""

    def __init__(self, url: str, prefix: str) -> None:
        self._url = url
        self._prefix = prefix

    def aliases(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for index, held in sorted(self._ask("GET", f"/{self._prefix}*/_alias").items()):
            for alias in held["aliases"]:
                found.setdefault(alias.removeprefix(self._prefix), []).append(index.removeprefix(self._prefix))
        return found

    def living(self, index: str) -> list[str]:
        body = {"query": {"exists": {"field": "vector"}}, "size": _PAGE, "_source": False}
        with _gone_is_a_conflict():
            self._ask("POST", f"/{self._prefix}{index}/_refresh")
            hits = self._ask("POST", f"/{self._prefix}{index}/_search", body)["hits"]["hits"]
        assert len(hits) < _PAGE, "there are more documents than one page holds"
        return sorted(hit["_id"] for hit in hits)

    def damage(self, index: str, id: str, how: Damage) -> None:
        place = f"/{self._prefix}{index}/_doc/{id}"
        with suppress(urllib.error.HTTPError):  # it was deleted, or the index was, since it was chosen
            if how == "lost":
                self._ask("DELETE", place)
                return
            mapping = next(iter(self._ask("GET", f"/{self._prefix}{index}/_mapping").values()))["mappings"][
                "properties"
            ]
            vector = [mapping["vector"]["dimension"] ** -0.5] * mapping["vector"]["dimension"]
            held = {
                "vector": vector,
                "vector_bytes": base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode(),
            }
            if how == "vector":
                # Of the same version: what is changed behind its digest is not ahead of SQL.
                document = self._ask("GET", place)
                body, version = document["_source"] | held, document["_version"]
            else:
                body, version = held | {
                    "id": id, "version": 1, "content_hash": "none", "kind": "speaker", "library_id": "nowhere",
                    "bucket": bucket_of(id), "digest": digest_of(id, 1, "none"),
                }, 1  # fmt: skip
            self._ask("PUT", f"{place}?version={version}&version_type=external_gte", body)

    def drop(self, index: str) -> None:
        with _gone_is_a_conflict():
            self._ask("DELETE", f"/{self._prefix}{index}")

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310  a server of the test's
            self._url + path, data, {"content-type": "application/json"}, method=method
        )
        late = time.monotonic() + _STARTING_SECONDS
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                    return json.loads(answer.read())
            except urllib.error.HTTPError as error:
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > late:
                    raise
            time.sleep(_PAUSE_SECONDS)
