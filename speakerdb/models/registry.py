"""From a generation's model definition to an embedder that is ready. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from speakerdb.errors import ConfigurationError
from speakerdb.models.backends import Builder, Built, How, check
from speakerdb.models.hub import CACHE, HUB, STORE, Attempt, old_cache_notice
from speakerdb.models.networks import Network
from speakerdb.models.openvino import OpenVinoEmbedder
from speakerdb.models.port import Embedder
from speakerdb.models.sources import Checkpoint, load_first
from speakerdb.models.spectral import SpectralEmbedder
from speakerdb.models.store import ModelStore
from speakerdb.types import ModelSpec, Recipe

STAND_INS: Mapping[str, str] = MappingProxyType(
    {
        "86d6ade817018360fad55191790104d7a5e215fae6ebdd8b36133844a815608c": "standin-wespeaker-resnet34",
        "4b2c62157689e25377e22bc5f27aae4c29a4c86a91b5a8fc6528046ac645b23e": "standin-xvector-sincnet",
    }
)
"""SHA-256 of the checkpoints made for this project's tests: they are named as what they are under any id."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """An embedder with where it came from.

    `checksum` is the SHA-256 of the checkpoint (of a quantised network: one of the checkpoint and of what it was quantised
    with), or the version of a model that has no weights. `source` is the entry of the definition's sources that was used.
    `description` is one line for a person. `backend` is what computes: ``torch``, ``openvino``, ``openvino-int8`` or
    ``spectral``; `why` says why that one.
    """

    embedder: Embedder
    checksum: str
    source: str
    attempts: tuple[Attempt, ...]
    description: str
    backend: str = "torch"
    why: str = ""
    said: tuple[str, ...] = ()
    """What a person should read of how it was loaded."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What a person should read once, for example a fall-back to the CPU. It can grow while the model is used."""
        notices: tuple[str, ...] = (*self.said, *getattr(self.embedder, "notices", ()))
        old_cache = old_cache_notice() if self.attempts else None
        return notices if old_cache is None else (old_cache, *notices)


@dataclass(frozen=True, slots=True)
class _Where:
    """Where models are looked for, and which are trusted: see `load_embedder`."""

    allow_unknown: bool
    offline: bool
    store: ModelStore | None


def load_embedder(
    spec: ModelSpec,
    recipe: Recipe | None = None,
    *,
    generation: str = "",
    device: str = "auto",
    backend: str = "torch",
    half: bool = False,
    allow_unknown: bool = False,
    telemetry: bool = False,
    offline: bool = False,
    folder: Path | None = None,
) -> LoadedModel:
    """The embedder of a definition, on `device` (auto, cpu, cuda or cuda:N). speakerdb's own models in `folder` are looked
    at first; with `offline` nothing in this process asks the hub from then on.

    `backend` is auto, torch, openvino or openvino-int8. What is converted and measured is kept in `folder`. `recipe` says
    whether the network is a quantised one, which is that of `generation` (a name). `half`: half precision on a GPU.

    `ConfigurationError` for an unknown family, device, back end or spectral model, for a back end that the recipe's arithmetic
    forbids, and where a library cannot be imported; `ModelUnavailable`, `ModelOffline`, `ModelAccessDenied` or
    `CheckpointUntrusted`, each with `details["attempts"]`, when no source could be used; `NotCalibrated`; `DimensionMismatch`.
    """
    load = _FAMILIES.get(spec.family)
    if load is None:
        raise ConfigurationError(
            f"There is no model family {spec.family!r}.", hint=f"Use one of {', '.join(_FAMILIES)} as `family`."
        )
    arithmetic = (recipe or Recipe()).arithmetic
    how = How(backend, arithmetic, generation, device, half, telemetry, folder)
    return load(spec, how, _Where(allow_unknown, offline, None if folder is None else ModelStore(folder)))


@dataclass(frozen=True, slots=True, eq=False)
class FloatNetwork:
    """A converted network with an embedder of it, and where its checkpoint came from."""

    network: Network
    embedder: Embedder
    description: str

    @property
    def sample_rate(self) -> int:
        return self.embedder.sample_rate

    @property
    def min_samples(self) -> int:
        return self.embedder.min_samples


def float_network(
    spec: ModelSpec,
    *,
    allow_unknown: bool = False,
    telemetry: bool = False,
    offline: bool = False,
    folder: Path | None = None,
) -> FloatNetwork:
    """The network of a definition, converted for OpenVINO, in float32: what is quantised. Raises what `load_embedder` does;
    `ConfigurationError` for a family that has no network."""
    if spec.family != "pyannote":
        raise ConfigurationError(
            f"A model of the family {spec.family!r} has no network to quantise.",
            hint="Choose the recipe spread-30 or spread-60 for it.",
        )
    how = How("openvino", "float", "", "cpu", False, telemetry, folder)
    store = None if folder is None else ModelStore(folder)

    def build(checkpoint: Checkpoint) -> FloatNetwork:
        name = _name(spec, checkpoint)
        network = Builder(checkpoint, spec, name, how).network
        return FloatNetwork(
            network, OpenVinoEmbedder(network, model_id=name), f"{name}, sha256 {checkpoint.sha256[:8]}…"
        )

    return load_first(spec, build, allow_unknown=allow_unknown, store=store, offline=offline)[0]


def _load_spectral(spec: ModelSpec, how: How, where: _Where) -> LoadedModel:
    del where  # it has no weights to trust, and computes on the CPU
    if how.arithmetic != "float":
        raise ConfigurationError(
            f"The recipe of {how.generation or spec.id} says {how.arithmetic}, and {spec.id} has no network.",
            hint="Choose the recipe spread-30 or spread-60 for it.",
        )
    embedder = SpectralEmbedder(spec.id, spec.dimension)
    description = f"{embedder.model_id}, {embedder.dimension} dimensions, cpu"
    return LoadedModel(embedder, embedder.version, "built-in", (), description, "spectral", "it has no other")


def _load_pyannote(spec: ModelSpec, how: How, where: _Where) -> LoadedModel:
    check(how)

    def build(checkpoint: Checkpoint) -> Built:
        return Builder(checkpoint, spec, _name(spec, checkpoint), how).build()

    built, checkpoint, attempts = load_first(
        spec, build, allow_unknown=where.allow_unknown, store=where.store, offline=where.offline
    )
    places = {HUB: "the hub", CACHE: "the hub's cache", STORE: "speakerdb's models"}
    place = places.get(checkpoint.source, checkpoint.source)
    trust = "" if checkpoint.pinned else " (not pinned)"
    embedder = built.embedder
    description = f"{embedder.model_id} from {place}, sha256 {checkpoint.sha256[:8]}…{trust}, {built.told}"
    return LoadedModel(
        embedder, built.checksum, checkpoint.source, attempts, description, built.backend, built.why, built.notices
    )


def _name(spec: ModelSpec, checkpoint: Checkpoint) -> str:
    stand_in = STAND_INS.get(checkpoint.sha256)
    if stand_in is not None and stand_in != spec.id:
        return f"{spec.id} (STAND-IN {stand_in} for tests, not the real model)"
    if spec.id.startswith("standin"):
        return f"{spec.id} (STAND-IN for tests, not the real model)"
    return spec.id


_FAMILIES: Mapping[str, Callable[[ModelSpec, How, _Where], LoadedModel]] = MappingProxyType(
    {"pyannote": _load_pyannote, "spectral": _load_spectral}
)
