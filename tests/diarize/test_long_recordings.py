"""A recording of any length: windows, joined speakers, memory; and what fails on a GPU goes on."""

from __future__ import annotations

import tracemalloc
from array import array
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from speakerdb.core.joining import Heard, Joined
from speakerdb.core.overlap import OverlapScores
from speakerdb.diarizers import pyannote as subject
from speakerdb.diarizers.frames import TorchFrames
from speakerdb.diarizers.port import Hints
from speakerdb.diarizers.pyannote import Limits, PyannoteDiarizer, Running, _Listened
from speakerdb.diarizers.sound import Sound
from speakerdb.diarizers.watching import Watch
from speakerdb.diarizers.windows import windows
from speakerdb.errors import DiarizationFailed, InvalidInput
from speakerdb.settings import DiarizerSettings
from speakerdb.types import FloatArray, Turn


def _unit(*values: float) -> FloatArray:
    found = np.array(values, np.float32)
    return found / np.float32(np.linalg.norm(found))


# Windows


@given(
    st.lists(st.integers(0, 40), max_size=12),
    st.integers(10, 30),
    st.integers(1, 5),
)
def test_windows_hold_every_sample_where_it_was(blocks: list[int], length: int, overlap: int) -> None:
    samples = np.arange(sum(blocks), dtype=np.float32)
    ends = np.cumsum([0, *blocks])
    parts = [samples[a:b] for a, b in pairwise(ends)]
    found = [
        (w.number, round(w.start * 10), w.samples.copy(), w.last) for w in windows(parts, 10, length / 10, overlap / 10)
    ]
    assert [number for number, *_ in found] == list(range(1, len(found) + 1))
    assert [last for *_, last in found] == [False] * (len(found) - 1) + [True]
    for _, start, inside, last in found:
        assert np.array_equal(inside, samples[start : start + len(inside)])
        assert len(inside) <= length + overlap if last else len(inside) == length
    assert sum(len(inside) for _, _, inside, _ in found) - overlap * (len(found) - 1) == len(samples)


def test_settings_of_windows_that_cannot_overlap_so_are_refused_at_once() -> None:
    with pytest.raises(ValidationError, match="at most half of window_minutes"):
        DiarizerSettings(window_minutes=8)  # five minutes of overlap unless set
    assert DiarizerSettings(window_minutes=8, window_overlap_minutes=4).window_minutes == 8


def test_windows_that_cannot_overlap_so_are_refused() -> None:
    with pytest.raises(InvalidInput, match="overlap"):
        next(windows([], 10, 60.0, 31.0))


# Joining


def _heard(start: float, end: float, turns: list[tuple[float, float, str]], **voices: FloatArray | None) -> Heard:
    given = [Turn(*turn) for turn in turns]
    return Heard(start, end, given, given, voices)


ADA, EVE, MAX = _unit(1, 0, 0.1), _unit(0, 1, 0.1), _unit(0, 0, 1)


def test_a_speaker_keeps_its_name_over_windows_whatever_the_label_there() -> None:
    joined = Joined()
    joined.add(_heard(0, 60, [(0, 30, "A"), (30, 58, "B")], A=ADA, B=EVE))
    joined.add(_heard(50, 110, [(50, 58, "A"), (60, 80, "B"), (85, 100, "C")], A=EVE, B=ADA, C=MAX))
    assert [(turn.start, turn.end, turn.speaker) for turn in joined.turns] == [
        (0, 30, "SPEAKER_00"), (30, 58, "SPEAKER_01"), (60, 80, "SPEAKER_00"), (85, 100, "SPEAKER_02"),
    ]  # fmt: skip
    assert {name for name, voice in joined.voices.items() if voice is not None} == {
        "SPEAKER_00",
        "SPEAKER_01",
        "SPEAKER_02",
    }
    assert all(abs(np.linalg.norm(voice) - 1) < 1e-5 for voice in joined.voices.values() if voice is not None)


def test_without_a_voice_time_alone_tells() -> None:
    joined = Joined()
    joined.add(_heard(0, 60, [(0, 20, "A"), (50, 60, "B")], A=None, B=None))
    joined.add(_heard(50, 110, [(50, 61, "X"), (90, 100, "Y")], X=None, Y=None))
    assert [turn.speaker for turn in joined.turns] == ["SPEAKER_00", "SPEAKER_01", "SPEAKER_02"]
    assert joined.turns[1] == Turn(50, 61, "SPEAKER_01"), "a turn over the change of windows is one turn"


