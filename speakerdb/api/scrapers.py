"""Who may read the metrics: remembered for a minute, since they are needed most while the database says nothing."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from speakerdb.access import Access
from speakerdb.errors import BackendError, DatabaseUnavailable
from speakerdb.reports.access import TokenView

T = TypeVar("T")

REMEMBERED_SECONDS = 60.0
"""For so long the database is not asked again. A token that is taken back reads the metrics no longer than this."""
PATIENCE_SECONDS = 2.0
"""For so long the database may take to say who asks. With `metrics.PATIENCE_SECONDS` it is less than the ten seconds that
Prometheus waits."""
ASKING = 4
"""So many may wait for the database. Where it stands still, more of them would only fill the memory."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What the database said, and until when it is not asked again. After `ends` it is worth nothing, whatever is away."""

    answer: TokenView | bool
    until: float
    ends: float


class Remembered:
    """Answers as `Access` does, from memory where it can. Where the database does not answer, what it said last stands:
    nobody takes a token back in a database that is away.

    Kept are digests of secrets that are right, and nothing of others.
    """

    def __init__(self, access: Access, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._access = access
        self._clock = clock
        self._said: dict[str, _Said] = {}
        self._asking = threading.BoundedSemaphore(ASKING)

    def check(self, secret: str) -> TokenView | None:
        """The token of a secret. `DatabaseUnavailable` where it is not known, and the database does not say it in time."""
        digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
        found = self._answer(digest, lambda: self._access.check(secret))
        return None if isinstance(found, bool) else found

    def any_tokens(self) -> bool:
        """Whether a token was ever made. Raises as `check`."""
        return bool(self._answer("", lambda: self._access.any_tokens()))

    def _answer(self, key: str, ask: Callable[[], TokenView | bool | None]) -> TokenView | bool | None:
        now = self._clock()
        known = self._said.get(key)
        if known is not None and now >= known.ends:
            known = None
        if known is not None and now < known.until:
            return known.answer
        try:
            answer = self._in_time(ask)
        except BackendError:
            if known is None:
                raise
            return known.answer
        if answer is None:
            self._said.pop(key, None)
            return None
        expires = None if isinstance(answer, bool) else answer.expires_at
        ends = float("inf") if expires is None else now + expires / 1e6 - time.time()
        self._said[key] = _Said(answer, now + REMEMBERED_SECONDS, ends)
        return answer

    def _in_time(self, ask: Callable[[], T]) -> T:
        """What is answered within `PATIENCE_SECONDS`. A server that is frozen answers after minutes: the thread is left to
        it."""
        if not self._asking.acquire(blocking=False):
            raise DatabaseUnavailable("The database has not said for a while who asks.")
        told: Future[T] = Future()

        def run() -> None:
            try:
                answer = ask()
            except Exception as error:  # noqa: BLE001  raised where it is waited for
                self._asking.release()
                told.set_exception(error)
            else:
                self._asking.release()  # before it is told: who hears it may ask again
                told.set_result(answer)

        threading.Thread(target=run, name="speakerdb-scraper", daemon=True).start()
        try:
            return told.result(PATIENCE_SECONDS)
        except TimeoutError:
            raise DatabaseUnavailable("The database does not say in time who asks.") from None
