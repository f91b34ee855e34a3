"""A long recording that was diarized in windows: whose voice in a window is whose in those before.

A window's speakers are told by what the two have in common, time and voice (`core.remapping`). Who does not talk there is told
by voice alone: one to one, by the assignment that makes the sum of the cosines the largest, where a cosine is at least
`VOICE_ALIKE`. Whoever is left is new. The turns change over in the middle of what two windows have in common: a turn there is
taken from the window in which more of its surroundings were heard. Pure functions and values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from speakerdb.core.overlap import LEAST_SECONDS
from speakerdb.core.remapping import remap
from speakerdb.types import FloatArray, Turn

VOICE_ALIKE = 0.5
"""The least cosine of one voice in two windows that have nothing of it in common. `docs/how-to/diarize.md` has what was
measured."""


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What a window's diarization gave, in seconds of the recording. `voices` are unit vectors by label, None where there is
    none. `start` to `end` is the window."""

    start: float
    end: float
    turns: Sequence[Turn]
    exclusive: Sequence[Turn]
    voices: Mapping[str, FloatArray | None]


@dataclass(slots=True)
class Joined:
    """The windows joined so far. At most `most` speakers; whoever would be one more is given to the voice most like it."""

    most: int | None = None
    turns: list[Turn] = field(default_factory=list)
    exclusive: list[Turn] = field(default_factory=list)
    forced: int = 0
    """How many speakers of windows were given to a voice because there could be no more."""
    _sums: dict[str, FloatArray] = field(default_factory=dict)
    _names: list[str] = field(default_factory=list)
    _end: float = 0.0

    @property
    def voices(self) -> dict[str, FloatArray | None]:
        """Each speaker's voice: the mean over the windows, weighted by seconds. Unit vectors."""
        return {name: _unit(self._sums.get(name)) for name in self._names}

    def add(self, heard: Heard) -> None:
        """The next window, in order of time."""
        names = self._name(heard)
        cut = (heard.start + self._end) / 2 if self._names or self._end else heard.start
        for mine, theirs in ((self.turns, heard.turns), (self.exclusive, heard.exclusive)):
            named = [Turn(turn.start, turn.end, names[turn.speaker]) for turn in theirs]
            before, after = list(_within(mine, 0.0, cut)), list(_within(named, cut, heard.end))
            mine[:] = _sewn(before, after, cut)
        for label, voice in heard.voices.items():
            if voice is not None and label in names:
                seconds = np.float32(sum(turn.end - turn.start for turn in heard.turns if turn.speaker == label))
                held = self._sums.get(names[label])
                self._sums[names[label]] = voice * seconds if held is None else held + voice * seconds
        self._end = heard.end

    def _name(self, heard: Heard) -> dict[str, str]:
        """The name in the recording of each label of a window."""
        labels = sorted({turn.speaker for turn in heard.turns}, key=lambda label: _first(heard.turns, label))
        voices = {label: voice for label in labels if (voice := heard.voices.get(label)) is not None}
        known = {name: voice for name, voice in self.voices.items() if voice is not None}
        found = remap(
            list(_within(self.turns, heard.start, self._end)),
            list(_within(heard.turns, heard.start, self._end)),
            old_voices=known,
            new_voices=voices,
        ).by_new
        for label, name in _alike(voices, known, skip=found).items():
            found[label] = name
        for label in labels:
            if label in found:
                continue
            if self.most is not None and len(self._names) >= self.most:
                found[label] = _most_alike(voices.get(label), known) or self._names[0]
                self.forced += 1
            else:
                found[label] = f"SPEAKER_{len(self._names):02d}"
                self._names.append(found[label])
        return found


def _alike(
    voices: Mapping[str, FloatArray], known: Mapping[str, FloatArray], *, skip: Mapping[str, str]
) -> dict[str, str]:
    """Pairs of a label and a name that are not among `skip`, by voice alone."""
    labels = [label for label in voices if label not in skip]
    names = [name for name in known if name not in skip.values()]
    if not labels or not names:
        return {}
    from scipy.optimize import linear_sum_assignment  # see `remapping`

    cosines = np.array([[float(voices[label] @ known[name]) for name in names] for label in labels])
    pairs = zip(*linear_sum_assignment(cosines, maximize=True), strict=True)
    return {labels[row]: names[column] for row, column in pairs if cosines[row, column] >= VOICE_ALIKE}


def _most_alike(voice: FloatArray | None, known: Mapping[str, FloatArray]) -> str | None:
    if voice is None or not known:
        return None
    return max(known, key=lambda name: float(voice @ known[name]))


def _within(turns: Iterable[Turn], start: float, end: float) -> Iterable[Turn]:
    """The turns, cut to a stretch of time."""
    for turn in turns:
        first, last = max(turn.start, start), min(turn.end, end)
        if last - first > LEAST_SECONDS:
            yield Turn(first, last, turn.speaker)


def _sewn(before: list[Turn], after: list[Turn], cut: float) -> list[Turn]:
    """Both, with a turn that goes on over the cut as one."""
    open_ends = {turn.speaker: index for index, turn in enumerate(before) if cut - turn.end < LEAST_SECONDS}
    for turn in after:
        index = open_ends.get(turn.speaker)
        if index is not None and turn.start - cut < LEAST_SECONDS:
            before[index] = Turn(before[index].start, turn.end, turn.speaker)
        else:
            before.append(turn)
    return before


def _first(turns: Iterable[Turn], label: str) -> float:
    return min(turn.start for turn in turns if turn.speaker == label)


def _unit(total: FloatArray | None) -> FloatArray | None:
    if total is None:
        return None
    length = float(np.linalg.norm(total))
    return (total / np.float32(length)).astype(np.float32) if length > 0 else None
