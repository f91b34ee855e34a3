"""The part of the contract of `speakerdb.index.port.VectorIndex` that is about search; see `index_contract`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from speakerdb.errors import InvalidInput
from speakerdb.index.port import VectorIndex
from speakerdb.testing.index_oracle import DIMENSION, TOLERANCE, assert_hits, document, unit, vectors
from speakerdb.types import Document, Filter, Kind


class IndexSearchContract:
    """A part of `IndexContract`, which has the fixtures."""

    def test_search_of_an_empty_index(self, ready: VectorIndex) -> None:
        assert [list(hits) for hits in ready.search("a", vectors(2), 3)] == [[], []]
        assert list(ready.search("a", np.empty((0, DIMENSION), np.float32), 3)) == []

    @pytest.mark.parametrize("k", [1, 10, 300, 1000])
    def test_search_is_exact(self, ready: VectorIndex, k: int) -> None:
        stored = {d.id: d for d in _library(300)}
        ready.bulk("w", list(stored.values()))
        ready.refresh("a")
        queries = vectors(5, seed=1)
        for query, hits in zip(queries, ready.search("a", queries, k), strict=True):
            assert_hits(hits, stored, query, k)

    @pytest.mark.parametrize(
        "where",
        [
            Filter(),
            Filter(kinds=(Kind.PROFILE,)),
            Filter(kinds=(Kind.SPEAKER, Kind.PROFILE)),
            Filter(library_ids=("library-1",)),
            Filter(library_ids=("library-0", "library-2", "absent")),
            Filter(recording_ids=("recording-7",)),
            Filter(recording_ids=("recording-7", "recording-8", "recording-9")),
            Filter(profile_ids=("profile-3", "profile-4")),
            Filter(exclude_ids=("id-003", "id-004", "absent")),
            Filter(exclude_recording_ids=("recording-7", "absent")),
            Filter(kinds=(Kind.SPEAKER,), library_ids=("library-1",), exclude_recording_ids=("recording-1",)),
            Filter(library_ids=("library-1",), profile_ids=("profile-3",), exclude_ids=("id-003",)),
            Filter(kinds=()),
            Filter(library_ids=()),
            Filter(recording_ids=()),
            Filter(profile_ids=()),
            Filter(library_ids=("absent",)),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("k", [3, 1000])
    def test_filters(self, ready: VectorIndex, where: Filter, k: int) -> None:
        stored = {d.id: d for d in _library(300)}
        ready.bulk("w", list(stored.values()))
        gone = [document(f"id-{number:03}", 2, deleted=True) for number in range(0, 300, 11)]
        ready.bulk("w", gone)
        stored |= {d.id: d for d in gone}
        ready.refresh("a")
        queries = vectors(3, seed=2)
        for query, hits in zip(queries, ready.search("a", queries, k, where), strict=True):
            assert_hits(hits, stored, query, k, where)

    def test_a_changed_document_is_filtered_by_what_it_is_now(self, ready: VectorIndex) -> None:
        ready.bulk("w", [document("x", 1, profile="p"), document("y", 1)])
        ready.refresh("a")
        query = vectors(1)
        assert [hit.id for hit in ready.search("a", query, 9, Filter(profile_ids=("p",)))[0]] == ["x"]
        ready.bulk("w", [document("x", 2), document("y", 2, profile="p")])
        ready.refresh("a")
        assert [hit.id for hit in ready.search("a", query, 9, Filter(profile_ids=("p",)))[0]] == ["y"]

    def test_a_batch_of_queries_equals_single_queries(self, ready: VectorIndex) -> None:
        ready.bulk("w", _library(300))
        ready.refresh("a")
        queries = vectors(40, seed=3)
        where = Filter(library_ids=("library-1", "library-2"))
        batch = ready.search("a", queries, 7, where)
        for query, hits in zip(queries, batch, strict=True):
            (single,) = ready.search("a", query[None], 7, where)
            assert [hit.id for hit in single] == [hit.id for hit in hits]
            assert [hit.score for hit in single] == pytest.approx([hit.score for hit in hits], abs=TOLERANCE)

    def test_ties_are_ordered_by_id_also_at_the_cut(self, ready: VectorIndex) -> None:
        eye = np.eye(DIMENSION)
        best, tied, rest = unit([eye[0], eye[0] + eye[1], eye[2]])
        order = np.random.default_rng(4).permutation(200)
        ready.bulk("w", [document(f"tied-{number:03}", vector=tied) for number in order])
        ready.bulk("w", [document("a-rest", vector=rest), document("z-best", vector=best)])
        ready.refresh("a")
        query = unit(np.eye(DIMENSION)[:1])
        for k in (1, 2, 57, 201):
            expected = ["z-best", *(f"tied-{number:03}" for number in range(200))][:k]
            assert [hit.id for hit in ready.search("a", query, k)[0]] == expected
            assert [hit.id for hit in ready.search("a", np.repeat(query, 3, axis=0), k)[2]] == expected

    def test_scores_stay_in_range(self, ready: VectorIndex) -> None:
        rows = vectors(50, seed=5)
        ready.bulk("w", [document(f"id-{number}", vector=row) for number, row in enumerate(rows)])
        ready.refresh("a")
        for (best, *_), number in zip(ready.search("a", rows, 2), range(50), strict=True):
            assert best.id == f"id-{number}"
            assert best.score == pytest.approx(1.0, abs=TOLERANCE)
            assert best.score <= 1.0
        for hits in ready.search("a", -rows, 50):
            assert hits[-1].score == pytest.approx(-1.0, abs=TOLERANCE)
            assert hits[-1].score >= -1.0

    @pytest.mark.parametrize(
        "queries",
        [
            np.ones(DIMENSION, np.float32),
            np.ones((1, DIMENSION - 1), np.float32),
            np.ones((1, 1, DIMENSION), np.float32),
            np.full((1, DIMENSION), np.nan, np.float32),
            np.full((2, DIMENSION), -np.inf, np.float32),
            np.zeros((1, DIMENSION), np.float32),
        ],
        ids=["flat", "short", "deep", "nan", "infinite", "zero"],
    )
    def test_queries_that_cannot_be_searched(self, ready: VectorIndex, queries: npt.NDArray[np.float32]) -> None:
        ready.bulk("w", [document("x")])
        with pytest.raises(InvalidInput):
            ready.search("a", queries, 1)

    def test_at_least_one_hit_must_be_asked_for(self, ready: VectorIndex) -> None:
        with pytest.raises(InvalidInput):
            ready.search("a", vectors(1), 0)


def _library(count: int) -> list[Document]:
    return [
        document(
            f"id-{number:03}",
            vector=row,
            kind=Kind.PROFILE if number % 5 == 0 else Kind.SPEAKER,
            library=f"library-{number % 3}",
            recording=None if number % 5 == 0 else f"recording-{number % 50}",
            profile=f"profile-{number % 7}" if number % 2 else None,
        )
        for number, row in enumerate(vectors(count, seed=6))
    ]
