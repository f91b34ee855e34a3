"""Where extraction runs: in this process, or in spawned workers that can be ended when a decoder hangs or crashes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Protocol, TypeVar

from speakerdb.errors import ConfigurationError, ExtractionError, SpeakerDBError

Task = TypeVar("Task")
Result = TypeVar("Result")

END_SECONDS = 5.0
"""How long an ended worker gets before it is killed."""


class Executor(Protocol):
    """Runs a function on a task. `width` is how many run at once; a caller submits no more than that."""

    width: int

    def submit(self, function: Callable[[Task], Result], task: Task) -> Future[Result]:
        """Start a task. A worker that dies shows as `concurrent.futures.BrokenExecutor` in the future."""

    def restart(self) -> str:
        """End whatever runs, however stuck it is; the next task starts afresh.

        Returns how a worker had ended by itself, to be read after "a worker process"; "" where none had, or nobody knows.
        """

    def resize(self, width: int) -> None:
        """Run so many at once from the next task on, as far as it can. What runs goes on."""

    def close(self) -> None:
        """End the workers. Fine to call twice."""


class InlineExecutor:
    """Runs each task at once, in this process. Nothing can be ended."""

    width = 1

    def submit(self, function: Callable[[Task], Result], task: Task) -> Future[Result]:
        future: Future[Result] = Future()
        try:
            future.set_result(function(task))
        except Exception as error:  # noqa: BLE001  a future carries any error; the reader decides by class
            future.set_exception(error)
        return future

    def restart(self) -> str:
        """Nothing runs between two tasks."""
        return ""

    def resize(self, width: int) -> None:
        """One at a time, always."""

    def close(self) -> None:
        """Nothing to end."""


class ProcessExecutor:
    """Runs tasks in `workers` spawned processes, which end with this one, whatever becomes of it."""

    def __init__(self, workers: int = 1) -> None:
        self.width = workers
        self._pool: ProcessPoolExecutor | None = None
        self._context = _RecordingContext()
        self._former: list[SpawnProcess] = []
        self._told = ""

    def submit(self, function: Callable[[Task], Result], task: Task) -> Future[Result]:
        try:
            return self._watched(self._started(), function, task)
        except BrokenExecutor:
            # A worker died while it had nothing to do, or with the task before this one, whose reader will ask how.
            self._told = self.restart()
            return self._watched(self._started(), function, task)

    def _watched(self, pool: ProcessPoolExecutor, function: Callable[[Task], Result], task: Task) -> Future[Result]:
        """Submit, and see to it that the pool watches every process it has.

        A pool wakes its watching thread *before* it starts a process for the task, so the thread goes on watching the
        others only: the death of the new one is not seen until something else happens. Another task is such a thing.
        """
        before = len(self._context.started)
        future = pool.submit(_portable, function, task)
        while before < (before := len(self._context.started)):
            try:
                pool.submit(os.getpid)
            except BrokenExecutor:
                break  # the task's own future says so
        return future

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._context = _RecordingContext()
            self._pool = ProcessPoolExecutor(
                self.width, mp_context=self._context, initializer=_initialise_worker, initargs=(self.width,)
            )
        return self._pool

    def restart(self) -> str:
        pool, self._pool = self._pool, None
        told, self._told = self._told, ""
        self._end_former()
        if pool is None:
            return told
        # A sentinel says that a process has ended without taking its exit status away from the pool, which asks too.
        ended = set(wait([process.sentinel for process in self._context.started], timeout=0))
        by_themselves = [process for process in self._context.started if process.sentinel in ended]
        for process in self._context.started:
            process.kill()
        pool.shutdown(wait=True, cancel_futures=True)
        return _how_they_ended([process.exitcode for process in by_themselves]) or told

    def resize(self, width: int) -> None:
        if width != self.width:
            pool, self._pool, self.width = self._pool, None, width
            if pool is not None:
                pool.shutdown(wait=False)  # its workers leave when they have done what they were given
                self._former += self._context.started

    def _end_former(self) -> None:
        """What a pool of another width had still to do is over, too."""
        for process in self._former:
            process.kill()
        self._former.clear()

    def close(self) -> None:
        self._end_former()
        pool, self._pool = self._pool, None
        if pool is not None:
            # Idle workers leave at once; one that is stuck in a decoder does not, and is killed.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in self._context.started:
                process.join(END_SECONDS)
                if process.is_alive():
                    process.kill()
            pool.shutdown(wait=True)


def make_executor(kind: str, workers: int = 1) -> Executor:
    """The executor that the setting `executor` names: ``process`` or ``inline``."""
    return ProcessExecutor(workers) if kind == "process" else InlineExecutor()


def _how_they_ended(statuses: Sequence[int | None]) -> str:
    """One sentence part. A pool that lost a worker ends the others by SIGTERM, which tells nothing."""
    told = [status for status in statuses if status is not None]
    status = next((each for each in told if each != -signal.SIGTERM), told[0] if told else None)
    if status is None:
        return ""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # a real-time signal has a number only
        name = "no name"
    why = ", as the system does when memory runs out" if status == -signal.SIGKILL else ""
    return f"was killed by signal {-status} ({name}){why}"


class _RecordingContext(SpawnContext):
    """Spawns as usual and remembers what it started, because a pool does not say whom to end."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[SpawnProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]
        process = SpawnProcess(*args, **kwargs)
        self.started.append(process)
        return process


def _portable(function: Callable[[Task], Result], task: Task) -> Result:
    """Run in the worker. An error that cannot be read on the other side would break the pool and hide what happened."""
    try:
        return function(task)
    except SpeakerDBError:
        raise
    except MemoryError as error:
        raise MemoryError(str(error)) from error  # a library's own class of it may not survive the way
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301  what was dumped here
        except Exception:  # noqa: BLE001  pickling runs the error's own code, which may raise anything
            raise ExtractionError(f"{type(error).__name__}: {error}") from error
        raise


def refuse_in_a_starting_worker() -> None:
    """`ConfigurationError` while a worker imports the program that started it: a script without a guard would run all of
    itself again in every worker, which kills them one after the other."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigurationError(
            "This program opens its library again in a worker process.",
            hint='Put what it does under `if __name__ == "__main__":`, or set executor to inline.',
        )


def _initialise_worker(workers: int) -> None:
    # Read by the numeric libraries when the model is first imported. Threads that wait for each other by spinning made a
    # model up to three times slower beside another busy process, and no faster on an idle machine (two cores).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if workers > 1:
        # The workers share the cores.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    # Ctrl-C reaches the whole group; the coordinator decides what becomes of the work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def leave_with_parent() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=leave_with_parent, daemon=True).start()
