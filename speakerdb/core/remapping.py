"""Whose voice is whose, when a recording was diarized again: new speakers are mapped onto old ones.

One to one, by the assignment that makes the sum of the pairs' scores the largest (Kuhn, The Hungarian method, 1955; SciPy's
`linear_sum_assignment`). A pair's score is the mean of two numbers of 0 to 1, as far as both are known:

- *time*: seconds in which both talk, over the seconds of the one that talks less;
- *voice*: the cosine of their embeddings, from 0 at `VOICE_NOTHING` to 1 at `VOICE_SAME`.

A pair under `LEAST_SCORE` is no pair, whatever the sum: it is listed as not mapped, and a person decides. Pure functions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from speakerdb.core.talk import stretches
from speakerdb.types import FloatArray, Turn

LEAST_SCORE = 0.35
VOICE_NOTHING, VOICE_SAME = 0.2, 0.7
"""Cosines of a pair of different voices, and of one voice twice (the means that `docs/explanation/recipe.md` reports lie
below and above them)."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An old speaker and the new one that takes its place. `shared_seconds` is how long both talk at once."""

    old: str
    new: str
    score: float
    shared_seconds: float
    cosine: float | None


@dataclass(frozen=True, slots=True)
class Remapping:
    """Pairs, the surest first; old speakers nobody took the place of, and new ones that took nobody's."""

    pairs: tuple[Pair, ...]
    lost: tuple[str, ...]
    new: tuple[str, ...]

    @property
    def by_new(self) -> dict[str, str]:
        """The old speaker of each new one that has one."""
        return {pair.new: pair.old for pair in self.pairs}


def remap(
    old: Sequence[Turn],
    new: Sequence[Turn],
    *,
    old_voices: Mapping[str, FloatArray] | None = None,
    new_voices: Mapping[str, FloatArray] | None = None,
) -> Remapping:
    """The mapping of the speakers of `new` onto those of `old`. Voices are unit vectors by speaker, of one space. An old
    speaker of whom there is a voice and no turn is told by voice alone."""
    theirs, ours = stretches(old), stretches(new)
    olds, news = sorted({*theirs, *(old_voices or {})}), sorted(ours)
    if not olds or not news:
        return Remapping((), tuple(olds), tuple(news))
    shared = _shared(theirs, ours)
    long = {speaker: _seconds(told) for speaker, told in theirs.items()}
    longs = {speaker: _seconds(told) for speaker, told in ours.items()}
    scores = np.zeros((len(olds), len(news)))
    details: dict[tuple[int, int], tuple[float, float | None]] = {}
    for row, before in enumerate(olds):
        for column, after in enumerate(news):
            both = shared.get((before, after), 0.0)
            time = [both / min(long[before], longs[after])] if before in theirs else []
            cosine = _cosine((old_voices or {}).get(before), (new_voices or {}).get(after))
            voice = None if cosine is None else (cosine - VOICE_NOTHING) / (VOICE_SAME - VOICE_NOTHING)
            known = time if voice is None else [*time, min(1.0, max(0.0, voice))]
            scores[row, column] = sum(known) / len(known) if known else 0.0
            details[row, column] = both, cosine
    from scipy.optimize import linear_sum_assignment  # half a second and 40 MB, which most processes never need

    pairs = [
        Pair(olds[row], news[column], float(scores[row, column]), *details[row, column])
        for row, column in zip(*linear_sum_assignment(scores, maximize=True), strict=True)
        if scores[row, column] >= LEAST_SCORE
    ]
    pairs.sort(key=lambda pair: (-pair.score, pair.old))
    taken, given = {pair.old for pair in pairs}, {pair.new for pair in pairs}
    return Remapping(
        tuple(pairs),
        tuple(name for name in olds if name not in taken),
        tuple(name for name in news if name not in given),
    )


def _seconds(stretches: Sequence[tuple[float, float]]) -> float:
    return sum(end - start for start, end in stretches)


def _shared(
    old: Mapping[str, Sequence[tuple[float, float]]], new: Mapping[str, Sequence[tuple[float, float]]]
) -> dict[tuple[str, str], float]:
    """Seconds in which an old speaker and a new one both talk, where there are any. As much work as there are stretches that
    meet, not as there are pairs of speakers."""
    events = sorted(
        (start, side, speaker, end)
        for side, told in enumerate((old, new))
        for speaker, stretches in told.items()
        for start, end in stretches
    )
    shared: dict[tuple[str, str], float] = defaultdict(float)
    talking: tuple[dict[str, float], dict[str, float]] = ({}, {})
    """Until when, by speaker, of either side."""
    for start, side, speaker, end in events:
        others = talking[1 - side]
        for other in [each for each, until in others.items() if until <= start]:
            del others[other]
        for other, until in others.items():
            shared[(other, speaker) if side else (speaker, other)] += min(end, until) - start
        talking[side][speaker] = end
    return shared


def _cosine(one: FloatArray | None, other: FloatArray | None) -> float | None:
    return None if one is None or other is None else float(np.dot(one, other))
