"""What is deleted because nobody needs it for ever, and how far something has gone through the events."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from speakerdb.catalog.database import Transaction, replacing
from speakerdb.catalog.schema import cursors, events, repair_runs


def delete_events(tx: Transaction, kinds: Collection[str], before: int, limit: int) -> int:
    """Delete the oldest events of these kinds that are older than an instant, `limit` at most; how many.

    Never one that belongs to a migration, nor the newest of all: numbers only grow.
    """
    newest = sa.select(sa.func.max(events.c.id)).scalar_subquery()
    old = (
        sa.select(events.c.id)
        .where(events.c.kind.in_(list(kinds)), events.c.at < before, events.c.migration_id.is_(None))
        .where(events.c.id < newest)
        .order_by(events.c.id)
        .limit(limit)
    )
    return tx.execute(sa.delete(events).where(events.c.id.in_(old))).rowcount


def delete_runs(tx: Transaction, before: int, limit: int) -> int:
    """Delete repair runs that ended before an instant, `limit` at most; how many. The last of each kind and end stays."""
    last = (
        sa.select(sa.func.max(repair_runs.c.id))
        .group_by(repair_runs.c.generation, repair_runs.c.kind, repair_runs.c.state)
        .scalar_subquery()
    )
    old = (
        sa.select(repair_runs.c.id)
        .where(repair_runs.c.ended_at < before, repair_runs.c.id.not_in(last))
        .order_by(repair_runs.c.id)
        .limit(limit)
    )
    return tx.execute(sa.delete(repair_runs).where(repair_runs.c.id.in_(old))).rowcount


def happened_between(tx: Transaction, kind: str, since: int, until: int, *, entity_id: str) -> bool:
    """Whether an event of this kind about this thing was written between two instants. One of the future was written by a
    clock that was moved back since, and says nothing of them."""
    query = sa.select(events.c.id).where(events.c.kind == kind, events.c.entity_id == entity_id)
    return tx.scalar(query.where(events.c.at > since, events.c.at <= until).limit(1)) is not None


def position(tx: Transaction, name: str) -> int | None:
    """The number of the last event that something has come past; None where it never began."""
    found: int | None = tx.scalar(sa.select(cursors.c.position).where(cursors.c.name == name))
    return found


def move_to(tx: Transaction, name: str, event: int, now: int) -> None:
    """It has come past this event."""
    row = {"name": name, "position": event, "updated_at": now}
    tx.execute(replacing(tx.dialect.name, cursors, "position", "updated_at"), [row])
