"""What stood there before comes back: turns, speakers with their ids, labels, names and profiles; and a revert is reverted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rediarize_kit import THREE, added, again, are_searchable, row_of, said_of, state_of, turns, turns_of, worked

from speakerdb.catalog import assignments, diarizations, library, splits
from speakerdb.catalog.assignments import AssignmentSet
from speakerdb.diarizers.asked import Asked
from speakerdb.diarizers.port import Hints
from speakerdb.errors import CannotUndo, InvalidInput, NamesUnmapped, NeedsTurns, NotFound
from speakerdb.people.splitting import Choice
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import silence
from tests.listen.conftest import Ear

TWO = turns((0.0, 10.0, "S0"), (10.0, 20.0, "S1"))
"""Nobody is where C was."""


def test_who_was_lost_comes_back_and_is_found_in_both_generations(both: SpeakerDB, ear: Ear) -> None:
    db, ear.turns = both, TWO
    ids = added(db)
    cem = db.create_profile("Cem").id
    db.assign(ids["C"], cem)
    db.rename_speaker(ids["C"], "the guest")
    db.start_migration("v4", force=True)
    worked(db)
    before, was = said_of(db), turns_of(db)
    again(db, asked=Asked(accept_lost=True))
    assert set(said_of(db)) == {ids["A"], ids["B"]}
    for generation in ("v3", "v4"):
        assert not are_searchable(db, generation, [ids["C"]])
    planned = db.rediarizing.revert("r", dry_run=True)
    assert (planned.done, planned.changed, planned.kept_as, planned.refused) == (False, True, None, False)
    assert set(said_of(db)) == {ids["A"], ids["B"]}
    report = db.rediarizing.revert("r", why="Cem was there")
    assert (report.done, report.turns, report.queued, report.gone) == (True, 3, ("v3", "v4"), ())
    assert {one.speaker.label: one.was for one in report.speakers} == {"A": "there", "B": "there", "C": "gone"}
    assert replace(planned, done=True, kept_as=report.kept_as, queued=report.queued) == report
    assert (said_of(db), turns_of(db), row_of(db).content_version) == (before, was, 3)
    worked(db)
    for generation in ("v3", "v4"):
        assert are_searchable(db, generation, [*ids.values(), cem])
    assert db.check_gates().proven
    newest, oldest = db.rediarizing.sets("r")
    assert (newest.number, newest.replaced_by, newest.why) == (report.kept_as, "reverted", "Cem was there")
    assert (oldest.number, oldest.replaced_by) == (report.number, "rediarized")
    (event,) = [e for e in db.events(limit=9) if e["kind"] == "assignments-reverted"]
    assert (event["data"]["back"], event["data"]["gone"], event["why"]) == ([ids["C"]], [], "Cem was there")


def test_a_revert_is_reverted(both: SpeakerDB, ear: Ear) -> None:
    db, ear.turns = both, turns((0.0, 10.0, "S0"), (10.0, 20.0, "S1"), (21.0, 22.0, "S2"), (22.0, 29.0, "S3"))
    added(db, given=turns((0.0, 10.0, "A"), (10.0, 20.0, "B")))
    first = said_of(db), turns_of(db)
    again(db, asked=Asked(Hints(min_speakers=4)))
    second = said_of(db), turns_of(db)
    with db.catalog.read() as tx:
        found = diarizations.find(tx, "r")
    assert found is not None
    for state in (first, second, first):
        db.rediarizing.revert("r")
        worked(db)
        assert (said_of(db), turns_of(db)) == state
        assert are_searchable(db, "v3", state[0])
        if state is second:
            with db.catalog.read() as tx:
                now = diarizations.find(tx, "r")
            assert now == replace(found, content_version=row_of(db).content_version)


def test_the_floor_comes_back_with_it(both: SpeakerDB, ear: Ear) -> None:
    """Who has the floor where two talk is the diarizer's word; it is that of a set again."""
    db = both
    ear.turns = turns((0.0, 10.0, "S0"), (9.0, 20.0, "S1"))
    db.add(None, recording_id="r", waveform=silence(20.0))
    db.work()
    with db.catalog.read() as tx:
        floor = diarizations.exclusive_turns(tx, "r")
    ear.turns = turns((0.0, 5.0, "S0"), (5.0, 20.0, "S1"))
    again(db)
    db.rediarizing.revert("r")
    with db.catalog.read() as tx:
        assert diarizations.exclusive_turns(tx, "r") == floor
        assert floor != tuple(turns((0.0, 10.0, "S0"), (9.0, 20.0, "S1")))


