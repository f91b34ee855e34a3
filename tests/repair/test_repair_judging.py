"""What is thought of one document, and of a whole plan: without a database or an index."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.catalog.vectors import tombstone
from speakerdb.core.digests import bucket_of, digest_of
from speakerdb.core.drift import Finding, Scene, Stated, Sums, When, brakes, differing, is_sound, judge
from speakerdb.core.pooling import content_hash
from speakerdb.testing.factories import fake_vector
from speakerdb.types import Document, Kind

VECTOR = fake_vector("one", 4)
LIVE = Document("x", 50, content_hash(VECTOR, "speaker", "lib", "rec", None), Kind.SPEAKER, "lib", "rec", None, VECTOR)
WHEN = When(now=1000, read=1500, grace=100, tombstones_before=40)


def stated(document: Document = LIVE, **fields: object) -> Stated:
    digest = digest_of(document.id, document.version, document.content_hash)
    values: dict[str, object] = {
        "document": document, "indexed_version": document.version, "deleted": document.deleted, "rejection": None,
        "lives": not document.deleted, "known": not document.deleted, "sound": True,
        "bucket": bucket_of(document.id), "digest": digest,
    }  # fmt: skip
    return Stated(**values | fields)  # type: ignore[arg-type]


def told(want: Stated | None, have: Document | None) -> tuple[str, str] | str:
    found = judge(want, have, WHEN, 4)
    return (found.drift.value, found.mend.value) if isinstance(found, Finding) else found


DEAD = tombstone("x", 50, Kind.SPEAKER, "lib")
OLD = tombstone("x", 30, Kind.SPEAKER, "lib")


@pytest.mark.parametrize(
    ("want", "have", "expected"),
    [
        (stated(), LIVE, "equal"),
        (stated(digest=None), LIVE, "learn"),
        (stated(bucket=None), LIVE, "learn"),
        (stated(), None, ("missing", "rewrite")),
        (stated(DEAD), None, ("missing", "rewrite")),
        (stated(OLD), None, ("tombstone", "purge")),
        (stated(OLD), OLD, ("tombstone", "purge")),
        (stated(DEAD), DEAD, "equal"),
        (stated(DEAD), LIVE, ("stale", "rewrite")),
        (stated(DEAD), replace(LIVE, version=60), ("ahead", "rewrite")),
        (stated(), replace(LIVE, version=49), ("stale", "rewrite")),
        (stated(), DEAD, ("stale", "rewrite")),
        (stated(), replace(LIVE, recording_id=None), ("filters", "rewrite")),
        (stated(), replace(LIVE, vector=fake_vector("two", 4)), ("vector", "rewrite")),
        (stated(), replace(LIVE, vector=2 * VECTOR), ("malformed", "rewrite")),
        (stated(), replace(LIVE, vector=fake_vector("two", 5)), ("malformed", "rewrite")),
        (stated(), replace(LIVE, version=2**63 - 1), ("ahead", "quarantine")),
        (None, replace(LIVE, version=2**63 - 1), ("orphaned", "quarantine")),
        (stated(indexed_version=40), None, "lag"),
        (stated(indexed_version=40, rejection="no"), None, ("rejected", "quarantine")),
        (stated(replace(LIVE, version=901)), None, "young"),
        (stated(replace(LIVE, version=900)), None, ("missing", "rewrite")),
        (stated(replace(LIVE, version=1500)), None, "young"),
        (stated(replace(LIVE, version=1501)), None, ("missing", "rewrite")),
        (None, LIVE, ("orphaned", "bury")),
        (None, DEAD, ("tombstone", "adopt")),
        (None, OLD, ("tombstone", "purge")),
        (stated(DEAD, deleted=False), LIVE, ("unfounded", "bury")),
        (stated(DEAD, deleted=False, lives=True), LIVE, ("lost-vector", "extract")),
        (stated(DEAD, deleted=False, lives=True, digest=None), LIVE, ("lost-vector", "recover")),
        (stated(DEAD, deleted=False, lives=True, known=True), LIVE, ("stale", "rewrite")),
        (stated(DEAD, deleted=False, lives=True, known=True, sound=False, digest=None), LIVE, ("lost-vector", "recover")),
    ],
)  # fmt: skip
def test_what_one_document_comes_to(want: Stated | None, have: Document | None, expected: object) -> None:
    assert told(want, have) == expected


def test_a_unit_vector_is_sound_and_nothing_else() -> None:
    assert is_sound(VECTOR, 4)
    for wrong in (VECTOR * 2, VECTOR[:3], np.zeros(4, np.float32), np.full(4, np.nan, np.float32)):
        assert not is_sound(wrong, 4)


SCENE = Scene("v3", rows=1000, live=900, documents=900, newest_stated=50, newest_held=50, restored=False, ahead=0,
              unknown=0, deletions=0, deleted_before=0, least=10, share=0.05)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({}, []),
        ({"rows": 0, "live": 0}, ["empty-source"]),
        ({"rows": 0, "documents": 0}, []),
        ({"deletions": 45, "unknown": 45}, []),
        ({"deletions": 46, "unknown": 46}, ["deletion-brake"]),
        ({"deletions": 1, "unknown": 1, "deleted_before": 45}, ["deletion-brake"]),
        ({"deletions": 0, "deleted_before": 45}, []),
        ({"live": 10, "deletions": 10, "unknown": 10}, []),
        ({"newest_held": 51}, []),
        ({"newest_held": 51, "deletions": 1, "unknown": 1}, ["restored-source"]),
        ({"newest_held": 51, "unknown": 1}, ["restored-source"]),
        ({"ahead": 1, "unknown": 1}, ["restored-source"]),
        ({"restored": True, "unknown": 1, "deletions": 1000}, ["restored-source", "deletion-brake"]),
    ],
)
def test_brakes(changes: dict[str, int], codes: list[str]) -> None:
    scene = replace(SCENE, **changes)  # type: ignore[arg-type]
    assert [brake.code for brake in brakes(scene)] == codes
    assert list(brakes(scene, {brake.force for brake in brakes(scene)})) == []


PAIRS = st.dictionaries(st.integers(0, 255), st.tuples(st.integers(1, 5), st.integers(0, 2**32)), max_size=6)


@given(PAIRS, PAIRS)
def test_buckets_that_differ(mine: dict[int, tuple[int, int]], its: dict[int, tuple[int, int]]) -> None:
    def sums(unplaced: bool) -> Sums:
        counts, digests = ({bucket: pair[n] for bucket, pair in mine.items()} for n in (0, 1))
        return Sums(counts, digests, 0, unplaced, 0, 0, 0, 0)

    assert differing(sums(False), its) == {b for b in {*mine, *its} if mine.get(b) != its.get(b)}
    assert differing(sums(True), its) is None
    assert differing(sums(False), its | {-1: (1, 0)}) is None
