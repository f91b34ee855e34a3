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

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

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

    def shares(self, start: float, end: float) -> tuple[tuple[str, float], ...]:
        """Seconds of each speaker between the two, longest first; of equals the one whose turn begins first.

        For a moment (`end` is not after `start`): whoever talks at it, with 0 seconds.
        """
        end = max(start, end)
        seconds: dict[str, float] = {}
        for turn in self._reaching(start, end):
            shared = min(turn.end, end) - max(turn.start, start)
            if shared > 0 or (start == end and turn.start <= start < turn.end):
                seconds[turn.speaker] = seconds.get(turn.speaker, 0.0) + shared
        return tuple(sorted(seconds.items(), key=lambda each: -each[1]))

    def _reaching(self, start: float, end: float) -> list[Turn]:
        """Turns that may share time with a stretch, in order."""
        last = first = bisect_right(self._starts, end)
        while first and self._latest[first - 1] >= start:
            first -= 1
        return self._turns[first:last]


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
