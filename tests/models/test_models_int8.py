"""int8: quantised with the library's own speech, for a recipe of its own, close to float and never mixed with it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakerdb.cli.main import main
from speakerdb.core.pooling import pool
from speakerdb.errors import ConfigurationError, Conflict, GenerationChanged, InvalidInput, NotCalibrated
from speakerdb.extraction.extract import Loader
from speakerdb.generations import RECIPES, V4
from speakerdb.models.backends import checksum_of
from speakerdb.models.networks import Network, Networks
from speakerdb.models.openvino import OpenVinoEmbedder
from speakerdb.models.port import Embedder
from speakerdb.models.quantising import quantise
from speakerdb.models.registry import LoadedModel, load_embedder
from speakerdb.service import SpeakerDB
from speakerdb.settings import ExtractorSettings, GenerationSettings, Settings
from speakerdb.testing.embedder_contract import EmbedderContract, cosine, synthetic_voice
from speakerdb.types import FloatArray, ModelSpec, Turn
from tests.audio_files import write

pytestmark = pytest.mark.models

RATE = 16_000
INT8 = RECIPES["spread-30-int8"]
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
needs_thorough = pytest.mark.skipif(not THOROUGH, reason="a minute of work, with HYPOTHESIS_PROFILE=thorough")


def voice(number: int, seconds: float) -> FloatArray:
    return synthetic_voice(seconds, RATE, pitch=90 + 14 * number, brightness=0.7 + 0.06 * number)


@pytest.fixture(scope="session")
def network_v4(standin_v4: ModelSpec, open_v4: LoadedModel, models_folder: Path) -> Network:
    kept = Networks(models_folder, metadata.version("openvino")).get(standin_v4.sha256 or "")
    assert kept is not None
    return kept


@pytest.fixture(scope="session")
def quantised(network_v4: Network) -> Network:
    """With a few short made-up voices: what it is close to is another test's matter."""
    return quantise(network_v4, [voice(number, 0.7) for number in range(6)], {"segments": 6})


@pytest.fixture
def folder(tmp_path: Path, network_v4: Network, quantised: Network) -> Path:
    """A folder of models with the float network, and the quantised one of v4."""
    networks = Networks(tmp_path / "models", metadata.version("openvino"))
    networks.put(network_v4)
    networks.put(quantised, "v4")
    return tmp_path / "models"


class TestQuantised(EmbedderContract):
    @pytest.fixture
    def embedder(self, quantised: Network) -> Embedder:
        return OpenVinoEmbedder(quantised, model_id="int8")


def test_its_vectors_are_close_and_not_the_same(network_v4: Network, quantised: Network) -> None:
    voices = [voice(number, 0.8 + 0.1 * number) for number in range(8)]
    exact, ours = (OpenVinoEmbedder(each, model_id="x").embed(voices) for each in (network_v4, quantised))
    cosines = [cosine(row, other) for row, other in zip(exact, ours, strict=True)]
    assert min(cosines) >= 0.98, cosines
    assert max(cosines) < 0.999999
    assert len(quantised.weights) < len(network_v4.weights) / 2


@needs_thorough
@pytest.mark.speech
def test_real_speech_segment_by_segment(network_v4: Network, real_segments: dict[str, list[FloatArray]]) -> None:
    """Measured on the stand-in, calibrated with 40 segments: a segment 0.990 at the lowest, a speaker with ten seconds and
    more 0.996 at the lowest, 0.999 at the median."""
    everything = [each for segments in real_segments.values() for each in segments if each.size >= RATE]
    picked = [everything[at] for at in np.random.default_rng(0).permutation(len(everything))[:40]]
    ours, exact = (
        OpenVinoEmbedder(quantise(network_v4, picked, {}), model_id="q"),
        OpenVinoEmbedder(network_v4, model_id="f"),
    )
    segments: list[float] = []
    speakers: list[float] = []
    for each in real_segments.values():
        long = [segment[: 6 * RATE] for segment in each if segment.size >= RATE]
        rows, others = exact.embed(long), ours.embed(long)
        segments += [cosine(row, other) for row, other in zip(rows, others, strict=True)]
        seconds = [segment.size / RATE for segment in long]
        if sum(seconds) >= 10:
            speakers.append(float(pool(rows, seconds).vector @ pool(others, seconds).vector))
    print(
        f"segments {min(segments):.5f} {np.median(segments):.5f}, speakers {min(speakers):.5f} {np.median(speakers):.5f}"
    )
    assert min(segments) >= 0.98
    assert min(speakers) >= 0.995


