"""Media files: what they are, whether they may be read, and the sound of chosen spans. PyAV is imported only here.

Time. Second 0 of a recording is its first decoded sample, as for whoever decodes the whole file, whatever time the
container gives that sample. After it the container's timestamps say where a sample lies. Sound that is missing inside a
file (a hole in the timestamps) is left out of a span, never filled with silence.

Safety. A file is opened by us and handed to FFmpeg as an open file, so ``http://...`` or ``concat:...`` is a name
and nothing more. FFmpeg may open nothing else: its protocols are switched off, and only demuxers of files that hold
their sound themselves are allowed (no playlists).
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.error
import numpy as np

from speakerdb.errors import InvalidInput, MediaForbidden, MediaMissing, MediaTooShort, MediaUnreadable, NoAudioTrack
from speakerdb.types import Fingerprint, FloatArray, MediaInfo, Span, Waveform

FINGERPRINT_BYTES = 64 * 1024
"""How much of each end of a file its fingerprint covers."""

SHORTFALL_SECONDS = 0.1
"""A span may reach this far beyond the end of the sound; what is there is returned. Further is `MediaTooShort`."""

_PREROLL_SECONDS = 0.5  # decoders need some frames after a seek: MP3's bit reservoir, 80 ms of Opus, AAC's overlap
_NEAR_SECONDS = 1.0  # decoding on costs less than seeking and the pre-roll
_MARGIN_SECONDS = 0.05  # more than half the length of the resampling filter, on both sides of a span
_JUMP_SECONDS = 0.015  # timestamps that differ by less are rounding (1 ms in Matroska); one lost frame is more
_BACK_OFF_SECONDS = 10.0  # how much earlier to try where a seek landed too late
_FAR_SECONDS = 1e7  # behind the end of everything; seeking there makes FFmpeg walk the packets itself
_LEAST_SHARE = 0.5  # a span of which holes leave less than this is an error
_MOST_FAILURES = 100  # packets in a row that cannot be decoded

# Demuxers of files that hold their sound themselves. Left out on purpose: playlists and manifests (hls, concat, dash,
# imf, sdp, ...), image sequences, subtitles, text screens, and headerless formats that fit any bytes.
_DEMUXERS = (
    "aac ac3 act adx aiff amr ape asf ast au avi bonk caf dsf dts dtshd dv eac3 ea f4v flac flv gsm gxf iamf ircam "
    "loas matroska,webm mlp mov,mp4,m4a,3gp,3g2,mj2 mp3 mpc mpc8 mpeg mpegts mxf nistsphere nsv nut ogg oma osq qcp "
    "rm rso shn sox swf tak truehd tta voc vqf w64 wav wavarc wsd wtv wv xwma"
).replace(" ", ",")
# FFmpeg guesses the length of these from the bit rate of their first frames; counting their packets is exact.
_GUESSED_LENGTH = frozenset({"aac", "ac3", "amr", "dts", "eac3", "gsm", "loas", "mlp", "mp3", "truehd"})
_OPTIONS = {"protocol_whitelist": "none", "format_whitelist": _DEMUXERS}
# Tags may be in any encoding, and a wrong one must not make a file unreadable. PyAV 19 sees to it by itself.
_TAGS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}

_UNREADABLE_HINT = "Check that the file plays in an ordinary player; put a sound copy in its place, or remove it."
_LOCAL_HINT = "Only local files can be added; download the media first."


def fingerprint(path: Path) -> Fingerprint:
    """Size and BLAKE2b (16 bytes) of the first and last 64 KiB, of the whole file where it is not larger than both.

    Raises `MediaMissing`, `MediaUnreadable`.
    """
    digest = hashlib.blake2b(digest_size=16)
    with _translated(path), _open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= 2 * FINGERPRINT_BYTES:
            digest.update(file.readall() or b"")
        else:
            digest.update(_read_exactly(file, FINGERPRINT_BYTES))
            file.seek(-FINGERPRINT_BYTES, os.SEEK_END)
            digest.update(_read_exactly(file, FINGERPRINT_BYTES))
    return Fingerprint(size, digest.hexdigest())


def check_allowed(path: Path, roots: Sequence[Path]) -> Path:
    """The real path of a regular file that lies in one of `roots` (anywhere where there are none).

    Links and ``..`` are resolved. Raises `MediaForbidden` (before it says whether the file exists), `MediaMissing`,
    `MediaUnreadable` for what is not a regular file.
    """
    with _translated(path):
        try:
            real = path.resolve()
        except (RuntimeError, ValueError) as error:  # a loop of links; a zero byte in the name
            raise _unreadable(path, str(error)) from error
        if roots and not any(real.is_relative_to(root.resolve()) for root in roots):
            raise MediaForbidden(f"{path} lies outside the allowed media folders.", path=str(path))
        _check_regular(path, os.stat(real).st_mode)
    return real


def probe(path: Path) -> MediaInfo:
    """What the file's best audio track is, after decoding its first frame.

    `seconds` is None where neither the container nor its packets tell. Raises `MediaMissing`, `MediaUnreadable` (empty,
    text, truncated, random bytes, a playlist), `NoAudioTrack`.
    """
    with _Reader(path) as reader:
        return reader.info()


def decode_spans(path: Path, spans: Sequence[Span], sample_rate: int = 16000) -> Iterator[FloatArray]:
    """The sound of each span: mono (mean of the channels, without LFE), float32, `sample_rate` Hz, shape (samples,).

    `spans` are in ascending order of start and may touch or overlap. The file is opened once, at the first span, and
    only read near the spans. Each array has exactly round(seconds * sample_rate) samples, or fewer where the sound
    ends up to `SHORTFALL_SECONDS` before the span or has holes; nothing is ever padded.

    Raises `InvalidInput` for spans that cannot be read so (at once); while iterating `MediaMissing`,
    `MediaUnreadable` (also a decoding error inside a span), `NoAudioTrack`, `MediaTooShort`.
    """
    _check_spans(spans, sample_rate)

    def read() -> Iterator[FloatArray]:
        with _Reader(path) as reader:
            for span in spans:
                yield reader.read(span, sample_rate)

    return read()


def decode_all(path: Path, sample_rate: int, limit_seconds: float) -> FloatArray:
    """The whole sound of a file like that of a span, but at most its first `limit_seconds`.

    Raises what `decode_spans` raises; `MediaTooShort` where there is no sound at all.
    """
    whole = Span(0.0, limit_seconds)
    _check_spans([whole], sample_rate)
    with _Reader(path) as reader:
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
    _check_spans([Span(0.0, block_seconds)], sample_rate)

    def read() -> Iterator[FloatArray]:
        with _Reader(path, channel) as reader:
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
    _check_spans(spans, sample_rate)
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
            window = _Window(span, waveform.sample_rate, sample_rate)
            found = window.cut(sound[window.first : window.last])
            _check_end(window, found, len(sound) / waveform.sample_rate, "The waveform")
            yield found

    return read()


class _Window:
    """The samples of a source that one span needs: those of the span, and a margin for the resampling filter.

    It starts at a source sample that falls together with an output sample, so that the span gets the samples that
    resampling the whole file would give it.
    """

    def __init__(self, span: Span, source_rate: int, rate: int) -> None:
        self.span, self.source_rate, self.rate = span, source_rate, rate
        step = source_rate // math.gcd(source_rate, rate)
        margin = math.ceil(_MARGIN_SECONDS * source_rate)
        self.begins, self.ends = (round(at * source_rate) for at in (span.start, span.end - SHORTFALL_SECONDS))
        self.first = max(0, (self.begins - margin) // step * step)
        self.last = math.ceil(span.end * source_rate) + margin
        self.wanted = round(span.seconds * rate)

    def cut(self, sound: FloatArray) -> FloatArray:
        """The span's samples, from the source's samples `first` to `last` (fewer where they end)."""
        skip = round(self.span.start * self.rate) - self.first * self.rate // self.source_rate
        return _resample(sound, self.source_rate, self.rate)[skip : skip + self.wanted].copy()


class _Reader:
    """One open file, and the sound decoded last, so that spans that touch or overlap are decoded once.

    Positions are counted in samples of the source from its first decoded one.
    """

    def __init__(self, path: Path, channel: int | None = None) -> None:
        self.path = path
        self.channel = channel  # None: the mean of all
        self.container: Any = None
        self.failures = 0  # packets in a row that could not be decoded
        self.seekable = True
        with _translated(path):
            self.file = _open_regular(path)
            try:
                self._open()
            except BaseException:
                self._close()
                raise

    def __enter__(self) -> _Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self.container is not None:
            self.container.close()
        self.file.close()

    def _open(self) -> None:
        """Open from the beginning and decode the first frame, which says what the sample rate and second 0 are."""
        if self.container is not None:
            self.container.close()
        self.file.seek(0)
        self.container = av.open(self.file, "r", options=dict(_OPTIONS), **_TAGS)
        tracks = self.container.streams.audio
        if not tracks:
            raise NoAudioTrack(f"{self.path} has no audio track.", hint="Add a file with sound.", path=str(self.path))
        # FFmpeg's best track, as other decoders take it; it knows none where the sound begins late in the file.
        self.stream: Any = self.container.streams.best("audio") or tracks[0]
        self.rate = 0
        self._restart()
        self._advance_to_sound()
        if not self.kept:
            raise _unreadable(self.path, "nothing in its audio track can be decoded")

    def _restart(self) -> None:
        """Forget what was decoded: the container stands somewhere else now."""
        self.packets = self.container.demux(self.stream)
        self.kept: deque[tuple[int, FloatArray]] = deque()  # position of the first sample, and the samples
        self.next: int | None = None  # where the next frame should begin; None until a frame has said where it is
        self.ended = False

    def info(self) -> MediaInfo:
        """What `probe` returns. Reads packets to the end where the length must be counted."""
        with _translated(self.path):
            context = self.stream.codec_context
            return MediaInfo(self._seconds(), context.codec.canonical_name, self.rate, context.layout.nb_channels)

    def _seconds(self) -> float | None:
        guessed = self.container.format.name in _GUESSED_LENGTH
        if self.stream.duration and not guessed:
            return float(self.stream.duration * self.stream.time_base)
        if self.container.duration and not guessed:
            # The container's length begins with its first track, which may be a picture.
            begins = (self.container.start_time or 0) / av.time_base
            return float(self.container.duration / av.time_base - max(0.0, self.origin - begins))
        try:
            self.container.seek(int(_FAR_SECONDS / self.stream.time_base), stream=self.stream)
            end = self._last_end()
        except av.error.FFmpegError:
            end = None
        if end is None:  # it cannot be sought in: from the beginning, then
            self._open()
            end = self._last_end()
        return None if end is None else end - self.origin

    def _last_end(self) -> float | None:
        """Read packets to the end of the file: where in time the last one ends."""
        end = None
        for packet in self.container.demux(self.stream):
            if packet.pts is not None:
                end = float((packet.pts + (packet.duration or 0)) * self.stream.time_base)
        return end

    def read(self, span: Span, rate: int, *, to_its_end: bool = True) -> FloatArray:
        """The sound of one span; spans come in ascending order of start."""
        window = _Window(span, self.rate, rate)
        with _translated(self.path):
            self._decode(window)
        first, last = window.first, window.last
        parts = [samples[max(0, first - at) : max(0, last - at)] for at, samples in self.kept]
        found = window.cut(np.concatenate(parts) if parts else np.zeros(0, np.float32))
        if not np.isfinite(found).all():
            raise _unreadable(self.path, f"its samples are not finite near {span.start:.2f} s")
        if to_its_end:
            if self.ended:
                _check_end(window, found, (self.next or 0) / self.rate, str(self.path))
            if len(found) < _LEAST_SHARE * window.wanted:
                raise _unreadable(self.path, f"it has no sound for most of {span.start:.2f} to {span.end:.2f} s")
        return found

    def _decode(self, window: _Window) -> None:
        """Decode until `kept` holds all of the window, or the sound ends."""
        begins = self.kept[0][0] if self.kept else self.next
        far = self.next is None or window.first - self.next > _NEAR_SECONDS * self.rate
        if (far and self.seekable) or begins is None or begins > window.first:
            self._seek(window.first)
        while not self.ended and (self.next is None or self.next < window.last):
            self._advance(window)
            while self.kept and self.kept[0][0] + len(self.kept[0][1]) <= window.first:
                self.kept.popleft()

    def _seek(self, position: int) -> None:
        """Stand before `position`, with enough sound before it for the decoder to have settled."""
        preroll = round(_PREROLL_SECONDS * self.rate)
        target, back = position - preroll, round(_BACK_OFF_SECONDS * self.rate)
        while target > 0 and self.seekable:
            at = math.floor((target / self.rate + self.origin) / self.stream.time_base)
            try:
                self.container.seek(at, stream=self.stream)
            except av.error.FFmpegError:  # this file cannot be sought in: read it from its beginning
                self.seekable = False
                break
            self._restart()
            self._advance_to_sound()
            if self.kept and self.kept[0][0] <= position - preroll // 2:
                return
            # Too late, or behind the end: seek tables are often rough.
            target, back = target - back, back * 2
        self._open()

    def _advance_to_sound(self) -> None:
        while not self.kept and not self.ended:
            self._advance(None)

    def _advance(self, strict: _Window | None) -> None:
        """Decode one packet. An error outside the span of `strict`, or hardly before its end (bytes that some programs
        leave behind the sound), is let pass, as long as decoding goes on."""
        packet = next(self.packets, None)
        if packet is None:
            self.ended = True
            return
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            self.failures += 1
            if self.failures > _MOST_FAILURES:
                raise _unreadable(self.path, "its sound cannot be decoded") from error
            if strict is not None and self.next is not None and strict.begins <= self.next < strict.ends:
                raise _unreadable(self.path, f"it cannot be decoded at {self.next / self.rate:.2f} s") from error
            return
        for frame in frames:
            self.failures = 0
            self._keep(frame)

    def _keep(self, frame: Any) -> None:
        stated = None if frame.pts is None else float(frame.pts * frame.time_base)
        if not self.rate:
            self.rate, self.origin = frame.sample_rate, stated or 0.0
            self.seekable = self.seekable and stated is not None
        if frame.sample_rate != self.rate:
            raise _unreadable(self.path, f"its sample rate changes from {self.rate} to {frame.sample_rate} Hz")
        at = self.next
        if stated is not None:
            position = round((stated - self.origin) * self.rate)
            if at is None or position - at > _JUMP_SECONDS * self.rate:
                at = position
        at = at or 0
        if self.channel is not None and self.channel >= frame.layout.nb_channels:
            raise InvalidInput(
                f"{self.path} has {frame.layout.nb_channels} channels, and no channel {self.channel + 1}."
            )
        try:
            samples = _mono(frame, self.channel)
        except ValueError as error:  # PyAV has no array for it
            raise _unreadable(self.path, f"its sample format {frame.format.name} is not supported") from error
        self.kept.append((at, samples))
        self.next = at + len(samples)


def _mono(frame: Any, channel: int | None) -> FloatArray:
    """The mean of a frame's channels, without low-frequency ones, or one of them, in [-1, 1]."""
    samples = frame.to_ndarray()
    channels = frame.layout.nb_channels
    if not frame.format.is_planar:
        samples = samples.reshape(-1, channels).T
    if channel is not None:
        samples, channels = samples[channel : channel + 1], 1
    if channels > 2:
        samples = samples[[i for i, c in enumerate(frame.layout.channels) if not c.name.startswith("LFE")]]
    mono: FloatArray
    with np.errstate(over="ignore"):  # what becomes infinite is reported with the span
        mono = samples[0].astype(np.float32) if channels == 1 else samples.mean(axis=0, dtype=np.float32)
    if samples.dtype == np.uint8:
        mono -= np.float32(128)
        mono /= np.float32(128)
    if samples.dtype.kind == "i":
        mono /= np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
    return mono


