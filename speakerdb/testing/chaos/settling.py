"""The end of a run: everything is started again, work and repair come to rest, and then every invariant must hold."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing

import numpy as np
import sqlalchemy as sa

from speakerdb.catalog import schema
from speakerdb.errors import NotEmbedded, SpeakerDBError
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.testing import invariants
from speakerdb.testing.chaos.looking import Looking
from speakerdb.testing.chaos.processes import Process, Processes
from speakerdb.testing.factories import FakeExecutor, fake_vector
from speakerdb.testing.history import Actor
from speakerdb.testing.history_check import Violation
from speakerdb.testing.invariants import Monitor, View

LATER = 7200
"""Seconds by which the clock goes on before repair, so that nothing counts as just changed."""
PATIENCE = 90.0
"""Seconds after which what should come to rest counts as hanging. Nothing is measured with it."""
POLL_SECONDS = 0.05
LONG = 60.0
"""Seconds: the lease of who only looks on. A short one has a server end a transaction that stands still for a moment."""
_UNDECIDED = "SELECT id FROM migrations WHERE state IN ('finalizing', 'rolling_back')"
_QUEUED = (
    "SELECT w.recording_id FROM work_items w JOIN generations g ON g.name = w.generation"
    " WHERE g.live AND w.state IN ('queued', 'taken')"
)
_WAITING = (
    "SELECT p.entity_id FROM projections p JOIN generations g ON g.name = p.generation"
    " WHERE g.live AND p.version > p.indexed_version"
)


def settle(processes: Processes, driver: Actor, looking: Looking, settings: Settings) -> list[Violation]:
    """Let all heal; what is wrong then."""
    processes.set_clock(LATER)
    with closing(_opened(processes, settings)) as db:
        _mend_by_hand(db, driver, looking)
        services = [processes.start("service", f"last{n}", fates=()) for n in range(2)]
        left = _comes_to_rest(looking, services)
        for service in services:
            service.send(signal.SIGTERM)
        until = time.monotonic() + PATIENCE
        while any(not service.ended for service in services) and time.monotonic() < until:
            processes.look()
            time.sleep(POLL_SECONDS)
        found = [Violation("not-settled", each) for each in left]
        found += [
            Violation("not-settled", f"{service.name} did not end by itself: {service.state}")
            for service in services
            if service.state != 128 + signal.SIGTERM
        ]
        for step in (_healed, _invariants, _answers):
            try:
                found += list(step(db))
            except (AssertionError, SpeakerDBError) as error:
                found.append(Violation("invariant", f"{step.__name__.strip('_')}: {error}"))
        return found


def _opened(processes: Processes, settings: Settings) -> SpeakerDB:
    def clock() -> int:
        return time.time_ns() // 1000 + int(processes.clock.read_text())

    patient = settings.model_copy(update={"lease_seconds": LONG})
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return SpeakerDB.open(patient, executor=FakeExecutor(), clock=clock, start=False)
        except SpeakerDBError:  # a lease of somebody who cannot be seen to be dead has yet to expire
            if time.monotonic() > until:
                raise
            time.sleep(POLL_SECONDS)


def _mend_by_hand(db: SpeakerDB, driver: Actor, looking: Looking) -> None:
    """What only a person does: build an index again that is gone, and queue what failed because its worker was killed."""
    until = time.monotonic() + PATIENCE
    while gone := [name for name in db.serving.live() if not looking.serves(name)]:
        for name in gone:
            driver.ask("rebuild", lambda name=name: db.rebuild_index(name), generation=name)  # type: ignore[misc]
        if time.monotonic() > until:
            break
        time.sleep(POLL_SECONDS)
    db.retry()
    if (migration := db.migration()) is not None and migration.paused:
        db.resume()


def _comes_to_rest(looking: Looking, services: Sequence[Process]) -> list[str]:
    """Wait until all have started, and nothing is queued, undecided or behind; what still is, where that never comes."""
    until = time.monotonic() + PATIENCE
    while True:
        left = [f"{service.name} has not started" for service in services if "service-started" not in service.said()]
        left += [
            f"{what}: {[row[0] for row in rows[:5]]} and {len(rows)} in all"
            for what, query in (("undecided", _UNDECIDED), ("queued", _QUEUED), ("waiting", _WAITING))
            if (rows := looking.rows(query))
        ]
        if not left or time.monotonic() > until:
            return left
        time.sleep(POLL_SECONDS)


def _healed(db: SpeakerDB) -> Iterator[Violation]:
    """After a repair without faults the plan is empty, and a second one writes nothing."""
    db.serving.forget()
    db.work()
    db.repairer.run(vectors=True)
    db.work()
    plan = db.repairer.plan(vectors=True)
    for each in plan.generations:
        if not each.empty or each.refused or each.skipped or each.aliases:
            yield Violation("not-healed", f"after a repair the plan for {each.generation} is {each}")
    again = db.work()
    if again.documents_written or again.recordings_done or again.recordings_failed:
        yield Violation("not-healed", f"working again did something: {again}")


def _invariants(db: SpeakerDB) -> Iterator[Violation]:
    view = Monitor().check(db)
    for name in view.live:
        invariants.complete(view, name)
    yield from _vectors(view)


def _vectors(view: View) -> Iterator[Violation]:
    """Every speaker's vector in SQL is the one that the newest content of its recording gives."""
    for (name, entity), row in view.embeddings.items():
        if row.kind != "speaker" or row.vector is None or name not in view.live:
            continue
        generation = view.generations[name]
        wanted = fake_vector(f"{name}/{entity}/{row.content_version}", generation.dimension)
        if not np.allclose(np.frombuffer(row.vector, "<f4"), wanted, atol=1e-5):
            yield Violation("wrong-vector", f"{entity} has another vector in {name} than its content gives")
        speaker = view.speakers[entity]
        if view.recordings[speaker.recording_id].content_version != row.content_version:
            yield Violation("wrong-vector", f"{entity} has a vector of an older content in {name}")


def _answers(db: SpeakerDB) -> Iterator[Violation]:
    """Every voice that has a vector is found by it."""
    db.serving.forget()
    serving = db.serving.resolve(fresh=True).generation.name
    with db.catalog.read() as tx:
        table = schema.embeddings
        rows = tx.execute(
            sa.select(table.c.entity_id, table.c.vector).where(
                table.c.generation == serving, table.c.kind == "speaker", table.c.vector.is_not(None)
            )
        ).all()
    db.index.refresh(db.serving.index_of(db.generations[serving]))
    for id, blob in rows:
        try:
            best = db.match(vector=np.frombuffer(blob, "<f4"), k=1).matches
        except NotEmbedded:
            best = ()
        if not best or best[0].id != id:
            yield Violation("lost", f"the voice {id} does not answer as itself in {serving}: {best}")
