"""Real voices for `benchmarks.agreement`: read speech put together to recordings, and segments that are embedded once.

The folder is laid out as LibriSpeech and AMI are: `librispeech/test-other/SPEAKER/*.flac` and `ami/NAME.flac` with `NAME.rttm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from speakerdb.core.pooling import pool
from speakerdb.core.selection import select
from speakerdb.core.turns import parse_rttm
from speakerdb.media import decode_all
from speakerdb.models.port import Embedder
from speakerdb.types import Embedding, FloatArray, Recipe, Span, Turn

RATE = 16_000


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """A file: its name, and its samples at `RATE`."""

    name: str
    samples: FloatArray

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE


class Network:
    """Embeds parts of sounds, each once. `forwards` and `seconds` count what passed the network."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[tuple[str, int, int], FloatArray] = {}
        self.forwards = 0
        self.seconds = 0.0

    def __call__(self, sound: Sound, span: Span) -> FloatArray:
        """The unit vector of a part of a sound, shape (dimension,)."""
        first, last = round(span.start * RATE), round(span.end * RATE)
        key = (sound.name, first, last)
        if key not in self._known:
            self._known[key] = self.alone(sound.samples[first:last])
        return self._known[key]

    def alone(self, samples: FloatArray) -> FloatArray:
        """The unit vector of samples."""
        self.forwards += 1
        self.seconds += len(samples) / RATE
        row = self._embedder.embed([samples])[0].astype(np.float64)
        return np.asarray(row / np.linalg.norm(row), dtype=np.float32)


class Take:
    """Sounds of one voice, one after the other as turns of a recording."""

    def __init__(self, sounds: Sequence[Sound]) -> None:
        self._sounds = list(sounds)
        self._begin = [0.0, *accumulate(sound.seconds for sound in sounds)]
        self.seconds = self._begin.pop()

    @property
    def turns(self) -> tuple[Turn, ...]:
        """One turn a sound."""
        return tuple(
            Turn(begin, begin + sound.seconds, "A") for begin, sound in zip(self._begin, self._sounds, strict=True)
        )

    def spans(self, recipe: Recipe) -> tuple[Span, ...]:
        """What the recipe chooses."""
        chosen = select(self.turns, recipe)["A"]
        assert isinstance(chosen, tuple)
        return chosen

    def embedding(self, network: Network, spans: Sequence[Span]) -> Embedding:
        """Pooled from these spans."""
        rows = [network(*self._place(span)) for span in spans]
        return pool(np.stack(rows), [span.seconds for span in spans])

    def _place(self, span: Span) -> tuple[Sound, Span]:
        """The sound in which a span lies, and where in it."""
        number = max(n for n, begin in enumerate(self._begin) if begin <= span.start + 1e-6)
        begin = self._begin[number]
        return self._sounds[number], Span(max(0.0, span.start - begin), span.end - begin)


def readers(folder: Path) -> dict[str, list[Sound]]:
    """Utterances by speaker."""
    found: dict[str, list[Sound]] = {}
    for path in sorted((folder / "librispeech" / "test-other").glob("*/*.flac")):
        found.setdefault(path.parent.name, []).append(Sound(path.stem, decode_all(path, RATE, 60.0)))
    return found


def meetings(folder: Path) -> list[tuple[Sound, tuple[Turn, ...]]]:
    """Excerpts of meetings with their turns."""
    return [
        (Sound(path.stem, decode_all(path, RATE, 3600.0)), turns)
        for path in sorted((folder / "ami").glob("*.flac"))
        for turns in parse_rttm(path.with_suffix(".rttm").read_text(encoding="utf-8")).values()
    ]
