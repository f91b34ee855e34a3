"""What every adapter asks of a document before it is written: text that can be stored, a vector with a direction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from speakerdb.types import Document

_MAX_VERSION = 2**63 - 1
_LARGEST_ID = 512
_LARGEST_TEXT = 32_766
"""In bytes of UTF-8: what OpenSearch takes as an id, and Lucene as a term. All adapters refuse the same."""


def encoded(documents: Sequence[Document], dimension: int) -> tuple[list[bytes | None], dict[int, str]]:
    """The vectors as float32 bytes, little-endian (None in tombstones), and what is wrong at which place.

    A vector is stored as it is given; it must have the shape (dimension,), be finite in float32, and not be zero.
    """
    blobs: list[bytes | None] = [None] * len(documents)
    problems: dict[int, str] = {}
    shaped = []
    for place, document in enumerate(documents):
        if problem := _problem(document):
            problems[place] = problem
        elif document.vector is None:
            continue
        elif document.vector.shape != (dimension,):
            problems[place] = f"the vector has shape {document.vector.shape}, the index holds ({dimension},)"
        else:
            shaped.append(place)
    with np.errstate(over="ignore"):  # What does not fit in float32 becomes infinite, and is refused as such.
        rows = np.array([documents[place].vector for place in shaped], "<f4").reshape(len(shaped), dimension)
    finite = np.isfinite(rows).all(axis=1)
    nonzero = np.any(rows != 0, axis=1)
    for number, place in enumerate(shaped):
        if not finite[number]:
            problems[place] = "the vector is not finite"
        elif not nonzero[number]:
            problems[place] = "the vector has zero norm"
        else:
            blobs[place] = rows[number].tobytes()
    return blobs, problems


def _problem(document: Document) -> str | None:
    if not document.id or not 0 <= document.version <= _MAX_VERSION:
        return "a document needs an id, and a version from 0 to 2^63 - 1"
    texts = (document.id, document.content_hash, document.library_id, document.recording_id, document.profile_id)
    try:
        sizes = [len(text.encode()) for text in texts if text is not None]
    except UnicodeEncodeError:
        return "an id is not valid Unicode text"
    if sizes[0] > _LARGEST_ID or max(sizes) > _LARGEST_TEXT:
        return f"an id is longer than {_LARGEST_ID} bytes, or another text than {_LARGEST_TEXT}"
    return None
