"""The command line in this process on a small library, and a copy of all it holds, to see that nothing was written."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from speakerdb.cli.main import main
from speakerdb.service import SpeakerDB
from speakerdb.settings import load_settings

# Who works now and since when is no part of what a library holds.
NOT_HELD = ("leases", "fences", "sqlite_sequence")


@dataclass
class Ran:
    """How one command ended."""

    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error of a command that failed, of the first recording where there are several."""
        found = self.json["error"]
        assert isinstance(found, dict)
        return found


@dataclass
class CommandLine:
    """`speakerdb` in this process. The settings file is `folder/speakerdb.toml`, the library `folder/data`."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def __call__(self, *args: object) -> Ran:
        exit_code = main([*map(str, args), "--json"])
        out, err = self.capsys.readouterr()
        return Ran(exit_code, out, err)

    def ok(self, *args: object) -> Any:
        ran = self(*args)
        assert ran.exit_code == 0, ran
        return ran.json

    def refused(self, *args: object, code: str, exit_code: int) -> dict[str, Any]:
        """A command that must fail so, say what to do next, and leave everything as it was."""
        before = everything(self.data)
        ran = self(*args)
        assert (ran.error["code"], ran.exit_code, ran.error["exit_code"]) == (code, exit_code, exit_code), ran
        assert ran.error["message"], ran
        assert ran.error["hint"], f"no next step: {ran}"
        assert everything(self.data) == before
        return ran.error

    def open(self, **more: Any) -> SpeakerDB:
        """The same library through the API."""
        return SpeakerDB.open(load_settings(), **more)


def everything(data: Path) -> dict[str, Any]:
    """All rows of the catalog and of the index file, by file and table."""
    found: dict[str, Any] = {}
    for name in ("catalog.db", "index.db"):
        if not (data / name).exists():
            continue
        connection = sqlite3.connect(data / name)
        try:
            tables = [t for (t,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in sorted(set(tables) - set(NOT_HELD)):
                found[f"{name}/{table}"] = sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)  # noqa: S608
        finally:
            connection.close()
    return found


def rows(data: Path, sql: str, *values: object, file: str = "catalog.db") -> list[tuple[Any, ...]]:
    """Rows of a query on a connection of our own; what it writes is committed."""
    connection = sqlite3.connect(data / file)
    try:
        found = connection.execute(sql, values).fetchall()
        connection.commit()
        return found
    finally:
        connection.close()


def copy_database(source: Path, target: Path) -> None:
    """A consistent copy of a SQLite file in WAL mode, without logs beside it."""
    for leftover in ("", "-wal", "-shm"):
        target.with_name(target.name + leftover).unlink(missing_ok=True)
    one, other = sqlite3.connect(source), sqlite3.connect(target)
    try:
        one.backup(other)
    finally:
        one.close()
        other.close()


def make_command_line(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """A command line whose settings are those of `folder/speakerdb.toml`."""
    monkeypatch.setenv("SPEAKERDB_CONFIG", str(folder / "speakerdb.toml"))
    monkeypatch.setenv("SPEAKERDB_DATA_DIR", str(folder / "data"))
    return CommandLine(folder, capsys)
