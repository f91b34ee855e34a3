"""Recordings come in, change and go."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from speakerdb.errors import (
    InvalidInput,
    InvalidTurns,
    MediaForbidden,
    MediaMissing,
    MediaUnreadable,
    NeedsTurns,
    NotFound,
)
from speakerdb.reports import AddOutcome
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import fake_settings, silence, two_voices
from speakerdb.types import Turn, Waveform
from tests.audio_files import chirps, write
from tests.flow.conftest import add


@pytest.fixture
def media(tmp_path: Path) -> Path:
    path = tmp_path / "media" / "interview.wav"
    path.parent.mkdir()
    write(path, chirps(20.0, 16000), 16000, codec="pcm_s16le")
    return path


def counts(db: SpeakerDB) -> tuple[int, int, int]:
    status = db.status()
    return status.recordings, status.speakers, len(db.events(limit=1000))


def test_adding_again_changes_nothing(db: SpeakerDB, media: Path) -> None:
    first = db.add(media, two_voices())
    assert (first.outcome, first.turns, first.queued) == (AddOutcome.ADDED, 2, ("v3",))
    before = counts(db)
    second = db.add(media, two_voices())
    assert second.outcome is AddOutcome.UNCHANGED
    assert (second.recording_id, second.speakers, second.queued) == (first.recording_id, first.speakers, ())
    assert counts(db) == before


def test_labels_that_stay_keep_their_speaker_and_its_name(db: SpeakerDB, media: Path) -> None:
    first = db.add(media, two_voices(), names={"SPEAKER_00": "Ann"})
    db.work()
    second = db.add(media, (Turn(0, 9, "SPEAKER_00"), Turn(10, 15, "SPEAKER_07")))
    assert second.outcome is AddOutcome.CHANGED
    assert second.speakers["SPEAKER_00"] == first.speakers["SPEAKER_00"]
    assert db.speaker(first.speakers["SPEAKER_00"]).name == "Ann"
    assert db.speaker(first.speakers["SPEAKER_00"]).generations == {"v3": "stale"}
    assert db.speaker(second.speakers["SPEAKER_07"]).generations == {"v3": "waiting"}
    with pytest.raises(NotFound):
        db.speaker(first.speakers["SPEAKER_01"])
    db.work()
    assert db.speaker(first.speakers["SPEAKER_00"]).generations == {"v3": "embedded"}
    held = db.index.fetch("speakers_v3", list(first.speakers.values()))
    assert [held[first.speakers[label]].deleted for label in ("SPEAKER_00", "SPEAKER_01")] == [False, True]


def test_replaced_media_is_extracted_again(db: SpeakerDB, media: Path) -> None:
    db.add(media, two_voices())
    db.work()
    write(media, chirps(20.0, 16000, seed=8), 16000, codec="pcm_s16le")
    report = db.add(media, two_voices())
    assert (report.outcome, report.queued) == (AddOutcome.CHANGED, ("v3",))


def test_a_moved_file_is_the_same_recording_where_its_id_is_given(db: SpeakerDB, media: Path) -> None:
    db.add(media, two_voices(), recording_id="interview")
    moved = media.with_name("renamed.wav")
    shutil.move(media, moved)
    assert db.add(moved, two_voices(), recording_id="interview").outcome is AddOutcome.UNCHANGED
    assert [r.path for r in db.recordings()] == [str(moved)]


def test_removing_forgets_voices_everywhere(db: SpeakerDB) -> None:
    report = add(db, "r")
    db.work()
    db.remove("r")
    assert db.status().speakers == 0
    db.work()
    held = db.index.fetch("speakers_v3", list(report.speakers.values()))
    assert all(document.deleted for document in held.values())
    with pytest.raises(NotFound):
        db.remove("r")
    assert add(db, "r").outcome is AddOutcome.ADDED


def test_libraries_are_apart(db: SpeakerDB) -> None:
    add(db, "a", library="one")
    add(db, "b", library="two")
    with pytest.raises(InvalidInput):
        add(db, "a", library="two")
    assert [r.id for r in db.recordings(library="one")] == ["a"]
    with pytest.raises(NotFound):
        db.recordings(library="three")


@pytest.mark.parametrize(
    ("turns", "error"),
    [
        ((), NeedsTurns),
        ((Turn(0, 0, "A"),), InvalidTurns),
        ((Turn(5, 3, "A"),), InvalidTurns),
        ((Turn(-1, 3, "A"),), InvalidTurns),
        ((Turn(float("nan"), 3, "A"),), InvalidTurns),
        ((Turn(0, float("inf"), "A"),), InvalidTurns),
        ((Turn(0, 21, "A"),), InvalidTurns),
        ((Turn(25, 26, "A"),), InvalidTurns),
        ((Turn(0, 1, ""),), InvalidTurns),
    ],
)
def test_bad_turns_write_nothing(db: SpeakerDB, turns: tuple[Turn, ...], error: type[Exception]) -> None:
    before = counts(db)
    with pytest.raises(error):
        add(db, "r", turns)
    assert counts(db) == before


def test_bad_media_writes_nothing(db: SpeakerDB, tmp_path: Path) -> None:
    before = counts(db)
    empty = tmp_path / "empty.wav"
    empty.touch()
    for path, error in ((tmp_path / "absent.wav", MediaMissing), (empty, MediaUnreadable), (tmp_path, MediaUnreadable)):
        with pytest.raises(error):
            db.add(path, two_voices())
    with pytest.raises(InvalidInput):
        db.add(None, two_voices())
    with pytest.raises(InvalidInput):
        add(db, "x" * 300)
    with pytest.raises(InvalidInput):
        add(db, "r", names={"NOBODY": "Ann"})
    assert counts(db) == before


def test_media_outside_the_roots_is_forbidden(tmp_path: Path, media: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    with SpeakerDB.open(fake_settings(tmp_path / "db", media_roots=(allowed,))) as db:
        for path in (media, allowed / ".." / "media" / "interview.wav"):
            with pytest.raises(MediaForbidden):
                db.add(path, two_voices())
        link = allowed / "link.wav"
        link.symlink_to(media)
        with pytest.raises(MediaForbidden):
            db.add(link, two_voices())


def test_sound_in_memory_is_extracted_by_the_same_object(tmp_path: Path) -> None:
    with SpeakerDB.open(fake_settings(tmp_path)) as db:
        report = db.add(None, two_voices(), waveform=Waveform(chirps(20.0, 44100).astype(np.float32), 44100))
        assert db.work().speakers_embedded == 2
        assert db.match(speaker=report.speakers["SPEAKER_00"], same_recording=True).matches[0].score > 0.9
        lost = db.add(None, two_voices(), recording_id="lost", waveform=silence(20))
    with SpeakerDB.open(fake_settings(tmp_path)) as db:
        (error,) = db.work().errors
        assert (error.recording_id, error.code) == (lost.recording_id, MediaMissing.code)


def test_adding_an_unchanged_recording_tries_what_failed_again(db: SpeakerDB, media: Path, tmp_path: Path) -> None:
    db.close()
    with SpeakerDB.open(fake_settings(tmp_path)) as real:
        real.add(media, two_voices())
        away = media.rename(media.with_name("away.wav"))
        assert real.work().recordings_failed == 1
        assert real.work().recordings_failed == 0
        away.rename(media)
        real.add(media, two_voices())
        assert real.work().recordings_done == 1
        assert np.isfinite(real.progress().audio_seconds_done)


def test_a_pyannote_object_instead_of_turns_is_refused_before_anything_is_opened(db: SpeakerDB, tmp_path: Path) -> None:
    class DiarizeOutput:
        speaker_diarization = exclusive_speaker_diarization = None

    before = counts(db)
    with pytest.raises(InvalidTurns, match="DiarizeOutput") as caught:
        db.add(tmp_path / "not-there.wav", DiarizeOutput())  # type: ignore[arg-type]
    assert "output.serialize()" in caught.value.hint
    assert counts(db) == before


def test_a_waveform_without_a_sample_rate_is_refused(db: SpeakerDB) -> None:
    with pytest.raises(InvalidInput, match="0 Hz"):
        db.add(None, two_voices(), waveform=Waveform(np.zeros(16000, np.float32), 0))
