"""Which turns of a speaker become a new speaker. Turns have numbers from 1 on, in the order of time; none is ever cut."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Sequence

from speakerdb.errors import InvalidInput
from speakerdb.types import Span

_RANGE = re.compile(r"\s*(\d{1,12})\s*(?:-\s*(\d{1,12})\s*)?", re.ASCII)
_LETTERS = "bcdefghijklmnopqrstuvwxyz"


def numbered(text: str, count: int) -> tuple[int, ...]:
    """The numbers that ``3,5-9`` names, ascending, each once. `InvalidInput` for anything else, and beyond `count`."""
    chosen: set[int] = set()
    for piece in text.split(","):
        found = _RANGE.fullmatch(piece)
        if found is None:
            raise InvalidInput(f"{piece[:40]!r} is not a turn's number.", hint="Give numbers such as `--turns 3,5-9`.")
        first = int(found[1])
        last = first if found[2] is None else int(found[2])
        if not 1 <= first <= last <= count:
            raise InvalidInput(
                f"The speaker has turns 1 to {count:,}; {piece.strip()[:40]} is not among them.",
                hint="See them with `speakerdb speakers show`.",
            )
        chosen.update(range(first, last + 1))
    return tuple(sorted(chosen))


def between(turns: Sequence[Span], start: float | None, end: float | None) -> tuple[int, ...]:
    """The numbers of the turns that lie between two positions in seconds (None: the beginning, the end).

    `InvalidInput` where a position lies inside a turn: a turn is never cut.
    """
    low, high = 0.0 if start is None else start, math.inf if end is None else end
    if not (math.isfinite(low) and 0 <= low < high):  # also when one is NaN
        raise InvalidInput(f"{low:g} to {high:g} s is not a stretch of time.", hint="Give `--from` below `--to`.")
    chosen = []
    for number, turn in enumerate(turns, start=1):
        for position in (low, high):
            if turn.start < position < turn.end:
                raise InvalidInput(
                    f"{position:g} s lies inside turn {number} ({turn.start:g} to {turn.end:g} s), and a turn is never cut.",
                    hint="Choose whole turns with `--turns`, or cut the turn in its file and add the recording again.",
                    turn=number,
                )
        if low <= turn.start and turn.end <= high:
            chosen.append(number)
    return tuple(chosen)


def part_of(chosen: Collection[int], count: int) -> None:
    """`InvalidInput` unless some of the speaker's turns are chosen, and some stay."""
    if not chosen:
        raise InvalidInput("No turn was chosen.", hint="See the turns with `speakerdb speakers show`.")
    if len(chosen) == count:
        raise InvalidInput(
            "All turns of the speaker were chosen, so nothing would be split.",
            hint="Choose some of them; to give the whole speaker another name, use `speakerdb speakers rename`.",
        )


def free_label(label: str, taken: Collection[str]) -> str:
    """A label for the new speaker: ``SPEAKER_00-b``, or the next one that no other has."""
    endings = itertools.chain(_LETTERS, map(str, itertools.count(27)))
    return next(made for ending in endings if (made := f"{label}-{ending}") not in taken)
