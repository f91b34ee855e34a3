"""Where one thing stands in each generation, why, and what happens next."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from seeing_kit import CommandLine, Failing, add, parses

from speakerdb.catalog import schema
from speakerdb.errors import InvalidInput, MediaMissing, ModelOffline, NotFound
from speakerdb.reports.seeing import Explanation, Place
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import fake_vector, two_voices
from speakerdb.types import Document, Turn
from tests.audio_files import write

Open = Callable[..., SpeakerDB]


def place(found: Explanation, generation: str = "v3") -> Place:
    (one,) = [each for each in found.places if each.generation == generation]
    return one


def check_commands(found: Explanation) -> None:
    for command in (found.command, *(each.command for each in found.places)):
        assert not command or parses(command), command


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    write(path, np.random.default_rng(0).standard_normal(16_000 * 4) * 0.1, 16_000, codec="pcm_s16le")
    return path


def test_a_recording_from_the_queue_to_the_index(db: SpeakerDB, talk: Path) -> None:
    added = db.add(talk, two_voices(4.0), recording_id="talk")
    found = db.explain.about("talk")
    assert (found.kind, found.id) == ("recording", "talk")
    assert found.facts["turns"] == found.facts["speakers"] == 2
    assert found.facts["library"] == "default"
    assert found.file is not None
    assert found.file.state == "there"
    assert (place(found).state, place(found).command, found.command) == ("waiting", "speakerdb work", "speakerdb work")
    assert place(found).serving
    db.work()
    found = db.explain.about("talk")
    assert (place(found).state, found.command) == ("embedded", "")
    assert place(found).documents == {"equal": 2}
    assert place(found).speakers == {"embedded": 2}
    assert {voice["id"] for voice in found.speakers} == set(added.speakers.values())
    assert all(voice["generations"] == {"v3": "embedded"} for voice in found.speakers)
    assert [event["kind"] for event in found.events] == ["recording-added"]
    assert db.explain.about(str(talk)) == found, "the path of its file names it too"
    assert db.explain.about(os.path.relpath(talk)) == found


def test_a_speaker_with_its_version_in_sql_and_in_the_index(db: SpeakerDB) -> None:
    speaker = add(db, "a").speakers["SPEAKER_00"]
    assert place(db.explain.about(speaker)).state == "waiting"
    db.work()
    found = db.explain.about(speaker[:12])
    assert (found.kind, found.id, found.facts["recording"], found.facts["label"]) == (
        "speaker", speaker, "a", "SPEAKER_00"
    )  # fmt: skip
    one = place(found)
    assert one.document is not None
    assert one.document.state == "equal"
    assert one.document.version == one.document.indexed_version == one.document.index_version
    assert (one.state, one.segments) == ("embedded", 1)
    assert one.seconds == pytest.approx(10.0)
    db.assign(speaker, db.create_profile("Ann").id)
    found = db.explain.about(speaker)
    one = place(found)
    assert one.document is not None
    assert (one.document.state, one.document.version > one.document.indexed_version) == ("stale", True)
    assert found.command == "speakerdb work"
    assert found.facts["profile_name"] == "Ann"
    assert [event["kind"] for event in found.events][:1] == ["speaker-assigned"]


@pytest.mark.parametrize("how", ["lost", "another vector", "ahead", "no index"])
def test_a_document_that_is_not_what_it_should_be(db: SpeakerDB, how: str) -> None:
    speaker = add(db, "a").speakers["SPEAKER_00"]
    db.work()
    held = db.index.fetch("speakers_v3", [speaker])[speaker]
    if how == "no index":
        db.index.drop("speakers_v3")
    elif how == "lost":
        db.index.drop("speakers_v3")
        db.serving.make_index(db.generations["v3"])
    else:
        version = held.version + (5 if how == "ahead" else 0)
        vector = held.vector if how == "ahead" else fake_vector("another", 24)
        changed = Document(
            held.id, version, held.content_hash, held.kind, held.library_id, held.recording_id, None, vector
        )
        db.index.drop("speakers_v3")
        db.serving.make_index(db.generations["v3"])
        db.index.bulk("speakers_v3_write", [changed])
    found = db.explain.about(speaker)
    one = place(found)
    assert one.document is not None
    assert one.document.state == {
        "lost": "missing", "another vector": "vector", "ahead": "ahead", "no index": "no-index"
    }[how]  # fmt: skip
    assert one.command == "speakerdb index rebuild v3"
    check_commands(found)
    recording = place(db.explain.about("a"))
    assert recording.command == "speakerdb index rebuild v3"


def test_a_refused_document_says_why(db: SpeakerDB) -> None:
    speaker = add(db, "a").speakers["SPEAKER_00"]
    db.work()
    table = schema.projections
    with db.catalog.job() as tx:
        tx.execute(sa.update(table).values(version=table.c.version + 1))
        tx.execute(sa.update(table).values(rejected_version=table.c.version, rejection="wrong shape"))
    one = place(db.explain.about(speaker))
    assert "wrong shape" in one.next
    assert one.command == "speakerdb index rebuild v3"
    assert place(db.explain.about("a")).documents == {"rejected": 2}


def test_a_failure_with_its_file_gone_and_back(db: SpeakerDB, talk: Path, answer: Failing) -> None:
    db.add(talk, two_voices(4.0), recording_id="talk")
    answer.errors["talk"] = MediaMissing("talk.wav is gone")
    aside = talk.rename(talk.with_suffix(".aside"))
    db.work()
    found = db.explain.about("talk")
    one = place(found)
    assert found.file is not None
    assert (one.state, found.file.state, one.command) == ("failed", "missing", "speakerdb media check")
    assert one.work is not None
    assert (one.work.code, one.work.attempts, one.work.message) == ("media-missing", 1, "talk.wav is gone")
    assert "media-missing after 1 attempt: talk.wav is gone" in one.why
    check_commands(found)
    aside.rename(talk)
    found = db.explain.about("talk")
    assert place(found).command == "speakerdb migrate retry --recording talk"
    check_commands(found)
    talk.write_bytes(b"other")
    assert db.explain.about("talk").file.state == "changed"  # type: ignore[union-attr]


def test_waived_stale_unembeddable_and_absent(db: SpeakerDB, answer: Failing) -> None:
    add(db, "a")
    add(db, "short", (Turn(0.0, 0.5, "A"),))
    db.work()
    answer.errors["a"] = MediaMissing("gone")
    db.start_migration("v4", force=True)
    db.work()
    assert place(db.explain.about("short")).state == "unembeddable"
    assert place(db.explain.about("short")).why == "too-short"
    assert place(db.explain.about("short")).command == ""
    assert place(db.explain.about("a"), "v4").state == "failed"
    db.waive(why="lost in the flood", code="media-missing")
    one = place(db.explain.about("a"), "v4")
    assert (one.state, one.why) == ("waived", "lost in the flood")
    assert one.command == "speakerdb migrate retry --recording a"
    db.cancel()
    late = add(db, "late").recording_id
    one = place(db.explain.about(late), "v4")
    assert (one.state, one.live, one.command) == ("absent", False, "")
    add(db, "a", two_voices(18.0))
    answer.errors.clear()
    changed = place(db.explain.about("a"))
    assert (changed.state, changed.command) == ("stale", "speakerdb work")
    assert changed.speakers == {"stale": 2}


def test_why_it_waits_is_said(db: SpeakerDB) -> None:
    add(db, "a")
    db.work()
    db.start_migration("v4", force=True)
    db.pause("backups")
    one = place(db.explain.about("a"), "v4")
    assert "backups" in one.next
    assert one.command == "speakerdb migrate resume"
    db.resume()
    with db.catalog.job() as tx:
        items = schema.work_items
        tx.execute(
            sa.update(items)
            .where(items.c.generation == "v4")
            .values(error_code=ModelOffline.code, error_message="no v4")
        )
    one = place(db.explain.about("a"), "v4")
    assert "no v4" in one.next
    assert "model-offline" in one.why
    assert one.command == "speakerdb doctor"


def test_a_profile_its_members_and_where_it_went(db: SpeakerDB) -> None:
    speaker = add(db, "a").speakers["SPEAKER_00"]
    ann, anne = db.create_profile("Ann").id, db.create_profile("Anne").id
    db.assign(speaker, ann)
    found = db.explain.about(ann)
    assert (found.kind, place(found).state, found.command) == ("profile", "waiting", "speakerdb work")
    db.work()
    found = db.explain.about(ann)
    assert (place(found).state, found.command) == ("embedded", "")
    assert place(found).document is not None
    assert found.facts["speakers"] == 1
    assert place(db.explain.about(anne)).state == "unembeddable"
    db.merge_profiles(ann, anne)
    found = db.explain.about(ann)
    assert found.command == f"speakerdb explain {anne}"
    assert "profiles-merged" in [event["kind"] for event in found.events]


def test_what_was_removed_is_told_from_what_never_was(db: SpeakerDB) -> None:
    speakers = add(db, "a").speakers
    db.work()
    db.remove("a")
    found = db.explain.about("a")
    assert (found.kind, found.events[0]["kind"]) == ("removed", "recording-removed")
    voice = db.explain.about(speakers["SPEAKER_00"])
    assert (voice.kind, voice.facts["was"], voice.command) == ("removed", "speaker", "speakerdb work")
    assert voice.places[0].document is not None
    assert voice.places[0].document.deleted
    db.work()
    voice = db.explain.about(speakers["SPEAKER_00"][:14])
    assert (voice.kind, voice.id, voice.command) == ("removed", speakers["SPEAKER_00"], "")
    db.index.drop("speakers_v3")
    db.serving.make_index(db.generations["v3"])
    (one,) = db.explain.about(speakers["SPEAKER_00"]).places
    assert one.document is not None
    assert (one.document.state, one.document.index_version) == ("equal", None), "a tombstone may be purged"
    with pytest.raises(NotFound):
        db.explain.about("nobody")


def test_ids_that_name_several_things_are_refused(db: SpeakerDB, talk: Path) -> None:
    db.add(talk, two_voices(4.0), recording_id="one", library="here")
    db.add(talk, two_voices(4.0), recording_id="two", library="there")
    with pytest.raises(InvalidInput, match="one, two"):
        db.explain.about(str(talk))
    assert db.explain.about("one").id == "one"


@pytest.mark.parametrize("strange", ["\udcff", "a\0b", "", " ", "x" * 5000, "spk_", "%", "../.."])
def test_strange_names_are_not_found(db: SpeakerDB, strange: str) -> None:
    add(db, "a")
    with pytest.raises(NotFound):
        db.explain.about(strange)


def test_the_door(cli: CommandLine, open_db: Open) -> None:
    db = open_db()
    speaker = add(db, "a").speakers["SPEAKER_00"]
    db.work()
    text = cli("explain", speaker[:14])
    assert text.exit_code == 0
    for part in ("is a       ", "speaker", "v3 (serving)", "embedded", "equal", "next: Nothing: it can be searched."):
        assert part in text.out
    assert "2 equal" in cli("explain", "a").out
    found = cli("explain", speaker, "--json").json
    assert set(found) == {"id", "kind", "facts", "file", "places", "speakers", "events", "next", "command"}
    assert set(found["places"][0]) == {
        "generation", "live", "serving", "state", "why", "next", "command", "work", "seconds", "segments", "agreement",
        "document", "speakers", "documents",
    }  # fmt: skip
    assert set(found["places"][0]["document"]) == {
        "version", "indexed_version", "deleted", "rejection", "state", "index_version"
    }  # fmt: skip
    refused = cli("explain", "nobody", "--json")
    assert (refused.exit_code, refused.json["error"]["code"]) == (3, "not-found")
