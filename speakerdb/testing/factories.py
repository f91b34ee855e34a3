"""Libraries without sound or weights: for tests of everything that is not the sound or the weights.

`FakeExecutor` answers extraction tasks from the recording's id and content alone, so a test knows what every vector
must be without running the product.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from speakerdb.core.pooling import pool
from speakerdb.diarizers.port import Diarization
from speakerdb.errors import ExtractionError, NeedsTurns, SpeakerDBError
from speakerdb.extraction.extract import Answer, Extracted, Task, Together
from speakerdb.extraction.task import Diarized, DiarizeTask
from speakerdb.migrator.preflight import Probe
from speakerdb.settings import GenerationSettings, Settings
from speakerdb.types import Embedding, FloatArray, Turn, Unembeddable, Waveform

FAKE_CHECKSUM = "0" * 64


def fake_settings(
    data_dir: Path, *, serving: str = "v3", dimensions: Mapping[str, int] | None = None, **more: Any
) -> Settings:
    """Settings of a small library whose generations need no weights; SQLite and the embedded index in `data_dir`."""
    sizes = dimensions or {"v3": 24, "v4": 16}
    generations = {
        name: GenerationSettings(
            family="spectral", model="spectral-a" if name == "v3" else "spectral-b", dimension=size
        )
        for name, size in sizes.items()
    }
    values: dict[str, Any] = {"executor": "inline", "disk_floor_mb": 0} | more
    return Settings(data_dir=data_dir, serving=serving, generations=generations, **values)


def fake_vector(text: str, dimension: int) -> FloatArray:
    """A unit vector that depends on `text` alone, the same on every machine."""
    raw = b"".join(
        hashlib.blake2b(f"{text}/{block}".encode(), digest_size=64).digest() for block in range((dimension + 31) // 32)
    )
    values = np.frombuffer(raw, dtype="<u2")[:dimension].astype(np.float64) / 32767.5 - 1.0
    return np.asarray(values / np.linalg.norm(values), dtype=np.float32)


def silence(seconds: float, sample_rate: int = 16000) -> Waveform:
    """A waveform of a given length that takes no memory."""
    return Waveform(np.broadcast_to(np.float32(0), (int(seconds * sample_rate),)), sample_rate)


def two_voices(seconds: float = 20.0) -> tuple[Turn, ...]:
    """Turns of two speakers who take turns."""
    half = seconds / 2
    return (Turn(0.0, half, "SPEAKER_00"), Turn(half, seconds, "SPEAKER_01"))


def fake_extract(task: Task) -> Extracted:
    """What `FakeExecutor` answers: a vector from speaker id, generation and content; under 1 s is unembeddable."""
    seconds: dict[str, float] = {}
    if not task.turns:
        raise NeedsTurns(f"{task.recording_id} has no turns.")
    for turn in task.turns:
        seconds[turn.speaker] = seconds.get(turn.speaker, 0.0) + turn.end - turn.start
    results: dict[str, Embedding | Unembeddable] = {}
    for speaker, length in seconds.items():
        if length < task.generation.recipe.minimum_seconds:
            results[speaker] = Unembeddable("too-short", length)
        else:
            text = f"{task.generation.name}/{speaker}/{task.content_version}"
            results[speaker] = pool(fake_vector(text, task.generation.dimension)[np.newaxis], [length])
    return Extracted(task.recording_id, task.content_version, results, sum(seconds.values()), "fake", FAKE_CHECKSUM, ())


def fake_diarize(task: DiarizeTask) -> Diarized:
    """What `FakeExecutor` answers: two who take turns in all of the recording, and no voices."""
    seconds = task.seconds or 20.0
    found = Diarization(
        turns=two_voices(seconds), exclusive=two_voices(seconds), seconds=seconds, diarizer="fake",
        overlap_scores=None, embeddings={}, embedding_recipe="fake",
    )  # fmt: skip
    return Diarized(task.recording_id, task.content_version, found, {}, ())


class FakeExecutor:
    """Answers extraction tasks by `answer`, diarizations by `listen` and pre-flight probes at once; runs anything else inline.

    `answer` may raise, to play a broken recording or a worker that died.
    """

    width = 1

    def __init__(
        self,
        answer: Callable[[Task], Extracted] = fake_extract,
        listen: Callable[[DiarizeTask], Diarized] = fake_diarize,
    ) -> None:
        self.answer = answer
        self.listen = listen
        self.restarts = 0

    def submit(
        self,
        function: Callable[[Any], Any],  # noqa: ARG002
        task: Any,
        *,
        timeout: float | None = None,  # noqa: ARG002
        alone: bool = False,  # noqa: ARG002
        on_told: Callable[[Any], None] | None = None,  # noqa: ARG002
    ) -> Future[Any]:
        """A finished future."""
        future: Future[Any] = Future()
        try:
            if isinstance(task, Task):
                future.set_result(self.answer(task))
            elif isinstance(task, DiarizeTask):
                future.set_result(self.listen(task))
            elif isinstance(task, Together):
                future.set_result(tuple(self._answer(each) for each in task.tasks))
            else:
                future.set_result(Probe("fake", 1000.0))
        except Exception as error:  # noqa: BLE001  a future carries any error
            future.set_exception(error)
        return future

    def _answer(self, task: Task) -> Answer:
        """One of several: what goes wrong with it is its own."""
        try:
            return self.answer(task)
        except SpeakerDBError as error:
            return error
        except ZeroDivisionError as error:  # what tests take for a fault that nobody foresaw
            return ExtractionError(f"{type(error).__name__}: {error}")

    def restart(self) -> str:
        """Counted."""
        self.restarts += 1
        return ""

    def resize(self, workers: int) -> None:
        """One at a time, always."""

    def close(self) -> None:
        """Nothing to end."""
