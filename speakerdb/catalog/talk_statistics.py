"""Sums over what was measured of voices, in SQL: of a speaker, a profile, a library. Only what is of current content counts.

Nothing here grows with the library: a person, a library and its table of people are one aggregation each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from speakerdb.catalog.database import Row, Transaction
from speakerdb.catalog.schema import analyses, embeddings, overlaps, profiles, recordings, speakers, voice_measures
from speakerdb.catalog.talk import CURRENT
from speakerdb.core.turns import NOBODY
from speakerdb.reports.statistics import OverlapShare, PersonOfLibrary, TalkStatistics
from speakerdb.types import FloatArray

DAY = 86_400_000_000
"""Microseconds."""
SHARES = (0.0, 1e-9, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Where the classes of recordings by their share of overlap begin; the first one is of those without any."""
STREAMED = 1000

# When a recording was made, or was added where nobody said so.
AT = sa.func.coalesce(recordings.c.recorded_at, recordings.c.created_at)
# Rounded down, before 1970 too, without leaving the integers that a database has.
_day = sa.case((AT >= 0, AT // DAY), else_=-((-(AT + 1)) // DAY) - 1)


@dataclass(frozen=True, slots=True)
class Sums:
    """What one aggregation gives: how many speakers and recordings, and their statistics, without the share."""

    speakers: int
    recordings: int
    talk: TalkStatistics | None
    """None without any speaker."""


def _by_seconds(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The mean of a column, by seconds of talk, of those rows that have it."""
    seconds = voice_measures.c.seconds
    return sa.func.sum(column * seconds) / sa.func.nullif(sa.func.sum(sa.case((column.is_not(None), seconds))), 0.0)


_SUMS: tuple[sa.ColumnElement[Any], ...] = (
    sa.func.count().label("speakers"),
    sa.func.count(sa.distinct(voice_measures.c.recording_id)).label("recordings"),
    sa.func.sum(voice_measures.c.seconds).label("seconds"),
    sa.func.sum(voice_measures.c.turns).label("turns"),
    sa.func.max(voice_measures.c.longest_turn_seconds).label("longest"),
    sa.func.sum(voice_measures.c.interruptions_given).label("given"),
    sa.func.sum(voice_measures.c.interruptions_received).label("received"),
    sa.func.sum(voice_measures.c.overlap_seconds).label("overlap"),
    sa.func.sum(voice_measures.c.words).label("words"),
    sa.func.sum(sa.case((voice_measures.c.words.is_not(None), voice_measures.c.seconds))).label("told"),
    _by_seconds(voice_measures.c.level).label("level"),
    _by_seconds(voice_measures.c.pitch).label("pitch"),
    _by_seconds(voice_measures.c.pitch_low).label("pitch_low"),
    _by_seconds(voice_measures.c.pitch_high).label("pitch_high"),
)


def measured(*columns: Any) -> sa.Select[Any]:
    """Of voices that were measured in their recording as it is now."""
    return (
        sa.select(*columns)
        .select_from(voice_measures)
        .join(speakers, speakers.c.id == voice_measures.c.speaker_id)
        .join(recordings, recordings.c.id == voice_measures.c.recording_id)
        .join(analyses, CURRENT)
    )


def of_speaker(tx: Transaction, speaker: str) -> Sums:
    """One speaker; its share is of its recording."""
    return _with_share(tx, speakers.c.id == speaker)


def of_profile(tx: Transaction, profile: str) -> Sums:
    """All speakers of a profile; their share is of the recordings that they are in."""
    return _with_share(tx, speakers.c.profile_id == profile)


def of_library(tx: Transaction, library: str) -> Sums:
    """All speakers of a library."""
    row = tx.execute(measured(*_SUMS).where(recordings.c.library_id == library)).one()
    return _sums(row, row.seconds)


def _with_share(tx: Transaction, which: sa.ColumnElement[bool]) -> Sums:
    own = sa.select(speakers.c.recording_id).where(which)
    everybody = tx.scalar(measured(sa.func.sum(voice_measures.c.seconds)).where(voice_measures.c.recording_id.in_(own)))
    return _sums(tx.execute(measured(*_SUMS).where(which)).one(), everybody)


def _sums(row: Row, everybody: float | None) -> Sums:
    return Sums(row.speakers, row.recordings, _statistics(row, everybody) if row.speakers else None)


def _statistics(row: Row, everybody: float | None) -> TalkStatistics:
    return statistics(
        seconds=row.seconds,
        everybody=everybody,
        turns=int(row.turns),
        longest=row.longest,
        given=int(row.given),
        received=int(row.received),
        overlap=row.overlap,
        words=None if row.words is None else int(row.words),
        told=row.told,
        sound=(row.level, row.pitch, row.pitch_low, row.pitch_high),
    )


def statistics(
    *,
    seconds: float,
    everybody: float | None,
    turns: int,
    longest: float,
    given: int,
    received: int,
    overlap: float,
    words: int | None,
    told: float | None,
    sound: tuple[float | None, float | None, float | None, float | None],
) -> TalkStatistics:
    """From sums: `everybody` are all seconds that a share is of, `told` those of its own with a transcript; `sound` is level,
    pitch, and its low and high end."""
    return TalkStatistics(
        seconds=seconds,
        share=seconds / everybody if everybody else None,
        turns=turns,
        mean_turn_seconds=seconds / turns if turns else None,
        longest_turn_seconds=longest,
        interruptions_given=given,
        interruptions_received=received,
        overlap_seconds=overlap,
        overlap_share=overlap / seconds if seconds else None,
        words=words,
        words_a_minute=60.0 * words / told if words is not None and told else None,
        level=sound[0],
        pitch=sound[1],
        pitch_low=sound[2],
        pitch_high=sound[3],
    )


def people(
    tx: Transaction, library: str | None, everybody: float | None, limit: int
) -> tuple[int, list[PersonOfLibrary]]:
    """How many people of a library (None: of all) were measured, and those who talk most; shares are of `everybody`'s
    seconds."""
    named = measured(speakers.c.profile_id, *_SUMS).where(speakers.c.profile_id.is_not(None))
    counted = measured(sa.func.count(sa.distinct(speakers.c.profile_id)))
    if library is not None:
        named, counted = (each.where(recordings.c.library_id == library) for each in (named, counted))
    rows = tx.execute(
        named.group_by(speakers.c.profile_id).order_by(sa.text("seconds DESC"), speakers.c.profile_id).limit(limit)
    ).all()
    names = {
        row.id: row.name
        for row in tx.execute(
            sa.select(profiles.c.id, profiles.c.name).where(profiles.c.id.in_([row.profile_id for row in rows]))
        )
    }
    return tx.scalar(counted) or 0, [
        PersonOfLibrary(row.profile_id, names[row.profile_id], row.recordings, _statistics(row, everybody))
        for row in rows
    ]


def recordings_of_profile(tx: Transaction, profile: str) -> tuple[int, int, int]:
    """How many speakers a profile has, in how many recordings, and of how many of these nothing is measured."""
    query = (
        sa.select(
            sa.func.count(),
            sa.func.count(sa.distinct(recordings.c.id)),
            sa.func.count(sa.distinct(sa.case((analyses.c.recording_id.is_(None), recordings.c.id)))),
        )
        .select_from(speakers)
        .join(recordings, recordings.c.id == speakers.c.recording_id)
        .outerjoin(analyses, CURRENT)
        .where(speakers.c.profile_id == profile)
    )
    voices, everywhere, unmeasured = tx.execute(query).one()
    return voices, everywhere, unmeasured


@dataclass(frozen=True, slots=True)
class LibrarySums:
    """Of a library's recordings."""

    recordings: int
    unmeasured: int
    spoken_seconds: float
    overlap_seconds: float
    overlaps: int
    shares: tuple[OverlapShare, ...]


_SILENT = recordings.c.turns_digest == NOBODY
"""Nobody talks in it, so there is nothing to measure."""


def recordings_of_library(tx: Transaction, library: str) -> LibrarySums:
    """How many recordings there are and how many are measured, and how much of their talk is overlap."""
    share = analyses.c.overlap_seconds / sa.func.nullif(analyses.c.spoken_seconds, 0.0)
    place = sa.case(*[(share >= least, number) for number, least in reversed(list(enumerate(SHARES)))])
    rows = tx.execute(
        sa.select(
            sa.case((_SILENT, -1), (analyses.c.recording_id.is_(None), -2), else_=sa.func.coalesce(place, -1)).label(
                "place"
            ),
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(analyses.c.spoken_seconds), 0.0),
            sa.func.coalesce(sa.func.sum(analyses.c.overlap_seconds), 0.0),
        )
        .select_from(recordings)
        .outerjoin(analyses, CURRENT)
        .where(recordings.c.library_id == library)
        .group_by(sa.text("place"))
    ).all()
    counts = {row[0]: row[1] for row in rows}
    ends = (*SHARES[1:], 1.0)
    total = tx.scalar(
        sa.select(sa.func.count())
        .select_from(overlaps)
        .join(recordings, recordings.c.id == overlaps.c.recording_id)
        .join(analyses, CURRENT)
        .where(recordings.c.library_id == library)
    )
    return LibrarySums(
        recordings=sum(counts.values()),
        unmeasured=counts.get(-2, 0),
        spoken_seconds=sum(row[2] for row in rows),
        overlap_seconds=sum(row[3] for row in rows),
        overlaps=total or 0,
        shares=tuple(
            OverlapShare(least, below, counts.get(number, 0))
            for number, (least, below) in enumerate(zip(SHARES, ends, strict=True))
        ),
    )


# Over time


@dataclass(frozen=True, slots=True)
class Day:
    """The recordings of one day (days since 1970, UTC) in which a profile speaks."""

    day: int
    dated: bool
    recordings: int
    seconds: float


def days(tx: Transaction, profile: str) -> Iterator[Day]:
    """When a profile speaks, in the order of time; streamed."""
    dated = recordings.c.recorded_at.is_not(None)
    query = (
        sa.select(
            _day.label("day"),
            dated.label("dated"),
            sa.func.count(sa.distinct(recordings.c.id)),
            sa.func.sum(speakers.c.speech_seconds),
        )
        .select_from(speakers)
        .join(recordings, recordings.c.id == speakers.c.recording_id)
        .where(speakers.c.profile_id == profile)
        .group_by(sa.text("day"), sa.text("dated"))
        .order_by(sa.text("day"))
    )
    for row in tx.execute(query.execution_options(yield_per=STREAMED)):
        yield Day(int(row[0]), bool(row[1]), row[2], row[3])


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """A speaker of a profile with its current vector in a generation. `day` is days since 1970, UTC."""

    profile_id: str
    speaker_id: str
    recording_id: str
    at: int
    dated: bool
    day: int
    vector: FloatArray


def similarity(voice: Voice, first: Voice) -> float:
    """The cosine of two voices' unit vectors."""
    return float(np.clip(np.dot(voice.vector.astype(np.float64), first.vector), -1.0, 1.0))


def voices(
    tx: Transaction, generation: str, *, profile: str | None = None, library: str | None = None
) -> Iterator[Voice]:
    """Speakers of one profile, or of all those of a library (an id) or of everybody: profile by profile, each in the order of
    time; streamed."""
    query = (
        sa.select(
            speakers.c.profile_id,
            speakers.c.id,
            recordings.c.id,
            AT.label("at"),
            recordings.c.recorded_at.is_not(None),
            _day.label("day"),
            embeddings.c.vector,
        )
        .select_from(speakers)
        .join(recordings, recordings.c.id == speakers.c.recording_id)
        .join(embeddings, sa.and_(embeddings.c.generation == generation, embeddings.c.entity_id == speakers.c.id))
        .where(speakers.c.profile_id.is_not(None), embeddings.c.vector.is_not(None))
        .where(embeddings.c.content_version == recordings.c.content_version)
        .order_by(speakers.c.profile_id, sa.text("at"), recordings.c.id, speakers.c.label)
    )
    if profile is not None:
        query = query.where(speakers.c.profile_id == profile)
    if library is not None:
        query = query.where(recordings.c.library_id == library)
    for row in tx.execute(query.execution_options(yield_per=STREAMED)):
        vector = np.frombuffer(row[6], dtype="<f4")
        yield Voice(row[0], row[1], row[2], row[3], bool(row[4]), int(row[5]), vector)
