"""Embedding models of pyannote.audio (WeSpeakerResNet34, XVectorSincNet) on torch.

torch and pyannote are imported when a model is loaded. Segments are never merely padded: these models normalise over the
whole input, and padding moves the embedding to another place altogether.

On the CPU one segment passes at a time, which is fastest there (larger batches lose their time to page faults), and
with torch's own number of threads. On CUDA they pass in batches (`batching.py`), in full float32 unless half precision was
asked for: the convolutions' default of TF32 would move the vectors away from those of the CPU.
"""

from __future__ import annotations

import copy
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from speakerdb.core.texts import first_line
from speakerdb.errors import ConfigurationError, DimensionMismatch, ExtractionError, ModelUnavailable
from speakerdb.models import memory
from speakerdb.models._checks import checked_rows, checked_segments
from speakerdb.models._probe import probe_voice
from speakerdb.models.batching import Batches
from speakerdb.types import FloatArray, ModelSpec

logger = logging.getLogger(__name__)

MIN_SECONDS = 0.5
"""Nothing shorter is embedded, whatever the network could take: half a second says too little of a voice."""
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


class PyannoteEmbedder:
    """`Embedder` around a `pyannote.audio.Model`. Made by `load`.

    `device` is where it computes now (``cpu`` or ``cuda:N``); `notices` is what a person should read once, and grows
    when CUDA fails in mid-run.
    """

    def __init__(self, model: Any, *, model_id: str, min_samples: int) -> None:
        self.model_id = model_id
        self.dimension = int(model.dimension)
        self.sample_rate = int(model.hparams.sample_rate)
        self.min_samples = min_samples
        self.notices: tuple[str, ...] = ()
        self.out_of_memory = False
        """Whether it runs on the CPU because the device that was asked for had no room."""
        self.model = model
        self._accelerated: Batches | None = None
        """A copy of the model on a CUDA device. The CPU's is kept: after a CUDA error nothing can be copied back."""
        self._forwards = 0

    @classmethod
    def load(
        cls,
        data: bytes,
        spec: ModelSpec,
        *,
        model_id: str,
        device: str = "auto",
        telemetry: bool = False,
        half: bool = False,
    ) -> PyannoteEmbedder:
        """The model in a checkpoint whose bytes were already accepted: unpickling them runs what is in them. `half`: in half
        precision, where it comes to a GPU and is a WeSpeaker ResNet.

        `ModelUnavailable` when they are no checkpoint, or one of another architecture than `spec` names;
        `DimensionMismatch`; `ConfigurationError` for a device that is not auto, cpu, cuda or cuda:N.
        """
        check_device(device)
        model_class = import_model_class(telemetry=telemetry)
        try:
            with quiet():
                model = model_class.from_pretrained(io.BytesIO(data), map_location="cpu")
        except MemoryError:
            raise  # it says nothing about the file
        except Exception as error:
            # Unpickling runs the file, so damaged bytes can raise anything.
            raise ModelUnavailable(
                f"this is not a pyannote.audio checkpoint, or it is damaged ({type(error).__name__})"
            ) from error
        check_fits(spec, type(model).__name__, getattr(model, "dimension", None))
        model.eval()
        embedder = cls(model, model_id=model_id, min_samples=_min_samples(model))
        embedder._probe(embedder._alone)
        embedder._place(device, half=half)
        return embedder

    @property
    def device(self) -> str:
        """Where `embed` computes now."""
        return self._accelerated.device if self._accelerated is not None else "cpu"

    @property
    def forwards(self) -> int:
        """Segments that have passed the network so far."""
        return self._forwards + (0 if self._accelerated is None else self._accelerated.forwards)

    @property
    def told(self) -> str:
        """How it is run, for a person."""
        if self._accelerated is None:
            return "f32"
        return f"{'half precision' if self._accelerated.half else 'f32'}, batches"

    def embed(self, segments: Sequence[FloatArray]) -> FloatArray:
        """One row a segment, shape (n, dimension), float32, not normalised; see the port.

        `NotFinite` and `InvalidInput` as the port says; `ExtractionError` when the network itself fails. A failure on
        CUDA is tried once more on the CPU, where the embedder then stays.
        """
        arrays = checked_segments(segments, self.min_samples)
        accelerated = self._accelerated
        if accelerated is not None:
            try:
                return checked_rows(accelerated.embed(arrays), self.model_id)
            except RuntimeError as error:  # all of torch's CUDA errors, out of memory too, are RuntimeErrors
                self._forwards += accelerated.forwards
                self._accelerated = None
                self._notice(
                    f"{accelerated.device} failed ({first_line(error)}); {self.model_id} goes on with the CPU."
                )
        return self.embed_on_cpu(arrays)

    def embed_on_cpu(self, arrays: Sequence[FloatArray]) -> FloatArray:
        """The same on the CPU, wherever the model is, for segments that were checked: what others are compared with."""
        rows = np.zeros((len(arrays), self.dimension), dtype=np.float32)
        try:
            for position, samples in enumerate(arrays):
                rows[position] = self._alone(samples)
                self._forwards += 1
        except RuntimeError as error:
            raise ExtractionError(f"{self.model_id} failed on a segment ({first_line(error)}).") from error
        return checked_rows(rows, self.model_id)

    def _alone(self, samples: FloatArray) -> FloatArray:
        """(samples,) to (dimension,): pyannote's own forward, on the CPU."""
        import torch

        # torch.tensor copies: it takes read-only arrays, and the caller's stay as they are.
        with torch.inference_mode():
            row: FloatArray = self.model(torch.tensor(samples)[None, None])[0].to(torch.float32).numpy()
        return row

    def _probe(self, forward: Callable[[FloatArray], FloatArray]) -> None:
        """Passes the shortest segment once: what is wrong with a model or a device shows before the first recording."""
        row = forward(probe_voice(self.min_samples, self.sample_rate))
        if row.shape != (self.dimension,) or not np.isfinite(row).all():
            raise ModelUnavailable(
                f"the model gives {row.shape} values that are not all finite, not ({self.dimension},)"
            )

    def _place(self, asked: str, *, half: bool) -> None:
        """Puts a copy on the CUDA device that was asked for, or says why it stays on the CPU."""
        if asked == "cpu":
            return
        import torch

        with warnings.catch_warnings(record=True) as said:
            # A driver that is too old is only a warning of torch's; it becomes the reason in the notice.
            warnings.simplefilter("always")
            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = int(asked.partition(":")[2] or 0)
        if count == 0 and asked == "auto":
            return
        if index >= count:
            reason = first_line(said[0].message) if said else f"torch sees {count} CUDA devices"
            self._notice(f"The device {asked} cannot be used ({reason}); {self.model_id} runs on the CPU.")
            return
        device = f"cuda:{index}"
        try:
            model = copy.deepcopy(self.model).to(device)
            batches = Batches(model, device, half=half, free_bytes=memory.free_on_gpu(device))
            self._probe(lambda samples: batches.forward([samples])[0])
        except (RuntimeError, ModelUnavailable) as error:
            self.out_of_memory = isinstance(error, torch.OutOfMemoryError)
            self._notice(f"The device {device} cannot be used ({first_line(error)}); {self.model_id} runs on the CPU.")
            return
        self._accelerated = batches

    def _notice(self, text: str) -> None:
        self.notices = (*self.notices, text)
        logger.warning("cuda-not-used: %s", text)


