"""Answers: who is this voice, in which generation, by which path."""

from collections.abc import Callable

import numpy as np
import pytest

from speakerdb import matcher
from speakerdb.errors import ConfigurationError, InvalidInput, MediaMissing, NotEmbedded, NotFound
from speakerdb.extraction import Extracted, Task
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_extract, fake_vector
from speakerdb.types import Filter, Kind, Turn
from tests.flow.conftest import add, migrate


def fill(db: SpeakerDB, count: int = 6, **more: str) -> list[dict[str, str]]:
    ids = [dict(add(db, f"{more.get('library', 'r')}{n}", **more).speakers) for n in range(count)]
    db.work()
    return ids


def test_scores_are_those_of_a_plain_product(db: SpeakerDB) -> None:
    ids = fill(db)
    query = ids[0]["SPEAKER_00"]
    own = fake_vector(f"v3/{query}/1", 24)
    others = [s for r in ids[1:] for s in r.values()]
    oracle = sorted(((float(own @ fake_vector(f"v3/{s}/1", 24)), s) for s in others), reverse=True)[:4]
    found = db.match(speaker=query, k=4)
    assert [m.id for m in found.matches] == [s for _, s in oracle]
    assert [m.score for m in found.matches] == pytest.approx([score for score, _ in oracle], abs=1e-5)
    assert [m.rank for m in found.matches] == [1, 2, 3, 4]
    assert (found.generation, found.index, found.path) == ("v3", "speakers_v3", "serving")


def test_the_query_and_its_recording_are_no_answers_unless_asked_for(db: SpeakerDB) -> None:
    ids = fill(db)
    found = db.match(speaker=ids[0]["SPEAKER_00"], k=100)
    assert {m.recording_id for m in found.matches} == {f"r{n}" for n in range(1, 6)}
    found = db.match(speaker=ids[0]["SPEAKER_00"], k=100, same_recording=True)
    assert ids[0]["SPEAKER_01"] in {m.id for m in found.matches}
    assert ids[0]["SPEAKER_00"] not in {m.id for m in found.matches}


def test_a_batch_gives_what_single_questions_give(db: SpeakerDB) -> None:
    ids = [s for r in fill(db) for s in r.values()]
    assert db.match_many(ids, k=3) == [db.match(speaker=s, k=3) for s in ids]
    assert db.match_many([]) == []
    assert len(db.match_many([ids[0], ids[0]])) == 2
    with pytest.raises(NotFound):
        db.match_many([ids[0], "nobody"])


def test_what_sql_does_not_know_is_never_named(db: SpeakerDB) -> None:
    ids = fill(db, 4)
    db.remove("r1")  # its documents are still live in the index: nothing was projected since
    where = Filter()
    query = fake_vector(f"v3/{ids[0]['SPEAKER_00']}/1", 24)[np.newaxis]
    assert ids[1]["SPEAKER_00"] in {h.id for h in db.index.search("speakers_v3", query, 100, where)[0]}
    assert {m.recording_id for m in db.match(speaker=ids[0]["SPEAKER_00"], k=100).matches} == {"r2", "r3"}


def test_it_looks_deeper_where_many_hits_have_fallen_away(db: SpeakerDB) -> None:
    turns = tuple(Turn(n * 0.5, n * 0.5 + 1.5, f"S{n:02d}") for n in range(36))
    crowd = add(db, "crowd", turns)
    fill(db, 2)
    found = db.match(speaker=crowd.speakers["S00"], k=3)
    assert len(found.matches) == 3
    assert {m.recording_id for m in found.matches} <= {"r0", "r1"}


def test_it_looks_no_deeper_than_engines_do(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matcher, "DEEPEST", 20)
    asked: list[int] = []
    search = db.index.search
    monkeypatch.setattr(db.index, "search", lambda *a: asked.append(a[2]) or search(*a))
    turns = tuple(Turn(n * 0.5, n * 0.5 + 1.5, f"S{n:02d}") for n in range(36))
    crowd = add(db, "crowd", turns)
    fill(db, 2)
    assert len(db.match(speaker=crowd.speakers["S00"], k=3).matches) <= 3
    assert asked[-1] == max(asked) == 20
    assert len(db.match(speaker=crowd.speakers["S00"], k=30, same_recording=True).matches) == 30


def test_names_come_from_sql_at_once(db: SpeakerDB) -> None:
    ids = fill(db, 2)
    ann = db.create_profile("Ann")
    db.assign(ids[1]["SPEAKER_00"], ann.id)
    db.rename_speaker(ids[1]["SPEAKER_00"], "A.")
    db.rename_profile(ann.id, "Anna")
    by_id = {m.id: m for m in db.match(speaker=ids[0]["SPEAKER_00"]).matches}
    match = by_id[ids[1]["SPEAKER_00"]]
    assert (match.name, match.profile_name, match.profile_id, match.label) == ("A.", "Anna", ann.id, "SPEAKER_00")


