"""Indices that somebody else wrote: reading them as they are, and the few acts that a take-over needs.

Nothing here knows what a document means; `core.field_map` does. An index of our own is read in the same way, through the
port, whichever engine it lies in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn, Protocol

from speakerdb.errors import ConfigurationError, IndexMissing
from speakerdb.index.port import VectorIndex
from speakerdb.types import AliasAction, Document

COPY_PREFIX = "speakers_legacy_"
"""What the copies of legacy indices are called, before a number. They are blocked for writing on purpose."""


@dataclass(frozen=True, slots=True)
class ForeignInfo:
    """A concrete index as it stands. `vectors` are its vector fields with their dimensions; names are dotted."""

    name: str
    identity: str
    """Made once with the index: another index of the same name has another one."""
    documents: int
    vectors: Mapping[str, int]
    fields: tuple[str, ...]
    metadata: Mapping[str, Any]
    blocked: bool = False
    """No document of it can be written."""
    newest: int = 0
    """The highest version in it, where the engine knows; else 0."""


@dataclass(frozen=True, slots=True)
class RawDocument:
    """One document: `source` is what was written. `version` is the engine's."""

    id: str
    version: int
    source: Mapping[str, Any]


class ForeignIndex(Protocol):
    """A cluster, as far as indices of others are concerned. Every method may raise `IndexUnavailable`; an absent index is
    `IndexMissing`, and no error is ever read as absence."""

    def describe(self, name: str) -> ForeignInfo:
        """What is known of a concrete index; an alias of one index is described as that index."""

    def documents(self, name: str, size: int) -> Iterator[list[RawDocument]]:
        """All documents, some at a time, from one point in time, in any order. An answer that lacks a part is an error."""

    def holds(self, name: str, ids: Sequence[str]) -> set[str]:
        """Those of the ids that are there now, by the engine's own id."""

    def check_replaceable(self, name: str) -> None:
        """`ConfigurationError` in an engine in which nothing can be taken over; nothing was done then."""

    def block(self, name: str) -> None:
        """From now on nothing can be written to the index. Fine to repeat."""

    def unblock(self, name: str) -> None:
        """Take `block` back. Fine to repeat."""

    def copy(self, name: str, to: str) -> None:
        """Make a whole copy of a blocked index under a new name. `IndexExists` where the name is taken."""

    def replace(self, name: str, actions: Sequence[AliasAction]) -> None:
        """Remove the concrete index `name` and apply the actions, all or nothing, in one request that is never sent twice.

        Raises what `VectorIndex.update_aliases` raises.
        """


class OwnIndices:
    """Indices that speakerdb wrote, of any engine, through the port. There is nothing in them to take over."""

    def __init__(self, index: VectorIndex) -> None:
        self._index = index

    def describe(self, name: str) -> ForeignInfo:
        """See the port."""
        targets = self._index.aliases().get(name, ())
        concrete = targets[0] if len(targets) == 1 else name
        info = self._index.indices((concrete,)).get(concrete)
        if info is None:
            raise IndexMissing(f"There is no index {name!r}.", hint="See what there is with `speakerdb doctor`.")
        return ForeignInfo(
            info.name, info.name, info.documents, {"vector": info.dimension}, _FIELDS, info.metadata, newest=info.newest
        )

    def documents(self, name: str, size: int) -> Iterator[list[RawDocument]]:
        """See the port. Tombstones are left out."""
        living = (_raw(document) for document in self._index.scan(name) if not document.deleted)
        while part := list(islice(living, size)):
            yield part

    def holds(self, name: str, ids: Sequence[str]) -> set[str]:
        """See the port."""
        return {id for id, document in self._index.fetch(name, ids).items() if not document.deleted}

    def check_replaceable(self, name: str) -> None:
        """Refused."""
        self._refuse(name)

    def block(self, name: str) -> None:
        """Refused."""
        self._refuse(name)

    def unblock(self, name: str) -> None:
        """Refused."""
        self._refuse(name)

    def copy(self, name: str, to: str) -> None:  # noqa: ARG002  the port's signature
        """Refused."""
        self._refuse(name)

    def replace(self, name: str, actions: Sequence[AliasAction]) -> None:  # noqa: ARG002  the port's signature
        """Refused."""
        self._refuse(name)

    def _refuse(self, name: str) -> NoReturn:
        raise ConfigurationError(
            f"The index {name!r} cannot be taken over: that is for indices in an OpenSearch cluster.",
            hint="Name the cluster in the setting `opensearch.hosts`; `speakerdb index import` reads an embedded index.",
        )


_FIELDS = ("kind", "library_id", "profile_id", "recording_id", "vector")


def _raw(document: Document) -> RawDocument:
    source = {
        "kind": document.kind.value,
        "library_id": document.library_id,
        "recording_id": document.recording_id,
        "profile_id": document.profile_id,
        "vector": document.vector,
    }
    return RawDocument(document.id, document.version, source)


def foreign_of(index: VectorIndex) -> ForeignIndex:
    """What reads the indices of others in the engine that this index lies in."""
    make = getattr(index, "foreign", None)
    return OwnIndices(index) if make is None else make()
