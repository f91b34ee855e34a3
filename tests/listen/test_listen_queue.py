"""A recording without turns: it is diarized, then extracted, by one queue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import sqlalchemy as sa
from audio_files import write

from speakerdb.catalog import asking, diarizations, library, schema
from speakerdb.catalog.adopting import NO_TURNS
from speakerdb.core.turns import AWAITED, NOBODY
from speakerdb.diarizers.asked import Asked
from speakerdb.diarizers.port import DiarizationProgress, Hints
from speakerdb.errors import DiarizationFailed, DiarizerRefused, ModelUnavailable, TooFewVoices
from speakerdb.executors import InlineExecutor
from speakerdb.executors.telling import tell
from speakerdb.extraction.outcomes import Parcel
from speakerdb.extraction.task import Diarized, DiarizeTask
from speakerdb.people.splitting import Choice
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


def test_adding_it_again_says_how_it_is_to_be_diarized(open_db: OpenDB, ear: Ear, tmp_path: Path) -> None:
    db = open_db()
    file = write(tmp_path / "a.wav", np.zeros(320_000), 16_000, codec="pcm_s16le")
    db.add(file, recording_id="r", asked=Asked(Hints(num_speakers=99)))
    again = db.add(file, recording_id="r", asked=Asked(Hints(num_speakers=2)))
    assert (again.outcome, again.to_diarize) == (AddOutcome.UNCHANGED, True)
    assert not db.add(file, recording_id="r").to_diarize, "the number that was given stands"
    ear.error = TooFewVoices("There are fewer.")
    db.work()
    (problem,) = [one for one in db.overview.status().problems if one.code == "too-few-voices"]
    assert problem.command == "speakerdb rediarize r"
    ear.error = None
    assert db.add(file, recording_id="r").to_diarize
    assert not db.add(file, recording_id="r").to_diarize
    assert db.work().recordings_diarized == 1
    assert [task.asked.hints.num_speakers for task in ear.heard] == [2, None]


def test_one_that_has_turns_is_not_diarized_again_by_adding_it(open_db: OpenDB, ear: Ear, tmp_path: Path) -> None:
    db = open_db()
    file = write(tmp_path / "a.wav", np.zeros(320_000), 16_000, codec="pcm_s16le")
    db.add(file, recording_id="r")
    db.work()
    ear.error = DiarizationFailed("It gave up.")
    _again(db, "r")
    assert db.work().recordings_failed == 1
    ear.error = None
    assert not db.add(file, recording_id="r").to_diarize
    assert db.work().recordings_diarized == 0


def test_what_is_known_of_a_recording_holds_when_the_whole_library_is_diarized_again(
    open_db: OpenDB, ear: Ear, tmp_path: Path
) -> None:
    db = open_db()
    for name, asked in (
        ("call", Asked(channels="as-speakers")),
        ("two", Asked(Hints(num_speakers=2))),
        ("any", Asked()),
    ):
        file = write(tmp_path / f"{name}.wav", np.zeros(320_000), 16_000, codec="pcm_s16le")
        db.add(file, recording_id=name, asked=asked)
    db.work()

    def heard() -> dict[str, tuple[int | None, str]]:
        ear.heard.clear()
        assert db.work().recordings_diarized == 3
        return {task.recording_id: (task.asked.hints.num_speakers, task.asked.channels) for task in ear.heard}

    known = {"call": (None, "as-speakers"), "two": (2, "mix"), "any": (None, "mix")}
    db.rediarizing.queue_library("default", Asked(accept_lost=True), why="a better pipeline")
    assert heard() == known
    db.start_migration("v4", force=True, rediarize=True)
    assert heard() == known
    assert not any(task.asked.accept_lost for task in ear.heard), "that was said of one time"
    db.rediarizing.queue_library("default", Asked(Hints(num_speakers=3)))
    assert set(heard().values()) == {(3, "mix")}


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
    turns = [Turn(0.0, 4.0, "A"), Turn(4.0, 9.0, "B"), Turn(9.0, 20.0, "A")]
    db.add(None, turns, recording_id="r", waveform=silence(20.0))
    db.work()
    _again(db, "r")
    hear = ear.hear

    def meanwhile(task: DiarizeTask) -> Diarized:
        if not ear.heard:
            db.people.split(task.turns[0].speaker, Choice(start=9.0))
        return hear(task)

    ear.hear = meanwhile  # type: ignore[method-assign]
    assert db.work().recordings_diarized == 1
    assert [task.content_version for task in ear.heard] == [1, 2]


def test_other_sound_without_turns_is_heard_before_it_is_extracted(open_db: OpenDB, ear: Ear, tmp_path: Path) -> None:
    db = open_db()
    file = write(tmp_path / "a.wav", np.zeros(320_000), 16_000, codec="pcm_s16le")
    db.add(file, two_voices(), recording_id="r")
    db.work()
    before = {speaker.label: speaker.id for speaker in db.speakers(recording="r")}
    assert db.add(file, recording_id="r").outcome is AddOutcome.UNCHANGED
    write(file, np.full(320_000, 0.1), 16_000, codec="pcm_s16le")
    again = db.add(file, recording_id="r")
    assert (again.outcome, again.to_diarize, again.queued) == (AddOutcome.CHANGED, True, ())
    assert {speaker.label: speaker.id for speaker in db.speakers(recording="r")} == before
    ear.turns = two_voices()  # as before: even so everything has to be extracted again
    done = db.work()
    assert (done.recordings_diarized, done.recordings_done) == (1, 1)
    assert {speaker.label: speaker.id for speaker in db.speakers(recording="r")} == before
    assert _row(db, "r").content_version == 3


def test_overlaps_have_the_scores_of_the_diarizer(open_db: OpenDB) -> None:
    db = open_db()
    db.add(None, recording_id="r", waveform=silence(20.0))
    db.work()
    with db.catalog.read() as tx:
        rows = tx.execute(sa.select(schema.overlaps)).all()
    assert [(row.start, row.end, row.confidence_from) for row in rows] == [(9.0, 10.0, "scores")]
    assert rows[0].confidence == pytest.approx(0.9)


def test_progress_is_told() -> None:
    """From where a task runs to who looks on."""
    parcel = Parcel(())
    executor = InlineExecutor()
    executor.submit(lambda _: tell(DiarizationProgress("segmentation", 1, 4)), None, on_told=parcel.heard)
    assert [(one.step, one.completed / one.total) for one in parcel.told] == [("segmentation", 0.25)]
    tell("nobody listens")  # outside a task it goes nowhere
    assert len(parcel.told) == 1


def _again(db: SpeakerDB, recording: str) -> None:
    db.extraction.keep(recording, silence(20.0))
    with db.catalog.change() as tx:
        asking.ask_for_turns(tx, [recording], "changed", db.catalog.now())


def _imported(db: SpeakerDB, recording: str) -> dict[str, str]:
    """Make a recording as if an index alone had told of it; its speakers by label."""
    with db.catalog.change() as tx:
        tx.execute(sa.delete(schema.turns))
        unknown = {"turns_digest": NO_TURNS, "path": None, "media_size": None, "media_digest": None, "seconds": None}
        tx.execute(sa.update(schema.recordings).values(unknown))
    return {speaker.label: speaker.id for speaker in db.speakers(recording=recording)}


def test_what_an_index_told_of_gets_its_turns_by_voice(open_db: OpenDB, ear: Ear, tmp_path: Path) -> None:
    db = open_db()
    file = write(tmp_path / "a.wav", np.zeros(320_000), 16_000, codec="pcm_s16le")
    db.add(file, two_voices(), recording_id="r")
    db.work()
    ids = _imported(db, "r")
    assert db.add(file, recording_id="r").to_diarize
    # Nobody's time is known: voices tell, whatever the labels are.
    ear.voices = {"SPEAKER_00": ids["SPEAKER_01"], "SPEAKER_01": ids["SPEAKER_00"]}
    done = db.work()
    assert (done.recordings_diarized, done.recordings_done) == (1, 1)
    assert {speaker.label: speaker.id for speaker in db.speakers(recording="r")} == ids
    with db.catalog.read() as tx:
        ((_, turns),) = library.snapshot(tx, ["r"]).values()
    assert [turn.speaker for turn in turns] == [ids["SPEAKER_01"], ids["SPEAKER_00"]]


def test_nobody_whom_only_an_index_knows_is_lost(open_db: OpenDB, ear: Ear, tmp_path: Path) -> None:
    db = open_db()
    file = write(tmp_path / "a.wav", np.zeros(320_000), 16_000, codec="pcm_s16le")
    db.add(file, two_voices(), recording_id="r")
    db.work()
    ids = _imported(db, "r")
    db.add(file, recording_id="r")
    ear.voices = {"SPEAKER_00": ids["SPEAKER_00"]}
    done = db.work()
    assert [error.code for error in done.errors] == ["names-unmapped"]
    assert {speaker.label: speaker.id for speaker in db.speakers(recording="r")} == ids
    assert db.match(speaker=ids["SPEAKER_01"]).query is not None


@pytest.mark.parametrize("turns", [(), None])
def test_accepted_sound_of_which_nobody_knows_the_turns_is_heard(
    open_db: OpenDB, ear: Ear, tmp_path: Path, turns: tuple[Turn, ...] | None
) -> None:
    """Nobody talks in the old one, or it was not heard yet."""
    db = open_db()
    file = write(tmp_path / "a.wav", np.zeros(320_000), 16_000, codec="pcm_s16le")
    db.add(file, recording_id="r")
    if turns is not None:
        ear.turns = turns
        db.work()
    write(file, np.full(160_000, 0.1), 16_000, codec="pcm_s16le")
    report = db.files.accept(["r"])
    assert (report.accepted, report.refused) == (1, {})
    ear.turns = two_voices(10.0)
    assert db.work().recordings_diarized == 1
    assert len(db.speakers(recording="r")) == 2


def test_silence_is_not_waiting_to_be_measured(open_db: OpenDB, ear: Ear) -> None:
    db = open_db()
    ear.turns = ()
    db.add(None, recording_id="r", waveform=silence(20.0))
    assert db.statistics.library("default").unmeasured == 1
    db.work()
    assert db.statistics.library("default").unmeasured == 0


def test_what_was_asked_is_in_the_advice() -> None:
    asked = Asked(Hints(num_speakers=2), "as-speakers", accept_lost=True)
    assert asked.options == " --num-speakers 2 --channels as-speakers"
    assert Asked.from_json(asked.to_json()) == asked
    assert Asked().options == ""
