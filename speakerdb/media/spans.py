"""The samples of a source that a span needs, and the span's own out of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import av
import numpy as np

from speakerdb.errors import InvalidInput, MediaTooShort
from speakerdb.types import FloatArray, Span

SHORTFALL_SECONDS = 0.1
"""A span may reach this far beyond the end of the sound; what is there is returned. Further is `MediaTooShort`."""

_MARGIN_SECONDS = 0.05  # more than half the length of the resampling filter, on both sides of a span


class Window:
    """The samples of a source that one span needs: those of the span, and a margin for the resampling filter.

    It starts at a source sample that falls together with an output sample, so that the span gets the samples that
    resampling the whole file would give it.
    """

    def __init__(self, span: Span, source_rate: int, rate: int) -> None:
        self.span, self.source_rate, self.rate = span, source_rate, rate
        step = source_rate // math.gcd(source_rate, rate)
        margin = math.ceil(_MARGIN_SECONDS * source_rate)
        self.begins, self.ends = (round(at * source_rate) for at in (span.start, span.end - SHORTFALL_SECONDS))
        self.first = max(0, (self.begins - margin) // step * step)
        self.last = math.ceil(span.end * source_rate) + margin
        self.wanted = round(span.seconds * rate)

    def cut(self, sound: FloatArray) -> FloatArray:
        """The span's samples, from the source's samples `first` to `last` (fewer where they end)."""
        skip = round(self.span.start * self.rate) - self.first * self.rate // self.source_rate
        return resample(sound, self.source_rate, self.rate)[skip : skip + self.wanted].copy()


def resample(sound: FloatArray, source_rate: int, rate: int) -> FloatArray:
    if source_rate == rate or not sound.size:
        return sound
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound)[None, :], format="flt", layout="mono")
    frame.sample_rate = source_rate
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
    parts = [part.to_ndarray()[0] for given in (frame, None) for part in resampler.resample(given)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def check_spans(spans: Sequence[Span], sample_rate: int) -> None:
    if sample_rate <= 0:
        raise InvalidInput(f"Sound cannot have a sample rate of {sample_rate} Hz.")
    before = 0.0
    for span in spans:
        if not (math.isfinite(span.end) and before <= span.start < span.end):
            raise InvalidInput(f"Spans must have a length and be in order of time: {span.start} to {span.end} s.")
        before = span.start


def check_end(window: Window, found: FloatArray, ends: float, name: str) -> None:
    missing = window.wanted - len(found)
    if missing > SHORTFALL_SECONDS * window.rate and window.span.end - ends > SHORTFALL_SECONDS:
        raise MediaTooShort(
            f"{name} ends at {ends:.2f} s; speech was asked for up to {window.span.end:.2f} s.",
            hint="Are the turns those of this file? Make them again from it.",
            ends=ends,
            asked=window.span.end,
        )
