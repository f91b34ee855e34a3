"""From ranked scores to a decision, with a reason that a person can check.

Scores belong to one generation and are judged by that generation's operating point. A fixed threshold needs a known
amount of speech, so a voice with little of it is never accepted automatically.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from speakerdb.types import OperatingPoint


@dataclass(frozen=True, slots=True)
class Candidate:
    """One answer. `person` is what counts as the same answer: a profile's id, or the speaker's own where it has none."""

    person: str
    score: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Decision:
    """`margin` is the best person's score minus the best other person's; None without another."""

    verdict: Literal["accept", "ambiguous", "reject", "none"]
    reason: str
    margin: float | None


def decide(
    ranked: Sequence[Candidate], point: OperatingPoint, *, query_seconds: float | None, confident_seconds: float
) -> Decision:
    """Judge candidates, best first. `query_seconds` is None where the amount of speech is not known (a bare vector)."""
    if not ranked:
        return Decision("none", "no candidate", None)
    best = ranked[0]
    other = next((c for c in ranked if c.person != best.person), None)
    margin = None if other is None else best.score - other.score
    if best.score < point.candidate:
        return Decision("reject", f"best score {best.score:.3f} is below {point.candidate:.3f}", margin)
    if best.score < point.accept:
        return Decision(
            "ambiguous", f"best score {best.score:.3f} is below {point.accept:.3f}, the score to accept", margin
        )
    if margin is not None and margin < point.margin:
        return Decision("ambiguous", f"margin {margin:.3f} to the next person is below {point.margin:.3f}", margin)
    known = [s for s in (query_seconds, best.seconds) if s is not None]
    if min(known) < confident_seconds:
        return Decision(
            "ambiguous",
            f"{min(known):.1f} s of speech is too little to accept, {confident_seconds:g} s are needed",
            margin,
        )
    return Decision("accept", f"score {best.score:.3f} reaches {point.accept:.3f}", margin)
