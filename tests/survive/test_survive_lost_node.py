"""One node of three is lost, while the others go on; then it comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from survive_kit import Place, Told, wait_for

from speakerdb.errors import IndexUnavailable
from speakerdb.extraction.extract import Extracted, Task
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_extract
from speakerdb.testing.servers.opensearch import Cluster, OpenSearchServer


@pytest.fixture
def on_cluster(tmp_path: Path, database: str, cluster: Cluster) -> Iterator[Place]:
    """A library on three nodes."""
    with closing(Place(tmp_path, database, cluster.urls, "survive-")) as found:
        yield found


class Killing:
    """An executor whose recordings, from the one that is told on, find a node dead."""

    def __init__(self) -> None:
        self.at: tuple[str, OpenSearchServer] | None = None
        self.executor = FakeExecutor(self.answer)

    def answer(self, task: Task) -> Extracted:
        if self.at is not None and task.recording_id == self.at[0]:
            _, node = self.at
            self.at = None
            node.kill()
        return fake_extract(task)


def holder_of(cluster: Cluster, index: str) -> OpenSearchServer:
    """The node that has the primary copy."""
    shards = cluster.nodes[0].ask("GET", f"/_cat/shards/{index}?format=json&h=prirep,node")
    (name,) = [shard["node"] for shard in shards if shard["prirep"] == "p"]
    for node in cluster.nodes:
        if node.ask("GET", "/")["name"] == name:
            return node
    raise AssertionError(name)


def until_it_works(db: SpeakerDB) -> None:
    """What a service does with an error that is transient: the same again."""

    refusals: list[IndexUnavailable] = []

    def worked() -> bool:
        try:
            db.work()
        except IndexUnavailable as error:
            refusals.append(error)
            return False
        return True

    wait_for(worked, "work with two nodes", refusals)


def all_copies_are_there(cluster: Cluster) -> None:
    """Waits until every copy of every shard is on a node (again): a shard whose only whole copy is lost is lost."""
    cluster.start()
    cluster.nodes[0].ask("GET", "/_cluster/health?wait_for_status=green&timeout=60s", seconds=70.0)


@pytest.mark.timeout(600)
def test_nothing_is_lost_with_a_node(on_cluster: Place, cluster: Cluster, told: Told) -> None:
    killing = Killing()
    search = {"replicas": 1, "timeout_seconds": 10.0}
    db = on_cluster.open(executor=killing.executor, search=search, batch_recordings=1)
    told.add(db, "one", "two", "three")
    told.settled(db)

    # During a drain, the node with the primary copy of what is written.
    told.remove(db, "two")
    told.add(db, "four", "five", "six")
    all_copies_are_there(cluster)
    lost = holder_of(cluster, "survive-speakers_v3")
    killing.at = ("five", lost)
    until_it_works(db)
    assert lost.pid is None
    told.kept(db)
    told.answers(db, "v3")
    told.settled(db)
    assert "copies of shards are missing" in " ".join(problem.message for problem in db.status().problems)
    told.settled(on_cluster.open(folder="another", search=search))  # who starts now finds the other nodes
    all_copies_are_there(cluster)
    told.settled(db)

    # During a migration, the node with the primary copy of the target.
    db.start_migration("v4", force=True)
    told.add(db, "seven", "eight")
    all_copies_are_there(cluster)
    lost = holder_of(cluster, "survive-speakers_v4")
    killing.at = ("eight", lost)
    until_it_works(db)
    told.settled(db)
    db.finalize()
    told.settled(db)
    all_copies_are_there(cluster)
    told.settled(db)
    assert not [problem for problem in db.status().problems if problem.code == "index-trouble"]
