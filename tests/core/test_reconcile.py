"""The diff against an oracle of dictionaries."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.core.pooling import content_hash
from speakerdb.core.reconcile import Difference, compare, diff
from speakerdb.testing.factories import fake_vector
from speakerdb.types import Document, Kind


def document(name: str, version: int = 1, text: str = "", *, deleted: bool = False) -> Document:
    vector = None if deleted else fake_vector(text or name, 8)
    recording = None if deleted else "r"
    hashed = content_hash(vector, "speaker", "lib", recording, None)
    return Document(name, version, hashed, Kind.SPEAKER, "lib", recording, None, vector)


documents = st.dictionaries(
    st.sampled_from("abcdefg"),
    st.builds(
        lambda version, text, deleted: (version, text, deleted),
        st.integers(1, 6),
        st.sampled_from(["", "x", "y"]),
        st.booleans(),
    ),
)


def built(rows: dict[str, tuple[int, str, bool]]) -> dict[str, Document]:
    return {name: document(name, v, text, deleted=gone) for name, (v, text, gone) in rows.items()}


@given(documents, documents, st.none() | st.integers(0, 6))
def test_findings_are_those_of_two_dictionaries(
    left: dict[str, tuple[int, str, bool]], right: dict[str, tuple[int, str, bool]], watermark: int | None
) -> None:
    want, have = built(left), built(right)
    limit = 10**9 if watermark is None else watermark
    oracle: dict[str, Difference] = {}
    for name in sorted(want.keys() | have.keys()):
        if name not in have:
            if not want[name].deleted and want[name].version <= limit:
                oracle[name] = Difference.MISSING
        elif name not in want:
            if not have[name].deleted:
                oracle[name] = Difference.ORPHANED
        elif want[name].version <= limit:
            if have[name].version < want[name].version:
                oracle[name] = Difference.STALE
            elif have[name].version > want[name].version:
                oracle[name] = Difference.AHEAD
            elif left[name][1:] != right[name][1:] and not (want[name].deleted and have[name].deleted):
                oracle[name] = Difference.DIFFERENT
    found = diff([want[n] for n in sorted(want)], [have[n] for n in sorted(have)], watermark=watermark)
    assert {finding.id: finding.difference for finding in found} == oracle


@pytest.mark.parametrize("field", ["library_id", "recording_id", "profile_id", "content_hash"])
def test_a_drifted_field_is_a_difference(field: str) -> None:
    want = document("a")
    assert compare(want, replace(want, **{field: "elsewhere"})) is Difference.DIFFERENT


def test_a_vector_that_is_not_what_its_hash_says_is_found() -> None:
    want = document("a")
    assert want.vector is not None
    wrong = np.nextafter(want.vector, np.float32(2))
    assert compare(want, replace(want, vector=wrong)) is Difference.VECTOR
    assert compare(want, replace(want, vector=want.vector.copy())) is None
