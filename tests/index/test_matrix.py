"""The in-memory search: exact, in bounded memory, and the same answer however it is asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.index import matrix as module
from speakerdb.index.matrix import Matrix, Row, _floors, checked_queries, unit_rows
from speakerdb.testing.index_oracle import vectors
from speakerdb.types import Filter, Kind


def row(id: str, vector: npt.NDArray[np.float32] | None, version: int = 1) -> Row:
    return (id, version, Kind.SPEAKER, "library", "recording", None, None if vector is None else vector.tobytes())


def filled(stored: npt.NDArray[np.float32], ids: Sequence[str] | None = None) -> Matrix:
    matrix = Matrix(stored.shape[1])
    names = ids or [f"{number:05}" for number in range(len(stored))]
    matrix.apply([row(id, vector) for id, vector in zip(names, stored, strict=True)])
    return matrix


def best_by_numpy(stored: npt.NDArray[np.float32], query: npt.NDArray[np.float32], k: int) -> list[float]:
    s, q = stored.astype(np.float64), query.astype(np.float64)
    scores = s @ q / (np.linalg.norm(s, axis=1) * np.linalg.norm(q))
    return sorted(scores.tolist(), reverse=True)[:k]


@pytest.mark.parametrize("dimension", [1, 3, 64, 255])
@pytest.mark.parametrize("block", [1, 700, 1 << 24])
def test_batches_equal_single_queries_bit_for_bit(monkeypatch: pytest.MonkeyPatch, dimension: int, block: int) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    stored = vectors(613, seed=1, dimension=dimension)
    stored[::3] = stored[0]
    matrix = filled(stored)
    queries = checked_queries(vectors(17, seed=2, dimension=dimension), dimension, 5)
    together = matrix.search(queries, 5, Filter())
    for number in range(17):
        assert matrix.search(queries[number : number + 1], 5, Filter()) == [together[number]]


@pytest.mark.parametrize("exact_rows", [1, 100, 4096])
@pytest.mark.parametrize("dimension", [7, 256])
def test_equal_vectors_tie_exactly_wherever_they_stand(
    monkeypatch: pytest.MonkeyPatch, exact_rows: int, dimension: int
) -> None:
    monkeypatch.setattr(module, "_EXACT_ROWS", exact_rows)
    rng = np.random.default_rng(3)
    # Rows that a float32 product cannot tell from the tied ones, and that must not push one of those out.
    tied = vectors(1, seed=4, dimension=dimension)[0]
    stored = np.repeat(tied[None], 400, axis=0)
    close = rng.permutation(400)[:200]
    stored[close, 0] += np.float32(1e-4) * np.sign(stored[close, 0])
    matrix = filled(stored)
    (hits,) = matrix.search(unit_rows(tied[None]), 50, Filter())
    assert [hit.id for hit in hits] == [f"{number:05}" for number in range(400) if number not in close][:50]
    assert len({hit.score for hit in hits}) == 1


@pytest.mark.parametrize("scale", [1e-40, 1e-25, 1.0, 1e25, 3e38])
def test_any_finite_length_gives_the_same_direction(scale: float) -> None:
    # Not exact below 1e-38, where float32 itself keeps only a few bits.
    stored = (vectors(50, seed=5, dimension=16) * np.float64(scale)).astype(np.float32)
    (hits,) = filled(stored).search(unit_rows(stored[:1]), 50, Filter())
    assert [hit.score for hit in hits] == pytest.approx(best_by_numpy(stored, stored[0], 50), abs=1e-6)
    assert hits[0].id == "00000"


@given(
    st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.250001, 1.0]), min_size=1, max_size=700).map(
        lambda values: np.array(values, np.float32)
    ),
    st.integers(1, 20),
)
def test_the_floor_is_never_above_the_kth_best(scores: npt.NDArray[np.float32], k: int) -> None:
    k = min(k, len(scores))
    both = np.stack([scores, -scores])
    assert (_floors(both, k) <= np.sort(both, axis=1)[:, -k]).all()


def test_the_floor_is_close_to_the_kth_best() -> None:
    scores = np.random.default_rng(8).standard_normal((20, 30_000)).astype(np.float32)
    assert ((scores >= _floors(scores, 10)[:, None]).sum(axis=1) < 20).all()


_batches = st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=8, unique_by=lambda change: change[0])


@given(st.lists(_batches, max_size=12))
def test_changes_equal_a_dict(batches: list[list[tuple[int, bool]]]) -> None:
    stored: dict[str, tuple[int, npt.NDArray[np.float32]]] = {}
    matrix = Matrix(4)
    for version, batch in enumerate(batches):
        rows = []
        for number, alive in batch:
            vector = vectors(1, seed=version * 100 + number, dimension=4)[0]
            rows.append(row(str(number), vector if alive else None, version))
            stored.pop(str(number), None)
            if alive:
                stored[str(number)] = (version, vector)
        matrix.apply(rows)
        matrix.apply(rows)
        assert len(matrix) == len(stored)
        query = vectors(1, seed=9999, dimension=4)
        (hits,) = matrix.search(unit_rows(query), 20, Filter())
        assert {hit.id: hit.version for hit in hits} == {id: v for id, (v, _) in stored.items()}
        for hit in hits:
            assert hit.score == pytest.approx(float(stored[hit.id][1] @ query[0]), abs=1e-6)


def test_a_filter_that_empties_most_groups_of_columns_is_exact() -> None:
    """Groups take every 100th row here; only 13 of them keep any, fewer than the hits asked for."""
    stored = vectors(6400, seed=10, dimension=8)
    kept = [number for number in range(6400) if number % 100 < 13]
    matrix = Matrix(8)
    for number, vector in enumerate(stored):
        library = "kept" if number % 100 < 13 else "other"
        matrix.apply([(f"{number:05}", 1, Kind.SPEAKER, library, None, None, vector.tobytes())])
    query = vectors(2, seed=11, dimension=8)
    for hits, one in zip(matrix.search(unit_rows(query), 20, Filter(library_ids=("kept",))), query, strict=True):
        assert {int(hit.id) for hit in hits} <= set(kept)
        assert [hit.score for hit in hits] == pytest.approx(best_by_numpy(stored[kept], one, 20), abs=1e-6)


def test_room_that_was_reserved_is_not_grown_and_growth_is_small() -> None:
    matrix = Matrix(4)
    matrix.reserve(1000)
    matrix.apply([row(str(number), vector) for number, vector in enumerate(vectors(1000, dimension=4))])
    assert len(matrix._vectors) == 1000
    matrix.apply([row("one more", vectors(1, dimension=4)[0])])
    assert 1001 <= len(matrix._vectors) <= 1200
    assert len(matrix) == 1001
