"""What a review found: ids, queues of generations that ended, in-memory sound, lost databases. One finding a test."""

from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from speakerdb import matcher, service, worker
from speakerdb.catalog import database
from speakerdb.errors import IndexUnavailable, MediaMissing, ModelUnavailable, NotFound, SpeakerDBError
from speakerdb.executors import InlineExecutor
from speakerdb.extraction.extract import Extracted, Task
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_extract, fake_settings, fake_vector, silence, two_voices
from speakerdb.types import Turn, Waveform


def add(db: SpeakerDB, name: str, seconds: float = 20.0) -> dict[str, str]:
    report = db.add(None, two_voices(seconds), recording_id=name, waveform=silence(seconds))
    return dict(report.speakers)


@pytest.fixture
def executor() -> FakeExecutor:
    return FakeExecutor()


@pytest.fixture
def db(tmp_path: Path, executor: FakeExecutor) -> Iterator[SpeakerDB]:
    with SpeakerDB.open(fake_settings(tmp_path), executor=executor) as opened:
        yield opened


def test_removing_a_recording_twice_does_not_remove_another_whose_id_begins_the_same(db: SpeakerDB) -> None:
    for name in ("show1", "show10", "SHOW2"):
        add(db, name)
    db.remove("show1")
    for gone in ("show1", "show2", "show"):
        with pytest.raises(NotFound):
            db.remove(gone)
    assert {one.id for one in db.recordings()} == {"show10", "SHOW2"}


def test_an_id_that_was_made_up_can_be_shortened(db: SpeakerDB) -> None:
    speaker = add(db, "a")["SPEAKER_00"]
    assert db.speaker(speaker[:12]).id == speaker
    with pytest.raises(NotFound):
        db.speaker(speaker[:12].upper())


def test_retry_leaves_the_items_of_a_generation_that_ended(db: SpeakerDB, executor: FakeExecutor) -> None:
    def answer(task: Task) -> Extracted:
        if task.generation.name == "v4":
            raise MediaMissing("gone")
        return fake_extract(task)

    executor.answer = answer
    add(db, "a")
    db.work()
    db.start_migration("v4", force=True)
    db.work()
    db.cancel()
    assert db.retry() == 0
    add(db, "b")
    report = db.work()
    assert (report.recordings_done, report.recordings_failed) == (1, 0)


def test_in_memory_sound_is_kept_until_every_live_generation_has_it(tmp_path: Path) -> None:
    settings = fake_settings(tmp_path, dimensions={"v3": 32, "v4": 48}, batch_recordings=1)
    wave = Waveform(fake_vector("noise", 16_000 * 8) * 30, 16_000)
    with SpeakerDB.open(settings, executor=InlineExecutor()) as db:
        db.start_migration("v4", force=True)
        db.add(None, [Turn(0, 4, "A"), Turn(4, 8, "B")], waveform=wave, recording_id="a")
        report = db.work()
        assert report.errors == ()
        assert report.recordings_done == 2
        assert not db.extraction._waveforms, "and no longer"


def test_a_run_that_ends_by_itself_is_not_counted_as_an_attempt(db: SpeakerDB, executor: FakeExecutor) -> None:
    """Ctrl-C, a full disk or a bug of the caller's callback three times made a recording fail as `worker-died`."""

    def interrupt(task: Task) -> Extracted:
        raise KeyboardInterrupt

    for name in ("a", "b"):
        add(db, name)
    executor.answer = interrupt
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            db.work()
    executor.answer = fake_extract
    report = db.work()
    assert (report.recordings_done, report.recordings_failed) == (2, 0)


def test_a_lost_database_beside_an_index_is_not_silent(tmp_path: Path) -> None:
    """The alias was there and no generation was live: recordings were added and never queued, and nothing said so."""
    with SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor()) as db:
        add(db, "a")
        db.work()
    for file in tmp_path.glob("catalog.db*"):
        file.unlink()
    try:
        with SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor()) as db:
            speakers = add(db, "a")
            db.work()
            warned = bool(db.status().problems)
            assert warned or db.match(speaker=speakers["SPEAKER_00"]).generation == "v3"
    except NotFound:
        raise
    except SpeakerDBError:
        pass  # refused, and said so


