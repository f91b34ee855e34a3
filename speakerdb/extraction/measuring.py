"""How a recording's speakers sound, measured from the clean speech that is decoded for their vectors anyway."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from speakerdb.core.measures import Heard, level_of
from speakerdb.core.pitch import pitches
from speakerdb.core.sound import is_silent
from speakerdb.types import FloatArray, Span

PITCH_SECONDS = 10.0
"""So much of a speaker's clean speech is asked for its pitch: half of it is voiced, and a median wants no more."""
FEWEST_VOICED = 25
"""Voiced frames (half a second) below which no pitch is told."""


class Listening:
    """Listens to one recording's segments while they pass. What goes wrong in it is told, and stops nobody."""

    def __init__(self, wanted: Sequence[tuple[Span, str]], rate: int) -> None:
        """`wanted` says, in the order in which the segments will come, whose each is; `rate` is of their samples."""
        self._coming = iter([speaker for _, speaker in wanted])
        self._rate = rate
        self._squares: dict[str, float] = {}
        self._samples: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._pitches: dict[str, list[npt.NDArray[np.float64]]] = {}
        self.notices: list[str] = []

    def take(self, sounds: Sequence[FloatArray]) -> None:
        """The next segments."""
        for sound in sounds:
            speaker = next(self._coming)
            if is_silent(sound):
                continue
            self._samples[speaker] = self._samples.get(speaker, 0) + len(sound)
            self._squares[speaker] = self._squares.get(speaker, 0.0) + len(sound) * float(
                np.var(sound, dtype=np.float64)
            )
            left = round(PITCH_SECONDS * self._rate) - self._asked.get(speaker, 0)
            if left > 0 and not self.notices:
                self._ask(speaker, sound[:left])

    def _ask(self, speaker: str, sound: FloatArray) -> None:
        self._asked[speaker] = self._asked.get(speaker, 0) + len(sound)
        try:
            self._pitches.setdefault(speaker, []).append(pitches(sound, self._rate))
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  a statistic must not cost a recording its vectors; the notice says it
            self.notices.append(f"The pitch of voices was not measured: {type(error).__name__}: {error}")

    def heard(self) -> dict[str, Heard]:
        """How each speaker sounds, as far as it could be measured."""
        return {speaker: self._heard(speaker) for speaker in self._samples}

    def _heard(self, speaker: str) -> Heard:
        level = level_of(self._squares[speaker] / self._samples[speaker])
        found = np.concatenate([np.zeros(0), *self._pitches.get(speaker, [])])
        if len(found) < FEWEST_VOICED or self.notices:
            return Heard(level)
        low, middle, high = (float(each) for each in np.percentile(found, [5, 50, 95]))
        return Heard(level, middle, low, high)
