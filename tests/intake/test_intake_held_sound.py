"""Sound that is given in memory belongs to what it was given for: to no file, to no other recording, to no other time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakerdb.errors import DatabaseUnavailable, InvalidInput, MediaMissing
from speakerdb.extraction.extract import Extracted, Task
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_extract, fake_settings, silence, two_voices
from speakerdb.types import Waveform
from tests.audio_files import write


class Listening(FakeExecutor):
    """Keeps what it was given to listen to; a recording without any is missing."""

    def __init__(self) -> None:
        super().__init__(self.listened)
        self.heard: list[Waveform | Path] = []

    def listened(self, task: Task) -> Extracted:
        sound = task.waveform if task.waveform is not None else task.path
        if sound is None:
            raise MediaMissing("There is no sound.")
        self.heard.append(Path(sound) if isinstance(sound, str) else sound)
        return fake_extract(task)


@pytest.fixture
def executor() -> Listening:
    return Listening()


@pytest.fixture
def db(tmp_path: Path, executor: Listening) -> Iterator[SpeakerDB]:
    with SpeakerDB.open(fake_settings(tmp_path / "library"), executor=executor) as opened:
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "a.wav", np.zeros(320_000), 16_000, codec="pcm_s16le")


@pytest.mark.parametrize("removed", [False, True], ids=["given-its-file", "removed-and-added-again"])
def test_a_recording_with_a_file_is_heard_from_it(
    db: SpeakerDB, executor: Listening, file: Path, *, removed: bool
) -> None:
    db.add(None, two_voices(), recording_id="r", waveform=silence(20.0))
    if removed:
        db.remove("r")
    db.add(file, two_voices(), recording_id="r")
    db.work()
    assert executor.heard == [file]


def test_what_is_removed_is_let_go_of(db: SpeakerDB) -> None:
    db.add(None, two_voices(), recording_id="r", waveform=silence(20.0))
    db.remove("r")
    assert db.extraction._waveforms == {}


def while_it_is_added(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let another thread's `act` come between what `add` is asked and what it writes."""
    add = db.ingest.add

    def slow(*args: Any, **how: Any) -> Any:
        monkeypatch.setattr(db.ingest, "add", add)
        act()
        return add(*args, **how)

    monkeypatch.setattr(db.ingest, "add", slow)


def test_new_sound_outlives_the_commit_of_the_old(
    db: SpeakerDB, executor: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = silence(20.0), silence(20.0)
    db.add(None, two_voices(), recording_id="r", waveform=old)
    while_it_is_added(db, monkeypatch, db.work)
    db.add(None, two_voices(), recording_id="r", waveform=new)
    assert db.work().errors == ()
    assert id(executor.heard[0]) == id(old)
    assert db.extraction._waveforms.get("r") is not old


def test_new_sound_that_comes_while_the_old_is_heard_is_heard_too(db: SpeakerDB, executor: Listening) -> None:
    """It is there before the old one is committed, and must not go with it."""
    old, new = silence(20.0), Waveform(np.full(320_000, 0.1, np.float32), 16_000)
    db.add(None, two_voices(), recording_id="r", waveform=old)
    commit, turns = db.extraction._storing.commit, two_voices(18.0)

    def committed(*args: Any) -> None:
        db.extraction._storing.commit = commit  # type: ignore[method-assign]
        db.add(None, turns, recording_id="r", waveform=new)
        commit(*args)

    db.extraction._storing.commit = committed  # type: ignore[method-assign]
    assert db.work().errors == ()
    assert [id(sound) for sound in executor.heard] == [id(old), id(new)]
    assert db.extraction._waveforms == {}


def test_sound_that_was_refused_is_heard_by_nobody(
    db: SpeakerDB, executor: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = silence(20.0), silence(20.0)
    db.add(None, two_voices(), recording_id="r", waveform=old)
    while_it_is_added(db, monkeypatch, db.work)
    with pytest.raises(InvalidInput):
        db.add(None, two_voices(), recording_id="r", library="other", waveform=new)
    assert [id(sound) for sound in executor.heard] == [id(old)]
    assert db.extraction._waveforms == {}


def test_sound_of_what_could_not_be_committed_is_not_kept(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was written already, and then the database would not have it."""
    old = silence(20.0)
    db.add(None, two_voices(), recording_id="r", waveform=old)
    write_in = db.catalog.database.write

    def failing() -> Any:
        @contextmanager
        def begun() -> Iterator[Any]:
            with write_in() as tx:
                yield tx
                raise DatabaseUnavailable("gone")

        return begun()

    monkeypatch.setattr(db.catalog.database, "write", failing)
    with pytest.raises(DatabaseUnavailable):
        db.add(None, two_voices(18.0), recording_id="r", waveform=silence(18.0))
    monkeypatch.undo()
    assert db.extraction._waveforms["r"] is old
