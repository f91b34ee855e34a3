"""Where the libraries of tests live: files in a folder, or databases and indices on real servers.

A `Backend` makes the storage of a library, empty or as another one was when it was saved, and removes it. Servers are
written and read through the tables and the index's port only, so what is saved holds no more than a library is.
"""

from __future__ import annotations

import sqlite3
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import sqlalchemy as sa

from speakerdb.catalog import schema
from speakerdb.index.opening import open_index
from speakerdb.index.port import VectorIndex
from speakerdb.service import SpeakerDB
from speakerdb.settings import OpenSearchSettings, Settings
from speakerdb.testing.factories import FakeExecutor, fake_settings
from speakerdb.types import AliasAction, Document, IndexInfo, WriteOutcome

CATALOG_FILE, INDEX_FILE = "catalog.db", "index.db"
FILLING = "speakers-filling-"
"""Begins the aliases through which a saved index is written again; they are gone afterwards."""

Rows: TypeAlias = Mapping[str, Sequence[Mapping[str, Any]]]
"""By table."""


class Databases(Protocol):
    """Databases of the newest schema on a PostgreSQL."""

    def lend(self) -> str:
        """The address of one that is otherwise empty."""

    def give_back(self, url: str) -> None:
        """It is not used any more."""


class Cluster(Protocol):
    """An OpenSearch."""

    url: str

    def remove(self, prefix: str) -> None:
        """Remove everything whose name begins so."""


@dataclass(frozen=True)
class SavedIndex:
    """Everything that the port tells of an index engine."""

    infos: Sequence[IndexInfo]
    aliases: Mapping[str, Sequence[str]]
    documents: Mapping[str, Sequence[Document]]


@dataclass(frozen=True)
class Saved:
    """A library as it was: of a file its bytes, of a server what was read from it."""

    database: bytes | Rows = field(repr=False)
    index: bytes | SavedIndex = field(repr=False)


class Backend:
    """Libraries on SQLite or in `databases`, with the embedded index or one in `cluster`."""

    def __init__(self, databases: Databases | None = None, cluster: Cluster | None = None) -> None:
        self._databases = databases
        self._cluster = cluster
        self._empty: Saved | None = None

    @property
    def delayed(self) -> bool:
        """Whether searches see what was written only after a refresh."""
        return self._cluster is not None

    def make(self, folder: Path, saved: Saved | None = None) -> dict[str, Any]:
        """The storage of a library, for `folder`; the settings that lead to it. Without `saved` nobody has opened it yet."""
        given: dict[str, Any] = {}
        if self._databases is not None:
            given["database_url"] = self._databases.lend()
            if saved is not None:
                _write_rows(given["database_url"], saved.database)
        elif saved is not None:
            assert isinstance(saved.database, bytes)
            (folder / CATALOG_FILE).write_bytes(saved.database)
        if self._cluster is not None:
            prefix = f"library-{uuid.uuid4().hex[:12]}-"
            given["opensearch"] = OpenSearchSettings(hosts=(self._cluster.url,), prefix=prefix, replicas=0)
            if saved is not None:
                assert isinstance(saved.index, SavedIndex)
                with closing(open_index(fake_settings(folder, **given))) as index:
                    _write_index(index, saved.index)
        elif saved is not None:
            assert isinstance(saved.index, bytes)
            (folder / INDEX_FILE).write_bytes(saved.index)
        return given

    def empty(self) -> Saved:
        """A library that was opened once; making its schema takes longer than a whole test."""
        if self._empty is None:
            with tempfile.TemporaryDirectory(prefix="speakerdb-empty-") as name:
                settings = fake_settings(Path(name), **self.make(Path(name)))
                try:
                    SpeakerDB.open(settings, executor=FakeExecutor()).close()
                    self._empty = self.save(settings)
                finally:
                    self.remove(settings)
        return self._empty

    def save(self, settings: Settings) -> Saved:
        """A library as it is now. Nobody should be changing it."""
        with closing(open_index(settings)) as index:
            return Saved(
                _bytes(settings.data_dir / CATALOG_FILE)
                if self._databases is None
                else _read_rows(settings.catalog_url),
                _bytes(settings.data_dir / INDEX_FILE) if self._cluster is None else _read_index(index),
            )

    def remove(self, settings: Settings) -> None:
        """A library is not needed any more; every handle of it is closed. Files go with their folder."""
        if self._cluster is not None:
            self._cluster.remove(settings.opensearch.prefix)
        if self._databases is not None and settings.database_url is not None:
            self._databases.give_back(settings.database_url)


FILES = Backend()
"""SQLite and the embedded index."""


def _bytes(path: Path) -> bytes:
    with (
        tempfile.NamedTemporaryFile(dir=path.parent) as copy,
        closing(sqlite3.connect(path)) as one,
        closing(sqlite3.connect(copy.name)) as other,
    ):
        one.backup(other)
        return Path(copy.name).read_bytes()


def _read_rows(url: str) -> Rows:
    with _engine(url).connect() as connection:
        return {
            table.name: [dict(row._mapping) for row in connection.execute(table.select())]
            for table in schema.metadata.sorted_tables
        }


def _write_rows(url: str, saved: bytes | Rows) -> None:
    assert not isinstance(saved, bytes)
    with _engine(url).begin() as connection:
        for table in schema.metadata.sorted_tables:
            rows = saved[table.name]
            if not rows:
                continue
            # One statement, at whose end foreign keys are looked at: rows may refer to later ones.
            connection.execute(sa.insert(table).values([dict(row) for row in rows]))
            number = table.autoincrement_column
            if number is not None:
                following = sa.func.pg_get_serial_sequence(table.name, number.name)
                connection.execute(sa.select(sa.func.setval(following, max(row[number.name] for row in rows))))


def _engine(url: str) -> sa.Engine:
    return sa.create_engine(url, poolclass=sa.NullPool)


def _read_index(index: VectorIndex) -> SavedIndex:
    infos = list(index.indices().values())
    return SavedIndex(infos, index.aliases(), {info.name: list(index.scan(info.name)) for info in infos})


def _write_index(index: VectorIndex, saved: SavedIndex) -> None:
    filling = {info.name: f"{FILLING}{number}" for number, info in enumerate(saved.infos)}
    for info in saved.infos:
        index.create(info.name, info.dimension, info.metadata)
    aliases = [(alias, name) for alias, names in saved.aliases.items() for name in names]
    index.update_aliases(
        [
            AliasAction.add(alias, name)
            for alias, name in (*aliases, *((alias, name) for name, alias in filling.items()))
        ]
    )
    for info in saved.infos:
        results = index.bulk(filling[info.name], saved.documents[info.name])
        assert all(result.outcome is WriteOutcome.WRITTEN for result in results)
    index.update_aliases([AliasAction.remove(alias, name) for name, alias in filling.items()])
    for info in saved.infos:
        index.refresh(info.name)
