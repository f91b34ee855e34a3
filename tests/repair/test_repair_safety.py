"""What keeps a repair from doing harm: brakes, the lease, crashes at every step, and everybody else at the same time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
import repair_kit as kit
from repair_kit import DAY, Damaged, done

from speakerdb.catalog import journal
from speakerdb.core.drift import HIGHEST
from speakerdb.errors import (
    EmptySource,
    IndexMissing,
    IndexUnavailable,
    InvalidInput,
    LeaseHeld,
    LeaseLost,
    RestoredSource,
    SafetyStop,
)
from speakerdb.housekeeping import Housekeeping
from speakerdb.settings import ScheduleSettings
from speakerdb.testing.backends import Backend
from speakerdb.testing.factories import fake_vector, silence, two_voices
from speakerdb.testing.faults import SimulatedCrash
from speakerdb.testing.invariants import check
from speakerdb.testing.machine_world import die
from speakerdb.types import AliasAction


def problems(library: Damaged) -> set[str]:
    return {problem.code for problem in library.db.status().problems}


def test_an_empty_database_in_front_of_a_full_index(make: Callable[..., Damaged], backend: Backend) -> None:
    library = make(2, backend=backend)
    before = library.documents()
    for table in ("embeddings", "projections", "work_items", "turns", "speakers", "recordings"):
        library.sql(f"DELETE FROM {table}")  # noqa: S608
    for act in (library.db.repairer.check, library.db.repairer.walk, lambda: library.db.repairer.run(vectors=True)):
        with pytest.raises(EmptySource):
            act()
    with pytest.raises(SafetyStop):
        library.db.repairer.run(force=["deletions", "restored"], why="even so")
    assert len(library.documents()) == len(before)
    assert "empty-source" in problems(library)


def test_a_database_of_last_week(make: Callable[..., Damaged], backend: Backend) -> None:
    """Nothing is deleted, what differs is said, and it stays known when new rows hide it; a rebuild settles it."""
    library = make(2, backend=backend)
    old = library.world.save()
    library.world.jump(7 * DAY)
    library.add("this week")
    library.db.assign(library.db.speakers()[0].id, library.db.create_profile("Ada").id)
    library.db.work()
    documents = library.documents()
    library.put_back(old)
    with pytest.raises(RestoredSource) as caught:
        library.db.repairer.check()
    (repair,) = caught.value.details["report"].generations
    assert repair.plan.found["orphaned"] == 3
    assert repair.done == {}
    assert [(d.id, d.version) for d in library.documents()] == [(d.id, d.version) for d in documents]
    assert "restored-source" in problems(library)
    library.add("newer than all")
    library.db.work()
    for act in (library.db.repairer.check, library.db.repairer.walk):
        with pytest.raises(RestoredSource):
            act()
    assert {d.id for d in documents} <= {d.id for d in library.documents() if not d.deleted}
    library.db.rebuild_index("v3")
    library.db.repairer.check()
    assert "restored-source" not in problems(library)
    library.mended()


def accepted(library: Damaged) -> list[str | None]:
    """Why, each time it was accepted."""
    return [event["why"] for event in library.db.events() if event["kind"] == "restoration-accepted"]


def of_last_week(library: Damaged) -> None:
    """The database of last week is put back, and that is known."""
    old = library.world.save()
    library.world.jump(7 * DAY)
    library.add("this week")
    library.db.assign(library.db.speakers()[0].id, library.db.create_profile("Ada").id)
    library.db.work()
    library.put_back(old)
    with pytest.raises(RestoredSource):
        library.db.repairer.check()
    assert "index-ahead" in problems(library)


def test_a_person_says_that_the_database_of_last_week_is_the_right_one(
    make: Callable[..., Damaged], backend: Backend
) -> None:
    """Once the index equals it nothing is left to warn of; what somebody writes by hand later is mended as ever."""
    library = make(2, backend=backend)
    of_last_week(library)
    library.db.repairer.run(force=["restored"], why="the week was a test")
    assert accepted(library) == ["the week was a test"]
    assert not {"index-ahead", "restored-source"} & problems(library)
    library.world.kill(0)
    assert "index-ahead" not in problems(library), "nor does a process that begins find it again"
    library.damage(kit.strangers(1))
    assert done(library.db.repairer.check()) == {"bury": 1}
    library.mended()


@pytest.mark.parametrize("left", ["library", "stopped", "unwritten", "quarantined"])
def test_what_is_left_of_a_newer_database_is_not_accepted(make: Callable[..., Damaged], left: str) -> None:
    library = make(2)
    library.db.add(None, two_voices(), recording_id="elsewhere", waveform=silence(20), library="films")
    library.db.work()
    of_last_week(library)
    run = partial(library.db.repairer.run, force=["restored"], why="the week was a test")
    match left:
        case "library":
            run(library="films")
        case "quarantined":
            library.damage(lambda documents: [replace(documents[0], version=HIGHEST), *documents[1:]])
            assert run().generations[0].quarantined
        case "stopped":
            assert run(stop=lambda: True).generations[0].state == "stopped"
        case "unwritten":
            refuse = True

            def refuses(call: str, when: str) -> None:
                if refuse and (call, when) == ("bulk", "before"):
                    raise IndexUnavailable("The index is read-only.")

            library.db.index.on_call(refuses)  # type: ignore[attr-defined]
            with pytest.raises(IndexUnavailable):
                run()
            refuse = False
    assert accepted(library) == []
    assert "index-ahead" in problems(library)
    if left == "quarantined":
        return
    run()
    assert len(accepted(library)) == 1
    assert "index-ahead" not in problems(library)
    library.mended()


def test_an_older_database_is_known_by_one_document_in_one_share(library: Damaged) -> None:
    """The walk sees a seventh of the ids; where something is ahead in it, everything is looked at before anything is done."""
    library.damage(lambda documents: [*kit.ahead(documents)[:-1], replace(documents[-1], id="zzz")])
    with pytest.raises(RestoredSource) as caught:
        library.db.repairer.walk()
    found = caught.value.details["report"].generations[0].plan.found
    assert found == {"ahead": 1, "missing": 1, "orphaned": 1}
    with pytest.raises(RestoredSource):
        library.db.repairer.check()
    report = library.db.repairer.run(force=["restored"], why="somebody wrote by hand")
    assert done(report) == {"bury": 1, "rewrite": 2}
    library.mended()


def test_deletions_add_up_over_a_day(library: Damaged) -> None:
    for name in ("first", "second"):
        library.damage(kit.strangers(5, name))
        library.db.repairer.check()
    again = fake_vector("again", 24)
    library.damage(lambda documents: [replace(d, vector=again) if d.id == "first-0" else d for d in documents])
    plan = library.plan()
    assert (plan.deletions, plan.deleted_before, plan.allowed) == (0, 10, 10), "it has a row by now, and is stale"
    library.db.repairer.check()
    library.damage(lambda documents: [*documents, replace(documents[0], id="one more")])
    assert [refusal.force for refusal in library.plan().refused] == ["deletions"]
    library.world.jump(DAY + 3600)
    assert not library.plan().refused


def test_deletions_of_a_day_are_counted_though_their_run_is_not_kept_for_as_long(library: Damaged) -> None:
    library.damage(kit.strangers(8, "first"))
    library.db.repairer.check()
    library.world.jump(3 * 3600)
    library.damage(kit.halved)
    library.db.repairer.check()
    keeper = Housekeeping(library.db.catalog, ScheduleSettings(keep_runs_days=0.1), who="test")
    keeper.clean_up()
    library.damage(kit.strangers(8, "second"))
    assert [refusal.force for refusal in library.plan().refused] == ["deletions"]
    library.world.jump(DAY)
    assert keeper.clean_up().repair_runs, "they go a day later"
    assert not library.plan().refused


def test_a_brake_is_overruled_by_its_name_only(library: Damaged) -> None:
    with pytest.raises(InvalidInput):
        library.db.repairer.run(force=["everything"])


def test_what_was_just_changed_is_left_alone(make: Callable[..., Damaged]) -> None:
    library = make(2, repair={"grace_seconds": 60})
    library.damage(lambda documents: documents[1:])
    assert (library.plan().empty, library.plan().young) == (True, 4)
    library.world.jump(61)
    assert done(library.db.repairer.check()) == {"rewrite": 1}


def test_what_changes_while_it_compares_is_left_alone(library: Damaged) -> None:
    """The index is read first: what is added, changed or removed after that is newer in SQL, and no difference."""
    inner, other = library.db.index, library.other

    def meanwhile(call: str, when: str) -> None:
        if (call, when) == ("scan", "after"):
            inner._callbacks.remove(meanwhile)  # type: ignore[attr-defined]
            other.remove("recording-0")
            library.add("later")
            other.work()

    inner.on_call(meanwhile)  # type: ignore[attr-defined]
    plan = library.plan()
    assert plan.empty, plan
    assert plan.young == 4


def test_what_changes_while_a_check_compares_is_left_alone(library: Damaged) -> None:
    """The same by what tells each document's state: only the one that is missing is found."""
    library.add("kept")
    library.db.work()
    library.damage(lambda documents: [d for d in documents if not (d.recording_id == "kept" and d.id == min(
        e.id for e in documents if e.recording_id == "kept"))])  # fmt: skip
    inner, other = library.db.index, library.other

    def meanwhile(call: str, when: str) -> None:
        if (call, when) == ("marks", "after"):
            inner._callbacks.remove(meanwhile)  # type: ignore[attr-defined]
            other.remove("recording-0")
            library.add("later")
            other.work()

    inner.on_call(meanwhile)  # type: ignore[attr-defined]
    assert done(library.db.repairer.check()) == {"rewrite": 1}
    library.mended()


