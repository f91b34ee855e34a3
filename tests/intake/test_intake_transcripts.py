"""Turns from what diarizers and transcribers write, and that no text raises anything else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.core.texts import flaw
from speakerdb.core.turn_forms import SUFFIXES, parse_turns
from speakerdb.errors import InvalidTurns, NeedsTurns
from speakerdb.types import Turn

A, B = "SPEAKER_00", "SPEAKER_01"
LIST = [{"start": 0.0, "end": 2.8, "speaker": A}, {"start": 2.5, "end": 5.2, "speaker": B}]
TWO = (Turn(0.0, 2.8, A), Turn(2.5, 5.2, B))


def turns(text: str, suffix: str = ".json") -> tuple[Turn, ...]:
    return parse_turns(text, suffix).of()


def test_pyannote_gives_the_set_that_overlaps() -> None:
    exclusive = [{"start": 0.0, "end": 2.5, "speaker": A}]
    assert turns(json.dumps({"diarization": LIST, "exclusive_diarization": exclusive})) == TWO
    with pytest.raises(InvalidTurns, match="exclusive"):
        turns(json.dumps({"exclusive_diarization": exclusive}))


def test_the_shape_that_pyannote_writes_is_read() -> None:
    pytest.importorskip("pyannote.core")
    from pyannote.core import Annotation, Segment

    annotation = Annotation()
    annotation[Segment(0.0, 2.8), "x"] = A
    annotation[Segment(2.5, 5.2), "y"] = B
    rows = [
        {"start": round(segment.start, 3), "end": round(segment.end, 3), "speaker": speaker}
        for segment, _, speaker in annotation.itertracks(yield_label=True)
    ]
    assert turns(json.dumps({"diarization": rows, "exclusive_diarization": rows})) == TWO


def test_whisperx_segments_without_a_speaker_are_counted() -> None:
    words = [{"word": "Hi", "start": 0.0, "end": 0.4, "score": 0.9, "speaker": A}]
    segments = [
        {"start": 0.0, "end": 2.8, "text": " Hi", "words": words, "speaker": A},
        {"start": 2.8, "end": 3.0, "text": " hm", "words": []},
        {"start": 3.0, "end": 3.1, "text": " ?", "speaker": None},
        {"start": 3.0, "end": 5.2, "text": " so", "speaker": B},
    ]
    parsed = parse_turns(json.dumps({"segments": segments, "word_segments": words}), ".json")
    assert parsed.of() == (Turn(0.0, 2.8, A), Turn(3.0, 5.2, B))
    assert parsed.skipped == 2
    with pytest.raises(NeedsTurns, match="None of the 1 segments"):
        turns(json.dumps({"segments": segments[1:2]}))


def test_words_in_a_row_are_one_turn() -> None:
    words = [
        {"word": "so", "start": 0.0, "end": 0.4, "speaker": A},
        {"word": "2024", "speaker": A},
        {"word": "it", "start": 0.9, "end": 1.4, "speaker": A},
        {"word": "no", "start": 1.5, "end": 1.8, "speaker": B},
        {"word": "well", "start": 9.0, "end": 9.5, "speaker": B},
    ]
    parsed = parse_turns(json.dumps({"word_segments": words}), ".json")
    assert parsed.of() == (Turn(0.0, 1.4, A), Turn(1.5, 1.8, B), Turn(9.0, 9.5, B))
    assert parsed.skipped == 1


def test_a_two_stage_transcript() -> None:
    segments = [
        {"start": "0.000", "end": "2.500", "text": "Hello", "speaker": A},
        {"start": "2.500", "end": "5.000", "text": "Hi there", "speaker": B},
    ]
    whole = {"segments": segments, "speakers": [A, B], "diarization": LIST}
    assert turns(json.dumps(whole)) == TWO
    assert turns(json.dumps(whole | {"diarization": []})) == (Turn(0.0, 2.5, A), Turn(2.5, 5.0, B))


def test_webvtt_voices() -> None:
    text = (
        "WEBVTT - made by hand\n\nNOTE A --> is not read here\n00:00:99.000 nor this\n\nSTYLE\n::cue { color: red }\n\n"
        "intro\n00:01.000 --> 00:02.500 align:start\n<v.loud Zo&euml; &amp; Co>Hello</v>\nagain\n\n"
        "01:00:00.000 --> 01:00:01.000\n<v Ann>Yes</v> <v Bob>No</v>\n\n00:03.000 --> 00:04.000\n(music)\n"
    )
    parsed = parse_turns(text.replace("NOTE A --> is", "NOTE this is"), ".vtt")
    assert parsed.of() == (Turn(1.0, 2.5, "Zoë & Co"), Turn(3600.0, 3601.0, "Ann"), Turn(3600.0, 3601.0, "Bob"))
    assert parsed.skipped == 1


@pytest.mark.parametrize(
    "tag", ["[SPEAKER_00] ", "[SPEAKER_00]: ", "SPEAKER_00: ", "- SPEAKER_00: ", "<i>[SPEAKER_00]</i> "]
)
def test_srt_tags(tag: str) -> None:
    text = (
        f"1\r\n00:00:00,000 --> 00:00:02,500\r\n{tag}Hello\r\n\r\n2\r\n00:00:02,500 --> 00:00:05,000\r\n[laughs] ha\r\n"
        "\r\n3\r\n00:00:05,000 --> 00:00:06,000\r\nNote: this\r\n"
    )
    for suffix in (".srt", ""):
        parsed = parse_turns(text, suffix)
        assert parsed.of() == (Turn(0.0, 2.5, "SPEAKER_00"),)
        assert parsed.skipped == 2


@pytest.mark.parametrize(
    ("text", "suffix", "error", "says"),
    [
        ("WEBVTT\n\n00:00.000 --> later\nx\n", ".vtt", InvalidTurns, "Line 3"),
        ("1\n00:00:02,000 --> 00:00:01,000\n[S1] x\n", ".srt", InvalidTurns, "Line 2 has no length"),
        ("1\n00:00:01,000 --> 00:00:02,000\nx\n", ".srt", NeedsTurns, "None of the 1 cues"),
        ("", ".vtt", NeedsTurns, "no cue"),
        ("{}", ".json", InvalidTurns, "neither diarization nor segments"),
        ('{"segments": {}}', ".json", InvalidTurns, "not a list"),
        ('{"segments": [3]}', ".json", InvalidTurns, "Segment 1 is a int"),
        ('{"segments": [{"speaker": "A", "start": 1}]}', ".json", InvalidTurns, "lacks end"),
        ('{"segments": [{"speaker": "A", "start": "x", "end": 2}]}', ".json", InvalidTurns, "not a number"),
        ('{"segments": [{"speaker": 1, "start": 1, "end": 2}]}', ".json", InvalidTurns, "not a text"),
        ('{"diarization": []}', ".json", NeedsTurns, "empty"),
        ('{"word_segments": [[]]}', ".json", InvalidTurns, "Word 1"),
        ("{", ".json", InvalidTurns, "not JSON"),
        ('{"diarization": [{"speaker": "a\\tb", "start": 1, "end": 2}]}', ".json", InvalidTurns, "U+0009"),
        (
            '{"diarization": [{"speaker": "' + "x" * 10_000 + '", "start": 1, "end": 2}]}',
            ".json",
            InvalidTurns,
            "10,000",
        ),
    ],
)
def test_what_cannot_be_read_is_named(text: str, suffix: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        parse_turns(text, suffix)
    assert says in caught.value.message
    assert caught.value.hint


def test_content_decides_where_the_ending_says_nothing() -> None:
    assert turns("SPEAKER r 1 0 1 <NA> <NA> A <NA> <NA>", ".txt") == (Turn(0.0, 1.0, "A"),)
    assert turns(" " + json.dumps(LIST), "") == TWO
    assert turns(json.dumps({"diarization": LIST}), ".TXT") == TWO
    assert turns("\ufeffWEBVTT\n\n00:00.000 --> 00:01.000\n<v A>x", ".srt") == (Turn(0.0, 1.0, "A"),)


@pytest.mark.parametrize(
    "text",
    ["WEBVTT\n\n00:00.000 --> 00:01.000\n" + line for line in ("<v a" * 200_000, "<v" + " " * 1_000_000)]
    + ["<" * 1_000_000],
)
def test_long_lines_cost_no_more_than_they_are_long(text: str) -> None:
    with pytest.raises((InvalidTurns, NeedsTurns)):
        parse_turns(text, ".vtt")


pieces = st.sampled_from(
    ["WEBVTT", "\n", "\n\n", "00:00:01,000", " --> ", "00:02.000", "<v ", ">", "[SPEAKER_00]", "S1:", "{", "}", "[", "]", '"',
     ":", '"segments"', '"diarization"', "SPEAKER", "NOTE", "\r", "\0", "é", "1e308", ",", "nan"]
)  # fmt: skip
shapes = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["start", "end", "speaker", "segments", "diarization", "word_segments", "words", "text"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(
    st.one_of(st.text(), st.lists(pieces).map("".join), shapes.map(json.dumps)), st.sampled_from([*SUFFIXES, ".txt"])
)
def test_no_text_raises_anything_else(text: str, suffix: str) -> None:
    try:
        parsed = parse_turns(text, suffix)
    except (InvalidTurns, NeedsTurns):
        pass
    else:
        assert all(turn.end > turn.start >= 0 for found in parsed.recordings.values() for turn in found)


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "empty"), (" \u2003", "empty"), ("x" * 11, "11 characters"), ("a\tb", "U+0009"), ("a\x7f", "U+007F"),
     ("a\u2028b", "U+2028"), ("\ud800", "U+D800"), ("a\x85", "U+0085")],
)  # fmt: skip
def test_texts_that_no_name_is(text: str, says: str) -> None:
    assert says in (flaw(text, 10) or "")


@pytest.mark.parametrize("text", ["Zoë", "张伟", "علی‌رضا", "क्‍ष", "O'Brien", "a/b", "👩‍👩‍👧", "\u200fאבג", "a\u00a0b"])
def test_names_of_any_script(text: str) -> None:
    assert flaw(text, 100) is None
