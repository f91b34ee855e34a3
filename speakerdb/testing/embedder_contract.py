"""The contract of the Embedder port, as tests. For your own embedder:

    class TestMine(EmbedderContract):
        @pytest.fixture
        def embedder(self) -> Embedder:
            return MyEmbedder()

Everything an embedder gets here is synthetic and fixed; nothing needs files or a network.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from speakerdb.errors import InvalidInput, NotFinite
from speakerdb.models.port import Embedder
from speakerdb.types import FloatArray


def synthetic_voice(seconds: float, sample_rate: int, *, pitch: float = 120.0, brightness: float = 1.0) -> FloatArray:
    """A buzzing vowel: harmonics of `pitch` (Hz) under three resonances that `brightness` moves, 4 Hz syllables, a
    little noise. Mono float32 with a peak of 0.3; the same on every machine to rounding.
    """
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    phase = 2 * np.pi * pitch * (time + 0.003 * np.sin(2 * np.pi * 3 * time))
    sound = np.zeros_like(time)
    for k in range(1, int(0.45 * sample_rate / pitch)):
        resonance = sum(1 / (1 + ((k * pitch - brightness * hertz) / 120) ** 2) for hertz in (500, 1500, 2500))
        sound += resonance / k * np.sin(k * phase + k * k)
    sound *= 0.6 + 0.4 * np.sin(2 * np.pi * 4 * time)
    noise = np.modf(np.sin(np.arange(time.size) * 12.9898) * 43758.5453)[0]
    sound = sound / max(float(np.abs(sound).max()), 1e-9) + 0.01 * noise
    samples: FloatArray = (0.3 * sound / np.abs(sound).max()).astype(np.float32)
    return samples


def cosine(a: FloatArray, b: FloatArray) -> float:
    """Of two rows, in float64."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    return float(a64 @ b64 / (np.linalg.norm(a64) * np.linalg.norm(b64)))


