"""Small libraries without sound, and the command line on them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from speakerdb.cli import session
from speakerdb.cli.main import app, main
from speakerdb.extraction.extract import Extracted, Task
from speakerdb.reports import AddReport
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_extract, fake_settings, silence, two_voices
from speakerdb.types import Turn

Answer = Callable[[Task], Extracted]


def add(db: SpeakerDB, name: str, turns: tuple[Turn, ...] | None = None, *, seconds: float = 20.0) -> AddReport:
    """A recording given in memory, with two voices unless told otherwise."""
    return db.add(None, turns or two_voices(seconds), recording_id=name, waveform=silence(seconds))


class Failing:
    """Answers like the fake, and raises for the recordings it is told to."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}

    def __call__(self, task: Task) -> Extracted:
        if (error := self.errors.get(task.recording_id)) is not None:
            raise error
        return fake_extract(task)


class Clock:
    """The database's clock, moved by hand: microseconds since the epoch."""

    def __init__(self) -> None:
        self.at = 1_750_000_000_000_000

    def __call__(self) -> int:
        self.at += 1
        return self.at

    def forward(self, seconds: float) -> None:
        self.at += int(seconds * 1e6)


@dataclass
class Ran:
    """How one command ended."""

    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class CommandLine:
    """`speakerdb` in this process on a library of `folder`."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *args: object) -> Ran:
        exit_code = main([str(arg) for arg in args])
        sys.stdout.flush()
        out, err = self.capsys.readouterr()
        return Ran(exit_code, out, err)


def command_line(
    folder: Path, executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """A command line whose library is the fake one in `folder`."""
    monkeypatch.setattr(
        session, "open_service", lambda _settings: SpeakerDB.open(fake_settings(folder), executor=executor)
    )
    return CommandLine(folder, capsys)


def parses(command: str) -> bool:
    """Whether a shown command is one that exists, with options that it has and every argument that it needs."""
    words = command.split()
    if words[0] == "unset":
        return len(words) == 2
    assert words.pop(0) == "speakerdb"
    found: Any = get_command(app)
    while words and words[0] in getattr(found, "commands", {}):
        found = found.commands[words.pop(0)]
    if getattr(found, "commands", None):
        return False
    found.make_context("speakerdb", list(words))
    return True
