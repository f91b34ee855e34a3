"""What takes longer than a request should: it runs in a thread of its own, and a client may wait for it or come back.

An operation is known to the process that runs it. What it does is written in SQL (the migration's state, the history of
repairs, the events), so that its outcome can be read anywhere, also when this process is gone.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio

from speakerdb.api.problems import ProblemDetails, Refusal, internal, of_error
from speakerdb.catalog.library import new_id
from speakerdb.errors import AlreadyExists, NotFound

MOST_RUNNING = 4
MOST_KEPT = 200


@dataclass(frozen=True, slots=True)
class OperationView:
    """Something that runs, or did. Instants are microseconds since the epoch in UTC."""

    id: str
    verb: str
    state: Literal["running", "done", "failed"]
    who: str | None
    started_at: int
    ended_at: int | None
    result: Any
    """What the verb's own answer is; None while it runs, and where it failed."""
    problem: ProblemDetails | None


@dataclass(slots=True)
class Operation:
    """One of them, as this process knows it."""

    id: str
    verb: str
    asked: object
    who: str | None
    started_at: int
    done: anyio.Event
    ended_at: int | None = None
    result: Any = None
    error: Exception | None = None

    def view(self) -> OperationView:
        """What a client sees."""
        if self.ended_at is None:
            return OperationView(self.id, self.verb, "running", self.who, self.started_at, None, None, None)
        if self.error is None:
            return OperationView(
                self.id, self.verb, "done", self.who, self.started_at, self.ended_at, self.result, None
            )
        problem = of_error(self.error) or internal()
        return OperationView(self.id, self.verb, "failed", self.who, self.started_at, self.ended_at, None, problem)


@dataclass(slots=True)
class Operations:
    """Those that run, and the last ones that did."""

    known: dict[str, Operation] = field(default_factory=dict)

    def begin(
        self,
        verb: str,
        asked: object,
        run: Callable[[], Any],
        *,
        who: str | None,
        operation_id: str | None = None,
        on_bug: Callable[[Exception], None],
    ) -> Operation:
        """Start it, in the context of the request. With an id of the caller's, the same again gives the one that is there;
        `AlreadyExists` where something else has the id. `Refusal` (`busy`) where enough run already."""
        if operation_id is not None and (known := self.known.get(operation_id)) is not None:
            if (known.verb, known.asked) != (verb, asked):
                raise AlreadyExists(f"The operation {operation_id!r} is there already, and is another one.")
            return known
        if sum(each.ended_at is None for each in self.known.values()) >= MOST_RUNNING:
            raise Refusal("busy", f"{MOST_RUNNING} operations run already.", headers={"Retry-After": "10"})
        one = Operation(operation_id or new_id("opr"), verb, asked, who, _now(), anyio.Event())
        self.known[one.id] = one
        self._forget_old()
        loop = asyncio.get_running_loop()

        def work() -> None:
            try:
                one.result = run()
            except Exception as error:  # noqa: BLE001  whatever it is, it is this operation's end
                one.error = error
                if of_error(error) is None:
                    on_bug(error)
            one.ended_at = _now()
            try:
                loop.call_soon_threadsafe(one.done.set)
            except RuntimeError:
                return  # the loop is over, and nobody waits

        # A process that must go does not wait for it: whatever it was at is resolved by who comes next.
        threading.Thread(
            target=contextvars.copy_context().run, args=(work,), name=f"speakerdb-{verb}", daemon=True
        ).start()
        return one

    def find(self, operation_id: str) -> Operation:
        """One that this process knows. `NotFound`."""
        found = self.known.get(operation_id)
        if found is None:
            raise NotFound(
                f"This process knows no operation {operation_id!r}.",
                hint="Another one may have run it. What came of it is in the migration's state, in the repairs' history and"
                " in the events.",
            )
        return found

    def _forget_old(self) -> None:
        ended = [each.id for each in self.known.values() if each.ended_at is not None]
        for old in ended[: max(0, len(self.known) - MOST_KEPT)]:
            del self.known[old]


def _now() -> int:
    return time.time_ns() // 1000
