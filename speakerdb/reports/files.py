"""What looking at recordings' files, moving them and accepting changed ones tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class FileState(StrEnum):
    """How a recording's file was found."""

    OK = "ok"
    MISSING = "missing"
    CHANGED = "changed"
    """It is there, and is not the one its turns were made from."""
    UNREADABLE = "unreadable"
    """It is no regular file, may not be read, or (looked at deeply) holds no sound that can be decoded."""
    FORBIDDEN = "forbidden"
    """It lies outside the media roots."""
    OTHER_LENGTH = "other-length"
    """It is the same file, and a deep look finds another length than the one on record."""
    IN_MEMORY = "in-memory"
    """The sound was given in memory: there is no file, and nothing is wrong."""


@dataclass(frozen=True, slots=True)
class FileFinding:
    """One recording's file. `code` is that of the error that work would meet, None where it would meet none."""

    recording_id: str
    library: str
    path: str | None
    state: FileState
    code: str | None = None
    detail: str = ""

    @property
    def wrong(self) -> bool:
        return self.state not in (FileState.OK, FileState.IN_MEMORY)


@dataclass(frozen=True, slots=True)
class FileCheck:
    """A look at every recording's file. The findings themselves were handed out one by one."""

    checked: int
    states: Mapping[str, int]
    deep: bool
    missing_below: str | None
    """The folder that all missing files had in common."""
    next_steps: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return all(state in (FileState.OK, FileState.IN_MEMORY) for state in self.states)


class Moved(StrEnum):
    """What came of one recording of a relocation, or of one changed file that was to be accepted."""

    RELOCATED = "relocated"
    ACCEPTED = "accepted"
    UNCHANGED = "unchanged"
    """The file is the one on record: there was nothing to accept."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class FileChange:
    """One recording of a relocation or of an acceptance; `code` and `detail` say why it was refused."""

    recording_id: str
    outcome: Moved
    old: str | None
    new: str | None = None
    code: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RelocateReport:
    """What moving a prefix did (or, in a dry run, would do). What was refused was handed out one by one."""

    old: str
    new: str
    dry_run: bool
    matched: int
    relocated: int
    queued: int
    """Failed work items that were queued again, because their file is found now."""
    refused: Mapping[str, int]
    """By error code."""


@dataclass(frozen=True, slots=True)
class AcceptReport:
    """What taking changed files as they are did (or, in a dry run, would do)."""

    dry_run: bool
    accepted: int
    unchanged: int
    queued: tuple[str, ...]
    """Generations they were queued for."""
    refused: Mapping[str, int]
    """By error code."""


@dataclass(frozen=True, slots=True)
class FileProgress:
    """How far a look at the files is."""

    done: int
    total: int
    wrong: int


OnFiles = Callable[[FileProgress], None]
OnFinding = Callable[[FileFinding], None]
OnFileChange = Callable[[FileChange], None]
