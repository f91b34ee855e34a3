"""Turns from text: what is read, what is refused, and that nothing else is ever raised."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.core.turns import (
    END_TOLERANCE_SECONDS,
    parse_json_turns,
    parse_rttm,
    turns_digest,
    turns_given,
    validate,
)
from speakerdb.errors import InvalidTurns, NeedsTurns
from speakerdb.types import Turn

names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=8).filter(
    lambda s: s != "<NA>" and s.strip() and not s.startswith("\ufeff")
)
millis = st.integers(0, 40_000_000)
turn = st.builds(lambda s, d, n: Turn(s / 1000, (s + d) / 1000, n), millis, st.integers(1, 600_000), names)


def rttm_line(recording: str, t: Turn) -> str:
    return f"SPEAKER {recording} 1 {t.start:.3f} {t.end - t.start:.3f} <NA> <NA> {t.speaker} <NA> <NA>"


@given(st.lists(st.tuples(names, turn), min_size=1, max_size=20))
def test_rttm_gives_back_what_was_written(rows: list[tuple[str, Turn]]) -> None:
    read = parse_rttm("\n".join(rttm_line(recording, t) for recording, t in rows))
    assert list(read) == list(dict.fromkeys(recording for recording, _ in rows))
    for recording, turns in read.items():
        written = [t for name, t in rows if name == recording]
        assert [t.speaker for t in turns] == [t.speaker for t in written]
        assert [t.start for t in turns] == pytest.approx([t.start for t in written])
        assert [t.end for t in turns] == pytest.approx([t.end for t in written])
        assert turns_digest(turns) == turns_digest(written)


@given(st.lists(turn, min_size=1, max_size=20))
def test_json_gives_back_what_was_written(turns: list[Turn]) -> None:
    text = json.dumps([{"start": t.start, "end": t.end, "speaker": t.speaker, "confidence": 1} for t in turns])
    assert parse_json_turns(text) == tuple(turns)
    assert parse_json_turns("\ufeff" + text) == tuple(turns)


def test_rttm_of_several_recordings_with_everything_that_is_skipped() -> None:
    text = (
        "\ufeff;; made by hand\r\n"
        "SPKR-INFO talk 1 <NA> <NA> <NA> unknown Zoë <NA> <NA>\r\n"
        "SPEAKER\ttalk\t1\t0.5\t1.25\t<NA>\t<NA>\tZoë\t<NA>\t<NA>\r\n"
        "\r\n"
        "# another\r\n"
        "   SPEAKER show 1 10 2 <NA> <NA> 张伟 0.9\r\n"
        "LEXEME talk 1 0.5 0.2 hello lex Zoë 0.9 <NA>\r\n"
        "SPEAKER talk 1 3e0 .5 <NA> <NA> A\u00a0B"
    )
    assert parse_rttm(text) == {
        "talk": (Turn(0.5, 1.75, "Zoë"), Turn(3.0, 3.5, "A\u00a0B")),
        "show": (Turn(10.0, 12.0, "张伟"),),
    }


GOOD = "SPEAKER r 1 0 1 <NA> <NA> A <NA> <NA>"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("SPEAKER r 1 0 1 <NA> <NA>", "7 columns"),
        ("SPEAKER r 1 0 1 <NA> <NA> Anna Maria Smith <NA>", "11 columns"),
        ("SPEAKER r 1 0,5 1 <NA> <NA> A <NA> <NA>", "0,5"),
        ("SPEAKER r 1 1_0 1 <NA> <NA> A <NA> <NA>", "1_0"),
        ("SPEAKER r 1 \u0661 1 <NA> <NA> A <NA> <NA>", "not a number"),
        ("SPEAKER r 1 0 nan <NA> <NA> A <NA> <NA>", "duration 'nan'"),
        ("SPEAKER r 1 inf 1 <NA> <NA> A <NA> <NA>", "start 'inf'"),
        ("SPEAKER r 1 1e999 1 <NA> <NA> A <NA> <NA>", "not a stretch"),
        ("SPEAKER r 1 -1 2 <NA> <NA> A <NA> <NA>", "before the recording"),
        ("SPEAKER r 1 1 0 <NA> <NA> A <NA> <NA>", "no length"),
        ("SPEAKER r 1 1 -0.5 <NA> <NA> A <NA> <NA>", "no length"),
        ("SPEAKER r 1 1e17 1 <NA> <NA> A <NA> <NA>", "no length"),
        ("SPEAKER r 1 1 1 <NA> <NA> <NA> <NA> <NA>", "no speaker"),
        ("SPEAKER r 1 1 1 <NA> <NA> \u2003 <NA> <NA>", "speaker is empty"),
        ("SPEAKER r 1 1 1 <NA> <NA> A\0B <NA> <NA>", "cannot be stored"),
        ("start,end,speaker", "not RTTM"),
        ("speaker r 1 0 1 <NA> <NA> A <NA> <NA>", "not RTTM"),
    ],
)
def test_a_bad_rttm_line_is_named_with_its_number(line: str, says: str) -> None:
    with pytest.raises(InvalidTurns, match=r"^Line 3") as caught:
        parse_rttm(f"{GOOD}\n;; comment\n{line}\n{GOOD}\n")
    assert says in caught.value.message
    assert caught.value.details["line"] == 3
    assert caught.value.hint


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("3", "not an object"),
        ('{"start": 0, "end": 1}', "lacks speaker"),
        ('{"start": 0, "end": true, "speaker": "A"}', "`end` is not a number"),
        ('{"start": "0", "end": 1, "speaker": "A"}', "`start` is not a number"),
        ('{"start": NaN, "end": 1, "speaker": "A"}', "not a stretch"),
        ('{"start": 0, "end": Infinity, "speaker": "A"}', "not a stretch"),
        ('{"start": 0, "end": 1' + "0" * 400 + ', "speaker": "A"}', "too large"),
        ('{"start": -0.1, "end": 1, "speaker": "A"}', "before the recording"),
        ('{"start": 1, "end": 1, "speaker": "A"}', "no length"),
        ('{"start": 0, "end": 1, "speaker": " "}', "speaker is empty"),
        ('{"start": 0, "end": 1, "speaker": 7}', "not a text"),
        ('{"start": 0, "end": 1, "speaker": "\\ud800"}', "cannot be stored"),
        ('{"start": 0, "end": 1, "speaker": "a\\u0000"}', "cannot be stored"),
    ],
)
def test_a_bad_json_item_is_named_with_its_number(item: str, says: str) -> None:
    with pytest.raises(InvalidTurns, match=r"^Item 2") as caught:
        parse_json_turns(f'[{{"start": 0, "end": 1, "speaker": "A"}}, {item}]')
    assert says in caught.value.message
    assert caught.value.details["item"] == 2
    assert caught.value.hint


@pytest.mark.parametrize("text", ["{", '{"start": 0}', "null", "[" * 100_000, "[" + "1" * 5000 + "]", GOOD])
def test_what_is_not_a_json_list_of_turns(text: str) -> None:
    with pytest.raises(InvalidTurns) as caught:
        parse_json_turns(text)
    assert caught.value.hint


def test_no_turns_at_all() -> None:
    for nothing in ("", "  \n", "\ufeff", ";; only a comment"):
        with pytest.raises(NeedsTurns):
            parse_rttm(nothing)
    for nothing in ("", " \n", "\ufeff", "[]"):
        with pytest.raises(NeedsTurns):
            parse_json_turns(nothing)
    with pytest.raises(NeedsTurns):
        validate([], 10.0)


hostile = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(["SPEAKER", "r", "1", "-1", "nan", "<NA>", "\t", "\n", "\r", "\0", "é", "1e308", ";;"])
    ).map(" ".join),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["start", "end", "speaker", "x"]), inner),
    ).map(json.dumps),
)


@given(hostile)
def test_hostile_text_is_refused_in_our_words_or_gives_valid_turns(text: str) -> None:
    for parse in (lambda t: [x for turns in parse_rttm(t).values() for x in turns], parse_json_turns):
        try:
            turns = parse(text)
        except (InvalidTurns, NeedsTurns):
            continue
        assert validate(turns, None)


def test_validate_sorts_cuts_and_keeps_each_turn_once() -> None:
    turns = [
        Turn(5, 10 + END_TOLERANCE_SECONDS, "B"),
        Turn(1, 2, "B"),
        Turn(1, 2, "A"),
        Turn(1, 2, "B"),
        Turn(5, 10, "B"),
    ]
    assert validate(turns, 10.0) == (Turn(1, 2, "A"), Turn(1, 2, "B"), Turn(5, 10.0, "B"))
    assert validate(turns[:1], None) == (Turn(5, 10.5, "B"),)


@pytest.mark.parametrize(
    "bad",
    [
        Turn(9, 10.6, "A"),
        Turn(10, 10.2, "A"),
        Turn(11, 12, "A"),
        Turn(math.nan, 1, "A"),
        Turn(0, math.inf, "A"),
        Turn(-1, 1, "A"),
        Turn(2, 2, "A"),
        Turn(2, 1, "A"),
        Turn(0, 1, ""),
    ],
)
def test_validate_names_the_turn_that_is_wrong(bad: Turn) -> None:
    with pytest.raises(InvalidTurns, match=r"^Turn 2") as caught:
        validate([Turn(0, 1, "A"), bad], 10.0)
    assert caught.value.details["item"] == 2
    assert caught.value.hint


@pytest.mark.parametrize("duration", [0.0, -1.0, math.nan, math.inf])
def test_validate_refuses_an_impossible_length(duration: float) -> None:
    with pytest.raises(InvalidTurns):
        validate([Turn(0, 1, "A")], duration)


@given(st.lists(turn, min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_the_digest_knows_who_talks_when_and_not_the_order(turns: list[Turn], shuffle: random.Random) -> None:
    mixed = turns + turns[:1]
    shuffle.shuffle(mixed)
    assert turns_digest(mixed) == turns_digest(turns)
    first = turns[0]
    rest = [t for t in turns if t != first]
    for other in (
        Turn(first.start + 0.002, first.end + 0.002, first.speaker),
        Turn(first.start, first.end + 0.002, first.speaker),
        Turn(first.start, first.end, first.speaker + "x"),
    ):
        if other not in rest:
            assert turns_digest([*rest, other]) != turns_digest(turns)


class _Annotation:
    def itertracks(self, yield_label: bool = False) -> list[object]:
        raise AssertionError("it is not read")


class _DiarizeOutput:
    speaker_diarization = _Annotation()


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (_DiarizeOutput(), "in output.speaker_diarization.itertracks(yield_label=True)"),
        (_DiarizeOutput(), "output.serialize()"),
        (_Annotation(), "in annotation.itertracks(yield_label=True)"),
        ({"diarization": [{"start": 0.0, "end": 1.0, "speaker": "A"}]}, "its list diarization"),
        ({"A": Turn(0, 1, "A")}, "speakerdb.types.Turn(start, end, speaker)"),
        ("SPEAKER a 1 0 1", "speakerdb.types.Turn"),
        (None, "speakerdb.types.Turn"),
        ([(0.0, 1.0, "A")], "speakerdb.types.Turn"),
        ([Turn("0", 1.0, "A")], "speakerdb.types.Turn"),  # type: ignore[arg-type]
        ([Turn(0.0, 1.0, 7)], "speakerdb.types.Turn"),  # type: ignore[arg-type]
    ],
)
def test_what_a_program_gives_instead_of_turns_is_refused_with_the_way_to_them(given: object, hint: str) -> None:
    with pytest.raises(InvalidTurns) as caught:
        turns_given(given)
    assert hint in caught.value.hint


def test_turns_of_numpy_numbers_become_plain_ones() -> None:
    (turn,) = turns_given(iter([Turn(np.float32(0.5), np.int64(2), "A")]))  # type: ignore[arg-type]
    assert (type(turn.start), type(turn.end), turn) == (float, float, Turn(0.5, 2.0, "A"))
