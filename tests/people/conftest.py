"""A library without sound whose vectors a test chooses, and the command line on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakerdb.core.pooling import pool
from speakerdb.extraction.extract import Extracted, Task
from speakerdb.reports import AddReport
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FAKE_CHECKSUM, FakeExecutor, fake_extract, fake_settings, silence
from speakerdb.types import FloatArray, Turn
from tests.lent_library import Shell, lent


def turns(*seconds: float, labels: str = "ABC") -> tuple[Turn, ...]:
    """Turns one after the other, of the labels in turn."""
    found, at = [], 0.0
    for number, length in enumerate(seconds):
        found.append(Turn(at, at + length, labels[number % len(labels)]))
        at += length
    return tuple(found)


def unit(*values: float, dimension: int) -> FloatArray:
    """A unit vector that begins with these numbers."""
    vector = np.zeros(dimension)
    vector[: len(values)] = values
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def at_angle(degrees: float, dimension: int, axis: int = 1) -> FloatArray:
    """A unit vector at an angle to the first axis, towards another."""
    vector = np.zeros(dimension)
    vector[0], vector[axis] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return vector.astype(np.float32)


@dataclass
class Voiced:
    """Answers extraction with the vector that `vectors` says for a recording and a label; else with a random one.

    Turns of a task name their speakers by id, so `labels` translates.
    """

    vectors: Mapping[str, Callable[[int], FloatArray]]

    def __call__(self, task: Task) -> Extracted:
        answer = fake_extract(task)
        results = dict(answer.results)
        for speaker, result in answer.results.items():
            make = self.vectors.get(speaker)
            if make is not None:
                results[speaker] = pool(make(task.generation.dimension)[None], [result.seconds])
        return Extracted(
            task.recording_id, task.content_version, results, answer.speech_seconds, "fake", FAKE_CHECKSUM, ()
        )


@pytest.fixture
def vectors() -> dict[str, Callable[[int], FloatArray]]:
    """What a test wants the vector of a speaker (by id) to be, by dimension."""
    return {}


@pytest.fixture
def db(tmp_path: Path, vectors: dict[str, Callable[[int], FloatArray]]) -> Iterator[SpeakerDB]:
    with SpeakerDB.open(fake_settings(tmp_path / "library"), executor=FakeExecutor(Voiced(vectors))) as opened:
        yield opened


def add(db: SpeakerDB, name: str, *seconds: float, labels: str = "AB", **more: Any) -> AddReport:
    """A recording in memory, whose speakers talk in turn."""
    chosen = turns(*(seconds or (8.0, 5.0, 7.0)), labels=labels)
    return db.add(None, chosen, recording_id=name, waveform=silence(chosen[-1].end), **more)


def events(db: SpeakerDB) -> list[dict[str, Any]]:
    """All events, the oldest first."""
    return db.events(limit=1_000_000)[::-1]


@pytest.fixture
def shell(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return lent(db, monkeypatch, capsys)
