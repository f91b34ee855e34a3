"""What SQL knows of voices: what each generation has of a speaker, a profile's members as parts of vectors, appearances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import sqlalchemy as sa

from speakerdb.catalog import journal, vectors, work
from speakerdb.catalog.database import Transaction, parts
from speakerdb.catalog.library import SpeakerRow
from speakerdb.catalog.schema import embeddings, profiles, recordings, speakers, turns
from speakerdb.core.statistics import Numbers, Part
from speakerdb.reports import SpeakerView
from speakerdb.reports.people import Appearance, NearestProfile, SpeakerTurn
from speakerdb.types import FloatArray, Unembeddable

VECTORS = 1000
"""Vectors that are held at once."""


def speaker_views(tx: Transaction, rows: Sequence[SpeakerRow]) -> list[SpeakerView]:
    """Speakers with what each live generation has of them; a part at a time."""
    live = journal.live_generations(tx)
    return [view for part in parts(rows) for view in _views(tx, live, part)]


def _views(tx: Transaction, live: Sequence[str], rows: Sequence[SpeakerRow]) -> list[SpeakerView]:
    states: dict[str, dict[str, str]] = {row.id: {} for row in rows}
    given_up = work.given_up(tx, {row.recording_id for row in rows})
    for generation in live:
        known = vectors.embeddings_of(tx, generation, list(states))
        for row in rows:
            entry = known.get(row.id)
            current = entry is not None and entry.content_version == row.content_version
            if not current and (row.recording_id, generation) in given_up:
                state = given_up[row.recording_id, generation]
            elif entry is None:
                state = "waiting"
            elif not current:
                state = "stale"
            elif isinstance(entry.result, Unembeddable):
                state = entry.result.reason
            else:
                state = "embedded"
            states[row.id][generation] = state
    return [
        SpeakerView(r.id, r.recording_id, r.label, r.name, r.profile_id, r.profile_name, r.speech_seconds, states[r.id])
        for r in rows
    ]


def turns_of(tx: Transaction, speaker: str, limit: int | None = None) -> list[SpeakerTurn]:
    """A speaker's turns in the order of time, numbered from 1 on."""
    query = sa.select(turns.c.start, turns.c.end).where(turns.c.speaker_id == speaker).order_by(turns.c.ordinal)
    rows = tx.execute(query.limit(limit))
    return [SpeakerTurn(number, row.start, row.end) for number, row in enumerate(rows, start=1)]


def count_turns(tx: Transaction, speaker: str) -> int:
    """How many turns a speaker has."""
    return tx.scalar(sa.select(sa.func.count()).where(turns.c.speaker_id == speaker)) or 0


def member_parts(tx: Transaction, generation: str, profile: str) -> Iterator[Part]:
    """The vectors of a profile's members in a generation, none of an older content, some at a time."""
    query = (
        sa.select(embeddings.c.entity_id, embeddings.c.vector, embeddings.c.seconds, embeddings.c.resultant)
        .select_from(speakers)
        .join(recordings, recordings.c.id == speakers.c.recording_id)
        .join(embeddings, sa.and_(embeddings.c.generation == generation, embeddings.c.entity_id == speakers.c.id))
        .where(speakers.c.profile_id == profile, embeddings.c.vector.is_not(None))
        .where(embeddings.c.content_version == recordings.c.content_version)
    )
    for rows in tx.execute(query.execution_options(yield_per=VECTORS)).partitions():
        seconds = np.array([row.seconds for row in rows], dtype=np.float64)
        yield Part(
            ids=tuple(row.entity_id for row in rows),
            vectors=_matrix([row.vector for row in rows]),
            weights=seconds * np.array([row.resultant for row in rows], dtype=np.float64),
            seconds=float(seconds.sum()),
        )


def nearest_profile(
    tx: Transaction, generation: str, library: str, centroid: Numbers, *, but: str
) -> NearestProfile | None:
    """The living, pooled profile of a library, other than `but`, whose vector is most similar to a unit vector."""
    query = (
        sa.select(profiles.c.id, profiles.c.name, embeddings.c.vector)
        .join(embeddings, sa.and_(embeddings.c.generation == generation, embeddings.c.entity_id == profiles.c.id))
        .where(profiles.c.library_id == library, profiles.c.merged_into.is_(None), profiles.c.id != but)
        .where(embeddings.c.vector.is_not(None), embeddings.c.content_version == profiles.c.members_version)
    )
    best: NearestProfile | None = None
    for rows in tx.execute(query.execution_options(yield_per=VECTORS)).partitions():
        scores = _matrix([row.vector for row in rows]) @ centroid.astype(np.float32)
        place = int(scores.argmax())
        score = min(1.0, max(-1.0, float(scores[place])))
        if best is None or score > best.similarity:
            best = NearestProfile(rows[place].id, rows[place].name, score)
    return best


def speech_of(tx: Transaction, profile: str) -> tuple[float, int]:
    """Seconds of all turns of a profile's members, and how many recordings they are in."""
    query = sa.select(
        sa.func.coalesce(sa.func.sum(speakers.c.speech_seconds), 0.0),
        sa.func.count(sa.distinct(speakers.c.recording_id)),
    ).where(speakers.c.profile_id == profile)
    seconds, recording_count = tx.execute(query).one()
    return float(seconds), int(recording_count)


def appearances(tx: Transaction, profile: str, limit: int) -> list[Appearance]:
    """The recordings a profile's members are in, the oldest first."""
    at = sa.func.coalesce(recordings.c.recorded_at, recordings.c.created_at)
    query = (
        sa.select(
            recordings.c.id,
            recordings.c.path,
            at.label("at"),
            recordings.c.recorded_at,
            sa.func.sum(speakers.c.speech_seconds).label("seconds"),
            sa.func.count().label("speakers"),
        )
        .join(speakers, speakers.c.recording_id == recordings.c.id)
        .where(speakers.c.profile_id == profile)
        .group_by(recordings.c.id)
        .order_by(at, recordings.c.id)
        .limit(limit)
    )
    return [
        Appearance(row.id, row.path, row.at, row.recorded_at is not None, row.seconds, row.speakers)
        for row in tx.execute(query)
    ]


def members(tx: Transaction, profile: str, limit: int) -> list[str]:
    """The ids of a profile's members, in the order of time of their recordings."""
    at = sa.func.coalesce(recordings.c.recorded_at, recordings.c.created_at)
    query = (
        sa.select(speakers.c.id)
        .join(recordings, recordings.c.id == speakers.c.recording_id)
        .where(speakers.c.profile_id == profile)
        .order_by(at, recordings.c.id, speakers.c.label)
        .limit(limit)
    )
    return list(tx.scalars(query))


def _matrix(blobs: Sequence[bytes]) -> FloatArray:
    return np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), -1)
