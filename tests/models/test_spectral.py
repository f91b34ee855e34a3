"""The spectral stand-in: what its docstring says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from speakerdb.errors import ConfigurationError, NotFinite
from speakerdb.models.spectral import SAMPLE_RATE, VARIANTS, SpectralEmbedder
from speakerdb.testing.embedder_contract import cosine, synthetic_voice
from speakerdb.types import FloatArray

NAMES = tuple(VARIANTS)
VOICES = [(95.0, 0.9), (120.0, 1.0), (145.0, 1.2), (180.0, 0.85), (210.0, 1.1), (240.0, 1.3)]


def unit(rows: FloatArray) -> FloatArray:
    normalised: FloatArray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return normalised


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dimension", [16, 192, 256, 512])
def test_any_dimension_keeps_voices_together_and_apart(name: str, dimension: int) -> None:
    embedder = SpectralEmbedder(name, dimension)
    sounds = [synthetic_voice(5.0, SAMPLE_RATE, pitch=pitch, brightness=b) for pitch, b in VOICES]
    first = unit(embedder.embed([sound[:40_000] for sound in sounds]))
    second = unit(embedder.embed([sound[40_000:] for sound in sounds]))
    scores = first @ second.T
    same, different = np.diag(scores), scores[~np.eye(len(VOICES), dtype=bool)]
    assert same.min() > 0.98
    assert same.min() > different.max() + 0.1


def test_a_larger_dimension_keeps_every_cosine() -> None:
    sounds = [synthetic_voice(2.0, SAMPLE_RATE, pitch=pitch, brightness=b) for pitch, b in VOICES]
    small, large = (unit(SpectralEmbedder("spectral-a", d).embed(sounds)) for d in (64, 512))
    assert np.allclose(small @ small.T, large @ large.T, atol=1e-5)


def test_two_models_are_two_spaces() -> None:
    sound = synthetic_voice(3.0, SAMPLE_RATE)
    a, b = (SpectralEmbedder(name, 256).embed([sound])[0] for name in NAMES)
    assert cosine(a, b) < 0.9


@example(gain=1e-24, pitch=120.0)
@example(gain=1e20, pitch=120.0)
@given(gain=st.floats(min_value=1e-24, max_value=1e20), pitch=st.floats(min_value=80, max_value=300))
def test_no_level_matters(gain: float, pitch: float) -> None:
    embedder = SpectralEmbedder("spectral-b", 256)
    sound = synthetic_voice(0.5, SAMPLE_RATE, pitch=pitch)
    one, other = embedder.embed([sound, (sound * np.float64(gain)).astype(np.float32)])
    assert cosine(one, other) > 0.9999


def test_silence_is_named_and_not_embedded() -> None:
    voice = synthetic_voice(1.0, SAMPLE_RATE)
    with pytest.raises(NotFinite) as caught:
        SpectralEmbedder("spectral-a", 512).embed([np.zeros_like(voice), voice, np.zeros_like(voice)])
    assert caught.value.details["rows"] == [0, 2]


def test_an_impulse_and_a_constant_are_finite() -> None:
    impulse = np.zeros(16_000, dtype=np.float32)
    impulse[8_000] = 1
    rows = SpectralEmbedder("spectral-a", 256).embed([impulse, np.full(16_000, 0.5, dtype=np.float32)])
    assert np.isfinite(rows).all()


def test_vectors_do_not_change_without_a_new_version() -> None:
    """What is stored in a library must stay comparable: a change of these numbers needs a new `version`."""
    sound = synthetic_voice(2.0, SAMPLE_RATE)
    for name, version, expected in (
        ("spectral-a", "spectral-a/1", EXPECTED_A),
        ("spectral-b", "spectral-b/1", EXPECTED_B),
    ):
        embedder = SpectralEmbedder(name, 256)
        assert embedder.version == version
        assert np.allclose(embedder.embed([sound])[0][:6], expected, atol=2e-3)


EXPECTED_A = [-0.036, -0.06, -0.087, -0.13, -0.185, -0.249]
EXPECTED_B = [-0.832, -1.071, -0.775, -0.351, 0.11, 0.509]


@pytest.mark.parametrize(("name", "dimension"), [("spectral-c", 256), ("", 256), ("spectral-a", 15), ("spectral-a", 0)])
def test_what_it_cannot_be_is_refused(name: str, dimension: int) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SpectralEmbedder(name, dimension)
    assert caught.value.hint


@pytest.mark.speech
@pytest.mark.parametrize("name", NAMES)
def test_real_voices_are_told_apart(name: str, speech: Path) -> None:
    """Five voices, ten utterances each: most of the nearest other utterances are of the same voice."""
    import av

    files = sorted((speech / "librispeech" / "test-other").glob("*/*"))
    sounds, labels = [], []
    for file in files:
        with av.open(str(file)) as container:
            resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
            frames = [r.to_ndarray()[0] for f in container.decode(audio=0) for r in resampler.resample(f)]
        sounds.append(np.concatenate(frames)[: 6 * SAMPLE_RATE])
        labels.append(file.parent.name)
    rows = unit(SpectralEmbedder(name, 256).embed(sounds))
    scores = rows @ rows.T
    np.fill_diagonal(scores, -2)
    hits = [labels[int(best)] == label for best, label in zip(scores.argmax(axis=1), labels, strict=True)]
    assert len(hits) >= 50
    assert np.mean(hits) >= 0.9
