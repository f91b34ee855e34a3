"""Every interleaving of two holders: one is stopped (or dies) at each point of what it does, another one takes over.

Whatever the second one does, and whatever of the first one arrives late, the invariants hold at every commit and every
alias change, and the outcome is decided. On files everything is tried, on real servers what lies around alias changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

import pytest

from speakerdb.errors import AliasMoved, Conflict, GateFailed, IndexMissing, IndexUnavailable
from speakerdb.service import SpeakerDB
from speakerdb.testing.backends import FILES, Backend, Saved
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


@dataclass(frozen=True)
class Libraries:
    """A small library: drained, with work that waits, when a migration is proven, and after its swap."""

    backend: Backend
    saved: Mapping[str, Saved]

    def world(self, name: str) -> World:
        return World(self.saved[name], backend=self.backend)


def _libraries(backend: Backend) -> Libraries:
    saved: dict[str, Saved] = {}
    with closing(World(backend=backend)) as world:
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
            saved[name] = world.save()
    return Libraries(backend, saved)


@pytest.fixture(scope="session")
def libraries() -> Libraries:
    return _libraries(FILES)


@pytest.fixture(scope="session")
def on_servers(servers_backend: Backend) -> Libraries:
    return _libraries(servers_backend)


def _points(libraries: Libraries, verb: str) -> list[str]:
    """The points that a verb passes when nothing disturbs it."""
    with closing(libraries.world(VERBS[verb][0])) as world:
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
def test_a_holder_is_stopped_at_each_point_and_wakes_late(libraries: Libraries, verb: str, other: str) -> None:
    for point, label in enumerate(_points(libraries, verb), start=1):
        if label == "before commit":
            continue  # a transaction that is open keeps the others out: nobody is stopped there for long
        near = label.endswith(("update_aliases", "drop")) if verb in SWAPS else label == "after bulk"
        if THOROUGH or near or (_turn(point, other) and (verb in (*SWAPS, "work") or point % 3 == 0)):
            _stopped(libraries, verb, point, other)


def _stopped(libraries: Libraries, verb: str, point: int, other: str) -> None:
    with closing(libraries.world(VERBS[verb][0])) as world:
        world.check()
        first, second = world.processes

        def take_over() -> None:
            world.jump(world.settings.lease_seconds + 1)
            for each in OTHERS[other]:
                _do(second.db, each)
                world.check()

        first.arm(point, take_over)
        # It lost the lease, or the state is another one now; or it went through.
        with _told(f"{verb} is stopped at point {point}, the other {other}"):
            with suppress(Conflict, GateFailed, IndexMissing):
                VERBS[verb][1](first.db)
            assert first.disturbed
            world.check()
            _decided(world)


@pytest.mark.parametrize("verb", VERBS)
def test_a_holder_dies_at_each_point(libraries: Libraries, verb: str) -> None:
    for point, _ in enumerate(_points(libraries, verb), start=1):
        for elsewhere in (False, True):
            if THOROUGH or (elsewhere != bool(point % 2) and (verb in SWAPS or point % 3 == 0)):
                _dies(libraries, verb, point, elsewhere=elsewhere)


def _dies(libraries: Libraries, verb: str, point: int, *, elsewhere: bool) -> None:
    with closing(libraries.world(VERBS[verb][0])) as world:
        world.check()
        world.may_act_inside = True
        first, second = world.processes
        first.arm(point, die)
        with _told(f"{verb} dies at point {point}, {elsewhere=}"):
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
def test_each_alias_change_is_lost_or_late(libraries: Libraries, verb: str, fault: Fault, other: str) -> None:
    """A late one arrives before, between and after what the other one does."""
    changes = sum(label == "before update_aliases" for label in _points(libraries, verb))
    moments = range(len(OTHERS[other]) + 1) if fault is Fault.HOLD else range(1)
    for nth in range(changes):
        for moment in moments:
            if THOROUGH or (verb == "finalize" and fault is Fault.HOLD) or _turn(nth + moment, other):
                _lost(libraries, verb, fault, nth, other, moment)


def _lost(libraries: Libraries, verb: str, fault: Fault, nth: int, other: str, moment: int) -> None:
    with closing(libraries.world(VERBS[verb][0])) as world:
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
def test_a_late_swap_arrives_at_each_point_of_its_own_recovery(libraries: Libraries, verb: str) -> None:
    outcomes = set()
    for point in range(1, 200):
        with closing(libraries.world(VERBS[verb][0])) as world:
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


# The same on real servers: what decides a swap there is one request of many, so only what lies around it is tried.


def _around_the_swap(libraries: Libraries, verb: str) -> list[int]:
    """The points from before the token is put to after the swap: around both alias changes, and the commits in between."""
    labels = _points(libraries, verb)
    changes = [point for point, label in enumerate(labels, start=1) if label.endswith("update_aliases")]
    return [point for point in range(changes[0], changes[3] + 1) if labels[point - 1].endswith(("aliases", "commit"))]


@pytest.mark.parametrize("verb", SWAPS)
def test_on_servers_a_holder_dies_around_the_swap(on_servers: Libraries, verb: str) -> None:
    for point in _around_the_swap(on_servers, verb):
        _dies(on_servers, verb, point, elsewhere=bool(point % 2))


@pytest.mark.parametrize(("verb", "other"), [("finalize", "there and back"), ("rollback", "begins again")])
def test_on_servers_a_holder_is_stopped_around_the_swap(on_servers: Libraries, verb: str, other: str) -> None:
    labels = _points(on_servers, verb)
    for point in _around_the_swap(on_servers, verb)[1:]:
        if labels[point - 1] != "before commit":
            _stopped(on_servers, verb, point, other)


@pytest.mark.parametrize(
    ("verb", "fault", "other"),
    [
        ("finalize", Fault.HOLD, "begins again"),
        ("rollback", Fault.HOLD, "retires"),
        ("finalize", Fault.LOSE_ACK, "recovers"),
        ("retire", Fault.LOSE_ACK, "recovers"),
    ],
)
def test_on_servers_a_swap_is_lost_or_late(on_servers: Libraries, verb: str, fault: Fault, other: str) -> None:
    for moment in range(0, len(OTHERS[other]) + 1, 2) if fault is Fault.HOLD else range(1):
        _lost(on_servers, verb, fault, 1, other, moment)
