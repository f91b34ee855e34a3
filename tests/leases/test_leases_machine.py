"""Anything that two or three holders, their clocks and a person can do to a lease, against a model that shares no code with it.

The database's clock is virtual and jumps an hour either way; each machine's own clock only goes on. A holder stops for as long
as it likes, dies, cannot reach the database, and wakes with a lease that it believes to be its own.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from speakerdb.catalog import journal, trail
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.leases import Lease
from speakerdb.errors import Conflict, DatabaseUnavailable, LeaseHeld, LeaseLost, NotFound
from speakerdb.reports.seeing import EventFilter

LENGTH, THIRD, TOO_LONG, NOISE = 60, 20, 54, 1
"""Seconds: a lease, after how much of it it is renewed, after how much its holder stops, and how far clocks may differ."""
HOLDERS = 3
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
_names = (f"lease-{number}" for number in itertools.count())


class Time:
    """Seconds. `passed` is what no clock can deny; `set_to` is by how much the database's was set."""

    def __init__(self) -> None:
        self.passed = 0
        self.set_to = 1_000_000

    def database(self) -> int:
        return (self.passed + self.set_to) * 1_000_000

    def own(self) -> float:
        return float(self.passed)


@dataclass
class Actor:
    """A process, and what it believes."""

    catalog: Catalog
    lease: Lease | None = None
    renewed: int = 0
    ends: int | None = None


@dataclass
class Row:
    """The lease as it must stand, in seconds of the database's clock."""

    epoch: int = 0
    holder: Actor | None = None
    expires: int = 0
    ends: int | None = None
    committed: list[int] = field(default_factory=list)

    def free(self, now: int) -> bool:
        return self.holder is None or self.expires <= now or self.expires > now + LENGTH + NOISE


@contextmanager
def unreachable(catalog: Catalog) -> Iterator[None]:
    """The database does not answer this process."""

    def write() -> Any:
        raise DatabaseUnavailable("It does not answer.")

    real, catalog.database.write = catalog.database.write, write  # type: ignore[method-assign]
    try:
        yield
    finally:
        catalog.database.write = real  # type: ignore[method-assign]


