"""Real speech through the real pipeline class: how many speakers, and how much of it is right.

The pipeline is a stand-in, so the bounds are loose: they say that the whole way from a file to an error rate works, not how good
the published pipelines are. Measured at a chunk every five seconds, which is cheap: see `docs/how-to/measure-diarization.md` for
the stand-in's own step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from speakerdb.core.turns import parse_rttm
from speakerdb.diarizers.evaluating import evaluate
from speakerdb.diarizers.loading import load_diarizer
from speakerdb.diarizers.port import NO_HINTS, Diarizer, Hints
from speakerdb.diarizers.sound import Sound
from speakerdb.reports.diarizing import Evaluation
from speakerdb.settings import DiarizerSettings

pytestmark = [pytest.mark.speech, pytest.mark.models]

Judge = Callable[..., Evaluation]


@pytest.fixture(scope="module")
def diarizer(standin_models: Path) -> Diarizer:
    folders = [standin_models / "standin-diarization", standin_models / "standin-wespeaker-resnet34"]
    files = [path for folder in folders for ending in ("bin", "npz") for path in folder.rglob(f"*.{ending}")]
    pins = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    settings = DiarizerSettings(pipeline=str(folders[0]), sha256=pins, segmentation_step=0.5, backend="torch")
    return load_diarizer(settings, device="cpu", offline=True)


@pytest.fixture(scope="module")
def judged(diarizer: Diarizer, speech: Path) -> Judge:
    def judge(name: str, hints: Hints = NO_HINTS) -> Evaluation:
        (reference,) = parse_rttm((speech / f"{name}.rttm").read_text()).values()
        found = diarizer.diarize(Sound.of_file(speech / f"{name}.flac"), hints)
        (row,) = evaluate({name: reference}, {name: found.turns}).recordings
        return row

    return judge


def test_a_conversation_of_two_is_one_of_two(judged: Judge) -> None:
    row = judged("synthetic/syn0")
    assert (row.speakers, row.speakers_found) == (2, 2)
    assert row.error_rate is not None
    assert row.error_rate < 0.25


def test_a_meeting_has_its_people_if_their_number_is_known(judged: Judge) -> None:
    row = judged("ami/dev00", Hints(num_speakers=2))
    assert (row.speakers, row.speakers_found) == (2, 2)
    assert row.error_rate is not None
    assert row.error_rate < 0.8
