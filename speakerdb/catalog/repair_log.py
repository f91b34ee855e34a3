"""What repairs did, what they could not mend, and how far the walk with vectors is."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from speakerdb.catalog.database import Row, Transaction, can_hold, cleaned, held, parts, replacing
from speakerdb.catalog.schema import projections, quarantine, repair_cursors, repair_runs
from speakerdb.core.drift import delay
from speakerdb.reports.repairing import QuarantineView, RunKind, RunState, RunView

DAY = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run came to its end."""

    state: RunState
    compared: int
    found: Mapping[str, int]
    done: Mapping[str, int]
    code: str | None = None
    message: str | None = None


def begin(tx: Transaction, generation: str, kind: RunKind, epoch: int, who: str, why: str | None, now: int) -> int:
    """Write down that a run has begun; its number. Runs that never came to their end are ended: their holder is gone."""
    tx.execute(
        sa.update(repair_runs)
        .where(repair_runs.c.generation == generation, repair_runs.c.state == "running", repair_runs.c.epoch < epoch)
        .values(state="stopped", ended_at=now, message="The process that repaired is gone.")
    )
    statement = sa.insert(repair_runs).values(
        generation=generation, kind=kind, epoch=epoch, who=held(who), why=held(why), state="running", started_at=now,
        compared=0, found="{}", done="{}", deletions=0,
    )  # fmt: skip
    return int(tx.execute(statement.returning(repair_runs.c.id)).scalar_one())


def note_deletions(tx: Transaction, run: int, deletions: int) -> None:
    """So many more documents are being deleted: in the transaction that does it, so that the brake never forgets one."""
    tx.execute(
        sa.update(repair_runs).where(repair_runs.c.id == run).values(deletions=repair_runs.c.deletions + deletions)
    )


def end(tx: Transaction, run: int, ended: Ended, now: int) -> None:
    """Write down how a run ended. Of those that found nothing only the newest of its kind is kept, so that a check every
    ten minutes leaves no rows behind."""
    values = {
        "state": ended.state, "ended_at": now, "compared": ended.compared, "found": json.dumps(dict(ended.found)),
        "done": json.dumps(dict(ended.done)), "code": ended.code,
        "message": None if ended.message is None else cleaned(ended.message),
    }  # fmt: skip
    row = tx.execute(
        sa.update(repair_runs).where(repair_runs.c.id == run).values(**values).returning(*repair_runs.c)
    ).one()
    if ended.state == "done" and not ended.found and not ended.done:
        tx.execute(
            sa.delete(repair_runs).where(
                repair_runs.c.generation == row.generation, repair_runs.c.kind == row.kind, repair_runs.c.id < run,
                repair_runs.c.state == "done", repair_runs.c.found == "{}", repair_runs.c.done == "{}",
                repair_runs.c.deletions == 0,
            )
        )  # fmt: skip


