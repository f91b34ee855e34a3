"""Indices that another application wrote in a real cluster: read, blocked, copied and replaced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from speakerdb.adoption import ImportOptions
from speakerdb.errors import (
    AliasMoved,
    IndexExists,
    IndexMissing,
    IndexUnavailable,
    SafetyStop,
    SpeakerDBError,
)
from speakerdb.index.foreign import foreign_of
from speakerdb.index.opensearch.client import LINES, Client
from speakerdb.index.opensearch.foreign import ForeignIndices
from speakerdb.service import SpeakerDB
from speakerdb.settings import OpenSearchSettings, Settings
from speakerdb.testing.factories import FakeExecutor, fake_settings
from speakerdb.testing.invariants import check, complete
from speakerdb.testing.servers.opensearch import OpenSearch
from speakerdb.types import SERVING_ALIAS, AliasAction
from tests.adoption.legacy import Raw, fill, unit

MAPPING = {
    "properties": {
        "media_file_id": {"type": "integer"},
        "profile_id": {"type": "integer"},
        "display_name": {"type": "keyword"},
        "embedding": {
            "type": "knn_vector",
            "dimension": 24,
            "method": {"name": "hnsw", "engine": "lucene", "space_type": "cosinesimil"},
        },
    }
}


class Other:
    """The other application."""

    def __init__(self, settings: OpenSearchSettings) -> None:
        self.client = Client(settings)
        self.prefix = settings.prefix

    def make(self, name: str, count: int = 7, **settings: Any) -> None:
        """An index with voices."""
        body = {"settings": {"index": {"knn": True, "number_of_replicas": 0} | settings}, "mappings": MAPPING}
        self.client.ask("PUT", f"/{self.prefix}{name}", body)
        raw = Raw()
        fill(raw, count)
        lines = [
            part
            for id, one in raw.documents.items()
            for part in (orjson.dumps({"index": {"_id": id}}), orjson.dumps(one.source))
        ]
        answer = self.client.ask("POST", f"/{self.prefix}{name}/_bulk", b"\n".join(lines) + b"\n", content=LINES)
        assert not answer["errors"]

    def put(self, name: str, id: str, source: dict[str, Any]) -> None:
        """One document."""
        self.client.ask("PUT", f"/{self.prefix}{name}/_doc/{id}", source)


@pytest.fixture
def cluster(opensearch: OpenSearch, opensearch_prefix: str) -> OpenSearchSettings:
    return OpenSearchSettings(hosts=(opensearch.url,), prefix=opensearch_prefix, replicas=0, retry_seconds=1.0)


@pytest.fixture
def other(cluster: OpenSearchSettings) -> Iterator[Other]:
    found = Other(cluster)
    yield found
    found.client.close()


@pytest.fixture
def foreign(other: Other) -> ForeignIndices:
    return ForeignIndices(other.client)


@pytest.fixture
def settings(cluster: OpenSearchSettings, tmp_path: Path) -> Settings:
    return fake_settings(tmp_path, opensearch=cluster)


def test_an_index_is_described_and_read(other: Other, foreign: ForeignIndices) -> None:
    other.make("speakers", 25, number_of_shards=3)
    found = foreign.describe("speakers")
    assert (found.documents, found.vectors, found.blocked) == (25, {"embedding": 24}, False)
    assert found.fields == ("display_name", "embedding", "media_file_id", "profile_id")
    parts = list(foreign.documents("speakers", 10))
    assert [len(part) for part in parts] == [10, 10, 5]
    held = {one.id: one for part in parts for one in part}
    assert set(held) == {str(n) for n in range(25)}
    assert held["0"].source["profile_id"] == 3
    assert len(held["0"].source["embedding"]) == 24
    assert foreign.holds("speakers", ["1", "99"]) == {"1"}


def test_a_scan_is_of_one_point_in_time(other: Other, foreign: ForeignIndices) -> None:
    other.make("speakers", 9)
    pages = foreign.documents("speakers", 4)
    first = next(pages)
    other.put("speakers", "new", {"media_file_id": 1})
    rest = [one.id for page in pages for one in page]
    assert sorted([*(one.id for one in first), *rest]) == [str(n) for n in range(9)]
    begun = foreign.documents("speakers", 4)
    next(begun)
    begun.close()  # the point in time is given back


@pytest.mark.parametrize(
    "name", ["speakers_none", "a,b", "*", "_all", "speakers*", "", "-x", "SPEAKERS", "a/b", "../x", "_cat"]
)
def test_what_is_not_there_is_missing(foreign: ForeignIndices, name: str) -> None:
    with pytest.raises(IndexMissing):
        foreign.describe(name)


def test_an_index_outside_of_the_prefix_can_be_read(
    opensearch: OpenSearch, other: Other, foreign: ForeignIndices
) -> None:
    """By its whole name."""
    other.make("speakers")
    plain = ForeignIndices(Client(OpenSearchSettings(hosts=(opensearch.url,), prefix="elsewhere-")))
    assert plain.describe(f"{other.prefix}speakers").documents == 7
    with pytest.raises(IndexMissing):
        plain.block(SERVING_ALIAS)
    with pytest.raises(IndexMissing):
        plain.describe(SERVING_ALIAS)
    plain._client.close()


def test_a_block_stops_writes_and_is_lifted(other: Other, foreign: ForeignIndices) -> None:
    other.make("speakers")
    for _ in range(2):
        foreign.block("speakers")
        assert foreign.describe("speakers").blocked
    with pytest.raises(IndexUnavailable):
        other.put("speakers", "x", {"media_file_id": 1})
    assert len([one for page in foreign.documents("speakers", 5) for one in page]) == 7
    for _ in range(2):
        foreign.unblock("speakers")
    other.put("speakers", "x", {"media_file_id": 1})
    assert foreign.describe("speakers").documents == 8


def test_a_copy_is_whole_and_stays_blocked(other: Other, foreign: ForeignIndices) -> None:
    other.make("speakers", number_of_shards=2)
    with pytest.raises(SpeakerDBError):
        foreign.copy("speakers", "speakers_legacy_1")  # it may still be written
    foreign.block("speakers")
    foreign.copy("speakers", "speakers_legacy_1")
    found = foreign.describe("speakers_legacy_1")
    assert (found.documents, found.blocked, found.vectors) == (7, True, {"embedding": 24})
    with pytest.raises(IndexExists):
        foreign.copy("speakers", "speakers_legacy_1")


def test_replacing_is_all_or_nothing(other: Other, foreign: ForeignIndices) -> None:
    other.make("speakers")
    other.make("speakers_new")
    token, swap = AliasAction.remove("speakers-token", "speakers_new"), AliasAction.add(SERVING_ALIAS, "speakers_new")
    for actions in ([token, swap], [AliasAction.remove("speakers-token", "speakers_gone"), swap]):
        with pytest.raises((AliasMoved, IndexMissing)):
            foreign.replace("speakers", actions)
        assert foreign.describe("speakers").name == "speakers"
        assert foreign.describe("speakers").documents == 7
    other.client.ask(
        "POST", "/_aliases",
        {"actions": [{"add": {"index": f"{other.prefix}speakers_new", "alias": f"{other.prefix}speakers-token"}}]},
    )  # fmt: skip
    foreign.replace("speakers", [token, swap])
    assert foreign.describe("speakers").name == "speakers_new"
    for _ in range(2):  # arrived late, it can not remove what the alias names
        with pytest.raises(SpeakerDBError):
            foreign.replace("speakers", [swap])
        assert foreign.describe("speakers").documents == 7


def test_a_legacy_index_is_taken_over(settings: Settings, other: Other) -> None:
    other.make("speakers", 50, number_of_shards=2)
    other.put("speakers", "bad", {"media_file_id": 1})
    with pytest.raises(SafetyStop, match="before speakerdb"):
        SpeakerDB.open(settings, executor=FakeExecutor())
    with SpeakerDB.open(settings, executor=FakeExecutor(), start=False) as db:
        assert isinstance(foreign_of(db.index), ForeignIndices)
        with pytest.raises(SafetyStop, match="no-vector: bad"):
            db.adoption.takeover.run()
        report = db.adoption.takeover.run(leave=["no-vector"])
        assert report.done
    with SpeakerDB.open(settings, executor=FakeExecutor()) as db:
        db.work()
        view = check(db)
        complete(view, "v3")
        assert view.aliases[SERVING_ALIAS] == ("speakers_v3",)
        assert all(np.array_equal(view.documents["v3"][str(n)].vector, unit(n)) for n in range(50))
        found = db.match(speaker="3", k=3)
        assert (found.index, len(found.matches)) == ("speakers_v3", 3)
        assert report.copy is not None
        assert not [problem for problem in db.status().problems if report.copy in problem.message]
        assert foreign_of(db.index).describe(report.copy).documents == 51
        assert foreign_of(db.index).holds(report.copy, ["bad"]) == {"bad"}


def test_a_take_over_that_was_interrupted_is_given_up(settings: Settings, other: Other, monkeypatch: Any) -> None:
    other.make("speakers")
    with SpeakerDB.open(settings, executor=FakeExecutor(), start=False) as db:
        with monkeypatch.context() as patch:
            patch.setattr(ForeignIndices, "copy", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
            patch.setattr(ForeignIndices, "unblock", lambda *_: (_ for _ in ()).throw(IndexUnavailable("away")))
            with pytest.raises(KeyboardInterrupt):
                db.adoption.takeover.run()
        assert foreign_of(db.index).describe("speakers").blocked
    with pytest.raises(SafetyStop, match="interrupted") as error:
        SpeakerDB.open(settings, executor=FakeExecutor())
    assert "--give-up" in error.value.hint
    with SpeakerDB.open(settings, executor=FakeExecutor(), start=False) as db:
        assert not db.adoption.takeover.give_up().blocked
        other.put("speakers", "new", {"media_file_id": 1, "embedding": [1.0] * 24})
        assert db.adoption.takeover.run().done
        assert "new" in {s.id for s in db.speakers()}


def test_a_foreign_index_behind_the_alias_is_imported_and_replaced(settings: Settings, other: Other) -> None:
    other.make("speakers_v3", 12)
    other.client.ask(
        "POST", "/_aliases",
        {"actions": [{"add": {"index": f"{other.prefix}speakers_v3", "alias": f"{other.prefix}speakers"}}]},
    )  # fmt: skip
    with pytest.raises(SafetyStop, match="index import speakers_v3|knows no generation"):  # noqa: RUF043
        SpeakerDB.open(settings, executor=FakeExecutor())
    with SpeakerDB.open(settings, executor=FakeExecutor(), start=False) as db:
        report = db.adoption.imports.run("speakers", ImportOptions(assumed_seconds=30.0))
        assert (report.index, report.imported, report.next) == (
            "speakers_v3", 12, "speakerdb index rebuild v3 --serve",
        )  # fmt: skip
    with SpeakerDB.open(settings, executor=FakeExecutor()) as db:
        assert {p.code for p in db.status().problems} >= {"foreign-index", "foreign-vectors"}
        built = db.rebuild_index("v3", serve=True)
        assert (built.index, built.alias_moved) == ("speakers_v3.r2", True)
        db.work()
        complete(check(db), "v3")
        assert foreign_of(db.index).describe("speakers_v3").documents == 12