def test_a_newer_name_stands_unless_those_of_then_are_asked_for(both: SpeakerDB, ear: Ear) -> None:
    db, ear.turns = both, turns((0.0, 9.0, "S0"), (10.0, 19.0, "S1"), (20.0, 29.0, "S2"))
    ids = added(db)
    ann, ben = (db.create_profile(name).id for name in ("Ann", "Ben"))
    db.rename_speaker(ids["A"], "Anna")
    db.assign(ids["B"], ann)
    then = said_of(db)
    again(db)
    db.rename_speaker(ids["A"], "Annika")
    db.assign(ids["B"], ben)
    db.rename_speaker(ids["C"], "Cem")
    now = said_of(db)
    report = db.rediarizing.revert("r")
    assert said_of(db) == now
    assert [notice.partition(":")[0] for notice in report.notices] == ["A", "B", "C"]
    again_ = db.rediarizing.revert("r", to=report.number, names="then")
    assert (again_.done, again_.queued) == (True, ())
    assert said_of(db) == then
    worked(db)
    assert are_searchable(db, "v3", [*ids.values(), ann])
    held = db.index.fetch("speakers_v3", [ids["B"]])[ids["B"]]
    assert held.profile_id == ann
    assert row_of(db).content_version == 3
    assert not db.rediarizing.revert("r", to=report.number, names="then").done


def test_who_comes_back_has_what_was_said_of_it_last(db: SpeakerDB, ear: Ear) -> None:
    """Set 1 has C as it was; C was named since, and went with set 2."""
    ids = added(db)
    ear.turns = turns((0.0, 9.0, "S0"), (10.0, 19.0, "S1"), (20.0, 29.0, "S2"))
    again(db)
    db.rename_speaker(ids["C"], "Cem")
    ear.turns = TWO
    again(db, asked=Asked(accept_lost=True))
    _, first = db.rediarizing.sets("r")
    assert [one.name for one in first.speakers] == [None, None, None]
    db.rediarizing.revert("r", to=first.number)
    assert said_of(db)[ids["C"]] == ("C", "Cem", None)
    db.rediarizing.revert("r", to=first.number, names="then")
    assert said_of(db)[ids["C"]] == ("C", None, None)


def test_who_was_named_since_does_not_go_unasked(both: SpeakerDB, ear: Ear) -> None:
    db, ear.turns = both, turns((0.0, 10.0, "S0"), (10.0, 20.0, "S1"), (20.0, 29.0, "S2"))
    added(db, given=turns((0.0, 10.0, "A"), (10.0, 20.0, "B")))
    again(db)
    (new,) = [id for id, (label, _, _) in said_of(db).items() if label == "S2"]
    db.rename_speaker(new, "Dora")
    dora = db.create_profile("Dora").id
    db.assign(new, dora)
    db.work()
    assert are_searchable(db, "v3", [new, dora])
    before = said_of(db)
    with pytest.raises(NamesUnmapped, match="S2"):
        db.rediarizing.revert("r")
    assert (said_of(db), len(db.rediarizing.sets("r"))) == (before, 1)
    assert db.rediarizing.revert("r", dry_run=True).refused
    report = db.rediarizing.revert("r", accept_lost=True)
    assert [(one.id, one.name) for one in report.gone] == [(new, "Dora")]
    worked(db)
    for id in (new, dora):
        assert not are_searchable(db, "v3", [id])
    db.rediarizing.revert("r")
    worked(db)
    assert said_of(db) == before
    assert are_searchable(db, "v3", [new, dora])


