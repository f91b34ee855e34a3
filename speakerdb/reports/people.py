"""What is known of a voice and of a person: turns, statistics, appearances; what a split or an undo did or would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from speakerdb.reports import ProfileView, SpeakerView


@dataclass(frozen=True, slots=True)
class SpeakerTurn:
    """One turn of a speaker. `number` counts the speaker's own turns from 1 on, in the order of time; seconds."""

    number: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class SpeakerStatistics:
    """A speaker in one generation. Everything but `generation` and `state` is None where it has no current vector.

    How each number is computed stands in `speakerdb.core.pooling` and `speakerdb.core.statistics`.
    """

    generation: str
    state: str
    """``embedded``, ``stale``, ``waiting``, or why it is unembeddable."""
    seconds: float | None = None
    """Speech that the vector was pooled from."""
    segments: int | None = None
    resultant: float | None = None
    """Length of the mean of its segments' unit vectors, by seconds: 1 where all are the same."""
    agreement: float | None = None
    """Mean similarity of its own segments; None where there is one only."""
    similarity: float | None = None
    """Similarity to the centroid of the other members of its profile; None where there are none."""
    limit: float | None = None
    """The similarity below which a member of its profile is an outlier."""
    outlier: bool | None = None


@dataclass(frozen=True, slots=True)
class SpeakerDetails(SpeakerView):
    """A speaker with the first of its turns and its statistics in every live generation."""

    library: str
    recording_path: str | None
    turns_total: int
    turns: tuple[SpeakerTurn, ...]
    statistics: tuple[SpeakerStatistics, ...]


@dataclass(frozen=True, slots=True)
class Outlier:
    """A member that is less like the others than the limit."""

    speaker_id: str
    similarity: float


@dataclass(frozen=True, slots=True)
class NearestProfile:
    """The other profile of the library whose centroid is most similar: the same person twice, perhaps."""

    id: str
    name: str
    similarity: float


@dataclass(frozen=True, slots=True)
class ProfileStatistics:
    """A profile in one generation, from the current vectors of its members."""

    generation: str
    members: int
    embedded: int
    """Members with a current vector."""
    seconds: float
    """Speech behind these vectors."""
    mean_similarity: float | None
    """Mean of the members' similarities, each to the centroid of the others; None with fewer than two members."""
    lowest_similarity: float | None
    spread: float | None
    """1 minus the length of the members' weighted mean: 0 where all have the same vector, 1 where they cancel each other."""
    limit: float | None
    """The similarity below which a member is an outlier."""
    outliers: int
    least_similar: tuple[Outlier, ...]
    """The outliers, the least similar first; at most as many as rows were asked for."""
    nearest: NearestProfile | None


@dataclass(frozen=True, slots=True)
class Member:
    """A speaker of a profile. `similarities` by generation; a generation without a current vector is left out."""

    speaker_id: str
    recording_id: str
    recording_path: str | None
    label: str
    name: str | None
    speech_seconds: float
    similarities: Mapping[str, float]
    outlier_in: tuple[str, ...]
    """Generations in which it is an outlier."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """A recording in which a person speaks. `at` is when it was made, or when it was added where nobody said so."""

    recording_id: str
    recording_path: str | None
    at: int
    dated: bool
    """Whether `at` is when the recording was made."""
    speech_seconds: float
    speakers: int


@dataclass(frozen=True, slots=True)
class ProfileDetails(ProfileView):
    """A profile with its statistics, and the first of its members and appearances, in the order of time."""

    speech_seconds: float
    """Seconds of its members' turns."""
    recordings: int
    statistics: tuple[ProfileStatistics, ...]
    members: tuple[Member, ...]
    appearances: tuple[Appearance, ...]
    merged: tuple[str, ...]
    """Profiles whose ids lead here; at most as many as rows were asked for."""


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What a split did, or, where `speaker_id` is None, what it would do."""

    source_id: str
    recording_id: str
    speaker_id: str | None
    """The new speaker."""
    label: str
    turns: tuple[SpeakerTurn, ...]
    """Those that moved, with the numbers they had."""
    seconds: float
    turns_left: int
    seconds_left: float
    queued: tuple[str, ...]
    """Generations that the recording is extracted for again."""


@dataclass(frozen=True, slots=True)
class UndoReport:
    """A change that was taken back, or, where `undone` is False, that would be."""

    undone: bool
    event: int
    kind: str
    at: int
    who: str
    why: str | None
    entity: str | None
    data: Mapping[str, Any]
    takes_back: str
    """What taking it back does, as a sentence."""
