"""Which speech of a speaker is used: the clean, spread part of it that the recipe's budget allows.

The recipe, in words. A speaker's *clean pieces* are the parts of its turns in which nobody else talks; a piece never
reaches over the edge of a turn. Pieces shorter than `segment_min_seconds` are not used. Each piece is divided into
equal *slots* of about `segment_target_seconds`. The time from the speaker's first to its last usable speech is divided
into as many *bins* as segments of the target length fit into the budget, and

1. each bin gives its slot of the longest piece, up to the bin's share of the budget;
2. what is left of the budget goes to further slots of at least the target length, again bin by bin;
3. then segments that were cut to their share grow to their whole slot (at most `segment_max_seconds`);
4. then shorter slots are used, the longest first.

Bins belong to the speaker and not to the whole recording, so a guest of ten minutes in a show of two hours is spread
over the ten minutes, and the choice does not depend on how well the recording's length is known.
Pure functions; O(n log n) for n turns.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from speakerdb.errors import ConfigurationError
from speakerdb.types import Recipe, Span, Turn, Unembeddable

OVERLAPPED = "overlapped"
"""Overlap is to blame: no clean speech is left, or there would be enough if nobody else had talked."""
TOO_SHORT = "too-short"
"""The speaker's turns are too short, or there is too little of them, whoever else talks."""

REASONS: Mapping[str, str] = {
    OVERLAPPED: "Somebody else talks over nearly all of this speaker's speech.",
    TOO_SHORT: "This speaker talks too little, or only in turns that are too short to be used.",
}
"""Every reason of `select`, with a sentence for people."""

_TOLERANCE = 1e-6  # 3.3 - 2.3 is a little less than 1


def select(
    turns: Sequence[Turn], recipe: Recipe, *, duration: float | None = None
) -> dict[str, tuple[Span, ...] | Unembeddable]:
    """For every speaker label in `turns`: the spans to embed, in order of time, or why there are none.

    Spans are disjoint, each lies inside one clean piece and is `segment_min_seconds` to `segment_max_seconds` long;
    together they are at most `budget_seconds` long. They miss the budget, or all usable speech where that is less, by
    less than `segment_min_seconds`. Less than `minimum_seconds` of usable speech is `Unembeddable`, with all clean
    seconds found. Lengths are compared with a tolerance of a microsecond. The order of `turns` does not matter. With
    `duration` (seconds), turns are cut at the recording's end.

    Raises `ConfigurationError` for a recipe whose numbers contradict each other.
    """
    _check(recipe)
    own = _merged(turns, duration)
    clean = _clean_pieces(own)
    chosen: dict[str, tuple[Span, ...] | Unembeddable] = {}
    for speaker in sorted(own):
        pieces = clean[speaker]
        usable = _usable(pieces, recipe)
        if usable and _seconds(usable) + _TOLERANCE >= recipe.minimum_seconds:
            chosen[speaker] = _spread(usable, recipe)
            continue
        alone = _usable(own[speaker], recipe)
        enough_alone = bool(alone) and _seconds(alone) + _TOLERANCE >= recipe.minimum_seconds
        drowned = bool(own[speaker]) and not pieces
        reason = OVERLAPPED if enough_alone or drowned else TOO_SHORT
        chosen[speaker] = Unembeddable(reason, seconds=_seconds(pieces))
    return chosen


def _check(recipe: Recipe) -> None:
    lengths_fit = 0 < recipe.segment_min_seconds <= recipe.segment_target_seconds <= recipe.segment_max_seconds
    if not lengths_fit or recipe.budget_seconds < max(recipe.segment_min_seconds, recipe.minimum_seconds):
        raise ConfigurationError(
            f"The recipe {recipe.name!r} cannot be followed: it needs 0 < segment_min <= segment_target <= "
            "segment_max, and a budget of at least segment_min and minimum.",
            hint="Mend the recipe in the settings.",
        )


def _seconds(spans: Sequence[Span]) -> float:
    return math.fsum(span.seconds for span in spans)


def _usable(pieces: Sequence[Span], recipe: Recipe) -> list[Span]:
    return [piece for piece in pieces if piece.seconds + _TOLERANCE >= recipe.segment_min_seconds]