def test_the_projector_at_the_same_time(library: Damaged) -> None:
    """A row that is raised between plan and effect is not raised again."""
    library.damage(lambda documents: documents[1:])
    gone = library.plan().sample[0].id
    inner = library.db.index

    def meanwhile(call: str, when: str) -> None:
        if (call, when) == ("marks", "after"):
            inner._callbacks.remove(meanwhile)  # type: ignore[attr-defined]
            library.other.rebuild_index("v3")
            library.other.assign(gone, library.other.create_profile("Ada").id)
            library.other.work()

    inner.on_call(meanwhile)  # type: ignore[attr-defined]
    report = library.db.repairer.check()
    assert report.done == 0
    library.mended()


@pytest.mark.parametrize(("damage", "first"), [("gone", 1), ("strangers", 2), ("lost", 3)])
def test_it_dies_between_any_two_steps(make: Callable[..., Damaged], damage: str, first: int) -> None:
    """Wherever a repair dies, the next one finishes, and nothing was lost or brought back. (Each kind of damage takes every
    third place, and all together every one.)"""

    def prepared() -> Damaged:
        library = make(2)
        library.db.remove("recording-1")
        library.db.work()
        library.world.jump(8 * DAY)  # its tombstones are old by now
        library.add("newest")
        library.db.work()
        match damage:
            case "gone":
                library.damage(lambda documents: kit.aged(documents[1:]))
            case "strangers":
                library.damage(lambda documents: kit.buried("young")(kit.strangers(2)(documents)))
            case "lost":
                library.sql("DELETE FROM embeddings WHERE entity_id = ?", library.db.speakers()[0].id)
        return library

    library = prepared()
    as_it_was = library.saved()
    library.world.processes[0].arm(10_000, die)
    library.db.repairer.run(vectors=True)
    points = len(library.world.processes[0].points)
    library.world.processes[0].calm()
    assert points > 20
    for at in range(first, points + 1, 3):
        library = make(as_it_was=as_it_was)
        library.world.may_act_inside = True
        library.world.processes[0].arm(at, die)
        with suppress(SimulatedCrash):
            library.db.repairer.run(vectors=True)
        library.world.processes[0].calm()
        library.world.kill(0)
        library.db.repairer.run(vectors=True)
        library.mended()
        library.close()


