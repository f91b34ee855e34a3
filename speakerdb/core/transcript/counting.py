"""Words of a transcript, counted: how many each speaker says, in what form two of them are the same word, and phrases.

A word is what stands between spaces and holds at least one letter or digit. Its plain form is without case and without the
punctuation around it: "Well," and "well" are one word. Nothing is stemmed, and no language is assumed; where a transcriber
writes no spaces between words, as in Chinese or Japanese, only its own list of words can tell them apart.

Pure functions.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby

from speakerdb.core.transcript.labelling import Labelled, Piece
from speakerdb.core.transcript.words import Transcript


def plain(word: str) -> str:
    """The form in which a word is counted; "" for what is none: a dash, a note, dots."""
    folded = unicodedata.normalize("NFKC", word).casefold()
    first, last = 0, len(folded)
    while first < last and not folded[first].isalnum():
        first += 1
    while last > first and not folded[last - 1].isalnum():
        last -= 1
    return folded[first:last]


def runs(piece: Piece) -> Iterator[tuple[str | None, list[str]]]:
    """The words of a piece in their plain forms, in order, those of one speaker (None: of nobody) that follow each other
    together."""
    if not piece.words:
        yield piece.speaker, _plain_words(piece.text)
        return
    for speaker, own in groupby(piece.words, key=lambda word: word.speaker):
        yield speaker, [form for word in own for form in _plain_words(word.text)]


def words_of(labelled: Labelled) -> Counter[str | None]:
    """How many words each speaker says; None stands for words of nobody. Who says none is not in it."""
    found = Counter[str | None]()
    for piece in labelled.pieces:
        for speaker, words in runs(piece):
            if words:
                found[speaker] += len(words)
    return found


def count_words(transcript: Transcript) -> int:
    """How many words a transcript holds."""
    return sum(
        len(_plain_words(text))
        for segment in transcript.segments
        for text in ([word.text for word in segment.words] if segment.words else [segment.text])
    )


def phrases(words: Sequence[str], length: int) -> Iterator[str]:
    """Every phrase of so many words that stands in a run of words."""
    for first in range(len(words) - length + 1):
        yield " ".join(words[first : first + length])


def _plain_words(text: str) -> list[str]:
    return [form for each in text.split() if (form := plain(each))]


class Frequent:
    """What is said most, in bounded memory.

    Up to `most` different texts are counted exactly. Where more are met, the rarer half is dropped and as much is taken off
    the others (Misra and Gries; a half at once): a text that is not there, or was there before, has been said at most
    `missed` times more than is counted. `only` are the only ones to count, each exactly.
    """

    def __init__(self, most: int, only: Collection[str] | None = None) -> None:
        self._counts = Counter[str]()
        self._most = most
        self._only = None if only is None else frozenset(only)
        self.missed = 0

    def take(self, texts: Iterable[str]) -> None:
        """Count some more."""
        if self._only is not None:
            self._counts.update(text for text in texts if text in self._only)
            return
        for text in texts:
            self._counts[text] += 1
            if len(self._counts) > self._most:
                self._thin()

    def _thin(self) -> None:
        middle = sorted(self._counts.values())[len(self._counts) // 2]
        self.missed += middle
        self._counts = Counter({text: count - middle for text, count in self._counts.items() if count > middle})

    def texts(self) -> frozenset[str]:
        """All that are counted."""
        return frozenset(self._counts)

    def top(self, number: int) -> list[tuple[str, int]]:
        """The most frequent, with their counts; of equals in the order of the text."""
        return sorted(self._counts.items(), key=lambda each: (-each[1], each[0]))[:number]
