"""What transcribers write is read, what cannot be is refused with a reason, and what we write is what the forms demand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.core.transcript import Segment, Transcript, Word, label, parse_transcript, writing
from speakerdb.core.turn_forms import parse_turns
from speakerdb.errors import InvalidInput, InvalidTranscript
from speakerdb.types import Turn

GOLDEN = Path(__file__).parent / "golden"
# The two sentences and turns of the two-stage transcription's description.
TURNS = (Turn(0.0, 2.8, "SPEAKER_00"), Turn(2.5, 5.2, "SPEAKER_01"))
EXCLUSIVE = (Turn(0.0, 2.5, "SPEAKER_00"), Turn(2.5, 5.2, "SPEAKER_01"))
SAID = Transcript((Segment(0.0, 2.5, "Hello"), Segment(2.5, 5.0, "Hi there")))

WHISPERLIVE = json.dumps(
    {
        "segments": [
            {"start": "0.000", "end": "2.500", "text": " Hello"},
            {"start": "2.500", "end": "5.000", "text": "Hi there"},
        ]
    }
)
FASTER_WHISPER = json.dumps(
    {
        "language": "en",
        "segments": [
            {"id": 1, "start": 0.0, "end": 2.5, "text": " Hello", "words": [
                {"start": 0.1, "end": 0.6, "word": " Hello", "probability": 0.9}]},
            {"id": 2, "start": 2.5, "end": 5.0, "text": " Hi there", "words": [
                {"start": 2.6, "end": 2.8, "word": " Hi", "probability": 0.9},
                {"start": 2.8, "end": 3.1, "word": " there", "probability": 0.8}]},
        ],
    }
)  # fmt: skip
WHISPERX = json.dumps(
    {
        "segments": [
            {"start": 0.0, "end": 2.5, "text": "Hello", "words": [{"word": "Hello", "start": 0.1, "end": 0.6, "score": 0.9}]},
            {"start": 2.5, "end": 5.0, "text": "Hi there", "words": [
                {"word": "Hi"}, {"word": "there", "start": 2.8, "end": 3.1}]},
        ],
        "word_segments": [],
        "language": "en",
    }
)  # fmt: skip
VTT = "WEBVTT\n\n1\n00:00.000 --> 00:02.500\n<v Ada>Hello</v>\n\n00:02.500 --> 00:05.000\nHi there\n"
SRT = "\ufeff1\n00:00:00,000 --> 00:00:02,500\n[SPEAKER_00] Hello\n\n2\n00:00:02,500 --> 00:00:05,000\nHi\nthere\n"
SRT = SRT.replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("text", "suffix"),
    [(WHISPERLIVE, ".json"), (FASTER_WHISPER, ".json"), (WHISPERX, ""), (VTT, ".vtt"), (VTT, ""), (SRT, ".srt"), (SRT, "")],
)  # fmt: skip
def test_all_forms_say_the_same(text: str, suffix: str) -> None:
    found = parse_transcript(text, suffix, duration=5.0)
    assert [(s.start, s.end, s.text) for s in found.segments] == [(s.start, s.end, s.text) for s in SAID.segments]


def test_words_come_with_their_times_or_without() -> None:
    assert parse_transcript(FASTER_WHISPER).segments[0].words == (Word(" Hello", 0.1, 0.6),)
    assert parse_transcript(WHISPERX).segments[1].words == (Word("Hi"), Word("there", 2.8, 3.1))
    assert parse_transcript(WHISPERX).language == "en"
    alone = [{"word": "Hello", "start": 0, "end": 0.5}, {"word": "you"}, {"word": "Hi", "start": 3, "end": 4}]
    found = parse_transcript(json.dumps({"word_segments": alone}))
    assert [(s.start, s.end, s.text) for s in found.segments] == [(0, 0.5, "Hello you"), (3, 4, "Hi")]


def test_empty_words_and_segments_are_left_out_and_counted() -> None:
    items = [{"start": 0, "end": 1, "text": " "}, {"start": 1, "end": 2, "text": "so", "words": [{"word": ""}]}]
    found = parse_transcript(json.dumps(items))
    assert (len(found.segments), found.skipped, found.segments[0].words) == (1, 1, ())


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("", "not JSON"),
        ('{"segments": [{"start": 0, "end": 1, "text": "ha', "not JSON"),
        ("3", "not an object"),
        ("{}", "neither segments nor words"),
        ('{"segments": {}}', "not a list"),
        ("[1]", "Segment 1 is a int"),
        ('[{"start": 1, "end": 2, "text": 5}]', "its text is a int"),
        ('[{"end": 2, "text": "a"}]', "lacks its start or its end"),
        ('[{"start": "a", "end": 2, "text": "a"}]', "not a number of seconds"),
        ('[{"start": true, "end": 2, "text": "a"}]', "not a number of seconds"),
        ('[{"start": NaN, "end": 2, "text": "a"}]', "not a stretch"),
        ('[{"start": -1, "end": 2, "text": "a"}]', "not a stretch"),
        ('[{"start": 1e999, "end": 2, "text": "a"}]', "not a stretch"),
        ('[{"start": 3, "end": 2, "text": "a"}]', "before it begins"),
        ('[{"start": 3, "end": 4, "text": "a"}, {"start": 1, "end": 2, "text": "b"}]', "before the one in front"),
        ('[{"start": 1, "end": 4, "text": "a", "words": 3}]', "not a list"),
        (
            '[{"start": 0, "end": 4, "text": "a", "words": [{"word":"a","start":2,"end":3},{"word":"b","start":1,"end":2}]}]',
            "run backwards",
        ),
        ('[{"start": 0, "end": 90, "text": "a"}]', "the recording after 60.0 s"),
        ('[{"start": 0, "end": 9, "text": "a", "words": [{"word": "a", "start": 80, "end": 90}]}]', "after 60.0 s"),
        ('{"words": [{"word": "a"}]}', "None of the words"),
        ('[{"start": 0, "end": 1, "text": "\\ud800"}]', "cannot be stored"),
        ("WEBVTT\n\n00:01.000 --> now\nHi\n", "does not say from when to when"),
        ("1\n00:00:01,000 --> 00:00:02,000\n[SPEAKER_00]\n", "holds no text"),
        ("[" * 100_000, "not JSON"),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\nH\x00i\n", "cannot be stored"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(text: str, about: str) -> None:
    with pytest.raises(InvalidTranscript, match=about) as caught:
        parse_transcript(text, "", duration=60.0)
    assert caught.value.hint


def test_segments_that_overlap_are_two_channels_and_fine() -> None:
    assert len(parse_transcript('[{"start":0,"end":4,"text":"a"},{"start":1,"end":2,"text":"b"}]').segments) == 2


@given(st.text(max_size=300), st.sampled_from(["", ".json", ".vtt", ".srt"]))
def test_whatever_the_text_nothing_else_is_raised(text: str, suffix: str) -> None:
    try:
        parse_transcript(text, suffix)
    except InvalidTranscript:
        return


def _golden(name: str) -> str:
    return (GOLDEN / name).read_bytes().decode()


def test_json_and_subtitles_are_those_of_two_stage_transcription() -> None:
    found = label(SAID, EXCLUSIVE)
    assert json.dumps(writing.two_stage(found, TURNS), indent=2) + "\n" == _golden("two-stage.json")
    assert writing.srt(found) == _golden("two-stage.srt")
    assert writing.vtt(found, {"SPEAKER_01": "Ada & <Bob>"}) == _golden("two-stage.vtt")


def test_turns_alone_are_written_in_all_forms() -> None:
    assert writing.rttm(TURNS, "call-7") == _golden("turns.rttm")
    assert json.dumps(writing.serialized(TURNS, EXCLUSIVE), indent=2) + "\n" == _golden("turns.serialized.json")
    alone = writing.without_text(EXCLUSIVE)
    assert json.dumps(writing.two_stage(alone, TURNS), indent=2) + "\n" == _golden("turns.json")
    assert writing.srt(alone) == _golden("turns.srt")


def test_what_is_written_is_read_again() -> None:
    found = label(SAID, EXCLUSIVE)
    document = json.dumps(writing.two_stage(found, TURNS, words=True))
    assert parse_turns(document, ".json").of() == TURNS
    assert [s.text for s in parse_transcript(document).segments] == ["Hello", "Hi there"]
    assert parse_turns(writing.rttm(TURNS, "x"), ".rttm").of("x") == TURNS
    for text, suffix in ((writing.srt(found), ".srt"), (writing.vtt(found), ".vtt")):
        assert [(s.start, s.end, s.text) for s in parse_transcript(text, suffix).segments] == [
            (s.start, s.end, s.text) for s in SAID.segments
        ]
        assert [turn.speaker for turn in parse_turns(text, suffix).of()] == ["SPEAKER_00", "SPEAKER_01"]


def test_names_are_shown_in_the_place_of_labels() -> None:
    found = label(SAID, EXCLUSIVE)
    names = {"SPEAKER_00": "Ada\nLovelace"}
    document = writing.two_stage(found, TURNS, names)
    assert document["speakers"] == ["Ada\nLovelace", "SPEAKER_01"]
    assert document["diarization"][0]["speaker"] == "Ada\nLovelace"
    assert "[Ada Lovelace] Hello\n" in writing.srt(found, names), "a line end in a name would end the cue"


def test_rttm_refuses_what_it_cannot_hold() -> None:
    for turns, name in ((TURNS, "two words"), ([Turn(0, 1, "A B")], "x")):
        with pytest.raises(InvalidInput, match="RTTM cannot hold"):
            writing.rttm(turns, name)
