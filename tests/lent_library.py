"""The command line and the HTTP API on a library that a test has open, and libraries on either kind of database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from speakerdb.cli import session
from speakerdb.cli.main import main
from speakerdb.service import SpeakerDB

EITHER = ["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)]
"""The kinds of database, as parameters of a fixture that gives itself to `on_either`."""


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


def lent(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """The command line, whose every command gets this library."""

    class Lent:
        """The test's library; a command may not close it."""

        def __enter__(self) -> SpeakerDB:
            return db

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(session, "open_service", lambda _: Lent())
    return Shell(capsys)


@contextmanager
def on_either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every library has its catalog in an SQLite file, or in a database on PostgreSQL, as the fixture's parameter says."""
    if request.param == "sqlite":
        yield
        return
    with request.getfixturevalue("spare_databases").as_catalogs(monkeypatch):
        yield
