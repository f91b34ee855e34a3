"""What is asked while another process makes, moves or drops an index: none of it is a fault, and a match needs no count."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from speakerdb.errors import IndexMissing, IndexUnavailable
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import silence
from speakerdb.testing.faults import Fault
from speakerdb.testing.machine_world import World
from speakerdb.types import AliasAction, Turn

MOVED = {"alias-moved", "alias-missing", "alias-disagrees", "index-missing", "index-left-over", "swap-unfinished"}


@pytest.fixture
def world() -> Iterator[World]:
    """Two processes. Two recordings are in v3, which serves, and in v4."""
    made = World()
    db = made.processes[0].db
    for name in ("one", "two"):
        db.add(None, [Turn(0.0, 8.0, "A")], recording_id=name, waveform=silence(20))
    db.work()
    db.start_migration("v4", force=True)
    db.work()
    try:
        yield made
    finally:
        made.close()


def again(db: SpeakerDB) -> None:
    """Another migration is ready to be finalized."""
    db.start_migration("v4", force=True)
    db.work()


def rebuild(db: SpeakerDB) -> None:
    db.rebuild_index("v3")


def there_and_back(db: SpeakerDB) -> None:
    db.finalize()
    db.rollback()
    again(db)


def retire(db: SpeakerDB) -> None:
    db.finalize()
    db.retire()


def cancel(db: SpeakerDB) -> None:
    db.cancel()


def ready(db: SpeakerDB) -> None:
    """v3 serves, and a migration to v4 can be finalized, whatever was done before."""
    if db.status().serving == "v4":
        db.start_migration("v3", force=True)
        db.work()
        db.finalize()
        db.retire()
    if db.status().migration is None:
        again(db)


@pytest.mark.parametrize("deed", [rebuild, there_and_back, retire, cancel])
def test_a_status_takes_no_move_of_another_process_for_a_fault(world: World, deed: Callable[[SpeakerDB], None]) -> None:
    """At each of its points in turn, the other one does all of it."""
    one, other = world.processes
    for point in range(1, 100):
        ready(other.db)
        one.db.serving.forget()
        one.arm(point, lambda: deed(other.db))
        found = one.db.status()
        met = one.disturbed
        one.calm()
        assert not MOVED & {problem.code for problem in found.problems}, (point, found.problems)
        if not met:
            break
    assert point > 5


@pytest.mark.parametrize("deed", [rebuild, there_and_back, retire, cancel])
def test_nor_does_the_plan_of_a_repair(world: World, deed: Callable[[SpeakerDB], None]) -> None:
    one, other = world.processes
    for point in range(1, 100):
        ready(other.db)
        one.arm(point, lambda: deed(other.db))
        plans = ()
        with suppress(IndexMissing):  # the index that it was about to compare was dropped then: that is so
            plans = one.db.repairer.plan().generations
        met = one.disturbed
        one.calm()
        assert not [plan.aliases for plan in plans if plan.aliases], point
        if not met:
            break
    assert point > 5


def test_an_index_that_is_being_made_is_not_left_over_when_it_is_done(world: World) -> None:
    """A rebuild has made its index as a status looks, and is done before that reads SQL."""
    one, other = world.processes
    made, may_go_on = threading.Event(), threading.Event()

    def wait(call: str, when: str) -> None:
        if (call, when) == ("create", "after"):
            made.set()
            assert may_go_on.wait(60)

    other.index.on_call(wait)
    rebuilding = threading.Thread(target=rebuild, args=(other.db,))
    rebuilding.start()
    assert made.wait(60)
    looks = 0

    def go_on(call: str, when: str) -> None:
        nonlocal looks
        looks += (call, when) == ("aliases", "after")
        if looks == 2 and not may_go_on.is_set():
            may_go_on.set()
            rebuilding.join()

    one.index.on_call(go_on)
    found = one.db.status()
    may_go_on.set()
    rebuilding.join()
    assert looks >= 2
    assert not MOVED & {problem.code for problem in found.problems}, found.problems
    assert not MOVED & {problem.code for problem in one.db.status().problems}


def test_a_match_needs_no_count_of_any_index(world: World) -> None:
    """One index whose documents cannot be counted, and nobody could be found any more."""
    one, other = world.processes
    rebuild(other.db)
    speaker = one.db.speakers(recording="one")[0].id
    plan, asked = one.index._plan, []

    def uncounted(call: str, arguments: tuple[object, ...]) -> Fault:
        asked.append(call)
        return Fault.LOSE_REQUEST if call == "indices" else plan(call, arguments)

    one.index._plan = uncounted
    one.db.serving.forget()
    assert one.db.match(speaker=speaker).matches
    assert "search" in asked
    with pytest.raises(IndexUnavailable):
        one.db.index.indices()


def test_an_alias_that_was_moved_by_hand_is_still_told(world: World) -> None:
    """Also while another process holds the lease under which indices are moved."""
    db = world.processes[0].db
    source, target = (db.serving.index_of(db.generations[name]) for name in ("v3", "v4"))
    alias = db.generations["v3"].write_alias
    db.index.update_aliases([AliasAction.remove(alias, source), AliasAction.add(alias, target)])
    with world.processes[1].db.catalog.holding("migration"):
        assert "alias-moved" in {problem.code for problem in db.status().problems}
    assert "alias-moved" in {problem.code for problem in db.status().problems}
