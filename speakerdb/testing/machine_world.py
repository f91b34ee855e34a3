"""Several processes on one library, inside one process: they stop, die, lose answers and come back as a test says.

A `Process` is a `SpeakerDB` of its own with its own connections, index handle and lease holder. It passes *points*: before
and after each call of the index and each commit. At a point a test may let it die, or stop it while another one goes on.
The library lies in files or on real servers, as the `Backend` says; nothing here knows which.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from uuid import UUID

import sqlalchemy as sa

from speakerdb.catalog import library, schema
from speakerdb.catalog.database import Database, Transaction
from speakerdb.errors import MediaMissing, WorkerDied
from speakerdb.extraction.extract import Extracted, Task
from speakerdb.index.opening import open_index
from speakerdb.index.port import VectorIndex
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.testing import damage
from speakerdb.testing.backends import FILES, Backend, Saved
from speakerdb.testing.factories import FakeExecutor, fake_extract, fake_settings
from speakerdb.testing.faults import Fault, FaultyIndex, SimulatedCrash, When
from speakerdb.testing.invariants import Monitor, View, unwrapped

SECOND = 1_000_000
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  only to be fast; nothing here need survive the machine
FAULTS: dict[Fault, tuple[str, ...]] = {Fault.PART: ("bulk", "scan", "marks"), Fault.HOLD: ("update_aliases",)}


class Clock:
    """Microseconds; moves only when it is told to, and by one at each look."""

    def __init__(self) -> None:
        self.now = 1_750_000_000 * SECOND

    def __call__(self) -> int:
        self.now += 1
        return self.now


class Process:
    """One process of a simulation."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.index = FaultyIndex(open_index(world.settings), self._plan)
        self.points: list[str] = []
        self._at: tuple[int, Callable[[], None]] | None = None
        self._fault: tuple[Fault, int] | None = None
        self.disturbed = False
        self._opened = False
        self.index.on_call(self._called)
        self.db = SpeakerDB.open(
            world.settings, index=self.index, executor=FakeExecutor(world.answer), clock=world.clock
        )
        self._write = self.db.catalog.database.write
        self.db.catalog.database.write = self._writing  # type: ignore[method-assign]
        self._opened = True

    def arm(self, at: int, action: Callable[[], None]) -> None:
        """Run `action` at the `at`-th point from now, once."""
        self.points, self._at, self.disturbed = [], (at, action), False

    def inject(self, fault: Fault, nth: int) -> None:
        """Let `fault` happen to the `nth` index call from now that it can happen to, once."""
        self._fault, self.disturbed = (fault, nth), False

    def calm(self) -> None:
        """Forget what was armed or injected and has not happened."""
        self.points, self._at, self._fault, self.disturbed = [], None, None, False

    def _plan(self, call: str, _arguments: tuple[Any, ...]) -> Fault:
        if self._fault is None or call not in FAULTS.get(self._fault[0], (call,)):
            return Fault.PASS
        fault, left = self._fault
        self._fault = (fault, left - 1) if left else None
        if left:
            return Fault.PASS
        self.disturbed = True
        return fault

    def _called(self, call: str, when: When) -> None:
        self.world.unseen |= call == "bulk"
        if self._opened and when == "after":
            self.world.monitor.called(self.db, call)
        self._pass(f"{when} {call}")

    @contextmanager
    def _writing(self) -> Iterator[Transaction]:
        self._pass("before begin")
        with self._write() as tx:
            yield tx
            self._pass("before commit", inside=True)
        self.world.monitor.committed(self.db)
        self._pass("after commit")

    def _pass(self, label: str, *, inside: bool = False) -> None:
        self.points.append(label)
        if self._at is None or len(self.points) < self._at[0] or (inside and not self.world.may_act_inside):
            return
        action, self._at = self._at[1], None
        self.disturbed = True
        action()


