"""What use cases hand to the doors: frozen snapshots, ready to be shown, printed as JSON or served.

`as_json` turns any of them into plain data. Instants are microseconds since the epoch in UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum, StrEnum
from typing import Any, Literal

import numpy as np

from speakerdb.reports.live import PreferenceView
from speakerdb.reports.rediarizing import TurnsProgress
from speakerdb.reports.seeing import ErrorGroup, LeaseView, Pace, Problem, Waiting
from speakerdb.reports.work import Work

Verdict = Literal["pass", "fail", "warn", "not-measurable"]


def as_json(value: Any) -> Any:
    """Plain dicts, lists, strings and numbers of a report; vectors become lists of floats."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): as_json(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return [float(x) for x in value]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_json(v) for v in value]
    return value


@dataclass(frozen=True, slots=True)
class Check:
    """One gate or one pre-flight check: what was measured, what it must be, and the verdict."""

    name: str
    verdict: Verdict
    value: str
    threshold: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class GateReport:
    """All gates of a finalize. `proven` is True when none failed."""

    checks: tuple[Check, ...]
    watermark: int

    @property
    def proven(self) -> bool:
        return all(c.verdict != "fail" for c in self.checks)


@dataclass(frozen=True, slots=True)
class Preflight:
    """What `migrate start` would do and whether it can come to its end. A dry run prints it."""

    source: str
    target: str
    recordings: int
    recordings_to_extract: int
    speakers: int
    audio_seconds: float
    speech_seconds: float
    """Upper bound of the speech that will pass the network: the recipe's budget for each speaker, at most its turns."""
    disk_needed_bytes: int
    disk_free_bytes: int
    estimate_seconds: tuple[float, float] | None
    """Low and high estimate of the time extraction will take, from a measured sample; None without one."""
    source_model_loads: bool
    checks: tuple[Check, ...]
    recordings_to_diarize: int = 0
    """Recordings that are diarized again first, where that was asked for, and the length of their sound. How long it takes is
    not in the estimate: nothing measures it here."""
    audio_seconds_to_diarize: float = 0.0

    @property
    def passed(self) -> bool:
        return all(c.verdict != "fail" for c in self.checks)


class AddOutcome(StrEnum):
    """What adding a recording did."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class AddReport:
    """One recording that was added. `speakers` maps the diarizer's labels to speaker ids."""

    recording_id: str
    outcome: AddOutcome
    turns: int
    speakers: Mapping[str, str]
    seconds: float | None
    queued: tuple[str, ...]
    """Generations it was queued for."""
    to_diarize: bool = False
    """It came without turns: it is queued to be diarized, and then for every live generation."""


@dataclass(frozen=True, slots=True)
class ItemError:
    """A work item that failed. `generation` is ``diarize`` where no vectors were to be made, but turns."""

    recording_id: str
    generation: str
    code: str
    message: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the work of one generation (or of all) is. One snapshot feeds CLI, API, page and metrics."""

    generation: str | None
    recordings_total: int
    recordings_done: int
    recordings_failed: int
    recordings_waived: int
    recordings_queued: int
    audio_seconds_total: float
    audio_seconds_done: float
    speakers_embedded: int
    speakers_unembeddable: int
    documents_waiting: int
    """Projection rows whose document is behind SQL."""
    errors: Mapping[str, int]
    """Failed items by error code."""
    segments_embedded: int = 0
    """Segments of speech that the stored embeddings were made from: each passed the network once."""
    speech_seconds_embedded: float = 0.0


@dataclass(frozen=True, slots=True)
class CurrentRecording:
    """A recording that is being worked on."""

    recording_id: str
    path: str | None
    generation: str
    """Or ``diarize``."""
    turns: int
    speakers: int
    step: str = ""
    """What a diarization is at, where that is known here; and how far that is, 0 to 1."""
    share: float | None = None


@dataclass(frozen=True, slots=True)
class WorkEvent:
    """Sent while work goes on, after every committed recording and every step.

    `elapsed` is seconds since this run began; `audio_seconds` the length of the recordings finished in this run;
    `eta` the low and high estimate of seconds left, None until something is known.
    """

    progress: Progress
    current: tuple[CurrentRecording, ...]
    elapsed: float
    audio_seconds: float
    eta: tuple[float, float] | None
    notice: str = ""
    """Something a person should read once (a fall-back to the CPU, a worker that died)."""
    work: Work = field(default_factory=Work)
    """What passed through workers in this run."""
    to_diarize: int = 0
    """Recordings that wait for their turns, or whose turns are being found: `progress` does not count them yet."""


OnWork = Callable[[WorkEvent], None]


@dataclass(frozen=True, slots=True)
class WorkReport:
    """What one run of the queue did."""

    recordings_done: int
    recordings_failed: int
    speakers_embedded: int
    speakers_unembeddable: int
    documents_written: int
    audio_seconds: float
    speech_seconds: float
    seconds: float
    stopped: Literal["drained", "waiting", "paused", "halted", "stopped", "limit"]
    """Why the run ended. ``waiting``: recordings stay queued for a generation whose model could not be loaded; ``halted``: a
    live setting says that nothing is extracted now."""
    models: Mapping[str, str]
    """Which model each generation was extracted with, as a person should read it."""
    errors: tuple[ItemError, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)
    """Generations whose model could not be loaded, with what to do; their recordings stay queued."""
    work: Work = field(default_factory=Work)
    """What passed through workers."""
    recordings_diarized: int = 0
    """Recordings whose turns were found; each is then extracted, which is counted in `recordings_done`."""


@dataclass(frozen=True, slots=True)
class SourceLag:
    """How far the source of a migration is behind: what a roll-back done now would miss, or would have to do first."""

    generation: str
    speakers: int
    """Speakers that it could not answer for."""
    documents_waiting: int
    """Documents that are not in its index yet. A roll-back writes them first; one with `now` after it."""
    recordings_queued: int
    recordings_failed: int
    errors: Mapping[str, int] = field(default_factory=dict)
    """Failed recordings by error code."""

    @property
    def any(self) -> bool:
        """Whether it is behind at all."""
        return bool(self.speakers or self.documents_waiting or self.recordings_queued or self.recordings_failed)


@dataclass(frozen=True, slots=True)
class MigrationView:
    """One migration as a person sees it."""

    id: int
    alias: str
    source: str
    target: str
    state: str
    paused: bool
    pause_reason: str | None
    serving: str
    """The generation the alias names right now."""
    started_at: int
    finalized_at: int | None
    rollback_until: int | None
    source_lag: int
    """Speakers that the source could not answer for if it were rolled back now."""
    progress: Progress
    failed: tuple[ItemError, ...]
    """A sample of the failed items."""
    next_step: str
    """What to do next, as a command where there is one."""
    errors: tuple[ErrorGroup, ...] = ()
    """What failed, by code, each with one of the recordings and the command that queues them again."""
    current: tuple[CurrentRecording, ...] = ()
    """What is being worked on now, by whichever process works."""
    pace: Pace | None = None
    """How fast the target's recordings were finished of late; None while nobody works, or too little is known."""
    waiting: tuple[Waiting, ...] = ()
    """Why the target's recordings are still in the queue."""
    lag: SourceLag | None = None
    """How far the source is behind; None where there is no roll-back any more."""
    diarized: TurnsProgress | None = None
    """How far the diarization is that it was asked for; None where it was not."""


