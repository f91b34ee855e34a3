"""The pyannote embedder on the stand-in checkpoints: the same vectors as pyannote's own, and every bad checkpoint."""

from __future__ import annotations

import hashlib
import io
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakerdb.errors import (
    CheckpointUntrusted,
    ConfigurationError,
    DimensionMismatch,
    ExtractionError,
    ModelUnavailable,
    NotFinite,
)
from speakerdb.models.batching import Batches
from speakerdb.models.pyannote import PyannoteEmbedder
from speakerdb.models.registry import LoadedModel, load_embedder
from speakerdb.testing.embedder_contract import cosine, synthetic_voice
from speakerdb.types import FloatArray, ModelSpec

pytestmark = pytest.mark.models

RATE = 16_000


@pytest.fixture(params=["v3", "v4"])
def spec(request: pytest.FixtureRequest, standin_v3: ModelSpec, standin_v4: ModelSpec) -> ModelSpec:
    return standin_v3 if request.param == "v3" else standin_v4


@pytest.fixture
def loaded(spec: ModelSpec, loaded_v3: LoadedModel, loaded_v4: LoadedModel) -> LoadedModel:
    return loaded_v3 if spec.dimension == 512 else loaded_v4


def checkpoint_bytes(spec: ModelSpec) -> bytes:
    return (Path(spec.sources[0]) / "pytorch_model.bin").read_bytes()


def voices() -> list[FloatArray]:
    seconds = (0.5, 0.7, 1.0, 1.9, 3.0, 6.0)
    return [synthetic_voice(s, RATE, pitch=100 + 25 * i, brightness=0.8 + 0.1 * i) for i, s in enumerate(seconds)]


def pyannotes_own(spec: ModelSpec, segments: list[FloatArray]) -> list[FloatArray]:
    """The vectors of pyannote.audio's own `Inference`, one whole segment at a time."""
    import torch
    from pyannote.audio import Inference, Model

    inference = Inference(Model.from_pretrained(io.BytesIO(checkpoint_bytes(spec))), window="whole")
    return [inference({"waveform": torch.tensor(s[None]), "sample_rate": RATE}) for s in segments]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_vectors_are_those_of_pyannote(spec: ModelSpec, loaded: LoadedModel) -> None:
    segments = voices()
    for row, own in zip(loaded.embedder.embed(segments), pyannotes_own(spec, segments), strict=True):
        assert cosine(row, own) >= 0.9999
        assert np.linalg.norm(row) == pytest.approx(np.linalg.norm(own), rel=1e-3)


@pytest.mark.speech
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_vectors_of_real_speech_are_those_of_pyannote(spec: ModelSpec, loaded: LoadedModel, speech: Path) -> None:
    import av

    segments: list[FloatArray] = []
    for file in sorted((speech / "librispeech" / "test-other").glob("*/*"))[::12]:
        with av.open(str(file)) as container:
            resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
            frames = [r.to_ndarray()[0] for f in container.decode(audio=0) for r in resampler.resample(f)]
        segments.append(np.concatenate(frames)[: 4 * RATE])
    assert len(segments) >= 4
    for row, own in zip(loaded.embedder.embed(segments), pyannotes_own(spec, segments), strict=True):
        assert cosine(row, own) >= 0.9999


def test_says_that_it_is_a_stand_in(loaded: LoadedModel, spec: ModelSpec) -> None:
    assert loaded.checksum == spec.sha256
    assert loaded.source == spec.sources[0]
    for text in (loaded.embedder.model_id, loaded.description):
        assert spec.id in text
        assert "STAND-IN" in text
    assert loaded.description.endswith(f"sha256 {loaded.checksum[:8]}…, torch f32 on cpu")
    assert (loaded.backend, loaded.why) == ("torch", "as set")
    assert loaded.notices == ()


def test_a_stand_in_under_the_real_models_name_is_still_called_one(standin_v3: ModelSpec) -> None:
    loaded = load_embedder(replace(standin_v3, id="pyannote/embedding", sha256=None), device="cpu", allow_unknown=True)
    assert "STAND-IN standin-xvector-sincnet" in loaded.description
    assert "not pinned" in loaded.description


