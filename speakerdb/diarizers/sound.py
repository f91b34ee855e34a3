"""The sound of a recording for a diarizer: a file, or samples in memory, read in blocks, so that its length does not matter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speakerdb import media
from speakerdb.errors import InvalidInput, MediaTooShort
from speakerdb.types import FloatArray, MediaInfo, Span, Waveform

BLOCK_SECONDS = 30.0

Blocks = Callable[[int, int | None], Iterator[FloatArray]]


@dataclass(frozen=True, slots=True)
class Sound:
    """Something to be listened to. `name` is the recording's (a file's without its ending), `path` its file, if it has one.

    `read(sample_rate, channel)` gives its samples from the beginning, as `media.decode_blocks` does.
    """

    name: str
    read: Blocks
    path: Path | None = None

    @classmethod
    def of_file(cls, path: Path) -> Sound:
        """That of a media file. Reading it raises `MediaError`."""

        def read(sample_rate: int, channel: int | None) -> Iterator[FloatArray]:
            return media.decode_blocks(path, sample_rate, BLOCK_SECONDS, channel=channel)

        return cls(path.stem, read, path)

    @classmethod
    def of_waveform(cls, waveform: Waveform, name: str = "waveform") -> Sound:
        """That of samples in memory. `InvalidInput` for what is none; `MediaTooShort` for no samples, when it is read."""
        seconds = len(waveform.samples) / waveform.sample_rate if waveform.sample_rate > 0 else 0.0

        def read(sample_rate: int, channel: int | None) -> Iterator[FloatArray]:
            if channel not in (None, 0):
                raise InvalidInput("A waveform has one channel.")
            if not seconds:
                raise MediaTooShort("The waveform holds no sound.")
            whole = next(media.waveform_spans(waveform, [Span(0.0, seconds)], sample_rate))
            length = round(BLOCK_SECONDS * sample_rate)
            yield from (whole[at : at + length] for at in range(0, len(whole), length))

        if waveform.samples.ndim != 1 or not np.isfinite(waveform.samples).all():
            raise InvalidInput("A waveform is one channel of finite samples.")
        return cls(name, read)

    def blocks(self, sample_rate: int, channel: int | None = None) -> Iterator[FloatArray]:
        """The samples in blocks that follow each other: mono float32, the mean of all channels or one of them (from 0)."""
        return self.read(sample_rate, channel)

    def seconds(self) -> float:
        """Its length, found out by reading it at a low rate. `MediaError`."""
        return sum(len(block) for block in self.blocks(1000)) / 1000

    def info(self) -> MediaInfo | None:
        """What its file is; None for samples in memory. `MediaError`."""
        return None if self.path is None else media.probe(self.path)
