"""What silence is, and what only looks like it."""

from __future__ import annotations

import numpy as np
import pytest

from speakerdb.core.sound import is_silent
from speakerdb.types import FloatArray

NOISE = np.random.default_rng(1).standard_normal(16_000).astype(np.float32)
STEP = np.float32(2.0**-15)  # of 16-bit sound


@pytest.mark.parametrize(
    ("samples", "silent"),
    [
        (np.zeros(0, np.float32), True),
        (np.zeros(16_000, np.float32), True),
        (np.full(16_000, 0.7, np.float32), True),  # an offset and nothing else
        (np.full(16_000, np.float32(0.7)) + STEP * np.sign(NOISE), True),
        (STEP * NOISE, True),
        (np.float32(0.001) * NOISE, False),  # speech that was recorded at a thousandth of full scale
        (np.concatenate([np.zeros(15_000, np.float32), np.float32(0.01) * NOISE[:1_000]]), False),
        (np.sign(NOISE), False),
    ],
    ids=["nothing", "zeros", "offset", "offset with dither", "dither", "very quiet", "mostly zeros", "clipped"],
)
def test_silence(samples: FloatArray, silent: bool) -> None:
    assert is_silent(samples) is silent
