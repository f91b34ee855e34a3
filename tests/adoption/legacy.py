"""Indices of another application in a cluster that is made of memory, beside an embedded index; and processes that die."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from speakerdb.adoption import Adoption
from speakerdb.core.field_map import mapped_fields
from speakerdb.errors import IndexExists, IndexMissing, IndexUnavailable
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.index.foreign import ForeignIndex, ForeignInfo, OwnIndices, RawDocument
from speakerdb.index.port import VectorIndex
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.testing.factories import FakeExecutor, fake_vector
from speakerdb.testing.faults import FaultQueue, FaultyIndex
from speakerdb.testing.machine_world import Clock
from speakerdb.types import AliasAction, IndexInfo

CHANGES = ("commit", "create", "drop", "update_aliases", "bulk", "block", "unblock", "copy", "replace")
MAPPING: Mapping[str, Any] = {
    "properties": {
        "media_file_id": {"type": "integer"},
        "profile_id": {"type": "integer"},
        "display_name": {"type": "keyword"},
        "embedding": {"type": "knn_vector", "dimension": 24},
    }
}


@dataclass
class Raw:
    """One concrete index."""

    documents: dict[str, RawDocument] = field(default_factory=dict)
    mapping: Mapping[str, Any] = field(default_factory=lambda: MAPPING)
    blocked: bool = False
    identity: str = "first"

    def put(self, id: str, **source: Any) -> None:
        """What the other application writes."""
        if self.blocked:
            raise PermissionError("blocked")
        version = self.documents[id].version + 1 if id in self.documents else 1
        self.documents[id] = RawDocument(id, version, source)


@dataclass
class Cluster:
    """The indices of others."""

    indices: dict[str, Raw] = field(default_factory=dict)
    late: list[Callable[[], None]] = field(default_factory=list)
    """Requests that are still under way."""


class Beside(EmbeddedIndex):
    """The embedded index, in a cluster that holds indices of others too."""

    def __init__(self, path: Path, cluster: Cluster) -> None:
        super().__init__(path)
        self.cluster = cluster

    def indices(self, counted: Collection[str] | None = None) -> Mapping[str, IndexInfo]:
        others = {
            name: IndexInfo(name, next(iter(mapped_fields(raw.mapping)[0].values()), 0), {}, len(raw.documents), 0)
            for name, raw in self.cluster.indices.items()
        }
        return {**super().indices(counted), **others}

    def reopened(self) -> Beside:
        return Beside(self.path, self.cluster)


class Foreign:
    """The port, in memory. `called` is told of each call before and after it; `lose` names calls whose answer is lost,
    `hold` those that arrive later."""

    def __init__(self, cluster: Cluster, index: Beside, called: Callable[[str, str], None]) -> None:
        self.cluster = cluster
        self.index = index
        self.called = called
        self.lose: set[str] = set()
        self.hold: set[str] = set()

    def _act(self, call: str, act: Callable[[], Any]) -> Any:
        if call in self.hold:
            self.hold.remove(call)
            self.cluster.late.append(act)
            raise IndexUnavailable(f"no answer to {call}")
        self.called("before", call)
        result = act()
        self.called("after", call)
        if call in self.lose:
            self.lose.remove(call)
            raise IndexUnavailable(f"the answer to {call} was lost")
        return result

    def _raw(self, name: str) -> Raw:
        if name not in self.cluster.indices:
            raise IndexMissing(f"no {name}")
        return self.cluster.indices[name]

    def describe(self, name: str) -> ForeignInfo:
        if name not in self.cluster.indices:
            return OwnIndices(self.index).describe(name)

        def act() -> ForeignInfo:
            raw = self._raw(name)
            vectors, fields = mapped_fields(raw.mapping)
            return ForeignInfo(name, raw.identity, len(raw.documents), vectors, fields, {}, raw.blocked)

        return self._act("describe", act)

    def documents(self, name: str, size: int) -> Iterator[list[RawDocument]]:
        held = self._act("documents", lambda: list(self._raw(name).documents.values()))
        for at in range(0, len(held), size):
            self._act("page", lambda: None)
            yield held[at : at + size]

    def holds(self, name: str, ids: Sequence[str]) -> set[str]:
        return self._act("holds", lambda: set(ids) & self._raw(name).documents.keys())

    def check_replaceable(self, name: str) -> None:
        pass

    def block(self, name: str) -> None:
        self._act("block", lambda: setattr(self._raw(name), "blocked", True))

    def unblock(self, name: str) -> None:
        self._act("unblock", lambda: setattr(self._raw(name), "blocked", False))

    def copy(self, name: str, to: str) -> None:
        def act() -> None:
            if not self._raw(name).blocked:
                raise IndexUnavailable("only a blocked index can be copied")
            if to in self.cluster.indices:
                raise IndexExists(to)
            self.cluster.indices[to] = copy.deepcopy(self._raw(name))

        self._act("copy", act)

    def replace(self, name: str, actions: Sequence[AliasAction]) -> None:
        def act() -> None:
            self._raw(name)
            self.index.update_aliases(actions)
            del self.cluster.indices[name]

        self._act("replace", act)


@dataclass
class Stage:
    """One installation, which processes open one after the other."""

    settings: Settings
    cluster: Cluster = field(default_factory=Cluster)
    clock: Clock = field(default_factory=Clock)
    points: list[str] = field(default_factory=list)
    at: tuple[int, Callable[[], None]] | None = None
    opened: list[SpeakerDB] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.faults = FaultQueue()
        self.foreign: Foreign | None = None

    @property
    def old(self) -> Raw:
        """The legacy index."""
        return self.cluster.indices["speakers"]

    def point(self, when: str, call: str) -> None:
        """Between two of these nothing changes for anybody else: a process that dies between them dies at one."""
        if when == "after" and call in CHANGES:
            self.points.append(f"{when} {call}")
            if self.at is not None and len(self.points) == self.at[0]:
                self.at[1]()

    def open(self, *, start: bool = False) -> SpeakerDB:
        """A process."""
        inner = Beside(self.settings.index_path, self.cluster)
        index = FaultyIndex(inner, self.faults)
        index.on_call(lambda call, when: self.point(when, call))
        db = SpeakerDB.open(self.settings, index=index, executor=FakeExecutor(), clock=self.clock, start=start)
        self.opened.append(db)
        self.foreign = foreign = Foreign(self.cluster, inner, self.point)
        adoption: Adoption = db.adoption
        adoption.imports._foreign = adoption.takeover._open = lambda: foreign  # type: ignore[assignment]
        adoption.imports._part = 3
        write = db.catalog.database.write

        def writing() -> Any:
            return _Write(write(), self.point)

        db.catalog.database.write = writing  # type: ignore[method-assign]
        return db

    def restart(self) -> SpeakerDB:
        """All processes are dead; another one opens the library when their leases have expired."""
        self.at = None
        for db in self.opened:
            db.close()
        self.opened.clear()
        self.clock.now += 200_000_000
        return self.open()

    def close(self) -> None:
        for db in self.opened:
            db.close()


class _Write:
    """A write transaction with a point after its commit."""

    def __init__(self, inner: Any, point: Callable[[str, str], None]) -> None:
        self._inner = inner
        self._point = point

    def __enter__(self) -> Any:
        return self._inner.__enter__()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Any:
        result = self._inner.__exit__(kind, error, trace)
        if kind is None:
            self._point("after", "commit")
        return result


def fill(raw: Raw, count: int = 7) -> None:
    """Voices of another application: two in each recording, every third of the person 3, none of unit norm."""
    for number in range(count):
        vector = 2.5 * fake_vector(f"voice {number}", 24)
        source: dict[str, Any] = {"media_file_id": number // 2, "embedding": [float(x) for x in vector]}
        if number % 3 == 0:
            source |= {"profile_id": 3, "display_name": "Ada"}
        raw.put(str(number), **source)


def unit(number: int) -> np.ndarray:
    """What SQL must hold of a voice of `fill`."""
    wide = (2.5 * fake_vector(f"voice {number}", 24)).astype(np.float32).astype(np.float64)
    return (wide / np.linalg.norm(wide)).astype(np.float32)


__all__ = ["Beside", "Cluster", "Foreign", "ForeignIndex", "Raw", "Stage", "VectorIndex", "fill", "unit"]
