"""A small library of real speech with known voices, made from the recording that ships inside pyannote.audio.

That recording is half a minute of two people with exact turns. It is cut in two where nobody talks and both have said
about as much before as after, so that each voice is in two recordings with different words. Playing a piece faster or
slower moves pitch and timbre together: the usual way to make new speakers from few (speed perturbation; Ko et al.,
"Audio Augmentation for Speech Recognition", Interspeech 2015). One speed in both pieces is one voice; who is who is
therefore known.
"""

from __future__ import annotations

import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from speakerdb.core.turns import parse_rttm
from speakerdb.errors import MediaMissing, MediaUnreadable
from speakerdb.types import FloatArray, Span, Turn, Waveform

SPEEDS = (0.64, 0.80, 1.00, 1.25, 1.5625)
"""Each a quarter faster than the one before: pitch differs by almost four semitones from one voice to the next."""
SAMPLE_FOLDER = Path("audio", "sample")


@dataclass(frozen=True, slots=True)
class DemoRecording:
    """One recording of the demo: its file, its turns, and which voice each label is."""

    path: Path
    seconds: float
    turns: tuple[Turn, ...]
    voices: Mapping[str, str]


def sample_files() -> tuple[Path, Path]:
    """The sound and the turns of pyannote.audio's sample recording, found without importing it (and torch).

    `MediaMissing` where the package has none.
    """
    package = find_spec("pyannote")
    for root in (package.submodule_search_locations or ()) if package else ():
        sound, turns = (Path(root) / SAMPLE_FOLDER / name for name in ("sample.wav", "sample.rttm"))
        if sound.is_file() and turns.is_file():
            return sound, turns
    raise MediaMissing("pyannote.audio's sample recording is not installed.", hint="Install pyannote.audio again.")


def read_wav(path: Path) -> Waveform:
    """A mono 16-bit WAV file, samples in [-1, 1]. `MediaUnreadable` for any other."""
    try:
        with wave.open(str(path), "rb") as file:
            if file.getnchannels() != 1 or file.getsampwidth() != 2:
                raise MediaUnreadable(f"{path} is not a mono 16-bit WAV file.")
            samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.float32) / np.float32(
                32768
            )
            return Waveform(samples, file.getframerate())
    except (wave.Error, EOFError) as error:
        raise MediaUnreadable(f"{path} is not a WAV file: {error}.") from error


def write_wav(path: Path, sound: Waveform) -> None:
    """A mono 16-bit WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sound.sample_rate)
        file.writeframes((np.clip(sound.samples, -1, 32767 / 32768) * 32768).round().astype("<i2").tobytes())


def at_speed(samples: FloatArray, speed: float) -> FloatArray:
    """`samples` played `speed` times as fast at the same sample rate; pitch and tempo change together.

    Band-limited resampling in the frequency domain: a spectrum cut short (faster) or continued with zeros (slower) is
    the same sound with fewer or more samples.
    """
    length = max(1, round(samples.size / speed))
    spectrum = np.fft.rfft(samples.astype(np.float64))
    bins = length // 2 + 1
    resized = np.zeros(bins, dtype=complex)
    kept = min(bins, spectrum.size)
    resized[:kept] = spectrum[:kept]
    return np.asarray(np.fft.irfft(resized, length) * (length / samples.size), dtype=np.float32)


def best_cut(turns: Sequence[Turn]) -> float:
    """The instant inside a pause that leaves every speaker as much speech as possible on both sides (seconds)."""
    reached = 0.0
    pauses = []
    for turn in sorted(turns, key=lambda t: t.start):
        if turn.start > reached > 0:
            pauses.append((reached + turn.start) / 2)
        reached = max(reached, turn.end)
    if not pauses:
        raise MediaUnreadable("The recording has no pause to cut it at.")
    speakers = {t.speaker for t in turns}

    def least(cut: float) -> float:
        before = {s: sum(t.end - t.start for t in turns if t.speaker == s and t.end <= cut) for s in speakers}
        after = {s: sum(t.end - t.start for t in turns if t.speaker == s and t.start >= cut) for s in speakers}
        return min(*before.values(), *after.values())

    return max(pauses, key=least)


def piece(turns: Sequence[Turn], part: Span, factor: float) -> tuple[Turn, ...]:
    """The turns inside `part` of a recording, on the clock of that part played `factor` times as fast."""
    return tuple(
        Turn((max(t.start, part.start) - part.start) / factor, (min(t.end, part.end) - part.start) / factor, t.speaker)
        for t in turns
        if t.end > part.start and t.start < part.end
    )


def build_library(folder: Path, speeds: Sequence[float] = SPEEDS) -> list[DemoRecording]:
    """Write the demo's recordings into `folder`: two for each speed, two voices in each."""
    sound_file, turns_file = sample_files()
    sound = read_wav(sound_file)
    rate = sound.sample_rate
    (turns,) = parse_rttm(turns_file.read_text("utf-8")).values()
    length = sound.samples.size / rate
    cut = round(best_cut(turns) * rate) / rate
    first = max(0.0, min(t.start for t in turns) - 0.5)
    parts = {"a": Span(round(first * rate) / rate, cut), "b": Span(cut, length)}
    recordings = []
    for speed in speeds:
        for name, part in parts.items():
            samples = sound.samples[round(part.start * rate) : round(part.end * rate)]
            played = at_speed(samples, speed)
            # A whole number of samples came out; the turns follow the speed that this makes.
            exact = samples.size / played.size
            path = folder / f"meeting-{round(speed * 100):03d}-{name}.wav"
            write_wav(path, Waveform(played, rate))
            mine = piece(turns, part, exact)
            voices = {t.speaker: f"{t.speaker} x{speed:.2f}" for t in mine}
            recordings.append(DemoRecording(path, played.size / rate, mine, voices))
    return recordings
