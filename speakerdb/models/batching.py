"""Batches of segments for a GPU: of different lengths, and still each segment as if it had passed alone.

A segment is lengthened with zeros to the longest of its batch, and what that adds is taken away wherever it would count: the
features' mean is taken over a segment's own frames; after every batch normalisation of the ResNet the frames beyond its end
are zero again, which is what a convolution sees beyond the end of a segment that passes alone; and the pooling weighs them
with zero. XVectorSincNet normalises over the whole input in its first layers: there only equal lengths share a batch.

Segments are sorted by length, so little is computed in vain. When memory runs out a batch is halved and goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from speakerdb.types import FloatArray

logger = logging.getLogger(__name__)

BATCH_SAMPLES = 32 * 6 * 16_000
"""Samples in a batch at most, what it was lengthened by included: 32 segments of 6 s keep any GPU busy."""
BYTES_A_SAMPLE = 512
"""Memory that a sample in a batch takes in float32: five tensors of ResNet34's first layer (32 channels of 80 bands in
float32, for each 160 samples), and as much again for the convolutions' workspace, rounded up."""
LEAST_SHARE = 0.75
"""The shortest segment of a batch has at least so much of the longest one's length."""


class Batches:
    """A pyannote model on `device`, which takes segments in batches. `half`: its convolutions in half precision."""

    def __init__(self, model: Any, device: str, *, half: bool = False, free_bytes: int | None = None) -> None:
        """`free_bytes` of the device's memory are free (None: not known); half of them are for a batch."""
        self.device = device
        self.forwards = 0
        self.batch_samples = BATCH_SAMPLES
        if free_bytes is not None:
            self.batch_samples = min(BATCH_SAMPLES, free_bytes // 2 // BYTES_A_SAMPLE)
        self._model = model
        self._masks: dict[int, Any] = {}
        self.mixes = can_mask(model)
        """Whether segments of different lengths share a batch."""
        self.half = half and self.mixes
        if self.mixes:
            self._mask_after_normalising()

    def embed(self, arrays: Sequence[FloatArray]) -> FloatArray:
        """One row a segment, in the order of `arrays`. torch's errors pass through; out of memory is one only where a single
        segment does not fit."""
        import torch

        rows = np.zeros((len(arrays), int(self._model.dimension)), dtype=np.float32)
        waiting = list(self._sorted(arrays))
        while waiting:
            batch = waiting.pop(0)
            try:
                found = self.forward([arrays[position] for position in batch])
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                self._less(max(arrays[position].size for position in batch) * len(batch))
                middle = len(batch) // 2
                waiting[:0] = [batch[:middle], batch[middle:]]
                continue
            rows[batch] = found
            self.forwards += len(batch)
        return rows

    def forward(self, arrays: Sequence[FloatArray]) -> FloatArray:
        """One batch, shape (n, dimension)."""
        import torch

        lengths = [array.size for array in arrays]
        waves = np.zeros((len(arrays), max(lengths)), dtype=np.float32)
        for wave, array in zip(waves, arrays, strict=True):
            wave[: array.size] = array
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            given = torch.tensor(waves, device=self.device)[:, None]
            output = self._resnet(given, lengths) if self.mixes else self._model(given)
            rows: FloatArray = output.to("cpu", torch.float32).numpy()
        return rows

    def _resnet(self, waves: Any, lengths: Sequence[int]) -> Any:
        import torch

        model = self._model
        features = model.compute_fbank(waves)
        mixed = min(lengths) < max(lengths)
        if mixed:
            frames = torch.tensor([self._frames(length) for length in lengths], device=waves.device)
            mask = _mask(frames, features.shape[1])
            mean = (features * mask[:, :, None]).sum(dim=1) / frames[:, None]
            features = (features - mean[:, None, :]) * mask[:, :, None]
            self._masks = _halved(frames, features.shape[1])
        try:
            with self._precision(waves.device.type):
                found = model.resnet.forward_frames(features)
            weights = self._masks[found.shape[-1]] if mixed else None
            # Pooling and what comes after it stay in float32: half precision there moves hard recordings far.
            return model.resnet.forward_embedding(found.float(), weights=weights)[1]
        finally:
            self._masks = {}

    def _mask_after_normalising(self) -> None:
        import torch

        def silence(module: Any, given: Any, output: Any) -> Any:  # noqa: ARG001 - torch calls it so
            mask = self._masks.get(output.shape[-1])
            return None if mask is None else output * mask[:, None, None, :].to(output.dtype)

        for module in self._model.resnet.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.register_forward_hook(silence)

    def _precision(self, kind: str) -> Any:
        import torch

        if not self.half:
            return nullcontext()
        short = torch.bfloat16 if kind == "cpu" or torch.cuda.is_bf16_supported() else torch.float16
        return torch.autocast(kind, dtype=short)

    def _frames(self, samples: int) -> int:
        """Whole frames of features in a segment."""
        hparams = self._model.hparams
        length = int(hparams.sample_rate * hparams.frame_length * 0.001)
        step = int(hparams.sample_rate * hparams.frame_shift * 0.001)
        return 1 + (samples - length) // step

    def _sorted(self, arrays: Sequence[FloatArray]) -> Iterator[list[int]]:
        """Positions by batch, the longest segments first: what does not fit is known at once."""
        batch: list[int] = []
        longest = 0
        for position in sorted(range(len(arrays)), key=lambda at: -arrays[at].size):
            size = arrays[position].size
            share = LEAST_SHARE if self.mixes else 1.0
            if batch and (size < share * longest or (len(batch) + 1) * longest > self.batch_samples):
                yield batch
                batch = []
            if not batch:
                longest = size
            batch.append(position)
        if batch:
            yield batch

    def _less(self, samples: int) -> None:
        """A batch of so many samples did not fit: the next ones have at most half of that."""
        import torch

        self.batch_samples = max(1, min(self.batch_samples, samples) // 2)
        logger.warning(
            "batch-halved: out of memory on %s; batches have %d samples now", self.device, self.batch_samples
        )
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def can_mask(model: Any) -> bool:
    """Whether it is a WeSpeaker ResNet whose features are centred over the whole segment."""
    return (
        hasattr(model, "resnet")
        and hasattr(model, "compute_fbank")
        and model.hparams.fbank_centering_span is None
        and bool(model.hparams.snip_edges)
    )


def _mask(valid: Any, frames: int) -> Any:
    """1 for each frame that is a segment's own, shape (segments, frames)."""
    import torch

    return (torch.arange(frames, device=valid.device)[None, :] < valid[:, None]).to(torch.float32)


def _halved(valid: Any, frames: int) -> dict[int, Any]:
    """Masks by the number of frames, which each strided stage of the network halves and rounds up."""
    masks = {}
    while frames not in masks:
        masks[frames] = _mask(valid, frames)
        valid, frames = (valid + 1) // 2, (frames + 1) // 2
    return masks
