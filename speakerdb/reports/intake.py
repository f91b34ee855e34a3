"""What bringing a library in did, for the doors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RefusedEntry:
    """A recording that was not brought in. `where` is its file, or the manifest and the line."""

    where: str
    code: str
    message: str
    hint: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class IntakeEvent:
    """Sent while a library is brought in, after every part."""

    recordings: int
    """Looked at so far, refused ones too."""
    added: int
    changed: int
    unchanged: int
    refused: int
    elapsed: float


OnIntake = Callable[[IntakeEvent], None]


@dataclass(frozen=True, slots=True)
class IntakeReport:
    """Counts of a run over files, folders and manifests."""

    dry_run: bool
    """Nothing was written; the counts say what would be."""
    stopped: bool
    """Somebody stopped it; run it again to continue."""
    added: int
    changed: int
    unchanged: int
    refused: int
    refused_by_code: Mapping[str, int]
    turns: int
    """Of the recordings that were added or changed."""
    to_diarize: int
    """Of those, came without turns: they are queued to be diarized."""
    without_speaker: int
    """Segments and cues of their turns files that name no speaker, and were left out."""
    named: int
    """Speakers that were given a name or a profile."""
    kept: int
    """Names and profiles of the entries that differ from what stands in the library, or that a person took away: the
    library's word was kept."""
    profiles_made: int
    retried: int
    """Failed recordings that were given again as they are, and are queued again."""
    left_out: Mapping[str, int]
    """Files of the folders that are no recordings: `hidden`, `link`, `other`."""
    seconds: float
    refused_file: str | None
    """A manifest of what was refused, with an `error` each."""
    sample: tuple[RefusedEntry, ...]
    """The first hundred refused ones, in their order."""

    @property
    def recordings(self) -> int:
        """How many were looked at."""
        return self.added + self.changed + self.unchanged + self.refused
