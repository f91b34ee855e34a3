"""What was found of recordings' talk: overlaps, and measures of their speakers' voices.

It is made from a recording's turns, and from its sound where that was listened to, and carries the `content_version` of
both: what was found of another one is out of date, and no query here gives it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from speakerdb.catalog import transcripts
from speakerdb.catalog.database import Transaction, parts
from speakerdb.catalog.diarizations import exclusive_turns
from speakerdb.catalog.schema import analyses, overlap_speakers, overlaps, recordings, voice_measures
from speakerdb.catalog.schema import transcripts as transcripts_table
from speakerdb.core.measures import Heard, Measures, measures
from speakerdb.core.overlap import Overlap, OverlapScores
from speakerdb.types import Turn

CURRENT = sa.and_(
    analyses.c.recording_id == recordings.c.id, analyses.c.content_version == recordings.c.content_version
)
"""An analysis of a recording as it is now."""

_TOGETHER = 500
"""Recordings whose rows are written together."""


@dataclass(frozen=True, slots=True)
class Talked:
    """What is known of a recording's talk at `content_version`. The turns' speakers, and the keys of `heard`, are speaker ids.

    `heard` is None where the sound was not listened to, and `scores` where no diarizer of ours gave any.
    """

    recording_id: str
    content_version: int
    turns: tuple[Turn, ...]
    heard: Mapping[str, Heard] | None = None
    scores: OverlapScores | None = None


def write(
    tx: Transaction,
    recording_id: str,
    content_version: int,
    turns: Sequence[Turn],
    *,
    heard: Mapping[str, Heard] | None = None,
    scores: OverlapScores | None = None,
    now: int,
) -> None:
    """Keep what was found of a recording's talk, in the place of what was there. Its turns must be stored already.

    What the same content was found to be before stays where nothing is given now: confidences from a diarizer's scores,
    levels and pitch.
    """
    write_all(tx, [Talked(recording_id, content_version, tuple(turns), heard, scores)], now)


def write_all(tx: Transaction, found: Sequence[Talked], now: int) -> None:
    """The same for several recordings, in as few statements as for one."""
    for part in parts(found, _TOGETHER):
        _write(tx, part, now)


def unheard(tx: Transaction, recording_ids: Collection[str]) -> set[str]:
    """Those of the recordings that exist whose sound, as it is now, was not listened to yet."""
    query = sa.select(recordings.c.id).join(analyses, CURRENT).where(analyses.c.heard.is_(True))
    heard = {each for part in parts(list(recording_ids)) for each in tx.scalars(query.where(recordings.c.id.in_(part)))}
    return set(recording_ids) - heard


# Writing


@dataclass(frozen=True, slots=True)
class _Before:
    """What the same content was found to be: by the overlap's start and end, and by speaker; None: it was not heard."""

    sure: Mapping[tuple[float, float], float]
    heard: Mapping[str, Heard] | None


def _write(tx: Transaction, found: Sequence[Talked], now: int) -> None:
    ids = [each.recording_id for each in found]
    known = tx.execute(
        sa.select(analyses.c.recording_id, analyses.c.content_version, analyses.c.heard)
        .where(analyses.c.recording_id.in_(ids))
    ).all()  # fmt: skip
    versions = {each.recording_id: each.content_version for each in found}
    same = {row.recording_id: bool(row.heard) for row in known if versions[row.recording_id] == row.content_version}
    before = _before(tx, same)
    told = set(tx.scalars(sa.select(transcripts_table.c.recording_id).where(transcripts_table.c.recording_id.in_(ids))))
    if known:
        gone = [row.recording_id for row in known]
        for table in (overlap_speakers, overlaps, voice_measures, analyses):
            tx.execute(sa.delete(table).where(table.c.recording_id.in_(gone)))
    rows: dict[sa.Table, list[dict[str, Any]]] = {
        analyses: [], voice_measures: [], overlaps: [], overlap_speakers: [],
    }  # fmt: skip
    for each in found:
        old = before.get(each.recording_id, _Before({}, None))
        heard = each.heard if each.heard is not None else old.heard
        result = measures(each.turns, heard=heard, scores=each.scores, sure=old.sure)
        words = None
        if each.recording_id in told:
            words = transcripts.words_by_speaker(tx, each.recording_id, exclusive_turns(tx, each.recording_id))
        _add_rows(rows, each, result, words, heard=heard is not None, now=now)
    for table, listed in rows.items():
        if listed:
            tx.execute(sa.insert(table), listed)


def _before(tx: Transaction, same: Mapping[str, bool]) -> dict[str, _Before]:
    if not same:
        return {}
    sure: dict[str, dict[tuple[float, float], float]] = {each: {} for each in same}
    scored = sa.select(overlaps.c.recording_id, overlaps.c.start, overlaps.c.end, overlaps.c.confidence).where(
        overlaps.c.recording_id.in_(list(same)), overlaps.c.confidence_from == "scores"
    )
    for row in tx.execute(scored):
        sure[row.recording_id][row.start, row.end] = row.confidence
    heard: dict[str, dict[str, Heard]] = {each: {} for each, was_heard in same.items() if was_heard}
    measured = sa.select(voice_measures).where(voice_measures.c.recording_id.in_(list(heard)))
    for row in tx.execute(measured):
        heard[row.recording_id][row.speaker_id] = Heard(row.level, row.pitch, row.pitch_low, row.pitch_high)
    return {each: _Before(sure[each], heard.get(each)) for each in same}


def _add_rows(
    rows: Mapping[sa.Table, list[dict[str, Any]]],
    each: Talked,
    result: Measures,
    words: Mapping[str, int] | None,
    *,
    heard: bool,
    now: int,
) -> None:
    recording = {"recording_id": each.recording_id}
    rows[analyses].append(
        recording
        | {
            "content_version": each.content_version,
            "heard": heard,
            "spoken_seconds": result.spoken_seconds,
            "overlap_seconds": result.overlap_seconds,
            "made_at": now,
        }
    )
    for voice in result.voices:
        rows[voice_measures].append(
            recording
            | {
                "speaker_id": voice.talk.speaker,
                "seconds": voice.talk.seconds,
                "overlap_seconds": voice.overlap_seconds,
                "turns": voice.talk.turns,
                "longest_turn_seconds": voice.talk.longest_turn_seconds,
                "interruptions_given": voice.talk.interruptions_given,
                "interruptions_received": voice.talk.interruptions_received,
                "level": _finite(voice.heard.level),
                "pitch": _finite(voice.heard.pitch),
                "pitch_low": _finite(voice.heard.pitch_low),
                "pitch_high": _finite(voice.heard.pitch_high),
                "words": None if words is None else words.get(voice.talk.speaker, 0),
            }
        )
    for ordinal, overlap in enumerate(result.overlaps):
        place = recording | {"ordinal": ordinal}
        rows[overlaps].append(place | _overlap_values(overlap))
        rows[overlap_speakers] += [
            place | {"rank": rank, "speaker_id": speaker} for rank, speaker in enumerate(overlap.speakers)
        ]


def _overlap_values(overlap: Overlap) -> dict[str, Any]:
    return {
        "start": overlap.start,
        "end": overlap.end,
        "confidence": overlap.confidence,
        "confidence_from": overlap.confidence_from,
        "ranked_by": overlap.ranked_by,
    }


def _finite(value: float | None) -> float | None:
    """The number; None for what is none: a worker may answer anything."""
    return None if value is None or not math.isfinite(value) else float(value)
