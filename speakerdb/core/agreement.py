"""How good a budget of speech is, measured against all clean speech of the same speakers.

- *agreement*: cosine between a speaker's vector from the budget and its vector from all clean speech. The first is part of
  the second, so it is 1 where the budget is not spent, and only speakers that have more speech than the budget count.
- *separation*: of voices whose profile is known, cosines of pairs of one profile and of two. The equal error rate is where
  the two error curves meet, with a straight line between neighbouring scores (as a DET curve is drawn; Martin et al. 1997).
  Pairs of one recording are left out: they share the microphone and the room. So are pairs of two libraries, whose
  profiles may be the same person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speakerdb.reports.recipes import BudgetResult, Recommendation, Separation, Voice
from speakerdb.types import Embedding, FloatArray

Numbers = npt.NDArray[np.float64]
Pairs = npt.NDArray[np.int64]

AGREEMENT = 0.98
"""The median agreement that a recommended budget has at least."""
EER_MORE = 0.005
"""By so much its equal error rate may be above that of all speech: half a point."""
LOW_PERCENTILE = 5.0
FEWEST_SPEAKERS = 5
"""With fewer speakers nothing is recommended."""
FEWEST_PAIRS = 10
"""With fewer pairs of one profile, or of two, separation is not measurable."""


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """One voice: its embedding from each budget (seconds), and from all its clean speech."""

    voice: Voice
    budgets: Mapping[float, Embedding]
    everything: Embedding


def equal_error_rate(same: Numbers, different: Numbers) -> float:
    """From 0 (told apart) over 0.5 (by chance) to 1. Both hold at least one score; ties count as accepted."""
    scores = np.unique(np.concatenate([same, different]))
    # At a threshold: the share of the same that is below it, and of the different that is not. The last accepts nobody.
    missed = np.append(np.searchsorted(np.sort(same), scores), len(same)) / len(same)
    taken = 1.0 - np.append(np.searchsorted(np.sort(different), scores), len(different)) / len(different)
    gap = taken - missed  # falls from 1 to -1
    after = int(np.argmax(gap <= 0))
    before = after - 1
    share = gap[before] / (gap[before] - gap[after])
    return float(missed[before] + share * (missed[after] - missed[before]))


def pairs_of(voices: Sequence[Voice]) -> tuple[Pairs, Pairs]:
    """Positions of pairs of one profile, and of two, each of shape (n, 2)."""
    first, second = np.triu_indices(len(voices), 1)
    profiles = np.array([voice.profile_id or "" for voice in voices])
    recordings = np.array([voice.recording_id for voice in voices])
    libraries = np.array([voice.library_id for voice in voices])
    usable = (
        (profiles[first] != "")
        & (profiles[second] != "")
        & (recordings[first] != recordings[second])
        & (libraries[first] == libraries[second])
    )
    one = profiles[first] == profiles[second]
    pairs = np.stack([first, second], axis=1)
    return pairs[usable & one], pairs[usable & ~one]


def why_not_measurable(voices: Sequence[Voice]) -> str:
    """Why separation cannot be measured with these voices; empty where it can."""
    same, different = pairs_of(voices)
    if len(same) >= FEWEST_PAIRS and len(different) >= FEWEST_PAIRS:
        return ""
    return (
        f"too few named voices: {len(same)} pairs of one profile and {len(different)} of two, in different recordings of one "
        f"library; it takes {FEWEST_PAIRS} of each"
    )


def results(tried: Sequence[Tried], budgets: Sequence[float], speed: float) -> tuple[BudgetResult, ...]:
    """One result a budget, in ascending order, and one for all clean speech. `tried` is not empty.

    `speed`: seconds of speech through the network in a second.
    """
    everything = [one.everything for one in tried]
    voices = [one.voice for one in tried]
    found = {budget: [one.budgets[budget] for one in tried] for budget in sorted(budgets)}
    return (
        *(_result(budget, mine, everything, voices, speed) for budget, mine in found.items()),
        _result(None, everything, everything, voices, speed),
    )


def _result(
    budget: float | None,
    found: Sequence[Embedding],
    everything: Sequence[Embedding],
    voices: Sequence[Voice],
    speed: float,
) -> BudgetResult:
    vectors = np.stack([one.vector for one in found])
    cosines = np.einsum("ij,ij->i", vectors, np.stack([one.vector for one in everything]), dtype=np.float64)
    cut = np.array([budget is not None and one.seconds > budget for one in everything])
    seconds = float(np.mean([one.seconds for one in found]))
    return BudgetResult(
        budget_seconds=budget,
        speech_seconds=seconds,
        segments=float(np.mean([one.segments for one in found])),
        network_seconds=seconds / speed,
        cut=int(cut.sum()),
        agreement=float(np.median(cosines[cut])) if cut.any() else None,
        agreement_low=float(np.percentile(cosines[cut], LOW_PERCENTILE)) if cut.any() else None,
        separation=None if why_not_measurable(voices) else separation(vectors, voices),
    )


def separation(vectors: FloatArray, voices: Sequence[Voice]) -> Separation:
    """Of unit vectors of shape (n, dimension), one a voice; there is a pair of each kind."""
    same, different = pairs_of(voices)
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    alike, unlike = cosines[same[:, 0], same[:, 1]], cosines[different[:, 0], different[:, 1]]
    return Separation(
        same=len(same),
        different=len(different),
        profiles=len({voices[place].profile_id for place in {*same.ravel().tolist(), *different.ravel().tolist()}}),
        eer=equal_error_rate(alike, unlike),
        same_cosine=float(alike.mean()),
        different_cosine=float(unlike.mean()),
    )


def recommend(found: Sequence[BudgetResult], speakers: int, confident_seconds: float) -> Recommendation:
    """The cheapest budget that is as good as all clean speech, and why. The last of `found` is all clean speech.

    `confident_seconds` is the recipe's: no match is accepted with a voice of less, so no smaller budget is recommended.
    """
    *budgets, everything = found
    if speakers < FEWEST_SPEAKERS:
        return Recommendation(
            None, f"{speakers} speakers are too few to recommend anything by; it takes {FEWEST_SPEAKERS}."
        )
    wanting: list[str] = []
    for result in budgets:
        lacks = _lacks(result, everything, confident_seconds)
        if not lacks:
            assert result.budget_seconds is not None
            reason = f"{result.budget_seconds:g} s is the cheapest that is good enough: {_merits(result, everything)}."
            if wanting:
                reason += f" {wanting[-1]}"
            return Recommendation(result.budget_seconds, reason)
        wanting.append(f"{result.budget_seconds:g} s is not: {' and '.join(lacks)}.")
    return Recommendation(None, f"None of these budgets is good enough; try larger ones. {wanting[-1]}")


def _lacks(result: BudgetResult, everything: BudgetResult, confident_seconds: float) -> list[str]:
    lacks: list[str] = []
    if result.budget_seconds is not None and result.budget_seconds < confident_seconds:
        lacks.append(f"a match with less than {confident_seconds:g} s is never accepted")
    if result.agreement is not None and result.agreement < AGREEMENT:
        lacks.append(f"its median cosine to all clean speech is {result.agreement:.3f}, below {AGREEMENT:g}")
    if result.separation is not None and everything.separation is not None:
        limit = everything.separation.eer + EER_MORE
        if result.separation.eer > limit + 1e-12:
            lacks.append(f"its equal error rate is {result.separation.eer:.1%}, above {limit:.1%}")
    return lacks


def _merits(result: BudgetResult, everything: BudgetResult) -> str:
    if result.agreement is None:
        merits = "no speaker that was tried has more clean speech"
    else:
        merits = (
            f"the median cosine to all clean speech of those who have more ({result.cut}) is {result.agreement:.3f}, "
            f"at least {AGREEMENT:g}"
        )
    if result.separation is None or everything.separation is None:
        return f"{merits}; separation was not measurable"
    merits += (
        f"; its equal error rate is {result.separation.eer:.1%} (all clean speech: {everything.separation.eer:.1%}, and at "
        f"most half a point more)"
    )
    step = 1 / result.separation.same
    return merits if step <= EER_MORE else f"{merits}, though one pair more or less is {step:.1%}"
