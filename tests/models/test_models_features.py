"""The features that are made without torch are torchaudio's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from speakerdb.models.features import Fbank
from speakerdb.testing.embedder_contract import synthetic_voice

RATE = 16_000
PYANNOTES: dict[str, Any] = {
    "sample_rate": RATE,
    "num_mel_bins": 80,
    "frame_length": 25.0,
    "frame_shift": 10.0,
    "dither": 0.0,
    "window_type": "hamming",
    "use_energy": False,
    "snip_edges": True,
    "round_to_power_of_two": True,
    "fbank_centering_span": None,
}


@pytest.mark.models
@pytest.mark.parametrize("seconds", [0.5, 0.731, 2.0, 6.01])
@pytest.mark.parametrize("offset", [0.0, 0.2])
def test_they_are_kaldis_by_torchaudio(seconds: float, offset: float) -> None:
    import torch
    from torchaudio.compliance import kaldi

    voice = (synthetic_voice(seconds, RATE, pitch=170) + np.float32(offset)).astype(np.float32)
    expected = kaldi.fbank(
        torch.tensor(voice[None]) * (1 << 15), num_mel_bins=80, frame_length=25, frame_shift=10, window_type="hamming",
        sample_frequency=RATE, dither=0.0, use_energy=False, snip_edges=True,
    ).numpy()  # fmt: skip
    expected -= expected.mean(axis=0, keepdims=True)
    fbank = Fbank.of(SimpleNamespace(**PYANNOTES))
    assert fbank is not None
    features = fbank(voice)
    assert (features.shape, features.dtype) == (expected.shape, np.float32)
    assert np.abs(features - expected).max() < 2e-2, "of values that reach from -15 to 15"
    assert np.abs(features - expected).mean() < 2e-4


def test_digital_silence_has_finite_features() -> None:
    fbank = Fbank.of(SimpleNamespace(**PYANNOTES))
    assert fbank is not None
    assert np.isfinite(fbank(np.zeros(RATE, dtype=np.float32))).all()


@pytest.mark.parametrize(
    "other", [{"dither": 1.0}, {"window_type": "povey"}, {"fbank_centering_span": 3.0}, {"snip_edges": False}]
)
def test_what_is_not_done_here_is_not_claimed(other: dict[str, Any]) -> None:
    assert Fbank.of(SimpleNamespace(**PYANNOTES | other)) is None
