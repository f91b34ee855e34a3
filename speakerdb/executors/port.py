"""The port that extraction runs on, and how a task can end that is no answer of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from typing import Any, Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class WorkerLost(BrokenExecutor):
    """The process that a task was in has ended by itself.

    `how` it ended is to be read after "its worker process" ("was killed by signal 9 (SIGKILL)"); `held` says how many
    tasks were in it.
    """

    def __init__(self, how: str, held: int = 1) -> None:
        super().__init__(f"The worker process {how}.")
        self.how = how
        self.held = held


class Overdue(BrokenExecutor):
    """The task took longer than it may, and was ended with its process."""


class Interrupted(BrokenExecutor):
    """The task's process was ended for another one's sake, or for everybody's. The task may be given again."""


class Executor(Protocol):
    """Runs a function on a task. `width` is how many run at once; a caller submits no more than that, and one `alone`."""

    width: int

    def submit(
        self,
        function: Callable[[Task], Result],
        task: Task,
        *,
        timeout: float | None = None,
        alone: bool = False,
        on_told: Callable[[Any], None] | None = None,
    ) -> Future[Result]:
        """Start a task. One that is `alone` shares its process with no other, because it may end it. `on_told` is called, in
        any thread, with what the task tells of itself (`telling.tell`).

        A process that ends shows as `concurrent.futures.BrokenExecutor` in the futures of the tasks that were in it, and in
        no other: `WorkerLost`; `Overdue` where it was ended because the task took more than `timeout` seconds, from when
        it has begun and nothing that was given before it is in its way; `Interrupted` for what was in the same process.
        """

    def restart(self) -> str:
        """End whatever runs, however stuck it is; the next task starts afresh.

        Returns how a worker had ended by itself, to be read after "a worker process"; "" where none had, or nobody knows.
        """

    def resize(self, workers: int) -> None:
        """Use so many workers from the next task on, as far as it can. What runs goes on."""

    def close(self) -> None:
        """End the workers. Fine to call twice."""
