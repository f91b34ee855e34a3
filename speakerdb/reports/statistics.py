"""How people talk, and how their voices sound: statistics of a speaker, of a person, of a library; overlaps.

How well vectors fit together is another thing (`reports.people`). Instants are microseconds since the epoch in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class TalkStatistics:
    """Of one speaker, or of several speakers together. How each number is made stands in `speakerdb.core.talk` and
    `speakerdb.core.measures`."""

    seconds: float
    """In which they talk; one who talks over itself counts once."""
    share: float | None
    """Of all talk in the recordings that they are in (0 to 1); of a library's person: of all talk in the library."""
    turns: int
    mean_turn_seconds: float | None
    longest_turn_seconds: float
    interruptions_given: int
    interruptions_received: int
    overlap_seconds: float
    """Of `seconds`, those in which somebody else talks, too."""
    overlap_share: float | None
    words: int | None
    """Of the transcripts that there are; None without any."""
    words_a_minute: float | None
    """In the recordings with a transcript, by the minute of their own talk there."""
    level: float | None
    """Decibels below full scale. Of several speakers: the mean, by seconds of talk; so are the next three."""
    pitch: float | None
    """Median of the fundamental frequency, in hertz."""
    pitch_low: float | None
    """Its 5th of 100."""
    pitch_high: float | None
    """Its 95th of 100."""


@dataclass(frozen=True, slots=True)
class SpeakerTalk:
    """One speaker: a voice in one recording."""

    id: str
    recording_id: str
    recording_path: str | None
    label: str
    name: str | None
    profile_id: str | None
    profile_name: str | None
    stored: bool
    """False: nothing was measured yet of the recording as it is now, and this was made from its turns, without sound."""
    talk: TalkStatistics


@dataclass(frozen=True, slots=True)
class MonthOfTalk:
    """The recordings of one month in which a person speaks."""

    month: str
    """``2024-05``, in UTC: of when the recordings were made, or were added where nobody said so."""
    recordings: int
    dated: int
    """Of these, those of which somebody said when they were made."""
    speech_seconds: float
    """Seconds of the person's turns."""


@dataclass(frozen=True, slots=True)
class VoiceAppearance:
    """One voice of a person. `similarity` is its vector's cosine to that of the person's first appearance."""

    speaker_id: str
    recording_id: str
    at: int
    dated: bool
    similarity: float


@dataclass(frozen=True, slots=True)
class YearOfVoice:
    """The voices of a person in the recordings of one year."""

    year: int
    voices: int
    mean_similarity: float
    """To the person's first appearance."""
    lowest_similarity: float


@dataclass(frozen=True, slots=True)
class VoiceChange:
    """How a voice went away from its own first appearance, in one generation; and how far recordings differ anyway."""

    generation: str
    first: VoiceAppearance
    """The oldest voice that has a current vector; what all are compared with, itself too."""
    voices: int
    years: tuple[YearOfVoice, ...]
    appearances: tuple[VoiceAppearance, ...]
    """In the order of time; at most as many as rows were asked for."""


@dataclass(frozen=True, slots=True)
class ProfileTalk:
    """One person across recordings. `talk` is of the recordings that are measured."""

    id: str
    name: str
    library: str
    speakers: int
    recordings: int
    unmeasured: int
    """Recordings of which nothing is measured yet, as they are now."""
    talk: TalkStatistics | None
    months: tuple[MonthOfTalk, ...]
    change: VoiceChange | None
    """None where no voice of the person has a current vector in the generation that serves."""


@dataclass(frozen=True, slots=True)
class PersonOfLibrary:
    """A row of a library's table of people."""

    profile_id: str
    name: str
    recordings: int
    talk: TalkStatistics


@dataclass(frozen=True, slots=True)
class OverlapShare:
    """How many recordings have so large a share of overlap in their talk: at least `least`, and less than `below`."""

    least: float
    below: float
    recordings: int


@dataclass(frozen=True, slots=True)
class LibraryTalk:
    """A library. What is summed is of the recordings that are measured."""

    library: str
    recordings: int
    unmeasured: int
    """Recordings of which nothing is measured yet, as they are now."""
    speakers: int
    """In the measured recordings."""
    spoken_seconds: float
    """In which somebody talks."""
    overlaps: int
    overlap_seconds: float
    """In which two or more talk."""
    overlap_share: float | None
    overlap_shares: tuple[OverlapShare, ...]
    talk: TalkStatistics | None
    """Of all speakers together."""
    people_total: int
    people: tuple[PersonOfLibrary, ...]
    """Who talks most first; at most as many as rows were asked for."""


@dataclass(frozen=True, slots=True)
class OverlapSpeaker:
    """Who talks in an overlap."""

    speaker_id: str
    label: str
    name: str | None
    profile_id: str | None
    profile_name: str | None


@dataclass(frozen=True, slots=True)
class OverlapView:
    """A stretch in which the same two or more talk. `number` is its place among all of the recording, from 0 on; seconds."""

    number: int
    start: float
    end: float
    seconds: float
    primary: OverlapSpeaker
    """Who holds the floor."""
    secondary: tuple[OverlapSpeaker, ...]
    confidence: float
    """0 to 1."""
    confidence_from: Literal["scores", "turns"]
    """A diarizer's own scores, or only the length of the overlap: see `speakerdb.core.overlap`."""
    ranked_by: Literal["energy-and-duration", "duration"]


@dataclass(frozen=True, slots=True)
class RecordingOverlaps:
    """The overlaps of a recording that were asked for, or the first of them."""

    recording_id: str
    recording_path: str | None
    speaker_id: str | None
    """Only those in which this speaker talks."""
    stored: bool
    """False: nothing is stored of the recording as it is now, and they were made from its turns."""
    total: int
    total_seconds: float
    overlaps: tuple[OverlapView, ...]
