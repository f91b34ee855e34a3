"""The back ends that are measured, each with a generation of its own, and one extraction with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.talk import Talk
from speakerdb.extraction.extract import Extracted, Loader, Task, extract
from speakerdb.generations import V3, V4
from speakerdb.media import fingerprint
from speakerdb.models.processor import this_machine
from speakerdb.settings import GenerationSettings
from speakerdb.types import Generation, Turn

CHECKPOINTS = Path(__file__).resolve().parent.parent / "tests" / "assets" / "models"
WESPEAKER = CHECKPOINTS / "standin-wespeaker-resnet34"
XVECTOR = CHECKPOINTS / "standin-xvector-sincnet"


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


def ways(models: Path, device: str) -> list[Way]:
    """What can compute on `device` (``cpu`` or ``cuda``). What is converted is kept in the folder `models`."""
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
    return [
        Way("torch", "float", "float", float_generation, loader(backend="torch")),
        Way("OpenVINO", "float", kind, float_generation, loader(backend="openvino")),
    ]
