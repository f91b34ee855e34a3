"""The same corpus in the embedded index and in OpenSearch: the same answers, by the exact path and by the graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.index.opensearch import searching
from speakerdb.index.opensearch.adapter import OpenSearchIndex
from speakerdb.index.port import VectorIndex
from speakerdb.settings import OpenSearchSettings
from speakerdb.testing.index_oracle import TOLERANCE, vectors
from speakerdb.testing.servers.opensearch import OpenSearch, fresh_prefix
from speakerdb.types import AliasAction, Document, Filter, Hit, Kind

pytestmark = pytest.mark.servers

DIMENSION = 32
COUNT = 1200
FILTERS = [
    Filter(),
    Filter(kinds=(Kind.PROFILE,)),
    Filter(library_ids=("library-1", "library-2")),
    Filter(recording_ids=tuple(f"recording-{number}" for number in range(20))),
    Filter(profile_ids=("profile-3",), exclude_ids=("id-0003", "id-0010")),
    Filter(library_ids=("library-0",), exclude_recording_ids=("recording-3", "recording-4")),
    Filter(kinds=()),
]


def corpus() -> list[Document]:
    """Clusters of near voices, some vectors twice (ties), some tombstones."""
    random = np.random.default_rng(8)
    people = vectors(120, seed=8, dimension=DIMENSION)
    rows = people[random.integers(len(people), size=COUNT)] + 0.4 * vectors(COUNT, seed=9, dimension=DIMENSION)
    rows[100:140] = rows[100]
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return [
        Document(
            f"id-{number:04}",
            2 if number % 13 == 0 else 1,
            f"hash-{number}",
            Kind.PROFILE if number % 5 == 0 else Kind.SPEAKER,
            f"library-{number % 3}",
            None if number % 5 == 0 else f"recording-{number % 60}",
            f"profile-{number % 7}" if number % 2 else None,
            None if number % 13 == 0 else row,
        )
        for number, row in enumerate(rows)
    ]


def filled(index: VectorIndex) -> VectorIndex:
    index.create("a", DIMENSION, {})
    index.update_aliases([AliasAction.add("w", "a")])
    index.bulk("w", corpus())
    index.refresh("a")
    return index


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorIndex]:
    index = EmbeddedIndex(tmp_path_factory.mktemp("embedded") / "index.db")
    yield filled(index)
    index.close()


@pytest.fixture(scope="module", params=[1, 3], ids=["one shard", "three shards"])
def remote(opensearch: OpenSearch, request: pytest.FixtureRequest) -> Iterator[VectorIndex]:
    prefix = fresh_prefix()
    index = OpenSearchIndex(
        OpenSearchSettings(hosts=(opensearch.url,), prefix=prefix, replicas=0, shards=request.param, bulk_megabytes=0.1)
    )
    yield filled(index)
    index.close()
    opensearch.remove(prefix)


def agree(ours: Sequence[Hit], theirs: Sequence[Hit]) -> None:
    """Scores within the tolerance; the same hit wherever no other score is as near."""
    assert len(ours) == len(theirs)
    scores = [hit.score for hit in theirs]
    for place, (left, right) in enumerate(zip(ours, theirs, strict=True)):
        assert left.score == pytest.approx(right.score, abs=TOLERANCE)
        near = scores[max(0, place - 1) : place] + scores[place + 1 : place + 2]
        if all(abs(score - right.score) > TOLERANCE for score in near) and place + 1 < len(theirs):
            assert left == Hit(right.id, left.score, right.version, right.kind)


@pytest.mark.parametrize("k", [1, 10, 150])
@pytest.mark.parametrize("where", FILTERS, ids=str)
def test_exact_search_is_the_same_everywhere(embedded: VectorIndex, remote: VectorIndex, where: Filter, k: int) -> None:
    queries = np.vstack([vectors(6, seed=10, dimension=DIMENSION), corpus()[100].vector])
    for ours, theirs in zip(
        remote.search("a", queries, k, where), embedded.search("a", queries, k, where), strict=True
    ):
        agree(ours, theirs)
        if where == Filter() and k == 10:
            assert [hit.id for hit in ours] == [hit.id for hit in theirs]


@pytest.mark.parametrize("where", FILTERS, ids=str)
def test_the_graph_finds_the_same_in_a_small_corpus(
    embedded: VectorIndex, remote: VectorIndex, where: Filter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more candidates than there are documents. Where the cut is a tie, any of the tied may be found."""
    monkeypatch.setattr(searching, "EXACT_DOCUMENTS", 0)
    queries = vectors(12, seed=11, dimension=DIMENSION)
    for ours, theirs in zip(
        remote.search("a", queries, 10, where), embedded.search("a", queries, 10, where), strict=True
    ):
        agree(ours, theirs)
        assert [(-hit.score, hit.id) for hit in ours] == sorted((-hit.score, hit.id) for hit in ours)


def test_both_hold_the_same(embedded: VectorIndex, remote: VectorIndex) -> None:
    assert remote.digests("a") == embedded.digests("a")
    assert remote.indices() == embedded.indices()
    for left, right in zip(remote.scan("a", after="id-0007"), embedded.scan("a", after="id-0007"), strict=True):
        assert (left.id, left.version, left.content_hash) == (right.id, right.version, right.content_hash)
        assert (left.vector is None) == (right.vector is None)
        assert left.vector is None or left.vector.tobytes() == right.vector.tobytes()  # type: ignore[union-attr]
