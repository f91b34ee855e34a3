"""A pool of spawned processes, each with several tasks in it: what one of them ends costs what was in it, and no more."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from queue import SimpleQueue
from typing import Any

from speakerdb.errors import ExtractionError
from speakerdb.executors.child import ANSWER, BEGUN, GAVE, REQUEST, TOLD, serve
from speakerdb.executors.port import Interrupted, Overdue, Result, Task, WorkerLost

END_SECONDS = 5.0
"""How long a process that was killed is waited for. One that waits for a dead network drive cannot be ended by anybody."""
START_SECONDS = 300.0
"""How long a process may take until it has begun with a task, which imports much; that is no part of the task's own time."""
LOOK_SECONDS = 1.0
"""How often a process is looked at that says nothing."""

_spawn = multiprocessing.get_context("spawn")
_children = threading.Lock()
"""Starting a process collects the exit statuses of others, which two threads must not do at once."""


class ProcessExecutor:
    """Runs tasks in `workers` spawned processes, `depth` in each at once, which end with this one, whatever becomes of it.

    A task goes to a process that has nothing to do, then to a new one, then to the one that has least to do. A task that is
    to be alone gets one more process where none is idle. Threads may share the executor.
    """

    def __init__(self, workers: int = 1, *, depth: int = 1, gpus: Sequence[str] = ()) -> None:
        """`gpus` are names for CUDA_VISIBLE_DEVICES: each process sees one of them, in turn. Without any, what it likes."""
        self.width = workers * depth
        self._count, self._depth, self._gpus = workers, depth, tuple(gpus)
        self._lock = threading.RLock()
        self._workers: list[_Worker] = []
        self._told = ""

    @property
    def processes(self) -> list[SpawnProcess]:
        """Those that are there now."""
        with self._lock:
            return [worker.process for worker in self._workers]

    def submit(
        self,
        function: Callable[[Task], Result],
        task: Task,
        *,
        timeout: float | None = None,
        alone: bool = False,
        on_told: Callable[[Any], None] | None = None,
    ) -> Future[Result]:
        future: Future[Result] = Future()
        future.set_running_or_notify_cancel()  # it cannot be cancelled, only ended
        try:
            packed = bytes(ForkingPickler.dumps((function, task)))
        except Exception as error:  # noqa: BLE001  pickling runs the task's own code, which may raise anything
            future.set_exception(error)
            return future
        with self._lock:
            self._chosen(alone=alone).give(_Job(future, timeout, alone, on_told), packed)
        return future

    def _chosen(self, *, alone: bool) -> _Worker:
        there = [worker for worker in self._workers if not (worker.leaving or worker.is_dead())]
        idle = next((worker for worker in there if not worker.jobs), None)
        if idle is not None:
            return idle
        shared = [worker for worker in there if not worker.is_taken]
        if alone or len(shared) < self._count:
            return self._start()
        return min(shared, key=lambda worker: len(worker.jobs))

    def _start(self) -> _Worker:
        taken = {worker.number for worker in self._workers}
        number = next(n for n in range(len(taken) + 1) if n not in taken)
        # The workers share the cores.
        threads = max(1, cores() // self._count) if self._count > 1 else None
        gpu = self._gpus[number % len(self._gpus)] if self._gpus else None
        worker = _Worker(number, threads, gpu, self)
        self._workers.append(worker)
        return worker

    def restart(self) -> str:
        with self._lock:
            told, self._told = self._told, ""
            workers, self._workers = self._workers, []
            jobs = [job for worker in workers for job in worker.surrender()]
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            _joined(worker.process)
        for job in jobs:
            job.future.set_exception(Interrupted("It was ended with all others."))
        return told

    def resize(self, workers: int) -> None:
        """The processes that are there leave when they have done what they were given: their share of the cores is another."""
        with self._lock:
            if workers == self._count:
                return
            self._count, self.width = workers, workers * self._depth
            for worker in list(self._workers):
                worker.leaving = True
                self.release(worker)

    def close(self) -> None:
        self.restart()

    # What the threads of a worker say

    def begun(self, worker: _Worker, number: int) -> None:
        """A task has begun."""
        with self._lock:
            if number in worker.jobs:
                worker.jobs[number].begun = time.monotonic()

    def told(self, worker: _Worker, number: int, packed: memoryview) -> None:
        """A task says how far it is."""
        with self._lock:
            job = worker.jobs.get(number)
        if job is not None and job.on_told is not None:
            job.on_told(pickle.loads(packed))  # noqa: S301  our child's

    def finished(self, worker: _Worker, number: int) -> _Job | None:
        """A task was answered; None where it was taken from the worker a moment before."""
        with self._lock:
            job = worker.drop(number)
            self.release(worker)
        return job

    def release(self, worker: _Worker) -> None:
        """End a process that has nothing to do, if it is to leave or there are more than there should be."""
        with self._lock:
            shared = sum(not (each.leaving or each.is_taken) for each in self._workers)
            if not worker.jobs and (worker.leaving or shared > self._count) and worker in self._workers:
                self._workers.remove(worker)
                worker.process.kill()

    def overdue(self, worker: _Worker) -> bool:
        """Whether the first of its tasks has taken too long."""
        with self._lock:
            return worker.is_overdue()

    def lost(self, worker: _Worker, how: str) -> list[_Job]:
        """A process is there no more, and these tasks with it; `how` is "" where it was ended by us."""
        with self._lock:
            if worker in self._workers:
                self._workers.remove(worker)
                self._told = how or self._told
            return worker.surrender()


@dataclass(slots=True)
class _Job:
    future: Future[Any]
    timeout: float | None
    alone: bool
    on_told: Callable[[Any], None] | None = None
    begun: float | None = None


class _Worker:
    """One process, what is in it, and two threads: one sends, so that a process that does not read makes nobody wait; one
    reads, and looks whether the process lives and the first of its tasks is overdue.

    The first one is served first inside the process, so its time is its own; the next one's counts from when it is first.
    `jobs` is touched under the executor's lock only.
    """

    def __init__(self, number: int, threads: int | None, gpu: str | None, pool: ProcessExecutor) -> None:
        self.number = number
        self.jobs: dict[int, _Job] = {}
        self.leaving = False
        self._pool = pool
        self._given = 0
        self._since = 0.0
        self._outbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._connection, theirs = _spawn.Pipe()
        name = f"speakerdb-worker-{number}"
        self.process = _spawn.Process(target=serve, args=(theirs, threads, gpu), name=name, daemon=True)
        try:
            with _children:
                self.process.start()
        except BaseException:
            self._connection.close()
            raise
        finally:
            theirs.close()
        for act in (self._send, self._watch):
            threading.Thread(target=act, name=name, daemon=True).start()

    @property
    def is_taken(self) -> bool:
        """Whether it is for one task only."""
        return any(job.alone for job in self.jobs.values())

    def is_dead(self) -> bool:
        """Whether the process has ended, also where nobody has noticed yet."""
        return bool(wait([self.process.sentinel], 0))

    def give(self, job: _Job, packed: bytes) -> None:
        """One more task."""
        if not self.jobs:
            self._since = time.monotonic()
        self._given += 1
        self.jobs[self._given] = job
        self._outbox.put(REQUEST.pack(self._given) + packed)

    def drop(self, number: int) -> _Job | None:
        """A task that was answered."""
        if number not in self.jobs:
            return None
        if next(iter(self.jobs)) == number:
            self._since = time.monotonic()
        return self.jobs.pop(number)

    def surrender(self) -> list[_Job]:
        """All of its tasks, which it has no more."""
        jobs, self.jobs = list(self.jobs.values()), {}
        return jobs

    def is_overdue(self) -> bool:
        """Whether the first of its tasks has taken too long."""
        first = next(iter(self.jobs.values()), None)
        if first is None or first.timeout is None:
            return False
        if first.begun is None:
            return time.monotonic() - self._since > START_SECONDS + first.timeout
        return time.monotonic() - max(first.begun, self._since) > first.timeout

    def _send(self) -> None:
        while (request := self._outbox.get()) is not None:
            try:
                self._connection.send_bytes(request)
            except OSError:  # it ended, which the other thread sees
                return

    def _watch(self) -> None:
        late = False
        while not late:
            ready = wait([self._connection, self.process.sentinel], LOOK_SECONDS)
            if self._connection in ready or (ready and self._connection.poll()):
                try:
                    answer = self._connection.recv_bytes()
                except (EOFError, OSError):
                    break
                self._answered(answer)
            elif ready:
                break
            late = self._pool.overdue(self)
        if late:
            jobs = self._pool.lost(self, "")
            self.process.kill()
            _joined(self.process)
            for n, job in enumerate(jobs):
                beside = Interrupted("It was ended with another task in its process.")
                job.future.set_exception(beside if n else Overdue("It took too long."))
        else:
            how = _how_it_ended(_joined(self.process))
            self.process.kill()  # if it only said so
            jobs = self._pool.lost(self, how)
            for job in jobs:
                job.future.set_exception(WorkerLost(how or "died", len(jobs)))
        self._outbox.put(None)
        self._connection.close()

    def _answered(self, answer: bytes) -> None:
        number, what = ANSWER.unpack_from(answer)
        if what == BEGUN:
            self._pool.begun(self, number)
            return
        if what == TOLD:
            self._pool.told(self, number, memoryview(answer)[ANSWER.size :])
            return
        job, good = self._pool.finished(self, number), what == GAVE
        if job is None:
            return
        try:
            value = pickle.loads(memoryview(answer)[ANSWER.size :])  # noqa: S301  our child's
        except Exception as error:  # noqa: BLE001  reading runs the answer's own code, which may raise anything
            good, value = False, ExtractionError(f"Its answer cannot be read ({type(error).__name__}: {error}).")
        if good:
            job.future.set_result(value)
        else:
            job.future.set_exception(value)


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _joined(process: SpawnProcess) -> int | None:
    """Wait for a process that is ending; its exit status, None where it does not end."""
    until = time.monotonic() + END_SECONDS
    while True:
        with _children:
            status = process.exitcode
        left = until - time.monotonic()
        if status is not None or left <= 0:
            return status
        wait([process.sentinel], left)
        time.sleep(0.001)  # between its last breath and its exit status


def _how_it_ended(status: int | None) -> str:
    """One sentence part."""
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
