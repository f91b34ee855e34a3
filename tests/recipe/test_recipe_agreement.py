"""How good a budget is: rates, pairs and what is recommended, against plain computations and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.core.agreement import Tried, equal_error_rate, pairs_of, recommend, results, why_not_measurable
from speakerdb.core.pooling import pool
from speakerdb.reports.recipes import BudgetResult, Separation, Voice
from speakerdb.types import Embedding

scores = st.lists(st.integers(-50, 50).map(lambda n: n / 50), min_size=1, max_size=30)


def test_the_equal_error_rate_of_known_scores() -> None:
    same, different = np.array([0.5, 0.7, 0.9]), np.array([-0.1, 0.0, 0.4])
    assert equal_error_rate(same, different) == 0.0
    assert equal_error_rate(different, same) == 1.0
    assert equal_error_rate(same, same) == pytest.approx(0.5)
    # One of four on each side is wrong.
    assert equal_error_rate(np.array([0.2, 0.7, 0.8, 0.9]), np.array([0.0, 0.1, 0.15, 0.75])) == pytest.approx(0.25)


@given(scores, scores)
def test_the_equal_error_rate_lies_on_both_curves(same: list[float], different: list[float]) -> None:
    found = equal_error_rate(np.array(same), np.array(different))
    # By brute force: at each threshold in turn, the two shares; the rate is between those around the crossing.
    pairs = [
        (sum(s < at for s in same) / len(same), sum(d >= at for d in different) / len(different))
        for at in [*sorted({*same, *different}), 2.0]
    ]
    before = max(((m, t) for m, t in pairs if t > m), default=(0.0, 1.0), key=lambda each: each[0] - each[1])
    after = min(((m, t) for m, t in pairs if t <= m), key=lambda each: each[0] - each[1])
    assert max(before[0], after[1]) - 1e-9 <= found <= min(before[1], after[0]) + 1e-9


@given(scores, scores)
def test_only_the_order_of_scores_counts(same: list[float], different: list[float]) -> None:
    one = equal_error_rate(np.array(same), np.array(different))
    assert equal_error_rate(np.exp(same), np.exp(different)) == pytest.approx(one)
    assert equal_error_rate(-np.array(different), -np.array(same)) == pytest.approx(one)
    assert 0.0 <= one <= 1.0


def test_pairs_are_of_two_recordings_of_one_library() -> None:
    voices = [
        Voice("a", "r1", "l1", "ann"),
        Voice("b", "r2", "l1", "ann"),
        Voice("c", "r1", "l1", "bob"),  # of the recording of a
        Voice("d", "r3", "l2", "ann2"),  # of another library
        Voice("e", "r4", "l1", None),
        Voice("f", "r1", "l1", "ann"),  # of the recording of a
    ]
    same, different = pairs_of(voices)
    assert same.tolist() == [[0, 1], [1, 5]]
    assert different.tolist() == [[1, 2]]
    assert "2 pairs of one profile and 1 of two" in why_not_measurable(voices)


def embedding(vector: list[float], seconds: float, segments: int = 1) -> Embedding:
    return replace(pool(np.array([vector], dtype=np.float32), [seconds]), segments=segments)


def test_agreement_counts_only_those_who_have_more_than_the_budget() -> None:
    east, north, between = [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]
    tried = [
        Tried(
            Voice("long", "r", "l", None),
            {10.0: embedding(east, 10.0), 20.0: embedding(between, 20.0)},
            embedding(north, 60.0),
        ),
        Tried(Voice("short", "r", "l", None), dict.fromkeys((10.0, 20.0), embedding(east, 8.0)), embedding(east, 8.0)),
    ]
    ten, twenty, everything = results(tried, [20.0, 10.0], speed=4.0)
    assert (ten.budget_seconds, twenty.budget_seconds, everything.budget_seconds) == (10.0, 20.0, None)
    assert (ten.cut, twenty.cut, everything.cut) == (1, 1, 0)
    assert ten.agreement == pytest.approx(0.0, abs=1e-6)
    assert twenty.agreement == pytest.approx(np.sqrt(0.5), abs=1e-6)
    assert everything.agreement is None
    assert (ten.speech_seconds, ten.network_seconds) == (9.0, 2.25)
    assert everything.speech_seconds == 34.0
    assert ten.separation is None


def test_the_median_and_the_fifth_percentile_of_many() -> None:
    angles = np.linspace(0.0, 0.5, 21)
    tried = [
        Tried(
            Voice(str(n), f"r{n}", "l", f"p{n % 3}"),
            {10.0: embedding([float(np.cos(angle)), float(np.sin(angle))], 10.0)},
            embedding([1.0, 0.0], 100.0),
        )
        for n, angle in enumerate(angles)
    ]
    ten, everything = results(tried, [10.0], speed=1.0)
    assert ten.agreement == pytest.approx(np.cos(0.25), abs=1e-6)
    assert ten.agreement_low == pytest.approx(np.percentile(np.cos(angles), 5), abs=1e-6)
    assert ten.separation is not None
    assert everything.separation is not None
    assert (ten.separation.same, ten.separation.different, ten.separation.profiles) == (63, 147, 3)
    # All clean speech is one and the same vector, so nobody can be told apart by it.
    assert everything.separation.eer == pytest.approx(0.5)
    assert everything.separation.same_cosine == pytest.approx(1.0)


def result(
    budget: float | None, median: float | None, eer: float | None, cut: int = 20, same: int = 400
) -> BudgetResult:
    told = None if eer is None else Separation(same, 900, 12, eer, 0.9, 0.1)
    return BudgetResult(budget, budget or 200.0, 3, 1.0, cut, median, median, told)


def test_the_cheapest_budget_that_is_good_enough_is_recommended() -> None:
    found = [result(10, 0.95, 0.03), result(20, 0.985, 0.02), result(30, 0.989, 0.014), result(None, None, 0.01)]
    said = recommend(found, 50, 6.0)
    assert said.budget_seconds == 30
    assert "equal error rate is 1.4%" in said.reason
    assert "20 s is not: its equal error rate is 2.0%, above 1.5%." in said.reason
    assert "though" not in said.reason
    said = recommend([result(10, 0.98, 0.015), result(None, None, 0.01)], 50, 6.0)
    assert said.budget_seconds == 10, "both limits belong to what is good enough"
    said = recommend([result(10, 0.9799, 0.0), result(None, None, 0.01)], 50, 6.0)
    assert (said.budget_seconds, "try larger ones" in said.reason) == (None, True)


def test_what_cannot_be_known_is_said() -> None:
    unnamed = [result(10, 0.99, None), result(None, None, None)]
    assert "separation was not measurable" in recommend(unnamed, 50, 6.0).reason
    few = [result(10, 0.99, 0.0, same=12), result(None, None, 0.0, same=12)]
    assert "one pair more or less is 8.3%" in recommend(few, 50, 6.0).reason
    said = recommend(unnamed, 4, 6.0)
    assert (said.budget_seconds, "4 speakers are too few" in said.reason) == (None, True)
    whole = [result(10, None, None, cut=0), result(None, None, None)]
    assert "no speaker that was tried has more" in recommend(whole, 50, 6.0).reason


def test_no_budget_is_recommended_with_which_nothing_is_ever_accepted() -> None:
    found = [result(4, 0.999, 0.0), result(8, 0.999, 0.0), result(None, None, 0.0)]
    said = recommend(found, 50, 6.0)
    assert said.budget_seconds == 8
    assert "4 s is not: a match with less than 6 s is never accepted." in said.reason