def test_two_at_once(library: Damaged) -> None:
    library.damage(kit.halved)
    refused = []

    def meanwhile(call: str, when: str) -> None:
        if (call, when) == ("marks", "before"):
            library.db.index._callbacks.remove(meanwhile)  # type: ignore[attr-defined]
            with pytest.raises(LeaseHeld):
                library.other.repairer.check()
            refused.append(call)

    library.db.index.on_call(meanwhile)  # type: ignore[attr-defined]
    library.db.repairer.check()
    assert refused == ["marks"]
    library.mended()


def test_one_that_slept_beyond_its_lease_does_nothing_more(library: Damaged) -> None:
    """It wakes before its purge, when another one has repaired and what it wanted to purge lives again under the same id."""
    library.db.remove("recording-0")
    library.db.work()
    library.add("newest")
    library.db.work()
    library.world.jump(8 * DAY)
    purged: list[str] = []

    def sleeps(call: str, when: str) -> None:
        if (call, when) == ("purge", "before"):
            library.db.index._callbacks.remove(sleeps)  # type: ignore[attr-defined]
            library.world.jump(600)
            tombstones = [d for d in library.documents() if d.deleted]
            library.other.repairer.run(vectors=True)
            purged.extend(d.id for d in tombstones)
            library.index.bulk(
                library.db.generations["v3"].write_alias,
                [replace(library.documents()[0], id=purged[0], version=tombstones[0].version + 1)],
            )

    library.db.index.on_call(sleeps)  # type: ignore[attr-defined]
    with pytest.raises(LeaseLost):
        library.db.repairer.run(vectors=True)
    assert purged
    assert library.index.fetch(library.concrete(), purged[:1])[purged[0]].vector is not None
    assert done(library.db.repairer.check()) == {"bury": 1}
    library.mended()