def _merged(turns: Sequence[Turn], duration: float | None) -> dict[str, list[Span]]:
    """Each speaker's own turns in order of time; only those that overlap are joined, those that touch are not."""
    own: dict[str, list[Span]] = {turn.speaker: [] for turn in turns}
    for turn in sorted(turns, key=lambda t: (t.start, t.end)):
        end = turn.end if duration is None else min(turn.end, duration)
        spans = own[turn.speaker]
        if end <= turn.start:
            continue
        if spans and turn.start < spans[-1].end:
            spans[-1] = Span(spans[-1].start, max(spans[-1].end, end))
        else:
            spans.append(Span(turn.start, end))
    return own


def _clean_pieces(own: Mapping[str, Sequence[Span]]) -> dict[str, list[Span]]:
    """The stretches in which exactly one speaker talks, by speaker, in order of time, never across a turn's edge."""
    events = [(span.start, 1, speaker) for speaker, spans in own.items() for span in spans]
    events += [(span.end, 0, speaker) for speaker, spans in own.items() for span in spans]
    events.sort()  # an end comes before a start at the same instant
    pieces: dict[str, list[Span]] = defaultdict(list)
    talking: set[str] = set()
    since = 0.0
    for at, starts, speaker in events:
        if len(talking) == 1 and at > since:
            pieces[next(iter(talking))].append(Span(since, at))
        if starts:
            talking.add(speaker)
        else:
            talking.remove(speaker)
        since = at
    return pieces


@dataclass(slots=True)
class _Slot:
    """A part of a clean piece that can give one segment; `taken` seconds of it are used, in its middle."""

    start: float
    end: float
    piece_seconds: float
    most: float
    taken: float = 0.0

    def span(self) -> Span:
        spare = (self.end - self.start) - self.taken
        if spare <= 0:
            return Span(self.start, self.end)
        start = self.start + spare / 2
        return Span(start, min(start + self.taken, self.end))


def _slots(piece: Span, recipe: Recipe) -> list[_Slot]:
    length = piece.seconds
    count = max(int(length / recipe.segment_target_seconds), math.ceil(length / recipe.segment_max_seconds))
    count = max(1, min(count, int(length / recipe.segment_min_seconds)))
    edges = [piece.start + length * i / count for i in range(count)] + [piece.end]
    return [_Slot(start, end, length, min(end - start, recipe.segment_max_seconds)) for start, end in pairwise(edges)]


def _spread(pieces: Sequence[Span], recipe: Recipe) -> tuple[Span, ...]:
    """Steps 1 to 4 of the recipe over one speaker's usable pieces (not empty, in order of time)."""
    bins = max(1, int(recipe.budget_seconds / recipe.segment_target_seconds))
    share = recipe.budget_seconds / bins
    first, last = pieces[0].start, pieces[-1].end
    by_bin: dict[int, list[_Slot]] = defaultdict(list)
    for piece in pieces:
        for slot in _slots(piece, recipe):
            middle = (slot.start + slot.end) / 2
            by_bin[min(bins - 1, int((middle - first) / (last - first) * bins))].append(slot)
    ranked: list[tuple[int, float, float, _Slot]] = []
    for slots in by_bin.values():
        slots.sort(key=lambda s: (-s.piece_seconds, s.start))
        ranked += [(rank, -s.piece_seconds, s.start, s) for rank, s in enumerate(slots)]
    ranked.sort(key=lambda row: row[:3])

    left = recipe.budget_seconds
    best = [slot for rank, _, _, slot in ranked if rank == 0]
    others = [slot for rank, _, _, slot in ranked if rank > 0]
    long = [slot for slot in others if slot.most >= recipe.segment_target_seconds]
    short = sorted((s for s in others if s.most < recipe.segment_target_seconds), key=lambda s: (-s.most, s.start))
    for slot in best + long:
        left -= _take(slot, min(share, left), recipe)
    for slot in best + long:
        if slot.taken:
            left -= _take(slot, slot.taken + left, recipe)
    for slot in short:
        left -= _take(slot, left, recipe)
    return tuple(sorted(slot.span() for slot in best + others if slot.taken))


def _take(slot: _Slot, seconds: float, recipe: Recipe) -> float:
    """Make the slot's segment up to `seconds` long, if that is long enough for a segment; by how much it grew."""
    length = min(slot.most, seconds)
    if length + _TOLERANCE < recipe.segment_min_seconds or length <= slot.taken:
        return 0.0
    grown = length - slot.taken
    slot.taken = length
    return grown
