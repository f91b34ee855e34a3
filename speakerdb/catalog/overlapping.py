"""The overlaps that are stored of a recording, as it is now."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from speakerdb.catalog.database import Transaction, parts
from speakerdb.catalog.schema import analyses, overlap_speakers, overlaps, recordings
from speakerdb.catalog.talk import CURRENT
from speakerdb.core.overlap import Overlap


def is_stored(tx: Transaction, recording_id: str) -> bool:
    """Whether a recording's talk, as it is now, was looked at."""
    query = sa.select(recordings.c.id).join(analyses, CURRENT).where(recordings.c.id == recording_id)
    return tx.scalar(query) is not None


def read(
    tx: Transaction,
    recording_id: str,
    *,
    speaker: str | None = None,
    least_seconds: float = 0.0,
    after: int = -1,
    limit: int | None = None,
) -> list[tuple[int, Overlap]]:
    """Overlaps of a recording with their numbers, in order of time, behind one of them. Speakers are ids."""
    query = (
        _chosen(sa.select(overlaps), recording_id, speaker, least_seconds)
        .where(overlaps.c.ordinal > after)
        .order_by(overlaps.c.ordinal)
        .limit(limit)
    )
    rows = tx.execute(query).all()
    who = _speakers(tx, recording_id, [row.ordinal for row in rows])
    return [
        (
            row.ordinal,
            Overlap(row.start, row.end, tuple(who[row.ordinal]), row.confidence, row.confidence_from, row.ranked_by),
        )
        for row in rows
    ]


def counted(
    tx: Transaction, recording_id: str, *, speaker: str | None = None, least_seconds: float = 0.0
) -> tuple[int, float]:
    """How many there are, and their seconds together."""
    lengths = sa.func.coalesce(sa.func.sum(overlaps.c.end - overlaps.c.start), 0.0)
    query = _chosen(sa.select(sa.func.count(), lengths), recording_id, speaker, least_seconds)
    count, seconds = tx.execute(query).one()
    return int(count), float(seconds)


def _chosen(query: sa.Select[Any], recording_id: str, speaker: str | None, least_seconds: float) -> sa.Select[Any]:
    query = query.where(overlaps.c.recording_id == recording_id, overlaps.c.end - overlaps.c.start >= least_seconds)
    if speaker is not None:
        query = query.where(
            sa.exists().where(
                overlap_speakers.c.recording_id == overlaps.c.recording_id,
                overlap_speakers.c.ordinal == overlaps.c.ordinal,
                overlap_speakers.c.speaker_id == speaker,
            )
        )
    return query


def _speakers(tx: Transaction, recording_id: str, ordinals: list[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {each: [] for each in ordinals}
    query = (
        sa.select(overlap_speakers.c.ordinal, overlap_speakers.c.speaker_id)
        .where(overlap_speakers.c.recording_id == recording_id)
        .order_by(overlap_speakers.c.ordinal, overlap_speakers.c.rank)
    )
    for part in parts(ordinals):
        for ordinal, speaker in tx.execute(query.where(overlap_speakers.c.ordinal.in_(part))):
            found[ordinal].append(speaker)
    return found
