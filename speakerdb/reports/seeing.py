"""What a person sees of a library: what waits and why, what is broken, how fast it goes, and where one thing stands.

Instants are microseconds since the epoch in UTC. A `command` is one line that can be typed as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is broken (error) or will be, or waits for a person (warning), and the command that mends it."""

    code: str
    severity: Severity
    message: str
    command: str
    count: int = 1
    generation: str | None = None


@dataclass(frozen=True, slots=True)
class LeaseView:
    """The right to work, and which process has it."""

    name: str
    state: Literal["free", "held", "expired", "gone"]
    """``gone``: its holder is known not to live any more; whoever comes next takes it at once."""
    holder: str | None
    host: str | None
    pid: int | None
    since: int | None
    expires_at: int | None
    epoch: int

    @property
    def held(self) -> bool:
        """Whether somebody works under it."""
        return self.state == "held"


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast recordings were finished of late, and what that says about the rest. See `core.pace`."""

    seconds: float
    """How far back it was measured."""
    recordings: int
    audio_seconds: float
    speed: float
    """Seconds of audio finished in a second."""
    recordings_an_hour: float
    left: tuple[float, float] | None
    """Low and high estimate of the seconds that are left; None where nothing is left or too little is known."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Recordings of one generation that wait to be extracted, and why."""

    generation: str
    recordings: int
    reason: Literal[
        "working", "nobody-works", "holder-gone", "paused", "model-unavailable", "writes-fenced", "extraction-paused",
        "quiet-hours",
    ]  # fmt: skip
    message: str
    command: str
    """What makes it go on; empty where it goes on by itself."""


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Failed recordings of one generation with one error code: how many, and one of them."""

    generation: str
    code: str
    count: int
    recording_id: str
    path: str | None
    message: str
    attempts: int
    at: int
    retry: str
    """The command that queues all of them again."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are asked for. None (or empty) means any; all that are given must hold."""

    kinds: tuple[str, ...] = ()
    entity: str | None = None
    who: str | None = None
    since: int | None = None
    """At this instant or later."""
    until: int | None = None
    """Before this instant."""
    migration: int | None = None


@dataclass(frozen=True, slots=True)
class WorkState:
    """The work item of a recording in a generation."""

    state: Literal["queued", "taken", "done", "failed", "waived"]
    reason: str
    attempts: int
    code: str | None
    message: str | None
    waived_why: str | None
    done_version: int | None
    at: int
    """When it last changed."""


@dataclass(frozen=True, slots=True)
class DocumentState:
    """A document as SQL says it should be, and as the index holds it."""

    version: int
    indexed_version: int
    deleted: bool
    rejection: str | None
    state: Literal["equal", "missing", "stale", "ahead", "different", "vector", "no-index", "unknown"]
    """``equal`` compares version, content hash, filters and vector; a tombstone that was purged is equal too."""
    index_version: int | None
    """The version in the index; None where it holds no such document."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one thing stands in one generation, and what happens next."""

    generation: str
    live: bool
    serving: bool
    state: Literal["embedded", "stale", "unembeddable", "waiting", "working", "failed", "waived", "absent"]
    why: str
    next: str
    command: str
    """Empty where nothing needs to be done."""
    work: WorkState | None = None
    seconds: float | None = None
    """Seconds of speech that the vector was pooled from."""
    segments: int | None = None
    agreement: float | None = None
    document: DocumentState | None = None
    speakers: Mapping[str, int] = field(default_factory=dict)
    """For a recording: its speakers by state."""
    documents: Mapping[str, int] = field(default_factory=dict)
    """For a recording: the documents of its speakers by state."""


@dataclass(frozen=True, slots=True)
class FileSeen:
    """The media file of a recording, looked at now."""

    path: str | None
    state: Literal["there", "missing", "changed", "forbidden", "unreadable", "in-memory"]
    message: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that is known of one recording, speaker or profile, or of one that was removed."""

    id: str
    kind: Literal["recording", "speaker", "profile", "removed"]
    facts: Mapping[str, Any]
    file: FileSeen | None
    places: tuple[Place, ...]
    speakers: tuple[Mapping[str, Any], ...]
    """Of a recording: its first speakers with their state in each generation."""
    events: tuple[Mapping[str, Any], ...]
    """The last events about it, newest first."""
    next: str
    command: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was written."""

    kind: str
    path: str
    counts: Mapping[str, Any]
    """How much stands behind it."""
