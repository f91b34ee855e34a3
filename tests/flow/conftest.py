"""A library without sound: `FakeExecutor` answers extraction, so every vector is known beforehand."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from speakerdb.reports import AddReport
from speakerdb.service import SpeakerDB
from speakerdb.settings import OpenSearchSettings
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices
from speakerdb.types import Turn
from tests.on_postgres import spare_databases

__all__ = ["spare_databases"]

Add: TypeAlias = Callable[..., AddReport]


SEARCHING = ("test_matcher", "test_migration", "test_projector")
"""What runs on PostgreSQL with OpenSearch too; to the rest it is all one which index there is."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    kinds = ["postgresql", *(["servers"] if metafunc.module.__name__ in SEARCHING else [])]
    real = [pytest.param(kind, marks=pytest.mark.servers) for kind in kinds]
    metafunc.parametrize("catalogs", ["sqlite", *real], indirect=True)


@pytest.fixture(autouse=True)
def catalogs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Every library of a test has its catalog in an SQLite file, then in a database on PostgreSQL, then its index in
    OpenSearch too. What the settings of `open_db` need for it."""
    if request.param == "sqlite":
        yield {}
        return
    with request.getfixturevalue("spare_databases").as_catalogs(monkeypatch):
        if request.param == "postgresql":
            yield {}
            return
        hosts = (request.getfixturevalue("opensearch").url,)
        prefix = request.getfixturevalue("opensearch_prefix")
        yield {"opensearch": OpenSearchSettings(hosts=hosts, prefix=prefix, replicas=0)}


@pytest.fixture
def executor() -> FakeExecutor:
    return FakeExecutor()


@pytest.fixture
def open_db(tmp_path: Path, executor: FakeExecutor, catalogs: dict[str, Any]) -> Iterator[Callable[..., SpeakerDB]]:
    opened: list[SpeakerDB] = []

    def make(*, folder: Path = tmp_path, index: Any = None, clock: Any = None, **more: Any) -> SpeakerDB:
        settings = fake_settings(folder, **catalogs | more)
        opened.append(SpeakerDB.open(settings, executor=executor, index=index, clock=clock))
        return opened[-1]

    yield make
    for db in opened:
        db.close()


@pytest.fixture
def db(open_db: Callable[..., SpeakerDB]) -> SpeakerDB:
    return open_db()


def add(db: SpeakerDB, name: str, turns: tuple[Turn, ...] | None = None, **more: Any) -> AddReport:
    """A recording of 20 s given in memory, with two voices unless told otherwise."""
    return db.add(None, two_voices() if turns is None else turns, recording_id=name, waveform=silence(20), **more)


def migrate(db: SpeakerDB, target: str = "v4") -> None:
    """Start, drain, finalize. Sound in memory fails the pre-flight's look at the files, so it is forced."""
    db.start_migration(target, force=True)
    db.work()
    db.finalize()
