"""Every interleaving of two holders: one is stopped (or dies) at each point of what it does, another one takes over.

Whatever the second one does, and whatever of the first one arrives late, the invariants hold at every commit and every
alias change, and the outcome is decided.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from speakerdb.errors import AliasMoved, Conflict, GateFailed, IndexMissing, IndexUnavailable
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import silence, two_voices
from speakerdb.testing.faults import Fault, SimulatedCrash
from speakerdb.testing.machine_world import World, die
from speakerdb.types import SERVING_ALIAS

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
"""Everything with everything; otherwise each point with some of the others, and the points around alias changes with all."""

VERBS: dict[str, tuple[str, Callable[[SpeakerDB], object]]] = {
    "start": ("fresh", lambda db: db.start_migration("v4", force=True)),
    "cancel": ("running", lambda db: db.cancel()),
    "finalize": ("running", lambda db: db.finalize()),
    "rollback": ("finalized", lambda db: db.rollback()),
    "rollback-now": ("finalized", lambda db: db.rollback(now=True)),
    "retire": ("finalized", lambda db: db.retire()),
    "work": ("waiting", lambda db: db.work()),
}
"""What the first holder does, and in which state of the library."""
SWAPS = ("finalize", "rollback")
OTHERS: dict[str, tuple[str, ...]] = {
    "recovers": ("work",),
    "finalizes": ("finalize",),
    "cancels": ("cancel",),
    "begins again": ("cancel", "start", "work", "finalize"),
    "rolls back": ("rollback",),
    "there and back": ("finalize", "rollback", "start", "work"),
    "retires": ("finalize", "retire"),
    "goes on": ("change", "work"),
}
"""What the second holder does once the first one's lease has expired. What is refused to it is left out."""


def _do(db: SpeakerDB, verb: str) -> None:
    """One verb of the second holder. It runs undisturbed: only the state may refuse it."""
    db.serving.forget()
    if verb == "change":
        first, *_ = db.recordings()
        _add(db, "late")
        db.remove(first.id)
    else:
        with suppress(Conflict, GateFailed):
            VERBS[verb][1](db)


