"""What a review found about answers and settings. One finding a test."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from speakerdb.errors import InvalidInput, NotEmbedded
from speakerdb.service import SpeakerDB
from speakerdb.settings import load_settings
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices
from speakerdb.types import Kind, Turn


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SpeakerDB]:
    with SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor()) as opened:
        yield opened


def test_a_voice_whose_turns_changed_is_not_answered_for_by_its_old_sound(db: SpeakerDB) -> None:
    """Labels that changed places keep their speaker ids; until it is extracted again, the vector is another person's."""
    first = db.add(None, two_voices(), recording_id="a", waveform=silence(20)).speakers
    other = db.add(None, two_voices(), recording_id="b", waveform=silence(20)).speakers
    db.work()
    swapped = [Turn(t.start, t.end, "SPEAKER_01" if t.speaker == "SPEAKER_00" else "SPEAKER_00") for t in two_voices()]
    db.add(None, swapped, recording_id="a", waveform=silence(20))
    with pytest.raises(NotEmbedded):
        db.match(speaker=first["SPEAKER_00"])
    assert {m.recording_id for m in db.match(speaker=other["SPEAKER_00"]).matches} <= {"b"}


def test_a_speaker_does_not_confirm_its_own_profile(db: SpeakerDB) -> None:
    """A profile of one voice was accepted for that voice with a score of 1: it was compared with itself."""
    speaker = db.add(None, two_voices(), recording_id="a", waveform=silence(20)).speakers["SPEAKER_00"]
    db.assign(speaker, db.create_profile("Ann").id)
    db.work()
    assert db.match(speaker=speaker, kind=Kind.PROFILE).decision != "accept"


@pytest.mark.parametrize("given", ["abc", [1, 2, "x"], [[1.0]], [1e39] * 24])
def test_a_query_vector_that_is_none_is_refused_by_class(db: SpeakerDB, given: Any) -> None:
    with pytest.raises(InvalidInput):
        db.match(vector=given)


@pytest.mark.parametrize("text", ["\ud800", "a\0b", "x" * 100_000])
def test_names_that_cannot_be_stored_are_refused_by_class(db: SpeakerDB, text: str) -> None:
    with pytest.raises(InvalidInput):
        db.add(None, two_voices(), recording_id="a", library=text, waveform=silence(20))
    with pytest.raises(InvalidInput):
        db.create_profile(text)
    with pytest.raises(InvalidInput):
        db.add(None, two_voices(), recording_id="a", names={"SPEAKER_00": text}, waveform=silence(20))


def test_a_preflight_of_another_target_is_not_taken_for_this_one(tmp_path: Path) -> None:
    settings = fake_settings(tmp_path, dimensions={"v3": 24, "v4": 16, "v5": 20})
    with SpeakerDB.open(settings, executor=FakeExecutor()) as db, pytest.raises(InvalidInput):
        db.start_migration("v5", checked=db.preflight("v4"))


@pytest.mark.parametrize("given", ["/one{}/two", '["/one", "/two"]'])
def test_media_roots_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("SPEAKERDB_MEDIA_ROOTS", given.format(os.pathsep))
    assert load_settings().media_roots == (Path("/one"), Path("/two"))


def test_a_data_folder_is_the_same_wherever_the_process_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SQLite opens its address again for every new connection; a relative one follows the working directory."""
    monkeypatch.chdir(tmp_path)
    assert load_settings(data_dir="here").data_dir == tmp_path / "here"
    assert load_settings(data_dir="~/there").data_dir == Path.home() / "there"


def test_settings_do_not_print_a_password() -> None:
    assert "s3cret" not in repr(load_settings(database_url="sqlite://user:s3cret@/x"))