def test_somebody_who_was_away_for_a_window_is_known_again() -> None:
    joined = Joined()
    joined.add(_heard(0, 60, [(0, 20, "A"), (52, 60, "B")], A=ADA, B=EVE))
    joined.add(_heard(50, 110, [(52, 70, "A"), (102, 110, "A")], A=EVE))
    joined.add(_heard(100, 160, [(102, 112, "A"), (120, 150, "B")], A=EVE, B=ADA))
    assert [turn.speaker for turn in joined.turns if turn.start >= 115] == ["SPEAKER_00"]


def test_no_more_speakers_than_there_may_be() -> None:
    joined = Joined(most=2)
    joined.add(_heard(0, 60, [(0, 20, "A"), (30, 40, "B")], A=ADA, B=EVE))
    joined.add(_heard(50, 110, [(70, 90, "A")], A=_unit(0.3, 0.1, 1)))
    assert {turn.speaker for turn in joined.turns} == {"SPEAKER_00", "SPEAKER_01"}
    assert joined.turns[-1].speaker == "SPEAKER_00"
    assert joined.forced == 1


def test_in_the_common_stretch_each_window_counts_up_to_the_middle() -> None:
    joined = Joined()
    joined.add(_heard(0, 60, [(51, 53, "A"), (56, 58, "A")], A=ADA))
    joined.add(_heard(50, 110, [(51, 53, "A"), (56.5, 58.5, "A")], A=ADA))
    assert [(turn.start, turn.end) for turn in joined.turns] == [(51, 53), (56.5, 58.5)]


# The diarizer over windows, with a network that is not one


RATE = 1000
ONE_WINDOW = Limits()


def _running(device: str = "cpu", frames: Any = None) -> Running:
    pipeline = SimpleNamespace(
        _audio=SimpleNamespace(sample_rate=RATE), segmentation_batch_size=32, embedding_batch_size=32
    )
    return Running(pipeline, device, frames)


