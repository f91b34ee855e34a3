"""What is said about documents to OpenSearch: the definition of an index, a document's fields, and filters."""

from __future__ import annotations

import binascii
import copy
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from speakerdb.core.digests import bucket_of, digest_of
from speakerdb.errors import ConfigurationError, InvalidInput
from speakerdb.settings import OpenSearchSettings
from speakerdb.types import Document, Filter, Kind

MODEL = "speakers_v4"
"""The definition that a generation without one of its own is made by."""
VECTOR = "vector"
BYTES = "vector_bytes"
"""The vector as it was given: float32, little-endian, in base64.

Beside the k-NN field, because that one comes back as decimal numbers: 7,400 documents a second in a scan of 256
dimensions, and 8,500 with derived source switched off (where each takes three times the room), against 36,000 to 41,000
with these bytes; both bit for bit with engine lucene. As doc values the bytes are read as fast, but not by a real-time get.
k-NN 3.6 gives no doc values of a vector itself. And faiss normalises what it stores for `cosinesimil`, so with it the
k-NN field would not come back bit for bit at all.
"""
DERIVED = ("id", "version", "bucket", "digest")
"""What follows from the rest of a document, and what counts and sums are made of."""
STORED = ("content_hash", "kind", "library_id", "recording_id", "profile_id", BYTES, *DERIVED)
"""What is read of a document. Its id and version are the engine's own: they decide which write is the newer one."""
_TERMS = 60_000
"""A `terms` query takes 65,536 values."""
_KINDS = {kind.value: kind for kind in Kind}
_NAME = re.compile(r"[A-Za-z0-9_-]+")


def index_body(settings: OpenSearchSettings, dimension: int, metadata: Mapping[str, Any]) -> Any:
    """What `create` sends: the definition of the generation that `metadata` names, with what the settings say."""
    body = copy.deepcopy(definition_for(metadata))
    index = body["settings"]["index"]
    index["number_of_shards"] = settings.shards
    index["number_of_replicas"] = settings.replicas
    body["mappings"]["_meta"] = dict(metadata)
    vector = body["mappings"]["properties"][VECTOR]
    vector["dimension"] = dimension
    vector["method"]["engine"] = settings.engine
    return body


def refresh_interval(metadata: Mapping[str, Any]) -> str | None:
    """What the definition says; None is the engine's default."""
    found: str | None = definition_for(metadata)["settings"]["index"].get("refresh_interval")
    return found


def definition_for(metadata: Mapping[str, Any]) -> Any:
    """The definition of the generation that is named in an index's metadata, or the model for all others."""
    name = metadata.get("generation")
    own = _definition(f"speakers_{name}") if isinstance(name, str) and _NAME.fullmatch(name) else None
    return own or _definition(MODEL)


@lru_cache
def _definition(name: str) -> Any:
    package = Path(__file__).resolve().parents[2]
    packed = package / "_opensearch"
    folder = packed if packed.is_dir() else package.parent / "opensearch"
    path = folder / f"{name}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if name != MODEL:
            return None
        raise ConfigurationError(f"The index definition {path} is missing.", hint="Install speakerdb again.") from None


def checked_metadata(name: str, metadata: Mapping[str, Any]) -> Any:
    """Metadata as it will come back. `InvalidInput` for what JSON cannot hold."""
    try:
        return json.loads(json.dumps(dict(metadata), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"The metadata of index {name} cannot be written as JSON: {error}.") from error


def is_our_mapping(mapping: Mapping[str, Any]) -> bool:
    """Whether the fields that are counted and read are there. An index of somebody else's may have our name."""
    wanted = {"id": "keyword", "version": "long", "bucket": "short", "digest": "long", VECTOR: "knn_vector"}
    properties = mapping.get("properties", {})
    return all(properties.get(name, {}).get("type") == kind for name, kind in wanted.items())


def dimension_of(mapping: Mapping[str, Any]) -> int:
    """The dimension of the first k-NN field; 0 where there is none, or where a model of the engine says it."""
    for field in mapping.get("properties", {}).values():
        if field.get("type") == "knn_vector":
            return int(field.get("dimension", 0))
    return 0


def source_of(document: Document, blob: bytes | None) -> dict[str, Any]:
    """The fields of a document. A tombstone has no vector, so no search finds it. None is left out."""
    source: dict[str, Any] = {
        "id": document.id,
        "version": document.version,
        "content_hash": document.content_hash,
        "kind": document.kind.value,
        "library_id": document.library_id,
        "bucket": bucket_of(document.id),
        "digest": digest_of(document.id, document.version, document.content_hash),
    }
    if document.recording_id is not None:
        source["recording_id"] = document.recording_id
    if document.profile_id is not None:
        source["profile_id"] = document.profile_id
    if blob is not None:
        source[VECTOR] = np.frombuffer(blob, "<f4").astype(np.float32, copy=False)
        source[BYTES] = binascii.b2a_base64(blob, newline=False).decode("ascii")
    return source


def document_of(id: str, version: int, source: Mapping[str, Any]) -> Document:
    """A document as it is stored. One that somebody else wrote, with fields that ours never have, gets an empty content
    hash: it equals nothing, so a comparison finds it and a repair writes it again. So does one whose derived fields are not
    its own: counts and sums would be wrong for ever."""
    texts = [source.get(name) for name in ("content_hash", "library_id", "recording_id", "profile_id")]
    kind = _KINDS.get(source.get("kind", ""))
    vector = None
    if (encoded := source.get(BYTES)) is not None:
        blob = decoded(encoded)
        vector = np.frombuffer(blob, "<f4").astype(np.float32, copy=False) if blob is not None else None
    whole = (
        kind is not None
        and isinstance(texts[0], str)
        and isinstance(texts[1], str)
        and all(text is None or isinstance(text, str) for text in texts)
        and (encoded is None or vector is not None)
        and [source.get(name) for name in DERIVED] == [id, version, bucket_of(id), digest_of(id, version, texts[0])]
    )
    if not whole:
        return Document(id, version, "", kind or Kind.SPEAKER, "", None, None, vector)
    return Document(id, version, texts[0] or "", kind or Kind.SPEAKER, texts[1] or "", texts[2], texts[3], vector)


def decoded(encoded: object) -> bytes | None:
    """The bytes of a vector; None for what is not such a text."""
    if not isinstance(encoded, str):
        return None
    try:
        blob = binascii.a2b_base64(encoded)
    except (binascii.Error, ValueError):
        return None
    return blob if len(blob) % 4 == 0 else None


def matches_nothing(where: Filter) -> bool:
    """Whether one of the filters is an empty choice."""
    return () in (where.kinds, where.library_ids, where.recording_ids, where.profile_ids)


def filter_clauses(where: Filter) -> dict[str, Any] | None:
    """A filter as a `bool` query; None where everything passes."""
    wanted = [
        _any_of(name, values)
        for name, values in (
            ("kind", where.kinds),
            ("library_id", where.library_ids),
            ("recording_id", where.recording_ids),
            ("profile_id", where.profile_ids),
        )
        if values is not None
    ]
    unwanted = [
        _any_of(name, values)
        for name, values in (("id", where.exclude_ids), ("recording_id", where.exclude_recording_ids))
        if values
    ]
    if not wanted and not unwanted:
        return None
    return {"bool": {"filter": wanted, "must_not": unwanted}}


def _any_of(name: str, values: Sequence[str]) -> dict[str, Any]:
    parts = [{"terms": {name: list(values[start : start + _TERMS])}} for start in range(0, len(values), _TERMS)]
    return parts[0] if len(parts) == 1 else {"bool": {"should": parts, "minimum_should_match": 1}}
