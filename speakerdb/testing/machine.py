"""A state machine over the whole product: two processes on one library, faults, deaths, late arrivals and clock jumps.

`speakerdb.testing.machine_model.Model` says what must be in the library; `speakerdb.testing.invariants` what must be true
after each step, at each commit and at each alias change. Use `LibraryMachine.TestCase`, or run
`lambda: LibraryMachine(backend)` by Hypothesis' `run_state_machine_as_test` for a library on real servers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from speakerdb.catalog import journal, schema
from speakerdb.core.lifecycle import State
from speakerdb.errors import (
    AliasMoved,
    Conflict,
    GateFailed,
    IllegalTransition,
    IndexMissing,
    IndexUnavailable,
    LeaseHeld,
    LeaseLost,
    MigrationActive,
    NoMigration,
    NotEmbedded,
    SpeakerDBError,
    WritesFenced,
)
from speakerdb.reports.repairing import RepairReport
from speakerdb.service import SpeakerDB
from speakerdb.settings import RepairSettings
from speakerdb.testing.backends import FILES, Backend
from speakerdb.testing.faults import Fault, SimulatedCrash
from speakerdb.testing.invariants import View, look
from speakerdb.testing.machine_model import Model
from speakerdb.testing.machine_verbs import (
    ANYTHING,
    BY_HAND,
    CHANGES,
    DEEDS,
    FITTING,
    LIBRARY,
    NUMBERS,
    POINTS,
    PROCESSES,
    Op,
    change_of,
    populated,
)
from speakerdb.testing.machine_world import Process, World, die
from speakerdb.types import SERVING_ALIAS

K = 3
"""How many answers are asked for."""


class LibraryMachine(RuleBasedStateMachine):
    """Two processes on one library, which lies where `backend` says."""

    def __init__(self, backend: Backend = FILES) -> None:
        super().__init__()
        saved, model = populated(backend)
        self.model = model.copy()
        self.world = World(saved, backend=backend, repair=RepairSettings(grace_seconds=0, max_deletions=1_000_000))
        self.depth = 0
        self.counter = 0
        self.fresh = False
        self.view = look(self.world.processes[0].db)
        self.world.check()

    # Rules

    @rule(number=PROCESSES, op=CHANGES)
    def change(self, number: int, op: Op) -> None:
        """The library changes."""
        self.perform(number, op)

    @rule(number=PROCESSES, op=DEEDS)
    def act(self, number: int, op: Op) -> None:
        """Something is done, and nothing disturbs it."""
        self.perform(number, op)

    @rule(number=PROCESSES)
    def advance(self, number: int) -> None:
        """A migration gets to its next state in one step, so that the later ones are met often."""
        active = self.view.active
        if active is None:
            verbs = ["start", "work"]
        elif active.state == "running":
            verbs = ["resume", "work", "waive", "finalize"]
        else:
            verbs = ["work"]
        for verb in verbs:
            self.perform(number, Op(verb))

    @rule(number=PROCESSES, op=ANYTHING, at=POINTS, elsewhere=st.booleans())
    def dies(self, number: int, op: Op, at: int, elsewhere: bool) -> None:
        """A process dies at a point of what it does: around a call of the index, or around a commit."""
        self.world.may_act_inside = True
        self.world.processes[number].arm(at, die)
        self.perform(number, op, elsewhere=elsewhere)
        self.world.may_act_inside = False

    @rule(number=PROCESSES, op=DEEDS, fault=st.sampled_from(list(Fault)[1:5]), nth=st.integers(0, 15))
    def faulty(self, number: int, op: Op, fault: Fault, nth: int) -> None:
        """A request or its answer is lost, a part of it is done, or it arrives later."""
        self.world.processes[number].inject(fault, nth)
        self.perform(number, op)

    @rule(
        number=PROCESSES, op=DEEDS, at=POINTS, meanwhile=st.lists(ANYTHING, min_size=1, max_size=4),
        seconds=st.sampled_from((0, 1, 61, 200, -30)), wakes=st.booleans(),
    )  # fmt: skip
    def stopped(self, number: int, op: Op, at: int, meanwhile: list[Op], seconds: int, wakes: bool) -> None:
        """A process is stopped, time passes, another one does things; then the first one goes on, or dies."""

        def action() -> None:
            self.world.jump(seconds)
            for each in meanwhile:
                self.perform(1 - number, each)
            if not wakes:
                die()

        self.world.processes[number].arm(at, action)
        self.perform(number, op)

    @rule(
        number=PROCESSES, harms=st.lists(BY_HAND, max_size=4), strangers=st.integers(0, 2), lost=st.booleans(),
        at=st.none() | POINTS, elsewhere=st.booleans(), one=NUMBERS,
    )  # fmt: skip
    def drifts(
        self, number: int, harms: list[tuple[str, int]], strangers: int, lost: bool, at: int | None, elsewhere: bool,
        one: int,
    ) -> None:  # fmt: skip
        """An index is changed by hand, and perhaps SQL loses a vector; a repair mends it, perhaps after one that dies."""
        db = self.world.processes[number].db
        db.migrator.recover_if_needed()
        view = look(db)
        with db.catalog.read() as tx:
            busy = journal.any_replacing(tx) or (view.active is not None and State(view.active.state).intention)
        if busy:
            return  # a swap or a replacement that nobody has decided yet: a repair leaves it alone, and so do we
        name = view.live[one % len(view.live)]
        self.world.harm(name, harms, strangers, lost=lost and not harms)  # of both, only extraction helps
        if at is not None:
            self.world.may_act_inside = True
            self.world.processes[number].arm(at, die)
            with suppress(SimulatedCrash, LeaseHeld):
                self._repair(db)
            self.world.may_act_inside = False
            crashed = self.world.processes[number].disturbed
            self.world.processes[number].calm()
            if crashed:
                db = self.world.kill(number, elsewhere=elsewhere).db
        self.world.jump(3 * self.world.settings.lease_seconds)
        self._repair(db)
        for each in self._repair(db).generations:
            assert not each.done, f"a second repair changed something: {each}"
        for plan in db.repairer.plan(vectors=True).generations:
            assert plan.empty, f"something is left to be mended: {plan}"
        self.fresh = False

    @staticmethod
    def _repair(db: SpeakerDB) -> RepairReport:
        return db.repairer.run(vectors=True, force=["restored"], why="the machine did it")

    @precondition(lambda self: self.world.held)
    @rule(which=st.integers(0, 3))
    def late(self, which: int) -> None:
        """What was thought lost arrives."""
        self.world.deliver_late(which)

    @rule(seconds=st.sampled_from((-3600, -5, 5, 61, 100_000)))
    def time_passes(self, seconds: int) -> None:
        """The clock jumps."""
        self.world.jump(seconds)

    @rule(number=PROCESSES, elsewhere=st.booleans())
    def killed(self, number: int, elsewhere: bool) -> None:
        """A process dies while it does nothing."""
        self.world.kill(number, elsewhere=elsewhere)

    @rule(one=NUMBERS, how=st.sampled_from(("missing", "died", None)))
    def breaks(self, one: int, how: str | None) -> None:
        """A recording cannot be extracted any more, or can again."""
        self.world.broken.pop(f"recording-{one}", None)
        if how is not None:
            self.world.broken[f"recording-{one}"] = how

    @invariant()
    def holds(self) -> None:
        """Everything that must be true."""
        self.view, self.fresh = self.world.check(), True
        assert (found := self.model.difference(self.view)) is None, found
        self.model.check_vectors(self.view)

    def teardown(self) -> None:
        """All heals, and then the library is what the model says, a migration can be finished, and taken back."""
        try:
            self._end()
        finally:
            self.world.close()

    def _end(self) -> None:
        self.view = self.world.heal()
        self.holds()
        db = self.world.processes[0].db
        db.retry()
        active = self.view.active
        if active is not None and active.state == "running":
            if active.paused:
                db.resume()
            db.work()
            assert db.finalize().serving == active.target
        elif active is not None:
            db.work()
            assert db.rollback().serving == active.source
        self.view = self.world.heal()
        self.holds()
        for speaker in self.view.speakers:
            self._ask(db, {"speaker": speaker})

    # Doing

    def perform(self, number: int, op: Op, *, elsewhere: bool = False) -> None:
        """Let a process do something, and judge what came of it."""
        process = self.world.processes[number]
        before = self.view if self.depth == 0 and self.fresh else look(process.db)
        self.fresh = False
        if op.verb == "move":
            fitting = FITTING[None if before.active is None else before.active.state]
            op = Op(fitting[op.one % len(fitting)], op.other, op.one)
        if self.depth == 0 and not (process._at or process._fault):
            process.calm()
        after = self.model.copy()
        action = self._action(process, op, after)
        if action is None:
            process.calm()  # what was armed for it must not happen in something else later
            return
        self.depth += 1
        crashed = False
        error: SpeakerDBError | None = None
        try:
            action()
        except SimulatedCrash:
            crashed = True
        except SpeakerDBError as raised:
            error = raised
        finally:
            self.depth -= 1
        disturbed = process.disturbed
        process.calm()
        if crashed:
            process = self.world.kill(number, elsewhere=elsewhere)
        if op.verb in LIBRARY and error is None:
            # A change is made as a whole, or not at all; which of the two is certain unless the process died.
            view = look(process.db)
            if not crashed or self.model.difference(view) is not None:
                after.adopt(view)
                self.model = after
        if error is not None:
            self._judge(op, error, before, look(process.db), disturbed=disturbed)
        if self.depth:
            self.world.check()  # what the stopped process undoes when it wakes must have been seen

    def _judge(self, op: Op, error: SpeakerDBError, before: View, after: View, *, disturbed: bool) -> None:
        """Each refusal must have its reason."""
        active = before.active
        state = None if active is None else active.state
        if isinstance(error, NotEmbedded):
            return  # judged where it was asked
        if isinstance(error, WritesFenced):
            # A finalize that was stopped for longer than its own fence stands gives up, and lifts what is left of it.
            assert self._fenced or (disturbed and op.verb == "finalize"), (
                "writes are fenced, and nobody holds the fence"
            )
        elif isinstance(error, LeaseHeld):
            assert disturbed or any(row.holder is not None for row in before.leases.values()), "nobody holds a lease"
        elif isinstance(error, MigrationActive):
            assert op.verb == "start"
            assert disturbed or active is not None, "no migration is active"
        elif isinstance(error, NoMigration):
            assert disturbed or state in (None, "rolling_back"), f"the migration is {state}"
        elif isinstance(error, IllegalTransition):
            assert disturbed or active is not None
        elif isinstance(error, GateFailed):
            assert error.details["report"] is not None
            names = {check.name for check in error.details["report"].checks if check.verdict == "fail"}
            assert disturbed or (names == {"coverage"} and self._lacking(after)), f"{names}: {error.details['report']}"
        elif isinstance(error, IndexMissing):
            assert disturbed, "an index is missing, and nobody did anything"
            assert not op.verb.startswith("match"), "a question met an index that was dropped"
        else:
            assert isinstance(error, (IndexUnavailable, AliasMoved, LeaseLost, Conflict)), repr(error)
            assert disturbed or type(error) is Conflict, repr(error)

    @property
    def _fenced(self) -> bool:
        with self.world.processes[0].db.catalog.read() as tx:
            row = tx.execute(sa.select(schema.fences)).one_or_none()
        return row is not None and row.holder is not None and row.expires_at > self.world.clock.now

    def _lacking(self, view: View) -> bool:
        target = view.active.target if view.active is not None else None
        return any(name == target and item.state not in ("done", "waived") for (name, _), item in view.items.items())

    # Verbs

    def _action(self, process: Process, op: Op, after: Model) -> Callable[[], Any] | None:
        """What to call; None where there is nothing to do it to. `after` becomes what the library must hold then."""
        if op.verb in LIBRARY:
            self.counter += 1
            return change_of(process.db, op, self.model, after, self.counter)
        db = process.db
        speakers = [voice.id for voice in self.model.voices]
        match op.verb:
            case "match" if speakers:
                return lambda: self._ask(db, {"speaker": speakers[op.one % len(speakers)]}, cached=op.other > 3)
            case "match-profile" if self.model.profiles:
                profiles = sorted(self.model.profiles)
                return lambda: self._ask(db, {"profile": profiles[op.one % len(profiles)]}, cached=op.other > 3)
            case "match" | "match-profile":
                return None
            case "extract":
                return lambda: self._extract(db)
            case "project" | "repool":
                return lambda: self._project(db, op)
            case "start":
                target = "v4" if self.view.aliases[SERVING_ALIAS] == (self.view.concrete("v3"),) else "v3"
                return lambda: db.start_migration(target, force=True)
        verbs: Mapping[str, Callable[[], Any]] = {
            "work": db.work,
            "retry": db.retry,
            "waive": lambda: db.waive(why="a person said so"),
            "gates": db.check_gates,
            "rebuild": lambda: db.rebuild_index(self._live(db, op)),
            "check": lambda: self._finds_nothing(process, db.repairer.check),
            "walk": lambda: self._finds_nothing(process, db.repairer.walk),
            "pause": db.pause,
            "resume": db.resume,
            "cancel": db.cancel,
            "finalize": db.finalize,
            "rollback": db.rollback,
            "rollback-now": lambda: db.rollback(now=True),
            "retire": lambda: db.retire(purge=op.one == 0),
        }
        return verbs[op.verb]

    def _finds_nothing(self, process: Process, repair: Callable[[], RepairReport]) -> None:
        """Whatever state things are in, nothing differs that nobody changed by hand: what waits is a lag."""
        found = repair()
        if not process.disturbed and self.depth == 1:
            assert all(set(each.plan.found) <= {"tombstone"} for each in found.generations), found

    def _extract(self, db: SpeakerDB) -> None:
        with db.catalog.holding("work") as lease:
            db.extraction.begin(lease)
            db.extraction.step(lease)

    def _project(self, db: SpeakerDB, op: Op) -> None:
        generation = db.generations[self._live(db, op)]
        if op.verb == "project":
            db.projector.step(generation)
        else:
            db.projector.repool(generation)

    @staticmethod
    def _live(db: SpeakerDB, op: Op) -> str:
        """A generation that is live now; what the machine saw before may be over."""
        live = db.serving.live()
        return live[op.one % len(live)]

    def _ask(self, db: SpeakerDB, query: dict[str, str], *, cached: bool = False) -> None:
        """Ask, and compare with what a plain search gives. What is asked while others go on is only asked."""
        if not cached:
            db.serving.forget()
            self.world.show()
        with suppress(NotEmbedded):
            result = db.match(**query, k=K)  # type: ignore[arg-type]
            process = next(one for one in self.world.processes if one.db is db)
            if cached or process.disturbed or self.depth > 1:
                return
            view = look(db)
            serving = next(name for name in view.live if view.concrete(name) == view.aliases[SERVING_ALIAS][0])
            self.model.check_match(view, result, [serving, *(n for n in view.live if n != serving)], k=K)
            return
        view = look(db)
        asked = next(iter(query.values()))
        having = [name for name in view.live if self.model.current(view, name, asked) is not None]
        process = next(one for one in self.world.processes if one.db is db)
        assert cached or process.disturbed or self.depth > 1 or not having, f"{asked} is embedded in {having}"
