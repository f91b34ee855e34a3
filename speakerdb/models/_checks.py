"""What every embedder checks before and after its model: the rules of the port, once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from speakerdb.errors import InvalidInput, NotFinite
from speakerdb.types import FloatArray


def checked_segments(segments: Sequence[FloatArray], min_samples: int) -> list[FloatArray]:
    """The segments as contiguous 1-D float32 arrays, in their order; copied only where they were not contiguous.

    `InvalidInput` (with `details["segment"]`, its position) for the first one that is not 1-D float32, is shorter than
    `min_samples`, or holds NaN or infinity.
    """
    checked: list[FloatArray] = []
    for position, segment in enumerate(segments):
        array = np.asarray(segment)
        if array.ndim != 1 or array.dtype != np.float32:
            raise InvalidInput(
                f"Segment {position} is {array.ndim}-D {array.dtype}; an embedder takes 1-D float32.", segment=position
            )
        if array.size < min_samples:
            raise InvalidInput(
                f"Segment {position} has {array.size} samples; this model needs at least {min_samples}.",
                segment=position,
                samples=int(array.size),
                min_samples=min_samples,
            )
        if not np.isfinite(array).all():
            raise InvalidInput(f"Segment {position} holds samples that are not finite.", segment=position)
        checked.append(np.ascontiguousarray(array))
    return checked


def checked_rows(rows: FloatArray, model_id: str) -> FloatArray:
    """`rows` (n, dimension) as they are. `NotFinite` (with `details["rows"]`) where one is not finite or all zero."""
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1) | ~rows.any(axis=1)).tolist()
    if bad:
        raise NotFinite(f"{model_id} could not compute an embedding for {len(bad)} of {len(rows)} segments.", rows=bad)
    return rows