class TestLoading:
    def test_names_the_calibration(self, standin_v4: ModelSpec, folder: Path, quantised: Network) -> None:
        loaded = load_embedder(standin_v4, INT8, generation="v4", device="cpu", backend="auto", folder=folder)
        assert loaded.backend == "openvino-int8"
        assert f"calibration {quantised.digest[:8]}" in loaded.description
        assert loaded.checksum == checksum_of(standin_v4.sha256 or "", quantised)
        assert loaded.checksum != standin_v4.sha256
        same = load_embedder(standin_v4, INT8, generation="v4", device="cpu", backend="openvino-int8", folder=folder)
        assert same.checksum == loaded.checksum

    def test_another_calibration_is_another_checksum(self, standin_v4: ModelSpec, quantised: Network) -> None:
        other = replace(quantised, weights=quantised.weights + b"\0")
        assert checksum_of("a", other) != checksum_of("a", quantised) != checksum_of("b", quantised)

    def test_is_the_generations_own(self, standin_v4: ModelSpec, folder: Path) -> None:
        with pytest.raises(NotCalibrated) as caught:
            load_embedder(standin_v4, INT8, generation="v4-other", device="cpu", backend="auto", folder=folder)
        assert "speakerdb models calibrate v4-other" in caught.value.hint
        assert caught.value.scope == "run"

    def test_that_is_damaged_is_never_made_anew_by_itself(self, standin_v4: ModelSpec, folder: Path) -> None:
        (weights,) = (folder / "networks").glob("int8-*/network.bin")
        weights.write_bytes(weights.read_bytes()[:-1])
        with pytest.raises(NotCalibrated, match="damaged"):
            load_embedder(standin_v4, INT8, generation="v4", device="cpu", backend="auto", folder=folder)

    def test_float_beside_int8_in_one_process(self, standin_v4: ModelSpec, folder: Path) -> None:
        """One checkpoint, two generations: neither gets the other's network."""
        load = Loader("cpu", folder=folder, backend="auto")
        backend = replace(load, backend="torch")
        exact = replace(V4, name="v4-float", model=standin_v4)
        coarse = replace(V4, model=standin_v4, recipe=INT8)
        assert load(coarse).backend == "openvino-int8"
        assert backend(exact).backend == "torch"
        with pytest.raises(ConfigurationError, match="says int8"):
            backend(coarse)
        other = replace(coarse, name="v4-again")
        with pytest.raises(NotCalibrated):
            load(other)


def test_sincnet_is_not_quantised(network_v3: Network) -> None:
    with pytest.raises(ConfigurationError, match="XVectorSincNet cannot be quantised"):
        quantise(network_v3, [voice(0, 1.0)], {})


def test_nncf_that_is_not_installed_is_one_sentence(network_v4: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ConfigurationError, match="NNCF") as caught:
        quantise(network_v4, [voice(0, 1.0)], {})
    assert "speakerdb[int8]" in caught.value.hint


def test_a_spectral_model_has_no_network_to_quantise() -> None:
    with pytest.raises(ConfigurationError, match="has no network"):
        load_embedder(ModelSpec("spectral", "spectral-a", 64), INT8)


