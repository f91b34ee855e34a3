"""A transcript is kept as it was given, and shown with the speakers, turns and names of the moment."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transcripts_kit import SAID, SRT, WORDS, add, whisperx, word_items

from speakerdb.catalog import diarizations, transcripts
from speakerdb.catalog.diarizations import DiarizationRow
from speakerdb.catalog.schema import diarizations as diarized
from speakerdb.catalog.schema import voice_measures
from speakerdb.core.transcript import parse_transcript
from speakerdb.errors import NeedsTurns, NotFound
from speakerdb.people.naming import Choice
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import silence
from speakerdb.transcripts import FORMS, Shown
from speakerdb.types import Turn


def keep(db: SpeakerDB, text: str, recording: str = "talk", suffix: str = "") -> Shown:
    return db.transcripts.keep(db.transcripts.label(recording, text, suffix))


def segments(db: SpeakerDB, recording: str = "talk") -> list[tuple[str, str]]:
    document = json.loads(db.transcripts.show(recording).written("json"))
    return [(segment["speaker"], segment["text"]) for segment in document["segments"]]


def kinds(db: SpeakerDB) -> list[str]:
    return [event["kind"] for event in db.events(limit=1000)[::-1]]


FIRST, SECOND = "Well, um, hello there.", f"Hello {SAID} uh"


def test_words_get_their_speakers_and_are_kept(both: SpeakerDB) -> None:
    shown = both.transcripts.label("talk", whisperx())
    assert shown.report.outcome == "not-kept"
    with pytest.raises(NotFound, match="no transcript"):
        both.transcripts.show("talk")
    kept = both.transcripts.keep(shown).report
    assert (kept.outcome, kept.language, kept.segments, kept.pieces) == ("added", "en", 1, 2)
    assert (kept.words, kept.outside) == (7, 0)
    assert [(each.label, each.called, each.words, each.pieces) for each in kept.speakers] == [
        ("SPEAKER_00", "SPEAKER_00", 4, 1),
        ("SPEAKER_01", "SPEAKER_01", 3, 1),
    ]
    assert segments(both) == [("SPEAKER_00", FIRST), ("SPEAKER_01", SECOND)]
    assert both.transcripts.show("talk").transcript == shown.transcript


def test_the_same_again_changes_nothing_and_another_one_takes_its_place(both: SpeakerDB) -> None:
    assert keep(both, SRT).report.outcome == "added"
    with both.catalog.read() as tx:
        before = transcripts.find(tx, "talk")
    assert keep(both, SRT.replace("\r\n", "\n")).report.outcome == "unchanged"
    with both.catalog.read() as tx:
        assert transcripts.find(tx, "talk") == before
    assert keep(both, whisperx()).report.outcome == "changed"
    assert [kind for kind in kinds(both) if kind.startswith("transcript")] == ["transcript-kept"] * 2


def test_names_profiles_splits_and_new_turns_show_at_once(both: SpeakerDB) -> None:
    keep(both, whisperx())
    ids = {each.label: each.id for each in both.speakers(recording="talk")}
    both.rename_speaker(ids["SPEAKER_00"], "Guest")
    assert segments(both) == [("Guest", FIRST), ("SPEAKER_01", SECOND)]
    ada = both.create_profile("Ada")
    both.assign(ids["SPEAKER_00"], ada.id)
    assert segments(both)[0] == ("Ada", FIRST)
    both.rename_profile(ada.id, "Ada Lovelace")
    eve = both.create_profile("Eve")
    both.assign(ids["SPEAKER_01"], eve.id)
    assert [who for who, _ in segments(both)] == ["Ada Lovelace", "Eve"]
    both.merge_profiles(eve.id, ada.id)  # one person with two voices: they stay apart
    assert [who for who, _ in segments(both)] == ["Ada Lovelace (SPEAKER_00)", "Ada Lovelace (SPEAKER_01)"]
    both.assign(ids["SPEAKER_01"], None)
    both.people.undo()
    both.people.undo()
    assert [who for who, _ in segments(both)] == ["Ada Lovelace", "Eve"]
    shorter = (Turn(0.0, 2.5, "SPEAKER_00"), Turn(2.5, 10.0, "SPEAKER_00"), Turn(10.0, 11.75, "SPEAKER_01"))
    add(both, turns=shorter)
    said = segments(both)
    assert said == [("Ada Lovelace", FIRST), ("Eve", SECOND)]  # what lies in no turn stays with the piece before it
    report = both.transcripts.show("talk").report
    assert report.outside == 2
    assert [each.words for each in report.speakers] == [4, 1]
    both.people.split(ids["SPEAKER_00"], Choice(turns="2"), label="NEW")
    assert segments(both)[:2] == [("Ada Lovelace", "Well, um,"), ("NEW", "hello there.")]


def test_a_diarizers_own_exclusive_turns_are_taken_while_they_are_of_the_turns(both: SpeakerDB) -> None:
    keep(both, whisperx())
    ids = {each.label: each.id for each in both.speakers(recording="talk")}
    swapped = (Turn(0.0, 10.0, ids["SPEAKER_01"]), Turn(10.0, 20.0, ids["SPEAKER_00"]))
    with both.catalog.change() as tx:
        diarizations.write(tx, DiarizationRow("talk", 1, "test", {}, (), swapped, both.catalog.now()))
    assert segments(both) == [("SPEAKER_01", FIRST), ("SPEAKER_00", SECOND)]
    with both.catalog.change() as tx:
        tx.execute(sa.update(diarized).values(content_version=7))
    assert segments(both) == [("SPEAKER_00", FIRST), ("SPEAKER_01", SECOND)]


def test_without_turns_a_transcript_is_refused_with_what_to_do(both: SpeakerDB) -> None:
    both.add(None, None, recording_id="waits", waveform=silence(20))
    with pytest.raises(NeedsTurns) as refused:
        both.transcripts.label("waits", whisperx())
    assert "speakerdb work" in refused.value.hint
    with both.catalog.change() as tx:  # a diarizer heard nobody: that is known
        diarizations.write(tx, DiarizationRow("waits", 1, "test", {}, (), (), both.catalog.now()))
    report = keep(both, whisperx(), "waits").report
    assert (report.words, report.outside, report.speakers) == (7, 7, ())
    assert segments(both, "waits")[0][0] is None


def test_words_of_measured_voices_are_counted_whenever_the_transcript_changes(both: SpeakerDB) -> None:
    ids = {each.label: each.id for each in both.speakers(recording="talk")}
    row: dict[str, Any] = {
        "recording_id": "talk", "seconds": 10.0, "overlap_seconds": 0.0, "turns": 1, "longest_turn_seconds": 10.0,
        "interruptions_given": 0, "interruptions_received": 0,
    }  # fmt: skip
    with both.catalog.change() as tx:
        tx.execute(sa.insert(voice_measures), [row | {"speaker_id": each} for each in ids.values()])

    def measured() -> dict[str, int | None]:
        with both.catalog.read() as tx:
            rows = tx.execute(sa.select(voice_measures.c.speaker_id, voice_measures.c.words)).all()
        return {label: dict(map(tuple, rows))[each] for label, each in ids.items()}  # type: ignore[arg-type]

    assert measured() == {"SPEAKER_00": None, "SPEAKER_01": None}
    keep(both, whisperx())
    assert measured() == {"SPEAKER_00": 4, "SPEAKER_01": 3}
    keep(both, json.dumps({"words": word_items(WORDS[:3])}))
    assert measured() == {"SPEAKER_00": 3, "SPEAKER_01": 0}
    both.transcripts.remove("talk")
    assert measured() == {"SPEAKER_00": None, "SPEAKER_01": None}
    with both.catalog.read() as tx:
        assert transcripts.words_by_speaker(tx, "talk", ()) is None


def test_a_transcript_is_removed_alone_or_with_its_recording(both: SpeakerDB) -> None:
    keep(both, whisperx())
    assert both.transcripts.remove("talk").words == 7
    with pytest.raises(NotFound):
        both.transcripts.remove("talk")
    assert kinds(both)[-2:] == ["transcript-kept", "transcript-removed"]
    keep(both, whisperx())
    both.remove("talk")
    assert kinds(both) == ["recording-removed"]
    assert both.transcripts.page(limit=10).items == ()
    with pytest.raises(NotFound):
        both.transcripts.show("talk")


def test_a_list_comes_in_pages(both: SpeakerDB) -> None:
    for name in ("a", "B", "é"):
        add(both, name, library="radio")
        keep(both, whisperx(), name)
    keep(both, SRT)
    seen: list[tuple[str, str]] = []
    after = ""
    while True:
        part = both.transcripts.page(after=after, limit=2)
        seen += [(each.recording_id, each.library) for each in part.items]
        if part.place is None:
            break
        (after,) = part.place
    assert seen == [("B", "radio"), ("a", "radio"), ("talk", "default"), ("é", "radio")]
    only = both.transcripts.page(library_name="default", limit=10)
    assert [(each.recording_id, each.words, each.segments) for each in only.items] == [("talk", 7, 2)]


def test_a_language_that_a_database_cannot_hold_spoils_nothing(both: SpeakerDB) -> None:
    keep(both, whisperx(language="e\x00n"))
    assert both.transcripts.show("talk").report.words == 7
    assert keep(both, whisperx(language="e\x00n")).report.outcome == "unchanged"


words = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8).filter(lambda t: t.split())


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(words, st.integers(0, 24), st.booleans()), min_size=1, max_size=12))
def test_no_word_is_lost_on_the_way_from_file_to_form(db: SpeakerDB, said: list[tuple[str, int, bool]]) -> None:
    times = iter(sorted(at for _, at, placed in said if placed))
    items = []
    for word, _, placed in said:
        at = next(times) / 1.25 if placed else None
        items.append({"word": word} | ({} if at is None else {"start": at, "end": at + 0.5}))
    text = " ".join(word for word, _, _ in said)
    given_ = json.dumps({"segments": [{"start": 0.0, "end": 20.0, "text": text, "words": items}]})
    keep(db, given_)
    shown = db.transcripts.show("talk")
    assert shown.transcript == parse_transcript(given_)
    document = json.loads(shown.written("json", words=True))
    listed = [word["word"] for segment in document["segments"] for word in segment["words"]]
    assert listed == [word for word, _, _ in said]
    written = [segment["text"] for segment in document["segments"]]
    assert "".join("".join(written).split()) == "".join(text.split())
    if all(word.isalnum() for word, _, _ in said):  # else its signs may be marks of the form
        for form in FORMS[1:3]:
            again = parse_transcript(shown.written(form), f".{form}")
            assert "".join("".join(each.text.split()) for each in again.segments) == "".join(text.split())