def _add(db: SpeakerDB, recording: str) -> None:
    db.add(None, two_voices(), recording_id=recording, waveform=silence(20))


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of a small library: drained, with work that waits, when a migration is proven, and after its swap."""
    folder = tmp_path_factory.mktemp("libraries")
    with closing(World()) as world:
        db = world.processes[0].db
        for name in ("one", "two"):
            _add(db, name)
        person = db.create_profile("Ada").id
        for speaker in db.speakers()[1:3]:
            db.assign(speaker.id, person)

        def add_third() -> object:
            return db.add(None, two_voices(), recording_id="three", waveform=silence(20))

        steps: Sequence[tuple[str, Callable[[], object]]] = (
            ("fresh", db.work),
            ("waiting", lambda: (db.assign(db.speakers()[0].id, person), add_third())),
            ("running", lambda: (db.work(), db.start_migration("v4", force=True), db.work())),
            ("finalized", db.finalize),
        )
        for name, step in steps:
            step()
            (folder / name).mkdir()
            world.save(folder / name)
    return {name: folder / name for name, _ in steps}


def _points(library: Path, verb: str) -> list[str]:
    """The points that a verb passes when nothing disturbs it."""
    with closing(World(library)) as world:
        first = world.processes[0]
        first.calm()
        VERBS[verb][1](first.db)
        return list(first.points)


def _decided(world: World) -> None:
    """In the end all is as SQL says, an answer comes, and a migration that runs can be finished."""
    view = world.heal()
    db = world.processes[0].db
    if view.active is not None and view.active.state == "running":
        db.finalize()
        view = world.check()
    for speaker in db.speakers():
        assert db.match(speaker=speaker.id).generation == view.aliases[SERVING_ALIAS][0].removeprefix("speakers_")


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("verb", VERBS)
def test_a_holder_is_stopped_at_each_point_and_wakes_late(libraries: dict[str, Path], verb: str, other: str) -> None:
    library = libraries[VERBS[verb][0]]
    for point, label in enumerate(_points(library, verb), start=1):
        if label == "before commit":
            continue  # a transaction that is open keeps the others out: nobody is stopped there for long
        near = label.endswith(("update_aliases", "drop")) if verb in SWAPS else label == "after bulk"
        if not (THOROUGH or near or (_turn(point, other) and (verb in (*SWAPS, "work") or point % 3 == 0))):
            continue
        with closing(World(library)) as world:
            world.check()
            first, second = world.processes

            def take_over(world: World = world, second: SpeakerDB = second.db) -> None:
                world.jump(world.settings.lease_seconds + 1)
                for each in OTHERS[other]:
                    _do(second, each)
                    world.check()

            first.arm(point, take_over)
            # It lost the lease, or the state is another one now; or it went through.
            with _told(f"{verb} is stopped at point {point} ({label}), the other {other}"):
                with suppress(Conflict, GateFailed, IndexMissing):
                    VERBS[verb][1](first.db)
                assert first.disturbed
                world.check()
                _decided(world)


@pytest.mark.parametrize("verb", VERBS)
def test_a_holder_dies_at_each_point(libraries: dict[str, Path], verb: str) -> None:
    library = libraries[VERBS[verb][0]]
    for point, label in enumerate(_points(library, verb), start=1):
        for elsewhere in (False, True):
            if not THOROUGH and (elsewhere == bool(point % 2) or (verb not in SWAPS and point % 3)):
                continue
            with closing(World(library)) as world:
                world.check()
                world.may_act_inside = True
                first, second = world.processes
                first.arm(point, die)
                with _told(f"{verb} dies at point {point} ({label}), {elsewhere=}"):
                    with pytest.raises(SimulatedCrash):
                        VERBS[verb][1](first.db)
                    world.kill(0, elsewhere=elsewhere)
                    world.check()
                    # Its lease is free at once where it is seen to be dead; its write fence only expires.
                    world.jump(world.settings.lease_seconds + 1 if elsewhere else 1)
                    second.db.work()
                    world.check()
                    _decided(world)


def _turn(point: int, other: str) -> bool:
    return list(OTHERS).index(other) == point % len(OTHERS)


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(what)
        raise


CHANGES = [
    (verb, fault)
    for verb in ("start", "cancel", "finalize", "rollback", "rollback-now", "retire")
    for fault in (Fault.LOSE_REQUEST, Fault.LOSE_ACK, Fault.HOLD)
]


@pytest.mark.parametrize(("verb", "fault"), CHANGES)
@pytest.mark.parametrize("other", OTHERS)
def test_each_alias_change_is_lost_or_late(libraries: dict[str, Path], verb: str, fault: Fault, other: str) -> None:
    """A late one arrives before, between and after what the other one does."""
    library = libraries[VERBS[verb][0]]
    changes = sum(label == "before update_aliases" for label in _points(library, verb))
    moments = range(len(OTHERS[other]) + 1) if fault is Fault.HOLD else range(1)
    for nth in range(changes):
        for moment in moments:
            if not (THOROUGH or (verb == "finalize" and fault is Fault.HOLD) or _turn(nth + moment, other)):
                continue
            with closing(World(library)) as world:
                world.check()
                first, second = world.processes
                first.inject(fault, nth)
                with _told(f"{verb}: change {nth} {fault}, arrives at {moment}, the other {other}"):
                    with suppress(IndexUnavailable, Conflict):
                        VERBS[verb][1](first.db)
                    world.check()
                    for place, each in enumerate(OTHERS[other]):
                        if place == moment and world.held:
                            world.deliver_late()
                        _do(second.db, each)
                        world.check()
                    _decided(world)


@pytest.mark.parametrize("verb", ["finalize", "rollback"])
def test_a_late_swap_arrives_at_each_point_of_its_own_recovery(libraries: dict[str, Path], verb: str) -> None:
    library = libraries[VERBS[verb][0]]
    outcomes = set()
    for point in range(1, 200):
        with closing(World(library)) as world:
            world.check()
            first = world.processes[0]
            first.inject(Fault.HOLD, 1)  # the first change puts the token, the second is the swap

            def arrive(world: World = world) -> None:
                if world.held:
                    world.deliver_late()

            first.arm(point, arrive)
            try:
                VERBS[verb][1](first.db)
            except (IndexUnavailable, AliasMoved):
                outcomes.add("given up")
            else:
                outcomes.add("done")
            passed = first.points
            _decided(world)
            if len(passed) < point:
                break
    assert outcomes == {"given up", "done"}
