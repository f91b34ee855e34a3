"""The embeddings of all speakers of all chunks, from one pass a chunk through the network.

pyannote's own `get_embeddings` passes a chunk once for each speaker slot of its segmentation, whether somebody talks in that slot
or not: the network before its pooling sees the same sound each time. Here it sees it once, and what it gives is pooled with
the mask of each slot. A chunk in which nobody talks does not pass at all: an empty mask gives the same row whatever the sound
is, and the pipeline throws it away later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from speakerdb.diarizers.frames import Frames

Masks = npt.NDArray[np.float32]
Embeddings = npt.NDArray[np.float32]
Hook = Callable[..., None]


def can_share(model: Any) -> bool:
    """Whether an embedding model can be cut before its pooling."""
    return hasattr(model, "forward_frames") and hasattr(model, "forward_embedding")


def shared_embeddings(
    pipeline: Any, frames: Frames, file: Any, binary: Any, exclude_overlap: bool = False, hook: Hook | None = None
) -> Embeddings:
    """What the pipeline's `get_embeddings` gives, shape (chunks, slots, dimension). `binary` is a `SlidingWindowFeature` of
    shape (chunks, frames, slots) that says who talks."""
    import torch

    model = pipeline._embedding.model_
    masks = _masks(pipeline, binary, exclude_overlap)
    chunks, slots, _ = masks.shape
    talking = np.flatnonzero(masks.any(axis=(1, 2)))
    found = np.zeros((chunks, slots, int(model.dimension)), np.float32)
    silent = None
    if hook is not None:
        hook("embeddings", None, total=len(talking), completed=0)
    with torch.inference_mode():
        passed = frames(_sounds(pipeline, file, binary.sliding_window, talking))
        for done, (chunk, made) in enumerate(zip(talking, passed, strict=True), start=1):
            there = made.to(model.device)
            weights = torch.from_numpy(masks[chunk][None]).to(model.device)
            found[chunk] = model.forward_embedding(there, weights=weights)[0].cpu().numpy()
            if silent is None:
                nobody = torch.zeros_like(weights[:, :1])
                silent = model.forward_embedding(there, weights=nobody)[0, 0].cpu().numpy()
            if hook is not None:
                hook("embeddings", None, total=len(talking), completed=done)
    found[~masks.any(axis=2)] = silent if silent is not None else 0.0
    return found


def _masks(pipeline: Any, binary: Any, exclude_overlap: bool) -> Masks:
    """The mask of each slot, shape (chunks, slots, frames): where it talks, without where others do too, unless that leaves
    too little for an embedding."""
    talks = np.nan_to_num(np.asarray(binary.data, np.float32), nan=0.0)
    whole: Masks = talks.transpose(0, 2, 1)
    if not exclude_overlap:
        return np.ascontiguousarray(whole)
    alone = (talks * (talks.sum(axis=2, keepdims=True) < 2)).transpose(0, 2, 1)
    samples = binary.sliding_window.duration * pipeline._embedding.sample_rate
    least = math.ceil(talks.shape[1] * pipeline._embedding.min_num_samples / samples)
    return np.ascontiguousarray(np.where(alone.sum(axis=2, keepdims=True) > least, alone, whole))


def _sounds(pipeline: Any, file: Any, window: Any, chunks: npt.NDArray[np.intp]) -> Iterator[Any]:
    """The sound of some chunks, (1, samples) each; the last one is filled up with silence, as the pipeline does it."""
    for chunk in chunks:
        yield pipeline._audio.crop(file, window[int(chunk)], mode="pad")[0]
