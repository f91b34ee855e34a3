"""The diff between what SQL says should be in an index and what is there.

Migration, verification, repair and catch-up are this one diff: both sides come as streams in ascending order of
id, and memory stays constant however long they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from speakerdb.types import Document


class Difference(StrEnum):
    """How one document differs from SQL."""

    MISSING = "missing"
    ORPHANED = "orphaned"
    """The index holds a live document that SQL has no row for."""
    STALE = "stale"
    """The document's version is below SQL's."""
    AHEAD = "ahead"
    """The document's version is above SQL's, as after a restored database."""
    DIFFERENT = "different"
    """Same version, other content hash, filters or liveness."""
    VECTOR = "vector"
    """Same version and hash, but the vector itself is another."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference. Versions are None on the side that lacks the document."""

    id: str
    difference: Difference
    expected_version: int | None
    actual_version: int | None


def diff(
    expected: Iterable[Document], actual: Iterable[Document], *, watermark: int | None = None
) -> Iterator[Finding]:
    """Findings in order of id.

    Documents whose version in SQL is above `watermark` are left out: they changed while the streams were read and are
    looked at later. Those that only the index has so high are not, nor are orphans: their row would have changed
    before them, and SQL is read after the index. A tombstone on one side and nothing on the other is no difference: purging
    tombstones is free to both.
    """
    left, right = iter(expected), iter(actual)
    want, have = next(left, None), next(right, None)
    while want is not None or have is not None:
        if have is None or (want is not None and want.id < have.id):
            assert want is not None
            if not want.deleted and _settled(want, watermark):
                yield Finding(want.id, Difference.MISSING, want.version, None)
            want = next(left, None)
        elif want is None or have.id < want.id:
            if not have.deleted:
                yield Finding(have.id, Difference.ORPHANED, None, have.version)
            have = next(right, None)
        else:
            if _settled(want, watermark) and (difference := compare(want, have)) is not None:
                yield Finding(want.id, difference, want.version, have.version)
            want, have = next(left, None), next(right, None)


def compare(want: Document, have: Document) -> Difference | None:
    """The difference between two documents of one id, None when they are equal."""
    if have.version < want.version:
        return Difference.STALE
    if have.version > want.version:
        return Difference.AHEAD
    same_fields = (want.content_hash, want.kind, want.library_id, want.recording_id, want.profile_id, want.deleted) == (
        have.content_hash, have.kind, have.library_id, have.recording_id, have.profile_id, have.deleted
    )  # fmt: skip
    if not same_fields:
        return Difference.DIFFERENT
    if want.vector is not None and have.vector is not None and not np.array_equal(want.vector, have.vector):
        return Difference.VECTOR
    return None


def _settled(want: Document, watermark: int | None) -> bool:
    return watermark is None or want.version <= watermark
