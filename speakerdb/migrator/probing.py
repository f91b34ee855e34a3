"""What a migration needs is tried in a worker process, whose death is not ours: the models, and the diarizer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from typing import Any

from speakerdb.errors import WorkerDied, WorkerTimeout
from speakerdb.executors import Executor, Interrupted, Overdue
from speakerdb.extraction.task import LoadDiarizer, LoadEmbedder
from speakerdb.migrator.preflight import Probe, probe_model
from speakerdb.types import Generation


class Probing:
    """Loads what is asked for in a worker, which then has it loaded."""

    def __init__(self, executor: Executor, load: LoadEmbedder, load_diarizer: LoadDiarizer, timeout: float) -> None:
        self._executor = executor
        self._load = load
        self._load_diarizer = load_diarizer
        self._timeout = timeout

    def model(self, generation: Generation) -> Probe:
        """A generation's model, measured. Raises what loading raises, `WorkerTimeout` and `WorkerDied`."""
        found: Probe = self._tried(_model, (self._load, generation), f"the model of {generation.name}")
        return found

    def diarizer(self) -> str:
        """What the diarizer is called. Raises the same."""
        return str(self._tried(_diarizer, self._load_diarizer, "the diarizer"))

    def _tried(self, function: Callable[[Any], Any], task: object, what: str) -> Any:
        try:
            return self._once(function, task, what)
        except Interrupted:
            # Extraction in this process was paused, or lost its lease, and let all workers go: no fault of what is tried.
            try:
                return self._once(function, task, what)
            except Interrupted as error:
                raise WorkerDied(f"The worker process was ended while it loaded {what}.") from error

    def _once(self, function: Callable[[Any], Any], task: object, what: str) -> Any:
        # Alone: a model is not to be asked by two at once, and what is measured is not to be disturbed.
        future = self._executor.submit(function, task, timeout=self._timeout, alone=True)
        try:
            return future.result()
        except Overdue as error:
            raise WorkerTimeout(f"{what[0].upper()}{what[1:]} was not ready after {self._timeout:g} s.") from error
        except Interrupted:
            raise
        except BrokenExecutor as error:
            how = getattr(error, "how", "") or "was ended"
            raise WorkerDied(f"The worker process {how} while it loaded {what}.") from error


def _model(task: tuple[LoadEmbedder, Generation]) -> Probe:
    return probe_model(*task)


def _diarizer(load: LoadDiarizer) -> str:
    found = load("mix")
    return str(getattr(found, "told", found.name))
