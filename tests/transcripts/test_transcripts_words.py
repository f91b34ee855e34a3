"""Words that are counted: the most frequent, phrases, fillers, and the rate; exact, or it says what may be missing."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from transcripts_kit import add, whisperx

from speakerdb.core.transcript import Segment, Transcript, Word, label
from speakerdb.core.transcript.counting import Frequent, count_words, phrases, plain, words_of
from speakerdb.core.transcript.naming import Voice, told_apart
from speakerdb.errors import InvalidInput, NotFound
from speakerdb.reports.transcripts import WordCount
from speakerdb.service import SpeakerDB
from speakerdb.transcripts import FILLERS, Whose
from speakerdb.transcripts import words as counting
from speakerdb.types import Turn
from tests.lent_library import Shell


def said(db: SpeakerDB, recording: str, *pieces: tuple[float, str]) -> None:
    """Segments of a second each, without word times."""
    text = json.dumps([{"start": at, "end": at + 1, "text": words} for at, words in pieces])
    db.transcripts.keep(db.transcripts.label(recording, text))


def pairs(counts: Sequence[WordCount]) -> list[tuple[str, int]]:
    return [(each.text, each.count) for each in counts]


class TestPure:
    def test_the_plain_form_of_a_word_has_no_case_and_no_marks_around_it(self) -> None:
        forms = {
            " Hello,": "hello", "don't!": "don't", "“Straße”": "strasse", "…": "", "-": "", "♪": "", "1,984.": "1,984",
            "uh-huh": "uh-huh", "\uff21\uff22": "ab", "привет?": "привет", "(42)": "42",
        }  # fmt: skip
        assert {given_: plain(given_) for given_ in forms} == forms

    def test_words_are_counted_by_whose_they_are(self) -> None:
        segments = (
            Segment(0, 4, "a b - c", (Word("a", 0, 1), Word("b"), Word("-"), Word("c", 2, 3))),
            Segment(5, 6, "two words"),
            Segment(8, 9, "nobody's … words"),
        )
        transcript = Transcript(segments)
        turns = [Turn(0, 1.5, "A"), Turn(1.5, 7, "B")]
        assert words_of(label(transcript, turns)) == {"A": 1, "B": 3, None: 3}
        assert count_words(transcript) == 7
        assert list(phrases(["a", "b", "c"], 2)) == ["a b", "b c"]
        assert list(phrases(["a"], 2)) == []

    @given(st.lists(st.sampled_from("abcdefghijklmnop"), max_size=200), st.integers(1, 12))
    def test_what_is_frequent_is_found_in_bounded_memory(self, texts: list[str], most: int) -> None:
        counted, truth = Frequent(most), Counter(texts)
        for text in texts:
            counted.take([text])
            assert len(counted.texts()) <= most
        for text, count in truth.items():
            (kept,) = [n for t, n in counted.top(most) if t == text] or [0]
            assert kept <= count <= kept + counted.missed
        if len(truth) <= most:
            assert counted.missed == 0
        exact = Frequent(0, counted.texts())
        exact.take(texts)
        assert all(truth[text] == count for text, count in exact.top(most))

    @given(
        st.lists(st.tuples(st.sampled_from("ABCD"), st.sampled_from(["A", "B", "A (B)", "A (A)", None])), max_size=4)
    )
    def test_voices_are_told_apart_whatever_they_are_called(self, given_: list[tuple[str, str | None]]) -> None:
        voices = [Voice(f"id{n}", who, name) for n, (who, name) in enumerate(dict(given_).items())]
        found = told_apart(voices)
        assert found.keys() == {voice.id for voice in voices}
        assert len(set(found.values())) == len(voices)
        wanted = Counter(voice.name or voice.label for voice in voices)
        for voice in voices:
            call = voice.name or voice.label
            assert found[voice.id].startswith(call)
            if wanted[call] == 1:
                assert found[voice.id] == call


def test_words_of_a_speaker_a_profile_a_library_and_all(both: SpeakerDB) -> None:
    first = {each.label: each.id for each in both.speakers(recording="talk")}
    second = add(both, "more")
    add(both, "other", library="radio")
    add(both, "untold")
    said(both, "talk", (1, "Go on, go on! Um, GO."), (12, "you know, um"))
    said(both, "more", (1, "quite other words"), (12, "Go on."))
    said(both, "other", (1, "radio go"))
    ada = both.create_profile("Ada")
    both.assign(first["SPEAKER_00"], ada.id)
    both.assign(second["SPEAKER_01"], ada.id)

    report = both.transcripts.words(Whose(profile=ada.id), top=2, phrase_length=2)
    assert (report.of, report.id, report.name) == ("profile", ada.id, "Ada")
    assert (report.recordings, report.words, report.outside, report.seconds) == (2, 8, 0, 20.0)
    assert report.words_per_minute == pytest.approx(24.0)
    assert pairs(report.top) == [("go", 4), ("on", 3)]
    assert pairs(report.phrases) == [("go on", 3), ("on go", 1)]
    assert (pairs(report.fillers), report.fillers_from, report.may_be_missing) == ([("um", 1)], "default", 0)

    report = both.transcripts.words(Whose(speaker=first["SPEAKER_01"]), fillers=["you know", "UM,"])
    assert (report.of, report.name, report.words, report.seconds) == ("speaker", "SPEAKER_01", 3, 10.0)
    assert (pairs(report.fillers), report.fillers_from) == ([("um", 1), ("you know", 1)], "given")
    assert (report.phrase_length, report.phrases) == (None, ())
    assert both.transcripts.words(Whose(library="radio")).words == 2
    everything = both.transcripts.words(Whose())
    assert (everything.of, everything.recordings, everything.words) == ("all", 3, 16)
    both.rename_profile(ada.id, "Ada Lovelace")
    assert both.transcripts.words(Whose(profile=ada.id)).name == "Ada Lovelace"


def test_what_nobody_says_is_counted_apart_and_in_no_rate(db: SpeakerDB) -> None:
    add(db, turns=(Turn(0.0, 10.0, "A"),))
    said(db, "talk", (1, "one two"), (15, "three"))
    report = db.transcripts.words(Whose())
    assert (report.words, report.outside, report.words_per_minute) == (3, 1, pytest.approx(12.0))
    (speaker,) = db.speakers(recording="talk")
    assert db.transcripts.words(Whose(speaker=speaker.id)).words == 2


def test_without_transcripts_there_is_nothing_to_count(db: SpeakerDB) -> None:
    report = db.transcripts.words(Whose(library="default"), phrase_length=3)
    assert (report.recordings, report.words, report.words_per_minute, report.top) == (0, 0, None, ())
    (speaker, _) = db.speakers(recording="talk")
    assert db.transcripts.words(Whose(speaker=speaker.id)).recordings == 0
    for whose in (Whose(speaker="nobody"), Whose(profile="x"), Whose(library="x")):
        with pytest.raises(NotFound):
            db.transcripts.words(whose)
    for wrong in (["…"], [""], ["a b c d e"], ["a"] * 1000):
        with pytest.raises(InvalidInput, match="Fillers"):
            db.transcripts.words(Whose(), fillers=wrong)
    for length in (1, 5):
        with pytest.raises(InvalidInput):
            db.transcripts.words(Whose(), phrase_length=length)
    with pytest.raises(InvalidInput):
        db.transcripts.words(Whose(speaker="a", profile="b"))


def test_many_recordings_are_counted_exactly_in_little_memory(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch) -> None:
    random_ = random.Random(8)  # noqa: S311
    truth: Counter[str] = Counter()
    for number in range(45):
        add(db, f"r{number:02}")
        words = random_.choices(
            ["common", "often", "some", *(f"rare{n}" for n in range(300))], [90, 60, 30, *[1] * 300], k=40
        )
        truth.update(words)
        said(db, f"r{number:02}", (1, " ".join(words)))
    report = db.transcripts.words(Whose(), top=3)
    assert (report.recordings, report.words, report.may_be_missing) == (45, 1800, 0)
    monkeypatch.setattr(counting, "MOST_DIFFERENT", 50)
    assert db.transcripts.words(Whose(), top=3) == report
    assert pairs(report.top) == truth.most_common(3)
    longer = db.transcripts.words(Whose(), top=40)
    assert longer.may_be_missing >= longer.top[-1].count
    assert all(truth[text] == count for text, count in pairs(longer.top))


def test_both_doors_count_alike(db: SpeakerDB, shell: Shell, client: TestClient) -> None:
    db.transcripts.keep(db.transcripts.label("talk", whisperx()))
    printed = shell.json("transcripts", "words", "--top", 1, "--phrases", 2, "--fillers", "well,hello there")
    asked = {"top": 1, "phrases": 2, "fillers": ["well", "hello there"]}
    assert client.post("/v1/transcripts/words", json=asked).json() == printed
    assert printed["fillers"] == [{"text": "hello there", "count": 1}, {"text": "well", "count": 1}]
    text = shell.ok("transcripts", "words", "--library", "default")
    assert "the library default: 7 words in 1 recording with a transcript, 0:00:20 of talk, 21 words a minute" in text
    assert "fillers, from the built-in English list: uh 1, um 1" in text
    assert shell.refused("transcripts", "words", "--speaker", "a", "--library", "b")["code"] == "invalid-input"
    for wrong in ({"top": 0}, {"phrases": 5}, {"speaker": "a", "profile": "b"}, {"filler": ["a"]}):
        assert client.post("/v1/transcripts/words", json=wrong).status_code == 422
    assert all(plain(word) == word for word in FILLERS)