class Leases(RuleBasedStateMachine):
    """One lease of a new name for each example. `actors` and `time` are given by the test."""

    actors: list[Actor]
    time: Time

    @initialize()
    def begin(self) -> None:
        self.name = next(_names)
        self.row = Row()
        for actor in self.actors:
            actor.lease = None

    @property
    def now(self) -> int:
        return self.time.passed + self.time.set_to

    @property
    def believers(self) -> list[int]:
        """The numbers of those who believe that they hold the lease."""
        return [number for number, actor in enumerate(self.actors) if actor.lease is not None]

    def _believer(self, who: int) -> Actor:
        return self.actors[self.believers[who % len(self.believers)]]

    # What holders do

    @rule(who=st.integers(0, HOLDERS - 1), limit=st.sampled_from([None, None, 100]))
    def acquire(self, who: int, limit: int | None) -> None:
        actor = self.actors[who]
        if not self.row.free(self.now):
            with pytest.raises(LeaseHeld):
                actor.catalog.acquire(self.name, limit=limit)
            return
        before = self.row.epoch
        actor.lease = actor.catalog.acquire(self.name, limit=limit)
        assert actor.lease.epoch > before, "the epoch only grows"
        actor.renewed = self.time.passed
        actor.ends = None if limit is None else self.time.passed + limit
        self.row.epoch, self.row.holder = before + 1, actor
        self.row.ends = None if limit is None else self.now + limit
        self._renewed()
        assert actor.lease.epoch == self.row.epoch

    def _renewed(self) -> None:
        until = self.now + LENGTH
        self.row.expires = until if self.row.ends is None else min(until, self.row.ends)

    def _may(self, actor: Actor) -> bool:
        """Whether what this actor believes to hold is its own still."""
        assert actor.lease is not None
        mine = self.row.holder is actor and self.row.epoch == actor.lease.epoch
        over = actor.ends is not None and self.time.passed >= actor.ends
        return mine and not over and (self.row.ends is None or self.now < self.row.ends)

    def _touched(self, actor: Actor) -> None:
        actor.renewed = self.time.passed
        self._renewed()

    def _do(self, actor: Actor, act: Callable[[Lease], None], *, allowed: bool) -> None:
        assert actor.lease is not None
        if allowed:
            act(actor.lease)
            return
        with pytest.raises(LeaseLost):
            act(actor.lease)

    @precondition(lambda self: self.believers)
    @rule(who=st.integers(0, HOLDERS - 1))
    def commit(self, who: int) -> None:
        """A transaction under what it believes to hold."""
        actor = self._believer(who)

        def act(lease: Lease) -> None:
            with actor.catalog.job(lease) as tx:
                journal.record(
                    tx, "items-retried", actor.catalog.holder.name, 1, entity_id=self.name, epoch=lease.epoch
                )

        allowed = self._may(actor)
        self._do(actor, act, allowed=allowed)
        if allowed:
            self.row.committed.append(actor.lease.epoch)
            self._touched(actor)

    @precondition(lambda self: self.believers)
    @rule(who=st.integers(0, HOLDERS - 1))
    def keep(self, who: int) -> None:
        """A look before an effect that is in no transaction: by its own clock until a third has passed, then by the row."""
        actor = self._believer(who)
        over = actor.ends is not None and self.time.passed >= actor.ends
        fresh = self.time.passed - actor.renewed < THIRD
        allowed = not over and (fresh or self._may(actor))
        self._do(actor, actor.catalog.keep, allowed=allowed)
        if allowed and not fresh:
            self._touched(actor)

    @precondition(lambda self: self.believers)
    @rule(who=st.integers(0, HOLDERS - 1))
    def keep_without_a_database(self, who: int) -> None:
        """It goes on for as long as nobody else can have the lease, by a clock that nobody sets."""
        actor = self._believer(who)
        over = actor.ends is not None and self.time.passed >= actor.ends
        with unreachable(actor.catalog):
            self._do(actor, actor.catalog.keep, allowed=not over and self.time.passed - actor.renewed < TOO_LONG)

    @precondition(lambda self: self.believers)
    @rule(who=st.integers(0, HOLDERS - 1))
    def release(self, who: int) -> None:
        actor = self._believer(who)
        actor.catalog.release(actor.lease)
        if self.row.holder is actor and self.row.epoch == actor.lease.epoch:
            self.row.holder = self.row.ends = None
        with pytest.raises(LeaseLost):
            actor.catalog.keep(actor.lease)
        actor.lease = None

    @rule(who=st.integers(0, HOLDERS - 1))
    def die(self, who: int) -> None:
        """Another process is in its place, on a machine that knows nothing of the one before."""
        self._die(self.actors[who])

    def _die(self, actor: Actor) -> None:
        actor.lease = None
        actor.catalog._held.clear()
        actor.catalog.holder.name = f"elsewhere/{next(_names)}"
        if self.row.holder is actor:
            self.row.holder = Actor(actor.catalog)  # nobody who can do anything any more

    @precondition(lambda self: self.row.epoch > 0)
    @rule(who=st.integers(0, HOLDERS - 1), known=st.booleans())
    def break_it(self, who: int, known: bool) -> None:
        """A person, anywhere; `known`: who has seen under which epoch it is held."""
        catalog = self.actors[who].catalog
        if self.row.holder is None:
            with pytest.raises(Conflict):
                catalog.break_lease(self.name, "a person", why="it hangs")
            return
        with pytest.raises(Conflict):
            catalog.break_lease(self.name, "a person", why="seen too long ago", epoch=self.row.epoch - 1)
        broken = catalog.break_lease(self.name, "a person", why="it hangs", epoch=self.row.epoch if known else None)
        assert broken.epoch == self.row.epoch
        self.row.epoch += 1
        self.row.holder = self.row.ends = None

    @precondition(lambda self: self.believers)
    @rule(who=st.integers(0, HOLDERS - 1))
    def overtake(self, who: int) -> None:
        """Who holds it stands still until it has expired, and somebody else takes it."""
        self.time.passed += LENGTH + NOISE
        others = [number for number in range(HOLDERS) if number not in self.believers[:1]]
        self.acquire(others[who % len(others)], None)

    # What time does

    @rule(seconds=st.sampled_from([1, 5, 19, 20, 25, 40, 53, 54, 59, 60, 61, 99, 100, 200]))
    def stand_still(self, seconds: int) -> None:
        self.time.passed += seconds

    @rule(seconds=st.sampled_from([-3600, -90, -61, -10, 10, 61, 3600]))
    def set_the_clock(self, seconds: int) -> None:
        self.time.set_to += seconds

    def _first_come(self) -> Lease:
        """Somebody who asks each second."""
        for _ in range(LENGTH + NOISE):
            try:
                return self.actors[0].catalog.acquire(self.name)
            except LeaseHeld:
                self.time.passed += 1
        return self.actors[0].catalog.acquire(self.name)

    def teardown(self) -> None:
        if not hasattr(self, "row") or self.row.epoch == 0:
            return
        # Whatever happened: when everybody is dead, somebody new has it within the length of a lease.
        for actor in self.actors:
            self._die(actor)
        last = self._first_come()
        assert last.epoch == self.row.epoch + 1
        self.actors[0].catalog.release(last)
        with self.actors[1].catalog.read() as tx:
            events = trail.events_after(tx, 0, 10_000, EventFilter(kinds=("items-retried",), entity=self.name))
        epochs = [event["data"]["epoch"] for event in events]
        assert epochs == self.row.committed, "what was acknowledged is there, and nothing else is"
        assert epochs == sorted(epochs), "a stale epoch was committed"
        writers = {(event["data"]["epoch"], event["who"]) for event in events}
        assert len(writers) == len({epoch for epoch, _ in writers}), "two wrote under one epoch"


def test_any_number_of_holders_and_any_clock(kind: str, on_a_machine: Callable[..., Catalog]) -> None:
    time = Time()
    catalogs = [on_a_machine(lease_seconds=LENGTH, clock=time.database, own_clock=time.own) for _ in range(HOLDERS)]

    class Here(Leases):
        actors = [Actor(catalog) for catalog in catalogs]  # noqa: RUF012  set once

    Here.time = time
    few = None if THOROUGH else settings(max_examples=40 if kind == "sqlite" else 8, stateful_step_count=30)
    run_state_machine_as_test(Here, settings=few)  # type: ignore[no-untyped-call]


def test_a_lease_that_was_never_taken_is_not_broken(on_a_machine: Callable[..., Catalog]) -> None:
    with pytest.raises(NotFound, match="'wrok'"):
        on_a_machine().break_lease("wrok", "a person", why="a slip of the pen")
