"""What pictures of talk are drawn from: streamed, so that nobody holds more than a sample of a library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from speakerdb.catalog.database import Transaction
from speakerdb.catalog.samples import STREAMED
from speakerdb.catalog.schema import analyses, overlaps, recordings, speakers, voice_measures
from speakerdb.catalog.talk import CURRENT
from speakerdb.catalog.talk_statistics import AT, measured


@dataclass(frozen=True, slots=True)
class Sound:
    """How one speaker sounds. `at` is when its recording was made, or was added."""

    at: int
    level: float
    pitch: float
    low: float
    high: float


def sounds(tx: Transaction, library: str | None, profile: str | None) -> Iterator[Sound]:
    """Every speaker whose level and pitch were measured, in the order of time; streamed."""
    query = (
        measured(
            AT.label("at"),
            voice_measures.c.level,
            voice_measures.c.pitch,
            voice_measures.c.pitch_low,
            voice_measures.c.pitch_high,
        )
        .where(voice_measures.c.level.is_not(None), voice_measures.c.pitch_low.is_not(None))
        .where(voice_measures.c.pitch.is_not(None), voice_measures.c.pitch_high.is_not(None))
        .order_by(sa.text("at"), speakers.c.id)
    )
    if library is not None:
        query = query.where(recordings.c.library_id == library)
    if profile is not None:
        query = query.where(speakers.c.profile_id == profile)
    for row in tx.execute(query.execution_options(yield_per=STREAMED)):
        yield Sound(*row)


def overlap_shares(tx: Transaction, library: str | None) -> Iterator[float]:
    """The share of overlap in the talk of every recording in which somebody talks; streamed."""
    query = (
        sa.select(analyses.c.overlap_seconds / analyses.c.spoken_seconds)
        .select_from(recordings)
        .join(analyses, CURRENT)
        .where(analyses.c.spoken_seconds > 0.0)
    )
    if library is not None:
        query = query.where(recordings.c.library_id == library)
    for row in tx.execute(query.execution_options(yield_per=STREAMED)):
        yield float(row[0])


def overlap_lengths(tx: Transaction, library: str | None) -> Iterator[float]:
    """The seconds of every overlap; streamed."""
    query = (
        sa.select(overlaps.c.end - overlaps.c.start)
        .select_from(overlaps)
        .join(recordings, recordings.c.id == overlaps.c.recording_id)
        .join(analyses, CURRENT)
    )
    if library is not None:
        query = query.where(recordings.c.library_id == library)
    for row in tx.execute(query.execution_options(yield_per=STREAMED)):
        yield float(row[0])
