from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cli_fake import FakeDB, opened

from speakerdb.cli import session
from speakerdb.cli.main import main
from speakerdb.settings import Settings


@dataclass
class Result:
    """What one run of the command line left."""

    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class CommandLine:
    """Runs commands in this process against the fake."""

    db: FakeDB
    capsys: pytest.CaptureFixture[str]
    settings: list[Settings] = field(default_factory=list)

    def __call__(self, *args: str | Path) -> Result:
        exit_code = main([str(a) for a in args])
        out, err = self.capsys.readouterr()
        return Result(exit_code, out, err)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> CommandLine:
    run = CommandLine(FakeDB(), capsys)
    monkeypatch.setattr(session, "open_service", lambda settings: opened(run.db, run.settings, settings))
    monkeypatch.setattr("speakerdb.cli.db.upgrade_schema", lambda _: "0001")
    monkeypatch.setenv("SPEAKERDB_DATA_DIR", str(tmp_path / "data"))
    # Set first, so that what `--config` and the demo write there is taken back.
    for name in ("SPEAKERDB_CONFIG", "MPLCONFIGDIR", "OMP_NUM_THREADS"):
        value = os.environ.get(name)
        monkeypatch.setenv(name, value or "")
        if value is None:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return run


@pytest.fixture
def rttm(tmp_path: Path) -> Callable[..., Path]:
    """Writes an RTTM file of one turn for each named recording."""

    def write(*names: str, file: str = "turns.rttm") -> Path:
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        lines = [f"SPEAKER {name} 1 {position}.0 2.5 <NA> <NA> A <NA> <NA>" for position, name in enumerate(names)]
        path.write_text("\n".join(lines) + "\n")
        return path

    return write
