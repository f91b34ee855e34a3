"""The port every vector index implements. Its contract suite is `speakerdb.testing.index_contract`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from speakerdb.core.digests import BucketDigest, Mark
from speakerdb.types import AliasAction, Document, Filter, FloatArray, Hit, IndexInfo, WriteResult


class VectorIndex(Protocol):
    """Documents with vectors in concrete indices, and aliases that name them.

    Versions are external: a write with a version equal to or below the stored one is a `CONFLICT` for that item and
    changes nothing. Every method may raise `IndexUnavailable`; reads of an absent index raise `IndexMissing`. No error is
    ever read as absence.
    """

    def create(self, name: str, dimension: int, metadata: Mapping[str, Any]) -> None:
        """Make a concrete index. Doing it again is fine; `IndexExists` if dimension or metadata differ,
        or if an alias has this name."""

    def drop(self, name: str, *, token: str | None = None) -> None:
        """Remove a concrete index with all its documents and every alias entry of it. Fine where it is absent.

        With `token`, only if that alias names the index, both in one request; `AliasMoved` otherwise.
        """

    def indices(self, counted: Collection[str] | None = None) -> Mapping[str, IndexInfo]:
        """All concrete indices by name. Documents are counted in those of `counted`, without it in all; of the others the counts
        are 0. Where one that is to be counted cannot be, nothing is told: who needs no counts asks for none."""

    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        """All aliases with the concrete indices they name (sorted)."""

    def update_aliases(self, actions: Sequence[AliasAction]) -> None:
        """Apply all actions in order, or none. `AliasMoved` when a `remove` with `must_exist` finds nothing;
        `IndexMissing` when an `add` names no concrete index. Never sent twice for one call, whatever fails."""

    def bulk(self, write_alias: str, documents: Sequence[Document]) -> Sequence[WriteResult]:
        """Write documents through an alias, one result each, in order, durable when it returns.

        `IndexMissing` when `write_alias` is not an alias (`require_alias`; a concrete name is refused too).
        A vector of the wrong dimension, not finite, or of zero norm is `REJECTED`.
        """

    def fetch(self, index: str, ids: Sequence[str]) -> Mapping[str, Document]:
        """Documents by id from the durable store (not a cache), tombstones included; absent ids are left out.
        `index` is a concrete index or an alias with one target."""

    def scan(
        self, index: str, *, after: str | None = None, buckets: Collection[int] | None = None
    ) -> Iterator[Document]:
        """All documents, tombstones included, in ascending order of id (by code point), in constant memory,
        from one point in time. With `after` only ids above it, with `buckets` only of these (`core.digests`), by what each
        id says."""

    def marks(self, index: str, *, buckets: Collection[int] | None = None) -> Iterator[Mark]:
        """Of the same documents in the same order as `scan`, from one point in time, what tells their state: as the digests
        that `digests` sums. Nothing else of them is read."""

    def purge(self, index: str, tombstones: Sequence[tuple[str, int]]) -> int:
        """Forget tombstones (id, version), durably; how many. One that is not there any more, lives, or has another
        version stays as it is, however late the request arrives: what was written since is never lost.

        `index` is a concrete index or an alias with one target. The engine then knows nothing of these ids: whoever purges
        must know that no older write can still be on its way.
        """

    def search(self, index: str, queries: FloatArray, k: int, where: Filter = ...) -> Sequence[Sequence[Hit]]:
        """The k best live documents for each row of `queries` (shape (n, dimension), unit norm), best first."""

    def ping(self, index: str) -> None:
        """Nothing, where a search of this index would be answered; else raises as it would: `IndexMissing`, or
        `IndexUnavailable` where the index is closed, blocked for reading, or lacks a part. Asked once; no document is read.
        Of an alias with several targets it may say either."""

    def refresh(self, index: str) -> None:
        """Make everything written so far visible to `search`."""

    def tune(self, name: str, *, loading: bool) -> None:
        """Make the concrete index `name` ready for a load of many documents, whose writes may then stay invisible to
        `search` until a `refresh`; or, with False, put its own settings back and refresh it. Doing it again is fine."""

    def digests(self, index: str) -> Mapping[int, BucketDigest]:
        """By bucket the number of documents, tombstones included, and the sum of their digests (`core.digests`), of
        everything written so far. Empty buckets are left out."""

    def troubles(self) -> Sequence[str]:
        """What a person should know of the engine, in sentences; empty where all is well."""

    def reopened(self) -> VectorIndex:
        """The same index through a fresh connection that shares no cache with this one."""

    def close(self) -> None:
        """Release what is held. Fine to call twice."""
