"""One speaker at a time: frame by frame, exactly one of those who talk has the floor."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from speakerdb.core.exclusive import exclusive
from speakerdb.types import Turn

FRAME = 0.25
turns = st.lists(
    st.builds(
        lambda start, length, who: Turn(start * FRAME, (start + length) * FRAME, who),
        st.integers(0, 60),
        st.integers(1, 30),
        st.sampled_from("ABCD"),
    ),
    max_size=20,
)


@given(turns)
def test_whenever_somebody_talks_one_of_them_has_the_floor(turns: list[Turn]) -> None:
    found = exclusive(turns)
    assert all(before.end <= after.start for before, after in pairwise(found))
    for number in range(400):
        at = number * FRAME
        talking = {turn.speaker for turn in turns if turn.start <= at < turn.end}
        floor = [turn.speaker for turn in found if turn.start <= at < turn.end]
        assert len(floor) == bool(talking)
        assert set(floor) <= talking


@given(turns)
def test_turns_that_do_not_overlap_stay_as_they_are(turns: list[Turn]) -> None:
    found = exclusive(turns)
    assert exclusive(found) == found


def test_the_longer_turn_keeps_the_floor_and_the_other_what_is_left() -> None:
    assert exclusive([Turn(0, 5, "A"), Turn(4, 6, "B")]) == (Turn(0, 5, "A"), Turn(5, 6, "B"))
    assert exclusive([Turn(0, 5, "A"), Turn(2, 3, "B")]) == (Turn(0, 5, "A"),)
