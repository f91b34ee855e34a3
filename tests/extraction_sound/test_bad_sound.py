"""Sound that is not as it should be, through the network: it works, or its speaker or recording is told by a code, and the
others of a run are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakerdb.core.selection import TOO_SHORT
from speakerdb.errors import InvalidInput, NotFinite, SpeakerDBError
from speakerdb.extraction.extract import NO_FINITE_VECTOR, Loader, Task, extract
from speakerdb.generations import V3, V4
from speakerdb.service import SpeakerDB
from speakerdb.settings import GenerationSettings, Settings
from speakerdb.types import Embedding, FloatArray, Generation, Turn, Unembeddable, Waveform
from tests.audio_files import write
from tests.synthetic_voices import RATE

pytestmark = pytest.mark.models

SECONDS = 3.0


def talker(pitch: float, formants: tuple[tuple[float, float], ...], seed: int) -> FloatArray:
    """A made-up voice with a pitch that glides, resonances (centre, width) and syllables. Networks tell two of them apart
    (cosine .2 and .3), which they hardly do with shaped noise. Peak 0.5, shape (samples,)."""
    random = np.random.default_rng(seed)
    at = np.arange(round(SECONDS * RATE)) / RATE
    glide = np.tanh(np.cumsum(0.6 * random.standard_normal(int(20 * SECONDS) + 1)))
    phase = 2 * np.pi * np.cumsum(pitch * 2 ** (np.interp(20 * at, np.arange(len(glide)), glide) / 6)) / RATE
    overtones = np.arange(1, int(7500 / pitch))[:, None]
    loudness = 0.003 + sum(np.exp(-0.5 * ((pitch * overtones - centre) / width) ** 2) for centre, width in formants)
    sound = (loudness * np.sin(overtones * phase)).sum(axis=0) * (0.55 + 0.45 * np.sin(8 * np.pi * at + 1))
    sound += 0.002 * random.standard_normal(len(at))
    return np.asarray(0.5 * sound / np.abs(sound).max(), dtype=np.float32)


A = talker(105, ((600, 120), (1100, 150), (2400, 200)), seed=1)
B = talker(230, ((350, 100), (2300, 250), (3200, 300)), seed=2)
SILENCE = np.zeros_like(A)
TURNS = (Turn(0.0, SECONDS, "A"), Turn(SECONDS, 2 * SECONDS, "B"))
WAV: dict[str, Any] = {"codec": "pcm_f32le", "sample_format": "flt"}
LOAD = Loader("cpu", allow_unknown=True, offline=True, backend="torch")


@pytest.fixture(scope="module", params=["v3", "v4"])
def generation(request: pytest.FixtureRequest, standin_models: Path) -> Generation:
    """The stand-in of each architecture: they meet bad sound with different networks."""
    name, base = {"v3": ("standin-xvector-sincnet", V3), "v4": ("standin-wespeaker-resnet34", V4)}[request.param]
    sources = (str(standin_models / name),)
    return GenerationSettings(model=f"test/{name}", sources=sources).applied_to(base, request.param)


Extract = Callable[..., dict[str, Any]]


@pytest.fixture
def results(generation: Generation, tmp_path: Path) -> Extract:
    """What each speaker of a file or a waveform gets."""

    def extracted(sound: Path | Waveform, turns: tuple[Turn, ...] = TURNS) -> dict[str, Any]:
        path, waveform = (str(sound), None) if isinstance(sound, Path) else (None, sound)
        done = extract(Task("rec", 1, generation, turns, 2 * SECONDS, path, None, (), LOAD, waveform))
        return dict(done.results)

    return extracted


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """A WAV file of float32, so that nothing of a sample is lost."""

    def written(*sounds: FloatArray, rate: int = RATE, name: str = "a.wav", **how: Any) -> Path:
        sound = np.concatenate(sounds, axis=-1).astype(np.float64)
        return write(tmp_path / name, sound, rate, **(WAV | how))

    return written


def cosine(one: Any, other: Any) -> float:
    assert isinstance(one, Embedding)
    assert isinstance(other, Embedding)
    return float(one.vector @ other.vector)


@dataclass(frozen=True)
class Case:
    """A recording of A and B that is given to a library: how it is made, and the code it ends with, if any."""

    make: Callable[[Path], Path]
    code: str | None = None
    turns: tuple[Turn, ...] = TURNS


def test_silence_only_is_an_error_and_no_voice(results: Extract, file: Callable[..., Path]) -> None:
    """Both networks answer silence with a vector like any other, and all silence alike."""
    with pytest.raises(NotFinite) as caught:
        results(file(SILENCE, SILENCE))
    assert "silent" in str(caught.value.hint)


def test_a_silent_speaker_is_no_voice_and_the_other_is(results: Extract, file: Callable[..., Path]) -> None:
    found = results(file(A, SILENCE))
    assert isinstance(found["A"], Embedding)
    assert found["B"] == Unembeddable(NO_FINITE_VECTOR)


def test_silence_beside_speech_is_left_out_of_the_pool(results: Extract, file: Callable[..., Path]) -> None:
    turns = (Turn(0.0, SECONDS, "A"), Turn(SECONDS, 2 * SECONDS, "A"))
    found = results(file(A, SILENCE), turns)["A"]
    assert (found.segments, found.seconds) == (1, SECONDS)
    assert cosine(found, results(file(A, B))["A"]) > 0.9999


def test_an_offset_is_not_heard(results: Extract, file: Callable[..., Path]) -> None:
    plain, moved = results(file(A, B)), results(file(A + np.float32(0.4), B - np.float32(0.4)))
    assert min(cosine(plain[name], moved[name]) for name in "AB") > 0.99


def test_loudness_is_not_heard_and_clipping_little(results: Extract, file: Callable[..., Path]) -> None:
    plain = results(file(A, B))
    quiet = results(file(np.float32(0.02) * A, np.float32(0.02) * B))
    clipped = results(file((3 * A).clip(-1, 1), (3 * B).clip(-1, 1)))
    for name, other in (("A", "B"), ("B", "A")):
        assert cosine(plain[name], quiet[name]) > 0.99
        assert cosine(plain[name], clipped[name]) > cosine(plain[name], plain[other]) + 0.1


def test_one_voice_a_channel(results: Extract, file: Callable[..., Path]) -> None:
    """The channels are averaged; whoever talks is heard at half the loudness, in which no network is interested."""
    plain = results(file(A, B))
    stereo = results(file(np.stack([A, SILENCE]), np.stack([SILENCE, B]), layout="stereo"))
    assert min(cosine(plain[name], stereo[name]) for name in "AB") > 0.99


@pytest.mark.parametrize("rate", [8_000, 48_000, 192_000])
def test_other_sample_rates(rate: int, results: Extract, file: Callable[..., Path]) -> None:
    """What the file holds is brought to the model's rate. Of a telephone's 8 kHz half the spectrum is missing."""
    plain, found = results(file(A, B)), results(file(resampled(A, rate), resampled(B, rate), rate=rate))
    if rate > RATE:
        assert min(cosine(plain[name], found[name]) for name in "AB") > 0.99
    else:
        assert cosine(plain["A"], found["A"]) > cosine(plain["A"], found["B"])
        assert cosine(plain["B"], found["B"]) > cosine(plain["B"], found["A"])


def resampled(sound: FloatArray, rate: int) -> FloatArray:
    """The same sound at another rate, by its spectrum."""
    size = round(len(sound) * rate / RATE)
    spectrum = np.fft.rfft(sound)[: size // 2 + 1]
    return np.asarray(np.fft.irfft(spectrum, size) * size / len(sound), dtype=np.float32)


def test_a_turn_of_a_fifth_of_a_second(results: Extract, file: Callable[..., Path]) -> None:
    found = results(file(A, B), (Turn(0.0, SECONDS, "A"), Turn(SECONDS, SECONDS + 0.2, "B")))
    assert isinstance(found["A"], Embedding)
    assert found["B"] == Unembeddable(TOO_SHORT, pytest.approx(0.2))


def test_samples_that_are_not_numbers(results: Extract, file: Callable[..., Path]) -> None:
    """In a file they are an error where somebody's speech is, and nowhere else; in a waveform anywhere."""
    broken = B.copy()
    broken[RATE] = np.nan
    with pytest.raises(SpeakerDBError) as caught:
        results(file(A, broken))
    assert caught.value.code == "media-unreadable"
    assert isinstance(results(file(A, broken), TURNS[:1])["A"], Embedding)
    with pytest.raises(InvalidInput):
        results(Waveform(np.concatenate([A, broken]), RATE))


