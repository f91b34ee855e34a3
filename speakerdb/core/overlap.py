"""Where two or more talk at once: when, how surely, and who holds the floor there.

An *overlap* is a longest stretch in which the same two or more speakers talk. Its first speaker, the *primary* one, is the
one whose turns around it carry the most: seconds of the turn it lies in, times the power of that speaker's own clean speech
where the sound was looked at. The others follow in that order. What was taken into account is said in `ranked_by`.

How sure it is comes from the diarizer's own scores where there are some: the mean over the overlap's frames of the
probability that at least two talk. Without them all that is known are the turns' edges, which people and diarizers place a
quarter of a second apart at best (the collar that evaluations forgive, NIST Rich Transcription 2009): `confidence` is then
the share of the overlap that is left when each of its two edges moves inwards by `EDGE_SECONDS`.

Pure functions; O(n log n) for n turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from speakerdb.core.talk import stretches
from speakerdb.types import Turn

EDGE_SECONDS = 0.125
"""How far an edge may be off: half of the collar of 0.25 s, which is a total width."""
LEAST_SECONDS = 1e-6
"""Shorter ones are rounding: turns that touch, and went through another format."""

From = Literal["scores", "turns"]
By = Literal["energy-and-duration", "duration"]


@dataclass(frozen=True, slots=True)
class Overlap:
    """A stretch in which `speakers` (two or more, the primary one first) talk at once. `confidence` is 0 to 1."""

    start: float
    end: float
    speakers: tuple[str, ...]
    confidence: float
    confidence_from: From
    ranked_by: By

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class OverlapScores:
    """Probability that at least two talk, a frame: frame i lies at ``start + i * step`` seconds and is `step` long."""

    start: float
    step: float
    values: Sequence[float]

    def mean(self, start: float, end: float) -> float | None:
        """The mean over the frames whose middle lies between the two, or over the one there; None outside all frames."""
        first = max(0, round((start - self.start) / self.step))
        last = min(len(self.values), max(first + 1, round((end - self.start) / self.step)))
        part = self.values[first:last]
        return float(sum(part) / len(part)) if len(part) else None


def overlaps(
    turns: Sequence[Turn],
    *,
    scores: OverlapScores | None = None,
    power: Mapping[str, float] | None = None,
) -> tuple[Overlap, ...]:
    """The overlaps of a recording, in order of time, disjoint. A speaker does not overlap with itself.

    `power` is the mean square of each speaker's clean speech, linear; where one speaker's is not known it is left out for
    all of that overlap.
    """
    own = stretches(turns)
    found = []
    for start, end, talking in _together(own):
        confidence = None if scores is None else scores.mean(start, end)
        lasting = {speaker: _turn_at(own[speaker], start) for speaker in talking}
        heard = power is not None and all(power.get(speaker) is not None for speaker in talking)
        weight = {
            speaker: seconds * (power[speaker] if heard and power is not None else 1.0)
            for speaker, (seconds, _) in lasting.items()
        }
        # Of equals the one who talked first: the other one came in.
        ranked = sorted(talking, key=lambda speaker: (-weight[speaker], lasting[speaker][1], speaker))
        found.append(
            Overlap(
                start,
                end,
                tuple(ranked),
                _from_edges(start, end) if confidence is None else min(1.0, max(0.0, confidence)),
                "turns" if confidence is None else "scores",
                "energy-and-duration" if heard else "duration",
            )
        )
    return tuple(found)


def _from_edges(start: float, end: float) -> float:
    return max(0.0, 1.0 - 2 * EDGE_SECONDS / (end - start))


def _together(own: Mapping[str, Sequence[tuple[float, float]]]) -> list[tuple[float, float, frozenset[str]]]:
    """Stretches in which at least two talk, split where somebody joins or leaves."""
    events = sorted(
        (at, joins, speaker)
        for speaker, stretches in own.items()
        for stretch in stretches
        for at, joins in ((stretch[0], True), (stretch[1], False))
    )
    found: list[tuple[float, float, frozenset[str]]] = []
    talking: set[str] = set()
    since = 0.0
    for at, group in groupby(events, key=lambda event: event[0]):
        if len(talking) > 1 and at - since > LEAST_SECONDS:
            found.append((since, at, frozenset(talking)))
        for _, joins, speaker in group:
            if joins:
                talking.add(speaker)
            else:
                talking.discard(speaker)
        since = at
    return found


def _turn_at(stretches: Sequence[tuple[float, float]], at: float) -> tuple[float, float]:
    """Length and start of the stretch that a moment lies in (or begins)."""
    low, high = 0, len(stretches)
    while low < high:
        middle = (low + high) // 2
        if stretches[middle][0] <= at:
            low = middle + 1
        else:
            high = middle
    start, end = stretches[low - 1]
    return end - start, start
