"""The index definitions in `opensearch/` say what the generations and the documents say."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from speakerdb.generations import BUILT_IN
from speakerdb.index.opensearch.definitions import BYTES
from speakerdb.migrator.layout import mark_of
from speakerdb.types import Document, Generation


def definition(repository: Path, generation: Generation) -> Any:
    return json.loads((repository / "opensearch" / f"{generation.index_name}.json").read_text(encoding="utf-8"))


def test_there_is_one_definition_a_generation(repository: Path) -> None:
    names = {path.stem for path in (repository / "opensearch").glob("*.json")}
    assert names == {generation.index_name for generation in BUILT_IN.values()}


@pytest.mark.parametrize("generation", BUILT_IN.values(), ids=lambda generation: generation.name)
def test_a_definition_is_marked_as_the_generation_that_speakerdb_would_make(
    repository: Path, generation: Generation
) -> None:
    mappings = definition(repository, generation)["mappings"]
    assert mappings["_meta"] == mark_of(generation)


@pytest.mark.parametrize("generation", BUILT_IN.values(), ids=lambda generation: generation.name)
def test_the_vectors_are_those_of_the_generation(repository: Path, generation: Generation) -> None:
    given = definition(repository, generation)
    vector = given["mappings"]["properties"]["vector"]
    assert (vector["type"], vector["dimension"]) == ("knn_vector", generation.dimension)
    assert vector["method"]["space_type"] == {"cosine": "cosinesimil"}[generation.metric]
    assert (vector["method"]["name"], vector["method"]["engine"]) == ("hnsw", "lucene")
    assert given["settings"]["index"]["knn"] is True


@pytest.mark.parametrize("generation", BUILT_IN.values(), ids=lambda generation: generation.name)
def test_every_field_of_a_document_has_its_place_and_no_other(repository: Path, generation: Generation) -> None:
    mappings = definition(repository, generation)["mappings"]
    # `bucket` and `digest` are computed from the others, so that two sides can be compared by sums. The bytes are the vector
    # as it was given, which the engine does not give back.
    assert set(mappings["properties"]) == {field.name for field in fields(Document)} | {"bucket", "digest", BYTES}
    assert mappings["dynamic"] == "strict"
    types = {name: field["type"] for name, field in mappings["properties"].items()}
    # Versions are microseconds since the epoch, digests are unsigned 32 bits: neither fits into an integer field.
    assert (types["version"], types["digest"], types["bucket"]) == ("long", "long", "short")
    ids = ("id", "content_hash", "kind", "library_id", "recording_id", "profile_id")
    assert {types[name] for name in ids} == {"keyword"}
    assert types[BYTES] == "binary", "stored, and nothing else"


def test_the_definitions_differ_only_in_what_a_generation_is(repository: Path) -> None:
    first, *others = (definition(repository, generation) for generation in BUILT_IN.values())
    for other in others:
        del other["mappings"]["_meta"], other["mappings"]["properties"]["vector"]["dimension"]
    del first["mappings"]["_meta"], first["mappings"]["properties"]["vector"]["dimension"]
    assert all(other == first for other in others)
