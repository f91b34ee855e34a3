"""How fast work goes, and how long the rest will take: one rule for the live view and for whoever looks from outside.

The last ten minutes (less, where work began later) are cut into ten equal slices. The mean speed is what was finished in
all of them; how far the slices differ says how well that mean is known. With s their standard deviation relative to the
mean, the mean is known to within r = 2 s / sqrt(10), and the time left is given as the range from left / (1 + r) to
left * (1 + r). The range is never narrower than 10 % to both sides: what is left need not be like what was done.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from speakerdb.reports.seeing import Pace

WINDOW_SECONDS = 600.0
SLICES = 10
LEAST_RECORDINGS = 3
"""Below this nothing is said about the time that is left."""
LEAST_SECONDS = 1.0
LEAST_SPREAD = 0.1


def pace(
    slices: Sequence[tuple[int, float]], seconds: float, *, left_recordings: int, left_audio: float
) -> Pace | None:
    """The pace of equal slices of the last `seconds`, each with the recordings finished in it and their seconds of audio.

    None where nothing was finished. Where lengths are not known (audio 0), the estimate counts recordings.
    """
    recordings = sum(count for count, _ in slices)
    audio = sum(length for _, length in slices)
    if not recordings or seconds < LEAST_SECONDS:
        return None
    left = None
    if left_recordings and recordings >= LEAST_RECORDINGS:
        by_audio = audio > 0 and left_audio > 0
        rates = [length if by_audio else float(count) for count, length in slices]
        mean = sum(rates) / len(rates)
        variance = sum((rate - mean) ** 2 for rate in rates) / len(rates)
        spread = max(LEAST_SPREAD, 2.0 * math.sqrt(variance / len(rates)) / mean)
        expected = (left_audio if by_audio else left_recordings) * seconds / sum(rates)
        left = (expected / (1.0 + spread), expected * (1.0 + spread))
    return Pace(seconds, recordings, audio, audio / seconds, 3600.0 * recordings / seconds, left)


class Meter:
    """The same pace from totals that are seen to grow, for whoever watches one run."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, float]] = deque()

    def add(self, at: float, recordings: int, audio: float) -> None:
        """At `at` seconds of the run so many recordings were done in all, with so many seconds of audio."""
        if self._seen and (recordings < self._seen[-1][1] or audio < self._seen[-1][2]):
            self._seen.clear()  # another generation is counted now, or something was queued again
        self._seen.append((at, recordings, audio))
        while len(self._seen) > 2 and self._seen[1][0] <= at - WINDOW_SECONDS:
            self._seen.popleft()

    def pace(self, *, left_recordings: int, left_audio: float) -> Pace | None:
        """The pace up to what was added last."""
        if len(self._seen) < 2:
            return None
        begin, end = self._seen[0][0], self._seen[-1][0]
        seconds = end - begin
        if seconds < LEAST_SECONDS:
            return None
        slices = [(0, 0.0)] * SLICES
        before = self._seen[0]
        for sample in list(self._seen)[1:]:
            which = min(SLICES - 1, int((sample[0] - begin) / seconds * SLICES))
            count, length = slices[which]
            slices[which] = (count + sample[1] - before[1], length + sample[2] - before[2])
            before = sample
        return pace(slices, seconds, left_recordings=left_recordings, left_audio=left_audio)
