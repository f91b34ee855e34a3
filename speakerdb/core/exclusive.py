"""Turns in which one speaks at a time: what transcripts are matched with. Pure functions."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from speakerdb.core.overlap import LEAST_SECONDS, overlaps
from speakerdb.core.talk import joined
from speakerdb.core.turns import in_time
from speakerdb.types import Turn


def exclusive(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns, cut so that no two overlap: where several talk, the primary speaker of the overlap keeps the floor.

    In order of time. What is shorter than `LEAST_SECONDS` is left out.
    """
    both = overlaps(turns)
    ends = [overlap.end for overlap in both]
    found = []
    for mine in joined(turns).values():
        for turn in mine:
            at = turn.start
            for number in range(bisect_left(ends, turn.start), len(both)):
                overlap = both[number]
                if overlap.start >= turn.end:
                    break
                if turn.speaker in overlap.speakers[1:] and overlap.end > at:
                    found.append(Turn(at, overlap.start, turn.speaker))
                    at = overlap.end
            found.append(Turn(at, turn.end, turn.speaker))
    kept = (turn for turn in found if turn.end - turn.start > LEAST_SECONDS)
    return tuple(sorted(kept, key=in_time))
