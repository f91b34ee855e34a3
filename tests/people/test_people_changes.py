"""Naming, assigning, splitting, merging and deleting: what changes, and what is written down."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from speakerdb.catalog import schema, vectors
from speakerdb.core.turns import turns_digest
from speakerdb.errors import AlreadyExists, CannotUndo, Conflict, InvalidInput, NotFound
from speakerdb.people.splitting import Choice
from speakerdb.service import SpeakerDB
from speakerdb.testing.invariants import check, complete
from speakerdb.types import Turn
from tests.people.conftest import add, events


def rows(db: SpeakerDB, table: sa.Table) -> dict[Any, Any]:
    with db.catalog.read() as tx:
        return {row[0]: row for row in tx.execute(sa.select(table))}


def turns_in_sql(db: SpeakerDB, recording: str) -> list[tuple[float, float, str]]:
    labels = {key: row.label for key, row in rows(db, schema.speakers).items()}
    query = sa.select(schema.turns).where(schema.turns.c.recording_id == recording).order_by(schema.turns.c.ordinal)
    with db.catalog.read() as tx:
        return [(row.start, row.end, labels[row.speaker_id]) for row in tx.execute(query)]


def test_every_change_says_who_and_why(db: SpeakerDB) -> None:
    a = add(db, "one").speakers["A"]
    people = db.people
    people.rename_speaker(a, "Ada", why="she said so")
    ada = people.create_profile("Ada", why="a new person").id
    people.assign(a, ada, why="I know her")
    people.rename_profile(ada, "Ada B.", why="her name")
    bob = people.create_profile("Bob").id
    people.merge_profiles(bob, ada, why="the same")
    people.split(a, Choice("1"), why="two voices")
    people.delete_profile(people.create_profile("Nobody").id, why="a mistake")
    people.undo(why="not a mistake")
    last = events(db)[1:]
    assert [(e["kind"], e["why"]) for e in last] == [
        ("speaker-renamed", "she said so"),
        ("profile-created", "a new person"),
        ("speaker-assigned", "I know her"),
        ("profile-renamed", "her name"),
        ("profile-created", None),
        ("profiles-merged", "the same"),
        ("speaker-split", "two voices"),
        ("profile-created", None),
        ("profile-deleted", "a mistake"),
        ("change-undone", "not a mistake"),
    ]
    assert all(e["who"] for e in last)


@pytest.mark.parametrize("why", ["a\0b", "\udce4", "x" * 2001])
def test_a_reason_that_cannot_be_stored_is_refused(db: SpeakerDB, why: str) -> None:
    before = len(events(db))
    with pytest.raises(InvalidInput):
        db.people.create_profile("Ada", why=why)
    assert len(events(db)) == before
    assert db.profiles() == []


def test_what_changes_nothing_is_no_event(db: SpeakerDB) -> None:
    a = add(db, "one").speakers["A"]
    ada = db.create_profile("Ada").id
    db.rename_speaker(a, "Ada")
    db.assign(a, ada)
    before = len(events(db))
    db.rename_speaker(a, "Ada")
    db.assign(a, ada)
    db.rename_profile(ada, "Ada")
    assert len(events(db)) == before


# Lists


def test_speakers_are_found_by_name_in_any_case_and_without_one(db: SpeakerDB) -> None:
    ids = add(db, "one", labels="ABC").speakers
    db.rename_speaker(ids["A"], "Åsa Ek")
    db.assign(ids["B"], db.create_profile("Ek, Bertil").id)
    assert [s.id for s in db.people.speakers(unnamed=True)] == [ids["C"]]
    assert [s.id for s in db.people.speakers(name="EK")] == [ids["A"], ids["B"]]
    assert [s.id for s in db.people.speakers(name="a\u030asa")] == [ids["A"]]
    assert [s.id for s in db.people.speakers(name="ek", limit=1)] == [ids["A"]]
    assert db.people.speakers(name="%") == []
    assert len(db.people.speakers(recording="one", limit=2)) == 2


# Assigning by name


def test_assign_by_name_makes_the_person_only_when_asked(db: SpeakerDB) -> None:
    ids = add(db, "one").speakers
    with pytest.raises(NotFound, match="Ada") as raised:
        db.people.assign_by_name(ids["A"], "Ada")
    assert "--create" in raised.value.hint
    first = db.people.assign_by_name(ids["A"], "Ada", create=True)
    again = db.people.assign_by_name(ids["B"], "Ada", create=True)
    assert first.profile_id == again.profile_id is not None
    assert [p.speakers for p in db.profiles()] == [2]
    with pytest.raises(NotFound) as raised:
        db.people.assign_by_name(ids["A"], "ADA")
    assert "'Ada'" in raised.value.hint


def test_assign_by_name_looks_in_the_speakers_own_library(db: SpeakerDB) -> None:
    db.create_profile("Ada", library="tv")
    speaker = add(db, "one").speakers["A"]
    with pytest.raises(NotFound):
        db.people.assign_by_name(speaker, "Ada")
    view = db.people.assign_by_name(speaker, "Ada", create=True)
    assert view.profile_name == "Ada"
    assert sorted(p.library for p in db.profiles()) == ["default", "tv"]


# Splitting


def test_a_split_moves_whole_turns_and_makes_everything_follow(db: SpeakerDB) -> None:
    report = add(db, "one", 8.0, 5.0, 7.0, 4.0, 6.0)
    a = report.speakers["A"]
    ada, ann = db.create_profile("Ada").id, db.create_profile("Ann").id
    db.rename_speaker(a, "Ada")
    db.assign(a, ada)
    db.assign(report.speakers["B"], ann)
    db.work()
    before, members = rows(db, schema.recordings)["one"], rows(db, schema.profiles)

    split = db.people.split(a, Choice("2-3"))

    assert (split.label, split.turns_left, split.seconds, split.seconds_left) == ("A-b", 1, 13.0, 8.0)
    assert split.speaker_id is not None
    assert [turn.number for turn in split.turns] == [2, 3]
    assert turns_in_sql(db, "one") == [
        (0.0, 8.0, "A"), (8.0, 13.0, "B"), (13.0, 20.0, "A-b"), (20.0, 24.0, "B"), (24.0, 30.0, "A-b"),
    ]  # fmt: skip
    after = rows(db, schema.recordings)["one"]
    assert after.content_version == before.content_version + 1
    assert after.turns_digest == turns_digest([Turn(*turn) for turn in turns_in_sql(db, "one")])
    new = db.speaker(split.speaker_id)
    assert (new.name, new.profile_id, new.speech_seconds) == (None, None, 13.0)
    assert db.speaker(a).speech_seconds == 8.0
    assert db.speaker(a).name == "Ada"
    assert set(db.speaker(a).generations.values()) == {"stale"}
    items = [row for row in rows(db, schema.work_items).values() if row.recording_id == "one"]
    assert {(row.generation, row.state, row.reason) for row in items} == {
        (g, "queued", "changed") for g in split.queued
    }
    # All vectors of the recording are stale, so the other speaker's profile is dirty too.
    for profile in (ada, ann):
        assert rows(db, schema.profiles)[profile].members_version > members[profile].members_version
    check(db)
    db.work()
    view = check(db)
    for generation in view.live:
        complete(view, generation)
    assert set(db.speaker(split.speaker_id).generations.values()) == {"embedded"}


def test_a_split_by_time_and_with_a_label(db: SpeakerDB) -> None:
    a = add(db, "one", 8.0, 5.0, 7.0).speakers["A"]
    split = db.people.split(a, Choice(start=10.0), label="guest")
    assert (split.label, len(split.turns), split.seconds) == ("guest", 1, 7.0)
    assert turns_in_sql(db, "one")[2] == (13.0, 20.0, "guest")


def test_a_dry_run_changes_nothing(db: SpeakerDB) -> None:
    a = add(db, "one").speakers["A"]
    before = (turns_in_sql(db, "one"), len(events(db)), rows(db, schema.recordings))
    report = db.people.split(a, Choice("1"), dry_run=True)
    assert report.speaker_id is None
    assert (report.label, report.seconds, report.turns_left) == ("A-b", 8.0, 1)
    assert (turns_in_sql(db, "one"), len(events(db)), rows(db, schema.recordings)) == before


@pytest.mark.parametrize(
    ("choice", "label"),
    [
        (Choice(), None),
        (Choice("1", start=0.0), None),
        (Choice("1-2"), None),
        (Choice("3"), None),
        (Choice(start=8.0, end=13.0), None),
        (Choice(start=1.0), None),
        (Choice("1"), "B"),
        (Choice("1"), " "),
        (Choice("1"), "a\0b"),
        (Choice("1"), "x" * 5000),
    ],
)
def test_a_split_that_cannot_be_is_refused_and_changes_nothing(
    db: SpeakerDB, choice: Choice, label: str | None
) -> None:
    a = add(db, "one").speakers["A"]
    before = turns_in_sql(db, "one")
    for dry_run in (True, False):
        with pytest.raises(InvalidInput) as raised:
            db.people.split(a, choice, label=label, dry_run=dry_run)
        assert raised.value.hint
    assert turns_in_sql(db, "one") == before


def test_a_speaker_with_more_turns_than_a_statement_holds_ids_is_split(db: SpeakerDB) -> None:
    a = add(db, "long", *[0.05] * 40_001, labels="A").speakers["A"]
    split = db.people.split(a, Choice("1,3-40001"))
    assert (len(split.turns), split.turns_left) == (40_000, 1)
    db.people.undo()
    assert db.voices.speaker(a, turns=1).turns_total == 40_001


# Merging


def test_a_profile_is_never_merged_into_itself_by_whatever_id(db: SpeakerDB) -> None:
    a, b, c = (db.create_profile(name).id for name in "ABC")
    db.merge_profiles(a, b)
    for source, into in ((b, a), (a, b), (a, a), (b, b)):
        with pytest.raises(InvalidInput, match="into itself"):
            db.merge_profiles(source, into)
    db.merge_profiles(a, c)  # a is b, so b goes into c
    for each in (a, b, c):
        assert db.people.profile(each).id == c
        assert db.voices.profile(each).id == c
    assert db.voices.profile(c).merged == tuple(sorted((a, b)))
    with pytest.raises(InvalidInput, match="into itself"):
        db.merge_profiles(c, a)
    assert [p.id for p in db.profiles()] == [c]


def test_a_profile_and_a_speaker_never_have_the_same_id(db: SpeakerDB) -> None:
    """Vectors and documents of both are known by their ids alone: one would take the other's."""
    report = add(db, "one", 8.0, 5.0, 7.0)
    a, b = report.speakers["A"], report.speakers["B"]
    db.work()
    with pytest.raises(AlreadyExists):
        db.people.make_profile("Ada", profile_id=a)
    db.people.make_profile("Ada", profile_id="ada")
    db.assign(b, "ada")
    db.work()
    with pytest.raises(AlreadyExists):
        db.people.split(a, Choice("2"), speaker_id="ada")
    db.assign(b, None)
    db.people.delete_profile("ada")
    with pytest.raises(AlreadyExists):  # its documents say so for a while
        db.people.split(a, Choice("2"), speaker_id="ada")
    db.people.split(a, Choice("2"), speaker_id="made")
    with pytest.raises(AlreadyExists):
        db.people.make_profile("Ada", profile_id="made")
    db.people.make_profile("Ada", profile_id="ada")
    db.work()
    check(db)


