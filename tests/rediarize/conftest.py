"""A library whose diarizer is what a test says, on either kind of database, the command line on it, and its HTTP API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rediarize_kit import by_hand
from starlette.testclient import TestClient

from speakerdb.api.app import create_app
from speakerdb.cli import session
from speakerdb.cli.main import main
from speakerdb.service import SpeakerDB
from tests.listen.conftest import Ear
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


@dataclass
class Shell:
    """The command line on the library of a test."""

    capsys: pytest.CaptureFixture[str]

    def run(self, *args: object) -> tuple[int, str, str]:
        self.capsys.readouterr()
        code = main([str(each) for each in args])
        out, err = self.capsys.readouterr()
        return code, out, err

    def ok(self, *args: object) -> str:
        code, out, err = self.run(*args)
        assert code == 0, (args, out, err)
        return out

    def json(self, *args: object) -> Any:
        return json.loads(self.ok(*args, "--json"))

    def refused(self, *args: object) -> dict[str, Any]:
        code, out, _ = self.run(*args, "--json")
        error = json.loads(out)["error"]
        assert code == error["exit_code"] != 0
        return dict(error)


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
