"""A diarizer in another process: what it says comes through, and what ends it costs one file."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from speakerdb.diarizers.asked import Channels
from speakerdb.diarizers.elsewhere import Elsewhere
from speakerdb.diarizers.port import (
    Artifact,
    Diarization,
    DiarizationProgress,
    Diarizer,
    Hints,
    OnArtifact,
    OnDiarization,
)
from speakerdb.diarizers.sound import Sound
from speakerdb.errors import DiarizerRefused, InvalidInput, WorkerDied, WorkerTimeout
from speakerdb.executors import ProcessExecutor
from speakerdb.types import Turn, Waveform


@dataclass(frozen=True)
class Odd:
    """A diarizer that does what the name of the file says."""

    name: str = "odd"
    told: str = "odd on cpu"

    def diarize(
        self,
        sound: Sound,
        hints: Hints = Hints(),  # noqa: B008
        *,
        on_progress: OnDiarization | None = None,
        on_artifact: OnArtifact | None = None,
    ) -> Diarization:
        if sound.name == "dies":
            os._exit(3)
        if sound.name == "hangs":
            threading.Event().wait()
        if sound.name == "full":
            raise MemoryError
        if on_progress is not None:
            on_progress(DiarizationProgress("listening", 1, 2))
        if on_artifact is not None:
            on_artifact(Artifact("listening", 1, np.arange(3)))
        return Diarization((Turn(0.0, 1.0, f"of {hints.num_speakers}"),), (), 1.0, self.name)


@dataclass(frozen=True)
class Load:
    def __call__(self, channels: Channels) -> Diarizer:
        return Odd()


@dataclass(frozen=True)
class Refuse:
    def __call__(self, channels: Channels) -> Diarizer:
        raise DiarizerRefused("It is a program.")


@pytest.fixture
def executor() -> Iterator[ProcessExecutor]:
    with closing(ProcessExecutor()) as made:
        yield made


def _sound(name: str) -> Sound:
    return Sound.of_file(Path(f"{name}.wav"))


def test_what_it_says_and_finds_comes_through(executor: ProcessExecutor) -> None:
    diarizer = Elsewhere("a folder", Load(), executor, patience_seconds=60)
    progress: list[DiarizationProgress] = []
    artifacts: list[Artifact] = []
    found = diarizer.diarize(_sound("fine"), Hints(2), on_progress=progress.append, on_artifact=artifacts.append)
    assert [turn.speaker for turn in found.turns] == ["of 2"]
    assert [each.step for each in progress] == ["loading", "listening"]
    assert [each.values.tolist() for each in artifacts] == [[0, 1, 2]]
    assert diarizer.told == "odd on cpu"


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [("dies", WorkerDied, "exit status 3"), ("hangs", WorkerTimeout, "ended"), ("full", WorkerDied, "memory")],
)
def test_what_ends_it_costs_one_file(executor: ProcessExecutor, name: str, error: type[Exception], told: str) -> None:
    diarizer = Elsewhere("a folder", Load(), executor, patience_seconds=1 if name == "hangs" else 60)
    with pytest.raises(error, match=told):
        diarizer.diarize(_sound(name))
    assert Elsewhere("a folder", Load(), executor, patience_seconds=60).diarize(_sound("fine")).seconds == 1.0


def test_errors_keep_their_class(executor: ProcessExecutor) -> None:
    with pytest.raises(DiarizerRefused):
        Elsewhere("a folder", Refuse(), executor, patience_seconds=60).diarize(_sound("fine"))
    with pytest.raises(InvalidInput):
        Elsewhere("x", Load(), executor, patience_seconds=60).diarize(
            Sound.of_waveform(Waveform(np.zeros(10, np.float32), 10))
        )
