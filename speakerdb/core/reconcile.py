"""The diff between what SQL says should be in an index and what is there.

Migration, verification, repair and catch-up are this one diff: both sides come as streams in ascending order of
id, and memory stays constant however long they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

import numpy as np

from speakerdb.types import Document


class HasId(Protocol):
    """What one side of a comparison is known by."""

    @property
    def id(self) -> str: ...


Left = TypeVar("Left")
Right = TypeVar("Right", bound=HasId)


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
    for _, want, have in side_by_side(expected, actual, lambda document: document.id):
        if have is None:
            assert want is not None
            if not want.deleted and _settled(want, watermark):
                yield Finding(want.id, Difference.MISSING, want.version, None)
        elif want is None:
            if not have.deleted:
                yield Finding(have.id, Difference.ORPHANED, None, have.version)
        elif _settled(want, watermark) and (difference := compare(want, have)) is not None:
            yield Finding(want.id, difference, want.version, have.version)


def side_by_side(
    left: Iterable[Left], right: Iterable[Right], id_of: Callable[[Left], str]
) -> Iterator[tuple[str, Left | None, Right | None]]:
    """Two streams in ascending order of id, by id; None on the side that lacks one. Neither is read ahead of what is given."""
    lefts, rights = iter(left), iter(right)
    want, have = next(lefts, None), next(rights, None)
    while want is not None or have is not None:
        id = None if want is None else id_of(want)
        if id is None or (have is not None and have.id < id):
            assert have is not None
            yield have.id, None, have
            have = next(rights, None)
        elif have is None or id < have.id:
            yield id, want, None
            want = next(lefts, None)
        else:
            yield id, want, have
            want, have = next(lefts, None), next(rights, None)


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
