"""What models, `doctor` and `support-bundle` tell: where models lie, what was checked, what was packed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

PlaceVerdict = Literal["there", "good", "missing", "damaged", "unknown", "skipped"]
"""``there``: a file that was not read. ``unknown``: whole as far as anybody can tell, but no checksum is pinned."""
Finding = Literal["pass", "warn", "fail", "skipped"]


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """How far one file is: bytes done, of how many (0 where that is not known)."""

    what: str
    done: int
    total: int


OnCopy = Callable[[CopyProgress], None]


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """One place where a model may lie on this machine. `place` is ``store``, ``cache``, ``hub`` or a path as it was given;
    `sha256` is that of the file, where it was read."""

    place: str
    verdict: PlaceVerdict
    path: str | None
    sha256: str | None
    size: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class ModelView:
    """A generation's model: what it is, on what terms it is given, and where it lies here."""

    generation: str
    id: str
    revision: str | None
    architecture: str | None
    dimension: int
    weights: bool
    """False for a model that is computed without a checkpoint: there is nothing to fetch."""
    licence: str | None
    gated: bool | None
    """Whether its page wants its terms accepted first; None where speakerdb does not know the model."""
    page: str | None
    pinned: str | None
    """The SHA-256 that its checkpoint must have; None: none is pinned."""
    places: tuple[ModelPlace, ...]
    backend: str | None = None
    """What computes its vectors on this machine: torch, openvino, openvino-int8 or spectral; None: not known yet."""
    why: str = ""
    """Why that one, with numbers where it was measured."""

    @property
    def usable(self) -> bool:
        """Whether a place on this machine has it, as far as that was looked at."""
        return not self.weights or any(place.verdict in ("there", "good", "unknown") for place in self.places)


@dataclass(frozen=True, slots=True)
class KeptModel:
    """A checkpoint in speakerdb's own store."""

    id: str
    revision: str | None
    sha256: str
    size: int
    licence: str | None
    generations: tuple[str, ...]
    """Generations of the settings that would load it."""


@dataclass(frozen=True, slots=True)
class ModelsReport:
    """All models that the settings name, and everything in the store."""

    folder: str
    cache: str
    offline: bool
    models: tuple[ModelView, ...]
    kept: tuple[KeptModel, ...]
    unreadable: tuple[str, ...]
    """Folders of the store whose manifest cannot be read."""
    repaired: tuple[str, ...] = ()
    """What `verify --repair` put right."""
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FetchedModel:
    """What fetching one generation's model did; with `code`, `message` and `hint` where it was refused."""

    generation: str
    id: str
    outcome: Literal["fetched", "there", "no-weights", "local", "refused"]
    sha256: str | None = None
    size: int | None = None
    pinned: bool = False
    code: str | None = None
    message: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class PackReport:
    """A bundle that was written. `left_out` says why a generation's model is not in it."""

    path: str
    size: int
    models: tuple[KeptModel, ...]
    left_out: Mapping[str, str]
    versions: Mapping[str, str]
    requirements: int
    """How many pinned packages its requirements.txt names."""


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """One model of a bundle. `new` is False where the store had it already."""

    model: KeptModel
    new: bool
    pinned: bool


@dataclass(frozen=True, slots=True)
class InstallReport:
    """What installing a bundle did."""

    folder: str
    models: tuple[InstalledModel, ...]
    versions: Mapping[str, str]
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClearReport:
    """What was (or would be) removed from the store, and what stays in the hub's cache."""

    folder: str
    removed: tuple[KeptModel, ...]
    freed: int
    cache: Mapping[str, int]
    """Folders of the hub's cache that stay, with their size in bytes."""
    dry_run: bool


@dataclass(frozen=True, slots=True)
class DoctorCheck:
    """One thing that was looked at: what was found, and the command or sentence that mends it."""

    name: str
    verdict: Finding
    found: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """Everything `doctor` looked at. `verdict` is ``fail`` where a check failed, else ``warn``, else ``pass``."""

    verdict: Finding
    checks: tuple[DoctorCheck, ...]

    @classmethod
    def of(cls, checks: tuple[DoctorCheck, ...]) -> DoctorReport:
        """The report of some checks."""
        found = {check.verdict for check in checks}
        return cls("fail" if "fail" in found else "warn" if "warn" in found else "pass", checks)


@dataclass(frozen=True, slots=True)
class SupportReport:
    """A support bundle that was written, with the files in it and what each holds."""

    path: str
    size: int
    files: Mapping[str, str]
    problems: tuple[str, ...]
    """What could not be read, and is told of inside."""
