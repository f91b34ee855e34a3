"""Who is an answer: another person near the best one decides, and nobody answers with voices that have gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from speakerdb.errors import NotEmbedded
from speakerdb.service import SpeakerDB
from speakerdb.types import FloatArray, Kind
from tests.people.conftest import add, at_angle


def heard(db: SpeakerDB, vectors: dict[str, Callable[[int], FloatArray]], name: str, degrees: float) -> str:
    """A speaker alone in a recording, whose voice is at this angle."""
    (speaker,) = add(db, name, 30.0, labels="A").speakers.values()
    vectors[speaker] = lambda dimension: at_angle(degrees, dimension)
    return speaker


def test_another_person_near_decides_though_one_answer_was_wanted(
    db: SpeakerDB, vectors: dict[str, Callable[[int], FloatArray]]
) -> None:
    asked, ada, eve = (heard(db, vectors, name, angle) for name, angle in (("asked", 0), ("ada", 5), ("eve", 6)))
    db.assign(ada, db.create_profile("Ada").id)
    db.assign(eve, db.create_profile("Eve").id)
    db.work()
    for kind in (Kind.SPEAKER, Kind.PROFILE):
        both, one = (db.match(speaker=asked, k=k, kind=kind) for k in (2, 1))
        assert (one.decision, one.reason, one.margin) == (both.decision, both.reason, both.margin)
        assert one.decision == "ambiguous"
        assert one.matches == both.matches[:1]


@pytest.mark.parametrize(("angle", "decision"), [(9.0, "ambiguous"), (60.0, "accept")])
def test_all_the_answers_may_be_one_persons_with_another_behind_them(
    db: SpeakerDB, vectors: dict[str, Callable[[int], FloatArray]], angle: float, decision: str
) -> None:
    asked = heard(db, vectors, "asked", 0)
    ada = db.create_profile("Ada").id
    for number in range(12):
        db.assign(heard(db, vectors, f"ada-{number}", 5 + number / 10), ada)
    eve = heard(db, vectors, "eve", angle)
    db.work()
    for k in (3, 10):
        found = db.match(speaker=asked, k=k)
        assert [match.profile_id for match in found.matches] == [ada] * k
        assert found.decision == decision == db.match(speaker=asked, k=13).decision
    assert db.match_many([asked, eve], k=3)[0] == db.match(speaker=asked, k=3)


@pytest.mark.parametrize("removed", [True, False], ids=["removed", "taken-out"])
def test_a_person_whose_voices_all_went_answers_with_them_no_more(
    db: SpeakerDB, vectors: dict[str, Callable[[int], FloatArray]], *, removed: bool
) -> None:
    gone, asked, other = (heard(db, vectors, name, angle) for name, angle in (("gone", 0), ("asked", 2), ("other", 80)))
    ada, eve = db.create_profile("Ada").id, db.create_profile("Eve").id
    db.assign(gone, ada)
    db.assign(other, eve)
    db.work()
    assert db.match(speaker=asked, kind=Kind.PROFILE).matches[0].id == ada
    if removed:
        db.remove("gone")
    else:
        db.assign(gone, None)
    # Nobody has worked since: the index still has what was pooled.
    for query in (asked,) if removed else (asked, gone):
        assert [match.id for match in db.match(speaker=query, kind=Kind.PROFILE).matches] == [eve]
    with pytest.raises(NotEmbedded):
        db.match(profile=ada)
