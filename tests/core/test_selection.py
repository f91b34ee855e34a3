"""Which speech is chosen, against an oracle that counts on a grid of 10 ms and shares no code with the subject."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.core.selection import OVERLAPPED, REASONS, TOO_SHORT, select
from speakerdb.errors import ConfigurationError
from speakerdb.types import Recipe, Span, Turn, Unembeddable

TICK = 0.01
EPSILON = 1e-5
RECIPE = Recipe()


@st.composite
def talks(draw: st.DrawFn) -> list[Turn]:
    """A conversation on the grid: turns of a few speakers with pauses, overlaps, touching and repeated turns."""
    turns: list[Turn] = []
    for speaker in "ABCD"[: draw(st.integers(1, 4))]:
        at = draw(st.integers(0, 1000))
        for _ in range(draw(st.integers(1, 12))):
            length = draw(
                st.one_of(st.integers(1, 250), st.integers(100, 1200), st.sampled_from([100, 300, 600, 5000]))
            )
            turns.append(Turn(at / 100, (at + length) / 100, speaker))
            at = max(0, at + length + draw(st.one_of(st.just(0), st.integers(-150, 400))))
    return turns


recipes = st.builds(
    lambda budget, lowest, target, most, minimum: Recipe(
        budget_seconds=max(budget, minimum, lowest),
        segment_min_seconds=lowest,
        segment_target_seconds=lowest + target,
        segment_max_seconds=lowest + target + most,
        minimum_seconds=minimum,
    ),
    st.sampled_from([1.0, 2.5, 6.0, 12.0, 30.0, 1000.0]),
    st.sampled_from([0.5, 1.0, 1.7]),
    st.sampled_from([0.0, 0.4, 2.0]),
    st.sampled_from([0.0, 0.3, 3.0]),
    st.sampled_from([0.0, 1.0, 4.0]),
)


def clean_ticks(turns: list[Turn]) -> dict[str, list[tuple[int, int]]]:
    """By speaker: the runs of ticks in which only this speaker talks, cut where one of its turns ends and touches the next."""
    talking: dict[int, set[str]] = defaultdict(set)
    inner: dict[str, set[int]] = defaultdict(
        set
    )  # ticks whose beginning lies strictly inside one of the speaker's turns
    for t in turns:
        first, last = round(t.start / TICK), round(t.end / TICK)
        for tick in range(first, last):
            talking[tick].add(t.speaker)
        inner[t.speaker].update(range(first + 1, last))
    runs: dict[str, list[tuple[int, int]]] = {t.speaker: [] for t in turns}
    for tick in sorted(talking):
        if len(talking[tick]) != 1:
            continue
        (speaker,) = talking[tick]
        found = runs[speaker]
        if found and found[-1][1] == tick and tick in inner[speaker]:
            found[-1] = (found[-1][0], tick + 1)
        else:
            found.append((tick, tick + 1))
    return runs


@given(talks(), recipes)
def test_what_is_chosen_keeps_every_promise(turns: list[Turn], recipe: Recipe) -> None:
    chosen = select(turns, recipe)
    runs = clean_ticks(turns)
    assert set(chosen) == {t.speaker for t in turns}
    for speaker, result in chosen.items():
        pieces = [(a * TICK, b * TICK) for a, b in runs[speaker]]
        usable = [p for p in pieces if p[1] - p[0] >= recipe.segment_min_seconds - EPSILON]
        speech = sum(b - a for a, b in usable)
        if isinstance(result, Unembeddable):
            assert not usable or speech < recipe.minimum_seconds
            assert result.reason in REASONS
            assert result.seconds == pytest.approx(sum(b - a for a, b in pieces), abs=1e-6)
            continue
        assert usable
        assert speech >= recipe.minimum_seconds - EPSILON
        assert list(result) == sorted(result)
        for before, after in pairwise(result):
            assert before.end <= after.start
        for span in result:
            assert recipe.segment_min_seconds - EPSILON <= span.seconds <= recipe.segment_max_seconds + EPSILON
            assert sum(a - EPSILON <= span.start and span.end <= b + EPSILON for a, b in pieces) == 1
        total = sum(span.seconds for span in result)
        assert total <= recipe.budget_seconds + EPSILON
        if recipe.segment_max_seconds >= 2 * recipe.segment_min_seconds:  # else a piece may not divide into segments
            assert total > min(recipe.budget_seconds, speech) - recipe.segment_min_seconds - EPSILON
            if speech <= recipe.budget_seconds:
                assert total == pytest.approx(speech, abs=recipe.segment_min_seconds)


@given(talks(), st.randoms(use_true_random=False))
def test_the_order_of_turns_does_not_matter(turns: list[Turn], shuffle: random.Random) -> None:
    mixed = turns + turns[:2]
    shuffle.shuffle(mixed)
    assert select(mixed, RECIPE) == select(turns, RECIPE)


@given(talks(), st.integers(1, 8000))
def test_the_length_of_the_recording_only_cuts(turns: list[Turn], end: int) -> None:
    duration = end / 100
    cut = [replace(t, end=min(t.end, duration)) for t in turns if t.start < duration]
    short = select(turns, RECIPE, duration=duration)
    assert set(short) == {t.speaker for t in turns}
    assert {s: r for s, r in short.items() if s in {t.speaker for t in cut}} == select(cut, RECIPE)
    for speaker in set(short) - {t.speaker for t in cut}:
        assert short[speaker] == Unembeddable(TOO_SHORT)
    longest = max(t.end for t in turns)
    assert select(turns, RECIPE, duration=longest + 100) == select(turns, RECIPE)


def spans(turns: list[Turn], recipe: Recipe = RECIPE, speaker: str = "A") -> tuple[Span, ...]:
    result = select(turns, recipe)[speaker]
    assert isinstance(result, tuple)
    return result


def total(chosen: tuple[Span, ...]) -> float:
    return sum(s.seconds for s in chosen)


def test_overlapped_speech_is_left_out() -> None:
    assert spans([Turn(0, 10, "A"), Turn(4, 6, "B")]) == (Span(0, 4), Span(6, 10))
    # Two short ends and a clean middle.
    assert spans([Turn(0, 6, "A"), Turn(0, 0.5, "B"), Turn(5.5, 7, "C")]) == (Span(0.5, 5.5),)


def test_a_speakers_own_turns_are_no_overlap_and_are_not_joined_where_they_touch() -> None:
    assert spans([Turn(0, 3, "A"), Turn(2, 5, "A")]) == (Span(0, 5),)
    assert spans([Turn(0, 2, "A"), Turn(2, 4, "A")]) == (Span(0, 2), Span(2, 4))
    assert spans([Turn(0, 2, "A"), Turn(2, 2.9, "A")]) == (Span(0, 2),)
    assert spans([Turn(0, 5, "A"), Turn(1, 2, "A"), Turn(0, 5, "A")]) == (Span(0, 5),)


def test_a_turn_under_a_second_is_never_used_and_one_of_exactly_a_second_is() -> None:
    assert spans([Turn(0, 2, "A"), Turn(3, 3.99, "A")]) == (Span(0, 2),)
    assert spans([Turn(2.3, 3.3, "A")]) == (Span(2.3, 3.3),)  # 3.3 - 2.3 < 1 in floating point


def test_the_budget_is_used_up_and_spread() -> None:
    # Half an hour of turns of 5 s: ten segments of 3 s, one in each tenth.
    chosen = spans([Turn(10 * i, 10 * i + 5, "A") for i in range(180)])
    assert [round(s.seconds, 6) for s in chosen] == [3.0] * 10
    assert [int(s.start / 179.5) for s in chosen] == list(range(10))


def test_a_small_budget_is_spread_too() -> None:
    recipe = replace(RECIPE, budget_seconds=6.0)
    for turns in ([Turn(0, 600, "A")], [Turn(100 * i, 100 * i + 6, "A") for i in range(7)]):
        first, second = spans(turns, recipe)
        assert (first.seconds, second.seconds) == (pytest.approx(3), pytest.approx(3))
        assert second.start - first.end > 200


def test_one_long_turn_is_cut_into_segments_all_over_it() -> None:
    chosen = spans([Turn(0, 3600, "A")])
    assert total(chosen) == pytest.approx(30)
    assert [int(s.start // 360) for s in chosen] == list(range(10))


def test_the_longest_turn_of_a_bin_is_taken_first() -> None:
    recipe = replace(RECIPE, budget_seconds=3.0)
    assert spans([Turn(0, 3, "A"), Turn(5, 9, "A"), Turn(10, 12, "A")], recipe) == (Span(5.5, 8.5),)


def test_empty_bins_are_made_up_for_elsewhere() -> None:
    # Six turns of 5 s in three clusters: three bins only, and all of the speech is needed.
    turns = [Turn(at + gap, at + gap + 5, "A") for at in (0, 1000, 2000) for gap in (0, 10)]
    assert spans(turns) == tuple(Span(t.start, t.end) for t in turns)
    # Long turns before short ones: 2.9 s is not worth it while longer segments can still grow.
    turns = [Turn(100 * i, 100 * i + 6, "A") for i in range(5)] + [Turn(20, 22.9, "A"), Turn(30, 32.9, "A")]
    assert total(spans(turns)) == pytest.approx(30)
    assert all(s.start < 20 or s.start > 33 for s in spans(turns))


def test_a_guest_is_spread_over_the_time_it_is_there() -> None:
    host = [Turn(20 * i, 20 * i + 9, "H") for i in range(360)]
    guest = [Turn(20 * i + 10, 20 * i + 19, "G") for i in range(300, 330)]
    chosen = spans(host + guest, speaker="G")
    assert len(chosen) == 10
    assert total(chosen) == pytest.approx(30)
    assert max(s.end for s in chosen) - min(s.start for s in chosen) > 500


@pytest.mark.parametrize(
    ("turns", "reason", "seconds"),
    [
        ([Turn(0, 5, "A"), Turn(0, 5, "B")], OVERLAPPED, 0.0),
        ([Turn(0, 0.5, "A"), Turn(0, 0.5, "B")], OVERLAPPED, 0.0),
        ([Turn(0, 5, "A"), Turn(0.4, 4.4, "B")], OVERLAPPED, 1.0),
        ([Turn(0, 0.9, "A")], TOO_SHORT, 0.9),
        ([Turn(i, i + 0.9, "A") for i in range(100)], TOO_SHORT, 90.0),
        ([Turn(0, 0.9, "A"), Turn(0.5, 0.7, "B")], TOO_SHORT, 0.7),
    ],
)
def test_why_a_speaker_has_no_embedding(turns: list[Turn], reason: str, seconds: float) -> None:
    result = select(turns, RECIPE)["A"]
    assert isinstance(result, Unembeddable)
    assert (result.reason, result.seconds) == (reason, pytest.approx(seconds))


def test_no_turns_no_speakers() -> None:
    assert select([], RECIPE) == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"segment_min_seconds": 0.0},
        {"segment_min_seconds": 4.0},
        {"segment_target_seconds": 7.0},
        {"budget_seconds": 0.5},
        {"budget_seconds": 2.0, "minimum_seconds": 3.0},
    ],
)
def test_a_recipe_that_contradicts_itself(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        select([Turn(0, 5, "A")], replace(RECIPE, **changes))  # type: ignore[arg-type]
    assert caught.value.hint


def test_a_crowd_in_a_long_recording_stays_within_every_promise() -> None:
    crowd = random.Random(5)  # noqa: S311
    turns = []
    for _ in range(20_000):
        start = crowd.uniform(0, 36_000)
        turns.append(Turn(start, start + crowd.expovariate(0.5) + 0.1, f"S{crowd.randrange(1000)}"))
    for result in select(turns, RECIPE).values():
        if isinstance(result, tuple):
            assert 1 <= total(result) <= 30 + EPSILON
