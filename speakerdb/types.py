"""The words of the house: frozen values that every layer passes around.

Nothing here does I/O. Positions in a recording are seconds (float), instants are microseconds since
the epoch in UTC (int), vectors are 1-D float32 arrays of unit norm unless a name says otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]

SERVING_ALIAS = "speakers"


class Kind(StrEnum):
    """What a vector describes: one voice in one recording, or one person across recordings."""

    SPEAKER = "speaker"
    PROFILE = "profile"


@dataclass(frozen=True, slots=True)
class Turn:
    """A stretch of one recording in which one speaker talks.

    `speaker` is the diarizer's label inside the recording (``SPEAKER_00``), not a person's name.
    """

    start: float
    end: float
    speaker: str


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open stretch of time, in seconds."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a media file looked like when its turns were made: size in bytes and a hash of its ends."""

    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What opening a media file tells. `seconds` is None where the container does not say."""

    seconds: float | None
    codec: str
    sample_rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class Waveform:
    """Sound in memory: mono float32 samples in [-1, 1] at `sample_rate` Hz."""

    samples: FloatArray
    sample_rate: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a speaker's speech is chosen and pooled. A changed recipe is a new generation.

    The defaults are the ones measured in `docs/explanation/recipe.md`: 30 s a speaker in
    segments of 3 to 6 s, each inside one turn, one bin of the recording a segment.
    `arithmetic` is ``float``, or ``int8`` for a network whose weights and activations were quantised: its vectors are
    close to those of the float network, and not the same.
    """

    name: str = "spread-30"
    budget_seconds: float = 30.0
    segment_max_seconds: float = 6.0
    segment_target_seconds: float = 3.0
    segment_min_seconds: float = 1.0
    minimum_seconds: float = 1.0
    confident_seconds: float = 6.0
    selection: str = "bins-longest-turn"
    pooling: str = "mean-of-unit-vectors-by-seconds"
    arithmetic: str = "float"

    @property
    def digest(self) -> str:
        """A hash of everything that changes the embedding; stored with each one."""
        return _recipe_digest(self)


@lru_cache
def _recipe_digest(recipe: Recipe) -> str:
    stated = asdict(recipe)
    if recipe.arithmetic == "float":
        del stated["arithmetic"]  # younger than many a library: what was made before it keeps its digest
    text = json.dumps(stated, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Where an embedding model comes from and how it is recognised.

    `family` names the adapter (``pyannote`` or ``spectral``). `sources` are tried in order: ``hub`` (needs
    network), ``cache`` (the hub's cache, offline) or a path to a local file or folder.
    `sha256` pins the checkpoint file; None accepts none unless unknown checkpoints were asked for.
    """

    family: str
    id: str
    dimension: int
    architecture: str | None = None
    revision: str | None = None
    subfolder: str | None = None
    sha256: str | None = None
    sources: tuple[str, ...] = ("cache", "hub")


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Where a generation's cosine scores become decisions. It belongs to the generation, never to the code."""

    accept: float
    candidate: float
    margin: float


@dataclass(frozen=True, slots=True)
class Generation:
    """One embedding model together with its recipe. A generation is data; `v5` is one more of these."""

    name: str
    model: ModelSpec
    operating_point: OperatingPoint
    recipe: Recipe = field(default_factory=Recipe)
    metric: str = "cosine"

    @property
    def dimension(self) -> int:
        return self.model.dimension

    @property
    def index_name(self) -> str:
        """The concrete index, for example ``speakers_v4``."""
        return f"speakers_{self.name}"

    @property
    def write_alias(self) -> str:
        """The alias every bulk write names, so that a lost index is an error and never created anew."""
        return f"speakers_{self.name}_write"

    @property
    def fingerprint(self) -> str:
        """A hash of what makes vectors comparable: model id, revision, dimension, metric and recipe.

        The checkpoint's checksum is kept beside it, because a hub model may be pinned by revision alone.
        Two generations of one name with different fingerprints must never share an index.
        """
        text = json.dumps(
            [
                self.name,
                self.model.id,
                self.model.revision,
                self.model.subfolder,
                self.dimension,
                self.metric,
                self.recipe.digest,
            ],
        )
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """A pooled unit vector with the statistics it was pooled from.

    `vector` has shape (dimension,). `resultant` is the length of the weighted mean of unit segment vectors
    before it was normalised again (1 means all segments agree); with `seconds` as weight it makes a
    merge exact without audio. `agreement` is the mean cosine between the speaker's own segments (None for one segment).
    """

    vector: FloatArray
    seconds: float
    segments: int
    resultant: float
    agreement: float | None


@dataclass(frozen=True, slots=True)
class Unembeddable:
    """Why a speaker has no embedding in a generation; a result, not an error."""

    reason: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One row of an index. Ids and filters only: names and states live in SQL.

    `vector` is None in a tombstone, which keeps id and version so that no stale writer can bring a deleted voice back.
    """

    id: str
    version: int
    content_hash: str
    kind: Kind
    library_id: str
    recording_id: str | None
    profile_id: str | None
    vector: FloatArray | None

    @property
    def deleted(self) -> bool:
        return self.vector is None


class WriteOutcome(StrEnum):
    """What an index did with one document of a bulk write."""

    WRITTEN = "written"
    CONFLICT = "conflict"
    """The index holds the same or a higher version of this document."""
    REJECTED = "rejected"
    """The document itself is wrong (dimension, not finite); writing it again will not help."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The report of one item of a bulk write, in the order of the request."""

    id: str
    outcome: WriteOutcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AliasAction:
    """One step of an all-or-nothing alias change.

    A `remove` with `must_exist` fails the whole change when `alias` does not point at `index`.
    """

    verb: str
    alias: str
    index: str
    must_exist: bool = True

    @classmethod
    def add(cls, alias: str, index: str) -> AliasAction:
        return cls("add", alias, index)

    @classmethod
    def remove(cls, alias: str, index: str, *, must_exist: bool = True) -> AliasAction:
        return cls("remove", alias, index, must_exist)


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """A concrete index: its name, its vectors' dimension, its metadata and how many documents live in it."""

    name: str
    dimension: int
    metadata: Mapping[str, Any]
    documents: int = 0
    tombstones: int = 0
    newest: int = 0
    """The highest version that was ever written to it; 0 while it is empty. All three are 0 where nobody asked to count."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Restricts a search. None means any; an empty tuple matches nothing. Fields are joined by AND."""

    kinds: tuple[Kind, ...] | None = None
    library_ids: tuple[str, ...] | None = None
    recording_ids: tuple[str, ...] | None = None
    profile_ids: tuple[str, ...] | None = None
    exclude_ids: tuple[str, ...] = ()
    exclude_recording_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """A candidate that an index found. `score` is the cosine in [-1, 1]; ties are ordered by id."""

    id: str
    score: float
    version: int
    kind: Kind