class EmbedderContract:
    """What speakerdb relies on. Subclass it and give the fixture `embedder`."""

    level_cosine: ClassVar[float | None] = None
    """The least cosine between a segment and the same ten times quieter; None where the model makes no promise."""

    @pytest.fixture
    def embedder(self) -> Embedder:
        raise NotImplementedError("give your embedder in this fixture")

    @pytest.fixture
    def segments(self, embedder: Embedder) -> list[FloatArray]:
        """Lengths that differ and that repeat, among them the shortest."""
        rate, shortest = embedder.sample_rate, embedder.min_samples
        voices = [(120.0, 1.0), (210.0, 1.15), (95.0, 0.9), (160.0, 1.3), (230.0, 0.8)]
        lengths = [2.0, 1.3, 2.0, max(1.0, shortest / rate), shortest / rate]
        return [
            synthetic_voice(seconds, rate, pitch=pitch, brightness=brightness)
            for (pitch, brightness), seconds in zip(voices, lengths, strict=True)
        ]

    def assert_same(self, row: FloatArray, other: FloatArray) -> None:
        """Equal to 1e-5 of the row's length."""
        assert np.linalg.norm(row - other) <= 1e-5 * np.linalg.norm(other)

    def test_says_what_it_is(self, embedder: Embedder) -> None:
        assert embedder.model_id
        assert embedder.dimension >= 1
        assert embedder.sample_rate >= 8000
        assert embedder.min_samples >= 1

    def test_one_row_a_segment(self, embedder: Embedder, segments: list[FloatArray]) -> None:
        rows = embedder.embed(segments)
        assert rows.shape == (len(segments), embedder.dimension)
        assert rows.dtype == np.float32
        assert np.isfinite(rows).all()
        assert rows.any(axis=1).all()

    def test_passes_are_counted(self, embedder: Embedder, segments: list[FloatArray]) -> None:
        before = embedder.forwards
        embedder.embed(segments)
        assert embedder.forwards == before + len(segments)
        embedder.embed([])
        assert embedder.forwards == before + len(segments)

    def test_no_segments_are_no_rows(self, embedder: Embedder) -> None:
        rows = embedder.embed([])
        assert rows.shape == (0, embedder.dimension)
        assert rows.dtype == np.float32

    def test_a_row_depends_on_its_own_segment_only(self, embedder: Embedder, segments: list[FloatArray]) -> None:
        together = embedder.embed(segments)
        for row, segment in zip(together, segments, strict=True):
            self.assert_same(row, embedder.embed([segment])[0])

    def test_rows_are_in_the_order_of_the_segments(self, embedder: Embedder, segments: list[FloatArray]) -> None:
        rows, reversed_rows = embedder.embed(segments), embedder.embed(segments[::-1])
        for row, other in zip(rows, reversed_rows[::-1], strict=True):
            self.assert_same(row, other)

    def test_the_same_twice(self, embedder: Embedder, segments: list[FloatArray]) -> None:
        first, second = embedder.embed(segments[:2]), embedder.embed(segments[:2])
        for row, other in zip(first, second, strict=True):
            self.assert_same(row, other)

    def test_the_shortest_segment_is_taken_and_a_shorter_one_is_not(self, embedder: Embedder) -> None:
        voice = synthetic_voice(2 * embedder.min_samples / embedder.sample_rate, embedder.sample_rate)
        assert np.isfinite(embedder.embed([voice[: embedder.min_samples]])).all()
        with pytest.raises(InvalidInput):
            embedder.embed([voice[: embedder.min_samples - 1]])

    @pytest.mark.parametrize("position", [0, -1])
    @pytest.mark.parametrize("sample", [np.nan, np.inf, -np.inf])
    def test_samples_that_are_not_finite_are_refused(self, embedder: Embedder, sample: float, position: int) -> None:
        good = synthetic_voice(1.5, embedder.sample_rate)
        bad = good.copy()
        bad[position] = sample
        with pytest.raises(InvalidInput):
            embedder.embed([good, bad])

    def test_other_shapes_and_types_are_refused(self, embedder: Embedder) -> None:
        good = synthetic_voice(1.5, embedder.sample_rate)
        for bad in (good[None], good[:, None], good.astype(np.float64), (good * 32767).astype(np.int16), good[:0]):
            with pytest.raises(InvalidInput):
                embedder.embed([good, bad])  # type: ignore[list-item]

    def test_any_layout_of_memory_is_taken_and_left_as_it_is(self, embedder: Embedder) -> None:
        voice = synthetic_voice(1.5, embedder.sample_rate)
        expected = embedder.embed([voice])[0]
        strided = np.repeat(voice, 2)[::2]
        backwards = voice[::-1].copy()[::-1]
        frozen = voice.copy()
        frozen.flags.writeable = False
        for same in (strided, backwards, frozen):
            self.assert_same(embedder.embed([same])[0], expected)
            assert np.array_equal(same, voice)

    def test_rows_are_the_callers_own(self, embedder: Embedder) -> None:
        voice = synthetic_voice(1.5, embedder.sample_rate)
        rows = embedder.embed([voice])
        kept = rows.copy()
        rows[:] = 0
        self.assert_same(embedder.embed([voice])[0], kept[0])

    def test_silence_is_a_row_or_an_error_and_never_zeros(self, embedder: Embedder) -> None:
        voice = synthetic_voice(1.5, embedder.sample_rate)
        try:
            rows = embedder.embed([voice, np.zeros_like(voice)])
        except NotFinite as error:
            assert error.details["rows"] == [1]  # noqa: PT017 - either outcome is right
        else:
            assert np.isfinite(rows).all()
            assert rows.any(axis=1).all()

    def test_different_voices_are_different_rows(self, embedder: Embedder, segments: list[FloatArray]) -> None:
        rows = embedder.embed(segments)
        assert all(cosine(a, b) < 0.999 for i, a in enumerate(rows) for b in rows[:i])

    def test_the_level_does_not_matter(self, embedder: Embedder) -> None:
        if self.level_cosine is None:
            pytest.skip("this embedder makes no promise about level")
        voice = synthetic_voice(2.0, embedder.sample_rate)
        loud, quiet = embedder.embed([voice, voice / np.float32(10)])
        assert cosine(loud, quiet) >= self.level_cosine
