"""A library of voices without sound, on either kind of database, the command line on it, and its HTTP API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from transcripts_kit import Shell, add

from speakerdb.api.app import create_app
from speakerdb.cli import session
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings
from tests.on_postgres import spare_databases

__all__ = ["spare_databases"]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def catalogs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The catalog is an SQLite file, or a database on PostgreSQL."""
    if request.param == "sqlite":
        yield
        return
    with request.getfixturevalue("spare_databases").as_catalogs(monkeypatch):
        yield


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "library"


@pytest.fixture
def both(data: Path, catalogs: None) -> Iterator[SpeakerDB]:
    """A library with one recording of 20 s, on either kind of database."""
    with SpeakerDB.open(fake_settings(data), executor=FakeExecutor()) as opened:
        add(opened)
        yield opened


@pytest.fixture
def db(data: Path) -> Iterator[SpeakerDB]:
    """The same in files."""
    with SpeakerDB.open(fake_settings(data), executor=FakeExecutor()) as opened:
        add(opened)
        yield opened


@pytest.fixture
def shell(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    class Lent:
        """The test's library; a command may not close it."""

        def __enter__(self) -> SpeakerDB:
            return db

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(session, "open_service", lambda _: Lent())
    return Shell(capsys)


@pytest.fixture
def client(db: SpeakerDB) -> Iterator[TestClient]:
    asking = TestClient(create_app(db), base_url="http://localhost", client=("127.0.0.1", 50000))
    with asking:
        yield asking
