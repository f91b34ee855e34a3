"""Recordings of made-up voices: noise with a spectrum of its own a voice, which the spectral models tell apart."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speakerdb.types import Turn

RATE = 16_000
SPECTRAL_TOML = """
serving = "v3"
executor = "{executor}"
batch_recordings = {batch}
disk_floor_mb = 0
{more}

[generations.v3]
family = "spectral"
model = "spectral-a"
dimension = 64

[generations.v4]
family = "spectral"
model = "spectral-b"
dimension = 48
"""


@dataclass(frozen=True)
class MadeUp:
    """A recording: its file, its turns, and which voice each label is."""

    path: Path
    turns: tuple[Turn, ...]
    voices: dict[str, int]

    @property
    def stem(self) -> str:
        return self.path.stem


def voice(number: int, seconds: float, *, take: int = 0) -> npt.NDArray[np.float32]:
    """Sound of one voice; another `take` is another text of the same voice. Peak 0.5, shape (samples,)."""
    samples = round(seconds * RATE)
    rng = np.random.default_rng([number, take])
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum *= _envelope(number, len(spectrum))
    sound = np.fft.irfft(spectrum, samples)
    return np.asarray(0.5 * sound / np.abs(sound).max(), dtype=np.float32)


@lru_cache
def _envelope(number: int, bins: int) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng([number, 99])
    hertz = np.linspace(0.0, RATE / 2, bins)
    total = np.full(bins, 0.01)
    for low, high in ((200, 900), (900, 2500), (2500, 4500), (4500, 7000)):
        centre, width = rng.uniform(low, high), rng.uniform(80, 400)
        total += rng.uniform(0.2, 1.0) * np.exp(-0.5 * ((hertz - centre) / width) ** 2)
    return total


def write_wav(path: Path, sound: npt.NDArray[np.float32]) -> Path:
    """A mono 16-bit WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def rttm_text(name: str, turns: Sequence[Turn]) -> str:
    """The turns as RTTM lines."""
    return "".join(
        f"SPEAKER {name} 1 {t.start:.3f} {t.end - t.start:.3f} <NA> <NA> {t.speaker} <NA> <NA>\n" for t in turns
    )


def make_recording(folder: Path, name: str, parts: Sequence[tuple[str, int, float]], *, take: int = 0) -> MadeUp:
    """`folder/name.wav` from parts of (label, voice, seconds), and `folder/name.rttm`."""
    at, turns, sounds = 0.0, [], []
    for place, (label, number, seconds) in enumerate(parts):
        sounds.append(voice(number, seconds, take=100 * take + place))
        turns.append(Turn(at, at + seconds, label))
        at += seconds
    path = write_wav(folder / f"{name}.wav", np.concatenate(sounds))
    (folder / f"{name}.rttm").write_text(rttm_text(name, turns))
    return MadeUp(path, tuple(turns), {label: number for label, number, _ in parts})


def make_library(folder: Path, count: int, *, voices: int = 4, seconds: float = 4.0) -> list[MadeUp]:
    """`count` recordings of two voices each, so that every voice is in several; also `folder/all.rttm`.

    Recording i has the voices i and i + 1 (modulo `voices`), who take turns twice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for i in range(count):
        a, b = i % voices, (i + 1) % voices
        parts = [("A", a, seconds), ("B", b, seconds), ("A", a, seconds), ("B", b, seconds)]
        made.append(make_recording(folder, f"talk{i:02d}", parts, take=i))
    (folder / "all.rttm").write_text("".join(rttm_text(m.stem, m.turns) for m in made))
    return made


def write_settings(
    path: Path, *, executor: str = "inline", batch: int = 2, more: str = "", replace: tuple[str, str] = ("", "")
) -> Path:
    """A settings file of two spectral generations, v3 (serving) and v4."""
    path.write_text(SPECTRAL_TOML.format(executor=executor, batch=batch, more=more).replace(*replace))
    return path
