"""Turns without overlap, for whoever wants one speaker at a time: transcripts, subtitles.

A diarizer may give such a set itself. Otherwise it is made of the turns: where several talk at once the floor is the primary
speaker's (`core.overlap` says how it is found), and what the others have left of their turns stays theirs. Pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence

from speakerdb.core.overlap import LEAST_SECONDS, Overlap, overlaps
from speakerdb.types import Turn


def exclusive(turns: Sequence[Turn], found: Sequence[Overlap] | None = None) -> tuple[Turn, ...]:
    """The turns, none of which overlap, in order of time. `found` are their overlaps, where they are known already.

    Whenever somebody talks in `turns`, exactly one of those who talk then does in the answer. Pieces of one speaker that
    touch are one turn.
    """
    others = [
        (each.start, each.end, speaker)
        for each in (overlaps(turns) if found is None else found)
        for speaker in each.speakers[1:]
    ]
    taken: dict[str, list[tuple[float, float]]] = {}
    for start, end, speaker in sorted(others):
        taken.setdefault(speaker, []).append((start, end))
    kept: list[Turn] = []
    for speaker in {turn.speaker for turn in turns}:
        own = sorted((turn.start, turn.end) for turn in turns if turn.speaker == speaker)
        at = 0.0
        for start, end in own:
            start = max(start, at)  # its own turns may overlap, too
            for first, last in taken.get(speaker, ()):
                if last <= start or first >= end:
                    continue
                if first - start > LEAST_SECONDS:
                    kept.append(Turn(start, first, speaker))
                start = max(start, last)
            if end - start > LEAST_SECONDS:
                kept.append(Turn(start, end, speaker))
            at = max(at, end)
    kept.sort(key=lambda turn: (turn.start, turn.end, turn.speaker))
    joined: list[Turn] = []
    for turn in kept:
        if joined and joined[-1].speaker == turn.speaker and turn.start - joined[-1].end <= LEAST_SECONDS:
            joined[-1] = Turn(joined[-1].start, turn.end, turn.speaker)
        else:
            joined.append(turn)
    return tuple(joined)
