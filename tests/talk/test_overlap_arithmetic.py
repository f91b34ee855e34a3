"""Overlaps against a frame-by-frame oracle that shares no code with them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.core.overlap import OverlapScores, overlaps
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


def _frames(turns: list[Turn]) -> list[frozenset[str]]:
    """Who talks in each frame."""
    return [
        frozenset(turn.speaker for turn in turns if turn.start <= n * FRAME < turn.end)
        for n in range(round(100 / FRAME))
    ]


@given(turns)
def test_overlaps_are_the_frames_in_which_two_or_more_talk(turns: list[Turn]) -> None:
    frames = _frames(turns)
    wanted = {(n, who) for n, who in enumerate(frames) if len(who) > 1}
    found = overlaps(turns)
    got = {
        (n, frozenset(each.speakers))
        for each in found
        for n in range(round(each.start / FRAME), round(each.end / FRAME))
    }
    assert got == wanted
    for before, after in pairwise(found):
        assert before.end <= after.start
        if before.end == after.start:
            assert set(before.speakers) != set(after.speakers), "one stretch of the same speakers is one overlap"


@given(turns)
def test_the_primary_one_talks_longest_there_and_first_of_equals(turns: list[Turn]) -> None:
    frames = _frames(turns)
    for each in overlaps(turns):
        at = round(each.start / FRAME)
        lengths = []
        for speaker in each.speakers:
            first = last = at
            while first and speaker in frames[first - 1]:
                first -= 1
            while speaker in frames[last]:
                last += 1
            lengths.append((-(last - first), first))
        assert lengths == sorted(lengths)
        assert each.ranked_by == "duration"


@given(turns)
def test_confidence_from_edges_grows_with_length_and_is_marked(turns: list[Turn]) -> None:
    found = sorted(overlaps(turns), key=lambda each: each.seconds)
    assert [each.confidence for each in found] == sorted(each.confidence for each in found)
    assert all(0 <= each.confidence < 1 and each.confidence_from == "turns" for each in found)


def test_scores_of_a_diarizer_are_the_confidence() -> None:
    turns = [Turn(0, 4, "A"), Turn(2, 6, "B")]
    scores = OverlapScores(0.0, 0.5, [0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0])
    (found,) = overlaps(turns, scores=scores)
    assert (found.start, found.end, found.confidence, found.confidence_from) == (2, 4, 0.75, "scores")
    (short,) = overlaps([Turn(0, 2.01, "A"), Turn(2, 6, "B")], scores=scores)
    assert short.confidence == 0.5, "one frame at least"
    (beyond,) = overlaps([Turn(7, 9, "A"), Turn(8, 9, "B")], scores=scores)
    assert beyond.confidence_from == "turns"


def test_the_louder_one_is_primary_where_the_sound_was_looked_at() -> None:
    turns = [Turn(0, 4, "A"), Turn(2, 6, "B")]
    assert overlaps(turns)[0].speakers == ("A", "B"), "equally long: who talked first"
    (found,) = overlaps(turns, power={"A": 0.001, "B": 0.01})
    assert (found.speakers, found.ranked_by) == (("B", "A"), "energy-and-duration")
    (found,) = overlaps(turns, power={"B": 0.01})
    assert (found.speakers, found.ranked_by) == (("A", "B"), "duration"), "both, or it is not a comparison"


def test_rounding_is_no_overlap() -> None:
    assert overlaps([Turn(0, 2.0000000001, "A"), Turn(2, 3, "B")]) == ()
    assert overlaps([Turn(0, 2, "A"), Turn(1, 3, "A")]) == ()


@pytest.mark.parametrize("count", [2, 5])
def test_all_who_talk_are_named(count: int) -> None:
    names = "ABCDE"[:count]
    (found,) = overlaps([Turn(0, 5, name) for name in names])
    assert found.speakers == tuple(names)