class World:
    """One library, its clock, and the processes that use it."""

    def __init__(self, saved: Saved | None = None, *, backend: Backend = FILES, **settings: Any) -> None:
        """An empty library, or one as it was `saved`, on the same backend."""
        base = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
        self.folder = Path(tempfile.mkdtemp(prefix="speakerdb-machine-", dir=base))
        self.backend = backend
        # A fence of 10 ms: a writer that meets the fence of a dead process gives up after 60 ms, not after a minute.
        given = {"fence_seconds": 0.01, "lease_seconds": 60.0, "batch_recordings": 3, "auto_upgrade": False}
        stored = backend.make(self.folder, saved or backend.empty())
        self.settings: Settings = fake_settings(self.folder, **given | stored | settings)
        self.clock = Clock()
        self.monitor = Monitor()
        self.broken: dict[str, str] = {}
        """Recordings that cannot be extracted, and whether they are `missing` or kill their worker (`died`)."""
        self.extracted = 0
        self.limbo: list[FaultyIndex] = []
        """Index handles of dead processes with requests that are still under way."""
        self.unseen = False
        """Whether something was written that searches may not see yet."""
        self.may_act_inside = False
        """Whether what is armed may happen inside a transaction too (to die there; nobody can be stopped there)."""
        self._closing: list[VectorIndex] = []
        # The same steps give the same ids, so that a failure can be repeated.
        chance = random.Random(0 if saved is None else 1)  # noqa: S311
        self._ids = mock.patch.object(library, "uuid", SimpleNamespace(uuid4=lambda: UUID(int=chance.getrandbits(128))))
        self._ids.start()
        self.processes = [Process(self), Process(self)]

    def answer(self, task: Task) -> Extracted:
        """What the executor of every process answers."""
        self.extracted += 1
        match self.broken.get(task.recording_id):
            case "missing":
                raise MediaMissing("The file is gone.")
            case "died":
                raise WorkerDied("The worker died.")
        return fake_extract(task)

    def kill(self, number: int, *, elsewhere: bool = False) -> Process:
        """A process dies, and another one starts in its place. Its lock is let go by the system, not by itself.

        `elsewhere`: nobody can see that it died, as on another machine; its leases must expire.
        """
        dead = self.processes[number]
        holder = dead.db.catalog.holder
        file, holder._file = holder._file, None
        if file is not None:
            file.close()
            if elsewhere:
                Path(file.name).unlink()
        dead.db.catalog.database.close()
        if dead.index.held:
            self.limbo.append(dead.index)
        self._closing.append(dead.index)
        self.processes[number] = Process(self)
        return self.processes[number]

    @property
    def held(self) -> list[FaultyIndex]:
        """Handles with requests that are still under way."""
        return [one for one in (*self.limbo, *(p.index for p in self.processes)) if one.held]

    def deliver_late(self, which: int = 0) -> bool:
        """Let one request arrive that was thought lost; whether it did anything."""
        held = self.held
        arrived = held[which % len(held)].deliver_late()
        self.monitor.alias_moved(self.processes[0].db)
        return arrived

    def jump(self, seconds: float) -> None:
        """Move the clock."""
        self.clock.now += int(seconds * SECOND)

    def show(self) -> None:
        """A moment passes, after which searches see what was written, whoever wrote it."""
        if self.backend.delayed and self.unseen:
            index = unwrapped(self.processes[0].index)
            for name in index.indices():
                index.refresh(name)
        self.unseen = False

    def harm(self, name: str, harms: Sequence[tuple[str, int]], strangers: int, *, lost: bool = False) -> None:
        """Somebody changes a live generation's index by hand (see `damage.harmed`); with `lost`, SQL loses a vector of a
        recording that is done."""
        db = self.processes[0].db
        index = unwrapped(db.index)
        concrete = db.serving.index_of(db.generations[name])
        if lost:
            with closing(Database(self.settings.catalog_url)) as database, database.write() as tx:
                _lose_a_vector(tx, name)
        if harms or strangers:
            damage.lay(index, concrete, damage.harmed(list(index.scan(concrete)), harms, strangers=strangers))
        self.monitor.damaged(name)
        self.unseen = True

    def check(self) -> View:
        """Every invariant, now."""
        return self.monitor.check(self.processes[0].db)

    def heal(self) -> View:
        """All is well again: what was late arrives, leases of the dead expire, somebody works. What is left then is decided.

        Nothing waits afterwards that could be done, and working again writes nothing.
        """
        while self.held:
            self.deliver_late()
        self.broken.clear()
        for process in self.processes:
            process.calm()
        self.jump(3 * self.settings.lease_seconds)
        db = self.processes[0].db
        db.serving.forget()
        db.work()
        view = self.check()
        active = view.active
        assert active is None or active.state in ("running", "finalized"), f"undecided: {active}"
        for (name, entity), row in view.projections.items():
            assert name not in view.live or row.version == row.indexed_version, f"{entity} still waits in {name}"
        for (name, recording), item in view.items.items():
            paused = active is not None and active.paused and item.reason == "migration"
            assert name not in view.live or paused or item.state in ("done", "failed", "waived"), f"{recording}: {item}"
        again = db.work()
        assert (again.documents_written, again.recordings_done, again.recordings_failed) == (0, 0, 0), f"{again}"
        after = self.check()
        assert after.projections == view.projections, "working again with nothing to do changed versions"
        return after

    def save(self) -> Saved:
        """The library as it is now, for other worlds to begin with."""
        return self.backend.save(self.settings)

    def close(self) -> None:
        """End all processes and remove the library."""
        for process in self.processes:
            process.db.close()
        for index in self._closing:
            index.close()
        self.backend.remove(self.settings)
        shutil.rmtree(self.folder)
        self._ids.stop()


def die() -> None:
    """An action for `Process.arm`."""
    raise SimulatedCrash("here")


def _lose_a_vector(tx: Transaction, generation: str) -> None:
    """The embedding of one speaker is gone whose recording is done and whose document is indexed."""
    done = sa.and_(
        schema.work_items.c.recording_id == schema.recordings.c.id,
        schema.work_items.c.generation == generation,
        schema.work_items.c.state == "done",
        schema.work_items.c.done_version == schema.recordings.c.content_version,
    )
    indexed = sa.and_(
        schema.projections.c.entity_id == schema.speakers.c.id,
        schema.projections.c.generation == generation,
        schema.projections.c.version == schema.projections.c.indexed_version,
    )
    speaker = tx.scalar(
        sa.select(schema.speakers.c.id)
        .join(schema.recordings, schema.recordings.c.id == schema.speakers.c.recording_id)
        .join(schema.work_items, done)
        .join(schema.projections, indexed)
        .order_by(schema.speakers.c.id)
        .limit(1)
    )
    rows = schema.embeddings
    tx.execute(sa.delete(rows).where(rows.c.generation == generation, rows.c.entity_id == speaker))