def test_work_says_when_it_left_recordings_because_a_model_is_not_there(db: SpeakerDB, executor: FakeExecutor) -> None:
    """Both generations are live and one model is gone: the report said `drained` and nothing else."""

    def answer(task: Task) -> Extracted:
        if task.generation.name == "v3":
            raise ModelUnavailable("no v3 model")
        return fake_extract(task)

    add(db, "a")
    db.work()
    db.start_migration("v4", force=True)
    db.work()
    db.finalize()
    executor.answer = answer
    add(db, "b")
    report = db.work()
    assert report.recordings_done == 1
    assert db.progress("v3").recordings_queued == 1
    said = [error.code for error in report.errors] + list(db.status().problems)
    assert said or report.stopped != "drained"


def test_a_worker_that_runs_for_ever_tries_a_model_again(
    db: SpeakerDB, executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One refusal by the hub, and `work --forever` never extracted for that generation again until it was restarted."""
    tries: list[str] = []
    polls: list[None] = []

    def answer(task: Task) -> Extracted:
        tries.append(task.recording_id)
        if len(tries) == 1:
            raise ModelUnavailable("the hub is away")
        return fake_extract(task)

    def stop() -> bool:
        polls.append(None)
        return len(polls) > 80 or len(tries) > 1  # some four seconds of waiting

    monkeypatch.setattr(worker, "MODEL_RETRY_SECONDS", 0.0)
    executor.answer = answer
    add(db, "a")
    with suppress(ModelUnavailable):
        db.work(forever=True, stop=stop)
    assert len(tries) > 1


def test_a_model_that_is_back_is_used_though_others_have_work(
    db: SpeakerDB, executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration that goes on for days kept a model that was away for a minute from every new recording."""
    for number in range(30):
        add(db, f"old-{number}")
    db.work()
    tries: list[int] = []

    def answer(task: Task) -> Extracted:
        if task.generation.name == "v3":
            tries.append(db.progress("v4").recordings_queued)
            if len(tries) == 1:
                raise ModelUnavailable("the share is away")
        return fake_extract(task)

    executor.answer = answer
    monkeypatch.setattr(worker, "MODEL_RETRY_SECONDS", 0.0)
    db.start_migration("v4", force=True)
    add(db, "new")
    with suppress(ModelUnavailable):
        db.work(forever=True, stop=lambda: db.progress("v4").recordings_queued == 0)
    assert len(tries) > 1
    assert tries[1] > 0, "only when the migration's queue was empty"


def test_a_waived_recording_can_be_tried_again_when_its_file_is_back(db: SpeakerDB, executor: FakeExecutor) -> None:
    """After finalize a waived item could be brought back by nothing: not retry, not adding the recording again."""

    def answer(task: Task) -> Extracted:
        if task.generation.name == "v4" and task.recording_id == "a":
            raise MediaMissing("gone")
        return fake_extract(task)

    executor.answer = answer
    for name in ("a", "b"):
        add(db, name)
    db.work()
    db.start_migration("v4", force=True)
    db.work()
    assert db.waive(why="the disk is away") == 1
    db.finalize()
    executor.answer = fake_extract
    db.retry(recording="a")
    db.work()
    assert db.progress("v4").speakers_embedded == 4


def test_a_library_larger_than_one_statement_can_hold_is_listed(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every id went into one IN, and SQLite refuses past its limit: now a part of them does."""
    monkeypatch.setattr(database, "IDS_A_STATEMENT", 3)
    monkeypatch.setattr(matcher, "PART", 3)
    ids = [speaker for n in range(4) for speaker in add(db, f"r{n}").values()]
    db.work()
    assert sorted(view.id for view in db.speakers()) == sorted(ids)
    assert {state for view in db.speakers() for state in view.generations.values()} == {"embedded"}
    assert [answer.query for answer in db.match_many(ids)] == ids


def test_opening_that_fails_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    class Broken(EmbeddedIndex):
        def aliases(self) -> dict[str, tuple[str, ...]]:
            raise IndexUnavailable("No answer.")

        def close(self) -> None:
            closed.append("index")
            super().close()

    monkeypatch.setattr(service, "open_index", lambda settings: Broken(settings.index_path))
    with pytest.raises(IndexUnavailable):
        SpeakerDB.open(fake_settings(tmp_path))
    assert closed == ["index"]
    with pytest.raises(IndexUnavailable), closing(Broken(tmp_path / "mine.db")) as mine:
        SpeakerDB.open(fake_settings(tmp_path), index=mine)
    assert closed == ["index", "index"], "whoever opened it closes it"
