"""Diarizing again: whoever was there stays who they are, nobody with a name goes unasked, and it is shown before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from rediarize_kit import THREE, added, again, are_searchable, row_of, said_of, state_of, turns, turns_of, worked

from speakerdb.catalog import asking, diarizations, schema
from speakerdb.catalog import library as rows
from speakerdb.catalog.adopting import NO_TURNS
from speakerdb.core.turns import NOBODY
from speakerdb.diarizers.asked import Asked
from speakerdb.diarizers.port import Hints
from speakerdb.errors import (
    Conflict,
    DiarizationFailed,
    InvalidInput,
    MediaMissing,
    ModelUnavailable,
    NeedsTurns,
    NotFound,
    WorkerDied,
    WorkerTimeout,
)
from speakerdb.executors import Overdue, WorkerLost
from speakerdb.extraction.task import Diarized, DiarizeTask
from speakerdb.rediarizing import rediarizing
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import silence, two_voices
from tests.audio_files import write
from tests.listen.conftest import Ear

SHIFTED = turns((0.0, 9.0, "S0"), (10.0, 19.0, "S1"), (20.0, 29.0, "S2"))
"""The same three people, labelled otherwise."""


def test_names_move_along(both: SpeakerDB, ear: Ear) -> None:
    db, ear.turns = both, SHIFTED
    ids = added(db)
    ann = db.create_profile("Ann").id
    db.rename_speaker(ids["A"], "Anna")
    db.assign(ids["B"], ann)
    before = said_of(db)
    done = again(db, asked=Asked(Hints(num_speakers=3), why="heard badly"))
    assert (done.recordings_diarized, done.recordings_done, done.recordings_failed) == (1, 1, 0)
    assert said_of(db) == before
    assert turns_of(db) == [(0.0, 9.0, ids["A"]), (10.0, 19.0, ids["B"]), (20.0, 29.0, ids["C"])]
    assert row_of(db).content_version == 2
    assert ear.heard[-1].asked.hints.num_speakers == 3
    assert are_searchable(db, "v3", [*ids.values(), ann])
    (kept,) = db.rediarizing.sets("r")
    assert (kept.turns, kept.who, kept.replaced_by, kept.diarizer) == (3, db.who, "rediarized", None)
    assert [(one.label, one.name, one.profile_name) for one in kept.speakers] == [
        ("A", "Anna", None), ("B", None, "Ann"), ("C", None, None),
    ]  # fmt: skip
    kinds = [event["kind"] for event in db.events(limit=50)]
    assert kinds.count("diarization-asked") == kinds.count("recording-diarized") == 1
    with db.catalog.read() as tx:
        found = diarizations.find(tx, "r")
    assert found is not None
    assert (found.options, found.content_version) == ({"num_speakers": 3}, 2)


def test_why_it_was_asked_is_kept(db: SpeakerDB, ear: Ear) -> None:
    ear.turns = SHIFTED
    added(db)
    db.extraction.keep("r", silence(30.0))
    db.rediarizing.queue(["r"], Asked(), why="two were taken for one")
    db.work()
    (kept,) = db.rediarizing.sets("r")
    assert kept.why == "two were taken for one"
    assert [e["why"] for e in db.events(limit=9) if e["kind"] in ("recording-diarized", "diarization-asked")] == [
        "two were taken for one", "two were taken for one",
    ]  # fmt: skip


def test_a_named_speaker_does_not_go_unasked(both: SpeakerDB, ear: Ear) -> None:
    db, ear.turns = both, turns((0.0, 10.0, "S0"), (10.0, 20.0, "S1"))
    ids = added(db)
    db.rename_speaker(ids["C"], "Cem")
    before, was = said_of(db), turns_of(db)
    done = again(db, asked=Asked(Hints(num_speakers=2)))
    (error,) = done.errors
    assert (error.code, state_of(db)) == ("names-unmapped", "failed")
    assert (said_of(db), turns_of(db), row_of(db).content_version) == (before, was, 1)
    assert db.rediarizing.sets("r") == ()
    (problem,) = [one for one in db.status().problems if one.code == "names-unmapped"]
    assert problem.command == "speakerdb rediarize r --num-speakers 2 --dry-run"
    assert again(db, asked=Asked(accept_lost=True)).recordings_diarized == 1
    assert ids["C"] not in said_of(db)
    (kept,) = db.rediarizing.sets("r")
    assert [one.name for one in kept.speakers] == [None, None, "Cem"]
    (event,) = [e for e in db.events(limit=9) if e["kind"] == "recording-diarized"]
    assert (event["data"]["gone"], event["data"]["speakers"]) == ([ids["C"]], 2)


def test_what_is_right_as_it_is_stays_and_nobody_asks_again(both: SpeakerDB, ear: Ear) -> None:
    db, ear.turns = both, turns((0.0, 10.0, "S0"), (10.0, 20.0, "S1"))
    ids = added(db)
    db.rename_speaker(ids["C"], "Cem")
    was = turns_of(db)
    again(db)
    assert [one.code for one in db.status().problems] == ["names-unmapped"]
    assert db.rediarizing.keep(["r"], why="heard it").recordings == 1
    assert (state_of(db), turns_of(db), row_of(db).content_version) == (None, was, 1)
    assert db.status().problems == ()
    (event,) = [e for e in db.events(limit=9) if e["kind"] == "assignments-kept"]
    assert (event["entity"], event["why"], event["data"]["count"]) == ("r", "heard it", 1)
    assert db.rediarizing.keep(["r"]).recordings == db.rediarizing.keep(library_name="default").recordings == 0
    db.rediarizing.queue(["r"], Asked())
    assert db.rediarizing.keep(library_name="default").recordings == 1
    assert db.work().recordings_diarized == 0
    assert len([e for e in db.events(limit=9) if e["kind"] == "assignments-kept"]) == 2


def test_it_is_kept_while_it_is_being_diarized(both: SpeakerDB, ear: Ear) -> None:
    db = both
    added(db)
    was, hear = turns_of(db), ear.hear

    def meanwhile(task: object) -> object:
        assert db.rediarizing.keep(["r"]).recordings == 1
        return hear(task)  # type: ignore[arg-type]

    ear.hear = meanwhile  # type: ignore[assignment, method-assign]
    ear.turns = turns((0.0, 8.0, "S0"), (10.0, 18.0, "S1"), (20.0, 28.0, "S2"))
    done = again(db)
    assert (done.recordings_diarized, done.errors) == (0, ())
    assert (turns_of(db), row_of(db).content_version) == (was, 1)
    assert db.status().problems == ()


def test_what_awaits_its_first_turns_cannot_be_kept(db: SpeakerDB) -> None:
    db.add(None, recording_id="new", waveform=silence(20.0))
    with pytest.raises(NeedsTurns):
        db.rediarizing.keep(["new"])
    assert db.rediarizing.keep(library_name="default").recordings == 0
    for recordings, home in (((), None), (("new",), "default")):
        with pytest.raises(InvalidInput):
            db.rediarizing.keep(recordings, home)
    assert state_of(db, "new") == "queued"


def test_what_an_index_told_of_has_nothing_to_keep(both: SpeakerDB, ear: Ear, tmp_path: Path) -> None:
    """Its first diarization is all that brings it on: forgotten, the recording would never be extracted."""
    db = both
    file = write(tmp_path / "a.wav", np.zeros(480_000), 16_000, codec="pcm_s16le")
    ids = dict(db.add(file, THREE, recording_id="r").speakers)
    db.work()
    with db.catalog.change() as tx:
        tx.execute(sa.delete(schema.turns))
        unknown = {"turns_digest": NO_TURNS, "path": None, "media_size": None, "media_digest": None, "seconds": None}
        tx.execute(sa.update(schema.recordings).values(unknown))
    assert db.add(file, recording_id="r").to_diarize
    with pytest.raises(NeedsTurns, match="no turns yet") as refused:
        db.rediarizing.keep(["r"])
    assert "`speakerdb add FILE --id r --turns TURNS`" in (refused.value.hint or "")
    assert "`speakerdb rediarize r`" in (refused.value.hint or "")
    assert db.rediarizing.keep(library_name="default").recordings == 0
    assert state_of(db) == "queued"
    ear.turns, ear.voices = SHIFTED, {"S0": ids["A"], "S1": ids["B"], "S2": ids["C"]}
    done = db.work()
    assert (done.recordings_diarized, done.recordings_done) == (1, 1)
    db.rediarizing.queue(["r"], Asked())
    assert db.rediarizing.keep(["r"]).recordings == 1


def test_each_recording_that_is_kept_has_its_event(both: SpeakerDB, monkeypatch: pytest.MonkeyPatch) -> None:
    db = both
    for name in ("a", "b", "c"):
        added(db, name)
        db.extraction.keep(name, silence(30.0))
    db.rediarizing.queue(["c", "a"], Asked())
    assert db.rediarizing.keep(["a", "b", "c", "a"], why="heard them").recordings == 2
    kept = [e for e in db.events(limit=20) if e["kind"] == "assignments-kept"]
    told = [(e["entity"], e["why"], e["data"]["count"]) for e in reversed(kept)]
    assert told == [("a", "heard them", 1), ("c", "heard them", 1)]  # nothing was queued of b
    monkeypatch.setattr(rediarizing, "NAMED_IN_EVENTS", 1)
    db.rediarizing.queue(["a", "b"], Asked())
    assert db.rediarizing.keep(["a", "b"]).recordings == 2
    (event,) = db.events(limit=1)
    assert (event["kind"], event["entity"], event["data"]["count"]) == ("assignments-kept", None, 2)


def test_the_dry_run_is_what_storing_does(both: SpeakerDB, ear: Ear) -> None:
    db = both
    ear.turns = turns((0.0, 9.0, "S0"), (12.0, 19.0, "S1"), (20.0, 22.0, "S2"), (22.0, 29.0, "S3"))
    ids = added(db, given=turns((0.0, 10.0, "A"), (10.0, 20.0, "B")))
    ear.voices = {"S0": ids["A"]}
    db.rename_speaker(ids["B"], "Ben")
    db.extraction.keep("r", silence(30.0))
    before = said_of(db), turns_of(db), row_of(db)
    plan = db.rediarizing.look("r", Asked())
    assert (said_of(db), turns_of(db), row_of(db)) == before
    assert (state_of(db), db.rediarizing.sets("r")) == (None, ())
    assert (plan.changed, plan.refused, plan.turns_before, plan.turns) == (True, False, 2, 4)
    by_old = {one.speaker.id: one for one in plan.mapped}
    assert by_old[ids["A"]].cosine == pytest.approx(1.0, abs=1e-5)
    assert (by_old[ids["A"]].found_as, by_old[ids["A"]].shared_seconds) == ("S0", 9.0)
    assert (by_old[ids["B"]].speaker.name, by_old[ids["B"]].cosine, by_old[ids["B"]].seconds) == ("Ben", None, 7.0)
    assert [(one.found_as, one.seconds) for one in plan.new] == [("S2", 2.0), ("S3", 7.0)]
    again(db)
    labels = {label: id for id, (label, _, _) in said_of(db).items()}
    assert labels == {"A": ids["A"], "B": ids["B"]} | {one.label: labels[one.label] for one in plan.new}
    db.extraction.keep("r", silence(30.0))
    assert not db.rediarizing.look("r", Asked()).changed


def test_the_dry_run_says_who_would_be_lost(db: SpeakerDB, ear: Ear) -> None:
    ear.turns = turns((0.0, 10.0, "S0"))
    ids = added(db)
    db.assign(ids["B"], db.create_profile("Ben").id)
    db.extraction.keep("r", silence(30.0))
    plan = db.rediarizing.look("r", Asked())
    assert plan.refused
    assert [(one.label, one.profile_name) for one in plan.lost] == [("B", "Ben"), ("C", None)]
    assert not db.rediarizing.look("r", Asked(accept_lost=True)).refused


def test_what_cannot_be_diarized_again(db: SpeakerDB) -> None:
    added(db)
    with pytest.raises(MediaMissing, match="no file"):
        db.rediarizing.queue(["r"], Asked())
    db.add(None, recording_id="new", waveform=silence(20.0))
    with pytest.raises(NeedsTurns, match="queued to be diarized already"):
        db.rediarizing.queue(["new"], Asked())
    with pytest.raises(NotFound):
        db.rediarizing.queue(["new", "nobody"], Asked())
    with pytest.raises(NotFound):
        db.rediarizing.queue_library("other", Asked())
    for recordings, home in (((), None), (("r",), "default")):
        with pytest.raises(InvalidInput):
            db.rediarizing.chosen(recordings, home)
    assert [event["kind"] for event in db.events(limit=9)].count("diarization-asked") == 0


def test_what_failed_the_first_time_may_be_asked_otherwise(db: SpeakerDB, ear: Ear) -> None:
    ear.error = DiarizationFailed("no")
    db.add(None, recording_id="r", waveform=silence(20.0), asked=Asked(Hints(num_speakers=9)))
    assert db.work().recordings_failed == 1
    ear.error = None
    assert again(db, asked=Asked(Hints(num_speakers=2))).recordings_diarized == 1
    assert ear.heard[-1].asked.hints.num_speakers == 2


def test_a_library_is_queued_by_one_statement(both: SpeakerDB, ear: Ear, tmp_path: Path) -> None:
    db = both
    for number in range(3):
        file = write(tmp_path / f"{number}.wav", np.zeros(320_000), 16_000, codec="pcm_s16le")
        db.add(file, two_voices(), recording_id=f"file{number}", library="shows")
    db.add(None, two_voices(), recording_id="memory", waveform=silence(20.0), library="shows")
    db.add(None, recording_id="new", waveform=silence(20.0), library="shows")
    db.add(tmp_path / "0.wav", two_voices(), recording_id="elsewhere")
    done = db.rediarizing.queue_library("shows", Asked(Hints(max_speakers=4)), why="a better one")
    assert (done.recordings, done.audio_seconds, done.without_sound, done.awaiting) == (3, 60.0, 1, 1)
    assert [state_of(db, f"file{n}") for n in range(3)] == ["queued"] * 3
    assert (state_of(db, "memory"), state_of(db, "elsewhere")) == (None, None)
    assert db.rediarizing.chosen(library_name="shows") == ["file0", "file1", "file2"]
    assert db.work().recordings_diarized == 4
    assert {task.recording_id: task.asked.why for task in ear.heard} == {
        "new": None, "file0": "a better one", "file1": "a better one", "file2": "a better one",
    }  # fmt: skip
    (event,) = [e for e in db.events(limit=50) if e["kind"] == "diarization-asked"]
    assert (event["data"]["count"], event["data"]["library"], event["entity"]) == (3, "shows", None)
    again_ = db.rediarizing.queue_library("shows", Asked())
    assert (again_.recordings, [state_of(db, f"file{n}") for n in range(3)]) == (3, ["queued"] * 3)


def test_a_path_names_a_recording(db: SpeakerDB, tmp_path: Path) -> None:
    file = write(tmp_path / "a.wav", np.zeros(320_000), 16_000, codec="pcm_s16le")
    db.add(file, two_voices(), recording_id="r")
    assert db.rediarizing.queue([str(file), "r"], Asked()).recordings == 1
    assert state_of(db) == "queued"


def test_a_recording_that_changes_while_it_is_looked_at(db: SpeakerDB, ear: Ear) -> None:
    added(db)
    hear = ear.hear

    def meanwhile(task: DiarizeTask) -> Diarized:
        db.add(None, two_voices(), recording_id="r", waveform=silence(30.0))
        return hear(task)

    ear.hear = meanwhile  # type: ignore[method-assign]
    db.extraction.keep("r", silence(30.0))
    with pytest.raises(Conflict, match="changed while"):
        db.rediarizing.look("r", Asked())
    db.remove("r")
    with pytest.raises(Conflict, match="removed"):
        db.rediarizing.look("r", Asked())


@pytest.mark.parametrize(
    ("raised", "told"),
    [(Overdue("late"), WorkerTimeout), (WorkerLost("was killed"), WorkerDied), (ZeroDivisionError("?"), Exception)],
)
def test_a_worker_that_ends_is_one_recording_s_fault(
    db: SpeakerDB, ear: Ear, raised: Exception, told: type[Exception]
) -> None:
    added(db)
    added(db, "other")
    ear.error = raised
    for name in ("r", "other"):
        db.extraction.keep(name, silence(30.0))
    found = list(db.rediarizing.looks(["r", "other"], Asked()))
    assert [one[0] for one in found if isinstance(one, tuple)] == ["r", "other"]
    assert all(isinstance(one, tuple) and isinstance(one[1], told) for one in found)


def test_a_diarizer_that_cannot_be_used_ends_the_look(db: SpeakerDB, ear: Ear) -> None:
    added(db)
    ear.error = ModelUnavailable("It is not there.")
    db.extraction.keep("r", silence(30.0))
    with pytest.raises(ModelUnavailable):
        list(db.rediarizing.looks(["r"], Asked()))


def test_nobody_talks_any_more(both: SpeakerDB, ear: Ear) -> None:
    """Whoever has no name goes; nothing is left in the queue that could not be extracted."""
    db = both
    ids = added(db)
    ear.turns = ()
    db.start_migration("v4", force=True)  # queues it once more
    db.extraction.keep("r", silence(30.0))
    db.rediarizing.queue(["r"], Asked())
    done = db.work()
    assert (done.recordings_diarized, done.recordings_failed) == (1, 0)
    assert (row_of(db).turns_digest, said_of(db)) == (NOBODY, {})
    assert db.check_gates().proven
    db.rediarizing.revert("r")
    worked(db)
    assert turns_of(db) == [(0.0, 10.0, ids["A"]), (10.0, 20.0, ids["B"]), (20.0, 30.0, ids["C"])]
    for generation in ("v3", "v4"):
        assert are_searchable(db, generation, ids.values())
    db.rediarizing.revert("r")
    worked(db)
    assert (row_of(db).turns_digest, said_of(db)) == (NOBODY, {})
    assert db.check_gates().proven


def test_a_person_s_request_is_not_replaced_by_a_migration_s(both: SpeakerDB, tmp_path: Path) -> None:
    db = both
    file = write(tmp_path / "a.wav", np.zeros(320_000), 16_000, codec="pcm_s16le")
    for name in ("r", "s"):
        db.add(file, two_voices(), recording_id=name)
    db.rediarizing.queue(["r"], Asked(Hints(num_speakers=2)))
    begun = db.catalog.now()
    with db.catalog.change() as tx:
        assert asking.ask_all(tx, "migration", begun, None) == 1
        asking.drop_of_migration(tx, begun)
    assert (state_of(db, "r"), state_of(db, "s")) == ("queued", None)


def test_a_set_is_kept_a_limited_number_of_times(db: SpeakerDB, ear: Ear) -> None:
    added(db)
    for number in range(12):
        ear.turns = turns((0.0, 9.0 + number / 20, "A"), (10.0, 20.0, "B"), (20.0, 30.0, "C"))
        again(db)
    kept = db.rediarizing.sets("r")
    assert len(kept) == 10
    assert [one.number for one in kept] == sorted((one.number for one in kept), reverse=True)
    db.remove("r")
    with db.catalog.read() as tx:
        assert rows.find_recording(tx, "r") is None
        assert not list(tx.exec_driver_sql("SELECT * FROM assignment_sets"))


def test_imported_voices_are_told_by_voice_and_not_lost(db: SpeakerDB, ear: Ear) -> None:
    """A recording of which an index had told only vectors has no turns: nobody in it goes unasked."""
    ids = added(db, given=THREE)
    with db.catalog.change() as tx:
        tx.exec_driver_sql("DELETE FROM turns")
        tx.execute(sa.update(schema.recordings).values(turns_digest=NO_TURNS))
    ear.turns = turns((0.0, 10.0, "S0"), (10.0, 20.0, "S1"))
    ear.voices = {"S0": ids["C"], "S1": ids["A"]}
    assert [error.code for error in again(db).errors] == ["names-unmapped"]
    assert set(said_of(db)) == set(ids.values())
    assert again(db, asked=Asked(accept_lost=True)).recordings_failed == 0
    assert {label for label, _, _ in said_of(db).values()} == {"A", "C"}
    (kept,) = db.rediarizing.sets("r")
    assert (kept.turns, [one.label for one in kept.speakers]) == (0, ["A", "B", "C"])
    with pytest.raises(InvalidInput, match="no turns"):
        db.rediarizing.revert("r")
