"""A library of voices without sound, on either kind of database, the command line on it, and its HTTP API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from transcripts_kit import add

from speakerdb.api.app import create_app
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings
from tests.lent_library import EITHER, Shell, lent, on_either
from tests.on_postgres import spare_databases

__all__ = ["spare_databases"]


@pytest.fixture(params=EITHER)
def catalogs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The catalog is an SQLite file, or a database on PostgreSQL."""
    with on_either(request, monkeypatch):
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
    return lent(db, monkeypatch, capsys)


@pytest.fixture
def client(db: SpeakerDB) -> Iterator[TestClient]:
    asking = TestClient(create_app(db), base_url="http://localhost", client=("127.0.0.1", 50000))
    with asking:
        yield asking
