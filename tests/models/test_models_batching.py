"""Batches for a GPU, on the CPU: segments of different lengths pass together, and each as if it had passed alone."""

from __future__ import annotations

import copy
import logging
import os
from typing import Any

import numpy as np
import pytest

from speakerdb.models.batching import BATCH_SAMPLES, BYTES_A_SAMPLE, Batches
from speakerdb.models.pyannote import PyannoteEmbedder
from speakerdb.models.registry import LoadedModel
from speakerdb.testing.embedder_contract import cosine, synthetic_voice
from speakerdb.types import FloatArray

pytestmark = pytest.mark.models

RATE = 16_000
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
REAL_SECONDS = (0.5, 1.7, 3.03, 6.0, 9.9) if THOROUGH else (0.5, 0.8, 1.23, 2.0, 3.01)
SECONDS = (0.5, 2.013, 1.1, 1.507, 0.87, 2.0, 2.0)


def voices(seconds: tuple[float, ...] = SECONDS) -> list[FloatArray]:
    return [synthetic_voice(s, RATE, pitch=100 + 15 * i, brightness=0.8 + 0.05 * i) for i, s in enumerate(seconds)]


@pytest.fixture
def resnet(loaded_v4: LoadedModel) -> PyannoteEmbedder:
    assert isinstance(loaded_v4.embedder, PyannoteEmbedder)
    return loaded_v4.embedder


@pytest.fixture
def sincnet(loaded_v3: LoadedModel) -> PyannoteEmbedder:
    assert isinstance(loaded_v3.embedder, PyannoteEmbedder)
    return loaded_v3.embedder


