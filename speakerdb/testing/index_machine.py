"""Random operations against a `VectorIndex` and against plain dicts, compared after every step.

TestMyIndexStateful = index_machine(my_context_manager_of_an_empty_index).TestCase
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from speakerdb.core.digests import bucket_of, digest_of
from speakerdb.errors import AliasMoved, IndexMissing
from speakerdb.index.port import VectorIndex
from speakerdb.testing.index_oracle import DIMENSION, C, W, assert_hits, digests, document, outcomes, same, vectors
from speakerdb.types import AliasAction, Document, Filter, Kind

Factory: TypeAlias = Callable[[], AbstractContextManager[VectorIndex]]
_INDICES = ("i-0", "i-1")
_ALIASES = ("alias-0", "alias-1", "alias-2")
_IDS = ("a", "B", "é", "\U0001d11e", "c", "d")
_names = st.sampled_from(_INDICES)
_aliases = st.sampled_from(_ALIASES)
_documents = st.builds(
    document,
    st.sampled_from(_IDS),
    st.integers(0, 6),
    deleted=st.booleans(),
    kind=st.sampled_from(Kind),
    library=st.sampled_from(["l-0", "l-1"]),
    profile=st.sampled_from([None, "p-0", "p-1"]),
)
_actions = st.builds(AliasAction, st.sampled_from(["add", "remove"]), _aliases, _names, st.booleans())
_filters = st.builds(
    Filter,
    kinds=st.none() | st.lists(st.sampled_from(Kind), unique=True).map(tuple),
    library_ids=st.none() | st.lists(st.sampled_from(["l-0", "l-1", "l-2"]), unique=True).map(tuple),
    profile_ids=st.none() | st.lists(st.sampled_from(["p-0", "p-1"]), unique=True).map(tuple),
    exclude_ids=st.lists(st.sampled_from(_IDS), unique=True, max_size=2).map(tuple),
)


def index_machine(factory: Factory) -> type[RuleBasedStateMachine]:
    """A Hypothesis state machine of random operations against an adapter and against plain dicts.

    `factory` makes a context manager that yields an empty index and cleans up. Take `.TestCase` of what is returned.
    """

    class IndexMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.scope = factory()
            self.index = self.scope.__enter__()
            self.handles: list[VectorIndex] = []
            self.stored: dict[str, dict[str, Document]] = {}
            self.named: dict[str, set[str]] = {}

        @initialize()
        def start(self) -> None:
            """Most runs are about documents: begin with an index that can be written."""
            self.create("i-0")
            self.change_aliases([AliasAction.add("alias-0", "i-0")])

        @rule(name=_names)
        def create(self, name: str) -> None:
            self.index.create(name, DIMENSION, {"name": name})
            self.stored.setdefault(name, {})

        @rule(name=_names)
        def drop(self, name: str) -> None:
            self.index.drop(name)
            self.stored.pop(name, None)
            for targets in self.named.values():
                targets.discard(name)

        @rule(alias=st.sampled_from([*_ALIASES, "i-0"]) | st.just("alias-0"), batch=st.lists(_documents, max_size=6))
        def write(self, alias: str, batch: list[Document]) -> None:
            targets = self.named.get(alias, set())
            if len(targets) != 1:
                with pytest.raises(IndexMissing):
                    self.index.bulk(alias, batch)
                return
            stored = self.stored[next(iter(targets))]
            expected = []
            for d in batch:
                fresh = d.id not in stored or d.version > stored[d.id].version
                expected.append(W if fresh else C)
                if fresh:
                    stored[d.id] = d
            assert outcomes(self.index, alias, batch) == expected

        @rule(actions=st.lists(_actions, min_size=1, max_size=4))
        def change_aliases(self, actions: list[AliasAction]) -> None:
            after = {alias: set(targets) for alias, targets in self.named.items()}
            error: type[Exception] | None = None
            for action in actions:
                targets = after.setdefault(action.alias, set())
                if action.verb == "add" and action.index not in self.stored:
                    error = IndexMissing
                elif action.verb == "add":
                    targets.add(action.index)
                elif action.index in targets:
                    targets.remove(action.index)
                elif action.must_exist:
                    error = AliasMoved
                if error is not None:
                    break
            if error is None:
                self.index.update_aliases(actions)
                self.named = after
            else:
                with pytest.raises((IndexMissing, AliasMoved)):
                    self.index.update_aliases(actions)

        @rule()
        def reopen(self) -> None:
            """Go on with a fresh handle; the old one stays open and is taken up again by `swap_handles`."""
            self.handles.append(self.index)
            self.index = self.index.reopened()
            if len(self.handles) > 2:
                self.handles.pop(1).close()

        @precondition(lambda self: self.handles)
        @rule()
        def swap_handles(self) -> None:
            self.handles.append(self.index)
            self.index = self.handles.pop(0)

        @rule(name=_names, k=st.integers(1, 8), where=_filters, seed=st.integers(0, 9), count=st.integers(1, 3))
        def search(self, name: str, k: int, where: Filter, seed: int, count: int) -> None:
            queries = vectors(count, seed)
            if name not in self.stored:
                with pytest.raises(IndexMissing):
                    self.index.search(name, queries, k, where)
                return
            self.index.refresh(name)
            for query, hits in zip(queries, self.index.search(name, queries, k, where), strict=True):
                assert_hits(hits, self.stored[name], query, k, where)

        @rule(name=_names, which=st.lists(st.tuples(st.sampled_from(_IDS), st.integers(0, 6)), max_size=4))
        def purge(self, name: str, which: list[tuple[str, int]]) -> None:
            wanted = list(dict(which).items())
            if name not in self.stored:
                with pytest.raises(IndexMissing):
                    self.index.purge(name, wanted)
                return
            stored = self.stored[name]
            gone = [
                id for id, version in wanted if id in stored and stored[id].deleted and stored[id].version == version
            ]
            assert self.index.purge(name, wanted) == len(gone)
            for id in gone:
                del stored[id]

        @rule(
            name=_names,
            after=st.none() | st.sampled_from(_IDS),
            buckets=st.none() | st.sets(st.sampled_from([bucket_of(id) for id in _IDS])),
        )
        def scan(self, name: str, after: str | None, buckets: set[int] | None) -> None:
            if name not in self.stored:
                with pytest.raises(IndexMissing):
                    list(self.index.scan(name, after=after, buckets=buckets))
                return
            self.index.refresh(name)
            stored = self.stored[name]
            found = list(self.index.scan(name, after=after, buckets=buckets))
            inside = [id for id in stored if buckets is None or bucket_of(id) in buckets]
            assert [d.id for d in found] == sorted(id for id in inside if after is None or id > after)
            assert all(same(d, stored[d.id]) for d in found)
            assert self.index.digests(name) == digests(stored.values())
            if after is None:
                marks = [(d.id, d.version, digest_of(d.id, d.version, d.content_hash)) for d in found]
                assert list(self.index.marks(name, buckets=buckets)) == marks
            fetched = self.index.fetch(name, _IDS)
            assert set(fetched) == set(stored)
            assert all(same(d, stored[id]) for id, d in fetched.items())

        @invariant()
        def names_agree(self) -> None:
            expected = {alias: tuple(sorted(targets)) for alias, targets in self.named.items() if targets}
            assert dict(self.index.aliases()) == expected
            for name in self.stored:
                self.index.refresh(name)
            counts = {info.name: (info.documents, info.tombstones) for info in self.index.indices().values()}
            assert counts == {
                name: (sum(not d.deleted for d in stored.values()), sum(d.deleted for d in stored.values()))
                for name, stored in self.stored.items()
            }

        def teardown(self) -> None:
            for handle in self.handles:
                handle.close()
            self.index.close()
            self.scope.__exit__(None, None, None)

    return IndexMachine
