"""Which back end computes each generation's vectors on this machine, and why, for a person. Nothing is loaded or measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

from speakerdb.errors import ConfigurationError
from speakerdb.models.backends import INT8, TORCH, How, check
from speakerdb.models.choosing import Choices
from speakerdb.models.networks import Networks
from speakerdb.models.processor import may_have_gpu, this_machine
from speakerdb.models.store import ModelStore
from speakerdb.settings import Settings
from speakerdb.types import Generation, ModelSpec


@dataclass(frozen=True, slots=True)
class BackendView:
    """What computes a generation's vectors. `backend` None: that is not known before the first extraction. `ready` is False
    where extraction would refuse."""

    generation: str
    backend: str | None
    why: str
    ready: bool = True
    next_step: str = ""

    def __str__(self) -> str:
        return f"{self.backend or 'not known yet'}: {self.why}"


def backends_of(settings: Settings, generations: Mapping[str, Generation]) -> dict[str, BackendView]:
    """One view a generation. Reads the folder of models."""
    return {name: backend_of(settings, generation) for name, generation in generations.items()}


def backend_of(settings: Settings, generation: Generation) -> BackendView:
    """What would compute its vectors here, as far as that is known without trying."""
    name, spec = generation.name, generation.model
    if spec.family != "pyannote":
        return BackendView(name, spec.family, "it has no other")
    asked = settings.extractor.backend
    how = How(asked, generation.recipe.arithmetic, name, settings.device, False, False, settings.models_folder)
    try:
        check(how)
    except ConfigurationError as error:
        return BackendView(name, None, error.message, ready=False, next_step=error.hint)
    if how.arithmetic == "int8":
        return _quantised(settings, generation)
    if asked != "auto":
        return BackendView(name, asked, "as set in `extractor.backend`")
    if settings.device.startswith("cuda"):
        return BackendView(name, TORCH, f"`device` is {settings.device}")
    if settings.device == "auto" and may_have_gpu():
        return BackendView(
            name, TORCH, "if torch can use the GPU of this machine; else it is measured at the first extraction"
        )
    choice = Choices(settings.models_folder).latest(spec.id, _checkpoint(settings, spec), this_machine())
    if choice is None:
        return BackendView(name, None, "it is measured at the first extraction, which takes some seconds longer")
    return BackendView(name, choice.best.backend, choice.why)


def _quantised(settings: Settings, generation: Generation) -> BackendView:
    name = generation.name
    networks = Networks(settings.models_folder, metadata.version("openvino"))
    checkpoint = _checkpoint(settings, generation.model)
    about = None if checkpoint is None else networks.quantised(name, checkpoint)
    if about is None:
        return BackendView(
            name, None, "its recipe says int8, and no network was quantised for it here", ready=False,
            next_step=f"speakerdb models calibrate {name}",
        )  # fmt: skip
    stated = about.calibration
    told = (
        f"its recipe says int8; calibrated {str(stated.get('made_at', ''))[:10]} with {stated.get('segments')} segments"
    )
    return BackendView(name, INT8, told)


def _checkpoint(settings: Settings, spec: ModelSpec) -> str | None:
    """The SHA-256 of the checkpoint that would be loaded, where it is known without reading one."""
    if spec.sha256 is not None:
        return spec.sha256
    path = ModelStore(settings.models_folder).find(spec)
    return None if path is None else path.parent.name
