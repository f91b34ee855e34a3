"""Which turns a split moves: numbers, stretches of time, labels."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.core.names import folded
from speakerdb.core.splitting import between, free_label, numbered, part_of
from speakerdb.errors import InvalidInput
from speakerdb.types import Span

TURNS = [Span(0, 2), Span(3, 5), Span(5, 9), Span(20, 21)]


@pytest.mark.parametrize(
    ("text", "chosen"),
    [("3", (3,)), ("3,5-9", (3, 5, 6, 7, 8, 9)), ("9-9, 1", (1, 9)), ("2,2,1-3", (1, 2, 3)), (" 4 - 5 ", (4, 5))],
)
def test_numbers(text: str, chosen: tuple[int, ...]) -> None:
    assert numbered(text, 9) == chosen


@pytest.mark.parametrize(
    "text", ["", ",", "0", "10", "9-3", "-3", "3-", "a", "1.5", "٣", "²", "1,,2", "1-999999999999", "9" * 5000, "1\n2"]
)
def test_what_is_no_number_of_a_turn_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        numbered(text, 9)
    assert raised.value.hint
    assert len(raised.value.message) < 200


@given(st.sets(st.integers(1, 60), min_size=1))
def test_any_set_of_numbers_can_be_said(chosen: set[int]) -> None:
    assert numbered(",".join(map(str, chosen)), 60) == tuple(sorted(chosen))


@pytest.mark.parametrize(
    ("start", "end", "chosen"),
    [(3, 9, (2, 3)), (None, 5, (1, 2)), (5, None, (3, 4)), (2.5, 100, (2, 3, 4)), (10, 12, ()), (0, 2, (1,))],
)
def test_a_stretch_of_time_takes_the_turns_inside_it(
    start: float | None, end: float | None, chosen: tuple[int, ...]
) -> None:
    assert between(TURNS, start, end) == chosen


@pytest.mark.parametrize(("start", "end"), [(1, 9), (3, 8.5), (None, 20.5)])
def test_a_turn_is_never_cut(start: float | None, end: float | None) -> None:
    with pytest.raises(InvalidInput, match="never cut") as raised:
        between(TURNS, start, end)
    assert raised.value.details["turn"] in (1, 3, 4)


@pytest.mark.parametrize(
    ("start", "end"), [(5, 5), (9, 3), (-1, 3), (math.nan, 3), (0, math.nan), (math.inf, None), (None, -math.inf)]
)
def test_what_is_no_stretch_of_time_is_refused(start: float | None, end: float | None) -> None:
    with pytest.raises(InvalidInput):
        between(TURNS, start, end)


def test_some_turns_go_and_some_stay() -> None:
    part_of([1], 2)
    for chosen in ((), (1, 2)):
        with pytest.raises(InvalidInput):
            part_of(chosen, 2)


def test_a_made_up_label_is_free() -> None:
    taken = {"S"}
    for _ in range(40):
        made = free_label("S", taken)
        assert made not in taken
        taken.add(made)
    assert {"S-b", "S-z", "S-27", "S-41"} <= taken


@pytest.mark.parametrize(
    ("one", "other"),
    [("ADA", "ada"), ("Straße", "STRASSE"), ("\uff21\uff44\uff41", "Ada"), ("e\u0301", "\u00e9"), ("ÅSA", "åsa")],
)
def test_what_people_do_not_mind_is_folded(one: str, other: str) -> None:
    assert folded(one) == folded(other)


def test_look_alikes_stay_different() -> None:
    assert folded("Ada") != folded("\u0410da"), "a Cyrillic letter"
