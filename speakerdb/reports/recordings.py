"""Recordings and migrations as a list shows them and as one is read; pages of lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from speakerdb.reports import RecordingView
from speakerdb.reports.rediarizing import FoundBy

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Part(Generic[Item]):
    """A page of a list. `place` is where the next one begins; None where this is the last."""

    items: tuple[Item, ...]
    place: tuple[Any, ...] | None


@dataclass(frozen=True, slots=True)
class RecordingDetails(RecordingView):
    """A recording with what a list leaves out. Instants are microseconds since the epoch in UTC."""

    recorded_at: int | None
    """When it was made, where somebody said so."""
    created_at: int
    updated_at: int
    media_size: int | None
    """Bytes of its file; None where the sound was given in memory."""
    labels: Mapping[str, str]
    """Its speakers' ids by the label that its turns name them with."""
    found_by: FoundBy | None = None
    """How its turns were found; None where they came with it, or a person changed them since."""


@dataclass(frozen=True, slots=True)
class RecordingTurn:
    """A turn of a recording. `number` is its place among all turns, from 0 on; seconds."""

    number: int
    start: float
    end: float
    speaker: str
    """The speaker's label."""
    speaker_id: str


@dataclass(frozen=True, slots=True)
class MigrationSummary:
    """A migration as a list shows it."""

    id: int
    source: str
    target: str
    state: str
    paused: bool
    started_at: int
    finalized_at: int | None
    rollback_until: int | None
    ended_at: int | None
