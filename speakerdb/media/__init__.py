"""Media files: what they are, whether they may be read, and the sound of chosen spans. PyAV is imported only in this package.

Time. Second 0 of a recording is its first decoded sample, as for whoever decodes the whole file, whatever time the
container gives that sample. After it the container's timestamps say where a sample lies. Sound that is missing inside a
file (a hole in the timestamps) is left out of a span, never filled with silence.

Safety. A file is opened by us and handed to FFmpeg as an open file, so ``http://...`` or ``concat:...`` is a name
and nothing more. FFmpeg may open nothing else: its protocols are switched off, and only demuxers of files that hold
their sound themselves are allowed (no playlists).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from speakerdb.errors import InvalidInput, MediaForbidden, MediaTooShort
from speakerdb.media.opening import check_regular, open_regular, read_exactly, translated, unreadable
from speakerdb.media.reader import Reader
from speakerdb.media.spans import SHORTFALL_SECONDS, Window, check_end, check_spans
from speakerdb.types import Fingerprint, FloatArray, MediaInfo, Span, Waveform

__all__ = [
    "FINGERPRINT_BYTES",
    "SHORTFALL_SECONDS",
    "check_allowed",
    "decode_all",
    "decode_blocks",
    "decode_spans",
    "fingerprint",
    "probe",
    "waveform_spans",
]

FINGERPRINT_BYTES = 64 * 1024
"""How much of each end of a file its fingerprint covers."""


def fingerprint(path: Path) -> Fingerprint:
    """Size and BLAKE2b (16 bytes) of the first and last 64 KiB, of the whole file where it is not larger than both.

    Raises `MediaMissing`, `MediaUnreadable`.
    """
    digest = hashlib.blake2b(digest_size=16)
    with translated(path), open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= 2 * FINGERPRINT_BYTES:
            digest.update(file.readall() or b"")
        else:
            digest.update(read_exactly(file, FINGERPRINT_BYTES))
            file.seek(-FINGERPRINT_BYTES, os.SEEK_END)
            digest.update(read_exactly(file, FINGERPRINT_BYTES))
    return Fingerprint(size, digest.hexdigest())


def check_allowed(path: Path, roots: Sequence[Path]) -> Path:
    """The real path of a regular file that lies in one of `roots` (anywhere where there are none).

    Links and ``..`` are resolved. Raises `MediaForbidden` (before it says whether the file exists), `MediaMissing`,
    `MediaUnreadable` for what is not a regular file.
    """
    with translated(path):
        try:
            real = path.resolve()
        except (RuntimeError, ValueError) as error:  # a loop of links; a zero byte in the name
            raise unreadable(path, str(error)) from error
        if roots and not any(real.is_relative_to(root.resolve()) for root in roots):
            raise MediaForbidden(f"{path} lies outside the allowed media folders.", path=str(path))
        check_regular(path, os.stat(real).st_mode)
    return real


def probe(path: Path) -> MediaInfo:
    """What the file's best audio track is, after decoding its first frame.

    `seconds` is None where neither the container nor its packets tell. Raises `MediaMissing`, `MediaUnreadable` (empty,
    text, truncated, random bytes, a playlist), `NoAudioTrack`.
    """
    with Reader(path) as reader:
        return reader.info()


def decode_spans(path: Path, spans: Sequence[Span], sample_rate: int = 16000) -> Iterator[FloatArray]:
    """The sound of each span: mono (mean of the channels, without LFE), float32, `sample_rate` Hz, shape (samples,).

    `spans` are in ascending order of start and may touch or overlap. The file is opened once, at the first span, and
    only read near the spans. Each array has exactly round(seconds * sample_rate) samples, or fewer where the sound
    ends up to `SHORTFALL_SECONDS` before the span or has holes; nothing is ever padded.

    Raises `InvalidInput` for spans that cannot be read so (at once); while iterating `MediaMissing`,
    `MediaUnreadable` (also a decoding error inside a span), `NoAudioTrack`, `MediaTooShort`.
    """
    check_spans(spans, sample_rate)

    def read() -> Iterator[FloatArray]:
        with Reader(path) as reader:
            for span in spans:
                yield reader.read(span, sample_rate)

    return read()


def decode_all(path: Path, sample_rate: int, limit_seconds: float) -> FloatArray:
    """The whole sound of a file like that of a span, but at most its first `limit_seconds`.

    Raises what `decode_spans` raises; `MediaTooShort` where there is no sound at all.
    """
    whole = Span(0.0, limit_seconds)
    check_spans([whole], sample_rate)
    with Reader(path) as reader:
        samples = reader.read(whole, sample_rate, to_its_end=False)
    if not samples.size:
        raise MediaTooShort(f"{path} holds no sound.", path=str(path))
    return samples


def decode_blocks(
    path: Path, sample_rate: int, block_seconds: float, *, channel: int | None = None
) -> Iterator[FloatArray]:
    """The whole sound of a file like that of a span, in blocks that follow each other; the file may be of any length.

    Each has exactly round(block_seconds * sample_rate) samples, the last one what is left. Sound that is missing inside the
    file is silence at the end of its block, so that what comes later stays where it is. With `channel` (from 0) that channel
    alone instead of the mean of all.

    Raises `InvalidInput` at once; while iterating what `decode_spans` raises, `InvalidInput` for a channel that is not there,
    and `MediaTooShort` where there is no sound at all.
    """
    length = round(block_seconds * sample_rate)
    check_spans([Span(0.0, block_seconds)], sample_rate)

    def read() -> Iterator[FloatArray]:
        with Reader(path, channel) as reader:
            at, ends = 0, False
            while not ends:
                span = Span(at * length / sample_rate, (at + 1) * length / sample_rate)
                found = reader.read(span, sample_rate, to_its_end=False)
                ends = reader.ended and (reader.next or 0) / reader.rate <= span.end
                if not ends and len(found) < length:
                    found = np.concatenate([found, np.zeros(length - len(found), np.float32)])
                if found.size:
                    yield found
                elif not at:
                    raise MediaTooShort(f"{path} holds no sound.", path=str(path))
                at += 1

    return read()


def waveform_spans(waveform: Waveform, spans: Sequence[Span], sample_rate: int = 16000) -> Iterator[FloatArray]:
    """The sound of each span of an in-memory waveform, as `decode_spans` gives it.

    Raises `InvalidInput` at once for a waveform that is not 1-D float32 or float64, not finite, or without a sample
    rate; `MediaTooShort` while iterating.
    """
    check_spans(spans, sample_rate)
    samples = waveform.samples
    if not isinstance(samples, np.ndarray) or samples.ndim != 1 or samples.dtype not in (np.float32, np.float64):
        raise InvalidInput("A waveform is a 1-D array of float32.", hint="Mix it to one channel of float32 first.")
    if waveform.sample_rate <= 0:
        raise InvalidInput(f"A waveform cannot have a sample rate of {waveform.sample_rate} Hz.")
    with np.errstate(over="ignore"):
        sound = samples.astype(np.float32, copy=False)
    if not np.isfinite(sound).all():
        raise InvalidInput("The waveform holds NaN or infinity.")

    def read() -> Iterator[FloatArray]:
        for span in spans:
            window = Window(span, waveform.sample_rate, sample_rate)
            found = window.cut(sound[window.first : window.last])
            check_end(window, found, len(sound) / waveform.sample_rate, "The waveform")
            yield found

    return read()
