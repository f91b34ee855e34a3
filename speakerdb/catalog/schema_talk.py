"""The tables of what is known of a recording's talk: how its turns were found, overlaps, measures of voices, transcripts.

All of it follows from the sound, the turns and the transcript of one recording, and goes with the recording. What was
computed carries the recording's `content_version`: of another one it is out of date, and is not shown.
"""

from __future__ import annotations

import sqlalchemy as sa

from speakerdb.catalog.schema_base import Instant, Serial, Text, metadata


def _recording() -> sa.Column[str]:
    """The recording that a row belongs to, as (the first part of) its primary key."""
    return sa.Column("recording_id", sa.ForeignKey("recordings.id", ondelete="CASCADE"), primary_key=True)


# How a diarizer of ours found the turns that a recording had at `content_version`.
diarizations = sa.Table(
    "diarizations",
    metadata,
    _recording(),
    sa.Column("content_version", sa.BigInteger, nullable=False),
    sa.Column("diarizer", Text, nullable=False),
    # JSON: the hints, and what it said besides.
    sa.Column("options", Text, nullable=False),
    sa.Column("notices", Text, nullable=False),
    # Turns of which no two overlap: compressed JSON, a list of start, end and speaker id.
    sa.Column("exclusive", sa.LargeBinary, nullable=False),
    sa.Column("made_at", Instant, nullable=False),
)

# What a recording's talk was found to be. Its speakers' rows and overlaps are written with it.
analyses = sa.Table(
    "analyses",
    metadata,
    _recording(),
    sa.Column("content_version", sa.BigInteger, nullable=False),
    # Whether the sound was looked at, too: levels and pitch.
    sa.Column("heard", sa.Boolean, nullable=False),
    # Seconds in which somebody talks, and in which two or more do.
    sa.Column("spoken_seconds", sa.Double, nullable=False),
    sa.Column("overlap_seconds", sa.Double, nullable=False),
    sa.Column("made_at", Instant, nullable=False),
)

overlaps = sa.Table(
    "overlaps",
    metadata,
    _recording(),
    sa.Column("ordinal", sa.Integer, primary_key=True),
    sa.Column("start", sa.Double, nullable=False),
    sa.Column("end", sa.Double, nullable=False),
    # 0 to 1, and what it was made from: a diarizer's "scores", or the "turns".
    sa.Column("confidence", sa.Double, nullable=False),
    sa.Column("confidence_from", Text, nullable=False),
    # What says who is the primary speaker: "energy-and-duration", or "duration".
    sa.Column("ranked_by", Text, nullable=False),
    sa.CheckConstraint('"start" >= 0 AND "end" > "start"', name="times"),
    sa.CheckConstraint("confidence >= 0 AND confidence <= 1", name="confidence"),
)

overlap_speakers = sa.Table(
    "overlap_speakers",
    metadata,
    _recording(),
    sa.Column("ordinal", sa.Integer, primary_key=True),
    # 0 is the primary speaker.
    sa.Column("rank", sa.Integer, primary_key=True),
    sa.Column("speaker_id", sa.ForeignKey("speakers.id", ondelete="CASCADE"), nullable=False, index=True),
)

# What a speaker did in its recording, and how it sounded.
voice_measures = sa.Table(
    "voice_measures",
    metadata,
    sa.Column("speaker_id", sa.ForeignKey("speakers.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("recording_id", sa.ForeignKey("recordings.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("overlap_seconds", sa.Double, nullable=False),
    sa.Column("turns", sa.Integer, nullable=False),
    sa.Column("longest_turn_seconds", sa.Double, nullable=False),
    sa.Column("interruptions_given", sa.Integer, nullable=False),
    sa.Column("interruptions_received", sa.Integer, nullable=False),
    # Of its clean speech: decibels below full scale, and the fundamental frequency in hertz (median, 5th and 95th of 100).
    sa.Column("level", sa.Double),
    sa.Column("pitch", sa.Double),
    sa.Column("pitch_low", sa.Double),
    sa.Column("pitch_high", sa.Double),
    # How many words of the recording's transcript are its own; None where there is no transcript.
    sa.Column("words", sa.Integer),
)

# What was said, as it was given: compressed JSON. Whose words they are is found out when it is read, so a new name shows.
transcripts = sa.Table(
    "transcripts",
    metadata,
    _recording(),
    sa.Column("digest", Text, nullable=False),
    sa.Column("language", Text),
    sa.Column("segments", sa.Integer, nullable=False),
    sa.Column("words", sa.Integer, nullable=False),
    sa.Column("document", sa.LargeBinary, nullable=False),
    sa.Column("who", Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
)

# Turns with their speakers as they were before they were replaced: compressed JSON.
assignment_sets = sa.Table(
    "assignment_sets",
    metadata,
    sa.Column("id", Serial, primary_key=True, autoincrement=True),
    sa.Column("recording_id", sa.ForeignKey("recordings.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("who", Text, nullable=False),
    sa.Column("why", Text),
    # What replaced it: "rediarized" or "reverted".
    sa.Column("replaced_by", Text, nullable=False),
    sa.Column("document", sa.LargeBinary, nullable=False),
    sa.CheckConstraint("replaced_by IN ('rediarized', 'reverted')", name="replaced_by"),
)
