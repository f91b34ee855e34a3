"""A diarizer in a process of its own: a file that makes a decoder crash or hang costs that file."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, wait
from dataclasses import dataclass
from pathlib import Path

from speakerdb.diarizers.asked import Channels
from speakerdb.diarizers.port import (
    NO_HINTS,
    Artifact,
    Diarization,
    DiarizationProgress,
    Diarizer,
    Hints,
    OnArtifact,
    OnDiarization,
)
from speakerdb.diarizers.sound import Sound
from speakerdb.errors import InvalidInput, WorkerDied, WorkerTimeout
from speakerdb.executors import Executor
from speakerdb.executors.telling import tell

POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Task:
    path: Path
    name: str
    hints: Hints
    load: Callable[[Channels], Diarizer]
    artifacts: bool


class Elsewhere:
    """What `load` makes, in a worker of the executor. It listens to files only."""

    def __init__(
        self, name: str, load: Callable[[Channels], Diarizer], executor: Executor, *, patience_seconds: float
    ) -> None:
        """A worker that says nothing for `patience_seconds` is ended."""
        self.name = self.told = name
        self._load, self._executor, self._patience = load, executor, patience_seconds

    def diarize(
        self,
        sound: Sound,
        hints: Hints = NO_HINTS,
        *,
        on_progress: OnDiarization | None = None,
        on_artifact: OnArtifact | None = None,
    ) -> Diarization:
        """See the port. `WorkerDied` and `WorkerTimeout` besides; what loading the diarizer raises."""
        if sound.path is None:
            raise InvalidInput("Samples in memory are not sent to another process.")
        heard = [time.monotonic()]

        def on_told(told: object) -> None:
            heard.append(time.monotonic())
            del heard[:-1]
            if isinstance(told, Artifact) and on_artifact is not None:
                on_artifact(told)
            elif isinstance(told, DiarizationProgress) and on_progress is not None:
                on_progress(told)

        task = _Task(sound.path, sound.name, hints, self._load, on_artifact is not None)
        found, self.told = self._answer(self._executor.submit(_listen, task, on_told=on_told), heard)
        return found

    def _answer(self, future: Future[tuple[Diarization, str]], heard: list[float]) -> tuple[Diarization, str]:
        late = False
        while not future.done():
            wait([future], POLL_SECONDS)
            if not future.done() and time.monotonic() - heard[-1] > self._patience:
                late = True
                self._executor.restart()
        try:
            return future.result()
        except BrokenExecutor as error:
            if late:
                raise WorkerTimeout(f"Nothing was heard of it for {self._patience:g} s, and it was ended.") from error
            raise WorkerDied(f"its worker process {getattr(error, 'how', 'died')}.") from error
        except MemoryError as error:
            raise WorkerDied("its worker process ran out of memory.") from error


def _listen(task: _Task) -> tuple[Diarization, str]:
    """In the worker."""
    tell(DiarizationProgress("loading"))
    diarizer = task.load("mix")
    sound = Sound(task.name, Sound.of_file(task.path).read, task.path)
    found = diarizer.diarize(sound, task.hints, on_progress=tell, on_artifact=tell if task.artifacts else None)
    return found, str(getattr(diarizer, "told", diarizer.name))
