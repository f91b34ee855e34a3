"""What the tests of a vector index expect, by plain dicts and NumPy in float64, sharing no code with an adapter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from speakerdb.core.digests import BucketDigest, bucket_of, digest_of
from speakerdb.index.port import VectorIndex
from speakerdb.types import Document, Filter, Hit, Kind, WriteOutcome

DIMENSION = 8
TOLERANCE = 1e-5
_ANY = Filter()

W, C, R = WriteOutcome.WRITTEN, WriteOutcome.CONFLICT, WriteOutcome.REJECTED


def unit(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Rows of unit norm, float32."""
    array = np.asarray(values, np.float64)
    return np.asarray(array / np.linalg.norm(array, axis=-1, keepdims=True), np.float32)


def vectors(count: int, seed: int = 0, dimension: int = DIMENSION) -> npt.NDArray[np.float32]:
    """Random directions, shape (count, dimension)."""
    return unit(np.random.default_rng(seed).standard_normal((count, dimension)))


def document(
    id: str,
    version: int = 1,
    vector: npt.NDArray[Any] | None = None,
    *,
    deleted: bool = False,
    kind: Kind = Kind.SPEAKER,
    library: str = "library",
    recording: str | None = "recording",
    profile: str | None = None,
) -> Document:
    """A document whose vector follows from id and version unless it is given."""
    if vector is None and not deleted:
        vector = vectors(1, seed=[version, *id.encode()])[0]  # type: ignore[arg-type]
    return Document(id, version, f"hash-{id}-{version}", kind, library, recording, profile, vector)


def outcomes(index: VectorIndex, alias: str, documents: Sequence[Document]) -> list[WriteOutcome]:
    """Write, check that the report has one line a document in order, and return what became of each."""
    results = index.bulk(alias, documents)
    assert [result.id for result in results] == [d.id for d in documents]
    return [result.outcome for result in results]


def same(left: Document, right: Document) -> bool:
    """Whether two documents are equal, the vectors bit for bit in float32."""
    fields = ("id", "version", "content_hash", "kind", "library_id", "recording_id", "profile_id")
    if any(getattr(left, name) != getattr(right, name) for name in fields):
        return False
    if left.vector is None or right.vector is None:
        return left.vector is right.vector
    return bool(np.array_equal(np.asarray(left.vector, np.float32), np.asarray(right.vector, np.float32)))


def passes(d: Document, where: Filter) -> bool:
    """What a filter means, said once more."""
    return (
        (where.kinds is None or d.kind in where.kinds)
        and (where.library_ids is None or d.library_id in where.library_ids)
        and (where.recording_ids is None or d.recording_id in where.recording_ids)
        and (where.profile_ids is None or d.profile_id in where.profile_ids)
        and d.id not in where.exclude_ids
        and d.recording_id not in where.exclude_recording_ids
    )


def digests(documents: Iterable[Document]) -> dict[int, BucketDigest]:
    """What an index that holds these documents says of them."""
    found: dict[int, BucketDigest] = {}
    for d in documents:
        before = found.get(bucket_of(d.id), BucketDigest(0, 0))
        digest = before.digest + digest_of(d.id, d.version, d.content_hash)
        found[bucket_of(d.id)] = BucketDigest(before.documents + 1, digest)
    return found


def assert_hits(
    hits: Sequence[Hit], documents: Mapping[str, Document], query: npt.NDArray[Any], k: int, where: Filter = _ANY
) -> None:
    """Compare hits with an oracle. Scores within a tolerance; ids may differ only where scores tie within it."""
    scores: dict[str, float] = {}
    q = query.astype(np.float64) / np.linalg.norm(query.astype(np.float64))
    for d in documents.values():
        if d.vector is not None and passes(d, where):
            v = d.vector.astype(np.float64)
            scores[d.id] = float(v @ q / np.linalg.norm(v))
    expected = sorted(scores.values(), reverse=True)[:k]
    assert len(hits) == len(expected)
    assert len({hit.id for hit in hits}) == len(hits)
    for hit, score in zip(hits, expected, strict=True):
        assert hit.id in scores
        assert hit.score == pytest.approx(scores[hit.id], abs=TOLERANCE)
        assert hit.score == pytest.approx(score, abs=TOLERANCE)
        assert -1.0 <= hit.score <= 1.0
        assert (hit.version, hit.kind) == (documents[hit.id].version, documents[hit.id].kind)
    assert [(-hit.score, hit.id) for hit in hits] == sorted((-hit.score, hit.id) for hit in hits)