def test_a_migration_is_never_fought(make: Callable[..., Damaged]) -> None:
    library = make(2)
    with library.db.catalog.job() as tx:
        journal.set_replacing(tx, "v3", 1)
    (repair,) = library.db.repairer.check().generations
    assert "being replaced" in repair.plan.skipped
    with library.db.catalog.job() as tx:
        journal.clear_replacing(tx)
    library.db.start_migration("v4", force=True)
    library.db.work()
    library.sql("UPDATE migrations SET state = 'finalizing', swap_token = 'speakers-swap-1-1'")
    library.damage(lambda documents: documents[1:])
    assert all("a swap is announced" in each.plan.skipped for each in library.db.repairer.check().generations)
    library.sql("UPDATE migrations SET state = 'running', swap_token = NULL")
    assert done(library.db.repairer.check()) == {"rewrite": 1}


@pytest.mark.parametrize("after", ["plan", "rows"])
def test_a_rebuild_that_marks_the_generation_meanwhile(library: Damaged, after: str) -> None:
    """Between the plan and its effect the generation is marked: nothing is done, and the next repair does it."""
    library.damage(lambda documents: documents[1:])
    call = {"plan": ("marks", "after"), "rows": ("bulk", "before")}[after]

    def marks(name: str, when: str) -> None:
        if (name, when) == call:
            library.db.index._callbacks.remove(marks)  # type: ignore[attr-defined]
            with library.other.catalog.job() as tx:
                journal.set_replacing(tx, "v3", 1)

    library.db.index.on_call(marks)  # type: ignore[attr-defined]
    library.db.repairer.check()
    with library.db.catalog.job() as tx:
        journal.clear_replacing(tx)
    library.db.repairer.check()
    library.mended()


def test_every_live_generation_is_repaired(make: Callable[..., Damaged], backend: Backend) -> None:
    """The target of a running migration; then, in the roll-back period, the source."""
    library = make(2, backend=backend)
    library.db.start_migration("v4", force=True)
    library.db.work()
    library.damage(lambda documents: documents[1:], "v4")
    library.damage(lambda documents: documents[2:], "v3")
    assert done(library.db.repairer.check()) == {"rewrite": 3}
    library.db.finalize()
    library.damage(kit.aged, "v3")
    assert done(library.db.repairer.check()) == {"rewrite": 1}
    assert library.db.rollback().serving == "v3"
    check(library.db)


