"""A library whose index is changed behind its back, through nothing but the port: what was there is laid anew, as it is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from speakerdb.catalog.database import Transaction
from speakerdb.catalog.vectors import tombstone
from speakerdb.index.port import VectorIndex
from speakerdb.reports.repairing import GenerationPlan, RepairReport
from speakerdb.service import SpeakerDB
from speakerdb.settings import RepairSettings
from speakerdb.testing.backends import Backend, Saved
from speakerdb.testing.damage import lay
from speakerdb.testing.factories import fake_vector, silence, two_voices
from speakerdb.testing.invariants import Monitor, View, check, unwrapped
from speakerdb.testing.machine_world import Process, World
from speakerdb.types import Document, Kind

DAY = 86_400


class Damaged:
    """Two processes on one library, its clock, and the index as it is behind their backs."""

    def __init__(
        self, recordings: int, backend: Backend, *, as_it_was: tuple[Saved, int] | None = None, **settings: Any
    ) -> None:
        """`as_it_was`: what `saved` gave, instead of recordings."""
        repair = RepairSettings(**{"grace_seconds": 0} | settings.pop("repair", {}))
        self.world = World(None if as_it_was is None else as_it_was[0], backend=backend, repair=repair, **settings)
        if as_it_was is not None:
            self.world.clock.now = as_it_was[1]
            return
        for number in range(recordings):
            self.add(f"recording-{number}")
        self.db.work()
        self.db.repairer.check()

    def saved(self) -> tuple[Saved, int]:
        """The library and its time."""
        return self.world.save(), self.world.clock.now

    def close(self) -> None:
        """Remove the library. Fine to call twice."""
        if self.world.processes:
            self.world.close()
            self.world.processes = []

    def unwatched(self) -> None:
        """Look at the invariants only where it is said: after each of thousands of commits it takes long."""
        self.world.monitor.committed = lambda _: None  # type: ignore[method-assign]

    def put_back(self, old: Saved) -> None:
        """The database of an earlier day is put back, while nobody has the library open; the index stays as it is."""
        world = self.world
        now = world.save()
        for process in world.processes:
            process.db.close()
        world.backend.remove(world.settings)
        stored = world.backend.make(world.folder, Saved(old.database, now.index))
        world.settings = world.settings.model_copy(update=stored)
        world.monitor = Monitor()
        world.processes = [Process(world), Process(world)]

    @property
    def db(self) -> SpeakerDB:
        return self.world.processes[0].db

    @property
    def other(self) -> SpeakerDB:
        return self.world.processes[1].db

    @property
    def index(self) -> VectorIndex:
        return unwrapped(self.db.index)

    def add(self, name: str) -> None:
        self.db.add(None, two_voices(), recording_id=name, waveform=silence(20))

    def concrete(self, generation: str = "v3") -> str:
        return self.db.serving.index_of(self.db.generations[generation])

    def documents(self, generation: str = "v3") -> list[Document]:
        return list(self.index.scan(self.concrete(generation)))

    def lay(self, documents: Iterable[Document], generation: str = "v3") -> None:
        lay(self.index, self.concrete(generation), documents)
        self.world.monitor.damaged(generation)

    def damage(self, how: Callable[[list[Document]], Sequence[Document]], generation: str = "v3") -> None:
        self.lay(how(self.documents(generation)), generation)

    def sql(self, text: str, *given: object) -> None:
        """Change the database by hand. What was seen of it is no promise any more."""
        self.world.monitor = Monitor()
        with self.db.catalog.job() as tx:
            _run(tx, text, given)

    def plan(self, **asked: Any) -> GenerationPlan:
        """The plan for v3, every document compared."""
        (found,) = self.db.repairer.plan(generation="v3", **{"vectors": True} | asked).generations
        return found

    def mended(self, view: View | None = None) -> View:
        """Nothing is left to do, doing it again writes nothing, and every invariant holds."""
        view = view or check(self.db)
        for name in view.live:
            (plan,) = self.db.repairer.plan(generation=name, vectors=True).generations
            assert plan.empty, plan
            assert plan.waiting == 0
        report = self.db.repairer.run(vectors=True)
        assert report.done == 0
        assert all(each.written == 0 for each in report.generations)
        assert check(self.db).projections == view.projections
        check_report = self.db.repairer.check()
        assert all(each.plan.compared == 0 for each in check_report.generations), "all buckets are equal by now"
        self.world.check()
        return view


def _run(tx: Transaction, text: str, given: Sequence[object]) -> None:
    mark = "?" if tx.dialect.name == "sqlite" else "%s"
    tx.exec_driver_sql(text.replace("?", mark), tuple(given))


def done(report: RepairReport) -> dict[str, int]:
    """What was done, over all generations."""
    found: dict[str, int] = {}
    for each in report.generations:
        for action, count in each.done.items():
            found[action] = found.get(action, 0) + count
    return found


# Damages: from the documents that are there to those that are there afterwards.


def changed(which: int, **fields: Any) -> Callable[[list[Document]], list[Document]]:
    """One document has other fields."""
    return lambda documents: [replace(d, **fields) if n == which else d for n, d in enumerate(documents)]


def aged(documents: list[Document]) -> list[Document]:
    """One is older than it should be."""
    return [replace(documents[0], version=documents[0].version - 7), *documents[1:]]


def ahead(documents: list[Document]) -> list[Document]:
    """One was written by hand, with a version far above."""
    return [replace(documents[0], version=documents[0].version + 10**12), *documents[1:]]


def strangers(count: int, name: str = "stranger") -> Callable[[list[Document]], list[Document]]:
    """Documents that nobody knows."""

    def added(documents: list[Document]) -> list[Document]:
        living = next(d for d in documents if not d.deleted)
        size = len(_vector(living))
        made = [replace(living, id=f"{name}-{n}", vector=fake_vector(f"{n}", size)) for n in range(count)]
        return [*documents, *made]

    return added


def halved(documents: list[Document]) -> list[Document]:
    """Half of them are gone."""
    return documents[::2]


def other_vector(documents: list[Document]) -> list[Document]:
    """A vector was changed by hand, and nothing else of the document: its digest and its hash say nothing of it."""
    first = documents[0]
    return [replace(first, vector=fake_vector("by hand", len(_vector(first)))), *documents[1:]]


def long_vector(documents: list[Document]) -> list[Document]:
    """A vector that has not unit norm."""
    first = documents[0]
    return [replace(first, vector=(_vector(first) * np.float32(3)).astype(np.float32)), *documents[1:]]


def other_library(documents: list[Document]) -> list[Document]:
    """Filters that the content hash is not one of."""
    return [replace(documents[0], library_id="elsewhere"), *documents[1:]]


def other_hash(documents: list[Document]) -> list[Document]:
    return [replace(documents[0], content_hash="0" * 32), *documents[1:]]


def dead(documents: list[Document]) -> list[Document]:
    """A tombstone of the very version that should be alive."""
    return [replace(documents[0], vector=None), *documents[1:]]


def buried(id: str) -> Callable[[list[Document]], list[Document]]:
    """There is a tombstone that nobody knows."""
    return lambda documents: [
        *documents,
        tombstone(id, max(d.version for d in documents), Kind.SPEAKER, documents[0].library_id),
    ]


def _vector(document: Document) -> Any:
    assert document.vector is not None
    return document.vector
