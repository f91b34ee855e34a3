"""Events as what can be taken back."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from speakerdb.catalog.database import Row, Transaction
from speakerdb.catalog.schema import events

UNDONE = "change-undone"


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it stands in SQL."""

    id: int
    at: int
    kind: str
    who: str
    why: str | None
    entity_id: str | None
    data: Mapping[str, Any]


def find(tx: Transaction, event_id: int) -> Event | None:
    """An event by id."""
    row: Row | None = tx.execute(sa.select(events).where(events.c.id == event_id)).one_or_none()
    if row is None:
        return None
    return Event(row.id, row.at, row.kind, row.who, row.why, row.entity_id, json.loads(row.data))


def last_standing(tx: Transaction, kinds: Collection[str]) -> Event | None:
    """The last event of these kinds that was not taken back.

    Read from the newest backwards: what took an event back is always newer than the event.
    """
    query = (
        sa.select(events.c.id, events.c.kind, sa.case((events.c.kind == UNDONE, events.c.data)))
        .where(events.c.kind.in_([*kinds, UNDONE]))
        .order_by(events.c.id.desc())
    )
    undone: set[int] = set()
    for event_id, kind, data in tx.execute(query.execution_options(yield_per=500)):
        if kind == UNDONE:
            undone.add(json.loads(data)["event"])
        elif event_id not in undone:
            return find(tx, event_id)
    return None


def undone_by(tx: Transaction, event_id: int) -> int | None:
    """The event that took another one back."""
    query = sa.select(events.c.id, events.c.data).where(events.c.kind == UNDONE, events.c.id > event_id)
    return next((row.id for row in tx.execute(query) if json.loads(row.data)["event"] == event_id), None)


def split_that_made(tx: Transaction, source: str, made: str) -> list[Any] | None:
    """What the split of a speaker was asked for that made another one; None where none did, or it was taken back.

    The newest decides: an id of the caller's may be given again after that.
    """
    query = sa.select(events.c.id, events.c.data).where(events.c.entity_id == source, events.c.kind == "speaker-split")
    for row in tx.execute(query.order_by(events.c.id.desc())).all():
        told: dict[str, Any] = json.loads(row.data)
        if told["new"] == made:
            return told.get("asked") if undone_by(tx, row.id) is None else None
    return None