def test_profiles_answer_and_ask(db: SpeakerDB) -> None:
    ids = fill(db, 3)
    ann, bob = db.create_profile("Ann"), db.create_profile("Bob")
    db.assign(ids[0]["SPEAKER_00"], ann.id)
    db.assign(ids[1]["SPEAKER_00"], bob.id)
    db.work()
    found = db.match(speaker=ids[0]["SPEAKER_00"], kind=Kind.PROFILE)
    assert [(m.kind, m.name) for m in found.matches] == [("profile", "Bob")], "its own profile is no news"
    found = db.match(speaker=ids[2]["SPEAKER_00"], kind=Kind.PROFILE)
    assert {m.name for m in found.matches} == {"Ann", "Bob"}
    assert [m.name for m in db.match(profile=ann.id, kind=Kind.PROFILE).matches] == ["Bob"]
    merged = db.merge_profiles(bob.id, ann.id)
    assert merged.speakers == 2
    db.work()
    assert [p.name for p in db.profiles()] == ["Ann"]
    assert db.match(profile=bob.id).query == ann.id, "an old id leads to where it went"
    assert db.speaker(ids[1]["SPEAKER_00"]).profile_name == "Ann"


def test_a_forgotten_voice_leaves_its_profile(db: SpeakerDB) -> None:
    ids = fill(db, 2)
    ann = db.create_profile("Ann")
    for r in ids:
        db.assign(r["SPEAKER_00"], ann.id)
    db.work()
    db.remove("r0")
    db.work()
    own = fake_vector(f"v3/{ids[1]['SPEAKER_00']}/1", 24)
    score = db.match(vector=own, kind=Kind.PROFILE).matches[0].score
    assert score == pytest.approx(1.0, abs=1e-5), "only the other voice is left in it"
    db.remove("r1")
    db.work()
    with pytest.raises(NotEmbedded):
        db.match(profile=ann.id)


def test_libraries_do_not_see_each_other_when_asked_to(db: SpeakerDB) -> None:
    one, two = fill(db, 2, library="one"), fill(db, 2, library="two")
    found = db.match(speaker=one[0]["SPEAKER_00"], library="one", k=50)
    assert {m.id for m in found.matches} == set(one[1].values())
    everything = db.match(speaker=one[0]["SPEAKER_00"], k=50)
    assert {m.id for m in everything.matches} == set(one[1].values()) | {s for r in two for s in r.values()}
    with pytest.raises(NotFound):
        db.match(speaker=one[0]["SPEAKER_00"], library="three")


def test_a_voice_that_is_not_embedded_says_so(db: SpeakerDB) -> None:
    fill(db, 1)
    report = add(db, "late", (Turn(0, 10, "A"), Turn(10, 10.5, "B")))
    with pytest.raises(NotEmbedded):
        db.match(speaker=report.speakers["A"])
    db.work()
    with pytest.raises(NotEmbedded, match="too-short") as caught:
        db.match(speaker=report.speakers["B"])
    assert caught.value.hint
    assert db.match(speaker=report.speakers["A"]).matches


def test_it_falls_back_to_the_generation_that_has_the_voice(db: SpeakerDB, executor: FakeExecutor) -> None:
    ids = fill(db, 2)
    db.start_migration("v4", force=True)
    db.work()

    def without_v3(task: Task) -> Extracted:
        if task.generation.name == "v3":
            raise MediaMissing("the old model cannot have it")
        return fake_extract(task)

    executor.answer = without_v3
    late = add(db, "late").speakers["SPEAKER_00"]
    db.work()
    found = db.match(speaker=late)
    assert (found.generation, found.path, found.index) == ("v4", "fallback", "speakers_v4")
    assert ids[0]["SPEAKER_00"] in {m.id for m in found.matches}
    assert db.match(speaker=ids[0]["SPEAKER_00"]).path == "serving"
    mixed = db.match_many([late, ids[0]["SPEAKER_00"]])
    assert [m.generation for m in mixed] == ["v4", "v3"]


def test_a_preferred_generation_must_be_live(db: SpeakerDB) -> None:
    ids = fill(db, 2)
    with pytest.raises(ConfigurationError):
        db.match(speaker=ids[0]["SPEAKER_00"], generation="v4")
    migrate(db)
    assert db.match(speaker=ids[0]["SPEAKER_00"], generation="v3").path == "fallback"


def test_vectors_are_checked(db: SpeakerDB) -> None:
    ids = fill(db, 2)
    vector = fake_vector(f"v3/{ids[0]['SPEAKER_00']}/1", 24)
    assert db.match(vector=vector * 7).matches[0].id == ids[0]["SPEAKER_00"]
    for wrong in (np.zeros(24), vector[:16], vector * np.nan):
        with pytest.raises(InvalidInput):
            db.match(vector=wrong.astype(np.float32))
    for asked in ({}, {"speaker": ids[0]["SPEAKER_00"], "vector": vector}):
        with pytest.raises(InvalidInput):
            db.match(**asked)  # type: ignore[arg-type]
    for k in (0, -1):
        with pytest.raises(InvalidInput):
            db.match(vector=vector, k=k)
    assert len(db.match(vector=vector, k=10_000).matches) == 4


def test_ids_may_be_shortened_where_only_one_begins_so(db: SpeakerDB) -> None:
    ids = fill(db, 2)
    speaker = ids[0]["SPEAKER_00"]
    assert db.match(speaker=speaker[:12]).query == speaker
    for too_short in ("spk_", "spk_%"):
        with pytest.raises(NotFound):
            db.match(speaker=too_short)


def test_an_index_that_went_since_the_alias_was_read_is_looked_for_again(open_db: Callable[..., SpeakerDB]) -> None:
    db = open_db()
    ids = fill(db, 2)
    migrate(db)
    other = open_db()
    assert other.match(speaker=ids[0]["SPEAKER_00"]).generation == "v4"
    db.rollback()
    assert other.match(speaker=ids[0]["SPEAKER_00"]).generation == "v3"
