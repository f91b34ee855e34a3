"""What samples say by themselves, before a model is asked. Pure functions."""

from __future__ import annotations

import numpy as np

from speakerdb.types import FloatArray

SILENCE = 1e-4
"""Root mean square, beside full scale of 1, under which there is nothing to hear: -80 dB, three steps of 16-bit sound. What
codecs and dither leave of digital silence is less, the quietest speech that a person still follows far more."""


def is_silent(samples: FloatArray) -> bool:
    """Whether samples, shape (n,), hold no sound: a constant offset is none either.

    A network that subtracts a segment's mean answers silence like any voice, and all silence alike, so that silent
    speakers would be found to be one person.
    """
    return samples.size == 0 or float(np.std(samples, dtype=np.float64)) < SILENCE
