"""The words of the transcript's house: frozen values, as a transcriber gave them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it was written. `start` and `end` are None where the transcriber could not place it (numerals, often)."""

    text: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of text. `words` are in the order of the text; empty where the transcriber gave none."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in one recording, in the order of the file. `skipped` are segments that held no text."""

    segments: tuple[Segment, ...]
    language: str | None = None
    skipped: int = 0

    @property
    def ends(self) -> float:
        """Seconds at which the last segment, or the last word, ends; 0 without one."""
        words = (word.end for word in self.words() if word.end is not None)
        return max((*(segment.end for segment in self.segments), *words), default=0.0)

    def words(self) -> Iterator[Word]:
        """All words, with or without a place."""
        for segment in self.segments:
            yield from segment.words
