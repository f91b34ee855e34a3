"""New files are opened in a process of their own: one that kills it or never comes to an end is refused, and the rest is
brought in."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import intake_kit as kit
import pytest

from speakerdb import opener as opening
from speakerdb.executors import InlineExecutor, ProcessExecutor
from speakerdb.opener import Opener
from speakerdb.service import SpeakerDB
from speakerdb.types import MediaInfo

open_files = opening.open_files


def _open_some(paths: Sequence[Path]) -> list[Any]:
    """As `open_files`, but some files are deadly and some are endless. Runs in the other process."""
    for path in paths:
        if path.name == "003.wav":
            ctypes.string_at(0)
        if path.name == "005.wav":
            time.sleep(600)
    return open_files(paths)


class Remembering(ProcessExecutor):
    """Knows every process that it had."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.started: set[SpawnProcess] = set()

    def submit(self, *given: Any, **more: Any) -> Any:
        future = super().submit(*given, **more)
        self.started.update(self.processes)
        return future


def test_a_deadly_and_an_endless_file_stop_nobody_else(
    db: SpeakerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "open_files", _open_some)
    made: list[Remembering] = []

    def make() -> ProcessExecutor:
        made.append(Remembering(1))
        return made[-1]

    db.ingest._opener = lambda: Opener(make, 20.0)
    path = kit.library(tmp_path, 8)
    report = db.ingest.bring_in([path])
    assert (report.added, report.refused, report.refused_by_code) == (6, 2, {"media-unreadable": 2})
    told = " ".join(one.message for one in report.sample)
    assert "003.wav cannot be read: the process that opened it was killed by signal 11 (SIGSEGV)" in told
    assert "005.wav cannot be read: opening it took more than 20 s" in told
    assert len(made) == 1
    assert made[0].started
    assert not any(process.is_alive() for process in made[0].started)
    monkeypatch.setattr(opening, "open_files", open_files)
    again = db.ingest.bring_in([path])
    assert (again.added, again.unchanged, again.refused) == (2, 6, 0)


class Counting(InlineExecutor):
    """Remembers which files it was asked to open."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def submit(self, function: Any, task: Any) -> Any:
        self.opened += [path.name for path in task]
        return super().submit(function, task)


def test_only_what_is_new_is_opened(db: SpeakerDB, tmp_path: Path) -> None:
    counting = Counting()
    db.ingest._opener = lambda: Opener(lambda: counting, 60.0)
    path = kit.library(tmp_path, 5)
    db.ingest.bring_in([path])
    assert sorted(counting.opened) == [f"{n:03}.wav" for n in range(5)]
    db.ingest.bring_in([path])
    kit.sound(tmp_path / "media" / "002.wav", seed=99)
    db.ingest.bring_in([path])
    assert sorted(counting.opened) == ["000.wav", "001.wav", "002.wav", "002.wav", "003.wav", "004.wav"]


def test_a_run_that_is_over_opens_nothing_more() -> None:
    opener = Opener(InlineExecutor, 60.0)
    opener.close()
    (found,) = opener.open([Path("a.wav")])
    assert not isinstance(found, MediaInfo)
    assert "the run is over" in found.message
