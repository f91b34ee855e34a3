"""What two sides are compared by without reading them: counts, and sums of digests, in 256 buckets.

Both formulas are kept in documents that were written long ago. Changing one means writing every document again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

BUCKETS = 256


@dataclass(frozen=True, slots=True)
class BucketDigest:
    """One bucket: its documents, tombstones included, and the sum of their digests."""

    documents: int
    digest: int


class Mark(NamedTuple):
    """What tells the state of one document without reading it. `digest` is None where none was kept, or where it counts in
    another bucket than its own."""

    id: str
    version: int
    digest: int | None


def bucket_of(id: str) -> int:
    """The bucket of a document, 0 to 255. It depends on the id alone, so a document never changes its bucket."""
    return hashlib.blake2b(id.encode(), digest_size=1).digest()[0]


def digest_of(id: str, version: int, content_hash: str) -> int:
    """32 bits over what tells a document's state. An engine may sum them as doubles: two million fit into 2^53."""
    # A length before the one field that can hold anything: no two documents are written alike.
    text = f"{len(id)}:{id}:{version}:{content_hash}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")
