"""The formulas of statistics on vectors whose answer is known by geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.core.statistics import Gathered, Part, gather, outlier_limit, similarities
from speakerdb.types import OperatingPoint

POINT = OperatingPoint(accept=0.75, candidate=0.5, margin=0.05)


def part(vectors: np.ndarray, weights: list[float] | None = None, first: int = 0) -> Part:
    n = len(vectors)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return Part(
        tuple(f"s{first + k}" for k in range(n)),
        units.astype(np.float32),
        np.array(weights or [1.0] * n, dtype=np.float64),
        sum(weights or [1.0] * n),
    )


def fan(*degrees: float) -> np.ndarray:
    return np.array([[math.cos(math.radians(d)), math.sin(math.radians(d)), 0.0] for d in degrees])


def gathered(*parts: Part) -> Gathered:
    found = gather(parts)
    assert found is not None
    return found


def test_a_similarity_is_to_the_others_and_never_to_itself() -> None:
    three = part(fan(0, 0, 90))
    found = similarities(three, gathered(three))
    # The third is orthogonal to both others; were it part of the centroid, it would have 1 / sqrt(5).
    assert found == pytest.approx([math.sqrt(0.5), math.sqrt(0.5), 0.0], abs=1e-6)


def test_weights_are_those_of_pooling() -> None:
    three = part(fan(0, 90, 45), [3.0, 1.0, 1.0])
    found = similarities(three, gathered(three))
    others = np.array([3.0, 1.0, 0.0])
    assert found[2] == pytest.approx(float(fan(45)[0] @ others / np.linalg.norm(others)), abs=1e-6)


def test_spread_is_none_where_all_are_the_same_and_one_where_they_cancel() -> None:
    assert gathered(part(fan(10, 10, 10))).spread == pytest.approx(0.0, abs=1e-6)
    cancelled = gathered(part(fan(0, 180)))
    assert cancelled.spread == pytest.approx(1.0, abs=1e-6)
    assert cancelled.centroid is None
    assert gathered(part(fan(0, 90))).spread == pytest.approx(1 - math.sqrt(0.5), abs=1e-6)


def test_nobody_to_compare_with_is_no_number() -> None:
    alone = part(fan(0))
    assert np.isnan(similarities(alone, gathered(alone))).all()
    assert gather([]) is None
    # Two that cancel each other leave the third without anything to be compared with.
    cancelling = part(fan(0, 180, 90))
    assert np.isnan(similarities(cancelling, gathered(cancelling))).tolist() == [False, False, True]


@given(st.lists(st.floats(0, 180), min_size=1, max_size=30), st.integers(1, 7))
def test_parts_do_not_matter(degrees: list[float], size: int) -> None:
    whole = part(fan(*degrees))
    pieces = [part(fan(*degrees[at : at + size]), first=at) for at in range(0, len(degrees), size)]
    one, many = gathered(whole), gathered(*pieces)
    assert (one.members, one.weight) == (many.members, pytest.approx(many.weight))
    assert one.total == pytest.approx(many.total, abs=1e-9)
    together = np.concatenate([similarities(piece, many) for piece in pieces])
    assert together == pytest.approx(similarities(whole, one), abs=1e-6, nan_ok=True)


@given(st.lists(st.lists(st.floats(-1, 1), min_size=4, max_size=4), min_size=2, max_size=12))
def test_similarities_are_what_the_slow_way_gives(rows: list[list[float]]) -> None:
    raw = np.array(rows)
    raw = raw[np.linalg.norm(raw, axis=1) > 0.1]
    if len(raw) < 2:
        return
    all_of_them = part(raw, [float(k + 1) for k in range(len(raw))])
    found = similarities(all_of_them, gathered(all_of_them))
    for n, value in enumerate(found):
        rest = sum(
            w * v.astype(float)
            for k, (w, v) in enumerate(zip(all_of_them.weights, all_of_them.vectors, strict=True))
            if k != n
        )
        length = float(np.linalg.norm(rest))
        if length > 1e-6:
            assert value == pytest.approx(float(all_of_them.vectors[n] @ rest) / length, abs=1e-6)
    assert (np.abs(found[np.isfinite(found)]) <= 1).all()


# Outliers


def outliers(values: list[float]) -> list[float]:
    limit = outlier_limit(np.array(values), POINT)
    return [] if limit is None else [value for value in values if value < limit]


def test_a_voice_that_would_be_no_candidate_is_always_an_outlier() -> None:
    assert outliers([0.9, 0.9, 0.88, 0.49]) == [0.49]
    assert outliers([0.3, 0.3, 0.3, 0.3]) == [0.3] * 4, "even where all are the same"


def test_a_voice_that_would_be_accepted_never_is() -> None:
    assert outliers([0.99, 0.99, 0.985, 0.76]) == []


def test_in_between_the_members_say_what_is_usual() -> None:
    assert outliers([0.9, 0.91, 0.92, 0.93, 0.6]) == [0.6]
    assert outliers([0.9, 0.6, 0.8, 0.55, 0.7, 0.75]) == [], "a profile that varies that much says nothing about 0.55"


def test_members_that_are_nearly_the_same_make_no_outliers_of_each_other() -> None:
    point = OperatingPoint(accept=0.99, candidate=0.5, margin=0.05)
    values = [0.9, 0.9, 0.9, 0.9, 0.9 - 1e-6, 0.88]
    limit = outlier_limit(np.array(values), point)
    assert limit is not None
    assert limit == pytest.approx(0.87)


def test_two_members_are_outliers_both_or_not_at_all() -> None:
    assert outliers([0.2, 0.2]) == [0.2, 0.2]
    assert outliers([0.6, 0.6]) == []
    assert outlier_limit(np.array([np.nan]), POINT) is None
    assert outlier_limit(np.array([0.9, np.nan]), POINT) is None


def test_a_stranger_among_many_voices_of_one_person_is_found() -> None:
    rng = np.random.default_rng(3)
    person, stranger = rng.standard_normal((2, 192))
    voices = person / np.linalg.norm(person) + 0.04 * rng.standard_normal((200, 192))
    voices[17] = stranger
    everyone = part(voices)
    found = similarities(everyone, gathered(everyone))
    limit = outlier_limit(found, POINT)
    assert limit is not None
    assert np.flatnonzero(found < limit).tolist() == [17]
