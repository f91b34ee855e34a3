"""Reports of diarizing again: what was queued, what would change, earlier assignments, and what a revert brought back.

Instants are microseconds since the epoch in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class RediarizeQueued:
    """Recordings that were queued to be diarized again."""

    recordings: int
    audio_seconds: float
    without_sound: int = 0
    """Left out of a library: they have no file."""
    awaiting: int = 0
    """Left out of a library: they wait to be diarized for the first time."""


@dataclass(frozen=True, slots=True)
class AssignmentsKept:
    """Recordings that stay as they are, and were to be diarized again."""

    recordings: int


@dataclass(frozen=True, slots=True)
class KnownSpeaker:
    """A speaker that a recording has, or had."""

    id: str
    label: str
    name: str | None
    profile_id: str | None
    profile_name: str | None


@dataclass(frozen=True, slots=True)
class MappedSpeaker:
    """A speaker whose place a new one takes. `found_as` is the diarizer's label; `score` 0 to 1; `cosine` None where there are
    no two voices to compare."""

    speaker: KnownSpeaker
    found_as: str
    shared_seconds: float
    cosine: float | None
    score: float
    seconds: float
    """Of its new turns."""


@dataclass(frozen=True, slots=True)
class NewSpeaker:
    """A speaker who takes nobody's place: the label that it will have, and the seconds of its turns."""

    label: str
    found_as: str
    seconds: float


@dataclass(frozen=True, slots=True)
class RediarizePlan:
    """What a diarization that was made now would change. Nothing was written."""

    recording_id: str
    path: str | None
    diarizer: str
    turns_before: int
    turns: int
    changed: bool
    """Whether anything would be other than it is."""
    refused: bool
    """Whether it would be refused: somebody of `lost` has a name or a profile, and nobody accepted that."""
    mapped: tuple[MappedSpeaker, ...]
    new: tuple[NewSpeaker, ...]
    lost: tuple[KnownSpeaker, ...]
    """Nobody takes their place: they would go."""
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RediarizeDryRun:
    """Plans of several recordings, and what went wrong with others: `recording_id`, and the error's fields."""

    plans: tuple[RediarizePlan, ...]
    errors: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class AssignmentView:
    """Who spoke when, as it was before it was replaced. `number` is for `assignments revert --to`."""

    number: int
    recording_id: str
    at: int
    who: str
    why: str | None
    replaced_by: Literal["rediarized", "reverted"]
    turns: int
    diarizer: str | None
    """What had found the turns; None where they came with the recording, or a person had changed them since."""
    speakers: tuple[KnownSpeaker, ...]
    """With the names that they had."""


@dataclass(frozen=True, slots=True)
class RevertedSpeaker:
    """A speaker of the recording as it will be. `was` says whether it was there before the revert; `was_id` is the id that it
    had, where another speaker has that one by now."""

    speaker: KnownSpeaker
    was: Literal["there", "gone"]
    was_id: str | None = None


@dataclass(frozen=True, slots=True)
class RevertReport:
    """What a revert did, or would do in a dry run."""

    recording_id: str
    number: int
    """The set that came back."""
    done: bool
    """False in a dry run, and where everything is so already."""
    changed: bool
    kept_as: int | None
    """The number of the set that what stood there before is kept as; None where nothing was done."""
    turns: int
    speakers: tuple[RevertedSpeaker, ...]
    gone: tuple[KnownSpeaker, ...]
    """Who is there now and was not then: they go."""
    refused: bool
    """In a dry run: somebody of `gone` has a name or a profile, and nobody accepted that."""
    queued: tuple[str, ...] = ()
    """Generations that it was queued for."""
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TurnsProgress:
    """How far the diarization is that a migration was asked for."""

    recordings_queued: int
    recordings_done: int
    recordings_failed: int
    audio_seconds_queued: float


@dataclass(frozen=True, slots=True)
class FoundBy:
    """How a recording's turns were found."""

    diarizer: str
    at: int
    asked: Mapping[str, Any] = field(default_factory=dict)
    """What was asked for: numbers of speakers, channels, and whether named speakers may go."""
    notices: tuple[str, ...] = ()
