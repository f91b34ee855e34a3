"""From a generation's model definition to an embedder that is ready. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from speakerdb.errors import ConfigurationError
from speakerdb.models.hub import CACHE, HUB, STORE, Attempt, old_cache_notice
from speakerdb.models.port import Embedder
from speakerdb.models.sources import Checkpoint, load_first
from speakerdb.models.spectral import SpectralEmbedder
from speakerdb.models.store import ModelStore
from speakerdb.types import ModelSpec

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

    `checksum` is the SHA-256 of the checkpoint, or the version of a model that has no weights. `source` is the entry
    of the definition's sources that was used. `description` is one line for a person.
    """

    embedder: Embedder
    checksum: str
    source: str
    attempts: tuple[Attempt, ...]
    description: str

    @property
    def notices(self) -> tuple[str, ...]:
        """What a person should read once, for example a fall-back to the CPU. It can grow while the model is used."""
        notices: tuple[str, ...] = getattr(self.embedder, "notices", ())
        old_cache = old_cache_notice() if self.attempts else None
        return notices if old_cache is None else (old_cache, *notices)


@dataclass(frozen=True, slots=True)
class _How:
    """How models are loaded: see `load_embedder`."""

    device: str
    allow_unknown: bool
    telemetry: bool
    offline: bool
    store: ModelStore | None


def load_embedder(
    spec: ModelSpec,
    *,
    device: str = "auto",
    allow_unknown: bool = False,
    telemetry: bool = False,
    offline: bool = False,
    folder: Path | None = None,
) -> LoadedModel:
    """The embedder of a definition, on `device` (auto, cpu, cuda or cuda:N). speakerdb's own models in `folder` are looked
    at first; with `offline` nothing in this process asks the hub from then on.

    `ConfigurationError` for an unknown family, device or spectral model, and where torch or pyannote.audio cannot be
    imported; `ModelUnavailable`, `ModelOffline`, `ModelAccessDenied` or `CheckpointUntrusted`, each with
    `details["attempts"]`, when no source could be used; `DimensionMismatch`.
    """
    load = _FAMILIES.get(spec.family)
    if load is None:
        raise ConfigurationError(
            f"There is no model family {spec.family!r}.", hint=f"Use one of {', '.join(_FAMILIES)} as `family`."
        )
    return load(spec, _How(device, allow_unknown, telemetry, offline, None if folder is None else ModelStore(folder)))


def _load_spectral(spec: ModelSpec, how: _How) -> LoadedModel:
    del how  # it has no weights to trust, and computes on the CPU
    embedder = SpectralEmbedder(spec.id, spec.dimension)
    description = f"{embedder.model_id}, {embedder.dimension} dimensions, cpu"
    return LoadedModel(embedder, embedder.version, "built-in", (), description)


def _load_pyannote(spec: ModelSpec, how: _How) -> LoadedModel:
    from speakerdb.models.pyannote import PyannoteEmbedder

    def build(checkpoint: Checkpoint) -> PyannoteEmbedder:
        name = _name(spec, checkpoint)
        return PyannoteEmbedder.load(checkpoint.data, spec, model_id=name, device=how.device, telemetry=how.telemetry)

    embedder, checkpoint, attempts = load_first(
        spec, build, allow_unknown=how.allow_unknown, store=how.store, offline=how.offline
    )
    places = {HUB: "the hub", CACHE: "the hub's cache", STORE: "speakerdb's models"}
    place = places.get(checkpoint.source, checkpoint.source)
    trust = "" if checkpoint.pinned else " (not pinned)"
    description = f"{embedder.model_id} from {place}, sha256 {checkpoint.sha256[:8]}…{trust}, {embedder.device}"
    return LoadedModel(embedder, checkpoint.sha256, checkpoint.source, attempts, description)


def _name(spec: ModelSpec, checkpoint: Checkpoint) -> str:
    stand_in = STAND_INS.get(checkpoint.sha256)
    if stand_in is not None and stand_in != spec.id:
        return f"{spec.id} (STAND-IN {stand_in} for tests, not the real model)"
    if spec.id.startswith("standin"):
        return f"{spec.id} (STAND-IN for tests, not the real model)"
    return spec.id


_FAMILIES: Mapping[str, Callable[[ModelSpec, _How], LoadedModel]] = MappingProxyType(
    {"pyannote": _load_pyannote, "spectral": _load_spectral}
)
