"""Statistics of speakers and profiles of a library: what is counted, what is current, and who does not fit."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, radians, sqrt

import numpy as np
import pytest
import sqlalchemy as sa

from speakerdb.catalog import schema, voices
from speakerdb.errors import NotFound
from speakerdb.service import SpeakerDB
from speakerdb.types import FloatArray
from tests.people.conftest import add, at_angle

Vectors = dict[str, Callable[[int], FloatArray]]


def person(db: SpeakerDB, vectors: Vectors, name: str, *degrees: float, axis: int = 1) -> tuple[str, list[str]]:
    """A profile with one speaker a recording of 8 s, each at an angle to the first axis; profile and speakers."""
    profile, speakers = db.create_profile(name).id, []
    for number, angle in enumerate(degrees):
        speaker = add(db, f"{name}-{number}", 8.0, labels="A").speakers["A"]
        vectors[speaker] = lambda dimension, angle=angle: at_angle(angle, dimension, axis)
        db.assign(speaker, profile)
        speakers.append(speaker)
    return profile, speakers


def test_a_speaker_is_compared_with_the_others_of_its_profile(db: SpeakerDB, vectors: Vectors) -> None:
    ada, speakers = person(db, vectors, "Ada", 0, 0, 0, 0, 70)
    db.work()
    (found,) = db.voices.speaker(speakers[0]).statistics
    assert (found.generation, found.state, found.seconds, found.segments) == ("v3", "embedded", 8.0, 1)
    assert found.resultant == pytest.approx(1.0)
    assert found.agreement is None
    assert found.outlier is False
    (odd,) = db.voices.speaker(speakers[4]).statistics
    assert odd.similarity == pytest.approx(cos(radians(70)), abs=1e-6)
    assert odd.outlier is True
    assert odd.limit == pytest.approx(0.75), "accept of the generation: 0.92 of the others is usual"
    (profile,) = db.voices.profile(ada).statistics
    assert [(o.speaker_id, o.similarity) for o in profile.least_similar] == [
        (speakers[4], pytest.approx(cos(radians(70)), abs=1e-6))
    ]
    members = db.voices.profile(ada).members
    assert [m.outlier_in for m in members] == [(), (), (), (), ("v3",)]
    assert members[4].similarities["v3"] == pytest.approx(odd.similarity)


def test_a_profile_has_its_numbers(db: SpeakerDB, vectors: Vectors) -> None:
    ada, _ = person(db, vectors, "Ada", 0, 90)
    person(db, vectors, "Ned", 30)
    eve, _ = person(db, vectors, "Eve", 60, axis=2)
    db.work()
    details = db.voices.profile(ada)
    assert (details.name, details.speakers, details.recordings, details.speech_seconds) == ("Ada", 2, 2, 16.0)
    (found,) = details.statistics
    assert (found.members, found.embedded, found.seconds) == (2, 2, 16.0)
    assert found.mean_similarity == pytest.approx(0.0, abs=1e-6)
    assert found.lowest_similarity == pytest.approx(0.0, abs=1e-6)
    assert found.spread == pytest.approx(1 - sqrt(0.5), abs=1e-6)
    assert found.outliers == 2
    assert found.nearest is not None
    assert found.nearest.name == "Ned"
    assert found.nearest.similarity == pytest.approx(cos(radians(15)), abs=1e-6)
    (other,) = db.voices.profile(eve).statistics
    assert (other.mean_similarity, other.limit, other.outliers, other.spread) == (
        None,
        None,
        0,
        pytest.approx(0, abs=1e-6),
    )


def test_only_current_vectors_count(db: SpeakerDB, vectors: Vectors) -> None:
    ada, speakers = person(db, vectors, "Ada", 0, 10, 20)
    db.work()
    add(db, "Ada-1", 4.0, labels="A")
    (found,) = db.voices.profile(ada).statistics
    assert (found.members, found.embedded, found.seconds) == (3, 2, 16.0)
    (stale,) = db.voices.speaker(speakers[1]).statistics
    assert (stale.state, stale.seconds, stale.similarity) == ("stale", None, None)


def test_generations_are_never_compared_with_each_other(db: SpeakerDB, vectors: Vectors) -> None:
    ada, speakers = person(db, vectors, "Ada", 0, 40)
    vectors[speakers[1]] = lambda dimension: at_angle(40 if dimension == 24 else 20, dimension)
    db.work()
    db.start_migration("v4", force=True)
    assert [s.embedded for s in db.voices.profile(ada).statistics] == [2, 0]
    db.work()
    old, new = db.voices.profile(ada).statistics
    assert (old.generation, new.generation) == ("v3", "v4")
    assert old.mean_similarity == pytest.approx(cos(radians(40)), abs=1e-6)
    assert new.mean_similarity == pytest.approx(cos(radians(20)), abs=1e-6)


def test_what_is_not_embedded_says_why(db: SpeakerDB) -> None:
    ids = add(db, "one", 8.0, 0.5).speakers
    assert [s.state for s in db.voices.speaker(ids["A"]).statistics] == ["waiting"]
    db.work()
    (short,) = db.voices.speaker(ids["B"]).statistics
    assert (short.state, short.seconds) == ("too-short", None)
    nobody = db.voices.profile(db.create_profile("Nobody").id)
    assert (nobody.speech_seconds, nobody.recordings, nobody.members, nobody.appearances) == (0.0, 0, (), ())
    assert nobody.statistics[0].embedded == 0
    with pytest.raises(NotFound):
        db.voices.speaker("nobody")


def test_turns_are_shown_with_the_numbers_that_a_split_takes(db: SpeakerDB) -> None:
    a = add(db, "one", 1.0, 2.0, 3.0, 4.0, 5.0).speakers["A"]
    details = db.voices.speaker(a, turns=2)
    assert [(t.number, t.start, t.end) for t in details.turns] == [(1, 0.0, 1.0), (2, 3.0, 6.0)]
    assert (details.turns_total, details.library) == (3, "default")
    assert db.voices.speaker(a, turns=0).turns == ()


def test_appearances_are_in_the_order_of_time(db: SpeakerDB, vectors: Vectors) -> None:
    ada, _ = person(db, vectors, "Ada", 0, 0, 0)
    two = add(db, "both", 3.0, 4.0, labels="AB").speakers
    db.assign(two["A"], ada)
    db.assign(two["B"], ada)
    with db.catalog.change() as tx:
        dated = sa.update(schema.recordings).where(schema.recordings.c.id == "both").values(recorded_at=1_000_000)
        tx.execute(dated)
    details = db.voices.profile(ada)
    assert [(a.recording_id, a.dated) for a in details.appearances] == [
        ("both", True), ("Ada-0", False), ("Ada-1", False), ("Ada-2", False),
    ]  # fmt: skip
    first = details.appearances[0]
    assert (first.at, first.speech_seconds, first.speakers) == (1_000_000, 7.0, 2)
    assert [m.recording_id for m in details.members] == ["both", "both", "Ada-0", "Ada-1", "Ada-2"]
    few = db.voices.profile(ada, rows=2)
    assert (len(few.members), len(few.appearances), few.speakers, few.recordings) == (2, 2, 5, 4)


def test_many_members_are_read_in_parts(db: SpeakerDB, vectors: Vectors, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, speakers = person(db, vectors, "Ada", *[0.0, 5.0, 10.0, 15.0, 80.0, 20.0, 25.0])
    db.work()
    whole = db.voices.profile(ada)
    monkeypatch.setattr(voices, "VECTORS", 2)
    parts = db.voices.profile(ada)
    (one,), (other,) = whole.statistics, parts.statistics
    assert one.least_similar[0].speaker_id == other.least_similar[0].speaker_id == speakers[4]
    for name in ("mean_similarity", "lowest_similarity", "spread", "limit", "outliers", "embedded", "seconds"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-9)
    with db.catalog.read() as tx:
        sizes = [len(part.ids) for part in voices.member_parts(tx, "v3", ada)]
    assert sizes == [2, 2, 2, 1]


def test_the_centroid_of_the_statistics_is_the_vector_that_is_searched(db: SpeakerDB, vectors: Vectors) -> None:
    ada, _ = person(db, vectors, "Ada", 0, 15, 40)
    person(db, vectors, "Eve", 90)
    db.work()
    from speakerdb.core.statistics import gather

    with db.catalog.read() as tx:
        gathered = gather(voices.member_parts(tx, "v3", ada))
        stored = tx.execute(
            sa.select(schema.embeddings.c.vector).where(schema.embeddings.c.entity_id == ada)
        ).scalar_one()
    assert gathered is not None
    assert gathered.centroid is not None
    np.testing.assert_allclose(np.frombuffer(stored, "<f4"), gathered.centroid, atol=1e-6)
