"""Sound: how fast speech is decoded. No goals: machines differ."""

from __future__ import annotations

import time
from pathlib import Path

import av
import numpy as np

from benchmarks.report import Row, median, row, say
from speakerdb.media import decode_spans
from speakerdb.types import Span

RATE = 44_100
SPAN_SECONDS = 6.0


def decoding(folder: Path, seconds: float, *, times: int = 3) -> list[Row]:
    """Spans of 6 s, spread over an MP3 file of `seconds` (44.1 kHz, stereo, 128 kbit/s), to mono 16 kHz."""
    path = speech_like(folder / "sound.mp3", seconds)
    count = max(1, int(seconds / 60.0))
    starts = np.linspace(0.0, seconds - SPAN_SECONDS - 1.0, count).tolist()
    spans = [Span(start, start + SPAN_SECONDS) for start in starts]
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        found = list(decode_spans(path, spans))
        taken.append(time.perf_counter() - begun)
        assert len(found) == count
    say(f"decoding: {taken}")
    return [
        row(f"decoding {count} spans of 6 s of an MP3", median(taken) / (count * SPAN_SECONDS), "s a second decoded"),
        row("decoding over the file's length (real-time factor)", median(taken) / seconds, "s a second of file"),
    ]


def speech_like(path: Path, seconds: float) -> Path:
    """An MP3 file of noise with a slow loudness, made once."""
    if path.exists():
        return path
    random = np.random.default_rng(3)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libmp3lame", rate=RATE, layout="stereo")
        stream.bit_rate = 128_000
        stream.codec_context.format = "s16p"
        size = stream.codec_context.frame_size or 1152
        for start in range(0, int(seconds * RATE), size):
            loudness = 3000 * (1.1 + np.sin(start / RATE))
            samples = (random.standard_normal((2, size)) * loudness).clip(-32000, 32000).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16p", layout="stereo")
            frame.sample_rate, frame.pts = RATE, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path
