"""The generations speakerdb knows from the start. Adding one is adding a definition here or in the settings file.

Sources of the constants: the WeSpeaker checkpoint's revision and SHA-256 are those of the public hub repository
`pyannote/wespeaker-voxceleb-resnet34-LM`; `pyannote/embedding` is gated and pinned by its revision.
The operating points are the scores long in use with these models (accept at 0.75, worth showing at 0.50); they are
starting values, to be measured on one's own library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from speakerdb.errors import ConfigurationError
from speakerdb.types import Generation, ModelSpec, OperatingPoint, Recipe

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            Recipe(),
            Recipe(name="spread-60", budget_seconds=60.0),
            Recipe(name="spread-30-int8", arithmetic="int8"),
            Recipe(name="spread-60-int8", budget_seconds=60.0, arithmetic="int8"),
        )
    }
)
"""Recipes by name: thirty seconds a speaker unless something else is chosen, and sixty for twice the work; both also for a
quantised network. `docs/explanation/recipe.md` has what was measured of each."""

V3 = Generation(
    name="v3",
    model=ModelSpec(
        family="pyannote",
        id="pyannote/embedding",
        architecture="XVectorSincNet",
        dimension=512,
        revision="4db4899737a38b2d618bbd74350915aa10293cb2",
    ),
    operating_point=OperatingPoint(accept=0.75, candidate=0.50, margin=0.05),
)

V4 = Generation(
    name="v4",
    model=ModelSpec(
        family="pyannote",
        id="pyannote/wespeaker-voxceleb-resnet34-LM",
        architecture="WeSpeakerResNet34",
        dimension=256,
        revision="837717ddb9ff5507820346191109dc79c958d614",
        sha256="366edf44f4c80889a3eb7a9d7bdf02c4aede3127f7dd15e274dcdb826b143c56",
    ),
    operating_point=OperatingPoint(accept=0.75, candidate=0.50, margin=0.05),
)

BUILT_IN: Mapping[str, Generation] = MappingProxyType({g.name: g for g in (V3, V4)})


class Defined(dict[str, Generation]):
    """The generations that the settings of this process define. Another one may have begun to move to one that they do not:
    whoever asks for it here is told so."""

    def __missing__(self, name: str) -> Generation:
        raise undefined(name)


def undefined(name: str) -> ConfigurationError:
    """What is to be said of a generation that a library uses and the settings do not define."""
    return ConfigurationError(
        f"This library uses the generation {name!r}, which is not defined.",
        hint=f"Define it in the settings under [generations.{name}], and start this process again.",
    )


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a published model is given: its licence, and whether its page wants them accepted first."""

    licence: str
    gated: bool


TERMS: Mapping[str, Terms] = MappingProxyType(
    {
        "pyannote/embedding": Terms("MIT", gated=True),
        "pyannote/wespeaker-voxceleb-resnet34-LM": Terms("CC-BY-4.0", gated=False),
        "pyannote/speaker-diarization-community-1": Terms("CC-BY-4.0", gated=True),
    }
)
"""By model id, as their pages said in 2026. A page can change; it has the last word."""