def test_half_a_second_is_the_least(loaded: LoadedModel) -> None:
    assert (loaded.embedder.sample_rate, loaded.embedder.min_samples) == (RATE, RATE // 2)


def test_the_wrong_dimension_is_told(standin_v3: ModelSpec, standin_v4: ModelSpec) -> None:
    swapped = replace(standin_v4, sources=standin_v3.sources, sha256=standin_v3.sha256)
    with pytest.raises(DimensionMismatch) as caught:
        load_embedder(swapped, device="cpu")
    assert (caught.value.details["expected"], caught.value.details["found"]) == (256, 512)


def test_the_wrong_architecture_is_told(standin_v3: ModelSpec) -> None:
    with pytest.raises(ModelUnavailable, match="XVectorSincNet, not XVectorMFCC"):
        load_embedder(replace(standin_v3, architecture="XVectorMFCC"), device="cpu")


def test_the_wrong_checksum_never_reaches_torch(standin_v3: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def load(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("unpickled a checkpoint that was not trusted")

    monkeypatch.setattr(torch, "load", load)
    for spec in (replace(standin_v3, sha256="0" * 64), replace(standin_v3, sha256=None)):
        with pytest.raises(CheckpointUntrusted):
            load_embedder(spec, device="cpu")


def saved(content: object) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage", ["empty", "truncated", "random", "text", "no keys", "no weights", "other weights", "list"]
)
def test_damaged_checkpoints_are_named(standin_v3: ModelSpec, tmp_path: Path, damage: str) -> None:
    import torch

    good = checkpoint_bytes(standin_v3)
    if damage == "empty":
        data = b""
    elif damage == "truncated":
        data = good[: len(good) // 2]
    elif damage == "random":
        data = np.random.default_rng(3).bytes(5000)
    elif damage == "text":
        data = b"version https://git-lfs.github.com/spec/v1\noid sha256:4bce\nsize 96383626\n"
    elif damage == "no keys":
        data = saved({"weights": torch.zeros(3)})
    elif damage == "list":
        data = saved([1, 2, 3])
    else:
        content = torch.load(io.BytesIO(good), map_location="cpu", weights_only=False)
        state = content["state_dict"]
        content["state_dict"] = {} if damage == "no weights" else {f"x.{key}": value for key, value in state.items()}
        data = saved(content)
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(data)
    spec = replace(standin_v3, sources=(str(path),), sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(ModelUnavailable, match="damaged") as caught:
        load_embedder(spec, device="cpu")
    assert type(caught.value) is ModelUnavailable
    assert str(path) in caught.value.message


def test_a_model_that_gives_nan_is_refused_before_it_is_used(standin_v3: ModelSpec) -> None:
    import torch

    content = torch.load(io.BytesIO(checkpoint_bytes(standin_v3)), map_location="cpu", weights_only=False)
    content["state_dict"]["embedding.bias"][:] = float("nan")
    with pytest.raises(ModelUnavailable, match="finite"):
        PyannoteEmbedder.load(saved(content), standin_v3, model_id="nan", device="cpu")


class Wrapped:
    """A model of which every output goes through `change`."""

    def __init__(self, model: Any, change: Any) -> None:
        self.model, self.change, self.shapes = model, change, []  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, waves: Any) -> Any:
        self.shapes.append(tuple(waves.shape))
        return self.change(self.model(waves))


@pytest.fixture
def fresh(standin_v3: ModelSpec) -> PyannoteEmbedder:
    """One that a test may break."""
    return PyannoteEmbedder.load(checkpoint_bytes(standin_v3), standin_v3, model_id="fresh", device="cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_rows_that_could_not_be_computed_are_named(fresh: PyannoteEmbedder, value: float) -> None:
    count = iter(range(10))
    fresh.model = Wrapped(fresh.model, lambda rows: rows if next(count) % 2 == 0 else rows * value)
    with pytest.raises(NotFinite) as caught:
        fresh.embed(voices()[:4])
    assert caught.value.details["rows"] == [1, 3]


def test_one_segment_passes_at_a_time_on_the_cpu_and_none_is_padded(fresh: PyannoteEmbedder) -> None:
    fresh.model = wrapped = Wrapped(fresh.model, lambda rows: rows)
    segments = [*voices(), voices()[2]]
    fresh.embed(segments)
    assert wrapped.shapes == [(1, 1, segment.size) for segment in segments]


def test_a_network_that_fails_is_our_error(fresh: PyannoteEmbedder) -> None:
    def fail(rows: Any) -> Any:
        raise RuntimeError("shape\nand more")

    fresh.model = Wrapped(fresh.model, fail)
    with pytest.raises(ExtractionError, match="shape") as caught:
        fresh.embed(voices())
    assert isinstance(caught.value.__cause__, RuntimeError)


class TestCuda:
    """Without a CUDA device: the copy "on CUDA" is a wrapper around the model on the CPU."""

    @pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:1"])
    def test_that_is_absent_is_said_and_the_cpu_used(
        self, standin_v3: ModelSpec, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, device: str
    ) -> None:
        import torch

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with caplog.at_level(logging.WARNING):
            loaded = load_embedder(standin_v3, device=device)
        (notice,) = loaded.notices
        assert device in notice
        assert "CPU" in notice
        assert notice in caplog.text
        assert loaded.description.endswith(" on cpu")
        assert np.isfinite(loaded.embedder.embed(voices())).all()

    def test_that_was_not_asked_for_is_not_missed(self, standin_v3: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert load_embedder(standin_v3, device="auto").notices == ()

    @pytest.mark.parametrize("device", ["auto", "cuda", "cuda:1"])
    def test_that_is_there_and_broken_is_said(
        self, standin_v3: ModelSpec, monkeypatch: pytest.MonkeyPatch, device: str
    ) -> None:
        import torch

        to = torch.nn.Module.to

        def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
            if args and "cuda" in str(args[0]):
                raise RuntimeError("CUDA error: no kernel image is available\nmore lines")
            return to(self, *args, **kwargs)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.nn.Module, "to", broken)
        loaded = load_embedder(standin_v3, device=device)
        (notice,) = loaded.notices
        assert ("cuda:1" if device == "cuda:1" else "cuda:0") in notice
        assert "no kernel image" in notice
        assert "more lines" not in notice

    def test_that_fails_in_mid_run_is_tried_once_more_on_the_cpu(
        self, fresh: PyannoteEmbedder, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(rows: Any) -> Any:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore lines")

        expected = fresh.embed(voices())
        wrapped = Wrapped(fresh.model, broken)
        fresh._accelerated = Batches(wrapped, "cpu")
        with caplog.at_level(logging.WARNING):
            assert np.array_equal(fresh.embed(voices()), expected)
        (notice,) = fresh.notices
        assert "illegal memory access" in notice
        assert "more lines" not in notice
        assert notice in caplog.text
        assert fresh.device == "cpu"
        assert fresh.forwards == 2 * len(voices())
        fresh.embed(voices())
        assert len(wrapped.shapes) == 1
        assert len(fresh.notices) == 1

    def test_any_other_device_is_a_mistake_in_the_settings(self, standin_v3: ModelSpec) -> None:
        for device in ("gpu", "cuda:", "cuda:x", "mps", ""):
            with pytest.raises(ConfigurationError):
                load_embedder(standin_v3, device=device)
