"""What nobody needs for ever is deleted, in small steps; and a reminder before a roll-back period ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from speakerdb.catalog import cleaning, journal
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction
from speakerdb.core.lifecycle import State
from speakerdb.events import ROUTINE
from speakerdb.settings import ScheduleSettings
from speakerdb.types import SERVING_ALIAS

DAY = 86_400_000_000
"""Microseconds."""
PART = 2000
"""Rows that one transaction deletes, so that nobody waits for long."""
REMINDER = "rollback-ending"


@dataclass(frozen=True, slots=True)
class CleanReport:
    """What was deleted."""

    events: int = 0
    repair_runs: int = 0


class Housekeeping:
    """Cleans up after the library. Two of them at once do no harm."""

    def __init__(self, catalog: Catalog, settings: ScheduleSettings, *, who: str) -> None:
        self._catalog = catalog
        self._settings = settings
        self._who = who

    def clean_up(self, *, stop: Callable[[], bool] = lambda: False) -> CleanReport:
        """Delete what is older than the settings keep it. What people decided, what was removed and what became of
        migrations stays; so does what the code itself asks the events about."""
        now = self._catalog.now()
        days = self._settings.keep_events_days
        gone = 0
        if days:
            while not stop():
                with self._catalog.job() as tx:
                    part = cleaning.delete_events(tx, ROUTINE, now - int(days * DAY), PART)
                    if part:
                        gone += part
                        journal.record(tx, "events-cleaned", self._who, now, count=part, before=now - int(days * DAY))
                if part < PART:
                    break
        runs, kept = 0, max(DAY, int(self._settings.keep_runs_days * DAY))  # the brake counts the deletions of a day
        while not stop():
            with self._catalog.job() as tx:
                part = cleaning.delete_runs(tx, now - kept, PART)
            runs += part
            if part < PART:
                break
        return CleanReport(gone, runs)

    def remind(self) -> bool:
        """Write down that a roll-back period ends soon, or is over; once a day, whoever asks. Whether it did now."""
        with self._catalog.read() as tx:
            if self._due(tx) is None:
                return False
        with self._catalog.job() as tx:  # alone, so that two processes do not both
            due = self._due(tx)
            if due is None:
                return False
            now = self._catalog.now()
            journal.record(
                tx, REMINDER, self._who, now, migration_id=due.id, entity_id=due.source,
                target=due.target, ends_at=due.rollback_until, days_left=round((due.rollback_until - now) / DAY, 1),
            )  # fmt: skip
        return True

    def _due(self, tx: Transaction) -> _Due | None:
        row = journal.active(tx, SERVING_ALIAS)
        if row is None or row.state is not State.FINALIZED or row.rollback_until is None:
            return None
        now = self._catalog.now()
        if row.rollback_until - now > self._settings.remind_days * DAY:
            return None
        if cleaning.happened_between(tx, REMINDER, now - DAY, now, entity_id=row.source):
            return None
        return _Due(row.id, row.source, row.target, row.rollback_until)


@dataclass(frozen=True, slots=True)
class _Due:
    id: int
    source: str
    target: str
    rollback_until: int
