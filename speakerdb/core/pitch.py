"""The fundamental frequency of speech: YIN (de Cheveigné and Kawahara, 2002), over frames of samples.

A frame is compared with itself, moved by each lag; the first lag at which the difference, beside its mean over the shorter
lags, dips below a threshold is the period. A frame without such a dip (a consonant, a breath, noise) is unvoiced and gives
no number, which is what keeps a range honest. Only arithmetic on arrays: no audio library is loaded into a worker for it.

What was compared before this was written stands in `docs/explanation/architecture.md`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from speakerdb.types import FloatArray

LOWEST, HIGHEST = 60.0, 420.0
"""Hertz. Voices of adults in talk lie between some 75 and 300 (Baken and Orlikoff, 2000), with room for their ends."""
HOP_SECONDS = 0.02
THRESHOLD = 0.15
"""The paper's 0.1, and what recordings of rooms need more."""
QUIET = 0.1
"""Frames with less than this share of the whole sound's mean power are not asked: in a pause, mains hum has a pitch."""
FRAMES_TOGETHER = 256
"""2 MB of work, however long the sound is."""


def pitches(samples: FloatArray, rate: int) -> npt.NDArray[np.float64]:
    """Hertz of each voiced frame, in order of time; shape (number of voiced frames,).

    `samples` are mono, shape (n,), at `rate` a second. Sound shorter than two frames' lags gives nothing.
    """
    longest, shortest = math.ceil(rate / LOWEST), int(rate / HIGHEST)
    window = 2 * longest
    if len(samples) < window + longest + 1:
        return np.zeros(0)
    frames = sliding_window_view(samples, window + longest + 1)[:: round(HOP_SECONDS * rate)]
    least = QUIET * float(np.var(samples, dtype=np.float64))
    found = [
        _periods(frames[at : at + FRAMES_TOGETHER], least, window, shortest, longest)
        for at in range(0, len(frames), FRAMES_TOGETHER)
    ]
    hertz: npt.NDArray[np.float64] = rate / np.concatenate(found)
    return hertz


def _periods(frames: FloatArray, least: float, window: int, shortest: int, longest: int) -> npt.NDArray[np.float64]:
    """The period of each voiced frame that has the `least` power, in samples."""
    frames = np.asarray(frames, dtype=np.float32)
    frames = frames - frames.mean(axis=1, keepdims=True)  # a constant offset is no sound
    loud = np.einsum("ij,ij->i", frames, frames) >= max(least * frames.shape[1], np.finfo(np.float32).tiny)
    difference = _normalised_difference(frames[loud], window, longest + 1)
    middle = difference[:, shortest : longest + 1]
    before, after = difference[:, shortest - 1 : longest], difference[:, shortest + 1 : longest + 2]
    dips = (middle < before) & (middle <= after) & (middle < THRESHOLD)
    rows = np.flatnonzero(dips.any(axis=1))
    at = dips[rows].argmax(axis=1)
    # The lowest point of the parabola through the dip and its neighbours. A dip is no straight line: it bends upwards.
    left, low, right = before[rows, at], middle[rows, at], after[rows, at]
    periods: npt.NDArray[np.float64] = shortest + at + (left - right) / (2.0 * (left - 2.0 * low + right))
    return periods


def _normalised_difference(frames: FloatArray, window: int, lags: int) -> npt.NDArray[np.float64]:
    """The paper's cumulative mean normalised difference of each frame for the lags 0 to `lags`, shape (n, lags + 1)."""
    size = 1 << (frames.shape[1] - 1).bit_length()
    spectrum = np.fft.rfft(frames, size) * np.conj(np.fft.rfft(frames[:, :window], size))
    product = np.fft.irfft(spectrum, size)[:, : lags + 1]
    squares = np.zeros((len(frames), frames.shape[1] + 1))
    np.cumsum(frames**2, axis=1, dtype=np.float64, out=squares[:, 1:])
    energy = squares[:, window : window + lags + 1] - squares[:, : lags + 1]
    difference = np.maximum(energy[:, :1] + energy - 2.0 * product, 0.0)
    means = np.cumsum(difference[:, 1:], axis=1) / np.arange(1, lags + 1)
    normalised = np.ones_like(difference)
    np.divide(difference[:, 1:], means, out=normalised[:, 1:], where=means > 0.0)
    return np.asarray(normalised)
