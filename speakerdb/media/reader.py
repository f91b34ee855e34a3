"""One open media file, decoded span by span."""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.error
import numpy as np

from speakerdb.errors import InvalidInput, NoAudioTrack
from speakerdb.media.opening import open_regular, translated, unreadable
from speakerdb.media.spans import Window, check_end
from speakerdb.types import FloatArray, MediaInfo, Span

_PREROLL_SECONDS = 0.5  # decoders need some frames after a seek: MP3's bit reservoir, 80 ms of Opus, AAC's overlap
_NEAR_SECONDS = 1.0  # decoding on costs less than seeking and the pre-roll
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


class Reader:
    """One open file, and the sound decoded last, so that spans that touch or overlap are decoded once.

    Positions are counted in samples of the source from its first decoded one.
    """

    def __init__(self, path: Path, channel: int | None = None) -> None:
        self.path = path
        self.channel = channel  # None: the mean of all
        self.container: Any = None
        self.failures = 0  # packets in a row that could not be decoded
        self.seekable = True
        with translated(path):
            self.file = open_regular(path)
            try:
                self._open()
            except BaseException:
                self._close()
                raise

    def __enter__(self) -> Reader:
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
            raise unreadable(self.path, "nothing in its audio track can be decoded")

    def _restart(self) -> None:
        """Forget what was decoded: the container stands somewhere else now."""
        self.packets = self.container.demux(self.stream)
        self.kept: deque[tuple[int, FloatArray]] = deque()  # position of the first sample, and the samples
        self.next: int | None = None  # where the next frame should begin; None until a frame has said where it is
        self.ended = False

    def info(self) -> MediaInfo:
        """What `probe` returns. Reads packets to the end where the length must be counted."""
        with translated(self.path):
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
        window = Window(span, self.rate, rate)
        with translated(self.path):
            self._decode(window)
        first, last = window.first, window.last
        parts = [samples[max(0, first - at) : max(0, last - at)] for at, samples in self.kept]
        found = window.cut(np.concatenate(parts) if parts else np.zeros(0, np.float32))
        if not np.isfinite(found).all():
            raise unreadable(self.path, f"its samples are not finite near {span.start:.2f} s")
        if to_its_end:
            if self.ended:
                check_end(window, found, (self.next or 0) / self.rate, str(self.path))
            if len(found) < _LEAST_SHARE * window.wanted:
                raise unreadable(self.path, f"it has no sound for most of {span.start:.2f} to {span.end:.2f} s")
        return found

    def _decode(self, window: Window) -> None:
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

    def _advance(self, strict: Window | None) -> None:
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
                raise unreadable(self.path, "its sound cannot be decoded") from error
            if strict is not None and self.next is not None and strict.begins <= self.next < strict.ends:
                raise unreadable(self.path, f"it cannot be decoded at {self.next / self.rate:.2f} s") from error
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
            raise unreadable(self.path, f"its sample rate changes from {self.rate} to {frame.sample_rate} Hz")
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
            raise unreadable(self.path, f"its sample format {frame.format.name} is not supported") from error
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