class TestCalibrate:
    """The verb, on a library of made-up voices. Quantising itself is taken from the fixture: it is minutes of work."""

    @pytest.fixture
    def settings(self, tmp_path: Path, standin_v4: ModelSpec, folder: Path) -> Settings:
        shutil.rmtree(next((folder / "networks").glob("int8-*")))
        return Settings(
            data_dir=tmp_path / "data", executor="inline", disk_floor_mb=0, device="cpu", serving="v4",
            models={"folder": folder}, extractor=ExtractorSettings(),
            generations={
                "v4": GenerationSettings(sha256=standin_v4.sha256, sources=standin_v4.sources, recipe="spread-30-int8"),
                "v3": GenerationSettings(family="spectral", model="spectral-a", dimension=64, recipe="spread-30-int8"),
                "v5": GenerationSettings(family="spectral", model="spectral-b", dimension=64),
            },
        )  # fmt: skip

    @pytest.fixture
    def db(self, settings: Settings, tmp_path: Path) -> Iterator[SpeakerDB]:
        with SpeakerDB.open(settings) as db:
            for number in range(10):
                parts = [voice(2 * number, 3.0), voice(2 * number + 1, 3.0)]
                path = write(tmp_path / f"{number}.wav", np.concatenate(parts), RATE, codec="pcm_s16le")
                db.add(path, (Turn(0.0, 3.0, "A"), Turn(3.0, 6.0, "B")), recording_id=f"r{number}")
            yield db

    @pytest.fixture
    def given(self, monkeypatch: pytest.MonkeyPatch, quantised: Network) -> list[list[FloatArray]]:
        """What was quantised with, each time."""
        found: list[list[FloatArray]] = []

        def quantise(network: Network, segments: list[FloatArray], stated: dict[str, Any]) -> Network:
            found.append(segments)
            return replace(quantised, about=replace(quantised.about, calibration=stated))

        monkeypatch.setattr("speakerdb.calibrating.quantise", quantise)
        return found

    def test_then_extraction_goes_on(self, db: SpeakerDB, given: list[list[FloatArray]]) -> None:
        with pytest.raises(NotCalibrated, match="v4"):
            db.work()
        assert (db.progress().recordings_queued, db.progress().recordings_failed) == (10, 0)
        assert "no network was quantised" in db.status().backends["v4"]
        stages: list[str] = []
        report = db.calibrating.calibrate("v4", segments=12, on_progress=lambda p: stages.append(p.stage))
        assert list(dict.fromkeys(stages)) == ["loading", "decoding", "quantising", "comparing"]
        assert report.segments == len(given[0]) == 12
        assert {segment.size for segment in given[0]} == {3 * RATE}
        assert (report.compared_speakers, report.compared_segments) == (6, 6)
        assert 0.9 < report.lowest_segment <= report.median_segment <= 1.0
        assert 0.9 < report.lowest_speaker <= 1.0
        assert report.skipped == ()
        stated = json.loads((Path(report.folder) / "manifest.json").read_text())["calibration"]
        assert (stated["generation"], stated["segments"]) == ("v4", 12)
        db.work()
        assert db.progress().recordings_done == 10
        assert db.status().backends["v4"].startswith("openvino-int8: its recipe says int8; calibrated 20")
        with pytest.raises(Conflict, match="has vectors already"):
            db.calibrating.calibrate("v4")

    def test_the_same_library_gives_the_same_segments(self, db: SpeakerDB, given: list[list[FloatArray]]) -> None:
        for _ in range(2):
            db.calibrating.calibrate("v4", segments=10)
        assert all(np.array_equal(a, b) for a, b in zip(*given, strict=True))

    def test_vectors_of_another_calibration_are_refused(
        self, db: SpeakerDB, given: list[list[FloatArray]], quantised: Network, folder: Path, settings: Settings
    ) -> None:
        db.calibrating.calibrate("v4", segments=10)
        db.work(limit=1)
        other = replace(quantised, weights=quantised.weights + b"\0" * 64)
        Networks(folder, "x").put(other, "v4")
        with SpeakerDB.open(settings.model_copy(update={"models": settings.models.model_copy()})) as again:
            again.extraction._load = Loader("cpu", folder=folder, allow_unknown=True)  # a process that reads it anew
            with pytest.raises(GenerationChanged):
                again.work()

    def test_a_file_that_cannot_be_read_is_left_out_and_told(
        self, db: SpeakerDB, given: list[list[FloatArray]], tmp_path: Path
    ) -> None:
        for number in (1, 2):
            (tmp_path / f"{number}.wav").write_bytes(b"RIFF")
        report = db.calibrating.calibrate("v4", segments=10)
        assert {told.partition(":")[0] for told in report.skipped} <= {"r1", "r2"}
        assert report.skipped

    def test_what_cannot_be_calibrated_is_told(self, db: SpeakerDB, tmp_path: Path) -> None:
        for generation, told in (("v9", "no generation"), ("v5", "computed in float"), ("v3", "no network")):
            with pytest.raises(ConfigurationError, match=told):
                db.calibrating.calibrate(generation)
        with pytest.raises(InvalidInput):
            db.calibrating.calibrate("v4", segments=3)
        for number in range(8):
            db.remove(f"r{number}")
        with pytest.raises(Conflict, match="segments to calibrate with"):
            db.calibrating.calibrate("v4")

    def test_the_verb(
        self, db: SpeakerDB, settings: Settings, given: list[list[FloatArray]], tmp_path: Path,
        capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        config = tmp_path / "speakerdb.toml"
        tables = [
            f"[generations.{name}]\n"
            + "".join(f"{key} = {json.dumps(value)}\n" for key, value in each.model_dump(exclude_none=True).items())
            for name, each in settings.generations.items()
        ]
        monkeypatch.delenv("SPEAKERDB_EXTRACTOR__BACKEND", raising=False)
        config.write_text(
            'executor = "inline"\ndevice = "cpu"\ndisk_floor_mb = 0\n[extractor]\nbackend = "auto"\n'
            f'[models]\nfolder = "{settings.models_folder}"\n' + "".join(tables)
        )
        monkeypatch.setenv("SPEAKERDB_CONFIG", str(config))  # `--config` would stay for the tests after this one
        base = ["--data-dir", str(settings.data_dir), "models"]
        assert main([*base, "calibrate", "v4", "--segments", "10"]) == 0
        told = capsys.readouterr().out
        assert "quantised with 10 segments" in told
        assert "Carry that folder" in told
        assert main([*base, "calibrate", "v4", "--segments", "10", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["segments"] == 10
        assert main([*base, "list"]) == 0
        assert "computed by openvino-int8: its recipe says int8; calibrated" in capsys.readouterr().out
