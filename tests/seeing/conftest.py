from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from seeing_kit import Clock, CommandLine, Failing, command_line

from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings


@pytest.fixture
def answer() -> Failing:
    return Failing()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_db(tmp_path: Path, answer: Failing) -> Iterator[Callable[..., SpeakerDB]]:
    opened: list[SpeakerDB] = []

    def make(*, clock: Any = None, folder: Path | None = None, **more: Any) -> SpeakerDB:
        settings = fake_settings(folder or tmp_path / "data", **more)
        opened.append(SpeakerDB.open(settings, executor=FakeExecutor(answer), clock=clock))
        return opened[-1]

    yield make
    for db in opened:
        db.close()


@pytest.fixture
def db(open_db: Callable[..., SpeakerDB]) -> SpeakerDB:
    return open_db()


@pytest.fixture
def cli(
    tmp_path: Path, answer: Failing, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPEAKERDB_DATA_DIR", str(tmp_path / "data"))
    return command_line(tmp_path / "data", FakeExecutor(answer), monkeypatch, capsys)