def _resample(sound: FloatArray, source_rate: int, rate: int) -> FloatArray:
    if source_rate == rate or not sound.size:
        return sound
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound)[None, :], format="flt", layout="mono")
    frame.sample_rate = source_rate
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
    parts = [part.to_ndarray()[0] for given in (frame, None) for part in resampler.resample(given)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _check_spans(spans: Sequence[Span], sample_rate: int) -> None:
    if sample_rate <= 0:
        raise InvalidInput(f"Sound cannot have a sample rate of {sample_rate} Hz.")
    before = 0.0
    for span in spans:
        if not (math.isfinite(span.end) and before <= span.start < span.end):
            raise InvalidInput(f"Spans must have a length and be in order of time: {span.start} to {span.end} s.")
        before = span.start


def _check_end(window: _Window, found: FloatArray, ends: float, name: str) -> None:
    missing = window.wanted - len(found)
    if missing > SHORTFALL_SECONDS * window.rate and window.span.end - ends > SHORTFALL_SECONDS:
        raise MediaTooShort(
            f"{name} ends at {ends:.2f} s; speech was asked for up to {window.span.end:.2f} s.",
            hint="Are the turns those of this file? Make them again from it.",
            ends=ends,
            asked=window.span.end,
        )


def _open_regular(path: Path) -> io.FileIO:
    """The file, opened without waiting: a named pipe in its place is refused and never waited for."""
    _check_regular(path, os.stat(path).st_mode)
    file = io.FileIO(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    try:
        _check_regular(path, os.fstat(file.fileno()).st_mode)
    except BaseException:
        file.close()
        raise
    # PyAV wants a name that is text in UTF-8, which a path need not be. FFmpeg looks at its ending only.
    file.name = "media" + path.suffix.encode("ascii", "ignore").decode()
    return file


def _check_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise MediaUnreadable(f"{path} is not a regular file.", hint="Give an audio or video file.", path=str(path))


def _read_exactly(file: io.FileIO, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := file.read(count - len(data))):
        data += more
    return data


def _unreadable(path: Path, why: str) -> MediaUnreadable:
    return MediaUnreadable(f"{path} cannot be read: {why}.", hint=_UNREADABLE_HINT, path=str(path))


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Errors of the operating system and of FFmpeg become ours, once, here."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = _LOCAL_HINT if "://" in str(path) or ":/" in str(path) else None
        raise MediaMissing(f"{path} does not exist.", hint=hint, path=str(path)) from error
    except (av.error.FFmpegError, OSError) as error:
        raise _unreadable(path, (error.strerror or str(error)).rstrip(".")) from error