def last(tx: Transaction, generation: str, kind: RunKind | None = None, *, before: int | None = None) -> RunView | None:
    """The newest run of a generation."""
    query = sa.select(repair_runs).where(repair_runs.c.generation == generation)
    if kind is not None:
        query = query.where(repair_runs.c.kind == kind)
    if before is not None:
        query = query.where(repair_runs.c.id < before)
    row = tx.execute(query.order_by(repair_runs.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else _run(row)


def history(tx: Transaction, limit: int, generation: str | None = None) -> list[RunView]:
    """The last runs, newest first."""
    query = sa.select(repair_runs).order_by(repair_runs.c.id.desc()).limit(limit)
    if generation is not None:
        query = query.where(repair_runs.c.generation == generation)
    return [_run(row) for row in tx.execute(query)]


def deleted_since(tx: Transaction, generation: str, since: int) -> int:
    """How many documents repairs have deleted from a generation's index since an instant."""
    query = sa.select(sa.func.sum(repair_runs.c.deletions)).where(
        repair_runs.c.generation == generation, repair_runs.c.started_at > since
    )
    return int(tx.scalar(query) or 0)


def _run(row: Row) -> RunView:
    return RunView(
        row.id, row.generation, row.kind, row.who, row.why, row.state, row.started_at, row.ended_at, row.compared,
        json.loads(row.found), json.loads(row.done), row.deletions, row.code, row.message,
    )  # fmt: skip


# Quarantine


@dataclass(frozen=True, slots=True)
class Unmended:
    """Something that a repair could not mend."""

    id: str
    difference: str
    code: str
    message: str


_CHANGED = ("difference", "code", "message", "attempts", "last_at", "next_at")


def put(tx: Transaction, generation: str, found: Sequence[Unmended], now: int) -> None:
    """Leave these alone for a while: longer each time."""
    for part in parts(found, 1000):
        known = _attempts(tx, generation, [one.id for one in part])
        rows = []
        for one in part:
            attempts = known.get(one.id, 0) + 1
            rows.append(
                {"generation": generation, "entity_id": one.id, "difference": one.difference, "code": one.code,
                 "message": cleaned(one.message), "attempts": attempts, "first_at": now, "last_at": now,
                 "next_at": now + int(delay(attempts) * 1e6)}
            )  # fmt: skip
        tx.execute(replacing(tx.dialect.name, quarantine, *_CHANGED), rows)


def _attempts(tx: Transaction, generation: str, ids: Sequence[str]) -> dict[str, int]:
    query = sa.select(quarantine.c.entity_id, quarantine.c.attempts).where(
        quarantine.c.generation == generation, quarantine.c.entity_id.in_(ids)
    )
    return {row.entity_id: row.attempts for row in tx.execute(query)}


def take_out(tx: Transaction, generation: str, ids: Collection[str]) -> None:
    """These are as they should be."""
    for part in parts(list(ids)):
        tx.execute(sa.delete(quarantine).where(quarantine.c.generation == generation, quarantine.c.entity_id.in_(part)))


def standing(tx: Transaction, generation: str, ids: Sequence[str], now: int) -> dict[str, bool]:
    """Those of them that are in quarantine, and whether they are to be tried again now. One that was tried in the future is:
    the clock was moved back since. So is one that a person has waived and that was removed since: nobody said of it that it
    may stay."""
    removed = sa.select(projections.c.entity_id).where(
        projections.c.generation == generation,
        projections.c.entity_id == quarantine.c.entity_id,
        projections.c.deleted,
    )
    waived = sa.and_(quarantine.c.waived_why.is_not(None), ~removed.exists()).label("waived")
    query = sa.select(quarantine.c.entity_id, quarantine.c.last_at, quarantine.c.next_at, waived)
    query = query.where(quarantine.c.generation == generation)
    return {
        row.entity_id: (row.next_at <= now or row.last_at > now) and not row.waived
        for part in parts([id for id in ids if can_hold(id)])
        for row in tx.execute(query.where(quarantine.c.entity_id.in_(part)))
    }


WAIVED: sa.ColumnElement[bool] = sa.and_(
    sa.select(quarantine.c.entity_id)
    .where(
        quarantine.c.generation == projections.c.generation,
        quarantine.c.entity_id == projections.c.entity_id,
        quarantine.c.waived_why.is_not(None),
    )
    .exists(),
    projections.c.deleted.is_(False),
)
"""Of a row: whether a person has said that its document may stay as it is."""


def entries(tx: Transaction, generation: str, limit: int) -> list[QuarantineView]:
    """What is in quarantine in a generation: what is due first, and what a person has waived last."""
    query = sa.select(quarantine).where(quarantine.c.generation == generation)
    waived = sa.case((quarantine.c.waived_why.is_not(None), 1), else_=0)
    return [_entry(row) for row in tx.execute(query.order_by(waived, quarantine.c.next_at).limit(limit))]


def chosen(
    tx: Transaction,
    *,
    generation: str | None = None,
    code: str | None = None,
    ids: Sequence[str] | None = None,
    limit: int | None = None,
) -> list[QuarantineView]:
    """What is in quarantine, by what is given; the oldest first."""
    query = sa.select(quarantine).order_by(quarantine.c.first_at, quarantine.c.entity_id, quarantine.c.generation)
    query = query.where(*_conditions(generation, code, ids))
    return [_entry(row) for row in tx.execute(query.limit(limit))]


def make_due(tx: Transaction, generation: str | None, code: str | None, ids: Sequence[str] | None, now: int) -> int:
    """Try these again with the next repair, waived ones too; how many."""
    statement = sa.update(quarantine).where(*_conditions(generation, code, ids))
    return tx.execute(statement.values(next_at=now, waived_why=None)).rowcount


def waive(tx: Transaction, generation: str | None, code: str | None, ids: Sequence[str] | None, why: str) -> int:
    """Let these be as they are; how many."""
    statement = sa.update(quarantine).where(*_conditions(generation, code, ids))
    return tx.execute(statement.values(waived_why=held(why))).rowcount


def _conditions(generation: str | None, code: str | None, ids: Sequence[str] | None) -> list[sa.ColumnElement[bool]]:
    found = []
    if generation is not None:
        found.append(quarantine.c.generation == generation)
    if code is not None:
        found.append(quarantine.c.code == code)
    if ids is not None:
        found.append(quarantine.c.entity_id.in_(list(ids)))
    return found


@dataclass(frozen=True, slots=True)
class QuarantineCount:
    """How much of a generation is in quarantine, how much of it on a person's word, and since when the oldest."""

    waiting: int
    waived: int
    oldest_at: int | None


def counted(tx: Transaction, generation: str) -> QuarantineCount:
    """How much of a generation is in quarantine."""
    waived = sa.func.sum(sa.case((quarantine.c.waived_why.is_not(None), 1), else_=0))
    oldest = sa.func.min(sa.case((quarantine.c.waived_why.is_(None), quarantine.c.first_at)))
    row = tx.execute(sa.select(sa.func.count(), waived, oldest).where(quarantine.c.generation == generation)).one()
    return QuarantineCount(row[0] - int(row[1] or 0), int(row[1] or 0), row[2])


def _entry(row: Row) -> QuarantineView:
    return QuarantineView(
        row.generation, row.entity_id, row.difference, row.code, row.message, row.attempts, row.first_at, row.last_at,
        row.next_at, row.waived_why,
    )  # fmt: skip


# The walk with vectors


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far the walk of one concrete index is. `after` is the last id that was compared."""

    index: str
    after: str
    lap_begun_at: int
    lap_ended_at: int | None


_PLACE = ("index", "after", "lap_begun_at", "lap_ended_at")


def cursor(tx: Transaction, generation: str) -> Cursor | None:
    """How far the walk is; None before the first."""
    query = sa.select(*(repair_cursors.c[name] for name in _PLACE)).where(repair_cursors.c.generation == generation)
    row = tx.execute(query).one_or_none()
    return None if row is None else Cursor(*row)


def move_cursor(tx: Transaction, generation: str, to: Cursor) -> None:
    """The walk has come so far."""
    row = {"generation": generation, **{name: getattr(to, name) for name in _PLACE}}
    tx.execute(replacing(tx.dialect.name, repair_cursors, *_PLACE), [row])
