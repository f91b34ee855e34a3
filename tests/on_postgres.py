"""Libraries whose catalog is a database on PostgreSQL, in tests that know nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from speakerdb.catalog import schema, upgrade
from speakerdb.catalog.database import Database
from speakerdb.settings import Settings
from speakerdb.testing.servers.postgres import Databases

HEAD = upgrade.HEAD  # a test may change it


class Spare:
    """Databases of the newest schema that go from test to test: to empty one is far cheaper than to make and drop it."""

    def __init__(self, url: str) -> None:
        self._databases = Databases(url)
        self._free: list[str] = []

    def lend(self) -> str:
        """The address of a database of the newest schema that is otherwise empty."""
        if self._free:
            return self._free.pop()
        url = self._databases.new_database()
        made = Database(url)
        upgrade.upgrade(made)
        made.close()
        return url

    def give_back(self, url: str) -> None:
        """Empty a database, and end who is still connected to it."""
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.begin() as tx:
            tx.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            for table in reversed(schema.metadata.sorted_tables):
                tx.execute(sa.delete(table))
            for (sequence,) in tx.exec_driver_sql("SELECT sequencename FROM pg_sequences").all():
                tx.exec_driver_sql(f"ALTER SEQUENCE {sequence} RESTART")
            tx.execute(sa.text("UPDATE alembic_version SET version_num = :head"), {"head": HEAD})
        self._free.append(url)

    def close(self) -> None:
        """Drop them all."""
        self._databases.drop(self._databases.made)

    @contextmanager
    def as_catalogs(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Every library that names no database has one of its own here, by its data folder."""
        urls: dict[Path, str] = {}

        def url_of(settings: Settings) -> str:
            if settings.database_url is not None:
                return settings.database_url
            if settings.data_dir not in urls:
                urls[settings.data_dir] = self.lend()
            return urls[settings.data_dir]

        monkeypatch.setattr(Settings, "catalog_url", property(url_of))
        yield
        for url in urls.values():
            self.give_back(url)


@pytest.fixture(scope="session")
def spare_databases(postgres: Databases) -> Iterator[Spare]:
    """Databases on a real PostgreSQL."""
    spare = Spare(postgres.url)
    yield spare
    spare.close()
