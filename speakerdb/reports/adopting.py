"""What reading an index into the database tells, and what taking one over tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """How far it is. `doing` is ``reading``, ``comparing``, or what a rebuild does."""

    index: str
    doing: str
    documents: int
    total: int


OnImport: TypeAlias = Callable[[ImportProgress], None]


@dataclass(frozen=True, slots=True)
class RefusedDocuments:
    """Documents that cannot be taken, for one reason, with some of their ids and what was found in them."""

    reason: str
    sentence: str
    """The reason, as the end of a sentence."""
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """One pass over an index."""

    index: str
    generation: str
    recipe: str
    """The recipe its vectors are marked with."""
    fields: Mapping[str, str]
    """Which field of the documents was taken for what."""
    dry_run: bool
    documents: int
    """Documents that were read."""
    imported: int
    """Documents whose vector SQL did not have."""
    updated: int
    """Documents whose vector, profile or name has changed since it was imported."""
    present: int
    """Documents that SQL had as they are."""
    kept: int
    """Documents of which SQL has another vector, that was not imported from here. SQL's stays."""
    refused: tuple[RefusedDocuments, ...]
    recordings: int
    """Recordings that were made, without a file and turns."""
    speakers: int
    profiles: int
    normalised: int
    """Vectors that were brought to unit norm."""
    without_seconds: int
    """Speakers of whom the index does not say for how long they talk; `assumed_seconds` was taken."""
    assumed_seconds: float
    queued: int
    """Recordings that were queued to be extracted again."""
    live: bool
    """The generation is live: what is new is extracted for it."""
    next: str
    """The command that comes next; empty where nothing has to be done."""
    seconds: float

    @property
    def refusals(self) -> int:
        """How many documents were refused."""
        return sum(group.count for group in self.refused)


@dataclass(frozen=True, slots=True)
class AdoptReport:
    """One take-over of the legacy index."""

    taken: ImportReport | None
    """The last pass over it; None where nothing was left to be done."""
    index: str
    """The index that the alias names now; where nothing was changed, the legacy one."""
    copy: str | None
    """The copy of the old index, with all its documents; nothing of speakerdb reads or removes it."""
    done: bool
    """The alias has taken its place."""
    forgotten: int
    """Vectors that an earlier pass had read and that were not there any more."""
    blocked: bool
    """The legacy index takes no writes."""
    seconds: float
