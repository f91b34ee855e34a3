"""Whose words: each word and segment gets the speaker of the exclusive turns that it shares the most time with.

The rules, in words.

1. A word belongs to whoever talks for most of it; where two share it equally, to the one whose turn begins first. A word
   without length belongs to the turn it lies in. A word that lies in no turn belongs to nobody: it is marked, not guessed.
2. A word that the transcriber could not place belongs to the speaker of the placed words on both sides of it in its
   segment, if that is one speaker; else to nobody.
3. A segment with words is split where the speaker changes. Words of nobody stay with the piece before them (with the one
   after them at the beginning of a segment) and change nothing.
4. A segment without words cannot be split: when which of its words was said is not known. It belongs to whoever talks for
   most of it, and `shares` says who else does.

Pure functions; O(n log n) for n words and turns.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from speakerdb.core.overlap import LEAST_SECONDS
from speakerdb.core.transcript.words import Segment, Transcript, Word
from speakerdb.core.turns import in_time
from speakerdb.types import Turn


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word with whose it is; None for a word outside every turn, and one that cannot be placed."""

    text: str
    start: float | None
    end: float | None
    speaker: str | None


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment, or a part of one in which one speaker talks. `segment` is its position in the transcript.

    `shares` are the seconds of the piece in which each speaker talks, longest first; empty where nobody does.
    """

    segment: int
    start: float
    end: float
    text: str
    speaker: str | None
    words: tuple[SpokenWord, ...]
    shares: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A transcript with speakers. `outside` counts the words of nobody, and segments without words that are nobody's."""

    pieces: tuple[Piece, ...]
    outside: int

    @property
    def speakers(self) -> tuple[str, ...]:
        """Who says something, in order of first words."""
        return tuple(dict.fromkeys(piece.speaker for piece in self.pieces if piece.speaker is not None))


_FEW = 64
"""Turns that are gone through one by one; a stretch that holds more of them is summed up by speaker."""


def label(transcript: Transcript, turns: Iterable[Turn]) -> Labelled:
    """The transcript with the speakers of the turns, which should not overlap (where they do, the longer share wins).

    No word is lost, none is there twice, and order and times stay as they are.
    """
    floor = _Floor(turns)
    pieces: list[Piece] = []
    outside = 0
    for number, segment in enumerate(transcript.segments):
        if not segment.words:
            shares = floor.shares(segment.start, segment.end)
            speaker = shares[0][0] if shares else None
            outside += speaker is None
            pieces.append(Piece(number, segment.start, segment.end, segment.text, speaker, (), shares))
            continue
        words = _with_neighbours([_of(word, floor) for word in segment.words])
        outside += sum(word.speaker is None for word in words)
        pieces += _pieces(number, segment, words, floor)
    return Labelled(tuple(pieces), outside)


