"""An index that somebody changes past the product: what was there is laid anew, as it is said. Through the port alone, so that
it works on every adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from speakerdb.catalog.vectors import tombstone
from speakerdb.index.port import VectorIndex
from speakerdb.testing.factories import fake_vector
from speakerdb.types import AliasAction, Document, FloatArray, Kind, WriteOutcome

HAND = "speakers-by-hand"
"""The alias that documents are laid through; it is gone afterwards."""
Change: TypeAlias = Callable[[Document], Document | None]


def lay(index: VectorIndex, name: str, documents: Iterable[Document]) -> None:
    """Make a concrete index again under its name and aliases, with these documents and no memory of others: as a snapshot that
    was put back, or a hand that wrote past us."""
    info, aliases = index.indices()[name], index.aliases()
    index.drop(name)
    index.create(name, info.dimension, info.metadata)
    named = [AliasAction.add(alias, name) for alias, targets in aliases.items() if name in targets]
    index.update_aliases([*named, AliasAction.add(HAND, name)])
    results = index.bulk(HAND, list(documents))
    assert all(result.outcome is WriteOutcome.WRITTEN for result in results), "an id was given twice"
    index.update_aliases([AliasAction.remove(HAND, name)])
    index.refresh(name)


def _with(vector: Callable[[Document, FloatArray], FloatArray]) -> Change:
    def change(document: Document) -> Document:
        return document if document.vector is None else replace(document, vector=vector(document, document.vector))

    return change


HARMS: dict[str, Change] = {
    "gone": lambda _: None,
    "aged": lambda d: replace(d, version=d.version - 7),
    "ahead": lambda d: replace(d, version=d.version + 10_000_000),
    "hash": lambda d: replace(d, content_hash="0" * 32),
    "dead": lambda d: tombstone(d.id, d.version, d.kind, d.library_id),
    "library": lambda d: replace(d, library_id="elsewhere"),
    "vector": _with(lambda d, vector: fake_vector(f"by hand {d.id}", len(vector))),
    "long": _with(lambda _, vector: (vector * np.float32(3)).astype(np.float32)),
}
"""What may become of one document."""


def harmed(documents: Sequence[Document], harms: Iterable[tuple[str, int]], *, strangers: int = 0) -> list[Document]:
    """The documents after each harm (a name of `HARMS`, and which document), and after strangers came: copies of the first
    living one under ids that nobody knows, and tombstones of others."""
    found: dict[int, Document | None] = dict(enumerate(documents))
    for name, which in harms:
        document = found[which % len(documents)] if documents else None
        if document is not None:
            found[which % len(documents)] = HARMS[name](document)
    living = next((d for d in documents if not d.deleted), None)
    made = [] if living is None else [replace(living, id=f"stranger-{n}") for n in range(strangers)]
    if living is not None and strangers > 1:
        made.append(tombstone("buried", living.version, Kind.SPEAKER, living.library_id))
    there = {d.id for d in found.values() if d is not None}
    return [*(d for d in found.values() if d is not None), *(d for d in made if d.id not in there)]