@dataclass(frozen=True, slots=True)
class SwapReport:
    """What a finalize or roll-back did."""

    migration: MigrationView
    gates: GateReport | None
    serving: str
    source_lag: int
    fence_seconds: float
    """How long writers were made to wait."""


@dataclass(frozen=True, slots=True)
class Match:
    """One ranked answer to "who is this?". Its result's `path` says how it was found."""

    rank: int
    kind: str
    id: str
    score: float
    name: str | None
    profile_id: str | None
    profile_name: str | None
    recording_id: str | None
    recording_path: str | None
    label: str | None
    speech_seconds: float


@dataclass(frozen=True, slots=True)
class MatchResult:
    """All answers to one query, in one generation and by one path."""

    query: str
    generation: str
    index: str
    path: Literal["serving", "preferred", "fallback"]
    decision: Literal["accept", "ambiguous", "reject", "none"]
    reason: str
    margin: float | None
    """Score of the best person minus the score of the best other person."""
    speech_seconds: float | None
    matches: tuple[Match, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class SpeakerView:
    """One voice in one recording."""

    id: str
    recording_id: str
    label: str
    name: str | None
    profile_id: str | None
    profile_name: str | None
    speech_seconds: float
    """Seconds of its turns."""
    generations: Mapping[str, str]
    """For each generation: ``embedded``, ``stale``, ``waiting``, what became of its recording (``failed``, ``waived``), or the
    reason it is unembeddable."""


@dataclass(frozen=True, slots=True)
class ProfileView:
    """One person across recordings."""

    id: str
    library: str
    name: str
    speakers: int
    merged_into: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """One screen: what serves, what runs, what waits and why, what is broken and the command that mends it."""

    serving: str
    index: str
    live: tuple[str, ...]
    libraries: int
    recordings: int
    speakers: int
    profiles: int
    progress: Mapping[str, Progress]
    migration: MigrationView | None
    """The migration that is not at its end."""
    leases: tuple[LeaseView, ...]
    """Which process works on the queue (``work``), and which moves an alias (``migration``)."""
    problems: tuple[Problem, ...]
    data_dir: str
    database: str
    current: tuple[CurrentRecording, ...] = ()
    """What is being worked on now, by whichever process works."""
    pace: Mapping[str, Pace] = field(default_factory=dict)
    """How fast each generation's recordings were finished of late, while somebody works."""
    waiting: tuple[Waiting, ...] = ()
    preferences: tuple[PreferenceView, ...] = ()
    """Where an operator prefers another generation than the alias names, and what becomes of that."""
    backends: Mapping[str, str] = field(default_factory=dict)
    """What computes the vectors of each live generation on this machine, and why."""


@dataclass(frozen=True, slots=True)
class RecordingView:
    """One recording of the library."""

    id: str
    library: str
    path: str | None
    seconds: float | None
    turns: int
    speakers: int
    content_version: int