class _Floor:
    """Who has the floor when."""

    def __init__(self, turns: Iterable[Turn]) -> None:
        self._turns = sorted(turns, key=in_time)
        self._starts = [turn.start for turn in self._turns]
        # The latest end among the turns up to each: where it lies before a stretch, no turn before reaches into it.
        self._latest: list[float] = []
        for turn in self._turns:
            self._latest.append(max(turn.end, self._latest[-1] if self._latest else turn.end))
        self._disjoint = all(before.end <= after.start for before, after in pairwise(self._turns))
        # By speaker: which of the turns are its own, and how long they are together up to each.
        self._own: dict[str, tuple[list[int], list[float]]] = {}
        for place, turn in enumerate(self._turns):
            places, sums = self._own.setdefault(turn.speaker, ([], [0.0]))
            places.append(place)
            sums.append(sums[-1] + turn.end - turn.start)

    def shares(self, start: float, end: float) -> tuple[tuple[str, float], ...]:
        """Seconds of each speaker between the two, longest first; of equals the one whose turn begins first.

        For a moment (`end` is not after `start`): whoever talks at it, with 0 seconds.
        """
        end = max(start, end)
        last = bisect_right(self._starts, end)
        first = min(last, bisect_left(self._latest, start))
        if self._disjoint and last - first > _FEW:
            return self._of_many(first, last, start, end)
        seconds: dict[str, float] = {}
        for turn in self._turns[first:last]:
            shared = min(turn.end, end) - max(turn.start, start)
            if shared > 0 or (start == end and turn.start <= start < turn.end):
                seconds[turn.speaker] = seconds.get(turn.speaker, 0.0) + shared
        return tuple(sorted(seconds.items(), key=lambda each: -each[1]))

    def _of_many(self, first: int, last: int, start: float, end: float) -> tuple[tuple[str, float], ...]:
        """The same for turns of which only the first and the last can lie partly outside: as much work as there are speakers."""
        first += self._turns[first].end <= start
        last -= self._turns[last - 1].start >= end
        edges = {place: self._turns[place] for place in (first, last - 1)}
        found: list[tuple[float, int, str]] = []
        for speaker, (places, sums) in self._own.items():
            low, high = bisect_left(places, first), bisect_left(places, last)
            if low == high:
                continue
            seconds = sums[high] - sums[low]
            for turn in edges.values():
                if turn.speaker == speaker:
                    seconds -= max(0.0, start - turn.start) + max(0.0, turn.end - end)
            if seconds > LEAST_SECONDS:
                found.append((-seconds, places[low], speaker))
        return tuple((speaker, -seconds) for seconds, _, speaker in sorted(found))


def _of(word: Word, floor: _Floor) -> SpokenWord:
    speaker = None
    if word.start is not None and word.end is not None:
        shares = floor.shares(word.start, word.end)
        speaker = shares[0][0] if shares else None
    return SpokenWord(word.text, word.start, word.end, speaker)


def _with_neighbours(words: Sequence[SpokenWord]) -> list[SpokenWord]:
    """Words without a place get the speaker of the placed words around them, where both have the same."""
    before: list[str | None] = []
    last: str | None = None
    for word in words:
        before.append(last)
        last = word.speaker if word.start is not None else last
    found = list(words)
    last = None
    for at in range(len(words) - 1, -1, -1):
        word = words[at]
        if word.start is not None:
            last = word.speaker
        elif last is not None and last == before[at]:
            found[at] = replace(word, speaker=last)
    return found


def _pieces(number: int, segment: Segment, words: Sequence[SpokenWord], floor: _Floor) -> Iterator[Piece]:
    speaker: str | None = None
    first = 0
    bounds: list[tuple[int, int, str | None]] = []
    for at, word in enumerate(words):
        if word.speaker is None or word.speaker == speaker:
            continue
        if speaker is not None:
            bounds.append((first, at, speaker))
            first = at
        speaker = word.speaker
    bounds.append((first, len(words), speaker))
    texts = _texts(segment.text, [word.text for word in words], [first for first, _, _ in bounds])
    for (first, last, speaker), text in zip(bounds, texts, strict=True):
        own = tuple(words[first:last])
        start = segment.start if first == 0 else _first_start(own, segment.start)
        end = segment.end if last == len(words) else _last_end(own, start)
        yield Piece(number, start, max(start, end), text, speaker, own, floor.shares(start, end))


def _first_start(words: Sequence[SpokenWord], otherwise: float) -> float:
    return next((word.start for word in words if word.start is not None), otherwise)


def _last_end(words: Sequence[SpokenWord], otherwise: float) -> float:
    return next((word.end for word in reversed(words) if word.end is not None), otherwise)


def _texts(text: str, words: Sequence[str], firsts: Sequence[int]) -> list[str]:
    """The text of each piece, as the segment writes it where its words are found in it in their order, else joined."""
    if len(firsts) == 1:
        return [text.strip()]
    places, at = [], 0
    for word in words:
        at = text.find(word.strip(), at)
        if at < 0:
            edges = [*firsts, len(words)]
            return [" ".join(word.strip() for word in words[a:b]) for a, b in pairwise(edges)]
        places.append(at)
        at += len(word.strip())
    edges = [0, *(places[first] for first in firsts[1:]), len(text)]
    return [text[a:b].strip() for a, b in pairwise(edges)]
