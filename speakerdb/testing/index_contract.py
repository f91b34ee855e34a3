"""The contract of `speakerdb.index.port.VectorIndex`, as tests that every adapter runs.

    class TestMyIndex(IndexContract):
        @pytest.fixture
        def index(self): ...   # yields an empty VectorIndex

`speakerdb.testing.index_machine` adds random operations to it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from speakerdb.core.digests import bucket_of, digest_of
from speakerdb.errors import AliasMoved, IndexExists, IndexMissing
from speakerdb.index.port import VectorIndex
from speakerdb.testing.index_oracle import (
    DIMENSION,
    C,
    R,
    W,
    assert_hits,
    digests,
    document,
    outcomes,
    same,
    vectors,
)
from speakerdb.testing.index_search_contract import IndexSearchContract
from speakerdb.types import AliasAction, Filter


class IndexContract(IndexSearchContract):
    """Subclass it with a name that begins with Test, and override the fixture `index`."""

    @pytest.fixture
    def index(self) -> Iterator[VectorIndex]:
        """An empty index; closed afterwards."""
        raise NotImplementedError

    @pytest.fixture
    def ready(self, index: VectorIndex) -> VectorIndex:
        """The same with the concrete index `a` of DIMENSION, written through the alias `w` and read through `r`."""
        index.create("a", DIMENSION, {"generation": "v0"})
        index.update_aliases([AliasAction.add("w", "a"), AliasAction.add("r", "a")])
        return index

    # Indices

    def test_an_empty_index_has_nothing(self, index: VectorIndex) -> None:
        assert dict(index.indices()) == {}
        assert dict(index.aliases()) == {}

    def test_create_is_idempotent_and_keeps_metadata(self, index: VectorIndex) -> None:
        metadata = {"generation": "v4", "nested": {"b": [1, 2.5, None, True]}}
        index.create("a", DIMENSION, metadata)
        index.create("a", DIMENSION, dict(reversed(metadata.items())))
        info = index.indices()["a"]
        assert (info.name, info.dimension, dict(info.metadata)) == ("a", DIMENSION, metadata)
        assert (info.documents, info.tombstones, info.newest) == (0, 0, 0)

    def test_create_refuses_another_dimension_or_metadata(self, index: VectorIndex) -> None:
        index.create("a", DIMENSION, {"generation": "v4"})
        with pytest.raises(IndexExists):
            index.create("a", DIMENSION + 1, {"generation": "v4"})
        with pytest.raises(IndexExists):
            index.create("a", DIMENSION, {"generation": "v5"})
        assert index.indices()["a"].dimension == DIMENSION

    def test_an_index_and_an_alias_never_share_a_name(self, ready: VectorIndex) -> None:
        with pytest.raises(IndexExists):
            ready.create("w", DIMENSION, {})
        ready.create("b", DIMENSION, {})
        with pytest.raises(IndexExists):
            ready.update_aliases([AliasAction.add("b", "a")])
        assert ready.aliases() == {"w": ("a",), "r": ("a",)}
        assert set(ready.indices()) == {"a", "b"}

    def test_counts(self, ready: VectorIndex) -> None:
        ready.bulk("w", [document("x"), document("y"), document("z")])
        ready.bulk("w", [document("y", 2, deleted=True), document("n", 1, deleted=True), document("x", 2)])
        ready.refresh("a")
        info = ready.indices()["a"]
        assert (info.documents, info.tombstones, info.newest) == (2, 2, 2)
        ready.bulk("w", [document("y", 3)])
        ready.bulk("w", [document("x", 1)])
        ready.refresh("a")
        info = ready.indices()["a"]
        assert (info.documents, info.tombstones, info.newest) == (3, 1, 3)

    def test_only_what_is_asked_for_is_counted(self, ready: VectorIndex) -> None:
        ready.bulk("w", [document("x")])
        ready.refresh("a")
        for counted, documents in (((), 0), (("b",), 0), (("a", "b"), 1), (None, 1)):
            assert ready.indices(counted)["a"].documents == documents
        assert ready.indices(()).keys() == ready.indices().keys()

    def test_drop_removes_documents_and_alias_entries(self, ready: VectorIndex) -> None:
        ready.create("b", DIMENSION, {})
        ready.update_aliases([AliasAction.add("r", "b")])
        ready.bulk("w", [document("x")])
        ready.drop("a")
        assert set(ready.indices()) == {"b"}
        assert ready.aliases() == {"r": ("b",)}
        ready.drop("a")

    def test_a_search_that_can_find_nothing_still_misses_a_dropped_index(self, ready: VectorIndex) -> None:
        """Nothing need be read to answer it; that the name is gone is told all the same."""
        nobody = Filter(profile_ids=())
        assert ready.search("a", vectors(1), 5, nobody) == [[]]
        assert ready.search("a", vectors(1)[:0], 5) == []
        ready.drop("a")
        for queries, where in ((vectors(1), nobody), (vectors(1)[:0], Filter())):
            with pytest.raises(IndexMissing):
                ready.search("a", queries, 5, where)

    def test_an_index_made_again_is_empty(self, ready: VectorIndex) -> None:
        ready.bulk("w", [document("x", 9)])
        ready.refresh("a")
        query = vectors(1)
        assert len(ready.search("a", query, 5)[0]) == 1
        ready.drop("a")
        ready.create("a", DIMENSION, {"generation": "v0"})
        ready.update_aliases([AliasAction.add("w", "a")])
        assert list(ready.search("a", query, 5)[0]) == []
        assert list(ready.scan("a")) == []
        assert outcomes(ready, "w", [document("y", 1)]) == [W]
        ready.refresh("a")
        assert [hit.id for hit in ready.search("a", query, 5)[0]] == ["y"]

    def test_reads_of_an_absent_index_raise(self, ready: VectorIndex) -> None:
        for name in ("absent", ""):
            with pytest.raises(IndexMissing):
                ready.search(name, vectors(1), 1)
            with pytest.raises(IndexMissing):
                ready.fetch(name, ["x"])
            with pytest.raises(IndexMissing):
                list(ready.scan(name))
            for ask in (ready.refresh, ready.ping):
                with pytest.raises(IndexMissing):
                    ask(name)

    def test_reads_take_an_alias_with_one_target(self, ready: VectorIndex) -> None:
        ready.bulk("w", [document("x")])
        for ask in (ready.ping, ready.refresh):
            ask("r")
        assert set(ready.fetch("r", ["x"])) == {"x"}
        assert [d.id for d in ready.scan("r")] == ["x"]
        assert [hit.id for hit in ready.search("r", vectors(1), 1)[0]] == ["x"]

    # Aliases

    def test_alias_change_is_all_or_nothing(self, ready: VectorIndex) -> None:
        ready.create("b", DIMENSION, {})
        before = dict(ready.aliases())
        with pytest.raises(AliasMoved):
            ready.update_aliases(
                [AliasAction.add("r", "b"), AliasAction.remove("r", "a"), AliasAction.remove("t", "b")]
            )
        with pytest.raises(IndexMissing):
            ready.update_aliases([AliasAction.remove("r", "a"), AliasAction.add("r", "absent")])
        assert dict(ready.aliases()) == before
        ready.update_aliases([AliasAction.remove("r", "a"), AliasAction.add("r", "b")])
        assert ready.aliases()["r"] == ("b",)

    def test_remove_without_must_exist_may_find_nothing(self, ready: VectorIndex) -> None:
        ready.create("b", DIMENSION, {})
        ready.update_aliases([AliasAction.remove("t", "a", must_exist=False), AliasAction.add("r", "b")])
        assert ready.aliases() == {"w": ("a",), "r": ("a", "b")}
        ready.update_aliases([AliasAction.remove("w", "a", must_exist=False)])
        assert ready.aliases() == {"r": ("a", "b")}

    def test_must_exist_looks_at_this_target_only(self, ready: VectorIndex) -> None:
        ready.create("b", DIMENSION, {})
        with pytest.raises(AliasMoved):
            ready.update_aliases([AliasAction.remove("r", "b")])
        assert ready.aliases()["r"] == ("a",)

    def test_adding_an_alias_entry_twice_is_fine(self, ready: VectorIndex) -> None:
        ready.update_aliases([AliasAction.add("r", "a")])
        ready.update_aliases([])
        assert ready.aliases()["r"] == ("a",)

    def test_a_late_swap_fails_once_its_token_is_gone(self, ready: VectorIndex) -> None:
        ready.create("b", DIMENSION, {})
        token = "speakers-swap-1-1"  # noqa: S105 - the name of an alias
        swap = [AliasAction.remove(token, "b"), AliasAction.remove("r", "a"), AliasAction.add("r", "b")]
        ready.update_aliases([AliasAction.add(token, "b")])
        ready.update_aliases([AliasAction.remove(token, "b")])
        with pytest.raises(AliasMoved):
            ready.update_aliases(swap)
        assert ready.aliases() == {"w": ("a",), "r": ("a",)}
        ready.update_aliases([AliasAction.add(token, "b")])
        ready.update_aliases(swap)
        assert ready.aliases() == {"w": ("a",), "r": ("b",)}
        with pytest.raises(AliasMoved):
            ready.update_aliases(swap)

    # Writes

    def test_mixed_outcomes_are_reported_in_order(self, ready: VectorIndex) -> None:
        good = document("stored", 5)
        assert outcomes(ready, "w", [good]) == [W]
        infinite = np.full(DIMENSION, np.inf, np.float32)
        batch = [
            document("new", 1),
            document("stored", 5),
            document("short", 1, np.ones(DIMENSION - 1, np.float32)),
            document("stored", 4, deleted=True),
            document("nan", 1, np.full(DIMENSION, np.nan, np.float32)),
            document("infinite", 1, infinite),
            document("zero", 1, np.zeros(DIMENSION, np.float32)),
            document("newer", 2, deleted=True),
        ]
        assert outcomes(ready, "w", batch) == [W, C, R, C, R, R, R, W]
        assert set(ready.fetch("a", [d.id for d in batch])) == {"new", "stored", "newer"}
        assert same(ready.fetch("a", ["stored"])["stored"], good)
        assert all(result.detail for result in ready.bulk("w", batch[4:7]))

    def test_a_rejected_document_leaves_the_stored_one(self, ready: VectorIndex) -> None:
        good = document("x", 1)
        ready.bulk("w", [good])
        assert outcomes(ready, "w", [document("x", 2, np.zeros(DIMENSION, np.float32))]) == [R]
        assert same(ready.fetch("a", ["x"])["x"], good)
        assert outcomes(ready, "w", [document("x", 2)]) == [W]

    def test_one_id_twice_in_one_write(self, ready: VectorIndex) -> None:
        batch = [document("x", 2), document("x", 2), document("x", 1), document("x", 7), document("y", 1, deleted=True)]
        assert outcomes(ready, "w", batch) == [W, C, C, W, W]
        ready.refresh("a")
        assert same(ready.fetch("a", ["x"])["x"], batch[3])
        info = ready.indices()["a"]
        assert (info.documents, info.tombstones) == (1, 1)

    def test_large_versions(self, ready: VectorIndex) -> None:
        version = 1_900_000_000_000_000
        assert outcomes(ready, "w", [document("x", version), document("x", version + 1)]) == [W, W]
        ready.refresh("a")
        assert ready.search("a", vectors(1), 1)[0][0].version == version + 1
        assert outcomes(ready, "w", [document("x", version)]) == [C]

    def test_an_empty_write(self, ready: VectorIndex) -> None:
        assert list(ready.bulk("w", [])) == []
        with pytest.raises(IndexMissing):
            ready.bulk("absent", [])

    def test_writes_need_an_alias_of_one_index(self, ready: VectorIndex) -> None:
        for name in ("a", "absent"):
            with pytest.raises(IndexMissing):
                ready.bulk(name, [document("x")])
        ready.create("b", DIMENSION, {})
        ready.update_aliases([AliasAction.add("w", "b")])
        with pytest.raises(IndexMissing):
            ready.bulk("w", [document("x")])
        assert list(ready.scan("a")) == list(ready.scan("b")) == []

    def test_a_late_drop_finds_its_token_gone(self, ready: VectorIndex) -> None:
        """A holder stopped before its drop must not destroy what was made under the same name since."""
        ready.update_aliases([AliasAction.add("drop-token", "a")])
        ready.drop("a", token="drop-token")  # noqa: S106
        assert "a" not in ready.indices()
        assert "drop-token" not in ready.aliases()
        ready.create("a", DIMENSION, {})
        with pytest.raises(AliasMoved):
            ready.drop("a", token="drop-token")  # noqa: S106
        assert "a" in ready.indices()

    def test_a_write_never_makes_a_dropped_index_again(self, ready: VectorIndex) -> None:
        ready.drop("a")
        with pytest.raises(IndexMissing):
            ready.bulk("w", [document("x")])
        assert dict(ready.indices()) == {}
        assert dict(ready.aliases()) == {}

    def test_a_tombstone_stops_stale_writers_also_after_reopening(self, ready: VectorIndex) -> None:
        assert outcomes(ready, "w", [document("x", 3), document("y", 3)]) == [W, W]
        tombstone = document("x", 5, deleted=True)
        assert outcomes(ready, "w", [tombstone]) == [W]
        assert outcomes(ready, "w", [document("x", 4)]) == [C]
        again = ready.reopened()
        try:
            assert outcomes(again, "w", [document("x", 4), document("x", 5)]) == [C, C]
            again.refresh("a")
            assert [hit.id for hit in again.search("a", vectors(1), 9)[0]] == ["y"]
            stored = again.fetch("a", ["x"])["x"]
            assert stored.deleted
            assert same(stored, tombstone)
            assert outcomes(again, "w", [document("x", 6)]) == [W]
        finally:
            again.close()
        ready.refresh("a")
        assert {hit.id for hit in ready.search("a", vectors(1), 9)[0]} == {"x", "y"}

    def test_vectors_come_back_as_they_were_given(self, ready: VectorIndex) -> None:
        given = document("x", 1, (vectors(1)[0] * np.float32(3.5)).astype(np.float32))
        ready.bulk("w", [given])
        stored = ready.fetch("a", ["x"])["x"]
        assert same(stored, given)
        assert stored.vector is not None
        assert stored.vector.dtype == np.float32

    def test_texts_that_no_engine_takes_are_refused_one_by_one(self, ready: VectorIndex) -> None:
        longest = "\u00e9" * 256
        given = vectors(1)[0]
        batch = [
            document(longest),
            document(longest + "x"),
            document("x", library="l" * 32_767),
            document("y", -1, given),
            document("z", 2**63, given),
            document("", 1),
            document("\ud800", 1, given),
            document("last", 2**63 - 1, given, library="l" * 32_766),
        ]
        assert outcomes(ready, "w", batch) == [W, R, R, R, R, R, R, W]
        assert [d.id for d in ready.scan("a")] == ["last", longest]

    # Fetch and scan

    def test_fetch_leaves_absent_ids_out(self, ready: VectorIndex) -> None:
        ready.bulk("w", [document("x"), document("t", deleted=True)])
        found = ready.fetch("a", ["t", "nothing", "x"])
        assert set(found) == {"x", "t"}
        assert dict(ready.fetch("a", [])) == {}

    def test_many_ids(self, ready: VectorIndex) -> None:
        batch = [document(f"id-{number}", vector=v) for number, v in enumerate(vectors(1501))]
        assert outcomes(ready, "w", batch) == [W] * 1501
        assert outcomes(ready, "w", batch) == [C] * 1501
        assert set(ready.fetch("a", [d.id for d in batch])) == {d.id for d in batch}
        ready.refresh("a")
        assert sum(1 for _ in ready.scan("a")) == 1501

    def test_scan_is_ordered_by_code_point(self, ready: VectorIndex) -> None:
        ids = ["a", "B", "é", "\U0001d11e", "￮", "ab", "A", "z", "0", "-", "a/b", "日本"]
        ready.bulk("w", [document(id, deleted=id == "B") for id in ids])
        ready.refresh("a")
        found = list(ready.scan("a"))
        assert [d.id for d in found] == sorted(ids)
        assert [d.id for d in found if d.deleted] == ["B"]
        assert all(same(d, document(d.id, deleted=d.id == "B")) for d in found)
        for after in [*ids, "", "aa", "zz"]:
            assert [d.id for d in ready.scan("a", after=after)] == sorted(id for id in ids if id > after)

    def test_scan_shows_one_point_in_time(self, ready: VectorIndex) -> None:
        ready.bulk("w", [document(id) for id in "bdfh"])
        ready.refresh("a")
        unread = ready.scan("a")
        begun = ready.scan("a")
        assert next(begun).id == "b"
        ready.bulk("w", [document("a"), document("e"), document("d", 2, deleted=True), document("f", 2)])
        assert [(d.id, d.version) for d in begun] == [("d", 1), ("f", 1), ("h", 1)]
        assert [(d.id, d.version) for d in unread] == [("b", 1), ("d", 1), ("f", 1), ("h", 1)]
        ready.refresh("a")
        assert [d.id for d in ready.scan("a")] == list("abdefh")

    def test_scan_of_some_buckets(self, ready: VectorIndex) -> None:
        ids = [f"id-{number}" for number in range(300)]
        ready.bulk("w", [document(id, deleted=id == "id-7") for id in ids])
        wanted = {bucket_of("id-7"), bucket_of("id-8"), 300}
        inside = sorted(id for id in ids if bucket_of(id) in wanted)
        assert [d.id for d in ready.scan("a", buckets=wanted)] == inside
        assert [d.id for d in ready.scan("a", after="id-7", buckets=wanted)] == [id for id in inside if id > "id-7"]
        assert list(ready.scan("a", buckets=())) == []

    def test_marks_tell_the_state_of_what_a_scan_shows(self, ready: VectorIndex) -> None:
        ready.bulk("w", [document(f"id-{number}", number + 1, deleted=number == 7) for number in range(300)])
        found = ready.marks("a")
        ready.bulk("w", [document("id-8", 5000), document("other")])
        assert [d.id for d in ready.scan("a")] == sorted([*(f"id-{n}" for n in range(300)), "other"])
        marks = list(found)
        assert [mark.id for mark in marks] == sorted(f"id-{number}" for number in range(300)), "of the time of the call"
        for document_ in ready.scan("a", buckets={bucket_of("id-7"), bucket_of("id-9")}):
            mark = next(mark for mark in ready.marks("a") if mark.id == document_.id)
            assert mark == (
                document_.id,
                document_.version,
                digest_of(document_.id, document_.version, document_.content_hash),
            )
        wanted = {bucket_of("id-7"), 300}
        assert [m.id for m in ready.marks("a", buckets=wanted)] == [d.id for d in ready.scan("a", buckets=wanted)]
        with pytest.raises(IndexMissing):
            list(ready.marks("nothing"))

    # Purging

    def test_a_purge_forgets_tombstones_and_nothing_else(self, ready: VectorIndex) -> None:
        ready.bulk("w", [document("live", 5), document("dead", 5, deleted=True), document("newer", 6, deleted=True)])
        asked = [("live", 5), ("dead", 5), ("newer", 5), ("absent", 5)]
        assert ready.purge("a", asked) == 1
        assert ready.purge("a", asked) == ready.purge("r", []) == 0
        assert [(d.id, d.version) for d in ready.scan("a")] == [("live", 5), ("newer", 6)]
        assert set(ready.fetch("a", ["live", "dead", "newer"])) == {"live", "newer"}
        assert ready.digests("a") == digests([document("live", 5), document("newer", 6, deleted=True)])
        info = ready.indices()["a"]
        assert (info.documents, info.tombstones) == (1, 1)
        with pytest.raises(IndexMissing):
            ready.purge("absent", asked)

    def test_what_comes_back_after_a_purge_is_new(self, ready: VectorIndex) -> None:
        ready.bulk("w", [document("x", 5, deleted=True)])
        assert ready.purge("a", [("x", 5)]) == 1
        assert outcomes(ready, "w", [document("x", 9)]) == [W]
        assert ready.purge("a", [("x", 5), ("y", 1)]) == 0
        assert outcomes(ready, "w", [document("x", 10, deleted=True)]) == [W]
        assert ready.purge("a", [("x", 5)]) == 0
        ready.refresh("a")
        assert [(d.id, d.version, d.deleted) for d in ready.scan("a")] == [("x", 10, True)]

    def test_a_purge_many_at_once(self, ready: VectorIndex) -> None:
        ready.bulk("w", [document(f"id-{number}", deleted=True) for number in range(1501)])
        assert ready.purge("a", [(f"id-{number}", 1) for number in range(1, 1501)]) == 1500
        assert [d.id for d in ready.scan("a")] == ["id-0"]

    def test_who_did_not_see_the_tombstone_does_not_go_on_finding_the_document(self, ready: VectorIndex) -> None:
        ready.bulk("w", [document("x"), document("y")])
        ready.refresh("a")
        assert {hit.id for hit in ready.search("a", vectors(1), 9)[0]} == {"x", "y"}
        other = ready.reopened()
        try:
            other.bulk("w", [document("x", 2, deleted=True)])
            assert other.purge("a", [("x", 2)]) == 1
            other.refresh("a")
        finally:
            other.close()
        assert [hit.id for hit in ready.search("a", vectors(1), 9)[0]] == ["y"]

    # What is done for a load, and cheap comparison

    def test_a_load_ends_with_everything_found(self, ready: VectorIndex) -> None:
        ready.tune("a", loading=True)
        ready.tune("a", loading=True)
        assert outcomes(ready, "w", [document(id) for id in "xyz"]) == [W, W, W]
        assert len(ready.fetch("a", list("xyz"))) == 3
        assert len(list(ready.scan("a"))) == 3
        ready.tune("a", loading=False)
        assert {hit.id for hit in ready.search("a", vectors(1), 9)[0]} == set("xyz")
        with pytest.raises(IndexMissing):
            ready.tune("absent", loading=False)

    def test_scan_and_digests_show_what_was_just_written(self, ready: VectorIndex) -> None:
        for version in (1, 2):
            given = [document("x", version), document("y", version, deleted=version == 2)]
            ready.bulk("w", given)
            assert [(d.id, d.version) for d in ready.scan("a")] == [("x", version), ("y", version)]
            assert ready.digests("a") == digests(given)

    def test_digests(self, ready: VectorIndex) -> None:
        assert dict(ready.digests("a")) == {}
        stored = {d.id: d for d in (document(f"id-{number}", 1_900_000_000_000_000 + number) for number in range(600))}
        ready.bulk("w", list(stored.values()))
        assert ready.digests("a") == ready.digests("r") == digests(stored.values())
        assert all(each.digest < 2**53 for each in ready.digests("a").values())
        change = document("id-5", 1_900_000_000_001_000, deleted=True)
        ready.bulk("w", [change])
        after = ready.digests("a")
        assert after == digests((stored | {"id-5": change}).values())
        assert len(set(after.items()) ^ set(digests(stored.values()).items())) == 2
        with pytest.raises(IndexMissing):
            ready.digests("absent")

    def test_nothing_is_wrong(self, ready: VectorIndex) -> None:
        ready.bulk("w", [document("x")])
        assert list(ready.troubles()) == []

    # Handles

    def test_what_another_handle_wrote_is_found(self, ready: VectorIndex) -> None:
        stored = {id: document(id) for id in ("x", "y", "z")}
        ready.bulk("w", list(stored.values()))
        ready.refresh("a")
        query = vectors(1)
        assert_hits(ready.search("a", query, 9)[0], stored, query[0], 9)
        other = ready.reopened()
        try:
            changes = {d.id: d for d in (document("x", 2), document("y", 2, deleted=True), document("n"))}
            other.bulk("w", list(changes.values()))
            other.refresh("a")
            ready.refresh("a")
            assert_hits(ready.search("a", query, 9)[0], stored | changes, query[0], 9)
            other.drop("a")
            other.create("a", DIMENSION, {})
            with pytest.raises(IndexMissing):
                ready.search("r", query, 9)
            assert list(ready.search("a", query, 9)[0]) == []
        finally:
            other.close()

    def test_close_can_be_said_twice(self, ready: VectorIndex) -> None:
        other = ready.reopened()
        other.close()
        other.close()
        assert set(ready.indices()) == {"a"}
