"""The back ends that are measured, each with a generation of its own, and one extraction with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.report import say
from benchmarks.talk import Talk
from speakerdb.core.selection import select
from speakerdb.errors import ConfigurationError
from speakerdb.extraction.extract import Extracted, Loader, Task, extract
from speakerdb.generations import V3, V4
from speakerdb.media import decode_spans, fingerprint
from speakerdb.models.networks import Networks
from speakerdb.models.processor import this_machine
from speakerdb.models.quantising import quantise
from speakerdb.models.registry import float_network
from speakerdb.settings import GenerationSettings
from speakerdb.types import Generation, Turn, Unembeddable

CHECKPOINTS = Path(__file__).resolve().parent.parent / "tests" / "assets" / "models"
WESPEAKER = CHECKPOINTS / "standin-wespeaker-resnet34"
XVECTOR = CHECKPOINTS / "standin-xvector-sincnet"
CALIBRATION_SEGMENTS = 40


def new_generation(recipe: str | None = None, name: str = "v4") -> Generation:
    """The stand-in of the WeSpeaker architecture, which costs what the published model costs."""
    stand_in = GenerationSettings(
        model="speakerdb/standin-wespeaker-resnet34", sources=(str(WESPEAKER),), recipe=recipe
    )
    return stand_in.applied_to(V4, name)


def old_generation() -> Generation:
    """The stand-in of the old model."""
    return GenerationSettings(model="speakerdb/standin-xvector-sincnet", sources=(str(XVECTOR),)).applied_to(V3, "v3")


@dataclass(frozen=True, slots=True)
class Way:
    """A back end under the name that it has in the rows.

    `precision` is ``float`` or ``int8``; `kind` says which goal is meant for it.
    """

    name: str
    precision: str
    kind: str
    generation: Generation
    load: Loader

    def task(self, talk: Talk, turns: tuple[Turn, ...] | None = None, generation: Generation | None = None) -> Task:
        """The recording, or some of its turns only, as the queue would hand it over."""
        return Task(
            "bench", 1, generation or self.generation, talk.turns if turns is None else turns, talk.seconds,
            str(talk.path), fingerprint(talk.path), (), self.load,
        )  # fmt: skip

    def extract(self, talk: Talk) -> Extracted:
        """From the file to centroids."""
        return extract(self.task(talk))


def ways(models: Path, device: str, talk: Talk) -> list[Way]:
    """What can compute on `device` (``cpu`` or ``cuda``). What is converted is kept in the folder `models`, as is the quantised
    network, which is calibrated on `talk` where NNCF is installed."""
    float_generation = new_generation()

    def loader(**how: Any) -> Loader:
        return Loader(device, allow_unknown=True, offline=True, folder=models, **how)

    if device != "cpu":
        return [
            Way("torch on the GPU", "float", "cuda", float_generation, loader(backend="torch")),
            Way(
                "torch on the GPU in half precision",
                "float",
                "cuda",
                float_generation,
                loader(backend="torch", half=True),
            ),
        ]
    kind = "amx" if "amx_bf16" in this_machine().features else "float"
    found = [
        Way("torch", "float", "float", float_generation, loader(backend="torch")),
        Way("OpenVINO", "float", kind, float_generation, loader(backend="openvino")),
    ]
    quantised = new_generation("spread-30-int8", "v4-int8")
    try:
        _calibrate(models, quantised, talk)
    except ConfigurationError as error:
        say(f"int8 is NOT MEASURED: {error}")
    else:
        found.append(Way("OpenVINO int8", "int8", "int8", quantised, loader(backend="openvino-int8")))
    return found


def _calibrate(models: Path, generation: Generation, talk: Talk) -> None:
    """Quantise the network of a generation, once. `ConfigurationError` where NNCF is not installed."""
    network = float_network(generation.model, allow_unknown=True, offline=True, folder=models)
    kept = Networks(models, version("openvino"))
    if kept.get_quantised(generation.name, network.network.about.checkpoint) is None:
        recipe = replace(generation.recipe, budget_seconds=3 * generation.recipe.budget_seconds)
        chosen = select(talk.turns, recipe, duration=talk.seconds)
        spans = sorted(span for each in chosen.values() if not isinstance(each, Unembeddable) for span in each)
        sounds = list(islice(decode_spans(talk.path, spans, network.embedder.sample_rate), CALIBRATION_SEGMENTS))
        kept.put(quantise(network.network, sounds, {"segments": len(sounds)}), generation.name)
