"""Whether the database and the index answer: looked at by a job, so that a question of readiness never waits for either."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from speakerdb.catalog import journal
from speakerdb.errors import BackendError, IndexMissing, SpeakerDBError
from speakerdb.metrics import Metrics
from speakerdb.scheduler.jobs import Answer
from speakerdb.service import SpeakerDB
from speakerdb.types import SERVING_ALIAS

STALE_SECONDS = 10.0
"""A look that takes longer than this means that something does not answer."""

logger = logging.getLogger("speakerdb.scheduler")


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen last: None is well, else the error's code and message."""

    database: tuple[str, str] | None
    index: tuple[str, str] | None


class Watch:
    """Looks, and remembers."""

    def __init__(self, db: SpeakerDB, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._db = db
        self._metrics = metrics
        self._clock = clock
        self._seen: Seen | None = None
        self._at = clock()

    def look(self) -> Answer | None:
        """Ask both."""
        database = self._database()
        index = self._index()
        self._tell("database", None if self._seen is None else self._seen.database, database)
        self._tell("index", None if self._seen is None else self._seen.index, index)
        self._seen, self._at = Seen(database, index), self._clock()
        return None

    def reasons(self) -> list[str]:
        """Why this process cannot answer now; empty where it can."""
        seen, age = self._seen, self._clock() - self._at
        if seen is None:
            return ["The database and the index were not looked at yet."]
        found = [f"{message} ({code})" for code, message in filter(None, (seen.database, seen.index))]
        if age > STALE_SECONDS:
            found.append(f"The database or the index has not answered for {age:.0f} s.")
        return found

    def _database(self) -> tuple[str, str] | None:
        try:
            with self._db.catalog.read() as tx:
                journal.live_generations(tx)
        except SpeakerDBError as error:
            return error.code, error.message
        return None

    def _index(self) -> tuple[str, str] | None:
        gauges = self._metrics.gauges
        sick = self._ping()
        if sick is not None:
            gauges.index_up = False  # at once: what is asked next waits for as long as a cluster may take to come back
        try:
            gauges.serving = self._db.serving.resolve(fresh=True).generation.name
        except SpeakerDBError as error:
            gauges.serving = None
            # An alias that names nothing was an answer.
            gauges.index_up = sick is None and not isinstance(error, BackendError)
            return sick or (error.code, error.message)
        gauges.index_up = sick is None
        return sick

    def _ping(self) -> tuple[str, str] | None:
        """An alias is there whatever became of its index: closed, or with a shard that is gone, it answers no match."""
        try:
            self._db.index.ping(SERVING_ALIAS)
        except IndexMissing:
            return None  # `resolve` says what the alias names
        except SpeakerDBError as error:
            return error.code, error.message
        return None

    def _tell(self, what: str, before: tuple[str, str] | None, now: tuple[str, str] | None) -> None:
        """Into the log, whenever it changes."""
        if now is not None and (before is None or before[0] != now[0]):
            logger.warning("no-answer of=%s code=%s", what, now[0])
        elif now is None and before is not None:
            logger.info("answers-again of=%s", what)
