"""A recording of any length in windows: what is in memory is bounded by the window.

Two windows have `overlap` seconds in common. The last one is never a short rest: it may be longer than the others by up to the
overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from speakerdb.errors import InvalidInput
from speakerdb.types import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A stretch of a recording: its number (from 1), where it begins in seconds, its samples, and whether it is the last."""

    number: int
    start: float
    samples: FloatArray
    last: bool


def windows(blocks: Iterable[FloatArray], sample_rate: int, seconds: float, overlap: float) -> Iterator[Window]:
    """The windows of samples that come in blocks. `InvalidInput` where the overlap is not shorter than half a window."""
    if not 0 < overlap <= seconds / 2:
        raise InvalidInput(
            f"Windows of {seconds:g} s cannot overlap by {overlap:g} s.",
            hint="Set `diarizer.window_overlap_minutes` to at most half of `diarizer.window_minutes`.",
        )
    length, shared = round(seconds * sample_rate), round(overlap * sample_rate)
    number, first = 1, 0
    held = _Held(length + shared)
    for block in blocks:
        while block.size:
            block = held.take(block)
            if block.size:  # there is more than a window and its overlap: this one is not the last
                yield Window(number, first / sample_rate, held.samples[:length].copy(), last=False)
                held.drop(length - shared)
                number, first = number + 1, first + length - shared
    yield Window(number, first / sample_rate, held.samples, last=True)


class _Held:
    """Samples that were read and are still needed, in memory that grows to `most` of them and no further."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._room = np.zeros(min(most, 1 << 16), np.float32)
        self._size = 0

    @property
    def samples(self) -> FloatArray:
        return self._room[: self._size]

    def take(self, block: FloatArray) -> FloatArray:
        """Keep what fits; the rest."""
        fits = min(len(block), self._most - self._size)
        if self._size + fits > len(self._room):
            grown = np.zeros(min(self._most, max(2 * len(self._room), self._size + fits)), np.float32)
            grown[: self._size] = self.samples
            self._room = grown
        self._room[self._size : self._size + fits] = block[:fits]
        self._size += fits
        return block[fits:]

    def drop(self, samples: int) -> None:
        """Let go of the first ones."""
        kept = self._size - samples
        self._room[:kept] = self._room[samples : self._size].copy()
        self._size = kept
