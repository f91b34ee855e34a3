"""Taking back: what is restored, and what is refused because it could not be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from speakerdb.catalog import journal, library, people, schema
from speakerdb.core.turns import turns_digest
from speakerdb.errors import CannotUndo, InvalidInput, NotFound
from speakerdb.people.splitting import Choice
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence
from speakerdb.testing.invariants import check, complete
from speakerdb.types import Turn
from tests.people.conftest import add, events, turns


def state(db: SpeakerDB) -> object:
    """Names, members and turns."""
    with db.catalog.read() as tx:
        return (
            {r.id: (r.label, r.name, r.profile_id, r.speech_seconds) for r in tx.execute(sa.select(schema.speakers))},
            {r.id: (r.name, r.merged_into) for r in tx.execute(sa.select(schema.profiles))},
            [tuple(r) for r in tx.execute(sa.select(schema.turns).order_by(*schema.turns.primary_key.columns))],
            {r.id: r.turns_digest for r in tx.execute(sa.select(schema.recordings))},
        )


def test_changes_are_taken_back_one_after_the_other(db: SpeakerDB) -> None:
    ids = add(db, "one", 8.0, 5.0, 7.0, labels="AB").speakers
    ada, eve = db.create_profile("Ada").id, db.create_profile("Eve").id
    db.assign(ids["A"], ada)
    a = ids["A"]
    verbs: list[tuple[str, Callable[[], object]]] = [
        ("speaker-renamed", lambda: db.rename_speaker(a, "Ada")),
        ("speaker-renamed", lambda: db.rename_speaker(a, None)),
        ("profile-created", lambda: db.create_profile("Ned")),
        ("profile-deleted", lambda: db.people.delete_profile(db.profiles()[-1].id)),
        ("speaker-assigned", lambda: db.assign(a, eve)),
        ("profile-renamed", lambda: db.rename_profile(ada, "Ada B.")),
        ("profiles-merged", lambda: db.merge_profiles(eve, ada)),
        ("speaker-split", lambda: db.people.split(a, Choice("2"))),
        ("speaker-assigned", lambda: db.assign(a, None)),
    ]
    before = []
    for _, verb in verbs:
        before.append(state(db))
        verb()
        db.work()
    for (kind, _), was in zip(reversed(verbs), reversed(before), strict=True):
        now = state(db)
        planned = db.people.undo(dry_run=True)
        assert state(db) == now, "a dry run changes nothing"
        report = db.people.undo()
        assert (report.kind, report.event, report.undone, planned.undone) == (kind, planned.event, True, False)
        assert report.takes_back == planned.takes_back
        assert state(db) == was, kind
        check(db)
        db.work()
    view = check(db)
    for generation in view.live:
        complete(view, generation)
    undone = [e["data"] for e in events(db) if e["kind"] == "change-undone"]
    assert [each["undone"] for each in undone] == [kind for kind, _ in reversed(verbs)]


def test_there_may_be_nothing_to_take_back(db: SpeakerDB) -> None:
    add(db, "one")
    with pytest.raises(CannotUndo):
        db.people.undo()
    db.create_profile("Ada")
    db.people.undo()
    with pytest.raises(CannotUndo):
        db.people.undo()


def test_versions_only_grow(db: SpeakerDB) -> None:
    a = add(db, "one").speakers["A"]
    db.work()
    db.people.split(a, Choice("1"))
    db.work()
    db.people.undo()
    with db.catalog.read() as tx:
        assert tx.execute(sa.select(schema.recordings.c.content_version)).scalar_one() == 3
    assert set(db.speaker(a).generations.values()) == {"stale"}


def test_the_new_speaker_of_a_split_leaves_every_index(db: SpeakerDB) -> None:
    a = add(db, "one").speakers["A"]
    split = db.people.split(a, Choice("1"))
    assert split.speaker_id is not None
    db.work()
    db.people.undo()
    with pytest.raises(NotFound):
        db.speaker(split.speaker_id)
    db.work()
    view = check(db)
    for generation in view.live:
        assert view.documents[generation][split.speaker_id].deleted


def test_splits_of_one_recording_are_taken_back_in_turn(db: SpeakerDB) -> None:
    a = add(db, "one", 1.0, 2.0, 3.0, 4.0, labels="A").speakers["A"]
    was = state(db)
    db.people.split(a, Choice("1"))
    db.people.split(a, Choice("1"))
    db.people.undo()
    db.people.undo()
    assert state(db) == was


# Refusals


def test_an_earlier_change_can_be_chosen_by_its_event(db: SpeakerDB) -> None:
    ids = add(db, "one").speakers
    db.rename_speaker(ids["A"], "Ada")
    event = events(db)[-1]["id"]
    db.rename_speaker(ids["B"], "Bob")
    assert db.people.undo(event).event == event
    assert (db.speaker(ids["A"]).name, db.speaker(ids["B"]).name) == (None, "Bob")
    with pytest.raises(CannotUndo, match="already"):
        db.people.undo(event)
    assert db.people.undo().entity == ids["B"]
    with pytest.raises(NotFound):
        db.people.undo(10_000)
    with pytest.raises(InvalidInput, match="recording-added"):
        db.people.undo(events(db)[0]["id"])


def refused(db: SpeakerDB, *, event: int | None = None, match: str | None = None) -> str:
    was, count = state(db), len(events(db))
    with pytest.raises(CannotUndo, match=match) as raised:
        db.people.undo(event)
    assert (state(db), len(events(db))) == (was, count)
    assert str(raised.value.details["event"]) in raised.value.message
    return raised.value.message


def named_event(db: SpeakerDB, kind: str) -> int:
    return next(e["id"] for e in reversed(events(db)) if e["kind"] == kind)


def test_a_speaker_that_went_with_its_turns_has_no_name_to_give_back(db: SpeakerDB) -> None:
    ids = add(db, "one").speakers
    db.rename_speaker(ids["A"], "Ada")
    db.add(None, (Turn(0.0, 5.0, "B"),), recording_id="one", waveform=silence(20))
    assert "gone" in refused(db)


def test_a_recording_that_went_takes_what_was_told_of_it(db: SpeakerDB) -> None:
    eve = db.create_profile("Eve").id
    ids = add(db, "one").speakers
    db.assign(ids["A"], eve)
    db.people.split(ids["A"], Choice("1"))
    db.people.undo()
    db.rename_speaker(ids["A"], "Ada")
    db.remove("one")
    assert db.people.undo().entity == eve, "the change before those of the recording"
    with pytest.raises(CannotUndo):
        db.people.undo()


def test_a_name_that_came_with_the_recording_since_is_not_lost(db: SpeakerDB) -> None:
    ids = add(db, "one").speakers
    db.rename_speaker(ids["A"], "Ada")
    with db.catalog.change() as tx:
        library.set_speaker(tx, ids["A"], name="Eve")
    assert "'Eve'" in refused(db)


def test_a_split_of_turns_that_changed_since_stays(db: SpeakerDB) -> None:
    a = add(db, "one", 8.0, 5.0, 7.0).speakers["A"]
    split = db.people.split(a, Choice("1"))
    other = (Turn(0.0, 3.0, "A"), Turn(3.0, 5.0, split.label), Turn(5.0, 6.0, "B"))
    db.add(None, other, recording_id="one", waveform=silence(20))
    assert "turns of the recording one were changed" in refused(db)


def test_a_split_whose_sound_changed_since_is_taken_back(db: SpeakerDB) -> None:
    a = add(db, "one", 8.0, 5.0, 7.0).speakers["A"]
    was = state(db)
    db.people.split(a, Choice("1"))
    now = (Turn(0.0, 8.0, "A-b"), Turn(8.0, 13.0, "B"), Turn(13.0, 20.0, "A"))
    db.add(None, now, recording_id="one", waveform=silence(20))
    db.people.undo()
    assert state(db) == was


def test_a_split_whose_new_speaker_was_named_stays(db: SpeakerDB) -> None:
    a = add(db, "one").speakers["A"]
    split = db.people.split(a, Choice("1"))
    event = named_event(db, "speaker-split")
    assert split.speaker_id is not None
    db.rename_speaker(split.speaker_id, "Eve")
    assert "named" in refused(db, event=event)
    db.people.undo()
    db.people.undo(event)


def test_a_profile_that_is_used_stays(db: SpeakerDB) -> None:
    a = add(db, "one").speakers["A"]
    ada = db.create_profile("Ada").id
    event = named_event(db, "profile-created")
    db.assign(a, ada)
    assert "has speakers" in refused(db, event=event)
    db.people.undo()
    db.merge_profiles(db.create_profile("Eve").id, ada)
    assert "merged into" in refused(db, event=event)
    db.people.undo()
    db.rename_profile(ada, "Ada B.")
    assert "Ada B." in refused(db, event=event)


def test_a_profile_whose_id_is_anothers_now_stays_deleted(db: SpeakerDB) -> None:
    db.people.make_profile("Ada", profile_id="one")
    db.people.delete_profile("one")
    deleted = events(db)[-1]["id"]
    db.people.make_profile("Eve", profile_id="one")
    before = state(db)
    for dry_run in (True, False):
        with pytest.raises(CannotUndo, match="another profile was made with the id one since"):
            db.people.undo(deleted, dry_run=dry_run)
    assert state(db) == before


def test_a_merge_whose_speakers_were_moved_again_stays(db: SpeakerDB) -> None:
    ids = [add(db, f"r{n}").speakers["A"] for n in range(3)]
    ada, eve, zoe = (db.create_profile(name).id for name in ("Ada", "Eve", "Zoe"))
    for speaker in ids:
        db.assign(speaker, ada)
    db.merge_profiles(ada, eve)
    event = named_event(db, "profiles-merged")
    db.assign(ids[1], zoe)
    assert "1 of the 3 speakers" in refused(db, event=event)
    db.people.undo()
    db.merge_profiles(eve, zoe)
    assert "merged again" in refused(db, event=event)
    db.people.undo()
    db.people.undo(event)
    assert [p.speakers for p in db.profiles()] == [3, 0, 0]


def test_a_merge_whose_name_is_taken_stays(db: SpeakerDB) -> None:
    ada, eve = db.create_profile("Ada").id, db.create_profile("Eve").id
    db.merge_profiles(ada, eve)
    event = named_event(db, "profiles-merged")
    other = db.create_profile("Ada")
    assert other.id in refused(db, event=event)
    db.people.undo()
    db.people.undo(event)


def test_names_that_were_taken_since_stay_with_whom_they_are(db: SpeakerDB) -> None:
    ada = db.create_profile("Ada").id
    db.rename_profile(ada, "Eve")
    renamed = named_event(db, "profile-renamed")
    db.create_profile("Ada")
    refused(db, event=renamed, match="'Ada'")
    gone = db.create_profile("Ned")
    db.people.delete_profile(gone.id)
    deleted = named_event(db, "profile-deleted")
    db.create_profile("Ned")
    refused(db, event=deleted, match="'Ned'")


def test_an_assignment_out_of_a_profile_that_went_stays(db: SpeakerDB) -> None:
    a = add(db, "one").speakers["A"]
    ada, eve = db.create_profile("Ada").id, db.create_profile("Eve").id
    db.assign(a, ada)
    db.assign(a, None)
    event = named_event(db, "speaker-assigned")
    db.merge_profiles(ada, eve)
    refused(db, event=event, match="merged")
    db.people.undo()
    db.people.delete_profile(ada)
    refused(db, event=event, match="gone")


def test_members_that_went_with_their_recordings_do_not_hinder(db: SpeakerDB) -> None:
    ids = [add(db, f"r{n}").speakers["A"] for n in range(3)]
    ada, eve = db.create_profile("Ada").id, db.create_profile("Eve").id
    for speaker in ids:
        db.assign(speaker, ada)
    db.merge_profiles(ada, eve)
    db.remove("r1")
    assert "1 that went" in db.people.undo().takes_back
    assert {s.id for s in db.speakers(profile=ada)} == {ids[0], ids[2]}


def test_a_merge_that_an_older_version_recorded_cannot_be_taken_back(db: SpeakerDB) -> None:
    ada, eve = db.create_profile("Ada").id, db.create_profile("Eve").id
    with db.catalog.change() as tx:
        people.merge(tx, ada, eve, db.catalog.now())
        journal.record(tx, "profiles-merged", "me", db.catalog.now(), entity_id=ada, into=eve, speakers=1)
    assert "older version" in refused(db)


# Many


def test_a_merge_of_ten_thousand_members_and_back(tmp_path: Path) -> None:
    count = 10_000
    with SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor()) as db:
        ada, eve = db.create_profile("Ada").id, db.create_profile("Eve").id
        chosen = turns(8.0)
        with db.catalog.change() as tx:
            home, now = library.library_id(tx, "default"), db.catalog.now()
            tx.execute(
                sa.insert(schema.recordings),
                [
                    {"id": f"r{n}", "library_id": home, "turns_digest": turns_digest(chosen), "content_version": 1,
                     "created_at": now, "updated_at": now}
                    for n in range(count)
                ],
            )  # fmt: skip
            tx.execute(
                sa.insert(schema.speakers),
                [
                    {"id": f"s{n}", "recording_id": f"r{n}", "label": "A", "speech_seconds": 8.0, "created_at": now,
                     "profile_id": ada}
                    for n in range(count)
                ],
            )  # fmt: skip
        assert db.merge_profiles(ada, eve).speakers == count
        assert db.people.undo().undone
        assert {p.name: p.speakers for p in db.profiles()} == {"Ada": count, "Eve": 0}
