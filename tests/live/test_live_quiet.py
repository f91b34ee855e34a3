"""Quiet hours: which minutes are quiet, and until when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.core.quiet import DAY, clock, parse
from speakerdb.errors import InvalidInput


def minute(text: str) -> int:
    hour, _, rest = text.partition(":")
    return 60 * int(hour) + int(rest)


@pytest.mark.parametrize(
    ("hours", "at", "until"),
    [
        ("22:00-06:00", "21:59", None),
        ("22:00-06:00", "22:00", "06:00"),
        ("22:00-06:00", "05:59", "06:00"),
        ("22:00-06:00", "06:00", None),
        ("8:00-18:00", "12:00", "18:00"),
        ("18:00-24:00", "23:59", "00:00"),
        ("08:00-12:00, 13:00-18:00", "12:30", None),
        ("08:00-12:00, 13:00-18:00", "13:00", "18:00"),
        ("22:00-24:00, 00:00-06:00", "23:00", "06:00"),
    ],
)
def test_when_it_is_quiet(hours: str, at: str, until: str | None) -> None:
    found = parse(hours).until(minute(at))
    assert (None if found is None else clock(found)) == until


@pytest.mark.parametrize("text", ["22:00 - 06:00", "22:00-06:00 UTC", " 22:00-6:00 "])
def test_there_is_one_way_to_write_them(text: str) -> None:
    assert parse(text).text == "22:00-06:00 UTC"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "night",
        "22-06",
        "22:00",
        "22:60-06:00",
        "25:00-06:00",
        "24:00-06:00",
        "06:00-06:00",
        "22:00-06:00,",
        "1:00-2:00 a b",
    ],
)
def test_what_is_no_part_of_a_day(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse(text)


minutes = st.integers(0, DAY - 1)


@given(st.lists(st.tuples(minutes, minutes).filter(lambda pair: pair[0] != pair[1]), min_size=1, max_size=4), minutes)
def test_it_is_quiet_where_one_of_the_stretches_is(stretches: list[tuple[int, int]], at: int) -> None:
    hours = parse(", ".join(f"{clock(begin)}-{clock(end)}" for begin, end in stretches))
    quiet = {(begin + step) % DAY for begin, end in stretches for step in range((end - begin) % DAY)}
    until = hours.until(at)
    assert (until is not None) == (at in quiet)
    if until is not None and len(quiet) < DAY:
        assert until not in quiet
        assert all((at + step) % DAY in quiet for step in range((until - at) % DAY))
    assert parse(hours.text) == hours
