"""What is fastest on this machine is measured, remembered, and measured again when what it depends on changes."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakerdb.errors import ConfigurationError, ModelUnavailable
from speakerdb.models import backends, choosing, processor, telling
from speakerdb.models.choosing import Candidate, Choice, Choices, Measured, measure
from speakerdb.models.networks import Network, Networks
from speakerdb.models.openvino import OpenVinoEmbedder
from speakerdb.models.port import Embedder
from speakerdb.models.processor import Machine, this_machine
from speakerdb.models.registry import load_embedder
from speakerdb.settings import ExtractorSettings, GenerationSettings, Settings
from speakerdb.types import FloatArray, ModelSpec, Recipe

MACHINE = Machine("a processor", ("avx2",), 2, (("openvino", "1"),))
SUM = "a" * 64


class Turned:
    """Gives vectors turned by an angle from those of the reference; costs nothing, whose time is made up."""

    model_id, dimension, sample_rate, min_samples = "made-up", 8, 16_000, 8_000

    def __init__(self, clock: list[float], cost: float, angle: float = 0.0) -> None:
        self._clock, self._cost, self._angle = clock, cost, angle
        self.forwards = 0

    def embed(self, segments: Sequence[FloatArray]) -> FloatArray:
        self.forwards += len(segments)
        self._clock[0] += self._cost
        rows = np.zeros((len(segments), 8), dtype=np.float32)
        rows[:, 0], rows[:, 1] = np.cos(self._angle), np.sin(self._angle)
        return rows


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(choosing.time, "perf_counter", lambda: now[0])
    return now


def test_the_fastest_that_gives_the_same_vectors_is_chosen(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Embedder:
        raise ModelUnavailable("it could not be converted to OpenVINO (RuntimeError)")

    with caplog.at_level(logging.INFO):
        choice = measure(
            "m", SUM, MACHINE, Turned(clock, 0.4),
            [
                Candidate("openvino", "f32", 2, lambda: Turned(clock, 0.2)),
                Candidate("openvino", "bf16", 2, lambda: Turned(clock, 0.05, angle=0.03)),
                Candidate("openvino", "f32", 8, broken),
            ],
        )  # fmt: skip
    assert (choice.best.backend, choice.best.precision, choice.best.streams) == ("openvino", "f32", 2)
    assert choice.best.speed == pytest.approx(8.0 / 0.2)
    assert [one.usable for one in choice.measured] == [False, True, True, False]
    for told in ("f32 in 2 streams 40", "torch f32 20", "other vectors (cosine 0.99955)", "could not be converted"):
        assert told in choice.why
        assert told in caplog.text


def test_torch_is_chosen_where_it_is_fastest(clock: list[float]) -> None:
    slow = Candidate("openvino", "f32", 2, lambda: Turned(clock, 0.5))
    assert measure("m", SUM, MACHINE, Turned(clock, 0.1), [slow]).best.backend == "torch"


def test_on_a_slow_machine_one_round_has_to_do(clock: list[float]) -> None:
    reference = Turned(clock, 30.0)
    measure("m", SUM, MACHINE, reference, [])
    assert reference.forwards == 2 * 4, "its vectors, and one round"


class TestRemembered:
    @pytest.fixture
    def choice(self) -> Choice:
        return Choice("m", SUM, MACHINE, "2026-11-28T00:00:00Z", (Measured("openvino", "f32", 2, 41.0, 1.0),))

    @pytest.fixture
    def choices(self, tmp_path: Path, choice: Choice) -> Choices:
        found = Choices(tmp_path)
        with found.alone():
            found.keep(choice)
        return found

    def test_comes_back_as_it_was(self, choices: Choices, choice: Choice) -> None:
        assert choices.remembered(SUM, MACHINE) == choice

    @pytest.mark.parametrize(
        "other",
        [
            replace(MACHINE, processor="another"),
            replace(MACHINE, features=("avx2", "amx_bf16")),
            replace(MACHINE, threads=4),
            replace(MACHINE, versions=(("openvino", "2"),)),
        ],
    )
    def test_is_no_answer_for_another_machine(self, choices: Choices, other: Machine) -> None:
        assert choices.remembered(SUM, other) is None
        assert choices.remembered("b" * 64, MACHINE) is None

    def test_is_told_of_whatever_the_threads(self, choices: Choices, choice: Choice) -> None:
        assert choices.latest("m", None, replace(MACHINE, threads=8)) == choice
        assert choices.latest("m", SUM, MACHINE) == choice
        assert choices.latest("other", None, MACHINE) is None
        assert choices.latest("m", "b" * 64, MACHINE) is None
        assert choices.latest("m", SUM, replace(MACHINE, processor="another")) is None

    @pytest.mark.parametrize("damage", ["", "[]", "{", '{"machine": {}}', "none usable"])
    def test_that_is_damaged_is_measured_again(
        self, choices: Choices, tmp_path: Path, damage: str, choice: Choice
    ) -> None:
        (path,) = (tmp_path / "choices").glob("*.json")
        if damage == "none usable":
            given = json.loads(path.read_text())
            given["measured"][0]["parity"] = 0.5
            damage = json.dumps(given)
        path.write_text(damage)
        assert choices.remembered(SUM, MACHINE) is None
        assert choices.latest("m", None, MACHINE) is None
        choices.keep(choice)
        assert choices.remembered(SUM, MACHINE) == choice


@pytest.mark.models
class TestAuto:
    @pytest.fixture
    def folder(self, tmp_path: Path, network_v3: Network) -> Path:
        """A folder of models with the smaller stand-in converted."""
        Networks(tmp_path, backends.metadata.version("openvino")).put(network_v3)
        return tmp_path

    @pytest.fixture
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Measuring takes one pass each; how often it was done."""
        times: list[int] = []
        real = choosing.measure

        def counted(*given: Any) -> Choice:
            times.append(1)
            return real(*given)

        monkeypatch.setattr(choosing, "ROUND_SECONDS", 0.0)
        monkeypatch.setattr(choosing, "ROUNDS", 1)
        monkeypatch.setattr(backends, "measure", counted)
        return times

    def test_is_measured_once(self, standin_v3: ModelSpec, folder: Path, quick: list[int]) -> None:
        first = load_embedder(standin_v3, device="cpu", backend="auto", folder=folder)
        again = load_embedder(standin_v3, device="cpu", backend="auto", folder=folder)
        assert quick == [1]
        assert (first.backend, first.why) == (again.backend, again.why)
        assert "seconds of audio a second" in first.why
        assert first.notices == ()
        told = telling.backend_of(self.settings(folder, standin_v3), self.generation(folder, standin_v3))
        assert (told.backend, told.why) == (first.backend, first.why)

    def test_loads_what_was_found_fastest(
        self, standin_v3: ModelSpec, folder: Path, quick: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def remember(backend: str, streams: int) -> None:
            one = Measured(backend, "f32", streams, 99.0, 1.0)
            with Choices(folder).alone():
                Choices(folder).keep(Choice("m", standin_v3.sha256 or "", this_machine(), "2026", (one,)))

        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        remember("openvino", 3)
        loaded = load_embedder(standin_v3, device="cpu", backend="auto", folder=folder)
        assert isinstance(loaded.embedder, OpenVinoEmbedder)
        assert "openvino f32, 3 streams on cpu" in loaded.description
        remember("torch", 1)
        assert load_embedder(standin_v3, device="cpu", backend="auto", folder=folder).backend == "torch"
        assert quick == []

    def test_another_number_of_threads_is_measured_again(
        self, standin_v3: ModelSpec, folder: Path, quick: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for threads in ("1", "2", "1"):
            monkeypatch.setenv("OMP_NUM_THREADS", threads)
            load_embedder(standin_v3, device="cpu", backend="auto", folder=folder)
        assert quick == [1, 1]

    def test_two_at_once_measure_one_after_the_other_and_once(
        self, standin_v3: ModelSpec, folder: Path, quick: list[int]
    ) -> None:
        loaded: list[str] = []

        def load() -> None:
            loaded.append(load_embedder(standin_v3, device="cpu", backend="auto", folder=folder).why)

        with Choices(folder).alone():
            threads = [threading.Thread(target=load) for _ in range(2)]
            for thread in threads:
                thread.start()
        for thread in threads:
            thread.join(120)
        assert len(loaded) == 2
        assert quick == [1]

    def test_without_a_folder_it_is_torch(self, standin_v3: ModelSpec, quick: list[int]) -> None:
        loaded = load_embedder(standin_v3, device="cpu", backend="auto")
        assert (loaded.backend, quick) == ("torch", [])
        assert "no folder" in loaded.why

    def test_a_folder_that_cannot_be_written_is_said(
        self, standin_v3: ModelSpec, folder: Path, quick: list[int], caplog: pytest.LogCaptureFixture
    ) -> None:
        (folder / "choices").write_text("a file, where a folder should be")
        with caplog.at_level(logging.WARNING):
            loaded = load_embedder(standin_v3, device="cpu", backend="auto", folder=folder)
        assert (loaded.backend, quick) == ("torch", [])
        (notice,) = loaded.notices
        assert "cannot be written" in notice
        assert notice in caplog.text

    def test_where_a_gpu_may_be_torch_is_asked(
        self, standin_v3: ModelSpec, folder: Path, quick: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import torch

        monkeypatch.setattr(backends, "may_have_gpu", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        load_embedder(standin_v3, device="auto", backend="auto", folder=folder)
        assert quick == [1], "there was none, so what is fastest on the processor was measured"

    @staticmethod
    def settings(folder: Path, spec: ModelSpec, backend: Any = "auto", **more: Any) -> Settings:
        return Settings(
            data_dir=folder / "data", device="cpu", models={"folder": folder}, extractor=ExtractorSettings(backend=backend),
            generations={"v3": GenerationSettings(sha256=spec.sha256, sources=spec.sources, **more)},
        )  # fmt: skip

    def generation(self, folder: Path, spec: ModelSpec, **more: Any) -> Any:
        return self.settings(folder, spec, **more).known_generations()["v3"]

    def test_what_is_told_before_anything_was_measured(self, standin_v3: ModelSpec, tmp_path: Path) -> None:
        def told(backend: str = "auto", **more: Any) -> telling.BackendView:
            settings = self.settings(tmp_path, standin_v3, backend, **more)
            return telling.backend_of(settings, settings.known_generations()["v3"])

        assert told().backend is None
        assert "first extraction" in told().why
        assert (told("torch").backend, told("openvino").backend) == ("torch", "openvino")
        refused = told("openvino-int8")
        assert not refused.ready
        assert "not an int8 one" in refused.why
        missing = told(recipe="spread-30-int8")
        assert not missing.ready
        assert missing.next_step == "speakerdb models calibrate v3"


@pytest.mark.models
@pytest.mark.parametrize(
    ("arithmetic", "backend"), [("float", "openvino-int8"), ("int8", "torch"), ("int8", "openvino"), ("int4", "auto")]
)
def test_no_back_end_changes_the_arithmetic_of_a_recipe(standin_v3: ModelSpec, arithmetic: str, backend: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_embedder(standin_v3, Recipe(arithmetic=arithmetic), generation="v9", backend=backend, device="cpu")
    assert caught.value.hint


class TestProcessor:
    def test_threads_are_those_that_a_worker_is_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert (processor.threads(), this_machine().threads) == (3, 3)
        for nonsense in ("", "0", "many"):
            monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
            assert processor.threads() >= 1

    def test_features_are_read_from_what_the_kernel_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = "model name\t: Xeon 9\nflags\t\t: fpu avx2 avx512f amx_bf16 amx_tile\n"
        monkeypatch.setattr(processor, "_cpuinfo", lambda: text)
        machine = this_machine()
        assert (machine.processor, machine.features) == ("Xeon 9", ("avx2", "avx512f", "amx_bf16"))
        assert processor.multiplies_bf16()
        monkeypatch.setattr(processor, "_cpuinfo", lambda: text.replace("amx_bf16", ""))
        assert not processor.multiplies_bf16()
        monkeypatch.setattr(processor, "_cpuinfo", lambda: "")
        assert this_machine().features == ()