def test_a_profile_that_was_merged_or_deleted_since(both: SpeakerDB, ear: Ear) -> None:
    db, ear.turns = both, turns((0.0, 10.0, "S0"))
    ids = added(db)
    ben, cem, other = (db.create_profile(name).id for name in ("Ben", "Cem", "Other"))
    db.assign(ids["B"], ben)
    db.assign(ids["C"], cem)
    again(db, asked=Asked(accept_lost=True))
    db.merge_profiles(ben, other)
    db.people.delete_profile(cem)
    report = db.rediarizing.revert("r")
    assert [said_of(db)[ids[label]][2] for label in "BC"] == [other, None]
    assert [notice.partition(":")[0] for notice in report.notices] == ["B", "C"]
    worked(db)
    assert are_searchable(db, "v3", [*ids.values(), other])


def test_speakers_that_have_each_other_s_label_now(db: SpeakerDB, ear: Ear) -> None:
    ids = added(db)
    ear.turns = turns((0.0, 9.0, "S0"), (10.0, 19.0, "S1"), (20.0, 29.0, "S2"))
    again(db)
    with db.catalog.change() as tx:
        for id, label in ((ids["A"], "x"), (ids["B"], "A"), (ids["A"], "B")):
            library.set_speaker(tx, id, label=label)
    db.rediarizing.revert("r")
    assert {id: label for id, (label, _, _) in said_of(db).items()} == {id: label for label, id in ids.items()}


def test_an_id_that_another_recording_uses_by_now(db: SpeakerDB, ear: Ear) -> None:
    ids = added(db)
    ear.turns = TWO
    again(db, asked=Asked(accept_lost=True))
    added(db, "other")
    with db.catalog.change() as tx:
        splits.insert_speaker(tx, "other", "D", db.catalog.now(), ids["C"])
    report = db.rediarizing.revert("r")
    (back,) = [one for one in report.speakers if one.was == "gone"]
    assert (back.was_id, back.speaker.label) == (ids["C"], "C")
    assert back.speaker.id != ids["C"]
    assert turns_of(db)[-1] == (20.0, 30.0, back.speaker.id)


def test_splits_go_and_come_back(both: SpeakerDB, ear: Ear) -> None:
    db = both
    ids = added(db, given=turns((0.0, 5.0, "A"), (5.0, 10.0, "A"), (10.0, 20.0, "B")))
    made = db.people.split(ids["A"], Choice(turns="2"), why="two people").speaker_id
    assert made is not None
    worked(db)
    before, was = said_of(db), turns_of(db)
    ear.turns = turns((0.0, 10.0, "S0"), (10.0, 20.0, "S1"))
    again(db)
    assert made not in said_of(db) or ids["A"] not in said_of(db)
    db.rediarizing.revert("r")
    worked(db)
    assert (said_of(db), turns_of(db)) == (before, was)
    assert are_searchable(db, "v3", [*ids.values(), made])


def test_what_was_asked_for_is_dropped(both: SpeakerDB, ear: Ear) -> None:
    """A person has said what the turns are; what waits would replace them at once."""
    db = both
    added(db)
    ear.turns = turns((0.0, 9.0, "S0"), (10.0, 19.0, "S1"), (20.0, 29.0, "S2"))
    again(db)
    db.extraction.keep("r", silence(30.0))
    db.rediarizing.queue(["r"], Asked())
    db.rediarizing.revert("r")
    assert state_of(db) is None
    assert worked(db).recordings_diarized == 0


