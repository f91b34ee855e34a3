"""How well the voices of a profile fit together, in one generation.

With unit vectors v_i and weights w_i (seconds of speech times the resultant length it was pooled with, the weights that a
profile is pooled by), S = sum of w_i v_i, and the centroid is S / |S|.

- *similarity* of a member: cosine of v_i with S - w_i v_i, the centroid of all *other* members. A voice that is part of
  the centroid would flatter itself. None where it is alone, or where the others cancel each other.
- *spread* of a profile: 1 - |S| / sum of w_i. 0 where all members have the same vector, 1 where they cancel each other.
- *limit*: a member whose similarity is below it is an outlier. It is
  max(candidate, min(accept, median - 3 d)) with d = max(0.01, 1.4826 MAD), where median and MAD (median absolute deviation,
  scaled as for a normal distribution) are those of the members' similarities, and `candidate` and `accept` are the
  generation's operating point. In words: what would not even be a candidate is always an outlier, what would be accepted is
  never one, and in between the members themselves say what is usual. With two members the limit is `candidate`:
  both are outliers or none, for nobody can tell which one is wrong.

Everything is gathered over parts, in two passes: memory is one part, and eight bytes a member.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speakerdb.types import FloatArray, OperatingPoint

Numbers = npt.NDArray[np.float64]

DEVIATIONS = 3.0
MAD_SCALE = 1.4826
SMALLEST_DEVIATION = 0.01
"""Members that agree better than this would otherwise make outliers of each other."""
FEWEST_FOR_DEVIATION = 3
_DIRECTION = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some members: ids, unit vectors of shape (n, dimension), weights of shape (n,), and all their seconds of speech."""

    ids: tuple[str, ...]
    vectors: FloatArray
    weights: Numbers
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """All members: S of shape (dimension,), the sum of weights, how many they are, and their seconds of speech."""

    total: Numbers
    weight: float
    members: int
    seconds: float

    @property
    def centroid(self) -> Numbers | None:
        """The direction of S, of unit norm; None where the members cancel each other."""
        length = float(np.linalg.norm(self.total))
        return None if length <= _DIRECTION * self.weight else self.total / length

    @property
    def spread(self) -> float:
        """1 - |S| / sum of weights, from 0 to 1."""
        return float(np.clip(1.0 - np.linalg.norm(self.total) / self.weight, 0.0, 1.0))


def gather(parts: Iterable[Part]) -> Gathered | None:
    """The first pass. None without any member."""
    total: Numbers | None = None
    weight, members, seconds = 0.0, 0, 0.0
    for part in parts:
        if part.ids:
            mine = part.weights @ part.vectors.astype(np.float64)
            total = mine if total is None else total + mine
            weight += float(part.weights.sum())
            members += len(part.ids)
            seconds += part.seconds
    return None if total is None else Gathered(total, weight, members, seconds)


def similarities(part: Part, gathered: Gathered) -> Numbers:
    """The second pass: each member's similarity, shape (n,); NaN where there is nothing to compare it with."""
    vectors = part.vectors.astype(np.float64)
    rest = gathered.total - part.weights[:, None] * vectors
    lengths = np.linalg.norm(rest, axis=1)
    comparable = (lengths > _DIRECTION * gathered.weight) & (gathered.members > 1)
    found = np.full(len(part.ids), np.nan)
    found[comparable] = np.einsum("ij,ij->i", vectors[comparable], rest[comparable]) / lengths[comparable]
    clipped: Numbers = np.clip(found, -1.0, 1.0)
    return clipped


def outlier_limit(found: Numbers, point: OperatingPoint) -> float | None:
    """The similarity below which a member is an outlier, from the similarities of all; None with fewer than two members."""
    known = found[np.isfinite(found)]
    if known.size < 2:
        return None
    if known.size < FEWEST_FOR_DEVIATION:
        return point.candidate
    median = float(np.median(known))
    deviation = max(SMALLEST_DEVIATION, MAD_SCALE * float(np.median(np.abs(known - median))))
    return max(point.candidate, min(point.accept, median - DEVIATIONS * deviation))
