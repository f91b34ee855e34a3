"""The features of WeSpeaker's networks: Kaldi's log mel filter bank, in NumPy, so that a network which was converted needs no
torch. `tests/models/test_models_features.py` compares it with torchaudio's.

The constants are Kaldi's own (compute-fbank-feats): pre-emphasis 0.97, a Hamming window, bands from 20 Hz to half the rate
that are equally wide on 1127 ln(1 + f / 700), energies no lower than float32's epsilon. The waveform is scaled to 16 bits and
each band's mean over the whole segment is taken off, as pyannote.audio does. That mean is why a segment is never padded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from speakerdb.types import FloatArray

_SCALE = np.float32(1 << 15)
_PREEMPHASIS = np.float32(0.97)
_LOWEST_HZ = 20.0
_FLOOR = np.float32(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Fbank:
    """What the features are made with: samples a second, bands, and the length and the step of a frame in milliseconds."""

    sample_rate: int
    bands: int
    frame_ms: float
    step_ms: float

    @classmethod
    def of(cls, hparams: Any) -> Fbank | None:
        """That of a WeSpeaker model of pyannote.audio; None where it does something that is not done here."""
        same = (
            hparams.dither == 0.0
            and hparams.window_type == "hamming"
            and not hparams.use_energy
            and hparams.snip_edges
            and hparams.round_to_power_of_two
            and hparams.fbank_centering_span is None
        )
        if not same:
            return None
        return cls(
            int(hparams.sample_rate), int(hparams.num_mel_bins), float(hparams.frame_length), float(hparams.frame_shift)
        )

    def __call__(self, samples: FloatArray) -> FloatArray:
        """(samples,) to (frames, bands), float32. Only whole frames count."""
        frames = np.lib.stride_tricks.sliding_window_view(samples * _SCALE, self._length)[:: self._step]
        frames = frames - frames.mean(axis=1, keepdims=True)
        sharp = frames.copy()
        sharp[:, 1:] -= _PREEMPHASIS * frames[:, :-1]
        sharp[:, 0] -= _PREEMPHASIS * frames[:, 0]
        spectrum = np.fft.rfft(sharp * self._window, self._points)
        power = spectrum.real**2 + spectrum.imag**2
        energies = np.log(np.maximum(power @ self._filters, _FLOOR))
        features: FloatArray = energies - energies.mean(axis=0, keepdims=True)
        return features

    @property
    def _length(self) -> int:
        return int(self.sample_rate * self.frame_ms * 0.001)

    @property
    def _step(self) -> int:
        return int(self.sample_rate * self.step_ms * 0.001)

    @property
    def _points(self) -> int:
        return 1 << (self._length - 1).bit_length()

    @cached_property
    def _window(self) -> FloatArray:
        return np.hamming(self._length).astype(np.float32)

    @cached_property
    def _filters(self) -> FloatArray:
        """Triangles, shape (points / 2 + 1, bands). The band of half the rate itself belongs to none."""

        def mel(hertz: Any) -> Any:
            return 1127.0 * np.log1p(hertz / 700.0)

        low, high = mel(_LOWEST_HZ), mel(self.sample_rate / 2)
        width = (high - low) / (self.bands + 1)
        left = low + width * np.arange(self.bands)
        at = mel(np.arange(self._points // 2) * self.sample_rate / self._points)[:, None]
        triangles = np.clip(np.minimum((at - left) / width, (left + 2 * width - at) / width), 0.0, None)
        return np.vstack([triangles, np.zeros((1, self.bands))]).astype(np.float32)
