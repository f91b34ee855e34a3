"""One job of the schedule: a step, what became of it, and when it may be tried again.

An error is decided by its class. A transient one is logged once, and the step is tried again after a delay that grows. Any
other is tried again too, at a pace that harms nobody, and stands in the readiness until a run succeeds. None is swallowed:
each is counted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Literal, Protocol

from speakerdb.catalog.journal import Actor, acting
from speakerdb.core.redaction import places
from speakerdb.errors import LeaseHeld, LeaseLost, SpeakerDBError
from speakerdb.reports.jobs import JobState, JobView

FIRST_DELAY_SECONDS = 1.0
TRANSIENT_DELAY_SECONDS = 30.0
"""The longest delay after an error that goes away by itself."""
DELAY_SECONDS = 60.0
"""The longest delay after any other."""
UNFORESEEN = "internal"

logger = logging.getLogger("speakerdb.scheduler")


Answer = Literal["standby", "held-back", "idle"]
Step = Callable[[], Answer | None]
"""What a job does. None: it ran. ``standby`` and ``held-back``: it did nothing for that reason. ``idle``: it was not due, so
nothing is known that was not known before."""


class Counter(Protocol):
    """Who counts what jobs do."""

    def job_ran(self, job: str, seconds: float) -> None:
        """A run succeeded."""

    def job_failed(self, job: str, code: str) -> None:
        """A run met an error."""


class Job:
    """A step that is run again and again, by one thread at a time."""

    def __init__(
        self,
        name: str,
        step: Step,
        every: float,
        *,
        counter: Counter,
        stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`every` is how often the step is looked at, in seconds. Once `stopping()`, nothing is begun any more."""
        self.name = name
        self.every = every
        self._stopping = stopping
        self._step = step
        self._counter = counter
        self._clock = clock
        self._state: JobState = "waiting"
        self._not_before = 0.0
        self._delay = 0.0
        self._runs = self._failures = 0
        self._started: int | None = None
        self._succeeded: int | None = None
        self._error: tuple[str, str, int] | None = None
        """Code, message and since when, of the error that stands."""
        self._transient = False

    @property
    def running(self) -> bool:
        """Whether a thread is in the step."""
        return self._state == "running"

    @property
    def standing(self) -> str | None:
        """The error that does not go away by itself, in one sentence; None where there is none."""
        error = self._error
        if error is None or self._transient:
            return None
        return f"The job {self.name} fails ({error[0]}): {error[1]}"

    def run(self) -> None:
        """One run, unless it is too early after an error. Raises nothing but what ends a process."""
        if self._clock() < self._not_before:
            return
        self._state, self._started = "running", _now()
        if self._stopping():  # asked after it is seen to run: who stops waits for what runs
            self._state = "waiting"
            return
        began = self._clock()
        after: JobState = "waiting"
        try:
            with acting(Actor(source="schedule")):
                answer = self._step()
            if answer == "idle":
                after = "waiting" if self._error is None else "failing"
            else:
                after = answer or "waiting"
                self._well(began)
        except LeaseHeld:
            after = "standby"
            self._well(began)
        except LeaseLost as error:
            # Somebody took over; what was not committed is theirs. Next time shows who works.
            logger.warning("job-lost-its-lease job=%s", self.name)
            self._count(error.code)
            after = "standby"
        except SpeakerDBError as error:
            after = "failing"
            self.met(error)
        except Exception as error:  # noqa: BLE001  the last door: what nobody foresaw is told, and the others go on
            after = "failing"
            self._stand(UNFORESEEN, f"{type(error).__name__}: {error}", transient=False, where=places(error))
        finally:
            self._state = after

    def alive(self) -> None:
        """A run that goes on for long has come on; called from inside of it."""
        self._succeeded = _now()

    def met(self, error: SpeakerDBError) -> None:
        """The step met an error; called from inside of one that goes on in spite of it."""
        self._stand(error.code, error.message, transient=error.transient, where="")

    def recovered(self) -> None:
        """What the step had met is over."""
        if self._error is not None:
            logger.info("job-recovered job=%s code=%s", self.name, self._error[0])
        self._error, self._delay, self._not_before = None, 0.0, 0.0

    def view(self) -> JobView:
        """How it stands."""
        error = self._error
        code, message, since = error if error is not None else (None, None, None)
        left = self._not_before - self._clock()
        return JobView(
            name=self.name, state=self._state, every_seconds=self.every, runs=self._runs, failures=self._failures,
            last_started=self._started, last_succeeded=self._succeeded, code=code, message=message, failing_since=since,
            retry_seconds=round(left, 1) if left > 0 else None,
        )  # fmt: skip

    def _well(self, began: float) -> None:
        self.recovered()
        self._runs += 1
        self._succeeded = _now()
        self._counter.job_ran(self.name, self._clock() - began)

    def _stand(self, code: str, message: str, *, transient: bool, where: str) -> None:
        new = self._error is None or self._error[0] != code
        longest = TRANSIENT_DELAY_SECONDS if transient else DELAY_SECONDS
        self._delay = min(longest, max(FIRST_DELAY_SECONDS, 2 * self._delay))
        self._not_before = self._clock() + self._delay
        if new:
            self._error = (code, message, _now())
            self._transient = transient
            level = logging.WARNING if transient else logging.ERROR
            logger.log(
                level, "job-failed job=%s code=%s transient=%s where=%s", self.name, code, transient, where or "-"
            )
        elif self._error is not None:
            self._error = (code, message, self._error[2])
        self._count(code)

    def _count(self, code: str) -> None:
        self._failures += 1
        self._counter.job_failed(self.name, code)


def _now() -> int:
    return time.time_ns() // 1000
