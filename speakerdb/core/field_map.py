"""From a document that another application wrote to values of ours, or to the reason why it cannot be taken.

Pure functions. A *field map* says which field of such a document is what; names are dotted where fields are nested, and
`_id` is the document's own id. Whatever a document holds ends in an `Arrival` or in a `Refusal`, never in an exception.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias

import numpy as np

from speakerdb.core.texts import MAX_ID_LENGTH, MAX_NAME_LENGTH, flaw
from speakerdb.errors import InvalidInput
from speakerdb.types import FloatArray, Kind

DOCUMENT_ID = "_id"
UNIT_TOLERANCE = 1e-3
"""A vector whose norm is this near to 1 counts as normalised, and is kept as it is."""
MAX_VERSION = 2**62
"""No document of a higher version is taken: what replaces it must be given one above it."""

REASONS: Mapping[str, str] = {
    "no-vector": "has no vector",
    "unreadable-vector": "has a vector that is not a list of numbers",
    "wrong-dimension": "has a vector of another dimension",
    "not-finite": "has a vector that is not finite",
    "zero-vector": "has a vector of only zeros, which has no direction",
    "no-id": "has no id",
    "no-recording": "names no recording",
    "no-profile": "is of a profile and names none",
    "bad-value": "holds a value that is not a text or a whole number where one is needed, or that cannot be stored",
    "bad-version": "has a version that nothing could be written above",
    "duplicate-id": "has the id of another document with another vector",
    "id-taken": "has an id that something else has in the database",
    "label-taken": "has the label of another speaker of its recording",
    "other-library": "is of another library than its recording or profile in the database",
    "removed": "is of a voice that was removed from the library",
    "unknown-recording": "is of a recording that the database does not know",
    "unknown-speaker": "is of a speaker whom the recording's turns do not know",
}
"""Why a document is refused, as the end of a sentence."""

_OBVIOUS: Mapping[str, tuple[str, ...]] = {
    "recording": ("recording_id", "recording", "media_file_id", "media_id", "file_id", "audio_id", "video_id", "episode_id"),
    "library": ("library_id", "library"),
    "profile": ("profile_id", "profile", "person_id", "person"),
    "profile_name": ("profile_name", "person_name"),
    "label": ("label", "speaker_label"),
    "name": ("speaker_name", "display_name", "name"),
    "seconds": ("speech_seconds", "speech_duration"),
    "kind": ("kind", "document_type", "doc_type"),
}  # fmt: skip
"""Names that leave no doubt, in the order in which they are looked for."""


@dataclass(frozen=True, slots=True)
class FieldMap:
    """Which field holds what; None where no field does."""

    vector: str
    recording: str
    id: str = DOCUMENT_ID
    library: str | None = None
    profile: str | None = None
    profile_name: str | None = None
    label: str | None = None
    name: str | None = None
    seconds: str | None = None
    kind: str | None = None

    def named(self) -> dict[str, str]:
        """What is mapped, for a person."""
        return {name: field for name, field in asdict(self).items() if field is not None}


OURS = FieldMap("vector", "recording_id", library="library_id", profile="profile_id", kind="kind")
"""The documents that speakerdb writes."""
NAMES = tuple(field.name for field in fields(FieldMap))


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """A document that can be taken. `vector` has unit norm; `id` is a profile's where `kind` is PROFILE."""

    id: str
    version: int
    kind: Kind
    vector: FloatArray
    was_unit: bool
    recording: str
    """Empty for a profile."""
    library: str | None
    profile: str | None
    profile_name: str | None
    label: str | None
    name: str | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A document that cannot be taken: `reason` is one of `REASONS`, `detail` is for a person."""

    id: str
    reason: str
    detail: str = ""


Read: TypeAlias = Arrival | Refusal


# The map


def parse_fields(given: Sequence[str]) -> dict[str, str]:
    """``vector=embedding`` and the like, by our name. `InvalidInput` for anything else."""
    found: dict[str, str] = {}
    for text in given:
        name, sign, field = text.partition("=")
        if not sign:
            raise InvalidInput(f"{text!r} is not NAME=FIELD.", hint="For example `--field vector=embedding`.")
        if name.strip() in found:
            raise InvalidInput(f"{name.strip()!r} is mapped twice.", hint="Give each name once.")
        found[name.strip()] = field.strip()
    return _checked(found)


def read_map(text: str, *, toml: bool) -> dict[str, str]:
    """A field map from the text of a file, TOML or JSON: our names with the names of fields. `InvalidInput`."""
    try:
        given = tomllib.loads(text) if toml else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"The field map cannot be read: {error}.", hint='For example `vector = "embedding"`.'
        ) from error
    if not isinstance(given, dict):
        raise InvalidInput("The field map is not an object.", hint='For example {"vector": "embedding"}.')
    return _checked(given)


def _checked(given: Mapping[str, Any]) -> dict[str, str]:
    for name, field in given.items():
        if name not in NAMES:
            raise InvalidInput(f"Nothing is called {name!r} in a field map.", hint=f"There are: {', '.join(NAMES)}.")
        if not isinstance(field, str) or not field:
            raise InvalidInput(f"{name!r} is mapped to nothing.", hint="Name a field, dotted where it is nested.")
    return dict(given)


def detect(vectors: Mapping[str, int], present: Sequence[str], said: Mapping[str, str]) -> FieldMap:
    """The map of an index: what a person said, and what leaves no doubt.

    `vectors` are the vector fields of its mapping with their dimensions, `present` all its fields. `InvalidInput` names what
    must be said.
    """
    known = {DOCUMENT_ID, *present}
    for name, field in said.items():
        if field not in known:
            raise InvalidInput(
                f"The index has no field {field!r} for {name!r}.", hint=f"Its fields: {', '.join(sorted(known))}."
            )
    vector = said.get("vector")
    if vector is None:
        if len(vectors) != 1:
            found = ", ".join(sorted(vectors)) or "none"
            raise InvalidInput(
                f"The index must have one vector field to be understood by itself; it has: {found}.",
                hint="Say which with `--field vector=NAME`.",
            )
        vector = next(iter(vectors))
    if vector not in vectors:
        raise InvalidInput(
            f"The field {vector!r} is not a vector field.",
            hint=f"Vector fields: {', '.join(sorted(vectors)) or 'none'}.",
        )
    guessed = {
        name: next(field for field in obvious if field in known)
        for name, obvious in _OBVIOUS.items()
        if any(field in known for field in obvious)
    }
    chosen = guessed | dict(said) | {"vector": vector}
    if "recording" not in chosen:
        raise InvalidInput(
            "Nothing says which field holds the recording that a voice is of.",
            hint="Say it with `--field recording=NAME`; `--field recording=_id` makes each document a recording of its own."
            f" Its fields: {', '.join(sorted(present))}.",
        )
    return FieldMap(**chosen)


def mapped_fields(mapping: Mapping[str, Any]) -> tuple[dict[str, int], tuple[str, ...]]:
    """The vector fields with their dimensions, and all fields, of the mapping of an index; names are dotted."""
    vectors: dict[str, int] = {}
    names: list[str] = []
    for name, field in _leaves(mapping, ""):
        names.append(name)
        dimension = field.get("dimension")
        if field.get("type") == "knn_vector" and isinstance(dimension, int):
            vectors[name] = dimension
    return vectors, tuple(sorted(names))


def _leaves(mapping: Mapping[str, Any], before: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, field in (mapping.get("properties") or {}).items():
        if not isinstance(field, dict):
            continue
        if "properties" in field:
            yield from _leaves(field, f"{before}{name}.")
        else:
            yield before + name, field


# One document


def read(map_: FieldMap, dimension: int, id: str, version: int, source: Mapping[str, Any]) -> Read:
    """One document through the map."""
    try:
        return _read(map_, dimension, id, version, source)
    except _Unfit as error:
        return Refusal(id, error.reason, error.detail)


class _Unfit(Exception):
    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def _read(map_: FieldMap, dimension: int, id: str, version: int, source: Mapping[str, Any]) -> Arrival:
    def text(field: str | None, limit: int = MAX_ID_LENGTH) -> str | None:
        if field is None:
            return None
        return id if field == DOCUMENT_ID else _text(field, _value(source, field), limit)

    if not 0 <= version <= MAX_VERSION:
        raise _Unfit("bad-version", str(version))
    vector, was_unit = _vector(_value(source, map_.vector), dimension)
    profile = text(map_.profile)
    kind = Kind.PROFILE if text(map_.kind) == Kind.PROFILE.value else Kind.SPEAKER
    own = text(map_.id)
    if own is None:
        raise _Unfit("no-id", map_.id)
    if (wrong := flaw(own, MAX_ID_LENGTH)) is not None:
        raise _Unfit("bad-value", f"the id {wrong}")
    recording = text(map_.recording)
    if kind is Kind.PROFILE:
        recording, profile = "", profile or (own if map_ is OURS else None)
        if profile is None:
            raise _Unfit("no-profile")
        own = profile
    elif recording is None:
        raise _Unfit("no-recording", map_.recording)
    elif (wrong := flaw(recording, MAX_ID_LENGTH)) is not None:
        raise _Unfit("bad-value", f"the recording {wrong}")
    return Arrival(
        own, version, kind, vector, was_unit, recording, text(map_.library, MAX_NAME_LENGTH), profile,
        text(map_.profile_name, MAX_NAME_LENGTH), text(map_.label, MAX_NAME_LENGTH), text(map_.name, MAX_NAME_LENGTH),
        _seconds(None if map_.seconds is None else _value(source, map_.seconds)),
    )  # fmt: skip


def _value(source: Any, field: str) -> Any:
    """The value of a field: as one name with dots, or nested. A list of one value is that value."""
    found: Any = source
    if isinstance(source, Mapping) and field in source:
        found = source[field]
    else:
        for name in field.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _text(field: str, value: Any, limit: int) -> str | None:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise _Unfit("bad-value", f"{field} is a {type(value).__name__}")
    found = value if isinstance(value, str) else str(value)
    if (wrong := flaw(found, limit)) is not None:
        raise _Unfit("bad-value", f"{field} {wrong}")
    return found


def _vector(value: Any, dimension: int) -> tuple[FloatArray, bool]:
    """The vector with unit norm, and whether it had it already."""
    if value is None:
        raise _Unfit("no-vector")
    try:
        given = np.asarray(value)
        if given.dtype.kind not in "fiu" or given.ndim != 1:
            raise _Unfit("unreadable-vector")
    except (ValueError, TypeError, OverflowError) as error:
        raise _Unfit("unreadable-vector") from error
    if given.shape != (dimension,):
        raise _Unfit("wrong-dimension", f"{given.shape[0]} instead of {dimension}")
    with np.errstate(over="ignore"):
        stored = given.astype(np.float32)
    if not np.isfinite(stored).all():
        raise _Unfit("not-finite")
    largest = float(np.abs(stored).max())
    if largest == 0.0:
        raise _Unfit("zero-vector")
    wide = stored.astype(np.float64)
    if abs(float(np.linalg.norm(wide)) - 1.0) < UNIT_TOLERANCE:
        return stored, True
    wide /= largest  # first to a size whose squares neither overflow nor vanish
    return (wide / np.linalg.norm(wide)).astype(np.float32), False


def _seconds(value: Any) -> float | None:
    if value is None or isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 < value <= 1e7 and math.isfinite(value) else None
