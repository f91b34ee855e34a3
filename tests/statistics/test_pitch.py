"""Pitch and level of tones whose pitch and level are known, and of sound that has none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.core.pitch import HIGHEST, LOWEST, pitches
from speakerdb.extraction import measuring
from speakerdb.extraction.measuring import FEWEST_VOICED, Listening
from speakerdb.types import FloatArray, Span

RATE = 16_000


def harmonics(hertz: float, seconds: float = 1.0, *, rate: int = RATE, noise: float = 0.0, seed: int = 0) -> FloatArray:
    """A tone with all its harmonics up to 4 kHz in random phases, with vibrato; noise of so much of its power."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(hertz * (1 + 0.005 * np.sin(2 * np.pi * 5 * time))) / rate
    sound = sum(
        np.sin(number * phase + rng.uniform(0, 6.28)) / number**0.8
        for number in range(1, int(min(4000, rate / 2) // hertz) + 1)
    )
    sound = 0.25 * sound / np.sqrt(np.mean(sound**2))
    sound += rng.standard_normal(len(time)) * 0.25 * np.sqrt(noise)
    return np.asarray(sound, dtype=np.float32)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("hertz", [65.0, 85.0, 120.0, 180.0, 220.0, 250.0, 300.0, 350.0, 400.0])
def test_a_tone_has_its_pitch_and_not_an_octave_of_it(hertz: float, rate: int) -> None:
    found = pitches(harmonics(hertz, rate=rate, noise=0.01), rate)
    assert len(found) > 40, "nearly every frame is voiced"
    assert np.median(found) == pytest.approx(hertz, rel=0.01)
    assert np.abs(found / hertz - 1).max() < 0.05, "no frame is an octave off"


@given(st.floats(70.0, 390.0), st.integers(0, 1000))
def test_any_tone_has_its_pitch(hertz: float, seed: int) -> None:
    assert np.median(pitches(harmonics(hertz, 0.4, seed=seed), RATE)) == pytest.approx(hertz, rel=0.015)


@given(st.floats(75.0, 350.0), st.floats(1e-3, 1.0))
def test_how_loud_it_is_does_not_matter(hertz: float, gain: float) -> None:
    sound = harmonics(hertz, 0.3)
    assert pitches(sound * np.float32(gain), RATE) == pytest.approx(pitches(sound, RATE), rel=1e-3)


def test_what_has_no_pitch_gives_none() -> None:
    noise = np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    assert len(pitches(noise, RATE)) <= 2
    assert len(pitches(np.zeros(RATE, np.float32), RATE)) == 0
    assert len(pitches(np.ones(RATE, np.float32), RATE)) == 0
    for samples in (0, 1, 100, 800):
        assert len(pitches(noise[:samples], RATE)) == 0


@given(st.lists(st.floats(-1.0, 1.0, width=32), max_size=30), st.integers(0, 60))
def test_whatever_it_is_given_the_answer_lies_in_the_range(values: list[float], repeated: int) -> None:
    found = pitches(np.array(values * repeated, dtype=np.float32), RATE)
    assert np.isfinite(found).all()
    assert ((found > LOWEST * 0.99) & (found < HIGHEST * 1.03)).all()


# Listening


def _listened(*segments: tuple[str, FloatArray]) -> Listening:
    listening = Listening([(Span(float(at), at + 1.0), who) for at, (who, _) in enumerate(segments)], RATE)
    for _, sound in segments:
        listening.take([sound])
    return listening


def test_each_speaker_has_its_own_level_and_pitch() -> None:
    low, high = harmonics(110.0, 2.0), harmonics(230.0, 2.0) * np.float32(0.1)
    heard = _listened(("a", low), ("b", high), ("a", low)).heard()
    assert heard["a"].level == pytest.approx(20 * np.log10(0.25), abs=0.1)
    assert heard["b"].level == pytest.approx(20 * np.log10(0.025), abs=0.1)
    for who, hertz in (("a", 110.0), ("b", 230.0)):
        one = heard[who]
        assert one.pitch == pytest.approx(hertz, rel=0.01)
        assert one.pitch_low is not None
        assert one.pitch_high is not None
        assert one.pitch_low < one.pitch < one.pitch_high


def test_noise_has_a_level_and_no_pitch_and_silence_has_neither() -> None:
    noise = 0.1 * np.random.default_rng(2).standard_normal(RATE).astype(np.float32)
    heard = _listened(("a", noise), ("b", np.zeros(RATE, np.float32)), ("a", np.full(RATE, 0.5, np.float32))).heard()
    assert heard["a"].level == pytest.approx(-20.0, abs=0.2), "an offset is no sound, and silence is not counted"
    assert heard["a"].pitch is heard["a"].pitch_low is heard["a"].pitch_high is None
    assert "b" not in heard


def test_a_moment_of_voice_is_not_enough() -> None:
    short = harmonics(150.0, 0.02 * (FEWEST_VOICED - 2))
    assert _listened(("a", short)).heard()["a"].pitch is None


def test_ten_seconds_of_a_speaker_are_asked_for_pitch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(measuring, "pitches", lambda sound, _rate: asked.append(len(sound)) or np.zeros(0))
    six = harmonics(150.0, 6.0)
    _listened(("a", six), ("b", six), ("a", six), ("a", six))
    assert asked == [6 * RATE, 6 * RATE, 4 * RATE]


def test_what_goes_wrong_is_told_once_and_the_level_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(sound: FloatArray, rate: int) -> FloatArray:
        raise FloatingPointError("no")

    monkeypatch.setattr(measuring, "pitches", broken)
    listening = _listened(("a", harmonics(150.0)), ("b", harmonics(150.0)))
    assert listening.notices == ["The pitch of voices was not measured: FloatingPointError: no"]
    heard = listening.heard()
    assert heard["a"].level is not None
    assert heard["a"].pitch is heard["b"].pitch is None


def test_memory_that_runs_out_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(sound: FloatArray, rate: int) -> FloatArray:
        raise MemoryError

    monkeypatch.setattr(measuring, "pitches", full)
    with pytest.raises(MemoryError):
        _listened(("a", harmonics(150.0)))
