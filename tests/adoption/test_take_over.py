"""The take-over of a legacy index: what it does, and that nothing is lost wherever it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
import sqlalchemy as sa

from speakerdb.adoption import ImportOptions
from speakerdb.catalog import adopting, schema
from speakerdb.errors import Conflict, IndexUnavailable, InvalidInput, SafetyStop, SpeakerDBError
from speakerdb.service import SpeakerDB
from speakerdb.testing.faults import Fault, SimulatedCrash
from speakerdb.testing.invariants import check
from speakerdb.types import SERVING_ALIAS
from tests.adoption.legacy import Raw, Stage, fill, unit


@pytest.fixture
def make(make: Callable[[], Stage]) -> Callable[[], Stage]:
    def new() -> Stage:
        stage = make()
        stage.cluster.indices["speakers"] = Raw()
        fill(stage.old)
        return stage

    return new


def check_taken(stage: Stage, count: int = 7) -> SpeakerDB:
    """The alias serves all the voices, in an ordinary library."""
    db = stage.restart()
    assert "speakers" not in stage.cluster.indices
    assert any(raw.documents.keys() >= {str(n) for n in range(count)} for raw in stage.cluster.indices.values())
    db._first_start()
    db.work()
    view = check(db)
    assert view.aliases[SERVING_ALIAS] == (view.concrete("v3"),)
    for number in range(count):
        document = view.documents["v3"][str(number)]
        assert np.array_equal(document.vector, unit(number))
        assert document.recording_id == str(number // 2)
    return db


def test_a_legacy_index_is_taken_over(stage: Stage) -> None:
    db = stage.open()
    report = db.adoption.takeover.run()
    assert report.done
    assert report.taken is not None
    assert (report.taken.documents, report.taken.present, report.taken.refused) == (7, 7, ())
    assert report.copy in stage.cluster.indices
    db = check_taken(stage)
    hits = db.match(speaker="3", same_recording=True).matches
    assert {hit.id for hit in hits} == {"0", "1", "2", "4", "5", "6"}
    assert {hit.profile_name for hit in hits if hit.id in ("0", "6")} == {"3"}
    assert db.status().serving == "v3"
    assert [e["kind"] for e in db.events()].count("index-adopted") == 1
    again = db.adoption.takeover.run()
    assert (again.done, again.taken) == (True, None)


def test_a_preview_changes_nothing(stage: Stage) -> None:
    db = stage.open()
    report = db.adoption.takeover.preview()
    assert (report.done, report.taken.imported if report.taken else 0) == (False, 7)
    assert list(stage.cluster.indices) == ["speakers"]
    assert not stage.old.blocked
    assert db.events() == []
    assert db.recordings() == []


def test_what_is_refused_stops_it_before_anything_is_blocked(stage: Stage) -> None:
    stage.old.put("bad", media_file_id=1, embedding=[0.0] * 24)
    db = stage.open()
    with pytest.raises(SafetyStop, match="zero-vector: bad") as error:
        db.adoption.takeover.run()
    assert "--leave zero-vector" in error.value.hint
    assert not any(call.endswith(("block", "copy", "replace")) for call in stage.points)
    with pytest.raises(InvalidInput):
        db.adoption.takeover.run(leave=("zero",))
    report = db.adoption.takeover.run(leave=("zero-vector",))
    assert report.copy is not None
    assert "bad" in stage.cluster.indices[report.copy].documents
    check_taken(stage)


def test_what_the_application_writes_in_between_is_taken_too(stage: Stage) -> None:
    db = stage.open()
    pages = 0

    def write() -> None:
        stage.old.put("0", media_file_id=0, embedding=[1.0] + [0.0] * 23)
        stage.old.put("new", media_file_id=9, profile_id=4, embedding=[0.0, 1.0] + [0.0] * 22)
        stage.old.put("2", **stage.old.documents["2"].source | {"profile_id": 3})
        del stage.old.documents["5"]

    inner = stage.point

    def point(when: str, call: str) -> None:
        nonlocal pages
        inner(when, call)
        pages += (when, call) == ("before", "block")
        if (when, call) == ("before", "block") and pages == 1:
            write()

    assert stage.foreign is not None
    stage.foreign.called = point
    report = db.adoption.takeover.run()
    assert report.forgotten == 1
    db = stage.restart()
    db._first_start()
    db.work()
    view = check(db)
    assert view.documents["v3"]["0"].vector[0] == 1.0
    assert view.documents["v3"]["new"].recording_id == "9"
    assert view.documents["v3"]["2"].profile_id == view.documents["v3"]["0"].profile_id is not None
    assert view.documents["v3"]["5"].deleted if "5" in view.documents["v3"] else True
    assert "5" not in view.speakers


def test_writes_after_the_comparison_stop_it(stage: Stage) -> None:
    db = stage.open()
    inner = stage.point

    def point(when: str, call: str) -> None:
        inner(when, call)
        if (when, call) == ("after", "copy"):  # somebody lifted the block by hand
            stage.old.blocked = False
            stage.old.put("late", media_file_id=1, embedding=[1.0] * 24)

    assert stage.foreign is not None
    stage.foreign.called = point
    with pytest.raises(SafetyStop, match="after it was compared"):
        db.adoption.takeover.run()
    assert "late" in stage.old.documents
    assert SERVING_ALIAS not in db.index.aliases()
    assert not stage.old.blocked
    stage.foreign.called = inner
    db.adoption.takeover.run()
    assert "late" in check(stage.restart()).speakers


def test_an_index_that_was_made_anew_is_not_taken_for_the_old_one(stage: Stage) -> None:
    db = stage.open()
    inner = stage.point

    def point(when: str, call: str) -> None:
        inner(when, call)
        if (when, call) == ("after", "copy"):
            stage.cluster.indices["speakers"] = Raw(blocked=True, identity="second")

    assert stage.foreign is not None
    stage.foreign.called = point
    with pytest.raises(SafetyStop, match="not the one"):
        db.adoption.takeover.run()
    assert stage.old.identity == "second"


def test_a_library_of_another_generation_does_not_take_it_over(stage: Stage) -> None:
    old = stage.cluster.indices.pop("speakers")
    stage.settings = stage.settings.model_copy(update={"serving": "v4"})
    stage.open(start=True)
    db = stage.restart()
    db.index.update_aliases([])
    with pytest.raises(Conflict, match="alias already"):
        db.adoption.takeover.preview()
    from speakerdb.types import AliasAction

    db.index.update_aliases([AliasAction.remove(SERVING_ALIAS, "speakers_v4")])
    stage.cluster.indices["speakers"] = old
    with pytest.raises(Conflict, match="uses v4"):
        db.adoption.takeover.run()
    report = db.adoption.imports.run("speakers")
    assert (report.imported, report.live, report.next) == (7, False, "speakerdb migrate start --to v3")


def test_an_id_of_another_field_is_read_once_after_the_block(stage: Stage) -> None:
    for number in range(7):
        stage.old.documents[str(number)].source["uuid"] = f"u{number}"
    stage.old.mapping = {"properties": {**stage.old.mapping["properties"], "uuid": {"type": "keyword"}}}
    db = stage.open()
    inner, seen = stage.point, []

    def point(when: str, call: str) -> None:
        inner(when, call)
        if call == "block":
            seen.append(len(db.speakers()))

    assert stage.foreign is not None
    stage.foreign.called = point
    db.adoption.takeover.run(ImportOptions(fields={"id": "uuid"}))
    assert seen == [0, 0]
    db = stage.restart()
    db.work()
    assert {s.id for s in db.speakers()} == {f"u{n}" for n in range(7)}


# Wherever it is stopped


def _crash() -> None:
    raise SimulatedCrash("here")


def _points(make: Callable[[], Stage]) -> int:
    stage = make()
    db = stage.open()
    stage.points.clear()
    db.adoption.takeover.run()
    return len(stage.points)


def test_it_dies_anywhere_and_is_run_again(make: Callable[[], Stage]) -> None:
    total = _points(make)
    assert total > 20
    for number in range(1, total + 1):
        stage = make()
        db = stage.open()
        stage.points.clear()
        stage.at = (number, _crash)
        with pytest.raises(SimulatedCrash):
            db.adoption.takeover.run()
        where = stage.points[-1]
        taken = "speakers" not in stage.cluster.indices
        assert taken or len(stage.old.documents) == 7, where
        db = stage.restart()
        if not taken:
            with pytest.raises(SafetyStop, match="before speakerdb") as error:
                db._first_start()
            with db.catalog.read() as tx:
                begun = adopting.begun(tx) is not None
            assert begun or not stage.old.blocked, where
            assert ("--give-up" in error.value.hint) == begun, where
        assert db.adoption.takeover.run().done, where
        check_taken(stage)
        stage.close()
        stage.opened.clear()


def test_it_dies_anywhere_and_is_given_up(make: Callable[[], Stage]) -> None:
    total = _points(make)
    for number in range(1, total + 1):
        stage = make()
        db = stage.open()
        stage.points.clear()
        stage.at = (number, _crash)
        with pytest.raises(SimulatedCrash):
            db.adoption.takeover.run()
        db = stage.restart()
        if "speakers" in stage.cluster.indices:
            assert not db.adoption.takeover.give_up().blocked
            stage.old.put("more", media_file_id=1, embedding=[1.0] * 24)
            assert db.adoption.takeover.run().done
        else:
            with pytest.raises(Conflict):
                db.adoption.takeover.give_up()
        check_taken(stage)
        stage.close()
        stage.opened.clear()


def test_another_process_takes_over_while_it_is_stopped(make: Callable[[], Stage]) -> None:
    """It wakes when the other one is done: whatever it still does, it does no harm."""
    total = _points(make)
    for number in range(1, total + 1):
        stage = make()
        db = stage.open()
        stage.points.clear()

        def other(stage: Stage = stage) -> None:
            stage.clock.now += 200_000_000
            stage.at = None
            assert stage.open().adoption.takeover.run().done

        stage.at = (number, other)
        with suppress(SpeakerDBError):
            db.adoption.takeover.run()
        check_taken(stage)
        stage.close()
        stage.opened.clear()


@pytest.mark.parametrize("call", ["block", "copy", "replace", "describe", "documents", "page", "holds"])
def test_an_answer_is_lost(stage: Stage, call: str) -> None:
    db = stage.open()
    assert stage.foreign is not None
    stage.foreign.lose.add(call)
    if call == "replace":
        assert db.adoption.takeover.run().done
    else:
        with pytest.raises(IndexUnavailable):
            db.adoption.takeover.run()
        assert not stage.old.blocked
        assert db.adoption.takeover.run().done
    check_taken(stage)


def test_the_replacing_request_arrives_late(stage: Stage) -> None:
    db = stage.open()
    assert stage.foreign is not None
    stage.foreign.hold.add("replace")
    with pytest.raises(IndexUnavailable):
        db.adoption.takeover.run()
    assert not stage.old.blocked
    stage.old.put("after", media_file_id=1, embedding=[1.0] * 24)
    with pytest.raises(SpeakerDBError):
        stage.cluster.late.pop()()
    assert "after" in stage.old.documents
    db.adoption.takeover.run()
    assert "after" in {s.id for s in check_taken(stage).speakers()}


@pytest.mark.parametrize("nth", range(4))
def test_alias_requests_arrive_late(stage: Stage, nth: int) -> None:
    db = stage.open()
    stage.faults.next("update_aliases", *[Fault.PASS] * nth, Fault.HOLD)
    try:
        db.adoption.takeover.run()
    except IndexUnavailable:
        assert db.adoption.takeover.run().done
    index = db.index
    while index.held:
        index.deliver_late()
    check_taken(stage)


def test_a_late_lifting_of_the_block_is_seen(stage: Stage) -> None:
    db = stage.open()
    assert stage.foreign is not None
    stage.foreign.lose.add("copy")
    stage.foreign.hold.add("unblock")
    with pytest.raises(IndexUnavailable):
        db.adoption.takeover.run()
    assert stage.old.blocked, "and the next start says so"
    inner = stage.point

    def point(when: str, call: str) -> None:
        inner(when, call)
        if (when, call) == ("after", "copy") and stage.cluster.late:
            stage.cluster.late.pop()()

    stage.foreign.called = point
    with pytest.raises(SafetyStop, match="may be written again"):
        db.adoption.takeover.run()
    assert db.adoption.takeover.run().done
    check_taken(stage)


def test_the_projections_are_above_every_document(stage: Stage) -> None:
    db = stage.open()
    db.adoption.takeover.run()
    with db.catalog.read() as tx:
        lowest = tx.scalar(sa.select(sa.func.min(schema.projections.c.version)))
    assert lowest > 1
