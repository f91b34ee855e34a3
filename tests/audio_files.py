"""Media files made on the spot, with PyAV's own encoders, so that tests carry none."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

Sound = npt.NDArray[np.float64]


def chirps(seconds: float, rate: int, *, seed: int = 7) -> Sound:
    """Band-limited noise (below 3 kHz) with a slow loudness: every stretch of it is unlike every other. Shape (n,)."""
    n = round(seconds * rate)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(n))
    frequency = np.fft.rfftfreq(n, 1 / rate)
    spectrum[(frequency < 100) | (frequency > 3000)] = 0
    sound = np.fft.irfft(spectrum, n)
    return 0.3 * sound / np.abs(sound).max()


def write(
    path: Path,
    sound: Sound,
    rate: int,
    *,
    codec: str,
    sample_format: str = "s16",
    layout: str = "mono",
    bit_rate: int | None = None,
    container: str | None = None,
    start: float = 0.0,
    picture: bool = False,
    uneven: bool = False,
    options: dict[str, str] | None = None,
    hole: tuple[float, float] | None = None,
) -> Path:
    """Encode `sound` (shape (n,) or (channels, n), in [-1, 1]).

    With `uneven`, the pictures of a film follow each other at a variable rate, as phones and screen recorders write them.
    `start` is the first timestamp in seconds; `hole` leaves out the sound between two seconds, but not its time.
    """
    channels = np.atleast_2d(sound)
    with av.open(str(path), "w", format=container, options=options or {}) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        if bit_rate:
            stream.bit_rate = bit_rate
        stream.codec_context.format = sample_format
        if picture:
            film = output.add_stream("mpeg4", rate=5)
            film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
            if uneven:
                film.codec_context.time_base = Fraction(1, 1000)
        shown, next_picture = 0, 0.0
        block = stream.codec_context.frame_size or 1024
        pieces = [(at, channels[:, at : at + block]) for at in range(0, channels.shape[1], block)]
        for at, piece in pieces:
            if hole and hole[0] * rate <= at < hole[1] * rate:
                continue
            frame = _frame(piece, sample_format, layout)
            frame.sample_rate = rate
            frame.pts = at + round(start * rate)
            frame.time_base = Fraction(1, rate)
            output.mux(stream.encode(frame))
            while picture and next_picture < at / rate:
                image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), shown % 255, np.uint8), format="rgb24")
                if uneven:
                    image.pts, image.time_base = round(next_picture * 1000), Fraction(1, 1000)
                output.mux(film.encode(image))
                shown += 1
                next_picture += (0.02, 0.7, 0.033, 0.1, 1.9)[shown % 5] if uneven else 0.2
        if picture:
            output.mux(film.encode(None))
        output.mux(stream.encode(None))
    return path


def write_long_wav(path: Path, seconds: int, parts: dict[float, Sound], rate: int = 16_000) -> Path:
    """A 16-bit mono WAV of any length that takes no room on the disk: silence, with sound from some seconds on."""
    size = 2 * rate * seconds
    with path.open("wb") as file:
        file.write(b"RIFF" + (36 + size).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little"))
        for value, octets in ((1, 2), (1, 2), (rate, 4), (2 * rate, 4), (2, 2), (16, 2)):
            file.write(value.to_bytes(octets, "little"))
        file.write(b"data" + size.to_bytes(4, "little"))
        file.truncate(44 + size)
        for start, sound in parts.items():
            file.seek(44 + 2 * round(start * rate))
            file.write((sound * 32767).astype("<i2").tobytes())
    return path


def write_silent_film(path: Path) -> Path:
    """A film of two seconds without an audio track."""
    with av.open(str(path), "w") as output:
        film = output.add_stream("mpeg4", rate=5)
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        for number in range(10):
            image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * number, np.uint8), format="rgb24")
            output.mux(film.encode(image))
        output.mux(film.encode(None))
    return path


_FULL = {"u8": 127, "s16": 2**15 - 1, "s32": 2**31 - 1, "flt": 1, "dbl": 1}
_TYPE = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "flt": np.float32, "dbl": np.float64}


def _frame(piece: Sound, sample_format: str, layout: str) -> av.AudioFrame:
    kind = sample_format.removesuffix("p")
    scaled = piece * _FULL[kind] + (128 if kind == "u8" else 0)
    values = (np.rint(scaled) if kind in ("u8", "s16", "s32") else scaled).astype(_TYPE[kind])
    if not sample_format.endswith("p"):
        values = values.T.reshape(1, -1)
    return av.AudioFrame.from_ndarray(np.ascontiguousarray(values), format=sample_format, layout=layout)
