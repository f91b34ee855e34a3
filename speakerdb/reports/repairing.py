"""What a repair found, would do and did. Instants are microseconds since the epoch; all counts are of documents unless they
say otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

RunKind = Literal["check", "walk"]
RunState = Literal["running", "done", "refused", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class DriftView:
    """One difference, and what is to be done about it. Versions are None on the side that lacks the document."""

    id: str
    difference: str
    action: str
    stated_version: int | None
    index_version: int | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a plan is not carried out. `force` is what a person must say to let it be; empty where that is not possible."""

    code: str
    message: str
    hint: str
    force: str = ""


@dataclass(frozen=True, slots=True)
class GenerationPlan:
    """What a repair found in one generation, and would do."""

    generation: str
    index: str | None
    kind: RunKind
    rows: int = 0
    """Rows that SQL has for the generation, tombstones too."""
    compared: int = 0
    """Documents and rows that were compared one by one; none where all buckets are equal."""
    buckets: int | None = 0
    """Buckets that differ; None where all documents were compared."""
    waiting: int = 0
    """Rows that wait for the projector: a lag, no difference."""
    young: int = 0
    """Rows that were changed so lately that they are left alone."""
    learned: int = 0
    """Equal ones whose digest SQL had not known."""
    quarantined: int = 0
    """Differences that are left alone, because they could not be mended before."""
    found: Mapping[str, int] = field(default_factory=dict)
    """By class of difference."""
    actions: Mapping[str, int] = field(default_factory=dict)
    """By what is to be done."""
    deletions: int = 0
    deleted_before: int = 0
    """By repairs of the last 24 hours."""
    allowed: int = 0
    """How many deletions 24 hours may see."""
    sample: tuple[DriftView, ...] = ()
    """The first differences of each class."""
    refused: tuple[Refusal, ...] = ()
    aliases: tuple[str, ...] = ()
    """What is wrong with the aliases, in sentences. Only ever told: a person moves an alias."""
    skipped: str = ""
    """Why the generation was not looked at."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.actions


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """What a repair would do now."""

    kind: RunKind
    generations: tuple[GenerationPlan, ...]
    seconds: float

    @property
    def empty(self) -> bool:
        return all(each.empty for each in self.generations)


@dataclass(frozen=True, slots=True)
class GenerationRepair:
    """What a repair did in one generation."""

    plan: GenerationPlan
    state: RunState
    done: Mapping[str, int]
    """By action. What was changed by somebody meanwhile is not among them."""
    written: int = 0
    """Documents that the projector wrote."""
    quarantined: int = 0
    """Documents that are not mended, and are left alone for a while."""
    code: str | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair did."""

    kind: RunKind
    generations: tuple[GenerationRepair, ...]
    seconds: float

    @property
    def done(self) -> int:
        """Everything that was changed."""
        return sum(sum(each.done.values()) for each in self.generations)


@dataclass(frozen=True, slots=True)
class RunView:
    """A repair of one generation, as it was written down."""

    id: int
    generation: str
    kind: RunKind
    who: str
    why: str | None
    state: RunState
    started_at: int
    ended_at: int | None
    compared: int
    found: Mapping[str, int]
    done: Mapping[str, int]
    deletions: int
    code: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class QuarantineView:
    """Something that could not be mended."""

    generation: str
    id: str
    difference: str
    code: str
    message: str
    attempts: int
    first_at: int
    last_at: int
    next_at: int
    waived_why: str | None


@dataclass(frozen=True, slots=True)
class GenerationHealth:
    """Where repair stands in one live generation."""

    generation: str
    last_check: RunView | None
    last_walk: RunView | None
    walked_to: str
    """The last id that the walk with vectors has seen in this lap; empty at its beginning."""
    lap_begun_at: int | None
    lap_ended_at: int | None
    """When every vector had been looked at once; None before the first lap was over."""
    quarantined: int
    waived: int
    oldest_at: int | None
    """Since when the oldest difference is known that is not mended."""


@dataclass(frozen=True, slots=True)
class RepairStatus:
    """Where repair stands."""

    generations: tuple[GenerationHealth, ...]
    holder: str | None
    """Who repairs now."""


@dataclass(frozen=True, slots=True)
class RepairProgress:
    """How far a repair is."""

    generation: str
    doing: Literal["comparing", "mending", "projecting", "proving"]
    count: int


OnRepair: TypeAlias = Callable[[RepairProgress], None]
