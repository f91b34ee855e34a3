"""From a pyannote model in torch to a network that OpenVINO reads. Imports torch, and only where it is used."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

from speakerdb.errors import ModelUnavailable
from speakerdb.models._openvino import import_openvino
from speakerdb.models._probe import lowest_cosine, probe_voices
from speakerdb.models.features import Fbank
from speakerdb.models.networks import About, Network
from speakerdb.models.openvino import PARITY, OpenVinoEmbedder
from speakerdb.models.pyannote import PyannoteEmbedder

logger = logging.getLogger(__name__)

ARCHITECTURES = ("WeSpeakerResNet34", "XVectorSincNet")
"""Those that can be converted. Others stay with torch."""
_EXAMPLE_SECONDS = 3


def convert(embedder: PyannoteEmbedder, checkpoint: str) -> Network:
    """The network of a loaded model, `checkpoint` being the SHA-256 it was loaded from. Takes some seconds.

    `ModelUnavailable` where its architecture is none that is converted, where converting fails, or where what comes out does
    not give pyannote's own vectors (cosine under `PARITY`).
    """
    model = embedder.model
    architecture = type(model).__name__
    if architecture not in ARCHITECTURES:
        raise ModelUnavailable(
            f"{architecture} is not converted to OpenVINO; that is done for {_listed(ARCHITECTURES)}"
        )
    fbank = None
    if architecture == "WeSpeakerResNet34":
        fbank = Fbank.of(model.hparams)
        if fbank is None:
            raise ModelUnavailable("its features are not those that are made for OpenVINO")
    about = About(checkpoint, architecture, embedder.dimension, embedder.sample_rate, embedder.min_samples, fbank)
    try:
        graph, weights = _traced(model, fbank)
    except MemoryError:
        raise  # it says nothing about the model
    except Exception as error:
        # Tracing runs the model's own code, and OpenVINO's, which may raise anything.
        raise ModelUnavailable(f"it could not be converted to OpenVINO ({type(error).__name__})") from error
    network = Network(about, graph, weights)
    parity = parity_of(OpenVinoEmbedder(network, model_id=embedder.model_id), embedder)
    if parity < PARITY:
        raise ModelUnavailable(f"converted to OpenVINO its vectors are other ones (cosine {parity:.5f})")
    logger.info("network-converted", extra={"checkpoint": checkpoint, "parity": parity})
    return network


def parity_of(candidate: OpenVinoEmbedder, embedder: PyannoteEmbedder) -> float:
    """The least cosine between what both give for some made-up voices."""
    voices = probe_voices(embedder.sample_rate)
    return lowest_cosine(candidate.embed(voices), embedder.embed_on_cpu(voices))


def files_of(graph: Any) -> tuple[bytes, bytes]:
    """A network of OpenVINO's as its two files. Nothing is rounded to half precision."""
    openvino = import_openvino()
    with tempfile.TemporaryDirectory(prefix="speakerdb-network-") as folder:
        path = Path(folder) / "network.xml"
        openvino.save_model(graph, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def _traced(model: Any, fbank: Fbank | None) -> tuple[bytes, bytes]:
    import torch

    openvino = import_openvino()

    class Resnet(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.resnet = model.resnet

        def forward(self, features: Any) -> Any:
            return self.resnet(features)[1]

    class SincNet(torch.nn.Module):  # type: ignore[misc]
        # The model itself cannot be traced: parts of it exist only while it is trained.
        def __init__(self) -> None:
            super().__init__()
            self.sincnet, self.tdnns = model.sincnet, model.tdnns
            self.stats_pool, self.embedding = model.stats_pool, model.embedding

        def forward(self, waveform: Any) -> Any:
            frames = self.sincnet(waveform)
            for tdnn in self.tdnns:
                frames = tdnn(frames)
            return self.embedding(self.stats_pool(frames))

    samples = _EXAMPLE_SECONDS * int(model.hparams.sample_rate)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracing warns of every number that it takes for a constant
        if fbank is not None:
            example, shape = torch.zeros(1, 100 * _EXAMPLE_SECONDS, fbank.bands), (1, -1, fbank.bands)
            graph = openvino.convert_model(Resnet().eval(), example_input=example, input=[shape])
        else:
            example = torch.zeros(1, 1, samples)
            graph = openvino.convert_model(SincNet().eval(), example_input=example, input=[(1, 1, -1)])
    return files_of(graph)


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(names)
