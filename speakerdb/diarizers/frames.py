"""The part of an embedding network before its pooling, on torch or OpenVINO: one pass a chunk, whoever speaks in it.

What comes out is pooled once a speaker, by torch, which costs next to nothing. OpenVINO's network is converted at first use
and kept in the folder of models beside the extractor's (`models.networks`); which back end is the fastest is measured once and
remembered, in the same way as the extractor's (`models.choosing`).
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from speakerdb.core.texts import first_line
from speakerdb.errors import ConfigurationError, DiarizationFailed, ModelUnavailable
from speakerdb.models._openvino import import_openvino
from speakerdb.models._probe import probe_voice
from speakerdb.models.choosing import Candidate, Choices, measure
from speakerdb.models.converting import files_of
from speakerdb.models.features import Fbank
from speakerdb.models.networks import About, Network, Networks
from speakerdb.models.openvino import STREAMS, Plan
from speakerdb.models.processor import multiplies_bf16, this_machine, threads
from speakerdb.types import FloatArray

logger = logging.getLogger(__name__)

FOLDER = "diarizer"
"""In the folder of models."""
ARCHITECTURE = "WeSpeakerResNet34"
"""The one that is converted; any WeSpeaker network is shared on torch."""


class Frames(Protocol):
    """Chunks of sound, tensors (1, samples), to what the network makes of each before its pooling, (1, ..., frames)."""

    @property
    def told(self) -> str:
        """What computes, for a person."""

    def __call__(self, chunks: Iterable[Any]) -> Iterator[Any]:
        """In the order of the chunks; some are read ahead."""


class TorchFrames:
    """On torch, wherever the model is: alone on a processor, where that is fastest, in batches on a GPU."""

    def __init__(self, model: Any, batch: int = 1) -> None:
        self._model = model
        self.batch = batch

    @property
    def told(self) -> str:
        return f"torch on {self._model.device}"

    def __call__(self, chunks: Iterable[Any]) -> Iterator[Any]:
        import torch

        waiting = iter(chunks)
        while group := list(islice(waiting, self.batch)):
            with torch.inference_mode():
                made = self._model.forward_frames(torch.stack(group).to(self._model.device))
            yield from made.split(1)


class OpenVinoFrames:
    """On OpenVINO, some chunks beside each other."""

    def __init__(self, network: Network, plan: Plan) -> None:
        """`ModelUnavailable` where the network cannot be used."""
        if network.about.fbank is None:
            raise ModelUnavailable("the converted network does not say what its features are")
        self._fbank = network.about.fbank
        self._streams = max(1, min(plan.streams, threads()))
        self.told = f"openvino {plan.precision}, {self._streams} streams"
        openvino = import_openvino()
        properties = {
            "NUM_STREAMS": str(self._streams),
            "INFERENCE_NUM_THREADS": threads(),
            "INFERENCE_PRECISION_HINT": plan.precision,
            "ENABLE_CPU_PINNING": False,
        }
        try:
            core = openvino.Core()
            compiled = core.compile_model(
                core.read_model(model=network.graph, weights=network.weights), "CPU", properties
            )
            self._queue = openvino.AsyncInferQueue(compiled, self._streams)
            self._queue.set_callback(_keep)
        except (RuntimeError, ValueError) as error:
            raise ModelUnavailable(f"OpenVINO cannot use the converted network ({first_line(error)})") from error
        self._one_caller = threading.Lock()

    def __call__(self, chunks: Iterable[Any]) -> Iterator[Any]:
        import torch

        waiting = iter(chunks)
        while group := list(islice(waiting, 2 * self._streams)):
            made: list[FloatArray] = [np.zeros(0, np.float32)] * len(group)
            with self._one_caller:
                try:
                    for place, chunk in enumerate(group):
                        self._queue.start_async([self._fbank(chunk[0].numpy())[None]], (made, place))
                    self._queue.wait_all()
                except RuntimeError as error:
                    raise DiarizationFailed(f"OpenVINO failed on a chunk ({first_line(error)}).") from error
            yield from map(torch.from_numpy, made)


def _keep(request: Any, place: tuple[list[FloatArray], int]) -> None:
    made, index = place
    made[index] = request.get_output_tensor(0).data.copy()


def choose(model: Any, checkpoint: str, *, backend: str, batch: int, folder: Path | None) -> tuple[Frames, str]:
    """The back end for an embedding model that was loaded from the file of a checksum, and a notice where another than the one
    asked for computes (else empty). `folder` is that of models."""
    own = TorchFrames(model, batch)
    if backend == "torch" or str(model.device) != "cpu":
        return own, ""
    try:
        kept = _Kept(model, checkpoint, folder)
        if backend == "openvino":
            return OpenVinoFrames(kept.network(), Plan()), ""
        return (own if folder is None else _fastest(own, model, checkpoint, folder, kept.network)), ""
    except (ModelUnavailable, ConfigurationError) as error:
        if backend == "auto":
            logger.info("diarizer-openvino-not-used: %s", error.message)
            return own, ""
        logger.warning("diarizer-openvino-not-used: %s", error.message)
        return own, f"OpenVINO is not used: {error.message}. torch computes."
    except OSError as error:
        logger.warning("diarizer-choice-not-kept: %s", error)
        return own, f"The folder of models cannot be written ({error.strerror}), so torch is used, fastest or not."


def _fastest(own: Frames, model: Any, checkpoint: str, folder: Path, network: Callable[[], Network]) -> Frames:
    choices, machine = Choices(folder / FOLDER), this_machine()
    choice = choices.remembered(checkpoint, machine)
    if choice is None:
        with choices.alone():
            choice = choices.remembered(checkpoint, machine)
            if choice is None:
                candidates = [
                    Candidate("openvino", precision, STREAMS, _maker(model, network, Plan(precision, STREAMS)))
                    for precision in (("f32", "bf16") if multiplies_bf16() else ("f32",))
                ]
                choice = measure("diarizer", checkpoint, machine, _WholeChunks(own, model), candidates)
                choices.keep(choice)
    best = choice.best
    return own if best.backend == "torch" else OpenVinoFrames(network(), Plan(best.precision, best.streams))


def _maker(model: Any, network: Callable[[], Network], plan: Plan) -> Callable[[], _WholeChunks]:
    return lambda: _WholeChunks(OpenVinoFrames(network(), plan), model)


class _WholeChunks:
    """An `Embedder`, so that back ends can be compared: whole segments, pooled without a mask."""

    def __init__(self, frames: Frames, model: Any) -> None:
        self._frames, self._model = frames, model
        self.model_id, self.forwards = "diarizer", 0
        self.dimension, self.sample_rate = int(model.dimension), int(model.hparams.sample_rate)
        self.min_samples = self.sample_rate

    def embed(self, segments: Sequence[FloatArray]) -> FloatArray:
        """One row a segment."""
        import torch

        rows = []
        with torch.inference_mode():
            for segment in segments:
                (frames,) = self._frames([torch.tensor(segment)[None]])
                rows.append(self._model.forward_embedding(frames.to(self._model.device))[0].cpu().numpy())
        self.forwards += len(rows)
        return np.stack(rows).astype(np.float32)


class _Kept:
    """The network for OpenVINO, converted where it was not, or where what was kept is damaged."""

    def __init__(self, model: Any, checkpoint: str, folder: Path | None) -> None:
        self._model, self._checkpoint = model, checkpoint
        self._networks = None if folder is None else Networks(folder / FOLDER, metadata.version("openvino"))

    def network(self) -> Network:
        """`ModelUnavailable` where it cannot be converted; `ConfigurationError` without OpenVINO."""
        kept = None if self._networks is None else self._networks.get(self._checkpoint)
        if kept is not None:
            return kept
        made = _converted(self._model, self._checkpoint)
        if self._networks is not None:
            self._networks.put(made)
        return made


def _converted(model: Any, checkpoint: str) -> Network:
    fbank = Fbank.of(model.hparams) if type(model).__name__ == ARCHITECTURE else None
    if fbank is None:
        raise ModelUnavailable(f"{type(model).__name__} is not converted to OpenVINO")
    rate = int(model.hparams.sample_rate)
    about = About(checkpoint, ARCHITECTURE, int(model.dimension), rate, rate // 2, fbank)
    try:
        graph, weights = _traced(model, fbank)
    except MemoryError:
        raise  # it says nothing about the model
    except ConfigurationError:
        raise  # there is no OpenVINO
    except Exception as error:
        # Tracing runs the model's own code, and OpenVINO's, which may raise anything.
        raise ModelUnavailable(f"it could not be converted to OpenVINO ({type(error).__name__})") from error
    logger.info("diarizer-network-converted", extra={"checkpoint": checkpoint})
    return Network(about, graph, weights)


def _traced(model: Any, fbank: Fbank) -> tuple[bytes, bytes]:
    import torch

    openvino = import_openvino()

    class Backbone(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.resnet = model.resnet

        def forward(self, features: Any) -> Any:
            return self.resnet.forward_frames(features)

    example = torch.from_numpy(fbank(probe_voice(3 * fbank.sample_rate, fbank.sample_rate)))[None]
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracing warns of every number that it takes for a constant
        graph = openvino.convert_model(Backbone().eval(), example_input=example, input=[(1, -1, fbank.bands)])
    return files_of(graph)
