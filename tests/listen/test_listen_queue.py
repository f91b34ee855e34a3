"""A recording without turns: it is diarized, then extracted, by one queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

from speakerdb.catalog import diarizations, library
from speakerdb.core.turns import AWAITED, NOBODY
from speakerdb.diarizers.asked import Asked
from speakerdb.diarizers.port import Hints
from speakerdb.errors import DiarizationFailed, DiarizerRefused, ModelUnavailable
from speakerdb.reports import AddOutcome
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import silence, two_voices
from speakerdb.types import Turn
from tests.listen.conftest import Ear

OpenDB: TypeAlias = Callable[[], SpeakerDB]


def _row(db: SpeakerDB, recording: str) -> library.RecordingRow:
    with db.catalog.read() as tx:
        row = library.find_recording(tx, recording)
    assert row is not None
    return row


def test_turns_are_found_then_vectors_are_made(open_db: OpenDB, ear: Ear) -> None:
    db = open_db()
    report = db.add(None, recording_id="r", waveform=silence(20.0), asked=Asked(Hints(num_speakers=2)))
    assert (report.outcome, report.turns, report.queued, report.to_diarize) == (AddOutcome.ADDED, 0, (), True)
    assert _row(db, "r").turns_digest == AWAITED
    assert db.progress().recordings_total == 0  # nothing can be extracted yet
    done = db.work()
    assert (done.recordings_diarized, done.recordings_done, done.speakers_embedded) == (1, 1, 2)
    assert ear.heard[0].asked.hints.num_speakers == 2
    assert [speaker.label for speaker in db.speakers(recording="r")] == ["SPEAKER_00", "SPEAKER_01"]
    assert db.match(speaker=db.speakers(recording="r")[0].id).query is not None
    with db.catalog.read() as tx:
        known = diarizations.find(tx, "r")
        floor = diarizations.exclusive_turns(tx, "r")
    assert known is not None
    assert (known.content_version, known.diarizer, known.options) == (2, "by hand", {"num_speakers": 2})
    assert [(turn.start, turn.end) for turn in floor] == [(0.0, 9.0), (9.0, 20.0)]
    assert {event["kind"] for event in db.overview.events(limit=20)} >= {"recording-added", "recording-diarized"}
    assert db.work().recordings_diarized == 0


def test_adding_it_again_changes_nothing(open_db: OpenDB, ear: Ear, tmp_path_factory: pytest.TempPathFactory) -> None:
    db = open_db()
    db.add(None, recording_id="r", waveform=silence(20.0))
    db.work()
    turns = [Turn(turn.start, turn.end, turn.speaker) for turn in ear.turns]
    again = db.add(None, turns, recording_id="r", waveform=silence(20.0))
    assert again.speakers == {one.label: one.id for one in db.speakers(recording="r")}


def test_nobody_talks(open_db: OpenDB, ear: Ear) -> None:
    db = open_db()
    ear.turns = ()
    db.add(None, recording_id="r", waveform=silence(20.0))
    done = db.work()
    assert (done.recordings_diarized, done.recordings_done, done.recordings_failed) == (1, 0, 0)
    assert _row(db, "r").turns_digest == NOBODY
    db.start_migration("v4", force=True)
    db.work()
    assert db.check_gates().proven
    assert db.progress("v4").recordings_total == 0


def test_a_person_s_turns_come_first(open_db: OpenDB, ear: Ear) -> None:
    db = open_db()
    db.add(None, recording_id="r", waveform=silence(20.0))
    db.add(None, two_voices(), recording_id="r", waveform=silence(20.0))
    done = db.work()
    assert (done.recordings_diarized, done.recordings_done) == (0, 1)
    assert ear.heard == []


def test_what_fails_is_told_and_tried_again(open_db: OpenDB, ear: Ear) -> None:
    db = open_db()
    ear.error = DiarizationFailed("It gave up.")
    db.add(None, recording_id="r", waveform=silence(20.0))
    done = db.work()
    (error,) = done.errors
    assert (error.recording_id, error.generation, error.code) == ("r", "diarize", "diarization")
    problems = [problem for problem in db.overview.status().problems if problem.code == "diarization"]
    assert problems
    ear.error = None
    assert db.retry() == 1
    assert db.work().recordings_diarized == 1


@pytest.mark.parametrize("error", [DiarizerRefused("It is a program."), ModelUnavailable("It is not there.")])
def test_without_a_diarizer_the_rest_goes_on(open_db: OpenDB, ear: Ear, error: Exception) -> None:
    db = open_db()
    ear.error = error
    db.add(None, recording_id="r", waveform=silence(20.0))
    db.add(None, two_voices(), recording_id="other", waveform=silence(20.0))
    done = db.work()
    assert (done.recordings_diarized, done.recordings_done, done.recordings_failed) == (0, 1, 0)
    assert "diarize" in done.unavailable
    assert [wait.generation for wait in db.overview.status().waiting] == ["diarize"]


def test_a_recording_changed_meanwhile_is_heard_again(open_db: OpenDB, ear: Ear) -> None:
    db = open_db()
    db.add(None, two_voices(), recording_id="r", waveform=silence(20.0))
    db.work()
    assert _row(db, "r").content_version == 1
    with db.catalog.change() as tx:
        from speakerdb.catalog import work

        work.ask_for_turns(tx, ["r"], "changed", db.catalog.now())
    kept = ear.__call__

    def meanwhile(task: object) -> object:
        db.people.split_speaker(db.speakers(recording="r")[0].id, turns=[0]) if not ear.heard else None
        return kept(task)  # type: ignore[arg-type]

    db.extraction._executor.listen = meanwhile  # type: ignore[attr-defined]
    db.extraction.keep("r", silence(20.0))
    assert db.work().recordings_diarized in (0, 1)
