"""From a file to searchable voices with the real pipeline class, in a worker process: a stand-in, so nothing is said of
accuracy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from speakerdb.catalog import diarizations
from speakerdb.reports import WorkEvent
from speakerdb.service import SpeakerDB
from speakerdb.settings import DiarizerSettings, Settings
from speakerdb.testing.factories import fake_settings
from tests.diarize.diarize_kit import conversation, file_of

pytestmark = pytest.mark.models


@pytest.fixture
def settings(standin_models: Path, tmp_path: Path) -> Settings:
    """One generation, with the stand-in's own network, as the pipeline has."""
    folders = [standin_models / "standin-diarization", standin_models / "standin-wespeaker-resnet34"]
    files = [path for folder in folders for ending in ("bin", "npz") for path in folder.rglob(f"*.{ending}")]
    pins = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    return fake_settings(
        tmp_path / "library", executor="process",
        diarizer=DiarizerSettings(pipeline=str(folders[0]), sha256=pins, segmentation_step=0.5, backend="torch"),
    )  # fmt: skip


@pytest.fixture
def db(settings: Settings) -> Iterator[SpeakerDB]:
    with closing(SpeakerDB.open(settings)) as opened:
        yield opened


def test_a_file_without_turns(db: SpeakerDB, tmp_path: Path) -> None:
    file = file_of(tmp_path / "talk.wav", conversation([(1, 4), (2, 4)]))
    short = file_of(tmp_path / "short.wav", conversation([(1, 0.2)]))
    quiet = file_of(tmp_path / "quiet.wav", conversation([(0, 2)]))
    for each in (file, short, quiet):
        assert db.add(each, recording_id=each.stem).to_diarize
    events: list[WorkEvent] = []
    done = db.work(on_event=events.append)
    assert (done.recordings_diarized, done.recordings_failed) == (3, 0)
    assert db.speakers(recording="quiet") == []
    found = db.speakers(recording="talk")
    assert found
    assert {speaker.label for speaker in found} <= {f"SPEAKER_{n:02d}" for n in range(4)}
    for speaker in found:
        if speaker.speech_seconds >= 1:
            assert db.match(speaker=speaker.id).query is not None
    with db.catalog.read() as tx:
        known = diarizations.find(tx, "talk")
        floor = diarizations.exclusive_turns(tx, "talk")
    assert known is not None
    assert known.diarizer == "standin-diarization"
    assert all(before.end <= after.start for before, after in pairwise(floor))
    assert max(event.to_diarize for event in events) == 3
    assert events[-1].to_diarize == 0
