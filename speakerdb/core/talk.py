"""Who talks how much, and who comes in on whom: what the turns of a recording tell of each voice.

An *interruption* is a turn that begins while exactly one other speaker has been talking for at least `FLOOR_SECONDS`, and that
is still going on when the other one has stopped: the floor changed hands inside the overlap. A turn that begins and ends
inside another one's ("mhm") is a *backchannel* and counts for nobody.

Pure functions; O(n log n) for n turns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from speakerdb.core.turns import in_time
from speakerdb.types import Turn

FLOOR_SECONDS = 1.0
"""Whoever has talked for less than this has not been interrupted: both began at once."""


@dataclass(frozen=True, slots=True)
class Talk:
    """What one speaker did in one recording. `share` is of all speakers' seconds together, so the shares add up to 1."""

    speaker: str
    seconds: float
    share: float
    turns: int
    mean_turn_seconds: float
    longest_turn_seconds: float
    interruptions_given: int
    interruptions_received: int


@dataclass(frozen=True, slots=True)
class Interruption:
    """`by` came in on `of` at a moment, and kept the floor."""

    at: float
    by: str
    of: str


def talk(turns: Sequence[Turn]) -> tuple[Talk, ...]:
    """A row for each speaker, the one who talks longest first. Turns of one speaker that overlap count once."""
    own = joined(turns)
    given, received = Counter[str](), Counter[str]()
    for each in interruptions(turns):
        given[each.by] += 1
        received[each.of] += 1
    seconds = {speaker: sum(turn.end - turn.start for turn in mine) for speaker, mine in own.items()}
    total = sum(seconds.values())
    rows = [
        Talk(
            speaker,
            seconds[speaker],
            seconds[speaker] / total if total else 0.0,
            len(mine),
            seconds[speaker] / len(mine),
            max(turn.end - turn.start for turn in mine),
            given[speaker],
            received[speaker],
        )
        for speaker, mine in own.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.seconds, row.speaker)))


def interruptions(turns: Sequence[Turn]) -> tuple[Interruption, ...]:
    """Every interruption, in order of time."""
    found = []
    talking: dict[str, Turn] = {}
    every = sorted((turn for mine in joined(turns).values() for turn in mine), key=in_time)
    for start, beginning in groupby(every, key=lambda turn: turn.start):
        for speaker in [each for each, turn in talking.items() if turn.end <= start]:
            del talking[speaker]
        came = list(beginning)
        talking |= {turn.speaker: turn for turn in came}
        if len(talking) != 2:
            continue
        for turn in came:
            (floor,) = (other for speaker, other in talking.items() if speaker != turn.speaker)
            if start - floor.start >= FLOOR_SECONDS and turn.end > floor.end:
                found.append(Interruption(start, turn.speaker, floor.speaker))
    return tuple(sorted(found, key=lambda each: (each.at, each.by)))


def joined(turns: Sequence[Turn]) -> dict[str, list[Turn]]:
    """Each speaker's turns in order of time, those of its own that overlap as one; speakers in order of first words."""
    own: dict[str, list[Turn]] = {}
    for turn in sorted(turns, key=in_time):
        mine = own.setdefault(turn.speaker, [])
        if mine and turn.start < mine[-1].end:
            mine[-1] = Turn(mine[-1].start, max(mine[-1].end, turn.end), turn.speaker)
        else:
            mine.append(turn)
    return own


def stretches(turns: Sequence[Turn]) -> dict[str, list[tuple[float, float]]]:
    """When each speaker talks, start and end in order of time: its turns that overlap or touch are one stretch."""
    own: dict[str, list[tuple[float, float]]] = {}
    for turn in sorted(turns, key=in_time):
        mine = own.setdefault(turn.speaker, [])
        if mine and turn.start <= mine[-1][1]:
            mine[-1] = (mine[-1][0], max(mine[-1][1], turn.end))
        else:
            mine.append((turn.start, turn.end))
    return own
