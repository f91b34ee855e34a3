"""What a person asks the catalog: what is worked on, how fast, what waits, what failed, and where one thing stands.

Reads only. Nothing here walks more rows than the queue, or one generation's items, has.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from speakerdb.catalog import leases
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Row, Transaction
from speakerdb.catalog.leases import LeaseRow
from speakerdb.catalog.repair_log import WAIVED
from speakerdb.catalog.schema import (
    fences,
    generations,
    projections,
    recordings,
    speakers,
    turns,
    work_items,
)
from speakerdb.catalog.work import LANE
from speakerdb.reports import CurrentRecording, ItemError
from speakerdb.reports.seeing import LeaseView, WorkState

_OPEN = ("queued", "taken")


def current(tx: Transaction, limit: int = 64) -> tuple[CurrentRecording, ...]:
    """The recordings that are taken, in the order of the queue, with the counts of their turns and speakers."""
    turn_count = sa.select(sa.func.count()).where(turns.c.recording_id == recordings.c.id).scalar_subquery()
    speaker_count = sa.select(sa.func.count()).where(speakers.c.recording_id == recordings.c.id).scalar_subquery()
    query = (
        sa.select(recordings.c.id, recordings.c.path, LANE, turn_count, speaker_count)
        .join(recordings, recordings.c.id == work_items.c.recording_id)
        .where(work_items.c.state == "taken")
        .order_by(work_items.c.priority, work_items.c.id)
        .limit(limit)
    )
    return tuple(CurrentRecording(*row) for row in tx.execute(query))


def finished(tx: Transaction, generation: str, begin: int, end: int, slices: int) -> list[tuple[int, float]]:
    """Recordings that are done since `begin`, in equal slices up to `end`: how many in each, and their seconds of audio."""
    length = max(1, (end - begin) // slices + 1)
    which = ((work_items.c.updated_at - begin) // length).label("slice")
    query = (
        sa.select(which, sa.func.count(), sa.func.sum(recordings.c.seconds))
        .join(recordings, recordings.c.id == work_items.c.recording_id)
        .where(work_items.c.generation == generation, work_items.c.state == "done")
        .where(work_items.c.updated_at >= begin, work_items.c.updated_at <= end)
        .group_by(which)
    )
    found = [(0, 0.0)] * slices
    for number, count, audio in tx.execute(query):
        found[min(slices - 1, int(number))] = (count, float(audio or 0.0))
    return found


@dataclass(frozen=True, slots=True)
class Queue:
    """What of one lane (a generation, or ``diarize``) is to be done. `held_back` belongs to a paused migration."""

    recordings: int = 0
    audio_seconds: float = 0.0
    taken: int = 0
    held_back: int = 0


def queues(tx: Transaction, paused: Collection[str]) -> dict[str, Queue]:
    """The queue by lane; lanes with an empty one are left out."""
    mine: sa.ColumnElement[bool] = work_items.c.generation.in_(list(paused))
    held = (work_items.c.reason == "migration") & (mine | (work_items.c.generation.is_(None) if paused else sa.false()))
    held &= work_items.c.state == "queued"
    query = (
        sa.select(
            LANE,
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(recordings.c.seconds), 0.0),
            sa.func.sum(sa.case((work_items.c.state == "taken", 1), else_=0)),
            sa.func.sum(sa.case((held, 1), else_=0)),
        )
        .join(recordings, recordings.c.id == work_items.c.recording_id)
        .where(work_items.c.state.in_(_OPEN))
        .group_by(LANE)
    )
    return {row[0]: Queue(row[1], float(row[2]), row[3], row[4]) for row in tx.execute(query)}


def faults_in_queue(tx: Transaction) -> list[tuple[str, str, str]]:
    """Lane, code and message of errors that recordings in the queue met; the last of each code."""
    newest = (
        sa.select(sa.func.max(work_items.c.id))
        .where(work_items.c.state.in_(_OPEN), work_items.c.error_code.is_not(None))
        .group_by(LANE, work_items.c.error_code)
    )
    query = sa.select(LANE, work_items.c.error_code, work_items.c.error_message)
    return [(row[0], row[1], row[2] or "") for row in tx.execute(query.where(work_items.c.id.in_(newest)))]


def failures_by_code(tx: Transaction, names: Sequence[str]) -> list[Row]:
    """Failed items of these lanes by lane and code, the most frequent first.

    Columns: generation (the lane), code, failed (how many), and of one of them recording_id, path, message, attempts,
    updated_at, options (JSON: what was asked of a diarization).
    """
    grouped = (
        sa.select(
            LANE.label("generation"),
            work_items.c.error_code,
            sa.func.count().label("failed"),
            sa.func.min(work_items.c.id).label("sample"),
        )
        .where(LANE.in_(list(names)), work_items.c.state == "failed")
        .group_by(LANE, work_items.c.error_code)
        .subquery()
    )
    query = (
        sa.select(
            grouped.c.generation,
            grouped.c.error_code.label("code"),
            grouped.c.failed,
            work_items.c.recording_id,
            recordings.c.path,
            work_items.c.error_message.label("message"),
            work_items.c.attempts,
            work_items.c.updated_at,
            work_items.c.options,
        )
        .join(work_items, work_items.c.id == grouped.c.sample)
        .join(recordings, recordings.c.id == work_items.c.recording_id)
        .order_by(grouped.c.generation, grouped.c.failed.desc(), grouped.c.error_code)
    )
    return list(tx.execute(query))


def failures(tx: Transaction, generation: str | None = None, limit: int = 20) -> tuple[ItemError, ...]:
    """A sample of the failed items."""
    query = sa.select(
        work_items.c.recording_id,
        LANE,
        work_items.c.error_code,
        work_items.c.error_message,
        work_items.c.attempts,
    ).where(work_items.c.state == "failed")
    if generation is not None:
        query = query.where(work_items.c.generation == generation)
    return tuple(ItemError(*row) for row in tx.execute(query.order_by(work_items.c.id).limit(limit)))


def rejected(tx: Transaction, generation: str) -> tuple[int, int, str | None]:
    """How many documents the index refused as they are now; how many of them a person has waived; and why it refused one of
    the others."""
    waived = sa.func.coalesce(sa.func.sum(sa.case((WAIVED, 1), else_=0)), 0)
    why = sa.func.min(sa.case((~WAIVED, projections.c.rejection)))
    query = sa.select(sa.func.count(), waived, why).where(
        projections.c.generation == generation,
        # Refused means not acknowledged, so the partial index of what waits holds it.
        projections.c.version > projections.c.indexed_version,
        projections.c.rejected_version == projections.c.version,
    )
    row = tx.execute(query).one()
    return row[0], int(row[1]), row[2]


def fence_until(tx: Transaction, now: int) -> int | None:
    """Until when writers of the library wait at the longest; None where they do not."""
    query = sa.select(sa.func.max(fences.c.expires_at)).where(fences.c.holder.is_not(None), fences.c.expires_at > now)
    found: int | None = tx.scalar(query)
    return found


def lease_views(tx: Transaction, catalog: Catalog, now: int) -> list[LeaseView]:
    """Every lease that was ever taken, and whether its holder still lives as far as anybody can tell."""
    return [lease_view(row, catalog, now) for row in leases.all_leases(tx)]


def lease_view(row: LeaseRow, catalog: Catalog, now: int) -> LeaseView:
    """One lease, as far as can be known from here."""
    if row.holder is None:
        return LeaseView(row.name, "free", None, None, None, None, None, row.epoch)
    host, _, token = row.holder.partition("/")
    number = token.partition("-")[0]
    lasts = row.stands(now, int(catalog.lease_seconds * 1e6))
    state: Literal["expired", "gone", "held"]
    state = "gone" if catalog.holder.has_ended(row.holder) else "held" if lasts else "expired"
    return LeaseView(
        row.name, state, row.holder, host, int(number) if number.isdecimal() else None, row.acquired_at,
        row.expires_at, row.epoch,
    )  # fmt: skip


# Where one thing stands.


def registered(tx: Transaction) -> list[tuple[str, bool]]:
    """Every generation that this library has used, and whether it is live; live ones first."""
    query = sa.select(generations.c.name, generations.c.live).order_by(generations.c.live.desc(), generations.c.name)
    return [(row.name, bool(row.live)) for row in tx.execute(query)]


def recordings_of_path(tx: Transaction, path: str) -> list[str]:
    """Ids of the recordings whose file has this path, in any library."""
    return list(tx.scalars(sa.select(recordings.c.id).where(recordings.c.path == path).order_by(recordings.c.id)))


def recording_counts(tx: Transaction, recording_id: str) -> tuple[int, int]:
    """How many turns and speakers a recording has."""
    turn_count = tx.scalar(sa.select(sa.func.count()).where(turns.c.recording_id == recording_id)) or 0
    return turn_count, tx.scalar(sa.select(sa.func.count()).where(speakers.c.recording_id == recording_id)) or 0


def member_count(tx: Transaction, profile_id: str) -> int:
    """How many speakers a profile has."""
    return tx.scalar(sa.select(sa.func.count()).where(speakers.c.profile_id == profile_id)) or 0


def work_of(tx: Transaction, recording_id: str) -> dict[str, WorkState]:
    """The work items of a recording by lane."""
    query = sa.select(
        LANE,
        work_items.c.state,
        work_items.c.reason,
        work_items.c.attempts,
        work_items.c.error_code,
        work_items.c.error_message,
        work_items.c.waived_why,
        work_items.c.done_version,
        work_items.c.updated_at,
    ).where(work_items.c.recording_id == recording_id)
    return {row[0]: WorkState(*row[1:]) for row in tx.execute(query)}


@dataclass(frozen=True, slots=True)
class ProjectionRow:
    """What SQL says about one document."""

    generation: str
    entity_id: str
    kind: str
    version: int
    indexed_version: int
    deleted: bool
    rejection: str | None
    """Why the index refused it as it is now."""


def projections_of(tx: Transaction, ids: Sequence[str], generation: str | None = None) -> list[ProjectionRow]:
    """The projection rows of these entities; they outlive the entity."""
    current_refusal = projections.c.rejected_version == projections.c.version
    query = sa.select(
        projections.c.generation,
        projections.c.entity_id,
        projections.c.kind,
        projections.c.version,
        projections.c.indexed_version,
        projections.c.deleted,
        sa.case((current_refusal, projections.c.rejection), else_=None),
    ).where(projections.c.entity_id.in_(list(ids)))
    if generation is not None:
        query = query.where(projections.c.generation == generation)
    return [ProjectionRow(*row) for row in tx.execute(query.order_by(projections.c.generation))]


def remembered(tx: Transaction, beginning: str, limit: int = 3) -> list[str]:
    """Ids of documents that begin so, also of things that are gone."""
    query = (
        sa.select(projections.c.entity_id)
        .where(projections.c.entity_id >= beginning, projections.c.entity_id < beginning + "~")
        .distinct()
        .order_by(projections.c.entity_id)
        .limit(limit)
    )
    return list(tx.scalars(query))
