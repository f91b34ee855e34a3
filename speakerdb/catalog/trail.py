"""The audit trail, as it is read: newest first for a person, oldest first for a file or a follower."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from speakerdb.catalog.database import Row, Transaction, holds
from speakerdb.catalog.schema import events
from speakerdb.reports.seeing import EventFilter

ANY = EventFilter()
_SHORTENED = re.compile(r"[a-z]{3}_[0-9a-f]{1,20}")


def latest_events(tx: Transaction, limit: int, where: EventFilter = ANY) -> list[dict[str, Any]]:
    """The last events that match, newest first."""
    query = _matching(where).order_by(events.c.id.desc()).limit(limit)
    return [_event(row) for row in tx.execute(query)]


def events_after(tx: Transaction, after: int, limit: int, where: EventFilter = ANY) -> list[dict[str, Any]]:
    """The first events that match and come after an event (by number), oldest first. With it, any length is read in parts."""
    query = _matching(where).where(events.c.id > after).order_by(events.c.id).limit(limit)
    return [_event(row) for row in tx.execute(query)]


def newest_number(tx: Transaction) -> int:
    """The number of the last event; 0 where there is none."""
    return tx.scalar(sa.select(sa.func.max(events.c.id))) or 0


def events_about(tx: Transaction, ids: Sequence[str], limit: int) -> list[dict[str, Any]]:
    """The last events about any of these things, newest first."""
    query = sa.select(events).where(events.c.entity_id.in_(list(ids))).order_by(events.c.id.desc()).limit(limit)
    return [_event(row) for row in tx.execute(query)]


def events_naming(tx: Transaction, entity_id: str, limit: int) -> list[dict[str, Any]]:
    """The last events whose data name a thing, newest first. It walks the whole trail: for what is gone only."""
    query = sa.select(events).where(holds(tx.dialect.name, events.c.data, json.dumps(entity_id)))
    return [_event(row) for row in tx.execute(query.order_by(events.c.id.desc()).limit(limit))]


def entities(tx: Transaction, beginning: str, limit: int = 3) -> list[str]:
    """Ids of things that events are about and that begin so, in order. Only an id that was made here can be shortened."""
    if not _SHORTENED.fullmatch(beginning):
        return []
    query = (
        sa.select(events.c.entity_id)
        .where(events.c.entity_id >= beginning, events.c.entity_id < beginning + "~")
        .distinct()
        .order_by(events.c.entity_id)
        .limit(limit)
    )
    return [found for found in tx.scalars(query) if found is not None]


def _matching(where: EventFilter) -> sa.Select[Any]:
    query = sa.select(events)
    if where.kinds:
        query = query.where(events.c.kind.in_(list(where.kinds)))
    if where.entity is not None:
        query = query.where(events.c.entity_id == where.entity)
    if where.who is not None:
        query = query.where(events.c.who == where.who)
    if where.since is not None:
        query = query.where(events.c.at >= where.since)
    if where.until is not None:
        query = query.where(events.c.at < where.until)
    if where.migration is not None:
        query = query.where(events.c.migration_id == where.migration)
    return query


def _event(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "at": row.at,
        "kind": row.kind,
        "who": row.who,
        "source": row.source,
        "why": row.why,
        "migration": row.migration_id,
        "entity": row.entity_id,
        "data": json.loads(row.data),
    }
