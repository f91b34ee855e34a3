"""The `spectral` stand-in: an embedding with no weights, so that tests, docs and a first look need no model.

It is the mean cepstrum of the louder frames, which is the shape of a voice's average spectrum. For one segment:

1. divide by its peak, so that the level does not matter;
2. frames of 25 ms every 10 ms, Hann window, power spectrum of 512 points;
3. energies in `bands` triangular bands, equally wide on the mel scale (2595 log10(1 + f / 700)) from 60 to 7600 Hz;
   natural logarithm, with a floor 50 dB below the loudest band of the segment;
4. keep the frames whose mean log energy is within 6 nepers (26 dB) of the 95th percentile, and average them;
5. orthonormal DCT-II over the bands, divided by sqrt(bands) so that coefficients do not depend on their number; keep
   coefficients 1 to `coefficients` (number 0 is the level);
6. subtract `_CENTRE` and divide by 0.32 k^-0.65, the mean and the spread over speakers of coefficient k on read
   English speech (100 LibriSpeech train-clean-100 voices, rounded); without this all voices would look alike;
7. limit each to about +-3 by 3 tanh(z / 3), so that no single coefficient decides;
8. map to `dimension` by the first rows of an orthonormal DCT-II basis: cosines do not change where the dimension is at
   least the number of coefficients.

Every constant is fixed and nothing is random, so rows agree between platforms to rounding. It tells the five voices of
the LibriSpeech test-other excerpt apart at about 4 to 6 % equal error rate at 6 s, all recorded in one session each;
across channels it will do far worse. It is a stand-in and no speaker model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from speakerdb.errors import ConfigurationError
from speakerdb.models._checks import checked_rows, checked_segments
from speakerdb.types import FloatArray

SAMPLE_RATE = 16_000
MIN_SAMPLES = 4_000
MIN_DIMENSION = 16

_FRAME, _HOP, _FFT = 400, 160, 512
_LOWEST_HZ, _HIGHEST_HZ = 60.0, 7600.0
_FLOOR = 1e-5
_KEEP_NEPERS = 6.0
_LIMIT = 3.0
_CENTRE = (1.12, 0.38, 0.33, 0.07, -0.02, -0.06, -0.05)


@dataclass(frozen=True, slots=True)
class Variant:
    """One spectral model: its bands, its cepstral coefficients, and a version that changes when its vectors would."""

    bands: int
    coefficients: int
    version: str


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        "spectral-a": Variant(bands=40, coefficients=30, version="spectral-a/1"),
        "spectral-b": Variant(bands=64, coefficients=45, version="spectral-b/1"),
    }
)


class SpectralEmbedder:
    """`Embedder` for one of `VARIANTS`. Two variants, or two dimensions, are two spaces that cannot be compared."""

    sample_rate = SAMPLE_RATE
    min_samples = MIN_SAMPLES
    notices: tuple[str, ...] = ()

    def __init__(self, name: str, dimension: int) -> None:
        """`ConfigurationError` for an unknown variant or a dimension under `MIN_DIMENSION`."""
        variant = VARIANTS.get(name)
        if variant is None:
            raise ConfigurationError(
                f"There is no spectral model {name!r}.",
                hint=f"Use one of {', '.join(VARIANTS)} as the generation's model.",
            )
        if dimension < MIN_DIMENSION:
            raise ConfigurationError(
                f"A spectral embedding of {dimension} dimensions keeps too little of a voice.",
                hint=f"Give the generation a dimension of at least {MIN_DIMENSION}.",
            )
        self.version = variant.version
        self.model_id = f"{name} (stand-in, no trained weights)"
        self.dimension = dimension
        self.forwards = 0
        self._filters = _mel_filters(variant.bands)
        self._window = np.hanning(_FRAME).astype(np.float32)
        self._basis = _dct_basis(variant.bands)[1 : variant.coefficients + 1] / np.sqrt(variant.bands)
        self._centre = np.zeros(variant.coefficients)
        self._centre[: len(_CENTRE)] = _CENTRE
        self._spread = 0.32 * np.arange(1, variant.coefficients + 1) ** -0.65
        self._map = _dct_basis(max(dimension, variant.coefficients))[:dimension, : variant.coefficients]

    def embed(self, segments: Sequence[FloatArray]) -> FloatArray:
        """One row a segment, shape (n, dimension). Digital silence has no spectrum: `NotFinite`."""
        rows = np.zeros((len(segments), self.dimension), dtype=np.float32)
        for position, samples in enumerate(checked_segments(segments, self.min_samples)):
            rows[position] = self._row(samples)
            self.forwards += 1
        return checked_rows(rows, self.model_id)

    def _row(self, samples: FloatArray) -> FloatArray:
        peak = float(np.abs(samples).max())
        if peak == 0.0:
            return np.full(self.dimension, np.nan, dtype=np.float32)
        # Dividing in float64 keeps the quietest sound from losing its last bits.
        level = (samples / np.float64(peak)).astype(np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(level, _FRAME)[::_HOP] * self._window
        spectrum = np.fft.rfft(frames, _FFT)
        energy = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ self._filters
        log_energy = np.log(np.maximum(energy, _FLOOR * energy.max()))
        loudness = log_energy.mean(axis=1)
        kept = log_energy[loudness >= np.percentile(loudness, 95) - _KEEP_NEPERS]
        cepstrum = self._basis @ kept.mean(axis=0, dtype=np.float64)
        scaled = _LIMIT * np.tanh((cepstrum - self._centre) / self._spread / _LIMIT)
        row: FloatArray = (self._map @ scaled).astype(np.float32)
        return row


@lru_cache
def _mel_filters(bands: int) -> FloatArray:
    """Triangles of unit sum, shape (257, bands)."""

    def mel(hertz: float) -> float:
        return float(2595.0 * np.log10(1.0 + hertz / 700.0))

    edges = 700.0 * (10.0 ** (np.linspace(mel(_LOWEST_HZ), mel(_HIGHEST_HZ), bands + 2) / 2595.0) - 1.0)
    hertz = np.arange(_FFT // 2 + 1) * SAMPLE_RATE / _FFT
    filters = np.zeros((hertz.size, bands))
    for band, (low, centre, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        rising, falling = (hertz - low) / (centre - low), (high - hertz) / (high - centre)
        filters[:, band] = np.clip(np.minimum(rising, falling), 0.0, None)
        if not filters[:, band].any():
            # A band narrower than a bin takes the bin nearest to its centre.
            filters[np.abs(hertz - centre).argmin(), band] = 1.0
    weights: FloatArray = (filters / filters.sum(axis=0)).astype(np.float32)
    return weights


@lru_cache
def _dct_basis(size: int) -> FloatArray:
    """The orthonormal DCT-II basis, one coefficient a row, shape (size, size)."""
    k, n = np.arange(size)[:, None], np.arange(size)[None, :]
    basis = np.sqrt(2.0 / size) * np.cos(np.pi * k * (2 * n + 1) / (2 * size))
    basis[0] /= np.sqrt(2.0)
    rows: FloatArray = basis.astype(np.float32)
    return rows
