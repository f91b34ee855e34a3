"""Reports of transcripts: what became of one, what there is, and what is said most. None holds a whole text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["added", "changed", "unchanged", "not-kept"]


@dataclass(frozen=True, slots=True)
class TranscriptSpeaker:
    """A speaker of a recording in its transcript. `called` is how the transcript names it; `pieces` are the stretches of
    text that are its own."""

    id: str
    label: str
    called: str
    profile_id: str | None
    pieces: int
    words: int


@dataclass(frozen=True, slots=True)
class TranscriptReport:
    """A transcript that met the turns of its recording."""

    recording_id: str
    outcome: Outcome
    """Whether it is kept: new, in the place of another one, there already exactly so, or only asked for."""
    language: str | None
    """As the transcriber says."""
    segments: int
    """As they were given; those without text are counted in `skipped`."""
    skipped: int
    pieces: int
    """Segments after they were split where the speaker changes."""
    words: int
    outside: int
    """Words that lie in nobody's turn, or cannot be placed: they are nobody's."""
    speakers: tuple[TranscriptSpeaker, ...]
    """Every speaker of the recording, by label, also who says nothing."""


@dataclass(frozen=True, slots=True)
class TranscriptView:
    """A transcript as a list shows it. `created_at`: microseconds since the epoch in UTC."""

    recording_id: str
    library: str
    language: str | None
    segments: int
    words: int
    who: str
    created_at: int


@dataclass(frozen=True, slots=True)
class TranscriptRemoved:
    """What was removed."""

    recording_id: str
    words: int


@dataclass(frozen=True, slots=True)
class WordCount:
    """A word or a phrase in its plain form, and how often it was said."""

    text: str
    count: int


@dataclass(frozen=True, slots=True)
class WordsReport:
    """What is said most, by whom it was asked of, in recordings that have a transcript. Counts, and nothing else."""

    of: Literal["all", "library", "profile", "speaker"]
    id: str | None
    """Of the speaker or profile; a library's name; None for all."""
    name: str | None
    recordings: int
    """With a transcript."""
    words: int
    outside: int
    """Of these, words that are nobody's; they are counted where a library or all was asked about."""
    seconds: float
    """How long who is counted talks in these recordings, by the turns."""
    words_per_minute: float | None
    """Of somebody's words and `seconds`; None where nobody talks."""
    top: tuple[WordCount, ...]
    phrase_length: int | None
    phrases: tuple[WordCount, ...]
    fillers: tuple[WordCount, ...]
    """Those that were looked for and found; `fillers_from` says whose list it was."""
    fillers_from: Literal["default", "given"]
    may_be_missing: int
    """0: the lists are exact. Else there were too many different words or phrases to hold at once, and one that is said at
    most so often may be missing; the counts of those that are shown are exact all the same."""
