"""Sound that is no conversation of two: music, and twelve people."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from diarize_kit import RATE

from speakerdb.diarizers.port import Diarization, Hints
from speakerdb.diarizers.pyannote import PyannoteDiarizer
from speakerdb.diarizers.sound import Sound
from speakerdb.errors import TooFewVoices
from speakerdb.testing.embedder_contract import synthetic_voice
from speakerdb.types import FloatArray, Waveform

pytestmark = pytest.mark.models

SECONDS = 1.5


@pytest.fixture(scope="module")
def twelve() -> Sound:
    voices = [synthetic_voice(SECONDS, RATE, pitch=85.0 + 18 * n, brightness=0.8 + 0.05 * n) for n in range(12)]
    return Sound.of_waveform(Waveform(np.concatenate(voices), RATE), "twelve")


def _music() -> FloatArray:
    """Chords that change, each a sum of harmonics that die away."""
    at = np.arange(round(SECONDS * RATE)) / RATE
    chords = ((220.0, 277.2, 329.6), (196.0, 246.9, 293.7), (174.6, 220.0, 261.6), (220.0, 277.2, 329.6))
    parts = [
        sum(np.sin(2 * np.pi * tone * k * at) / k * np.exp(-2 * at) for tone in chord for k in range(1, 5))
        for chord in chords
    ]
    sound = np.concatenate(parts)
    return np.asarray(0.5 * sound / np.abs(sound).max(), np.float32)


def _is_sound(found: Diarization, seconds: float) -> None:
    """What any answer is: turns inside the sound, exclusive ones that do not overlap, finite vectors of those who talk."""
    assert found.seconds == pytest.approx(seconds, abs=0.01)
    assert all(0 <= turn.start < turn.end <= found.seconds for turn in (*found.turns, *found.exclusive))
    assert all(before.end <= after.start for before, after in pairwise(found.exclusive))
    assert {turn.speaker for turn in found.exclusive} <= set(found.speakers) == set(found.embeddings)
    assert all(vector is None or np.isfinite(vector).all() for vector in found.embeddings.values())


def test_music(shared: PyannoteDiarizer) -> None:
    sound = _music()
    _is_sound(shared.diarize(Sound.of_waveform(Waveform(sound, RATE), "music")), len(sound) / RATE)


def test_twelve_people(shared: PyannoteDiarizer, twelve: Sound) -> None:
    _is_sound(shared.diarize(twelve), 12 * SECONDS)


def test_twelve_people_who_are_asked_for(shared: PyannoteDiarizer, twelve: Sound) -> None:
    """Of eighteen seconds there are fewer vectors than that. Never fewer people without a word."""
    with pytest.raises(TooFewVoices, match="12"):
        shared.diarize(twelve, Hints(num_speakers=12))