class Watched(Batches):
    """Tells what was in each batch, in samples."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batches: list[list[int]] = []

    def forward(self, arrays: Any) -> FloatArray:
        self.batches.append([array.size for array in arrays])
        return super().forward(arrays)


def on_the_cpu(embedder: PyannoteEmbedder, **options: Any) -> Watched:
    # A copy: the masks are set into the model itself.
    return Watched(copy.deepcopy(embedder.model), "cpu", **options)


def test_every_segment_of_a_mixed_batch_is_what_it_is_alone(
    resnet: PyannoteEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speakerdb.models.batching.LEAST_SHARE", 0.0)  # half a second beside two
    batches = on_the_cpu(resnet)
    rows = batches.embed(voices())
    (batch,) = batches.batches
    assert sorted(batch) == sorted(voice.size for voice in voices())
    for row, own in zip(rows, resnet.embed_on_cpu(voices()), strict=True):
        assert cosine(row, own) >= 0.999999
        assert np.linalg.norm(row) == pytest.approx(np.linalg.norm(own), rel=1e-4)


@pytest.mark.speech
def test_real_speech_of_many_lengths(
    resnet: PyannoteEmbedder, real_segments: dict[str, list[FloatArray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speakerdb.models.batching.LEAST_SHARE", 0.0)
    batches = on_the_cpu(resnet)
    longest = sorted((each for segments in real_segments.values() for each in segments), key=len)[-5:]
    cut = [voice[: round(RATE * s)] for voice, s in zip(longest, REAL_SECONDS, strict=True)]
    rows = batches.embed(cut)
    assert len(batches.batches) == 1
    for row, own in zip(rows, resnet.embed_on_cpu(cut), strict=True):
        assert cosine(row, own) >= 0.9999


@pytest.mark.speech
def test_half_precision_of_real_speech(resnet: PyannoteEmbedder, real_segments: dict[str, list[FloatArray]]) -> None:
    """Of every segment under the thorough profile: a processor may take a second for a second of speech."""
    everything = sorted((each for segments in real_segments.values() for each in segments), key=len)
    chosen = everything if THOROUGH else [each[:RATE] for each in everything[::60]]
    rows = on_the_cpu(resnet, half=True).embed(chosen)
    found = [cosine(row, own) for row, own in zip(rows, resnet.embed_on_cpu(chosen), strict=True)]
    print(f"half precision of {len(chosen)} segments: lowest cosine {min(found):.6f}, median {np.median(found):.6f}")
    assert min(found) >= 0.999


def test_without_the_masks_it_would_be_another_vector(resnet: PyannoteEmbedder) -> None:
    """So the tests above can fail."""
    short = voices((0.7, 2.0))
    batches = on_the_cpu(resnet)
    rows = Batches.forward(batches, short)
    for module in batches._model.resnet.modules():
        module._forward_hooks.clear()
    unmasked = Batches.forward(batches, short)
    own = resnet.embed_on_cpu(short)
    assert cosine(rows[0], own[0]) >= 0.999999
    assert cosine(unmasked[0], own[0]) < 0.999


def test_lengths_are_sorted_so_that_little_is_computed_in_vain(resnet: PyannoteEmbedder) -> None:
    batches = on_the_cpu(resnet)
    batches.batch_samples = 4 * RATE + 500
    batches.embed(voices())
    for batch in batches.batches:
        assert min(batch) >= 0.75 * max(batch)
        assert len(batch) * max(batch) <= batches.batch_samples
    assert sorted(size for batch in batches.batches for size in batch) == sorted(voice.size for voice in voices())
    assert batches.forwards == len(voices())


def test_sincnet_batches_hold_equal_lengths_only(sincnet: PyannoteEmbedder) -> None:
    batches = on_the_cpu(sincnet)
    rows = batches.embed(voices())
    assert all(len(set(batch)) == 1 for batch in batches.batches)
    assert max(len(batch) for batch in batches.batches) == 2
    for row, own in zip(rows, sincnet.embed_on_cpu(voices()), strict=True):
        assert cosine(row, own) >= 0.99999


def test_half_precision_of_the_convolutions(resnet: PyannoteEmbedder) -> None:
    batches = on_the_cpu(resnet, half=True)
    assert batches.half
    own = resnet.embed_on_cpu(voices((1.0, 1.2)))
    rows = batches.embed(voices((1.0, 1.2)))
    found = [cosine(row, other) for row, other in zip(rows, own, strict=True)]
    assert min(found) >= 0.999
    assert not np.array_equal(rows, own), "it was not in half precision"


def test_half_precision_is_not_for_sincnet(sincnet: PyannoteEmbedder) -> None:
    assert not on_the_cpu(sincnet, half=True).half


class Small:
    """A device with room for so many samples."""

    def __init__(self, batches: Watched, samples: int) -> None:
        self.forward, self.samples = batches.forward, samples
        batches.forward = self  # type: ignore[method-assign,assignment]

    def __call__(self, arrays: list[FloatArray]) -> FloatArray:
        import torch

        if len(arrays) * max(array.size for array in arrays) > self.samples:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.forward(arrays)


def test_out_of_memory_halves_the_batch_and_goes_on(resnet: PyannoteEmbedder, caplog: pytest.LogCaptureFixture) -> None:
    batches = on_the_cpu(resnet)
    Small(batches, 2 * RATE)
    segments = voices((0.9,) * 5)
    with caplog.at_level(logging.WARNING):
        rows = batches.embed(segments)
    assert [len(batch) for batch in batches.batches] == [2, 1, 2], "5 did not fit, nor did 3"
    assert "batch-halved" in caplog.text
    for row, own in zip(rows, resnet.embed_on_cpu(segments), strict=True):
        assert cosine(row, own) >= 0.999999
    batches.batches.clear()
    batches.embed(segments)
    assert [len(batch) for batch in batches.batches] == [1, 1, 1, 1, 1], "the next batches begin smaller"


def test_a_single_segment_that_does_not_fit_goes_to_the_cpu(
    sincnet: PyannoteEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = on_the_cpu(sincnet)
    Small(batches, RATE // 2)
    embedder = PyannoteEmbedder(sincnet.model, model_id="small", min_samples=RATE // 2)
    embedder._accelerated = batches
    segments = voices((1.0, 0.6))
    assert np.array_equal(embedder.embed(segments), sincnet.embed_on_cpu(segments))
    (notice,) = embedder.notices
    assert "out of memory" in notice
    assert embedder.device == "cpu"


def test_the_first_batch_is_made_to_the_memory_that_is_free(resnet: PyannoteEmbedder) -> None:
    assert on_the_cpu(resnet).batch_samples == BATCH_SAMPLES
    assert on_the_cpu(resnet, free_bytes=10**12).batch_samples == BATCH_SAMPLES
    assert on_the_cpu(resnet, free_bytes=100 * BYTES_A_SAMPLE * RATE).batch_samples == 50 * RATE
