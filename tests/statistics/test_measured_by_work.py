"""What `work` measures beside vectors: once a recording, where it is missing, and never at the cost of a vector."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from synthetic_voices import RATE, write_settings

from speakerdb.catalog.schema import analyses, voice_measures
from speakerdb.core.measures import Heard
from speakerdb.extraction import measuring
from speakerdb.extraction.extract import Extracted, Task
from speakerdb.service import SpeakerDB
from speakerdb.settings import OverlapSettings, load_settings
from speakerdb.testing.factories import FakeExecutor, fake_extract, fake_settings, silence, two_voices
from speakerdb.types import Turn, Waveform

TURNS = (
    Turn(0.0, 4.0, "low"), Turn(4.0, 8.0, "high"), Turn(8.0, 12.0, "low"), Turn(11.0, 15.0, "high"), Turn(15.0, 15.3, "brief"),
)  # fmt: skip
PITCH = {"low": 110.0, "high": 220.0}


def sound() -> Waveform:
    """Two tones that talk as `TURNS` say; "high" is half as loud. Noise besides."""
    time = np.arange(16 * RATE) / RATE
    samples = np.zeros(len(time))
    for turn in TURNS[:4]:
        part = slice(round(turn.start * RATE), round(turn.end * RATE))
        for harmonic in (1, 2, 3, 5):
            tone = np.sin(2 * np.pi * harmonic * PITCH[turn.speaker] * time[part])
            samples[part] += (0.1 if turn.speaker == "low" else 0.05) * tone
    samples += 1e-3 * np.random.default_rng(0).standard_normal(len(samples))
    return Waveform(samples.astype(np.float32), RATE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library of two spectral generations; real sound goes through real extraction."""
    monkeypatch.setenv("SPEAKERDB_CONFIG", str(write_settings(tmp_path / "speakerdb.toml")))
    return tmp_path


def opened(folder: Path, **more: Any) -> SpeakerDB:
    return SpeakerDB.open(load_settings(data_dir=folder / "data", **more))


@pytest.fixture
def db(folder: Path) -> Iterator[SpeakerDB]:
    with opened(folder) as made:
        yield made


def rows(db: SpeakerDB, table: sa.Table) -> list[dict[str, Any]]:
    with db.catalog.read() as tx:
        return [dict(row._mapping) for row in tx.execute(sa.select(table))]


def test_voices_are_measured_while_vectors_are_made(db: SpeakerDB) -> None:
    ids = db.add(None, TURNS, recording_id="show", waveform=sound()).speakers
    db.work()
    for label, hertz in PITCH.items():
        found = db.statistics.speaker(ids[label])
        assert found.stored
        assert found.talk.pitch == pytest.approx(hertz, rel=0.01)
        power = 2 * (0.1 if label == "low" else 0.05) ** 2
        assert found.talk.level == pytest.approx(10 * np.log10(power), abs=0.3)
    brief = db.statistics.speaker(ids["brief"])
    assert brief.stored, "it has too little speech to be embedded, and talks nevertheless"
    assert (brief.talk.seconds, brief.talk.level) == (pytest.approx(0.3), None)
    (overlap,) = db.statistics.overlaps(recording="show").overlaps
    assert (overlap.start, overlap.end, overlap.ranked_by) == (11.0, 12.0, "energy-and-duration")
    assert overlap.primary.label == "low", "louder, in a turn of the same length"


def test_a_migration_measures_what_was_there_already_and_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listened: list[str] = []

    class Counted(measuring.Listening):
        def heard(self) -> dict[str, Heard]:
            listened.append("once")
            return super().heard()

    monkeypatch.setattr(sys.modules["speakerdb.extraction.extract"], "Listening", Counted)
    path = folder / "show.wav"
    _write(path)
    with opened(folder, overlap=OverlapSettings(enabled=False)) as db:
        speaker = db.add(path, TURNS, recording_id="show").speakers["low"]
        db.work()
        assert rows(db, analyses) == rows(db, voice_measures) == []
        assert not db.statistics.speaker(speaker).stored
        assert db.statistics.library("default").unmeasured == 1
    with opened(folder) as db:
        db.start_migration("v4", force=True)
        db.work()
        assert db.statistics.speaker(speaker).stored
        assert db.statistics.library("default").unmeasured == 0
        assert listened == ["once"]
        other = folder / "other.wav"
        _write(other)
        db.add(other, TURNS, recording_id="other")
        db.work()
        assert len(listened) == 2, "two generations, one pair of ears"


def _write(path: Path) -> None:
    from synthetic_voices import write_wav

    write_wav(path, sound().samples)


def test_a_split_is_measured_again_and_not_shown_before(folder: Path) -> None:
    path = folder / "show.wav"
    _write(path)
    with opened(folder) as db:
        ids = db.add(path, TURNS, recording_id="show").speakers
        db.work()
        from speakerdb.people.splitting import Choice

        made = db.people.split(ids["low"], Choice("2", None, None)).speaker_id
        assert made is not None
        for each in (made, ids["low"], ids["high"]):
            found = db.statistics.speaker(each)
            assert not found.stored
            assert found.talk.pitch is None
        assert db.statistics.speaker(made).talk.seconds == 4.0
        assert {o.primary.speaker_id for o in db.statistics.overlaps(recording="show").overlaps} <= {made, ids["high"]}
        db.work()
        assert db.statistics.speaker(made).talk.pitch == pytest.approx(110.0, rel=0.01)
        assert db.statistics.speaker(ids["low"]).talk.seconds == 4.0
        db.remove("show")
        assert rows(db, analyses) == rows(db, voice_measures) == []


def test_pitch_that_cannot_be_measured_costs_no_vector(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(samples: object, rate: int) -> object:
        raise ValueError("no")

    monkeypatch.setattr(measuring, "pitches", broken)
    ids = db.add(None, TURNS, recording_id="show", waveform=sound()).speakers
    told: list[str] = []
    report = db.work(on_event=lambda event: told.append(event.notice))
    assert (report.recordings_failed, report.speakers_embedded) == (0, 2)
    assert "The pitch of voices was not measured: ValueError: no" in told
    found = db.statistics.speaker(ids["low"])
    assert found.stored
    assert found.talk.pitch is None
    assert found.talk.level is not None


@pytest.mark.parametrize("heard", ["loud", {"low": "loud"}])
def test_a_worker_that_answers_nonsense_of_voices_fails_its_recording(tmp_path: Path, heard: Any) -> None:
    def answer(task: Task) -> Extracted:
        found = fake_extract(task)
        values = {name: getattr(found, name) for name in Extracted.__slots__} | {"heard": heard}
        return Extracted(**values)

    with SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor(answer)) as db:
        db.add(None, two_voices(), waveform=silence(20))
        assert [error.code for error in db.work().errors] == ["extraction"]


def test_nobody_is_asked_to_listen_twice(tmp_path: Path) -> None:
    asked: list[bool] = []

    def answer(task: Task) -> Extracted:
        asked.append(task.measure)
        found = fake_extract(task)
        values = {name: getattr(found, name) for name in Extracted.__slots__}
        return Extracted(**values | {"heard": {} if task.measure else None})

    with SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor(answer)) as db:
        db.add(None, two_voices(), recording_id="show", waveform=silence(20))
        db.work()
        with db.catalog.job() as tx:
            tx.exec_driver_sql("UPDATE work_items SET state = 'queued', done_version = NULL")
        db.add(None, two_voices(), recording_id="other", waveform=silence(20))
        db.extraction.keep("show", silence(20))
        db.work()
    assert sorted(asked) == [False, True, True]
