"""From segment vectors to one unit vector, and from speakers to a profile.

The pooled vector is the direction of the mean of unit segment vectors, weighted by seconds of speech. The length of
that mean (the mean resultant length of directional statistics; Mardia and Jupp, Directional Statistics, 2000) is kept:
vector * resultant * seconds gives the weighted sum back, so pooled embeddings can be merged exactly without audio.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from speakerdb.errors import DimensionMismatch, InvalidInput, NotFinite
from speakerdb.types import Embedding, FloatArray

SMALLEST_RESULTANT = 1e-6
"""Below this length the mean has no direction worth keeping: the segments cancel each other."""


def pool(vectors: FloatArray, seconds: Sequence[float]) -> Embedding:
    """One embedding from segment vectors of shape (n, dimension), n > 0, and the seconds (> 0) of each segment.

    `agreement` is the mean cosine over all pairs of different segments, each pair counted the same; with s the
    sum of the n unit vectors it is (s.s - n) / (n (n - 1)), so no pair is ever formed.

    Raises `NotFinite` for rows with NaN, infinity or only zeros (``details["rows"]``) and for segments that
    cancel each other, `InvalidInput` for shapes or seconds that do not fit.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    weights = np.asarray(seconds, dtype=np.float64)
    if rows.ndim != 2 or not rows.size or weights.shape != (len(rows),):
        raise InvalidInput(f"Vectors of shape {rows.shape} and {weights.size} durations cannot be pooled.")
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise InvalidInput("Every segment must have a positive number of seconds.")
    largest = np.abs(rows).max(axis=1)
    wrong = np.flatnonzero(~(np.isfinite(largest) & (largest > 0)))
    if wrong.size:
        raise NotFinite(
            f"The model gave {wrong.size} of {len(rows)} segments a vector that is not finite or zero.",
            rows=wrong.tolist(),
        )
    units = rows / largest[:, None]  # first to a size whose squares neither overflow nor vanish
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    agreement = None
    n = len(units)
    if n > 1:
        total = units.sum(axis=0)
        agreement = float(np.clip((total @ total - n) / (n * (n - 1)), -1.0, 1.0))
    return _embedding(weights @ units, float(weights.sum()), n, agreement)


def merge(embeddings: Sequence[Embedding]) -> Embedding:
    """One embedding from those of several speakers, the same as if all their segments were pooled at once.

    `agreement` is None unless there is one embedding only: the mean over all pairs of segments cannot be known
    without the segments.

    Raises `InvalidInput` for an empty sequence, `DimensionMismatch` for vectors of different dimension, `NotFinite`
    when the result has no direction.
    """
    if not embeddings:
        raise InvalidInput("Nothing to merge: a profile needs at least one embedding.")
    dimension = embeddings[0].vector.shape
    if any(e.vector.shape != dimension for e in embeddings):
        raise DimensionMismatch("Embeddings of different dimension cannot be merged.")
    if len(embeddings) == 1:
        return embeddings[0]
    total = np.zeros(dimension, dtype=np.float64)
    for e in embeddings:
        total += e.vector.astype(np.float64) * (e.resultant * e.seconds)
    return _embedding(total, sum(e.seconds for e in embeddings), sum(e.segments for e in embeddings), None)


def content_hash(vector: FloatArray | None, *filters: str | None) -> str:
    """32 hexadecimal characters that tell one document's content from another's: vector and filters, in order.

    The vector counts as little-endian float32. Every part is preceded by its kind and length, so no two contents are
    written the same way, and None differs from "".
    """
    parts = [b"-" if vector is None else b"v%d:" % vector.size + vector.astype("<f4", copy=False).tobytes()]
    for text in filters:
        if text is None:
            parts.append(b"-")
        else:
            encoded = text.encode("utf-8", "surrogatepass")
            parts.append(b"t%d:" % len(encoded) + encoded)
    return hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()


def _embedding(
    weighted_sum: npt.NDArray[np.float64], seconds: float, segments: int, agreement: float | None
) -> Embedding:
    length = float(np.linalg.norm(weighted_sum))
    resultant = length / seconds
    if not resultant >= SMALLEST_RESULTANT:  # also when it is NaN
        raise NotFinite("The segment vectors cancel each other: their mean has no direction.", resultant=resultant)
    return Embedding(
        vector=(weighted_sum / length).astype(np.float32),
        seconds=seconds,
        segments=segments,
        resultant=min(resultant, 1.0),
        agreement=agreement,
    )