def test_a_profile_that_was_deleted_does_not_come_back_over_a_speaker(db: SpeakerDB) -> None:
    a = add(db, "one", 8.0, 5.0, 7.0).speakers["A"]
    db.people.make_profile("Ada", profile_id="ada")
    db.people.delete_profile("ada")
    event = events(db)[-1]["id"]
    db.people.split(a, Choice("2"), speaker_id="ada")
    with pytest.raises(CannotUndo, match="a speaker has the id"):
        db.people.undo(event)


def test_an_id_that_is_given_again_after_an_undo_belongs_to_the_newer_split(db: SpeakerDB) -> None:
    first, second = add(db, "one", 8.0, 5.0, 7.0, 6.0, 9.0, labels="AB").speakers.values()
    db.people.split(first, Choice("1"), speaker_id="mine")
    db.people.undo()
    made = db.people.split(first, Choice("2"), speaker_id="mine")
    assert db.people.split(first, Choice("2"), speaker_id="mine") == made
    with pytest.raises(AlreadyExists):
        db.people.split(first, Choice("1"), speaker_id="mine")
    db.people.undo()
    made = db.people.split(second, Choice("1"), speaker_id="mine")
    assert db.people.split(second, Choice("1"), speaker_id="mine") == made
    with pytest.raises(AlreadyExists):
        db.people.split(first, Choice("2"), speaker_id="mine")


