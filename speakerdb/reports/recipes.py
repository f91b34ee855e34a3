"""Recipes: which there are, who uses them, and what they would do with a library's own voices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Voice:
    """A speaker that can be tried: who it is, and in what it is compared with whom."""

    speaker_id: str
    recording_id: str
    library_id: str
    profile_id: str | None


@dataclass(frozen=True, slots=True)
class RecipeView:
    """A recipe, and the generations that use it. The digest stands beside every vector that was made by it."""

    name: str
    digest: str
    budget_seconds: float
    segment_min_seconds: float
    segment_target_seconds: float
    segment_max_seconds: float
    minimum_seconds: float
    confident_seconds: float
    selection: str
    pooling: str
    arithmetic: str
    generations: tuple[str, ...]
    named: bool
    """It can be chosen by its name (`recipe` of a generation); else it is one generation's own."""
    settings: str | None = None
    """The lines of a settings file that define a new generation with it, where they were asked for."""


@dataclass(frozen=True, slots=True)
class Separation:
    """How well named profiles are told apart. Pairs are of two recordings of one library."""

    same: int
    """Pairs of one profile."""
    different: int
    """Pairs of two profiles."""
    profiles: int
    """Profiles that have a pair."""
    eer: float
    """Equal error rate, from 0 to 1: at the score where as many pairs of one profile are missed as pairs of two are taken
    for one."""
    same_cosine: float
    """Mean cosine of pairs of one profile."""
    different_cosine: float


@dataclass(frozen=True, slots=True)
class BudgetResult:
    """What one budget does; means are over all speakers that were tried."""

    budget_seconds: float | None
    """None: all clean speech."""
    speech_seconds: float
    """Mean seconds of speech through the network for a speaker."""
    segments: float
    """Mean number of segments for a speaker."""
    network_seconds: float
    """Mean seconds that the network took for a speaker, at the speed that was measured."""
    cut: int
    """Speakers that have more clean speech than the budget. Of the others all is used, so agreement says nothing of them."""
    agreement: float | None
    """Median, over the speakers in `cut`, of the cosine between the vector of this budget and that of all clean speech."""
    agreement_low: float | None
    """The 5th percentile of the same."""
    separation: Separation | None
    """None where too few voices are named."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The budget to take (None: none can be recommended), and why."""

    budget_seconds: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class SkippedVoices:
    """Speakers that could not be tried, by code: how many, and the recording of one of them."""

    code: str
    speakers: int
    recording_id: str
    message: str


@dataclass(frozen=True, slots=True)
class RecipeTrial:
    """What budgets would do with a library's own voices. Nothing was written."""

    generation: str
    recipe: str
    budget_seconds: float
    """The budget that the generation has."""
    model: str
    speakers: int
    """Speakers that were tried."""
    recordings: int
    limit_seconds: float
    """All clean speech of a speaker means at most so much of it."""
    limited: int
    """Speakers that have more."""
    speed: float
    """Seconds of speech through the network in a second."""
    seconds: float
    """How long the whole trial took."""
    budgets: tuple[BudgetResult, ...]
    """In ascending order; the last is all clean speech."""
    not_measurable: str
    """Why separation could not be measured; empty where it was."""
    recommendation: Recommendation
    skipped: tuple[SkippedVoices, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrialProgress:
    """How far a trial is."""

    speakers: int
    of: int
    speech_seconds: float
    """Seconds of speech that went through the network so far."""


OnTrial = Callable[[TrialProgress], None]
