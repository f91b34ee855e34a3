"""Hints, short clips and silence: each a right answer or a clear code. The network is the real class."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from diarize_kit import RATE, SAMPLE, heard

from speakerdb import media
from speakerdb.diarizers.port import Hints
from speakerdb.diarizers.pyannote import Limits, PyannoteDiarizer
from speakerdb.diarizers.sound import Sound
from speakerdb.errors import InvalidInput, MediaTooShort, TooFewVoices
from speakerdb.types import Waveform


@pytest.mark.parametrize(
    "given",
    [
        (0, None, None), (None, 0, None), (None, None, 0), (-1, None, None), (101, None, None), (None, None, 1000),
        (None, 3, 2), (2, 3, None), (3, None, 2), (2.0, None, None), (True, None, None), ("2", None, None),
    ],
)  # fmt: skip
def test_hints_that_contradict_each_other_or_cannot_be_are_refused(given: tuple[object, object, object]) -> None:
    with pytest.raises(InvalidInput) as refused:
        Hints(*given)  # type: ignore[arg-type]
    assert refused.value.hint


@pytest.mark.parametrize(
    ("given", "least", "most"),
    [((), 1, None), ((2,), 2, 2), ((None, 2, 5), 2, 5), ((3, 1, 4), 3, 3), ((None, 2, 2), 2, 2), ((99,), 99, 99)],
)
def test_hints_that_fit(given: tuple[int | None, ...], least: int, most: int | None) -> None:
    hints = Hints(*given)
    assert (hints.least, hints.most) == (least, most)


@pytest.mark.models
@pytest.mark.parametrize("seconds", [0.2, 0.5, 3.0])
def test_a_clip_of_a_moment_has_its_speaker_without_an_embedding(shared: PyannoteDiarizer, seconds: float) -> None:
    """An embedding needs clean speech in a fifth of a chunk, and a chunk is ten seconds."""
    samples = media.decode_all(SAMPLE, RATE, 12 + seconds)[12 * RATE :]
    found = shared.diarize(Sound.of_waveform(Waveform(samples, RATE), "clip"))
    assert found.seconds == pytest.approx(seconds, abs=0.01)
    assert all(turn.end <= found.seconds for turn in found.turns)
    if seconds == 0.5:
        assert len(found.speakers) == 1
    if found.turns and seconds < 1:
        assert set(found.embeddings.values()) == {None}


@pytest.mark.models
def test_a_hint_that_short_sound_cannot_meet_is_not_ignored(shared: PyannoteDiarizer) -> None:
    with pytest.raises(TooFewVoices) as refused:
        shared.diarize(heard([(1, 2)]), Hints(min_speakers=2))
    assert refused.value.details["asked"] == 2
    assert refused.value.details["usable"] < 2
    assert refused.value.scope == "recording"


@pytest.mark.models
def test_a_number_that_can_be_met_is(shared: PyannoteDiarizer) -> None:
    found = shared.diarize(heard([(1, 5), (2, 5), (1, 5)]), Hints(num_speakers=1))
    assert found.speakers == ("SPEAKER_00",)


@pytest.mark.models
def test_silence_with_a_hint_is_still_silence(shared: PyannoteDiarizer) -> None:
    found = shared.diarize(Sound.of_waveform(Waveform(np.zeros(RATE, np.float32), RATE)), Hints(num_speakers=2))
    assert found.turns == ()
    assert found.notices == ("nobody talks in it",)


@pytest.mark.models
def test_nothing_is_printed_and_nothing_warned_of(
    shared: PyannoteDiarizer, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    shared.diarize(heard([(1, 2)]))
    assert capfd.readouterr().out == ""
    assert list(recwarn) == []


@pytest.mark.models
def test_windows_of_the_real_pipeline_are_joined(
    load: Callable[..., PyannoteDiarizer], shared: PyannoteDiarizer
) -> None:
    before, shared.limits = shared.limits, Limits(10.0, 4.0)
    try:
        found = shared.diarize(heard([(1, 5), (2, 5), (1, 5)]))
    finally:
        shared.limits = before
    assert found.windows == 2
    assert len(found.speakers) >= 2
    assert set(found.embeddings) == set(found.speakers)
    assert found.turns[0].start < 1
    assert found.turns[-1].end > 14
    assert found.seconds == pytest.approx(15.0)
    assert found.overlap_scores is not None
    assert all(math.isfinite(value) for value in found.overlap_scores.values)
    assert set(found.timing) >= {"decoding", "segmentation", "embeddings", "joining"}


def test_no_sound_is_an_error() -> None:
    with pytest.raises(MediaTooShort):
        list(Sound.of_waveform(Waveform(np.zeros(0, np.float32), RATE)).blocks(RATE))
    with pytest.raises(InvalidInput):
        Sound.of_waveform(Waveform(np.full(10, np.nan, np.float32), RATE))
