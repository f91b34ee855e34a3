"""What a recording's talk was found to be: who talks how much, where two or more do, and how each voice sounds.

*Level* is the power of a speaker's clean speech in decibels below full scale, 10 log10 of the mean square: 0 dB is a square
wave that fills the range, speech is usually recorded between -35 and -15 dB. *Pitch* is the fundamental frequency in hertz:
the median over the voiced moments of that speech, and the 5th and 95th of a hundred.

Pure functions; O(n log n) for n turns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from speakerdb.core.overlap import Overlap, OverlapScores, overlaps
from speakerdb.core.talk import Talk, stretches, talk
from speakerdb.types import Turn


@dataclass(frozen=True, slots=True)
class Heard:
    """How a speaker's clean speech sounds: decibels below full scale, and hertz. None where it could not be measured."""

    level: float | None = None
    pitch: float | None = None
    pitch_low: float | None = None
    pitch_high: float | None = None

    @property
    def power(self) -> float | None:
        """The mean square of the speech, linear."""
        return None if self.level is None else 10.0 ** (self.level / 10.0)


NOTHING_HEARD = Heard()


@dataclass(frozen=True, slots=True)
class VoiceMeasures:
    """One speaker of a recording. `overlap_seconds` are those of its own in which somebody else talks, too."""

    talk: Talk
    overlap_seconds: float
    heard: Heard


@dataclass(frozen=True, slots=True)
class Measures:
    """A recording: seconds in which somebody talks and in which two or more do, its overlaps, and its speakers."""

    spoken_seconds: float
    overlap_seconds: float
    overlaps: tuple[Overlap, ...]
    voices: tuple[VoiceMeasures, ...]


def level_of(mean_square: float) -> float | None:
    """Decibels below full scale; None for silence, or what is no number."""
    return 10.0 * math.log10(mean_square) if math.isfinite(mean_square) and mean_square > 0.0 else None


def measures(
    turns: Sequence[Turn],
    *,
    heard: Mapping[str, Heard] | None = None,
    scores: OverlapScores | None = None,
    sure: Mapping[tuple[float, float], float] | None = None,
) -> Measures:
    """Everything that is told of a recording's talk. `heard` by speaker; `scores` are a diarizer's own.

    `sure` are confidences that were made from a diarizer's scores before, by the overlap's start and end; they are taken
    where there are no scores now.
    """
    known = heard or {}
    power = {speaker: each.power for speaker, each in known.items()}
    found = overlaps(turns, scores=scores, power={who: value for who, value in power.items() if value is not None})
    if scores is None and sure:
        found = tuple(
            each if (confidence := sure.get((each.start, each.end))) is None
            else replace(each, confidence=confidence, confidence_from="scores")
            for each in found
        )  # fmt: skip
    together: dict[str, float] = {}
    for each in found:
        for speaker in each.speakers:
            together[speaker] = together.get(speaker, 0.0) + each.seconds
    voices = tuple(
        VoiceMeasures(row, min(row.seconds, together.get(row.speaker, 0.0)), known.get(row.speaker, NOTHING_HEARD))
        for row in talk(turns)
    )
    return Measures(spoken_seconds(turns), sum(each.seconds for each in found), found, voices)


def spoken_seconds(turns: Sequence[Turn]) -> float:
    """Seconds in which somebody talks."""
    total, until = 0.0, 0.0
    for start, end in sorted(stretch for own in stretches(turns).values() for stretch in own):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
