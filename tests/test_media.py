"""Media files: spans against the decode of the whole file, and every kind of file that is not what it should be."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakerdb.errors import InvalidInput, MediaForbidden, MediaMissing, MediaTooShort, MediaUnreadable, NoAudioTrack
from speakerdb.media import (
    FINGERPRINT_BYTES,
    check_allowed,
    decode_all,
    decode_spans,
    fingerprint,
    probe,
    waveform_spans,
)
from speakerdb.media.reader import _OPTIONS, Reader
from speakerdb.types import FloatArray, Span, Waveform
from tests.audio_files import chirps, write, write_long_wav, write_silent_film

SECONDS = 30
RATE = 16000
SPANS = [
    Span(0, 1.5),
    Span(1.5, 3),  # touches
    Span(2.2, 4.7),  # overlaps
    Span(4.9, 5.1),  # near
    Span(7.12345, 9.45678),
    Span(20.3333, 26.3333),  # far
    Span(28.5, 29.9),
]

MP3: dict[str, Any] = {"codec": "libmp3lame", "sample_format": "s16p"}
AAC: dict[str, Any] = {"codec": "aac", "sample_format": "fltp", "bit_rate": 96000}
OPUS: dict[str, Any] = {"codec": "libopus", "sample_format": "flt", "bit_rate": 48000}
# name: (file, sample rate, channels, how it is encoded, samples that a span may lie beside the whole decode)
FILES: dict[str, tuple[str, int, int, dict[str, Any], float]] = {
    "wav-stereo": ("a.wav", 44100, 2, {"codec": "pcm_s16le", "layout": "stereo"}, 0),
    "wav-8k": ("b.wav", 8000, 1, {"codec": "pcm_s16le"}, 0),
    "wav-16k": ("c.wav", 16000, 1, {"codec": "pcm_s16le"}, 0),
    "wav-f64": ("d.wav", 48000, 1, {"codec": "pcm_f64le", "sample_format": "dbl"}, 0),
    "wav-s24": ("e.wav", 48000, 1, {"codec": "pcm_s24le", "sample_format": "s32"}, 0),
    "wav-u8": ("f.wav", 22050, 1, {"codec": "pcm_u8", "sample_format": "u8"}, 0),
    "wav-192k": ("r.wav", 192000, 1, {"codec": "pcm_s16le"}, 0),
    "flac-7.1": ("s.flac", 48000, 8, {"codec": "flac", "layout": "7.1"}, 0),
    "flac-5.1": ("g.flac", 48000, 6, {"codec": "flac", "layout": "5.1"}, 0),
    "mp3": ("h.mp3", 44100, 2, {**MP3, "layout": "stereo", "bit_rate": 128000}, 0.05),
    "mp3-no-header": ("i.mp3", 44100, 1, {**MP3, "bit_rate": 64000, "options": {"write_xing": "0"}}, 0.05),
    "mp3-16k": ("j.mp3", 16000, 1, {**MP3, "bit_rate": 24000}, 0.05),
    "m4a": ("k.m4a", 44100, 2, {**AAC, "layout": "stereo"}, 0.001),
    "adts": ("l.aac", 44100, 1, {**AAC, "container": "adts"}, 0.001),
    "opus": ("m.opus", 48000, 1, OPUS, 0.001),
    "webm": ("n.webm", 48000, 1, OPUS, 0.001),
    "webm-live": ("n2.webm", 48000, 1, {**OPUS, "options": {"live": "1"}}, 0.001),
    "ts-video": ("o.ts", 44100, 1, {**AAC, "picture": True, "container": "mpegts"}, 0.001),
    "mp4-uneven": ("t.mp4", 48000, 2, {**AAC, "layout": "stereo", "picture": True, "uneven": True}, 0.001),
    "mp4-video-late": ("p.mp4", 44100, 1, {**AAC, "picture": True, "start": 3.0}, 0.001),
    "mkv-late": ("q.mkv", 44100, 1, {**AAC, "start": 2.5}, 0.001),
}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("media")

    def made(name: str) -> Path:
        file, rate, channels, how, _ = FILES[name]
        path = folder / file
        if not path.exists():
            sound = chirps(SECONDS, rate)
            write(path, np.stack([sound] * channels), rate, **how)
        return path

    return made


def close(found: FloatArray, wanted: Any, tolerance: float) -> bool:
    """Whether no sample is further off than `tolerance` (on long arrays `pytest.approx` takes seconds)."""
    return bool(np.abs(found - wanted).max() <= tolerance)


def offset(whole: FloatArray, span: Span, found: FloatArray) -> float:
    """Seconds that `found` lies beside its span in `whole`, by cross-correlation within 0.1 s."""
    at, reach = round(span.start * RATE), RATE // 10
    before = min(at, reach)
    part = whole[at - before : at + len(found) + reach]
    return (int(np.correlate(part, found, "valid").argmax()) - before) / RATE


@pytest.mark.parametrize("name", FILES)
def test_spans_are_those_of_the_whole_decode(make: Callable[[str], Path], name: str) -> None:
    path, tolerance = make(name), FILES[name][-1]
    whole = decode_all(path, RATE, 1e6)
    found = list(decode_spans(path, SPANS))
    assert len(whole) == pytest.approx(SECONDS * RATE, abs=0.05 * RATE)
    for span, samples in zip(SPANS, found, strict=True):
        assert samples.dtype == np.float32
        assert samples.flags.c_contiguous
        assert len(samples) == round(span.seconds * RATE)
        beside = offset(whole, span, samples)
        assert abs(beside) <= tolerance
        at = round((span.start + beside) * RATE)
        part = whole[at : at + len(samples)]
        if path.suffix in (".webm", ".mkv"):  # timestamps in whole milliseconds: between two samples
            assert np.corrcoef(part, samples[: len(part)])[0, 1] > 0.95
        else:
            assert close(samples, part, 2e-5)


@pytest.mark.parametrize("name", ["wav-stereo", "wav-8k", "wav-192k", "wav-f64", "wav-u8", "flac-5.1", "flac-7.1"])
def test_the_sound_is_the_one_that_was_encoded(make: Callable[[str], Path], name: str) -> None:
    """Lossless files give back the signal itself, which is band-limited and so has one true resampling."""
    _, rate, channels, _, _ = FILES[name]
    times = np.arange(RATE * SECONDS) / RATE
    sound = chirps(SECONDS, rate)
    true = np.fft.irfft(np.fft.rfft(sound)[: RATE * SECONDS // 2 + 1], RATE * SECONDS) * (RATE / rate)
    if rate < RATE:
        spectrum = np.zeros(RATE * SECONDS // 2 + 1, complex)
        spectrum[: rate * SECONDS // 2 + 1] = np.fft.rfft(sound)
        true = np.fft.irfft(spectrum, RATE * SECONDS) * (RATE / rate)
    assert len(true) == len(times)
    for span, samples in zip(SPANS[4:], decode_spans(make(name), SPANS[4:]), strict=True):
        at = round(span.start * RATE)
        assert close(samples, true[at : at + len(samples)], 0.01 if name == "wav-u8" else 0.002)
    assert channels in (1, 2, 6, 8)


def test_channels_are_averaged_and_the_low_frequency_one_is_left_out(tmp_path: Path) -> None:
    channels = np.stack([np.full(RATE * 2, level) for level in (0.1, 0.2, 0.3, 0.9, 0.4, 0.5)])  # the fourth is LFE
    path = write(tmp_path / "surround.wav", channels, RATE, codec="pcm_s16le", layout="5.1")
    assert probe(path).channels == 6
    (samples,) = decode_spans(path, [Span(0.5, 1.5)])
    assert close(samples, 0.3, 1e-3)


@pytest.mark.parametrize(
    ("name", "codec", "rate", "channels"),
    [
        ("wav-stereo", "pcm_s16le", 44100, 2),
        ("mp3", "mp3", 44100, 2),
        ("mp3-no-header", "mp3", 44100, 1),
        ("m4a", "aac", 44100, 2),
        ("adts", "aac", 44100, 1),
        ("opus", "opus", 48000, 1),
        ("webm-live", "opus", 48000, 1),
        ("mp4-video-late", "aac", 44100, 1),
    ],
)
def test_probe(make: Callable[[str], Path], name: str, codec: str, rate: int, channels: int) -> None:
    info = probe(make(name))
    assert (info.codec, info.sample_rate, info.channels) == (codec, rate, channels)
    assert info.seconds == pytest.approx(SECONDS, abs=0.1)


def test_the_length_of_half_an_mp3_is_not_the_one_in_its_header(make: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("mp3", "mp3-no-header"):
        data = make(name).read_bytes()
        half = tmp_path / f"{name}.mp3"
        half.write_bytes(data[: len(data) // 2])
        assert probe(half).seconds == pytest.approx(SECONDS / 2, abs=0.2)


def test_reading_begins_only_where_it_is_needed(make: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader keeps no more than a span, whatever lies before it."""

    most = 0
    keep = Reader._keep

    def watched(self: Any, frame: Any) -> None:
        nonlocal most
        keep(self, frame)
        most = max(most, sum(len(samples) for _, samples in self.kept))

    monkeypatch.setattr(Reader, "_keep", watched)
    monkeypatch.setattr("speakerdb.media.reader._NEAR_SECONDS", 1e9)  # decode through everything
    list(decode_spans(make("wav-16k"), [Span(1, 2), Span(27, 28)]))
    assert most < 2 * RATE


