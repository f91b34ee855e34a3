"""What building an index again from SQL tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How far a rebuild is: what it does, and how many documents of how many."""

    generation: str
    doing: str
    """``writing``, then ``comparing``."""
    documents: int
    total: int


OnRebuild: TypeAlias = Callable[[RebuildProgress], None]


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """One index that was built again from SQL."""

    generation: str
    index: str
    """The new concrete index."""
    documents: int
    """Documents it holds, tombstones too."""
    replaced: str | None
    """The concrete index it took the place of; None where there was none."""
    alias_moved: bool
    """The serving alias names the new index, and named another one or none before."""
    caught_up: int
    """Documents that changed while it was being built, and were written again."""
    seconds: float


@dataclass(frozen=True, slots=True)
class BackupReport:
    """One backup that was made. `size` is in bytes."""

    path: str
    size: int
    recordings: int
    speakers: int
    profiles: int
    live: tuple[str, ...]
    revision: str
    seconds: float


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """One backup that was put back."""

    path: str
    made_at: int | None
    """The time of the newest event in the backup."""
    recordings: int
    speakers: int
    profiles: int
    live: tuple[str, ...]
    """Generations whose index must be built again."""
    kept: str | None
    """Where the database that was there before lies now; None where there was none."""
    seconds: float