def test_an_index_that_is_gone_is_told_and_built_again_by_a_person(
    make: Callable[..., Damaged], backend: Backend
) -> None:
    library = make(2, backend=backend)
    library.index.drop(library.concrete())
    with pytest.raises(IndexMissing, match="write alias"):
        library.db.repairer.check()
    assert library.db.repairer.history(limit=1)[0].code == "index-missing"
    library.db.rebuild_index("v3")
    library.db.repairer.check()
    library.mended()


def test_an_alias_is_only_ever_told_of(make: Callable[..., Damaged], backend: Backend) -> None:
    library = make(2, backend=backend)
    library.db.start_migration("v4", force=True)
    library.db.work()
    moved = [AliasAction.remove("speakers", "speakers_v3"), AliasAction.add("speakers", "speakers_v4")]
    library.index.update_aliases(moved)
    plan = library.plan()
    assert plan.aliases
    library.db.repairer.run(vectors=True)
    assert library.index.aliases()["speakers"] == ("speakers_v4",)


def test_an_index_that_cannot_be_written(make: Callable[..., Damaged]) -> None:
    """The rows are raised and wait; nothing is raised again while they do, and it goes on by itself."""
    library = make(2)
    library.damage(kit.halved)
    blocked = True

    def refuses(call: str, when: str) -> None:
        if blocked and (call, when) == ("bulk", "before"):
            raise IndexUnavailable("The index is read-only.")

    library.db.index.on_call(refuses)  # type: ignore[attr-defined]
    for expected in (2, 0):
        with pytest.raises(IndexUnavailable) if expected else suppress(IndexUnavailable):
            library.db.repairer.check()
        assert library.db.repairer.history(limit=1)[0].done == ({"rewrite": 2} if expected else {})
    blocked = False
    library.db.work()
    library.db.repairer.check()
    library.mended()


def test_a_failed_read_of_sql_changes_nothing(library: Damaged, monkeypatch: pytest.MonkeyPatch) -> None:
    from speakerdb.catalog import repairs
    from speakerdb.errors import DatabaseUnavailable

    def fails(*_given: object, **_more: object) -> None:
        raise DatabaseUnavailable("It is gone.")

    before = check(library.db).projections
    monkeypatch.setattr(repairs, "stated", fails)
    with pytest.raises(DatabaseUnavailable):
        library.db.repairer.run(vectors=True)
    monkeypatch.undo()
    assert check(library.db).projections == before
    assert library.db.repairer.history(limit=1)[0].state == "failed"
    library.mended()


def test_what_a_person_let_go_does_not_count_against_the_next_day(library: Damaged) -> None:
    library.damage(kit.strangers(20))
    assert done(library.db.repairer.run(force=["deletions"], why="they are to go")) == {"bury": 20}
    library.damage(kit.strangers(1, "another"))
    assert done(library.db.repairer.check()) == {"bury": 1}
    library.mended()


@pytest.mark.parametrize("verb", ["cancel", "rebuild"])
def test_an_index_that_goes_in_the_middle(make: Callable[..., Damaged], verb: str) -> None:
    """Its migration ends, or it is replaced, while it is read: no error, and the next repair finds all in order."""
    library = make(2)
    library.db.start_migration("v4", force=True)
    library.db.work()
    library.damage(lambda documents: documents[1:], "v4")

    def goes(call: str, when: str) -> None:
        if (call, when) == ("digests", "before"):
            seen.append(call)
            if len(seen) == 2:  # that of v4
                getattr(library.other, "cancel")() if verb == "cancel" else library.other.rebuild_index("v4")  # noqa: B009

    seen: list[str] = []
    library.db.index.on_call(goes)  # type: ignore[attr-defined]
    report = library.db.repairer.check()
    assert len(seen) == 2
    library.db.index._callbacks.remove(goes)  # type: ignore[attr-defined]
    assert report.generations[1].state == "stopped"
    library.db.repairer.check()
    library.mended()
