"""What is counted for the metrics: a few numbers for each generation, read in one transaction.

Nothing here is exact to the last row for ever: whoever asks keeps an answer for some seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from speakerdb.catalog.database import Transaction
from speakerdb.catalog.repair_log import WAIVED
from speakerdb.catalog.schema import projections, quarantine, repair_runs, work_items
from speakerdb.catalog.work import LANE


@dataclass(frozen=True, slots=True)
class Lag:
    """Documents of one generation that the index has not got as SQL says. Instants are microseconds since the epoch."""

    rows: int = 0
    oldest: int | None = None
    """The lowest version that waits, which is when it was asked for; without those that a person has waived."""
    rejected: int = 0
    """How many of them the index refuses as they are."""
    waived: int = 0
    """How many of those may stay so on a person's word."""


def lags(tx: Transaction) -> dict[str, Lag]:
    """The lag by generation; those without one are left out. Walks no more rows than wait."""
    refused = projections.c.rejected_version == projections.c.version
    waived = sa.and_(
        projections.c.rejected_version.is_not(None), refused, WAIVED
    )  # in this order: few rows are refused
    query = (
        sa.select(
            projections.c.generation,
            sa.func.count(),
            sa.func.min(sa.case((~waived, projections.c.version))),
            sa.func.sum(sa.case((refused, 1), else_=0)),
            sa.func.sum(sa.case((waived, 1), else_=0)),
        )
        .where(projections.c.version > projections.c.indexed_version)
        .group_by(projections.c.generation)
    )
    return {row[0]: Lag(int(row[1]), row[2], int(row[3]), int(row[4])) for row in tx.execute(query)}


def items_by_state(tx: Transaction) -> list[tuple[str, str, int]]:
    """Lane (a generation, or ``diarize``), state and how many work items are in it."""
    query = sa.select(LANE, work_items.c.state, sa.func.count())
    rows = tx.execute(query.group_by(LANE, work_items.c.state))
    return [(generation, state, int(count)) for generation, state, count in rows]


def failed_by_code(tx: Transaction) -> list[tuple[str, str, int]]:
    """Lane, error code and how many recordings failed with it."""
    query = (
        sa.select(LANE, work_items.c.error_code, sa.func.count())
        .where(work_items.c.state == "failed")
        .group_by(LANE, work_items.c.error_code)
    )
    return [(generation, code, int(count)) for generation, code, count in tx.execute(query)]


@dataclass(frozen=True, slots=True)
class LastRun:
    """The newest repair run of one kind in one generation."""

    generation: str
    kind: str
    state: str
    started_at: int
    ended_at: int | None
    compared: int
    found: Mapping[str, int]


def last_runs(tx: Transaction) -> list[LastRun]:
    """The newest run of each kind, by generation."""
    newest = sa.select(sa.func.max(repair_runs.c.id)).group_by(repair_runs.c.generation, repair_runs.c.kind)
    query = sa.select(repair_runs).where(repair_runs.c.id.in_(newest))
    return [
        LastRun(
            row.generation, row.kind, row.state, row.started_at, row.ended_at, row.compared,
            {name: count for name, count in json.loads(row.found).items() if isinstance(count, int)},
        )
        for row in tx.execute(query.order_by(repair_runs.c.generation, repair_runs.c.kind))
    ]  # fmt: skip


def last_repaired(tx: Transaction, kind: str) -> int | None:
    """When a repair of this kind began last that came to its end, or was refused."""
    query = sa.select(sa.func.max(repair_runs.c.started_at)).where(
        repair_runs.c.kind == kind, repair_runs.c.state.in_(("done", "refused"))
    )
    found: int | None = tx.scalar(query)
    return found


@dataclass(frozen=True, slots=True)
class Quarantined:
    """What could not be mended in one generation, by error code."""

    generation: str
    code: str
    documents: int
    oldest: int


def quarantined(tx: Transaction) -> Sequence[Quarantined]:
    """The quarantine without what a person waived."""
    query = (
        sa.select(quarantine.c.generation, quarantine.c.code, sa.func.count(), sa.func.min(quarantine.c.first_at))
        .where(quarantine.c.waived_why.is_(None))
        .group_by(quarantine.c.generation, quarantine.c.code)
    )
    return [Quarantined(row[0], row[1], int(row[2]), int(row[3])) for row in tx.execute(query)]
