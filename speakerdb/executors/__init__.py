"""Where extraction runs: in this process, or in spawned workers that can be ended when a decoder hangs or crashes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from speakerdb.errors import ConfigurationError
from speakerdb.executors.port import Executor, Interrupted, Overdue, Result, Task, WorkerLost
from speakerdb.executors.processes import ProcessExecutor
from speakerdb.executors.telling import told

__all__ = [
    "IN_FLIGHT",
    "Executor",
    "InlineExecutor",
    "Interrupted",
    "Overdue",
    "ProcessExecutor",
    "WorkerLost",
    "make_executor",
    "refuse_in_a_starting_worker",
    "share_out",
]

IN_FLIGHT = 3
"""Recordings in one extracting process: one is embedded, one is decoded, and one is on its way, or hangs."""


_DEVICES = Path("/dev")


class InlineExecutor:
    """Runs each task at once, in this process. Nothing can be ended, so a task may take as long as it likes."""

    width = 1

    def submit(
        self,
        function: Callable[[Task], Result],
        task: Task,
        *,
        timeout: float | None = None,  # noqa: ARG002  the port's
        alone: bool = False,  # noqa: ARG002
        on_told: Callable[[Any], None] | None = None,
    ) -> Future[Result]:
        future: Future[Result] = Future()
        try:
            with told(on_told):
                future.set_result(function(task))
        except Exception as error:  # noqa: BLE001  a future carries any error; the reader decides by class
            future.set_exception(error)
        return future

    def restart(self) -> str:
        """Nothing runs between two tasks."""
        return ""

    def resize(self, workers: int) -> None:
        """One at a time, always."""

    def close(self) -> None:
        """Nothing to end."""


def make_executor(kind: str, workers: int = 1, *, depth: int = 1, gpus: Sequence[str] = ()) -> Executor:
    """The executor that the setting `executor` names: ``process`` or ``inline``."""
    return ProcessExecutor(workers, depth=depth, gpus=gpus) if kind == "process" else InlineExecutor()


def share_out(workers: int, device: str) -> tuple[int, tuple[str, ...]]:
    """How many worker processes there are to be, and the GPUs that they share, one each in turn; none where each takes what
    it finds. With `workers` 0 there are as many as GPUs, where the device is ``auto`` and there are several, else one."""
    gpus = _visible_gpus() if device == "auto" else ()
    if len(gpus) < 2:
        return workers or 1, ()
    return workers or len(gpus), gpus


def _visible_gpus() -> tuple[str, ...]:
    """The NVIDIA GPUs that this process may use, as names for CUDA_VISIBLE_DEVICES. No driver is asked: that would take
    seconds, and memory on each of them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        names = tuple(part.strip() for part in given.split(",") if part.strip())
        return () if any(name.startswith("-") for name in names) else names
    return tuple(str(n) for n, _ in enumerate(_DEVICES.glob("nvidia[0-9]*")))


def refuse_in_a_starting_worker() -> None:
    """`ConfigurationError` while a worker imports the program that started it: a script without a guard would run all of
    itself again in every worker, which kills them one after the other."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigurationError(
            "This program opens its library again in a worker process.",
            hint='Put what it does under `if __name__ == "__main__":`, or set executor to inline.',
        )