def _diarizer(running: Running | None = None, limits: Limits = ONE_WINDOW) -> PyannoteDiarizer:
    return PyannoteDiarizer(
        running or _running(), name="stub", embedding_recipe="diarizer-stub", on_cpu=_running, limits=limits
    )


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever talks, talks in a stretch of samples of one value: 1 is Ada, 2 is Eve."""

    def run(_pipeline: Any, file: dict[str, Any], watch: Watch) -> _Listened:
        samples = file["waveform"][0].numpy()
        turns: list[Turn] = []
        voices: dict[str, FloatArray | None] = {}
        edges = [0, *(np.flatnonzero(samples[1:] != samples[:-1]) + 1), len(samples)]
        for start, end in pairwise(edges):
            if samples[start]:
                label = f"L{int(samples[start])}"
                turns.append(Turn(start / RATE, end / RATE, label))
                voices[label] = {1: ADA, 2: EVE}[int(samples[start])]
        scores = OverlapScores(0.01, 0.02, array("f", [0.5]) * (len(samples) // 20))
        watch.timing["segmentation"] = 1.0
        return _Listened(tuple(turns), tuple(turns), voices, scores, watch.timing)

    monkeypatch.setattr(subject, "_run", run)


def _sound(minutes: float, block_seconds: int = 30) -> Sound:
    """Ada and Eve in turn, fifty seconds each and ten of silence between them."""

    def read(rate: int, _channel: int | None) -> Iterator[FloatArray]:
        for start in range(0, round(minutes * 60), block_seconds):
            at = np.arange(start * rate, (start + block_seconds) * rate) // rate
            yield np.where(at % 60 < 50, 1 + at // 60 % 2, 0).astype(np.float32)

    return Sound("long", read)


def test_ten_hours_take_the_memory_of_a_window(stub: None) -> None:
    limits = Limits(3600.0, 300.0)
    _diarizer(limits=limits).diarize(_sound(70))
    tracemalloc.start()
    try:
        found = _diarizer(limits=limits).diarize(_sound(600))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    window = 3600 * RATE * 4
    assert peak < 3 * window + 8e6, "what is held, a window of it, and what is made of that"
    assert 2 * peak < 36_000 * RATE * 4, "less than half of the samples were ever in memory"
    assert found.seconds == 36_000
    assert found.speakers == ("SPEAKER_00", "SPEAKER_01")
    assert len(found.turns) == 600
    assert {turn.speaker for turn in found.turns[::2]} == {"SPEAKER_00"}
    assert all(round(turn.end - turn.start, 6) == 50 for turn in found.turns)
    assert found.windows == 11
    assert found.timing["segmentation"] == 11.0
    scores = found.overlap_scores
    assert scores is not None
    assert scores.start + len(scores.values) * scores.step == pytest.approx(36_000, abs=0.1)
    assert set(scores.values) == {0.5}, "no hole where windows change"
    assert any("11 windows" in notice for notice in found.notices)


def test_what_fits_into_a_window_is_not_cut(stub: None) -> None:
    found = _diarizer(limits=Limits(120.0, 30.0)).diarize(_sound(2.5))
    assert found.windows == 1
    assert "joining" not in found.timing


def test_hints_about_the_whole_bind_a_window_from_above_only(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Hints] = []

    def run(_pipeline: Any, _file: Any, watch: Watch) -> _Listened:
        given.append(watch.hints)
        return _Listened((), (), {}, None, {})

    monkeypatch.setattr(subject, "_run", run)
    diarizer = _diarizer(limits=Limits(60.0, 10.0))
    diarizer.diarize(_sound(1), Hints(num_speakers=3))
    diarizer.diarize(_sound(2), Hints(num_speakers=3))
    assert given == [Hints(num_speakers=3), *[Hints(max_speakers=3)] * 2]


# What fails on a GPU


def _failing(
    monkeypatch: pytest.MonkeyPatch, diarizer: PyannoteDiarizer, fault: type[Exception], until: int
) -> list[str]:
    """The pipeline fails on a GPU while its batches are larger than `until`; where it was run, by run."""
    ran: list[str] = []

    def run(pipeline: Any, _file: Any, _watch: Watch) -> _Listened:
        ran.append(f"{diarizer.device} {pipeline.embedding_batch_size}")
        if diarizer.device != "cpu" and pipeline.embedding_batch_size > until:
            raise fault("CUDA error: no room\nand more lines")
        return _Listened((), (), {}, None, {})

    monkeypatch.setattr(subject, "_run", run)
    return ran


@pytest.mark.parametrize("fault", [torch.OutOfMemoryError, MemoryError])
def test_a_full_gpu_gets_smaller_batches(monkeypatch: pytest.MonkeyPatch, fault: type[Exception]) -> None:
    frames = TorchFrames(SimpleNamespace(device="cuda:0"), 32)
    diarizer = _diarizer(_running("cuda:0", frames))
    ran = _failing(monkeypatch, diarizer, fault, until=8)
    found = diarizer.diarize(_sound(1))
    assert ran == ["cuda:0 32", "cuda:0 16", "cuda:0 8"]
    assert frames.batch == 8
    assert not any("CPU" in notice for notice in found.notices)


def test_a_gpu_that_has_no_room_at_all_gives_way_to_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    diarizer = _diarizer(_running("cuda:0"))
    ran = _failing(monkeypatch, diarizer, torch.OutOfMemoryError, until=0)
    found = diarizer.diarize(_sound(1))
    assert ran[-2:] == ["cuda:0 1", "cpu 32"]
    assert "cuda:0 failed (CUDA error: no room); stub goes on with the CPU." in found.notices


def test_a_gpu_that_fails_gives_way_at_once_and_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    diarizer = _diarizer(_running("cuda:0"))
    ran = _failing(monkeypatch, diarizer, RuntimeError, until=0)
    diarizer.diarize(_sound(1))
    diarizer.diarize(_sound(1))
    assert ran == ["cuda:0 32", "cpu 32", "cpu 32"]


@pytest.mark.parametrize("fault", [RuntimeError, ValueError, ZeroDivisionError])
def test_a_pipeline_that_fails_on_the_processor_is_the_recordings_error(
    monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    def run(*_: Any) -> _Listened:
        raise fault("no\nmore")

    monkeypatch.setattr(subject, "_run", run)
    with pytest.raises(DiarizationFailed, match="long") as failed:
        _diarizer().diarize(_sound(1))
    assert failed.value.scope == "recording"
