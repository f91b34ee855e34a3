"""Embedding networks on OpenVINO: converted from a loaded pyannote model once, and from then on without torch.

A WeSpeaker network takes features, which are made here (`features.py`); XVectorSincNet takes the waveform. Shapes are dynamic
and one segment passes at a time, so none is padded; several pass beside each other, each in a stream of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from speakerdb.core.texts import first_line
from speakerdb.errors import ExtractionError, ModelUnavailable, NotFinite
from speakerdb.models._checks import checked_rows, checked_segments
from speakerdb.models._openvino import import_openvino
from speakerdb.models._probe import lowest_cosine, probe_voice, probe_voices
from speakerdb.models.networks import Network
from speakerdb.models.processor import multiplies_bf16, threads
from speakerdb.types import FloatArray

PARITY = 0.9999
"""The least cosine to pyannote's own forward at which a back end may answer for a float generation."""
STREAMS = 2
"""Segments that pass beside each other, where there are as many threads."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a network is run: in numbers of which precision (``f32`` or ``bf16``; what was quantised stays so), and streams."""

    precision: str = "f32"
    streams: int = STREAMS


class OpenVinoEmbedder:
    """`Embedder` around a converted network."""

    notices: tuple[str, ...] = ()
    device = "cpu"

    def __init__(self, network: Network, *, model_id: str, plan: Plan | None = None) -> None:
        """Compile it for this processor, in less than a second, and try it. `ModelUnavailable` where it cannot be used."""
        about = network.about
        self.model_id = model_id
        self.dimension = about.dimension
        self.sample_rate = about.sample_rate
        self.min_samples = about.min_samples
        self.plan = plan or Plan()
        self._streams = max(1, min(self.plan.streams, threads()))
        self._fbank = about.fbank
        self._forwards = 0
        self._one_caller = threading.Lock()
        openvino = import_openvino()
        properties = {
            "NUM_STREAMS": str(self._streams),
            "INFERENCE_NUM_THREADS": threads(),  # a worker's share of the cores
            "INFERENCE_PRECISION_HINT": self.plan.precision,
            # Several workers would each be bound to the same first cores.
            "ENABLE_CPU_PINNING": False,
            # It would keep what it compiled for every length there ever was: 0.3 MB each, and no faster for it.
            "CPU_RUNTIME_CACHE_CAPACITY": 0,
        }
        try:
            core = openvino.Core()
            self._compiled = core.compile_model(
                core.read_model(model=network.graph, weights=network.weights), "CPU", properties
            )
            self._queue_class = openvino.AsyncInferQueue
            self._queue = self._new_queue()
            self.embed([probe_voice(self.min_samples, self.sample_rate)])
        except (RuntimeError, ValueError, ExtractionError, NotFinite) as error:
            raise ModelUnavailable(f"OpenVINO cannot use the converted network ({first_line(error)})") from error

    @property
    def forwards(self) -> int:
        """Passes through the network so far."""
        return self._forwards

    @property
    def told(self) -> str:
        """How it is run, for a person."""
        return f"{self.plan.precision}, {self._streams} stream{'' if self._streams == 1 else 's'}"

    def embed(self, segments: Sequence[FloatArray]) -> FloatArray:
        """One row a segment, shape (n, dimension), float32, not normalised; see the port. One caller at a time, others wait.

        `NotFinite` and `InvalidInput` as the port says; `ExtractionError` when the network itself fails.
        """
        arrays = checked_segments(segments, self.min_samples)
        rows = np.zeros((len(arrays), self.dimension), dtype=np.float32)
        with self._one_caller:
            try:
                # The longest first, so that the streams end together.
                for position in sorted(range(len(arrays)), key=lambda at: -arrays[at].size):
                    self._queue.start_async([self.inputs(arrays[position])], (rows, position))
                self._queue.wait_all()
            except RuntimeError as error:
                self._queue = self._new_queue()
                raise ExtractionError(f"{self.model_id} failed on a segment ({first_line(error)}).") from error
            self._forwards += len(arrays)
        return checked_rows(rows, self.model_id)

    def inputs(self, samples: FloatArray) -> FloatArray:
        """What the network takes for a segment: features (1, frames, bands), or the waveform (1, 1, samples)."""
        return self._fbank(samples)[None] if self._fbank is not None else samples[None, None]

    def _new_queue(self) -> Any:
        queue = self._queue_class(self._compiled, self._streams)
        queue.set_callback(_keep)
        return queue


def for_this_machine(network: Network, *, model_id: str) -> OpenVinoEmbedder:
    """The network with the plan that suits the processor: bf16 where it multiplies such numbers by itself and the vectors
    stay what they are, else f32."""
    exact = OpenVinoEmbedder(network, model_id=model_id)
    if network.about.arithmetic != "float" or not multiplies_bf16():
        return exact
    half = OpenVinoEmbedder(network, model_id=model_id, plan=Plan("bf16"))
    voices = probe_voices(exact.sample_rate)
    return half if lowest_cosine(half.embed(voices), exact.embed(voices)) >= PARITY else exact


def _keep(request: Any, place: tuple[FloatArray, int]) -> None:
    rows, position = place
    rows[position] = request.get_output_tensor(0).data[0]
