"""What was said in a recording, as it was given. Whose words they are is found out when it is read.

The text is in the table `transcripts` and nowhere else: in no event, no log and no message.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from speakerdb.catalog.choosing import recording_of
from speakerdb.catalog.database import Transaction, cleaned
from speakerdb.catalog.diarizations import exclusive_turns, packed, unpacked
from speakerdb.catalog.schema import libraries, recordings, speakers, transcripts, voice_measures
from speakerdb.core.transcript import Segment, Transcript, Word, label
from speakerdb.core.transcript.counting import count_words, words_of
from speakerdb.types import Turn


@dataclass(frozen=True, slots=True)
class TranscriptRow:
    """What is known of a transcript without reading it. `digest` stands for all of its content."""

    recording_id: str
    digest: str
    language: str | None
    segments: int
    words: int
    who: str
    created_at: int


_COLUMNS = (
    transcripts.c.recording_id,
    transcripts.c.digest,
    transcripts.c.language,
    transcripts.c.segments,
    transcripts.c.words,
    transcripts.c.who,
    transcripts.c.created_at,
)


@dataclass(frozen=True, slots=True)
class Packed:
    """A transcript ready to be stored. `digest`: SHA-256 of what is stored; the same words at the same times have the same
    one, however they were written."""

    transcript: Transcript
    digest: str
    words: int
    document: bytes


def pack(transcript: Transcript) -> Packed:
    """Make a transcript ready, outside of a transaction: a long one takes seconds."""
    document = _document(transcript)
    digest = hashlib.sha256(json.dumps(document, separators=(",", ":")).encode()).hexdigest()
    return Packed(transcript, digest, count_words(transcript), packed(document))


def find(tx: Transaction, recording_id: str) -> TranscriptRow | None:
    """What is known of a recording's transcript; None where it has none."""
    row = tx.execute(sa.select(*_COLUMNS).where(transcripts.c.recording_id == recording_id)).one_or_none()
    return None if row is None else TranscriptRow(*row)


def version(tx: Transaction, given: str) -> str:
    """A short text that stands for a recording's transcript as it was given; "none" where it has none. `NotFound`."""
    row = find(tx, recording_of(tx, given))
    return "none" if row is None else row.digest[:24]


def read(tx: Transaction, recording_id: str) -> Transcript | None:
    """What was said in a recording; None where it has no transcript."""
    query = sa.select(transcripts.c.document).where(transcripts.c.recording_id == recording_id)
    row = tx.execute(query).one_or_none()
    return None if row is None else _transcript(unpacked(row.document))


def write(tx: Transaction, recording_id: str, given: Packed, who: str, now: int) -> TranscriptRow:
    """Keep a recording's transcript in the place of the one before, and count its speakers' words again."""
    transcript = given.transcript
    language = None if transcript.language is None else cleaned(transcript.language)
    row = TranscriptRow(recording_id, given.digest, language, len(transcript.segments), given.words, who, now)
    tx.execute(sa.delete(transcripts).where(transcripts.c.recording_id == recording_id))
    values = {column.name: getattr(row, column.name) for column in _COLUMNS}
    tx.execute(sa.insert(transcripts), [values | {"document": given.document}])
    _measure_words(tx, recording_id, transcript)
    return row


def remove(tx: Transaction, recording_id: str) -> bool:
    """Forget a recording's transcript; whether there was one."""
    removed = tx.execute(sa.delete(transcripts).where(transcripts.c.recording_id == recording_id)).rowcount
    _measure_words(tx, recording_id, None)
    return removed > 0


def words_by_speaker(tx: Transaction, recording_id: str, exclusive: Sequence[Turn]) -> dict[str, int] | None:
    """How many words of a recording's transcript are whose, by the turns given (speaker ids, no two overlapping).

    Who says none is not in it. None where there is no transcript.
    """
    transcript = read(tx, recording_id)
    return None if transcript is None else _by_speaker(transcript, exclusive)


def _by_speaker(transcript: Transcript, exclusive: Sequence[Turn]) -> dict[str, int]:
    found = words_of(label(transcript, exclusive))
    return {speaker: count for speaker, count in found.items() if speaker is not None}


def listed(tx: Transaction, *, home: str | None = None, after: str = "", limit: int) -> list[tuple[TranscriptRow, str]]:
    """Transcripts behind a recording's id, in the order of these ids, each with its library's name. `home` is a library's id."""
    query = (
        sa.select(*_COLUMNS, libraries.c.name)
        .join(recordings, recordings.c.id == transcripts.c.recording_id)
        .join(libraries, libraries.c.id == recordings.c.library_id)
        .where(transcripts.c.recording_id > after)
        .order_by(transcripts.c.recording_id)
        .limit(limit)
    )
    if home is not None:
        query = query.where(recordings.c.library_id == home)
    return [(TranscriptRow(*row[:-1]), row[-1]) for row in tx.execute(query)]


def recordings_with(
    tx: Transaction, *, home: str | None = None, profile: str | None = None, after: str = "", limit: int
) -> list[str]:
    """Ids of recordings that have a transcript, behind one, in order: of a library (`home`), or in which a profile speaks."""
    query = sa.select(transcripts.c.recording_id).where(transcripts.c.recording_id > after)
    if home is not None:
        query = query.join(recordings, recordings.c.id == transcripts.c.recording_id)
        query = query.where(recordings.c.library_id == home)
    if profile is not None:
        own = sa.select(speakers.c.recording_id).where(speakers.c.profile_id == profile)
        query = query.where(transcripts.c.recording_id.in_(own))
    return list(tx.scalars(query.order_by(transcripts.c.recording_id).limit(limit)))


def _measure_words(tx: Transaction, recording_id: str, transcript: Transcript | None) -> None:
    """Write down how many words each speaker says, where its voice was measured."""
    query = sa.select(voice_measures.c.speaker_id).where(voice_measures.c.recording_id == recording_id)
    measured = list(tx.scalars(query))
    if not measured:
        return
    found = None if transcript is None else _by_speaker(transcript, exclusive_turns(tx, recording_id))
    change = sa.update(voice_measures).where(voice_measures.c.speaker_id == sa.bindparam("speaker"))
    tx.execute(
        change.values(words=sa.bindparam("count")),
        [{"speaker": each, "count": None if found is None else found.get(each, 0)} for each in measured],
    )


# The stored form: [language, skipped, [[start, end, text, [[text, start, end], …]], …]]


def _document(transcript: Transcript) -> list[Any]:
    segments = [
        [segment.start, segment.end, segment.text, [[word.text, word.start, word.end] for word in segment.words]]
        for segment in transcript.segments
    ]
    return [transcript.language, transcript.skipped, segments]


def _transcript(document: Any) -> Transcript:
    language, skipped, segments = document
    return Transcript(
        tuple(Segment(start, end, text, tuple(Word(*word) for word in words)) for start, end, text, words in segments),
        language,
        skipped,
    )
