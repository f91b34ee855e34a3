"""OpenVINO gives pyannote's own vectors, segment by segment; what it is made from may be damaged, another's, or not writable."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakerdb.errors import ConfigurationError, DimensionMismatch, ExtractionError, ModelUnavailable
from speakerdb.models import backends, converting
from speakerdb.models._openvino import TELEMETRY
from speakerdb.models.networks import MANIFEST, Network, Networks
from speakerdb.models.openvino import OpenVinoEmbedder, Plan
from speakerdb.models.port import Embedder
from speakerdb.models.pyannote import PyannoteEmbedder
from speakerdb.models.registry import LoadedModel, load_embedder
from speakerdb.testing.embedder_contract import EmbedderContract, cosine
from speakerdb.types import FloatArray, ModelSpec

pytestmark = pytest.mark.models

RATE = 16_000
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
"""Every segment of each voice then; else three seconds of each voice."""


class TestWeSpeakerOnOpenVino(EmbedderContract):
    # Its features are logarithms minus their mean over the segment.
    level_cosine = 0.999

    @pytest.fixture
    def embedder(self, open_v4: LoadedModel) -> Embedder:
        return open_v4.embedder


class TestXVectorOnOpenVino(EmbedderContract):
    # Its first layer normalises the waveform.
    level_cosine = 0.99

    @pytest.fixture
    def embedder(self, open_v3: LoadedModel) -> Embedder:
        return open_v3.embedder


def pairs(loaded: LoadedModel, reference: LoadedModel, segments: list[FloatArray]) -> list[float]:
    """Cosines to pyannote's own forward, whose vectors `test_pyannote_embedder` shows the reference's to be."""
    assert isinstance(loaded.embedder, OpenVinoEmbedder)
    assert isinstance(reference.embedder, PyannoteEmbedder)
    rows, own = loaded.embedder.embed(segments), reference.embedder.embed(segments)
    for row, other in zip(rows, own, strict=True):
        assert np.linalg.norm(row) == pytest.approx(np.linalg.norm(other), rel=1e-2)
    return [cosine(row, other) for row, other in zip(rows, own, strict=True)]


@pytest.mark.parametrize("model", ["v3", "v4"])
def test_every_made_up_segment(model: str, made_up_segments: list[FloatArray], request: pytest.FixtureRequest) -> None:
    found = pairs(
        request.getfixturevalue(f"open_{model}"), request.getfixturevalue(f"loaded_{model}"), made_up_segments
    )
    assert min(found) >= 0.9999, found


@pytest.mark.speech
@pytest.mark.parametrize("model", ["v3", "v4"])
def test_segments_of_real_speech(
    model: str, real_segments: dict[str, list[FloatArray]], request: pytest.FixtureRequest
) -> None:
    voices = list(real_segments.values())
    segments = [each for voice in voices for each in (voice if THOROUGH else [voice[0][: 3 * RATE]])]
    found = pairs(request.getfixturevalue(f"open_{model}"), request.getfixturevalue(f"loaded_{model}"), segments)
    assert min(found) >= 0.9999, sorted(found)[:5]


def test_it_says_what_it_is(open_v4: LoadedModel, standin_v4: ModelSpec) -> None:
    assert open_v4.backend == "openvino"
    assert open_v4.why == "as set"
    assert open_v4.checksum == standin_v4.sha256, "the same vectors go by the same checksum"
    assert "openvino " in open_v4.description
    assert "STAND-IN" in open_v4.description
    assert open_v4.notices == ()


def test_streams_do_not_change_a_vector(network_v3: Network, made_up_segments: list[FloatArray]) -> None:
    rows = [
        OpenVinoEmbedder(network_v3, model_id="x", plan=Plan(streams=streams)).embed(made_up_segments)
        for streams in (1, 3)
    ]
    assert np.allclose(rows[0], rows[1], atol=1e-5 * np.abs(rows[0]).max())


def test_a_network_that_fails_is_our_error_and_the_next_segment_passes(
    network_v3: Network, made_up_segments: list[FloatArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = OpenVinoEmbedder(network_v3, model_id="x")
    expected = embedder.embed(made_up_segments[:2])
    with monkeypatch.context() as patch:
        # Three channels, where the network has one.
        patch.setattr(embedder, "inputs", lambda samples: np.stack([samples] * 3)[None])
        with pytest.raises(ExtractionError, match="failed on a segment"):
            embedder.embed(made_up_segments[:2])
    assert np.allclose(embedder.embed(made_up_segments[:2]), expected, atol=1e-5 * np.abs(expected).max())


class TestTheKeptNetwork:
    @pytest.fixture
    def kept(self, network_v3: Network, tmp_path: Path) -> Path:
        """The folder of a network that was kept."""
        return Networks(tmp_path, "2026").put(network_v3)

    @staticmethod
    def read(kept: Path, network: Network) -> Network | None:
        return Networks(kept.parent.parent, "2026").get(network.about.checkpoint)

    def test_comes_back_as_it_was(self, kept: Path, network_v3: Network) -> None:
        found = self.read(kept, network_v3)
        assert found is not None
        assert (found.about, found.digest) == (network_v3.about, network_v3.digest)

    def test_is_another_one_for_another_version_and_another_checkpoint(self, kept: Path, network_v3: Network) -> None:
        folder = kept.parent.parent
        assert Networks(folder, "2027").get(network_v3.about.checkpoint) is None
        assert Networks(folder, "2026").get("0" * 64) is None

    @pytest.mark.parametrize(
        "damage",
        ["cut graph", "cut weights", "no weights", "empty manifest", "other manifest", "no manifest", "a number"],
    )
    def test_that_is_damaged_is_none_and_is_said(
        self, kept: Path, network_v3: Network, damage: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        manifest = kept / MANIFEST
        if damage.startswith("cut"):
            path = kept / ("network.xml" if damage == "cut graph" else "network.bin")
            path.write_bytes(path.read_bytes()[:-1])
        elif damage == "no weights":
            (kept / "network.bin").unlink()
        elif damage == "no manifest":
            manifest.unlink()
        elif damage == "empty manifest":
            manifest.write_text("")
        elif damage == "other manifest":
            manifest.write_text("[1, 2]")
        else:
            manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"dimension": "512"}))
        with caplog.at_level(logging.WARNING):
            assert self.read(kept, network_v3) is None
        assert "network-damaged" in caplog.text

    def test_of_another_checkpoint_in_its_place_is_none(
        self, kept: Path, network_v3: Network, caplog: pytest.LogCaptureFixture
    ) -> None:
        networks = Networks(kept.parent.parent, "2026")
        shutil.copytree(kept, networks.place("0" * 64))
        with caplog.at_level(logging.WARNING):
            assert networks.get("0" * 64) is None
        assert "another checkpoint's" in caplog.text

    def test_that_is_damaged_is_replaced(self, kept: Path, network_v3: Network) -> None:
        (kept / "network.bin").write_bytes(b"")
        Networks(kept.parent.parent, "2026").put(network_v3)
        assert self.read(kept, network_v3) is not None
        assert [path.name for path in kept.parent.iterdir()] == [kept.name], "nothing is left beside it"

    def test_may_be_written_by_several_processes_at_once(self, network_v3: Network, tmp_path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(3)
        writers = [context.Process(target=write_often, args=(tmp_path, network_v3, barrier)) for _ in range(3)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(120)
        assert [writer.exitcode for writer in writers] == [0, 0, 0]
        networks = Networks(tmp_path, "2026")
        assert networks.get(network_v3.about.checkpoint) is not None
        assert len(list(networks.place("x").parent.iterdir())) == 1

    def test_is_removed_with_its_checkpoint(self, kept: Path, network_v3: Network) -> None:
        networks = Networks(kept.parent.parent, "2026")
        size = networks.size(network_v3.about.checkpoint)
        assert networks.remove(network_v3.about.checkpoint) == size > 1_000_000
        assert not kept.exists()


def write_often(folder: Path, network: Network, barrier: Any) -> None:
    """In a process: put a network, at the same time as others."""
    small = Network(network.about, network.graph, network.weights[:1000])
    barrier.wait(60)
    for _ in range(20):
        Networks(folder, "2026").put(small)


class TestLoading:
    def test_needs_no_torch_once_it_was_converted(
        self, open_v3: LoadedModel, standin_v3: ModelSpec, models_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def load(*args: Any, **options: Any) -> Any:
            raise AssertionError("loaded the model in torch")

        monkeypatch.setattr(PyannoteEmbedder, "load", load)
        again = load_embedder(standin_v3, device="cpu", backend="openvino", folder=models_folder)
        assert again.description == open_v3.description

    def test_makes_a_damaged_one_anew(
        self, network_v3: Network, standin_v3: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = []
        monkeypatch.setattr(converting, "convert", lambda *_: made.append(1) or network_v3)
        networks = Networks(tmp_path, backends.metadata.version("openvino"))
        place = networks.put(network_v3)
        (place / "network.bin").write_bytes((place / "network.bin").read_bytes()[:-100])
        load_embedder(standin_v3, device="cpu", backend="openvino", folder=tmp_path)
        load_embedder(standin_v3, device="cpu", backend="openvino", folder=tmp_path)
        assert made == [1]
        assert networks.get(network_v3.about.checkpoint) is not None

    def test_works_where_nothing_can_be_kept(
        self, network_v3: Network, standin_v3: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        monkeypatch.setattr(converting, "convert", lambda *_: network_v3)
        (tmp_path / "networks").write_text("a file, where a folder should be")
        with caplog.at_level(logging.WARNING):
            loaded = load_embedder(standin_v3, device="cpu", backend="openvino", folder=tmp_path)
        assert loaded.backend == "openvino"
        assert "network-not-kept" in caplog.text

    def test_torch_computes_where_it_cannot_and_says_so(
        self, standin_v3: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def convert(*_: Any) -> Any:
            raise ModelUnavailable("converted to OpenVINO its vectors are other ones (cosine 0.98000)")

        monkeypatch.setattr(converting, "convert", convert)
        with caplog.at_level(logging.WARNING):
            loaded = load_embedder(standin_v3, device="cpu", backend="openvino", folder=tmp_path)
        assert loaded.backend == "torch"
        assert "cosine 0.98" in loaded.why
        (notice,) = loaded.notices
        assert notice in caplog.text

    def test_a_checkpoint_that_is_damaged_is_no_fault_of_openvinos(self, standin_v3: ModelSpec, tmp_path: Path) -> None:
        (tmp_path / "pytorch_model.bin").write_bytes(b"nothing")
        spec = replace(standin_v3, sources=(str(tmp_path),), sha256=None)
        with pytest.raises(ModelUnavailable, match="not a pyannote"):
            load_embedder(spec, device="cpu", backend="openvino", allow_unknown=True, folder=tmp_path)

    def test_a_kept_network_of_another_dimension_is_told(
        self, open_v3: LoadedModel, standin_v3: ModelSpec, models_folder: Path
    ) -> None:
        with pytest.raises(DimensionMismatch):
            load_embedder(replace(standin_v3, dimension=256), device="cpu", backend="openvino", folder=models_folder)

    def test_an_architecture_that_is_not_converted_is_told(self, loaded_v3: LoadedModel) -> None:
        embedder = loaded_v3.embedder
        assert isinstance(embedder, PyannoteEmbedder)
        other = PyannoteEmbedder(Other(embedder.model), model_id="other", min_samples=RATE // 2)
        with pytest.raises(ModelUnavailable, match="Other is not converted"):
            converting.convert(other, "0" * 64)

    def test_vectors_that_are_others_are_refused(
        self, loaded_v3: LoadedModel, monkeypatch: pytest.MonkeyPatch, network_v3: Network
    ) -> None:
        embedder = loaded_v3.embedder
        assert isinstance(embedder, PyannoteEmbedder)
        monkeypatch.setattr(converting, "_traced", lambda *_: (network_v3.graph, network_v3.weights))
        monkeypatch.setattr(converting, "parity_of", lambda *_: 0.9998)
        with pytest.raises(ModelUnavailable, match=r"cosine 0\.99980"):
            converting.convert(embedder, "0" * 64)

    @pytest.mark.parametrize("device", ["cuda", "cuda:1"])
    def test_a_gpu_and_the_processor_cannot_both_be_asked_for(self, standin_v3: ModelSpec, device: str) -> None:
        with pytest.raises(ConfigurationError, match="computes on the processor"):
            load_embedder(standin_v3, device=device, backend="openvino")

    def test_an_unknown_back_end_is_a_mistake_in_the_settings(self, standin_v3: ModelSpec) -> None:
        with pytest.raises(ConfigurationError, match="onnx"):
            load_embedder(standin_v3, backend="onnx")

    def test_openvino_that_cannot_be_imported_is_one_sentence(
        self, standin_v3: ModelSpec, open_v3: LoadedModel, models_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "openvino", None)
        with pytest.raises(ConfigurationError, match="OpenVINO cannot be imported") as caught:
            load_embedder(standin_v3, device="cpu", backend="openvino", folder=models_folder)
        assert "torch" in caught.value.hint
        assert sys.modules[TELEMETRY] is None


class Other:
    """A model of another architecture."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
