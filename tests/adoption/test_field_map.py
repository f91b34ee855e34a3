"""A document that another application wrote becomes values of ours, or a reason."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.core.field_map import (
    MAX_VERSION,
    OURS,
    REASONS,
    Arrival,
    FieldMap,
    Refusal,
    detect,
    mapped_fields,
    parse_fields,
    read,
    read_map,
)
from speakerdb.errors import InvalidInput
from speakerdb.types import Kind

MAP = FieldMap("embedding", "media.id", profile="person", label="label", seconds="seconds", kind="type")
GOOD: dict[str, Any] = {"embedding": [3.0, 0.0, 4.0], "media": {"id": 17}}


def test_a_document_is_read() -> None:
    found = read(MAP, 3, "a", 5, GOOD | {"person": 3, "label": "SPEAKER_00", "seconds": 12})
    assert isinstance(found, Arrival)
    assert (found.id, found.version, found.kind, found.recording, found.profile) == ("a", 5, Kind.SPEAKER, "17", "3")
    assert (found.label, found.seconds, found.was_unit) == ("SPEAKER_00", 12.0, False)
    assert found.vector.dtype == np.float32
    assert found.vector == pytest.approx([0.6, 0.0, 0.8])


def test_a_vector_of_unit_norm_is_kept_as_it_is() -> None:
    vector = [0.6, 0.0, 0.8001]
    found = read(MAP, 3, "a", 5, GOOD | {"embedding": vector})
    assert isinstance(found, Arrival)
    assert found.was_unit
    assert found.vector.tolist() == np.asarray(vector, np.float32).tolist()


@pytest.mark.parametrize("field", ["media.id", "media", "m"])
def test_names_with_dots_are_nested_or_not(field: str) -> None:
    source = {"embedding": [1.0], "media.id": "x", "media": {"id": "y"}, "m": ["z"]}
    found = read(FieldMap("embedding", field), 1, "a", 1, source)
    if field == "media":
        assert found == Refusal("a", "bad-value", "media is a dict")
    else:
        assert isinstance(found, Arrival)
        assert found.recording == {"media.id": "x", "m": "z"}[field]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"embedding": None}, "no-vector"),
        ({"embedding": "[1,2,3]"}, "unreadable-vector"),
        ({"embedding": ["1", "2", "3"]}, "unreadable-vector"),
        ({"embedding": [[1, 2, 3]]}, "unreadable-vector"),
        ({"embedding": [1, [2], 3]}, "unreadable-vector"),
        ({"embedding": [True, False, True]}, "unreadable-vector"),
        ({"embedding": {"a": 1}}, "unreadable-vector"),
        ({"embedding": [10**400, 0, 0]}, "unreadable-vector"),
        ({"embedding": []}, "wrong-dimension"),
        ({"embedding": [1.0, 2.0]}, "wrong-dimension"),
        ({"embedding": [1.0, float("nan"), 0.0]}, "not-finite"),
        ({"embedding": [1e300, 0.0, 0.0]}, "not-finite"),
        ({"embedding": [0, 0, 0]}, "zero-vector"),
        ({"embedding": [1e-60, 0.0, 0.0]}, "zero-vector"),
        ({"media": {}}, "no-recording"),
        ({"media": 3}, "no-recording"),
        ({"media": {"id": ""}}, "no-recording"),
        ({"media": {"id": True}}, "bad-value"),
        ({"media": {"id": 1.5}}, "bad-value"),
        ({"media": {"id": [1, 2]}}, "bad-value"),
        ({"media": {"id": "a\nb"}}, "bad-value"),
        ({"media": {"id": "a\ud800"}}, "bad-value"),
        ({"media": {"id": "x" * 201}}, "bad-value"),
        ({"person": {"id": 1}}, "bad-value"),
        ({"type": "profile"}, "no-profile"),
    ],
)
def test_what_cannot_be_taken_has_a_reason(change: dict[str, Any], reason: str) -> None:
    found = read(MAP, 3, "a", 1, GOOD | change)
    assert isinstance(found, Refusal)
    assert found.reason == reason
    assert reason in REASONS


@pytest.mark.parametrize("version", [-1, MAX_VERSION + 1])
def test_a_version_that_nothing_can_be_above_of(version: int) -> None:
    assert read(MAP, 3, "a", version, GOOD) == Refusal("a", "bad-version", str(version))


def test_large_and_small_vectors_get_unit_norm() -> None:
    for size in (1e30, 1e-30):
        found = read(MAP, 3, "a", 1, GOOD | {"embedding": [3 * size, 0.0, 4 * size]})
        assert isinstance(found, Arrival)
        assert found.vector == pytest.approx([0.6, 0.0, 0.8])


def test_seconds_that_are_none_are_not_known() -> None:
    for seconds in (0, -1, float("nan"), float("inf"), "12", True, None, [3]):
        found = read(MAP, 3, "a", 1, GOOD | {"seconds": seconds})
        assert isinstance(found, Arrival)
        assert found.seconds is None


def test_a_persons_document() -> None:
    found = read(MAP, 3, "d", 1, GOOD | {"type": "profile", "person": 9})
    assert isinstance(found, Arrival)
    assert (found.kind, found.id, found.profile, found.recording) == (Kind.PROFILE, "9", "9", "")
    ours = read(OURS, 1, "prf_1", 1, {"vector": [1.0], "kind": "profile", "profile_id": None})
    assert isinstance(ours, Arrival)
    assert ours.id == "prf_1"


@given(
    source=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["embedding", "media", "id", "person"]), inner),
        max_leaves=12,
    ).filter(lambda given: isinstance(given, dict)),
    id=st.text(),
    version=st.integers(),
)
def test_nothing_in_a_document_raises(source: dict[str, Any], id: str, version: int) -> None:
    found = read(MAP, 3, id, version, source)
    if isinstance(found, Arrival):
        assert abs(float(np.linalg.norm(found.vector.astype(np.float64))) - 1) < 1e-2
    else:
        assert found.reason in REASONS


# The map


def test_an_obvious_mapping_is_found() -> None:
    vectors, fields = mapped_fields(
        {
            "properties": {
                "media_file_id": {"type": "integer"},
                "speaker": {"properties": {"name": {"type": "text"}}},
                "profile_id": {"type": "integer"},
                "embedding": {"type": "knn_vector", "dimension": 512},
            }
        }
    )
    assert (vectors, fields) == (
        {"embedding": 512},
        ("embedding", "media_file_id", "profile_id", "speaker.name"),
    )
    found = detect(vectors, fields, {"name": "speaker.name"})
    assert found == FieldMap("embedding", "media_file_id", profile="profile_id", name="speaker.name")


@pytest.mark.parametrize(
    ("vectors", "fields", "said", "told"),
    [
        ({}, ("recording",), {}, "none"),
        ({"a": 1, "b": 2}, ("recording", "a", "b"), {}, "a, b"),
        ({"a": 1}, ("a", "n"), {}, "Nothing says which field holds the recording"),
        ({"a": 1}, ("a", "recording"), {"profile": "who"}, "no field 'who'"),
        ({"a": 1}, ("a", "recording"), {"vector": "recording"}, "not a vector field"),
    ],
)
def test_what_must_be_said_is_asked(
    vectors: dict[str, int], fields: tuple[str, ...], said: dict[str, str], told: str
) -> None:
    with pytest.raises(InvalidInput, match=told):
        detect(vectors, fields, said)


def test_a_document_may_be_its_own_recording() -> None:
    assert detect({"v": 2}, ("v",), {"recording": "_id"}).recording == "_id"


def test_maps_are_read_from_options_and_files() -> None:
    assert parse_fields(["vector=a.b", " id = x "]) == {"vector": "a.b", "id": "x"}
    assert read_map('vector = "a"', toml=True) == {"vector": "a"} == read_map(json.dumps({"vector": "a"}), toml=False)


@pytest.mark.parametrize("wrong", [["vector"], ["vektor=a"], ["vector="], ["id=a", "id=b"]])
def test_options_that_say_nothing_are_refused(wrong: list[str]) -> None:
    with pytest.raises(InvalidInput):
        parse_fields(wrong)


@pytest.mark.parametrize(
    ("text", "toml"),
    [("{", False), ("[1]", False), ('{"vector": 1}', False), ("a", True), ('who = "x"', True), ("[" * 100_000, False)],
)
def test_files_that_are_no_map_are_refused(text: str, toml: bool) -> None:
    with pytest.raises(InvalidInput):
        read_map(text, toml=toml)
