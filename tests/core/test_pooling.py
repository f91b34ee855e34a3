"""Pooling against its definition, merging against pooling, and content hashes that cannot be mixed up."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from speakerdb.core.pooling import content_hash, merge, pool
from speakerdb.errors import DimensionMismatch, InvalidInput, NotFinite
from speakerdb.types import Embedding, FloatArray

seconds = st.floats(0.5, 20.0)


@st.composite
def segments(draw: st.DrawFn, most: int = 8, dimension: int = 6) -> tuple[FloatArray, list[float]]:
    n = draw(st.integers(1, most))
    seed = draw(st.integers(0, 2**32 - 1))
    scale = draw(st.sampled_from([1e-30, 1e-3, 1.0, 1e4, 1e30]))
    random = np.random.default_rng(seed)
    vectors = (random.standard_normal((n, dimension)) + draw(st.floats(0, 3))) * scale
    return vectors.astype(np.float32), draw(st.lists(seconds, min_size=n, max_size=n))


def plain(vectors: FloatArray, weights: list[float]) -> tuple[list[float], float, float | None]:
    """The definition, in plain Python."""
    units = []
    for row in vectors.tolist():
        length = math.hypot(*row)
        units.append([x / length for x in row])
    mean = [
        math.fsum(w * u[d] for w, u in zip(weights, units, strict=True)) / sum(weights) for d in range(len(units[0]))
    ]
    resultant = math.hypot(*mean)
    pairs = [sum(a * b for a, b in zip(u, v, strict=True)) for u, v in itertools.combinations(units, 2)]
    return [x / resultant for x in mean], resultant, sum(pairs) / len(pairs) if pairs else None


@given(segments())
def test_pooling_is_what_it_says(given_: tuple[FloatArray, list[float]]) -> None:
    vectors, weights = given_
    direction, resultant, agreement = plain(vectors, weights)
    assume(resultant > 1e-3)
    e = pool(vectors, weights)
    assert e.vector.dtype == np.float32
    assert e.vector.shape == (vectors.shape[1],)
    assert np.linalg.norm(e.vector.astype(np.float64)) == pytest.approx(1, abs=1e-6)
    assert e.vector == pytest.approx(direction, abs=1e-5)
    assert e.resultant == pytest.approx(resultant, abs=1e-6)
    assert e.seconds == pytest.approx(sum(weights))
    assert e.segments == len(weights)
    assert e.agreement == (None if agreement is None else pytest.approx(agreement, abs=1e-6))


@given(st.lists(segments(most=5), min_size=1, max_size=4))
def test_merging_is_pooling_all_segments_at_once(parts: list[tuple[FloatArray, list[float]]]) -> None:
    vectors = np.concatenate([v for v, _ in parts])
    weights = [w for _, part in parts for w in part]
    assume(plain(vectors, weights)[1] > 1e-2)
    assume(all(plain(v, w)[1] > 1e-2 for v, w in parts))
    merged, pooled = merge([pool(v, w) for v, w in parts]), pool(vectors, weights)
    assert merged.vector == pytest.approx(pooled.vector, abs=1e-4)
    assert merged.resultant == pytest.approx(pooled.resultant, abs=1e-5)
    assert merged.seconds == pytest.approx(pooled.seconds)
    assert merged.segments == pooled.segments


def test_agreement_of_a_merge() -> None:
    one = pool(np.eye(3, dtype=np.float32), [1.0, 2.0, 3.0])
    assert one.agreement == pytest.approx(0)
    assert merge([one]) is one
    assert merge([one, one]).agreement is None


def test_one_segment_has_no_agreement_and_full_resultant() -> None:
    e = pool(np.array([[3.0, 4.0]], np.float32), [2.0])
    assert e.vector == pytest.approx([0.6, 0.8])
    assert (e.resultant, e.agreement, e.segments) == (pytest.approx(1), None, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 0.0])
def test_a_row_that_is_no_vector_is_named(bad: float) -> None:
    vectors = np.ones((3, 4), np.float32)
    vectors[1] = 0
    vectors[1, 2] = bad
    with pytest.raises(NotFinite) as caught:
        pool(vectors, [1.0, 1.0, 1.0])
    assert caught.value.details["rows"] == [1]


def test_segments_that_cancel_each_other() -> None:
    opposite = np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32)
    with pytest.raises(NotFinite):
        pool(opposite, [2.0, 2.0])
    halves = [pool(opposite[i : i + 1], [2.0]) for i in range(2)]
    with pytest.raises(NotFinite):
        merge(halves)
    assert pool(opposite, [3.0, 2.0]).resultant == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("vectors", "weights"),
    [
        (np.zeros((0, 4), np.float32), []),
        (np.ones((2, 0), np.float32), [1.0, 1.0]),
        (np.ones(4, np.float32), [1.0] * 4),
        (np.ones((2, 4), np.float32), [1.0]),
        (np.ones((2, 4), np.float32), [1.0, 0.0]),
        (np.ones((2, 4), np.float32), [1.0, -1.0]),
        (np.ones((2, 4), np.float32), [1.0, math.nan]),
    ],
)
def test_shapes_and_seconds_that_do_not_fit(vectors: FloatArray, weights: list[float]) -> None:
    with pytest.raises(InvalidInput):
        pool(vectors, weights)


def test_merges_that_make_no_sense() -> None:
    with pytest.raises(InvalidInput):
        merge([])
    with pytest.raises(DimensionMismatch):
        merge([Embedding(np.array([1.0, *[0.0] * n], np.float32), 1.0, 1, 1.0, None) for n in (1, 2)])


content = st.tuples(
    st.none() | hnp.arrays(np.float32, st.integers(1, 3), elements=st.sampled_from([0.0, 1.0, -1.0, 0.5])),
    st.lists(st.none() | st.sampled_from(["", "-", "a", "ab", "t1:a", "v1:", "é", "\ud800"]), max_size=4),
)


@given(content, content)
def test_equal_hashes_mean_equal_content(
    a: tuple[FloatArray | None, list[str | None]], b: tuple[FloatArray | None, list[str | None]]
) -> None:
    def key(c: tuple[FloatArray | None, list[str | None]]) -> tuple[object, ...]:
        return (None if c[0] is None else c[0].tolist(), *c[1])

    left, right = content_hash(a[0], *a[1]), content_hash(b[0], *b[1])
    assert (left == right) == (repr(key(a)) == repr(key(b)))
    assert len(left) == 32


def test_the_hash_looks_at_values_and_not_at_memory() -> None:
    v = np.arange(6, dtype=np.float32)
    assert content_hash(v, "a") == content_hash(v.astype(">f4"), "a")
    assert content_hash(v[::2], "a") == content_hash(v[::2].copy(), "a")
    assert content_hash(v) != content_hash(v[:5])
    # Stored in documents: this may never change.
    assert content_hash(np.array([1, 0.5], np.float32), "speaker", None, "") == "0dbf79aebd099d4e391d7dc9357f520a"