def test_while_it_is_being_diarized(both: SpeakerDB, ear: Ear) -> None:
    db = both
    ids = added(db)
    ear.turns = turns((0.0, 9.0, "S0"), (10.0, 19.0, "S1"), (20.0, 29.0, "S2"))
    again(db)
    hear = ear.hear

    def meanwhile(task: object) -> object:
        db.rediarizing.revert("r")
        return hear(task)  # type: ignore[arg-type]

    ear.hear = meanwhile  # type: ignore[assignment, method-assign]
    ear.turns = turns((0.0, 8.0, "S0"), (10.0, 18.0, "S1"), (20.0, 28.0, "S2"))
    db.extraction.keep("r", silence(30.0))
    db.rediarizing.queue(["r"], Asked())
    assert db.work().recordings_diarized == 0
    assert turns_of(db) == [(0.0, 10.0, ids["A"]), (10.0, 20.0, ids["B"]), (20.0, 30.0, ids["C"])]
    worked(db)
    assert are_searchable(db, "v3", ids.values())


def test_what_cannot_come_back(db: SpeakerDB, ear: Ear) -> None:
    added(db)
    with pytest.raises(NotFound, match="Nothing of the recording"):
        db.rediarizing.revert("r")
    ear.turns = turns((0.0, 9.0, "S0"), (10.0, 19.0, "S1"), (20.0, 29.0, "S2"))
    again(db)
    (kept,) = db.rediarizing.sets("r")
    with pytest.raises(NotFound, match=f"no set {kept.number + 1}"):
        db.rediarizing.revert("r", to=kept.number + 1)
    with pytest.raises(InvalidInput):
        db.rediarizing.revert("r", why="x" * 5000)
    with db.catalog.change() as tx:
        tx.exec_driver_sql("UPDATE recordings SET seconds = 25.0")
    with pytest.raises(InvalidInput, match="beyond the end"):
        db.rediarizing.revert("r")
    with db.catalog.change() as tx:
        tx.exec_driver_sql("UPDATE recordings SET turns_digest = 'awaited', seconds = 30.0")
    with pytest.raises(NeedsTurns):
        db.rediarizing.revert("r")
    assert len(db.rediarizing.sets("r")) == 1


def test_a_revert_is_no_change_of_names_for_undo(db: SpeakerDB, ear: Ear) -> None:
    ids = added(db)
    db.rename_speaker(ids["A"], "Anna")
    ear.turns = turns((0.0, 9.0, "S0"), (10.0, 19.0, "S1"), (20.0, 29.0, "S2"))
    again(db)
    db.rediarizing.revert("r")
    db.people.undo()
    assert said_of(db)[ids["A"]] == ("A", None, None)
    with pytest.raises(CannotUndo):
        db.people.undo()


def test_who_is_gone_is_forgotten_with_the_recording(db: SpeakerDB, ear: Ear) -> None:
    """Also who was named, lost by a diarization, brought back, and lost by a revert of that."""
    ids = added(db)
    db.rename_speaker(ids["C"], "Cem the Secret")
    ear.turns = TWO
    again(db, asked=Asked(accept_lost=True))
    db.rediarizing.revert("r")
    db.rediarizing.revert("r", accept_lost=True)
    db.remove("r")
    with db.catalog.read() as tx:
        told = list(tx.exec_driver_sql("SELECT entity_id, data FROM events"))
    assert not [row for row in told if "Secret" in row.data or row.entity_id in ids.values()]


def test_a_set_survives_its_way_through_sql(db: SpeakerDB, ear: Ear) -> None:
    ear.turns = THREE
    db.add(None, recording_id="r", waveform=silence(30.0))
    db.work()
    with db.catalog.change() as tx:
        number = assignments.remember(tx, "r", "rediarized", "me", 5, why="to see")
        (kept,) = assignments.sets_of(tx, "r")
        found = diarizations.find(tx, "r")
    assert isinstance(kept, AssignmentSet)
    assert (kept.id, kept.at, kept.who, kept.why, kept.replaced_by) == (number, 5, "me", "to see", "rediarized")
    assert kept.found == found
    assert [(turn.start, turn.end, turn.speaker) for turn in kept.turns] == turns_of(db)
    assert kept.turns_digest == row_of(db).turns_digest
    db.add(None, recording_id="new", waveform=silence(30.0))
    with db.catalog.change() as tx:
        assert assignments.remember(tx, "new", "rediarized", "me", 6) is None