def silent(path: Path) -> Path:
    return write(path, np.zeros(round(2 * SECONDS * RATE)), RATE, **WAV)


def not_numbers(path: Path) -> Path:
    sound = np.concatenate([A, B]).astype(np.float64)
    sound[RATE : 2 * RATE] = np.nan
    return write(path, sound, RATE, **WAV)


def ends_early(path: Path) -> Path:
    """Its header says how long it was."""
    made = write(path.with_suffix(".flac"), np.concatenate([A, B]).astype(np.float64), RATE, codec="flac")
    made.write_bytes(made.read_bytes()[: made.stat().st_size * 2 // 3])
    return made


def telephone(path: Path) -> Path:
    sound = np.concatenate([resampled(A, 8_000), resampled(B, 8_000)]).astype(np.float64)
    return write(path, sound, 8_000, codec="pcm_mulaw")


def clipped(path: Path) -> Path:
    return write(path, (20 * np.concatenate([A, B]).astype(np.float64)).clip(-1, 1), RATE, codec="pcm_s16le")


def uneven_film(path: Path) -> Path:
    sound = np.concatenate([resampled(A, 44_100), resampled(B, 44_100)]).astype(np.float64)
    how = {"codec": "aac", "sample_format": "fltp", "picture": True, "uneven": True}
    return write(path.with_suffix(".mp4"), sound, 44_100, **how)


def opposite_channels(path: Path) -> Path:
    """A cable with its poles exchanged: the mean of both channels is nothing."""
    sound = np.concatenate([A, B]).astype(np.float64)
    return write(path, np.stack([sound, -sound]), RATE, layout="stereo", **WAV)


def whole(path: Path) -> Path:
    return write(path, np.concatenate([A, B]).astype(np.float64), RATE, **WAV)


RUN = {
    "silent": Case(silent, "not-finite"),
    "not-numbers": Case(not_numbers, "media-unreadable"),
    "ends-early": Case(ends_early, "media-unreadable"),
    "opposite": Case(opposite_channels, "not-finite"),
    "telephone": Case(telephone),
    "clipped": Case(clipped),
    "film": Case(uneven_film),
    "short-turn": Case(whole, turns=(TURNS[0], Turn(SECONDS, SECONDS + 0.2, "B"))),
    "whole": Case(whole),
}


@pytest.fixture
def library(tmp_path: Path, standin_models: Path) -> Iterator[SpeakerDB]:
    source = standin_models / "standin-wespeaker-resnet34"
    settings = Settings(
        data_dir=tmp_path / "data",
        serving="v4",
        generations={"v4": GenerationSettings(model="test/standin", sources=(str(source),))},
        executor="inline",
        allow_unknown_checkpoints=True,
        disk_floor_mb=0,
    )
    with SpeakerDB.open(settings, load_embedder=LOAD) as db:
        yield db


def test_a_run_over_all_of_them_stops_for_none(library: SpeakerDB, tmp_path: Path) -> None:
    """Each that fails has its code, and was tried once; all others are embedded and found."""
    for name, case in RUN.items():
        path = case.make(tmp_path / f"{name}.wav")
        report = library.add(path, case.turns, recording_id=name)
        assert report.queued == ("v4",)
    done = library.work()
    assert {error.recording_id: error.code for error in done.errors} == {
        name: case.code for name, case in RUN.items() if case.code
    }
    assert done.recordings_done == sum(case.code is None for case in RUN.values())
    assert all(error.attempts == 1 for error in done.errors)
    speakers = {view.id: (view.recording_id, view.label) for view in library.speakers()}
    asked = next(id for id, (recording, label) in speakers.items() if (recording, label) == ("whole", "A"))
    found = {speakers[each.id]: each.score for each in library.match(speaker=asked, k=20).matches}
    assert set(found) == {(name, label) for name in ("telephone", "clipped", "film") for label in "AB"} | {
        ("short-turn", "A")
    }
    assert found["short-turn", "A"] > 0.9999
    assert found["film", "A"] > found["film", "B"] + 0.3
