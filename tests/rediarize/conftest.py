"""A library whose diarizer is what a test says, on either kind of database, the command line on it, and its HTTP API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rediarize_kit import by_hand
from starlette.testclient import TestClient

from speakerdb.api.app import create_app
from speakerdb.service import SpeakerDB
from tests.lent_library import EITHER, Shell, lent, on_either
from tests.listen.conftest import Ear
from tests.on_postgres import spare_databases

__all__ = ["spare_databases"]


@pytest.fixture(params=EITHER)
def catalogs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The catalog is an SQLite file, or a database on PostgreSQL."""
    with on_either(request, monkeypatch):
        yield


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def both(tmp_path: Path, ear: Ear, catalogs: None) -> Iterator[SpeakerDB]:
    """A library on either kind of database."""
    with by_hand(tmp_path / "library", ear) as opened:
        yield opened


@pytest.fixture
def db(tmp_path: Path, ear: Ear) -> Iterator[SpeakerDB]:
    """The same in files."""
    with by_hand(tmp_path / "library", ear) as opened:
        yield opened


@pytest.fixture
def shell(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return lent(db, monkeypatch, capsys)


@pytest.fixture
def client(db: SpeakerDB) -> Iterator[TestClient]:
    asking = TestClient(create_app(db), base_url="http://localhost", client=("127.0.0.1", 50000))
    with asking:
        yield asking