def import_model_class(*, telemetry: bool) -> Any:
    """`pyannote.audio.Model`, with pyannote's telemetry off unless it was asked for."""
    # Read at each use as well as at the first import, so it also holds where somebody else imported pyannote before.
    os.environ["PYANNOTE_METRICS_ENABLED"] = "1" if telemetry else "0"
    first_import = "pyannote.audio" not in sys.modules
    try:
        with quiet():
            from pyannote.audio import Model
            from pyannote.audio.telemetry import metrics
    except (ImportError, OSError, RuntimeError) as error:
        # A library of another CUDA build is an OSError, torchaudio of another build than torch's a RuntimeError. It is a
        # fault of the machine and no recording's: said once, with its work left in the queue.
        raise ConfigurationError(
            f"torch and pyannote.audio cannot be imported here ({type(error).__name__}: {first_line(error)}).",
            hint="Run `speakerdb doctor`; it says which of them is at fault, and what mends it.",
        ) from error
    if first_import and not telemetry:
        # Importing it starts an exporter's thread, which would wait for ever for something to send.
        metrics.provider.shutdown()
    return Model


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps what other libraries warn of while they are imported, or read an old checkpoint, from our users.

    They speak of FFmpeg, which speakerdb does not use, and of versions that a checkpoint was made with.
    """
    lightning = logging.getLogger("lightning.pytorch.utilities.migration.utils")
    level = lightning.level
    lightning.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        lightning.setLevel(level)


def check_device(device: str) -> None:
    """`ConfigurationError` for a device that is not auto, cpu, cuda or cuda:N."""
    if _DEVICE.fullmatch(device) is None:
        raise ConfigurationError(f"There is no device {device!r}.", hint="Use auto, cpu, cuda or cuda:N.")


def check_fits(spec: ModelSpec, architecture: str, dimension: object) -> None:
    """`DimensionMismatch` or `ModelUnavailable` where what a checkpoint holds is not what `spec` says."""
    if not isinstance(dimension, int):
        raise ModelUnavailable(f"the checkpoint holds {architecture}, which is no embedding model")
    if dimension != spec.dimension:
        raise DimensionMismatch(
            f"The checkpoint of {spec.id} holds {architecture} with {dimension} dimensions; "
            f"its generation states {spec.dimension}.",
            hint="Give the generation the checkpoint it was defined with. Another model is a new generation.",
            expected=spec.dimension,
            found=dimension,
        )
    if spec.architecture is not None and architecture != spec.architecture:
        raise ModelUnavailable(f"the checkpoint holds {architecture}, not {spec.architecture}")


def _min_samples(model: Any) -> int:
    """The shortest input with two frames before the pooling, and never under `MIN_SECONDS`.

    The pooling takes a standard deviation, which a single frame does not have: one frame gives NaN. At 16 kHz,
    XVectorSincNet needs about 5,000 samples for two frames and WeSpeakerResNet34 2,000, so half a second rules in both.
    """
    rate = int(model.hparams.sample_rate)
    low, high = 1, 10 * rate
    while low < high:
        middle = (low + high) // 2
        if model.num_frames(middle) >= 2:
            high = middle
        else:
            low = middle + 1
    return max(low, int(MIN_SECONDS * rate))
