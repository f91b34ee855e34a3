"""Exact cosine search over one concrete index, in memory. A cache: what it holds can be read again at any time.

One contiguous float32 matrix of unit rows, with parallel arrays of version, kind and filter codes. BLAS finds the
candidates; their scores are then computed again in float64 with a summation order that depends on the dimension
alone. So equal vectors have equal scores wherever they stand, a batch gives bit for bit what single queries give,
and ties are decided by id also at the cut.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from speakerdb.errors import InvalidInput
from speakerdb.types import Filter, FloatArray, Hit, Kind

Row: TypeAlias = tuple[str, int, Kind, str, str | None, str | None, bytes | None]
"""id, version, kind, library, recording, profile, and the vector as float32 bytes (None in a tombstone)."""

_Ints: TypeAlias = npt.NDArray[np.intp]
_Doubles: TypeAlias = npt.NDArray[np.float64]

_BLOCK = 1 << 24
"""Scores computed at once: 64 MiB of float32, so that a big batch over a big index stays bounded."""
_EXACT_ROWS = 256
_GROUPS = 64
_GROWTH = 1.125
_KINDS = tuple(Kind)


def unit_rows(vectors: npt.NDArray[np.floating]) -> _Doubles:
    """The rows of a (n, dimension) array divided by their norms, in float64, so that none over- or underflows."""
    rows = vectors.astype(np.float64)
    # Summed along the contiguous axis: the order of additions is the same for every row.
    rows /= np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    return rows


def checked_queries(queries: FloatArray, dimension: int, k: int) -> _Doubles:
    """Unit queries of shape (n, dimension). `InvalidInput` for another shape, NaN, infinity, a zero row, or k < 1."""
    array = np.asarray(queries)
    if array.ndim != 2 or array.shape[1] != dimension:
        raise InvalidInput(f"Queries have shape {array.shape}; this index takes (n, {dimension}).")
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise InvalidInput("Queries must be floating-point numbers, all of them finite.")
    if not array.any(axis=1).all():
        raise InvalidInput("A query of zero norm has no direction to search in.")
    if k < 1:
        raise InvalidInput(f"k is {k}; at least one hit must be asked for.")
    return unit_rows(array)


class Matrix:
    """The live vectors of one concrete index as of change `seen`. Hold `lock` while applying changes or searching."""

    def __init__(self, dimension: int) -> None:
        self.lock = threading.Lock()
        self._dimension = dimension
        # A float32 dot product of unit vectors is wrong by at most dimension * 2^-24 (Cauchy-Schwarz). Twice that, and
        # twice again for the rounding of the query: who is within it of the k-th score may belong to the best k.
        self._margin = np.float32(4 * (dimension + 2) * 2.0**-24)
        self.clear()

    def clear(self) -> None:
        """Forget everything, as if no change had been seen yet."""
        self.seen = 0
        self._count = 0
        self._ids: list[str] = []
        self._place: dict[str, int] = {}
        self._vectors = np.empty((0, self._dimension), np.float32)
        self._versions = np.empty(0, np.int64)
        self._kinds = np.empty(0, np.int32)
        self._libraries = np.empty(0, np.int32)
        self._recordings = np.empty(0, np.int32)
        self._profiles = np.empty(0, np.int32)
        self._kind_codes: dict[str | None, int] = {kind: code for code, kind in enumerate(_KINDS)}
        self._library_codes: dict[str | None, int] = {}
        self._recording_codes: dict[str | None, int] = {}
        self._profile_codes: dict[str | None, int] = {}

    def __len__(self) -> int:
        return self._count

    def reserve(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        if rows <= len(self._vectors):
            return
        size = max(rows, int(len(self._vectors) * _GROWTH))
        for name in ("_vectors", "_versions", "_kinds", "_libraries", "_recordings", "_profiles"):
            old = getattr(self, name)
            grown = np.empty((size, *old.shape[1:]), old.dtype)
            grown[: self._count] = old[: self._count]
            setattr(self, name, grown)

    def apply(self, rows: Sequence[Row]) -> None:
        """Take over new, changed and tombstoned rows, an id at most once. Doing it again changes nothing."""
        live = [row for row in rows if row[6] is not None]
        if len(live) < len(rows):
            for row in rows:
                if row[6] is None:
                    self._remove(row[0])
        if not live:
            return
        ids, versions, kinds, libraries, recordings, profiles, blobs = zip(*live, strict=True)
        data = np.frombuffer(b"".join(blobs), "<f4").reshape(len(live), self._dimension)
        places: slice | _Ints
        if self._place.keys().isdisjoint(ids):  # all are new, as in the first reading of an index: they stand together
            places = slice(self._count, self._count + len(ids))
            self.reserve(places.stop)
            self._place.update(zip(ids, range(places.start, places.stop), strict=True))
            self._ids += ids
            self._count = places.stop
        else:
            self.reserve(self._count + sum(id not in self._place for id in ids))
            places = np.fromiter((self._place_of(id) for id in ids), np.intp, len(ids))
        self._vectors[places] = unit_rows(data)
        self._versions[places] = versions
        self._kinds[places] = _coded(self._kind_codes, kinds)
        self._libraries[places] = _coded(self._library_codes, libraries)
        self._recordings[places] = _coded(self._recording_codes, recordings)
        self._profiles[places] = _coded(self._profile_codes, profiles)

    def _place_of(self, id: str) -> int:
        place = self._place.get(id)
        if place is None:
            place = self._place[id] = self._count
            self._ids.append(id)
            self._count += 1
        return place

    def _remove(self, id: str) -> None:
        """Move the last row to where `id` was."""
        place = self._place.pop(id, None)
        if place is None:
            return
        self._count -= 1
        last_id = self._ids.pop()
        if place == self._count:
            return
        self._ids[place] = last_id
        self._place[last_id] = place
        for column in (
            self._vectors, self._versions, self._kinds, self._libraries, self._recordings, self._profiles,
        ):  # fmt: skip
            column[place] = column[self._count]

    def search(self, queries: _Doubles, k: int, where: Filter) -> list[list[Hit]]:
        """The k best rows for each of the unit `queries` (n, dimension), best first, ties by id."""
        vectors = self._vectors[: self._count]
        rows: _Ints | None = None
        keep: npt.NDArray[np.bool_] | None = None
        if where != Filter():
            keep = self._kept(where)
            kept = int(np.count_nonzero(keep))
            k = min(k, kept)
            if kept == self._count:
                keep = None
            elif kept * 8 < self._count:  # Few rows are cheaper to copy than all are to multiply.
                rows = np.flatnonzero(keep)
                vectors = vectors[rows]
                keep = None
        k = min(k, self._count)
        if k == 0:
            return [[] for _ in queries]
        found = []
        narrow = queries.astype(np.float32)
        step = max(1, _BLOCK // len(vectors))
        for start in range(0, len(queries), step):
            block = queries[start : start + step]
            scores = narrow[start : start + step] @ vectors.T
            if keep is not None:
                scores[:, np.flatnonzero(~keep)] = -np.inf
            near = np.flatnonzero(scores >= (_floors(scores, k) - self._margin)[:, None])
            asked, places = np.divmod(near, len(vectors))
            if keep is not None:
                asked, places = asked[keep[places]], places[keep[places]]
            if rows is not None:
                places = rows[places]
            exact = self._exact(block, asked, places)
            bounds = np.searchsorted(asked, np.arange(len(block) + 1)).tolist()
            for begin, end in pairwise(bounds):
                found.append(self._ranked(exact[begin:end], places[begin:end], k))
        return found

    def _kept(self, where: Filter) -> npt.NDArray[np.bool_]:
        """Which rows a filter leaves, as a mask."""
        keep = np.ones(self._count, np.bool_)
        for wanted, codes, column in (
            (where.kinds, self._kind_codes, self._kinds),
            (where.library_ids, self._library_codes, self._libraries),
            (where.recording_ids, self._recording_codes, self._recordings),
            (where.profile_ids, self._profile_codes, self._profiles),
        ):
            if wanted is not None:
                keep &= _is_any(column[: self._count], wanted, codes)
        if where.exclude_recording_ids:
            keep &= ~_is_any(self._recordings[: self._count], where.exclude_recording_ids, self._recording_codes)
        keep[[self._place[id] for id in where.exclude_ids if id in self._place]] = False
        return keep

    def _exact(self, queries: _Doubles, asked: _Ints, places: _Ints) -> _Doubles:
        """The cosine of the queries numbered `asked` with the rows at `places`, pair by pair, in float64."""
        score = np.empty(len(places), np.float64)
        for start in range(0, len(places), _EXACT_ROWS):
            part = slice(start, start + _EXACT_ROWS)
            rows = self._vectors[places[part]].astype(np.float64)
            # The rows are of unit norm to float32's precision only, which is first order in the score.
            norms = np.sqrt((rows * rows).sum(axis=1))
            score[part] = (rows * queries[asked[part]]).sum(axis=1) / norms
        return np.clip(score, -1.0, 1.0, out=score)

    def _ranked(self, score: _Doubles, places: _Ints, k: int) -> list[Hit]:
        """The k best of the candidate rows by their exact score, ties by id."""
        if len(places) > 4 * k:
            best = score >= np.partition(score, -k)[-k]
            places, score = places[best], score[best]
        ids, versions, kinds = self._ids, self._versions, self._kinds
        ranked = sorted([(-s, ids[place], place) for s, place in zip(score.tolist(), places.tolist(), strict=True)])
        return [Hit(id, -negative, int(versions[place]), _KINDS[kinds[place]]) for negative, id, place in ranked[:k]]


def _coded(codes: dict[str | None, int], values: Sequence[str | None]) -> list[int]:
    """A small integer for each value; a value that was not seen before gets the next one."""
    new = [value for value in dict.fromkeys(values) if value not in codes]
    codes.update(zip(new, range(len(codes), len(codes) + len(new)), strict=True))
    return [codes[value] for value in values]


def _is_any(
    column: npt.NDArray[np.int32], wanted: Sequence[str], codes: dict[str | None, int]
) -> npt.NDArray[np.bool_]:
    known = np.array([codes[value] for value in wanted if value in codes], np.int32)
    if len(known) == 1:
        return np.asarray(column == known[0])
    return np.isin(column, known)


def _floors(scores: FloatArray, k: int) -> FloatArray:
    """For each row of `scores` (n, m) a value that its k-th largest score is not below, and close to it; 1 <= k <= m.

    The k-th largest of the maxima of disjoint groups is such a bound, and far cheaper than a partition of all scores.
    A group takes every `width`-th column, because rows that were written together are often alike.
    """
    width = scores.shape[1] // _GROUPS
    if width >= 4 * k:
        scores = scores[:, : width * _GROUPS].reshape(len(scores), _GROUPS, width).max(axis=1)
    return np.asarray(np.partition(scores, -k, axis=1)[:, -k])
