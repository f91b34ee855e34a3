"""Shares, interruptions, and old speakers for new ones."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.core.exclusive import exclusive
from speakerdb.core.remapping import LEAST_SCORE, remap
from speakerdb.core.talk import FLOOR_SECONDS, interruptions, joined, talk
from speakerdb.types import Turn

turns = st.lists(
    st.builds(
        lambda start, length, who: Turn(start / 4, (start + length) / 4, who),
        st.integers(0, 80),
        st.integers(1, 30),
        st.sampled_from("ABCD"),
    ),
    max_size=16,
)


@given(turns)
def test_shares_add_up_and_every_interruption_has_two_sides(turns: list[Turn]) -> None:
    rows = talk(turns)
    assert {row.speaker for row in rows} == {turn.speaker for turn in turns}
    assert sum(row.share for row in rows) == pytest.approx(1.0 if rows else 0.0)
    assert sum(row.interruptions_given for row in rows) == sum(row.interruptions_received for row in rows)
    for row in rows:
        frames = {n for t in turns if t.speaker == row.speaker for n in range(round(t.start * 4), round(t.end * 4))}
        assert row.seconds == len(frames) / 4
        assert row.turns * row.mean_turn_seconds == pytest.approx(row.seconds)


def test_who_comes_in_and_keeps_the_floor_interrupts() -> None:
    floor = Turn(0, 5, "A")
    assert [(each.by, each.of) for each in interruptions([floor, Turn(4, 8, "B")])] == [("B", "A")]
    assert interruptions([floor, Turn(2, 3, "B")]) == (), "a backchannel"
    assert interruptions([floor, Turn(0.5, 8, "B")]) == (), "both began at once"
    assert interruptions([floor, Turn(5, 8, "B")]) == (), "after each other"
    assert interruptions([floor, Turn(0, 5, "C"), Turn(4, 8, "B")]) == (), "nobody had the floor alone"


@given(turns)
def test_interruptions_are_those_that_their_words_say(turns: list[Turn]) -> None:
    """Turn by turn against every other one, as the module's text defines it."""
    whole = [turn for mine in joined(turns).values() for turn in mine]
    expected = []
    for turn in whole:
        floor = [each for each in whole if each.speaker != turn.speaker and each.start <= turn.start < each.end]
        if len(floor) == 1 and turn.start - floor[0].start >= FLOOR_SECONDS and turn.end > floor[0].end:
            expected.append((turn.start, turn.speaker, floor[0].speaker))
    assert [(each.at, each.by, each.of) for each in interruptions(turns)] == sorted(expected)


def test_a_recording_of_the_most_turns_and_speakers_does_not_hang() -> None:
    """What is allowed takes its seconds: where work grew with turns times speakers, it took more than this suite's limit."""
    many = [Turn(n / 4, n / 4 + 0.5, f"S{n * 7919 % 10_000:05}") for n in range(50_000)]
    found = talk(many)
    assert len(found) == 10_000
    assert {row.turns for row in found} == {5}
    assert exclusive(many)[-1].end == many[-1].end
    few = [Turn(turn.start, turn.end, turn.speaker) for turn in many if turn.speaker < "S00100"]
    mapped = remap(many, few)
    assert len(mapped.pairs) == 100
    assert len(mapped.lost) == 9_900


@given(turns, st.permutations("WXYZ"))
def test_the_same_turns_under_other_names_are_mapped_back(turns: list[Turn], names: list[str]) -> None:
    apart = [Turn(turn.start + 100 * "ABCD".index(turn.speaker), turn.end + 100 * "ABCD".index(turn.speaker), turn.speaker)
             for turn in turns]  # fmt: skip
    other = dict(zip("ABCD", names, strict=True))
    found = remap(apart, [Turn(turn.start, turn.end, other[turn.speaker]) for turn in apart])
    assert found.by_new == {other[turn.speaker]: turn.speaker for turn in turns}
    assert (found.lost, found.new) == ((), ())
    assert all(pair.score == pytest.approx(1.0) for pair in found.pairs)


@given(turns, turns)
def test_the_sum_of_scores_is_the_largest_there_is(old: list[Turn], new: list[Turn]) -> None:
    """Against every one-to-one mapping; pairs under the least score count for nothing on both sides."""
    found = remap(old, new)
    olds, news = {turn.speaker for turn in old}, {turn.speaker for turn in new}
    assert {pair.old for pair in found.pairs} | set(found.lost) == olds
    assert {pair.new for pair in found.pairs} | set(found.new) == news
    frames = {
        (kind, who): {n for t in some if t.speaker == who for n in range(round(t.start * 4), round(t.end * 4))}
        for kind, some in (("old", old), ("new", new))
        for who in {t.speaker for t in some}
    }

    def score(one: str, other: str) -> float:
        a, b = frames["old", one], frames["new", other]
        return len(a & b) / min(len(a), len(b))

    few, many = sorted([sorted(olds), sorted(news)], key=len)
    flip = few != sorted(olds)
    sums = [
        sum(score(b, a) if flip else score(a, b) for a, b in zip(few, some, strict=True))
        for some in permutations(many, len(few))
    ]
    best = max(sums, default=0.0)
    total = sum(pair.score for pair in found.pairs)
    assert total <= best + 1e-9
    assert total >= best - LEAST_SCORE * len(few) - 1e-9


def test_voices_decide_where_times_do_not() -> None:
    one, other = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    old = [Turn(0, 10, "A"), Turn(0, 10, "B")]
    new = [Turn(0, 10, "X"), Turn(0, 10, "Y")]
    found = remap(old, new, old_voices={"A": one, "B": other}, new_voices={"X": other, "Y": one})
    assert found.by_new == {"X": "B", "Y": "A"}
    assert {pair.cosine for pair in found.pairs} == {1.0}
    swapped = remap(old, new, old_voices={"A": one, "B": other}, new_voices={"X": one, "Y": other})
    assert swapped.by_new == {"X": "A", "Y": "B"}


def test_another_voice_at_another_time_is_listed_and_not_forced() -> None:
    found = remap([Turn(0, 10, "A")], [Turn(20, 30, "X")])
    assert (found.pairs, found.lost, found.new) == ((), ("A",), ("X",))
    assert remap([], [Turn(0, 1, "X")]).new == ("X",)
