"""Definitions of the stand-in models, and the two loaded once a session."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from speakerdb.core.turns import parse_rttm
from speakerdb.generations import V3, V4
from speakerdb.media import decode_all, decode_spans
from speakerdb.models.networks import Network, Networks
from speakerdb.models.registry import LoadedModel, load_embedder
from speakerdb.testing.embedder_contract import synthetic_voice
from speakerdb.types import FloatArray, ModelSpec, Span

RATE = 16_000


def _standin(folder: Path, spec: ModelSpec) -> ModelSpec:
    digest = hashlib.sha256((folder / "pytorch_model.bin").read_bytes()).hexdigest()
    return replace(spec, id=folder.name, revision=None, sha256=digest, sources=(str(folder),))


@pytest.fixture(scope="session")
def standin_v4(standin_models: Path) -> ModelSpec:
    return _standin(standin_models / "standin-wespeaker-resnet34", V4.model)


@pytest.fixture(scope="session")
def standin_v3(standin_models: Path) -> ModelSpec:
    return _standin(standin_models / "standin-xvector-sincnet", V3.model)


@pytest.fixture(scope="session")
def loaded_v4(standin_v4: ModelSpec) -> LoadedModel:
    return load_embedder(standin_v4, device="cpu")


@pytest.fixture(scope="session")
def loaded_v3(standin_v3: ModelSpec) -> LoadedModel:
    return load_embedder(standin_v3, device="cpu")


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models in which both stand-ins were converted once for all tests, which only read it."""
    return tmp_path_factory.mktemp("converted")


@pytest.fixture(scope="session")
def open_v4(standin_v4: ModelSpec, models_folder: Path) -> LoadedModel:
    return load_embedder(standin_v4, device="cpu", backend="openvino", folder=models_folder)


@pytest.fixture(scope="session")
def open_v3(standin_v3: ModelSpec, models_folder: Path) -> LoadedModel:
    return load_embedder(standin_v3, device="cpu", backend="openvino", folder=models_folder)


@pytest.fixture(scope="session")
def network_v3(standin_v3: ModelSpec, open_v3: LoadedModel, models_folder: Path) -> Network:
    """The converted network of the smaller stand-in."""
    kept = Networks(models_folder, metadata.version("openvino")).get(standin_v3.sha256 or "")
    assert kept is not None
    return kept


@pytest.fixture(scope="session")
def made_up_segments() -> list[FloatArray]:
    """Voices of 0.5 to 10 s."""
    seconds = (0.5, 0.731, 1.0, 1.9, 3.0, 4.4, 10.0)
    return [synthetic_voice(s, RATE, pitch=95 + 22 * i, brightness=0.75 + 0.08 * i) for i, s in enumerate(seconds)]


@pytest.fixture(scope="session")
def real_segments(speech: Path) -> dict[str, list[FloatArray]]:
    """Real speech by voice: LibriSpeech's whole utterances to 10 s, and AMI's turns of a second and more to 6 s."""
    found: dict[str, list[FloatArray]] = {}
    for folder in sorted((speech / "librispeech" / "test-other").iterdir()):
        found[folder.name] = [decode_all(path, RATE, 10.0) for path in sorted(folder.glob("*.flac"))]
    for path in sorted((speech / "ami").glob("*.flac")):
        (turns,) = parse_rttm(path.with_suffix(".rttm").read_text()).values()
        long = sorted({(Span(t.start, min(t.end, t.start + 6.0)), t.speaker) for t in turns if t.end - t.start >= 1.0})
        for (_, speaker), samples in zip(long, decode_spans(path, [span for span, _ in long], RATE), strict=True):
            found.setdefault(speaker, []).append(samples)
    return {voice: [np.ascontiguousarray(each) for each in segments] for voice, segments in found.items()}
