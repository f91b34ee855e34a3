"""An index or a cluster that takes no writes for a while: the disk watermark, or a person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from survive_kit import Place, Told

from speakerdb.errors import BackendError, IndexUnavailable, StorageFull
from speakerdb.service import SpeakerDB
from speakerdb.testing.servers.opensearch import OpenSearch, OpenSearchServer

WATERMARK = "index.blocks.read_only_allow_delete"
"""What the cluster sets by itself where a disk has passed its flood stage."""


@contextmanager
def blocked(opensearch: OpenSearch, place: Place, index: str, block: str = WATERMARK) -> Iterator[None]:
    """The block stands for as long as the block of code."""
    path = f"/{place.prefix}{index}/_settings"
    opensearch.ask("PUT", path, {block: True})
    yield
    opensearch.ask("PUT", path, {block: None})


def says_the_disk_is_full(error: StorageFull) -> None:
    assert (error.code, error.exit_code) == ("storage-full", 8)
    assert "disk" in error.message
    assert "_cat/allocation" in error.hint


def problems(db: SpeakerDB) -> str:
    """All that `status` says is wrong."""
    return " ".join(f"{problem.code} {problem.message}" for problem in db.status().problems)


def test_work_stops_and_goes_on_while_the_disk_of_a_node_is_full(
    place: Place, opensearch: OpenSearch, told: Told
) -> None:
    db = place.open()
    told.add(db, "one", "two")
    told.settled(db)
    with blocked(opensearch, place, "speakers_v3"):
        told.add(db, "three")
        told.remove(db, "two")
        with pytest.raises(StorageFull) as caught:
            db.work()
        says_the_disk_is_full(caught.value)
        with pytest.raises(StorageFull):
            db.work()
        answer = db.match(speaker=told.has["one"][0], k=3)
        assert all(match.recording_id != "two" for match in answer.matches), "removed, and shown"
        assert "read-only" in problems(db)
        told.kept(db)
    assert "read-only" not in problems(db)
    told.settled(db)


@pytest.mark.parametrize("which", ["speakers_v3", "speakers_v4"])
def test_a_finalize_waits_for_the_disk_and_changes_nothing(
    place: Place, opensearch: OpenSearch, told: Told, which: str
) -> None:
    db = place.open()
    told.add(db, "one", "two", "three")
    db.work()
    db.start_migration("v4", force=True)
    db.work()
    told.remove(db, "two")
    db.work()
    with blocked(opensearch, place, which):
        with pytest.raises(StorageFull) as caught:
            db.finalize()
        says_the_disk_is_full(caught.value)
        assert db.match(speaker=told.has["one"][0]).generation == "v3"
        assert "read-only" in problems(db)
    told.settled(db)
    db.finalize()
    told.settled(db)
    with blocked(opensearch, place, which), pytest.raises(StorageFull):
        db.rollback()
    told.settled(db)
    db.rollback()
    told.settled(db)


@pytest.mark.parametrize("block", ["index.blocks.write", "index.blocks.read_only"])
def test_a_block_that_a_person_set_is_named(place: Place, opensearch: OpenSearch, told: Told, block: str) -> None:
    db = place.open()
    told.add(db, "one")
    told.settled(db)
    with blocked(opensearch, place, "speakers_v3", block):
        told.add(db, "two")
        with pytest.raises(IndexUnavailable) as caught:
            db.work()
        assert "index.blocks" in caught.value.hint
        assert "read-only" in problems(db) or "forbade writing" in problems(db)
        assert db.match(speaker=told.has["one"][0]).generation == "v3"
    told.settled(db)


def test_a_cluster_that_makes_no_index_keeps_the_old_one(
    on_own_search: Place, own_opensearch: OpenSearchServer, told: Told
) -> None:
    """As the cluster blocks itself where all nodes are above the high watermark."""
    db = on_own_search.open()
    told.add(db, "one", "two")
    told.settled(db)
    own_opensearch.ask("PUT", "/_cluster/settings", {"persistent": {"cluster.blocks.create_index": True}})
    told.add(db, "three")
    for verb in (lambda: db.rebuild_index("v3"), lambda: db.start_migration("v4", force=True)):
        with pytest.raises(BackendError) as caught:
            verb()
        assert caught.value.exit_code == 8
        assert "block" in caught.value.hint or "disk" in caught.value.hint, caught.value.hint
    assert "create_index" in problems(db)
    told.settled(db)  # what is there can be written
    own_opensearch.ask("PUT", "/_cluster/settings", {"persistent": {"cluster.blocks.create_index": None}})
    db.rebuild_index("v3")
    db.start_migration("v4", force=True)
    told.settled(db)
