"""Made-up voices that models are tried with before they see a recording."""

from __future__ import annotations

import numpy as np

from speakerdb.types import FloatArray


def probe_voice(samples: int, sample_rate: int, pitch: float = 140.0) -> FloatArray:
    """A buzz of 19 harmonics of `pitch` (Hz), with syllables and a little noise. Mono float32, shape (samples,)."""
    time = np.arange(samples) / sample_rate
    harmonics = np.arange(1, 20)[:, None]
    buzz = (np.sin(2 * np.pi * pitch * harmonics * time + harmonics**2) / harmonics).sum(axis=0)
    noise = np.random.default_rng(0).standard_normal(samples)
    voice: FloatArray = (buzz * (0.7 + 0.3 * np.sin(2 * np.pi * 4 * time)) / 10 + 0.003 * noise).astype(np.float32)
    return voice


def probe_voices(sample_rate: int) -> list[FloatArray]:
    """Four of different lengths and pitches, 8 s in all."""
    given = ((1.7, 110.0), (1.9, 140.0), (2.1, 180.0), (2.3, 220.0))
    return [probe_voice(round(seconds * sample_rate), sample_rate, pitch) for seconds, pitch in given]


def lowest_cosine(rows: FloatArray, others: FloatArray) -> float:
    """The least cosine between rows of the same place, in float64; -1 where a row is zero or not finite."""
    a, b = rows.astype(np.float64), others.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    if not (np.isfinite(lengths).all() and lengths.all()):
        return -1.0
    return float(((a * b).sum(axis=1) / lengths).min())
