"""The values that pass through: what somebody gave, what was refused, and what is ready to be written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speakerdb.diarizers.asked import NOTHING_ASKED, Asked
from speakerdb.errors import SpeakerDBError
from speakerdb.types import Fingerprint, Turn

MAX_TURNS = 1_000_000
"""Turns of one recording. More than this is no diarization: it is ten changes of speaker a second for a whole day."""
MAX_SPEAKERS = 10_000
"""Speakers of one recording. A database takes some 30,000 ids in one statement."""


@dataclass(frozen=True, slots=True)
class Said:
    """What is said of a voice: a name in its recording, a profile (a name, or an id)."""

    name: str | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """One recording as somebody gave it; nothing of it was opened yet."""

    path: Path | None
    """The media file; None where the sound is in memory."""
    read_turns: Callable[[], tuple[Sequence[Turn], int]] | None
    """Its turns, and how many segments were left out because they name no speaker. None: a diarizer is to find them."""
    recording_id: str | None = None
    library: str = "default"
    said: Mapping[str, Said] = field(default_factory=dict)
    """By label."""
    recorded_at: int | None = None
    seconds: float | None = None
    """The length of sound in memory."""
    where: str = ""
    """What a person would look for: the file, or the manifest and the line."""
    raw: Mapping[str, Any] = field(default_factory=dict)
    """The entry as a manifest could hold it, with full paths."""
    weight: int = 0
    """Bytes of text that its turns were, or will be."""
    asked: Asked = NOTHING_ASKED
    """What the diarizer is told."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry that cannot be brought in, and why."""

    where: str
    raw: Mapping[str, Any]
    error: SpeakerDBError
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    """A recording that can be written: its file was opened, its turns fit."""

    given: Given
    path: str | None
    """The real path."""
    fingerprint: Fingerprint | None
    seconds: float | None
    turns: tuple[Turn, ...]
    digest: str
    """Of the turns; `core.turns.AWAITED` where they are yet to be found."""
    without_speaker: int
