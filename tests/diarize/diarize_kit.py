"""Recordings that are short: each second costs the network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from audio_files import write

from speakerdb.diarizers.sound import Sound
from speakerdb.testing.embedder_contract import synthetic_voice
from speakerdb.types import FloatArray, Waveform

RATE = 16_000
_PYANNOTE = find_spec("pyannote")
assert _PYANNOTE is not None
assert _PYANNOTE.submodule_search_locations is not None
SAMPLE = Path(_PYANNOTE.submodule_search_locations[0]) / "audio" / "sample" / "sample.wav"
"""Thirty seconds of a real conversation of two, installed with pyannote.audio (read, never imported: that wants FFmpeg)."""


def conversation(parts: Sequence[tuple[int, float]]) -> FloatArray:
    """Made-up voices one after the other, by number (0 is a pause) and seconds. Mono, 16 kHz."""
    voices = {1: (110.0, 0.9), 2: (215.0, 1.2), 3: (150.0, 1.05)}
    sounds = []
    for number, seconds in parts:
        if number == 0:
            sounds.append(np.zeros(round(seconds * RATE), np.float32))
        else:
            pitch, brightness = voices[number]
            sounds.append(synthetic_voice(seconds, RATE, pitch=pitch, brightness=brightness))
    joined: FloatArray = np.concatenate(sounds)
    return joined


def heard(parts: Sequence[tuple[int, float]], name: str = "talk") -> Sound:
    return Sound.of_waveform(Waveform(conversation(parts), RATE), name)


def file_of(path: Path, samples: FloatArray, layout: str = "mono") -> Path:
    """A WAV file of samples, (n,) or (channels, n)."""
    return write(path, samples.astype(np.float64), RATE, codec="pcm_s16le", layout=layout)