def test_the_pictures_of_the_uneven_film_are_uneven(make: Callable[[str], Path]) -> None:
    import av

    with av.open(str(make("mp4-uneven"))) as film:
        times = [float(frame.pts * frame.time_base) for frame in film.decode(video=0)]
    assert len({round(after - before, 2) for before, after in itertools.pairwise(times)}) > 2


def test_ten_hours_are_read_where_they_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    sound = chirps(6, RATE)
    path = write_long_wav(tmp_path / "day.wav", 36_000, {3.0: sound, 35_990.0: sound})
    assert probe(path).seconds == pytest.approx(36_000)
    packets = 0
    advance = Reader._advance

    def counted(self: Any, strict_from: int | None) -> None:
        nonlocal packets
        packets += 1
        advance(self, strict_from)

    monkeypatch.setattr(Reader, "_advance", counted)
    for samples in decode_spans(path, [Span(4, 8), Span(35_991, 35_995)]):
        assert close(samples, sound[RATE : 5 * RATE], 1e-3)
    assert packets < 1000
    with pytest.raises(MediaTooShort):
        list(decode_spans(path, [Span(35_999, 36_001)]))


def test_a_file_that_cannot_be_sought_in_is_read_from_its_beginning(
    make: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:

    expected = list(decode_spans(make("m4a"), SPANS))
    seek = Reader._seek

    def unable(self: Any, position: int) -> None:
        self.seekable = False
        seek(self, position)

    monkeypatch.setattr(Reader, "_seek", unable)
    for samples, wanted in zip(decode_spans(make("m4a"), SPANS), expected, strict=True):
        assert close(samples, wanted, 1e-4)


# The end of the sound


def test_a_span_may_reach_a_little_beyond_the_end(make: Callable[[str], Path]) -> None:
    path = make("wav-stereo")
    first, last = decode_spans(path, [Span(28, 29), Span(29, 30.09)])
    assert (len(first), len(last)) == (RATE, RATE)
    assert last[-1] != 0  # never padded
    for late in (Span(29, 30.11), Span(31, 32), Span(3000, 3001)):
        sound = decode_spans(path, [Span(0, 1), late])
        assert len(next(sound)) == RATE
        with pytest.raises(MediaTooShort) as caught:
            next(sound)
        assert caught.value.details["ends"] == pytest.approx(SECONDS, abs=0.01)


@pytest.mark.parametrize("name", ["mp3", "m4a", "opus", "webm", "adts"])
def test_a_span_far_beyond_the_end_of_a_compressed_file(make: Callable[[str], Path], name: str) -> None:
    with pytest.raises(MediaTooShort) as caught:
        list(decode_spans(make(name), [Span(500, 501)]))
    assert caught.value.details["ends"] == pytest.approx(SECONDS, abs=0.1)


def test_decode_all_stops_at_its_limit(make: Callable[[str], Path]) -> None:
    assert len(decode_all(make("m4a"), RATE, 2.5)) == 40000
    assert len(decode_all(make("wav-8k"), 8000, 60.0)) == SECONDS * 8000


def test_a_hole_in_the_file_is_left_out_and_not_filled(tmp_path: Path) -> None:
    path = write(tmp_path / "hole.mkv", chirps(20, RATE), RATE, codec="pcm_s16le", hole=(8.0, 12.0))
    before, across, after = decode_spans(path, [Span(5, 6), Span(6, 10), Span(13, 14)])
    whole = chirps(20, RATE)
    assert close(before, whole[5 * RATE : 6 * RATE], 1e-3)
    assert len(across) == pytest.approx(2 * RATE, abs=2048)
    assert close(after, whole[13 * RATE : 14 * RATE], 1e-3)
    with pytest.raises(MediaUnreadable, match="no sound"):
        list(decode_spans(path, [Span(9, 11)]))


@pytest.mark.parametrize(
    "spans",
    [
        [Span(2, 3), Span(1, 2)],
        [Span(1, 1)],
        [Span(2, 1)],
        [Span(-1, 1)],
        [Span(float("nan"), 1)],
        [Span(0, float("inf"))],
    ],
)
def test_spans_that_make_no_sense_are_refused_at_once(make: Callable[[str], Path], spans: list[Span]) -> None:
    with pytest.raises(InvalidInput):
        decode_spans(make("wav-16k"), spans)
    with pytest.raises(InvalidInput):
        waveform_spans(Waveform(np.zeros(RATE, np.float32), RATE), spans)
    with pytest.raises(InvalidInput):
        decode_spans(make("wav-16k"), [Span(0, 1)], 0)


# Files that are not what they should be


def reads(path: Path) -> list[Callable[[], object]]:
    return [
        lambda: probe(path),
        lambda: list(decode_spans(path, [Span(0, 1)])),
        lambda: decode_all(path, RATE, 10.0),
    ]


WRONG = {
    "empty.wav": b"",
    "words.mp3": b"This is a letter and not music.\n" * 200,
    "page.html": b"<html><body>hello</body></html>" * 50,
    "subtitles.srt": b"1\n00:00:00,000 --> 00:00:05,000\nHello\n",
    "noise.m4a": np.random.default_rng(3).bytes(200_000),
    "noise.bin": np.random.default_rng(4).bytes(200_000),
    "zeros.wav": bytes(100_000),
    "riff.wav": b"RIFF\x24\x00\x00\x00WAVEfmt ",
    "picture.ppm": b"P6\n2 2\n255\n" + bytes(12),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_media(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(WRONG[name])
    for read in reads(path):
        with pytest.raises(MediaUnreadable) as caught:
            read()
        assert str(path) in caught.value.message
        assert caught.value.hint


def test_headers_cut_off_at_any_byte(make: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("wav-stereo", "m4a", "flac-5.1", "webm", "mp3"):
        data = make(name).read_bytes()
        for length in (1, 4, 12, 20, 30, 43):
            path = tmp_path / f"{length}{make(name).suffix}"
            path.write_bytes(data[:length])
            with pytest.raises((MediaUnreadable, NoAudioTrack)):
                probe(path)


def test_a_file_cut_in_half_is_short_or_unreadable_and_never_wrong(make: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("wav-16k", "flac-5.1", "mp3", "m4a", "opus", "webm", "ts-video"):
        data = make(name).read_bytes()
        path = tmp_path / make(name).name
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises((MediaTooShort, MediaUnreadable)):
            list(decode_spans(path, [Span(25, 27)]))


def test_damage_inside_a_span_is_an_error_and_elsewhere_is_not(make: Callable[[str], Path], tmp_path: Path) -> None:
    data = bytearray(make("m4a").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 10_000] = bytes(10_000)
    path = tmp_path / "damaged.m4a"
    path.write_bytes(data)
    with pytest.raises(MediaUnreadable, match="cannot be decoded at 1") as caught:
        list(decode_spans(path, [Span(13, 17)]))
    assert caught.value.__cause__ is not None
    sound = decode_spans(path, [Span(2, 3), Span(24, 25)])
    expected = decode_spans(make("m4a"), [Span(2, 3), Span(24, 25)])
    for samples, wanted in zip(sound, expected, strict=True):
        assert close(samples, wanted, 1e-5)


@pytest.mark.parametrize("name", ["mp3", "adts", "flac-5.1", "wav-16k"])
def test_bytes_behind_the_sound_do_no_harm(make: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    path = tmp_path / make(name).name
    path.write_bytes(make(name).read_bytes() + bytes(3000))
    (expected,) = decode_spans(make(name), [Span(25, 29.99)])
    (samples,) = decode_spans(path, [Span(25, 29.99)])
    assert len(expected) - len(samples) <= 0.1 * RATE
    assert close(samples[: -RATE // 10], expected[: len(samples) - RATE // 10], 1e-4)


def test_samples_that_are_not_finite(tmp_path: Path) -> None:
    sound = chirps(4, RATE)
    sound[2 * RATE] = np.nan
    path = write(tmp_path / "nan.wav", sound, RATE, codec="pcm_f32le", sample_format="flt")
    assert len(next(decode_spans(path, [Span(0, 1)]))) == RATE
    with pytest.raises(MediaUnreadable, match="finite"):
        list(decode_spans(path, [Span(1.5, 2.5)]))


def test_a_film_without_sound(tmp_path: Path) -> None:
    for read in reads(write_silent_film(tmp_path / "silent.mp4")):
        with pytest.raises(NoAudioTrack):
            read()


def test_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path / "none.wav", tmp_path / "file" / "below.wav", tmp_path / "nowhere" / "none.wav"):
        for read in (*reads(path), lambda p=path: fingerprint(p), lambda p=path: check_allowed(p, ())):
            with pytest.raises(MediaMissing):
                read()


def test_what_is_not_a_regular_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe, Path("/dev/zero")):
        for read in (*reads(path), lambda p=path: fingerprint(p), lambda p=path: check_allowed(p, ())):
            with pytest.raises(MediaUnreadable, match="regular"):
                read()


def test_names_that_no_encoding_knows(make: Callable[[str], Path], tmp_path: Path) -> None:
    for name in (b"\xff\xfe.wav", "Gespr\u00e4ch \u0001 %d.wav".encode(), b"http:x.wav", b"-i.wav", b"a:b?c=d.wav"):
        path = tmp_path / os.fsdecode(name)
        path.write_bytes(make("wav-8k").read_bytes())
        assert probe(path).seconds == SECONDS
    with pytest.raises(MediaUnreadable):
        check_allowed(Path("a\0b"), ())


def test_tags_in_another_encoding(make: Callable[[str], Path], tmp_path: Path) -> None:
    data = make("wav-8k").read_bytes()
    tag = b"LIST\x10\x00\x00\x00INFOINAM\x04\x00\x00\x00\xe9\xff\xfe\x00"
    path = tmp_path / "latin.wav"
    path.write_bytes(data[:36] + tag + data[36:])
    assert probe(path).codec == "pcm_s16le"


# Nothing but the file itself is ever opened


def playlists(target: Path, port: int) -> dict[str, str]:
    url = f"http://127.0.0.1:{port}/a.wav"
    return {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:30\n#EXTINF:30,\n{target}\n#EXTINF:30,\n{url}\n#EXT-X-ENDLIST\n",
        "remote.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:30\n#EXTINF:30,\n{url}\n#EXT-X-ENDLIST\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile '{target.name}'\nfile '{url}'\n",
        "list.m3u": f"{url}\n",
        "talk.mpd": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet '
        f'mimeType="audio/mp4"><Representation id="1" bandwidth="1"><BaseURL>{url}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>",
        "talk.sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n",
    }


def test_a_playlist_opens_nothing(make: Callable[[str], Path], tmp_path: Path) -> None:
    target = tmp_path / "secret.wav"
    target.write_bytes(make("wav-8k").read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        for name, text in playlists(target, server.getsockname()[1]).items():
            for ending in ("", ".wav"):
                path = tmp_path / (name + ending)
                path.write_text(text)
                for read in reads(path):
                    with pytest.raises(MediaUnreadable):
                        read()
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("demuxers", ["hls", "concat", "hls,concat,dash,wav"])
def test_even_an_allowed_playlist_could_open_nothing(
    make: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demuxers: str
) -> None:
    """The second lock: with the list of demuxers out of the way, FFmpeg's protocols are still off."""

    monkeypatch.setitem(_OPTIONS, "format_whitelist", demuxers)
    target = tmp_path / "secret.wav"
    target.write_bytes(make("wav-8k").read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        for name, text in playlists(target, server.getsockname()[1]).items():
            path = tmp_path / name
            path.write_text(text)
            with pytest.raises((MediaUnreadable, NoAudioTrack, MediaMissing)):
                probe(path)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    "name",
    [
        "http://127.0.0.1:9/a.wav",
        "concat:a.wav|b.wav",
        "data:audio/wav;base64,UklGRg==",
        "pipe:0",
        "subfile,,start,0,:a",
    ],
)
def test_a_protocol_is_a_name_of_no_file(name: str) -> None:
    for read in reads(Path(name)):
        with pytest.raises(MediaMissing):
            read()


# Where files may lie


def test_roots(tmp_path: Path) -> None:
    inside, outside = tmp_path / "media", tmp_path / "media-private"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a.wav").write_bytes(b"x")
    (inside / "link.wav").symlink_to(outside / "a.wav")
    (inside / "good.wav").symlink_to(inside / "a.wav")
    (tmp_path / "alias").symlink_to(inside)
    real = (inside / "a.wav").resolve()
    for roots in ((), (inside,), (tmp_path / "none", inside), (tmp_path / "alias",)):
        for path in (
            inside / "a.wav",
            inside / "good.wav",
            tmp_path / "alias" / "a.wav",
            outside / ".." / "media" / "a.wav",
        ):
            assert check_allowed(path, roots) == real
    for path in (
        outside / "a.wav",
        inside / "link.wav",
        inside / ".." / "media-private" / "a.wav",
        Path("/etc/passwd"),
    ):
        with pytest.raises(MediaForbidden):
            check_allowed(path, (inside,))
    with pytest.raises(MediaForbidden):  # and does not tell whether it exists
        check_allowed(outside / "none.wav", (inside,))
    with pytest.raises(MediaMissing):
        check_allowed(inside / "none.wav", (inside,))
    loop = inside / "loop.wav"
    loop.symlink_to(loop)
    with pytest.raises(MediaUnreadable):
        check_allowed(loop, (inside,))


def test_fingerprints(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def of(data: bytes) -> tuple[int, str]:
        path.write_bytes(data)
        found = fingerprint(path)
        return found.size, found.digest

    data = np.random.default_rng(1).bytes(3 * FINGERPRINT_BYTES)
    assert of(data) == of(data)
    assert of(b"")[0] == 0
    for at in (0, FINGERPRINT_BYTES - 1, 2 * FINGERPRINT_BYTES, len(data) - 1):
        changed = bytearray(data)
        changed[at] ^= 1
        assert of(bytes(changed)) != of(data)
    assert of(data + b"\0")[0] == len(data) + 1
    small = data[: 2 * FINGERPRINT_BYTES]
    for at in (0, FINGERPRINT_BYTES, len(small) - 1):
        changed = bytearray(small)
        changed[at] ^= 1
        assert of(bytes(changed)) != of(small)


# In-memory sound


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000, 11025, 44056])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_waveform_spans_are_those_of_the_whole(rate: int, kind: type) -> None:
    waveform = Waveform(chirps(SECONDS, rate).astype(kind), rate)
    (whole,) = waveform_spans(waveform, [Span(0, SECONDS)])
    assert len(whole) == SECONDS * RATE
    for span, samples in zip(SPANS, waveform_spans(waveform, SPANS), strict=True):
        at = round(span.start * RATE)
        assert samples.dtype == np.float32
        assert len(samples) == round(span.seconds * RATE)
        assert close(samples, whole[at : at + len(samples)], 2e-6)


def test_waveform_spans_at_the_same_rate_are_copies() -> None:
    sound = chirps(2, RATE).astype(np.float32)
    (part,) = waveform_spans(Waveform(sound, RATE), [Span(0.5, 1.0)])
    assert (part == sound[RATE // 2 : RATE]).all()
    part[:] = 0
    assert sound[RATE // 2 : RATE].any()


def test_the_end_of_a_waveform() -> None:
    waveform = Waveform(chirps(2, RATE).astype(np.float32), RATE)
    (part,) = waveform_spans(waveform, [Span(1, 2.05)])
    assert len(part) == RATE
    for span in (Span(1, 2.2), Span(5, 6)):
        with pytest.raises(MediaTooShort):
            list(waveform_spans(waveform, [span]))


@pytest.mark.parametrize(
    ("samples", "rate"),
    [
        (np.zeros((2, 100), np.float32), RATE),
        (np.zeros(100, np.int16), RATE),
        (np.array([0.0, np.nan], np.float32), RATE),
        (np.array([0.0, np.inf], np.float32), RATE),
        (np.array([0.0, 1e300], np.float64), RATE),
        ([0.0, 0.0], RATE),
        (np.zeros(100, np.float32), 0),
        (np.zeros(100, np.float32), -8000),
    ],
)
def test_waveforms_that_make_no_sense_are_refused_at_once(samples: Any, rate: int) -> None:
    with pytest.raises(InvalidInput):
        waveform_spans(Waveform(samples, rate), [Span(0, 1)])