def test_a_removed_voice_stays_in_no_profile_of_a_generation_that_rests(db: SpeakerDB) -> None:
    gone, stays = (add(db, name, 30.0, labels="A").speakers["A"] for name in ("gone", "stays"))
    ada, eve = db.create_profile("Ada").id, db.create_profile("Eve").id
    db.assign(gone, ada)
    db.assign(stays, eve)
    db.work()
    db.start_migration("v4", force=True)  # the sound is in memory
    db.work()
    db.cancel()
    db.remove("gone")
    db.work()
    with db.catalog.read() as tx:
        assert [key for name in ("v3", "v4") for key in vectors.speech_behind(tx, name, [gone, ada])] == []
        assert set(vectors.speech_behind(tx, "v4", [stays, eve])) == {stays, eve}
    db.assign(stays, ada)
    db.start_migration("v4", force=True)
    db.work()
    with db.catalog.read() as tx:
        assert set(vectors.speech_behind(tx, "v4", [stays, ada, eve])) == {stays, ada}
    check(db)


def test_a_merge_remembers_who_moved_and_who_leads_there(db: SpeakerDB) -> None:
    ids = [add(db, f"r{n}").speakers["A"] for n in range(3)]
    a, b, c = (db.create_profile(name).id for name in "ABC")
    for speaker, profile in zip(ids, (a, b, c), strict=True):
        db.assign(speaker, profile)
    db.merge_profiles(a, b)
    db.merge_profiles(b, c)
    merges = [e["data"] for e in events(db) if e["kind"] == "profiles-merged"]
    assert merges == [
        {"name": "A", "into": b, "speakers": [ids[0]], "forwarded": []},
        {"name": "B", "into": c, "speakers": sorted(ids[:2]), "forwarded": [a]},
    ]


# Deleting


def test_only_a_profile_that_nothing_uses_is_deleted(db: SpeakerDB) -> None:
    speaker = add(db, "one").speakers["A"]
    ada, bob, eve = (db.create_profile(name).id for name in ("Ada", "Bob", "Eve"))
    db.assign(speaker, ada)
    db.merge_profiles(bob, eve)
    for used in (ada, eve, bob):
        with pytest.raises(Conflict):
            db.people.delete_profile(used)
    db.assign(speaker, None)
    db.work()
    assert db.people.delete_profile(ada).name == "Ada"
    db.work()
    view = check(db)
    assert all(view.documents[g][ada].deleted for g in view.live if ada in view.documents[g])
    with pytest.raises(NotFound):
        db.people.profile(ada)
