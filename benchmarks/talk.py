"""A recording to extract from: three people in conversation, as an MP3 file of any length with its turns.

Turns are drawn as conversations have them: most are short and some are long, people pause, go on, and talk into each
other's last second. Ten minutes are encoded once and repeated, since an encoder takes longer than everything that is
measured; each frame of that MP3 stands by itself, so nothing is damaged where the parts meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from speakerdb.types import FloatArray, Turn

RATE = 44_100
BLOCK_SECONDS = 600
SHARES = (0.5, 0.3, 0.2)
"""How much of the conversation each of the three has."""
LOOP_SECONDS = 45
"""Of made-up sound a voice; a turn takes its part of it, each from another place."""


@dataclass(frozen=True, slots=True)
class Talk:
    """A recording with its turns, in order of time. `seconds` is its length."""

    path: Path
    turns: tuple[Turn, ...]
    seconds: float


def record(path: Path, seconds: int, voices: Sequence[FloatArray] = (), *, seed: int = 11) -> Talk:
    """Make the recording: MP3, 44.1 kHz, stereo, 128 kbit/s.

    `voices` is sound of each person, shape (samples,) at `RATE`; made-up voices where none is given. `seconds` is at most
    one part, or a multiple of `BLOCK_SECONDS`.
    """
    block = min(seconds, BLOCK_SECONDS)
    assert seconds % block == 0
    random = np.random.default_rng(seed)
    turns = _conversation(block, random)
    sound = _sound(turns, block, voices or [made_up_voice(n) for n in range(len(SHARES))], random)
    times = seconds // block
    _write(path, sound, times)
    repeated = [Turn(t.start + n * block, t.end + n * block, t.speaker) for n in range(times) for t in turns]
    return Talk(path, tuple(repeated), float(seconds))


def made_up_voice(number: int) -> FloatArray:
    """Noise with resonances of its own and the rhythm of syllables. Shape (LOOP_SECONDS * RATE,)."""
    random = np.random.default_rng([number, 17])
    size = LOOP_SECONDS * RATE
    hertz = np.fft.rfftfreq(size, 1 / RATE)
    envelope = np.full(len(hertz), 0.003)
    for low, high in ((200, 900), (900, 2500), (2500, 4500)):
        centre, width = random.uniform(low, high), random.uniform(80, 300)
        envelope += random.uniform(0.2, 1.0) * np.exp(-0.5 * ((hertz - centre) / width) ** 2)
    sound = np.fft.irfft(np.fft.rfft(random.standard_normal(size)) * envelope, size)
    rhythm = 0.55 + 0.45 * np.sin(2 * np.pi * random.uniform(3.0, 5.0) * np.arange(size) / RATE)
    return np.asarray(0.4 * rhythm * sound / np.abs(sound).max(), dtype=np.float32)


def _conversation(seconds: int, random: np.random.Generator) -> list[Turn]:
    """Turns that end before the last second. Half are under 2.6 s; one change of speakers in ten overlaps."""
    turns: list[Turn] = []
    at, who = 0.3, 0
    while True:
        length = float(np.clip(random.lognormal(np.log(2.6), 0.8), 0.4, 25.0))
        if at + length > seconds - 1.0:
            return sorted(turns, key=lambda turn: (turn.start, turn.end))
        turns.append(Turn(round(at, 3), round(at + length, 3), f"SPEAKER_{who:02}"))
        goes_on = random.random() < 0.3
        if not goes_on:
            others = [n for n in range(len(SHARES)) if n != who]
            weights = np.array([SHARES[n] for n in others])
            who = int(random.choice(others, p=weights / weights.sum()))
        pause = random.exponential(0.45)
        if not goes_on and random.random() < 0.1:
            pause = -min(0.9, length / 2) * random.random()
        at += length + pause


def _sound(
    turns: Sequence[Turn], seconds: int, voices: Sequence[FloatArray], random: np.random.Generator
) -> FloatArray:
    sound = (0.0005 * random.standard_normal(seconds * RATE)).astype(np.float32)
    for turn in turns:
        voice = voices[int(turn.speaker[-2:])]
        begins, size = round(turn.start * RATE), round((turn.end - turn.start) * RATE)
        where = int(random.integers(max(1, len(voice) - size)))
        part = voice[where : where + size]
        sound[begins : begins + len(part)] += part
    return sound


def _write(path: Path, sound: FloatArray, times: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp3") as output:
        # Without its reservoir of bits no frame needs the one before it.
        quick = {"compression_level": "9", "reservoir": "0"}
        stream = output.add_stream("libmp3lame", rate=RATE, layout="stereo", options=quick)
        stream.bit_rate = 128_000
        stream.codec_context.format = "s16p"
        samples = np.rint(sound * 32_767).clip(-32_768, 32_767).astype(np.int16)
        size = stream.codec_context.frame_size or 1152
        frames = [bytes(packet) for packet in _encoded(stream, samples, size)][: len(samples) // size]
        for place, data in enumerate(frames * times):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, RATE)
            packet.pts = packet.dts = place * size
            packet.duration = size
            packet.is_keyframe = True
            output.mux(packet)


def _encoded(stream: av.AudioStream, samples: npt.NDArray[np.int16], size: int) -> list[av.Packet]:
    packets: list[av.Packet] = []
    for start in range(0, len(samples), size):
        part = samples[start : start + size]
        frame = av.AudioFrame.from_ndarray(np.stack([part, part]), format="s16p", layout="stereo")
        frame.sample_rate, frame.pts = RATE, start
        packets += stream.encode(frame)
    return packets + stream.encode(None)
