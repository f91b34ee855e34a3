"""A migration that diarizes everything again first: told before, held back by a pause, dropped by a cancel, names kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rediarize_kit import are_searchable, said_of, state_of, turns
from starlette.testclient import TestClient

from speakerdb.diarizers.asked import Asked
from speakerdb.errors import DiarizationFailed, InvalidInput
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import silence, two_voices
from tests.audio_files import write
from tests.lent_library import Shell
from tests.listen.conftest import Ear


@pytest.fixture
def files(both: SpeakerDB, tmp_path: Path) -> SpeakerDB:
    return filled(both, tmp_path)


def filled(db: SpeakerDB, folder: Path) -> SpeakerDB:
    """Three recordings with files and turns, one in memory, and one that waits for its first diarization."""
    for number in range(3):
        file = write(folder / f"{number}.wav", np.zeros(320_000), 16_000, codec="pcm_s16le")
        db.add(file, two_voices(), recording_id=f"file{number}")
    db.add(None, two_voices(), recording_id="memory", waveform=silence(20.0))
    db.work()
    return db


def test_everything_is_diarized_before_it_is_extracted(files: SpeakerDB, ear: Ear) -> None:
    db = files
    ear.turns = turns((0.0, 9.0, "S0"), (10.0, 19.0, "S1"))
    names = {speaker.id: speaker.label for speaker in db.speakers()}
    plain = db.preflight("v4")
    assert (plain.recordings_to_diarize, plain.audio_seconds_to_diarize) == (0, 0.0)
    assert "diarizer" not in {check.name for check in plain.checks}
    found = db.preflight("v4", rediarize=True)
    assert (found.recordings_to_diarize, found.audio_seconds_to_diarize) == (3, 60.0)
    assert [check.verdict for check in found.checks if check.name == "diarizer"] == ["pass"]
    view = db.start_migration("v4", force=True, rediarize=True)
    assert view.diarized is not None
    assert (view.diarized.recordings_queued, view.diarized.audio_seconds_queued) == (3, 60.0)
    (event,) = [e for e in db.events(limit=9) if e["kind"] == "migration-started"]
    assert event["data"]["to_diarize"] == 3
    db.extraction.keep("memory", silence(20.0))
    seen: list[str] = []
    answer = db.extraction._executor.answer  # type: ignore[attr-defined]
    db.extraction._executor.answer = lambda task: (
        seen.append(f"{task.recording_id}@{task.content_version}") or answer(task)
    )  # type: ignore[attr-defined]
    done = db.work()
    assert (done.recordings_diarized, done.recordings_failed) == (3, 0)
    assert sorted(set(seen)) == ["file0@2", "file1@2", "file2@2", "memory@1"]  # nothing twice
    assert {speaker.id: speaker.label for speaker in db.speakers()} == names
    view_ = db.migration()
    assert view_ is not None
    assert view_.diarized is not None
    assert (view_.diarized.recordings_queued, view_.diarized.recordings_done) == (0, 3)
    assert db.check_gates().proven
    assert are_searchable(db, "v4", names)
    db.finalize()


def test_names_that_cannot_be_mapped_are_listed(files: SpeakerDB, ear: Ear) -> None:
    db = files
    ear.turns = turns((0.0, 9.0, "S0"))
    (lost,) = [s.id for s in db.speakers(recording="file1") if s.label == "SPEAKER_01"]
    db.rename_speaker(lost, "Ben")
    db.start_migration("v4", force=True, rediarize=True)
    db.extraction.keep("memory", silence(20.0))
    db.work()
    view = db.migration()
    assert view is not None
    assert view.diarized is not None
    assert (view.diarized.recordings_done, view.diarized.recordings_failed) == (2, 1)
    (group,) = view.errors
    assert (group.code, group.count, group.recording_id) == ("names-unmapped", 1, "file1")
    assert group.retry == "speakerdb rediarize file1 --dry-run"
    assert lost in said_of(db, "file1")
    assert db.check_gates().proven  # as it is, it is extracted like the others
    db.rediarizing.queue(["file1"], Asked(accept_lost=True))
    db.work()
    assert lost not in said_of(db, "file1")
    view = db.migration()
    assert view is not None
    assert view.errors == ()


def test_a_pause_holds_it_back_and_a_cancel_drops_it(files: SpeakerDB, ear: Ear) -> None:
    db = files
    db.start_migration("v4", force=True, rediarize=True)
    db.pause("quiet hours")
    db.rediarizing.queue(["file2"], Asked())
    assert db.work().recordings_diarized == 1  # what a person asked for goes on
    assert [state_of(db, f"file{n}") for n in range(3)] == ["queued", "queued", "done"]
    db.cancel()
    assert [state_of(db, f"file{n}") for n in range(3)] == [None, None, "done"]
    assert db.work().recordings_diarized == 0
    plain = db.start_migration("v4", force=True)
    assert plain.diarized is None


def test_the_command_line(shell: Shell, db: SpeakerDB, tmp_path: Path) -> None:
    filled(db, tmp_path)
    out = shell.ok("migrate", "start", "--to", "v4", "--rediarize", "--detach", "--force", "--yes")
    assert "3 recordings, 0.02 hours of audio; their time is not in the estimate" in out
    assert "0 recordings, 3 queued (0:01:00 of audio), 0 left as they are" in out
    refused = shell.refused("migrate", "start", "--to", "v4", "--rediarize")
    assert refused["code"] == InvalidInput.code
    assert "runs already" in refused["message"]
    assert "3 queued" in shell.ok("migrate", "status")


def test_over_http(client: TestClient, db: SpeakerDB, tmp_path: Path) -> None:
    filled(db, tmp_path)
    found = client.post("/v1/migrations/preflight", json={"to": "v4", "rediarize": True}).json()
    assert found["recordings_to_diarize"] == 3
    answer = client.post("/v1/migrations", json={"to": "v4", "force": True, "rediarize": True})
    assert answer.status_code == 201, answer.text
    assert answer.json()["diarized"]["recordings_queued"] == 3


def test_what_a_person_asked_for_and_failed_is_not_the_migrations(files: SpeakerDB, ear: Ear) -> None:
    """It stays, with who asked and why, whatever becomes of the migration."""
    ear.error = DiarizationFailed("It cannot.")
    files.rediarizing.queue(["file0"], Asked(), why="it is all wrong")
    assert files.work().recordings_failed == 1
    assert files.start_migration("v4", force=True, rediarize=True).diarized.recordings_queued == 2  # type: ignore[union-attr]
    files.cancel()
    assert [state_of(files, f"file{n}") for n in range(3)] == ["failed", None, None]


def test_what_an_earlier_migration_left_is_not_dropped_by_the_next_one(files: SpeakerDB, ear: Ear) -> None:
    ear.error = DiarizationFailed("It cannot.")
    files.start_migration("v4", force=True, rediarize=True)
    files.extraction.keep("memory", silence(20.0))
    files.work()
    files.finalize()
    files.retire()
    left = [state_of(files, f"file{n}") for n in range(3)]
    assert left == ["failed"] * 3
    files.start_migration("v3", force=True)
    files.cancel()
    assert [state_of(files, f"file{n}") for n in range(3)] == left
