"""A library whose recordings are answered in threads, as a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from speakerdb.extraction.extract import Extracted, Task, Together
from speakerdb.reports import AddReport
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import fake_extract, silence, two_voices

PATIENCE = 60.0


class Threads:
    """An executor that runs `answer` in threads, and knows what runs and what was given."""

    def __init__(self, width: int, answer: Callable[[Task], Any] = fake_extract) -> None:
        self.width = width
        self.answer = answer
        self.together: Callable[[tuple[Task, ...]], Any] | None = None
        self.given: list[tuple[tuple[str, ...], bool]] = []
        """Of each task the recording and generations, and whether it was to be alone."""
        self.running: list[str] = []
        self.restarts = 0
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(16)

    def submit(
        self, function: Callable[[Any], Any], task: Any, *, timeout: float | None = None, alone: bool = False
    ) -> Future[Any]:
        if not isinstance(task, Task | Together):
            return self._threads.submit(function, task)  # a model that is tried
        tasks = task.tasks if isinstance(task, Together) else (task,)
        self.given.append(((task.recording_id, *(each.generation.name for each in tasks)), alone))

        def run() -> Any:
            with self._lock:
                self.running.append(task.recording_id)
            try:
                if isinstance(task, Together):
                    return tuple(map(self.answer, tasks)) if self.together is None else self.together(tasks)
                return self.answer(task)
            finally:
                with self._lock:
                    self.running.remove(task.recording_id)

        return self._threads.submit(run)

    def restart(self) -> str:
        self.restarts += 1
        return ""

    def resize(self, workers: int) -> None:
        """As wide as the test says."""

    def close(self) -> None:
        self._threads.shutdown()


def add(db: SpeakerDB, *names: str) -> list[AddReport]:
    """Recordings of 20 s given in memory, with two voices each."""
    return [db.add(None, two_voices(), recording_id=name, waveform=silence(20)) for name in names]


def states(db: SpeakerDB) -> dict[tuple[str, str], tuple[str, int, str | None]]:
    """By recording and generation: state, attempts, code."""
    with db.catalog.read() as tx:
        sql = "SELECT recording_id, generation, state, attempts, error_code FROM work_items"
        return {(r[0], r[1]): (r[2], r[3], r[4]) for r in tx.exec_driver_sql(sql)}


def tried(db: SpeakerDB, *names: str) -> None:
    """As if they had been tried once."""
    with db.catalog.job() as tx:
        for name in names:
            tx.exec_driver_sql("UPDATE work_items SET attempts = 1 WHERE recording_id = ?", (name,))


def answered(task: Task, **changes: Any) -> Extracted:
    """What `fake_extract` answers, changed."""
    found = fake_extract(task)
    values = {name: getattr(found, name) for name in Extracted.__slots__} | changes
    return Extracted(**values)
