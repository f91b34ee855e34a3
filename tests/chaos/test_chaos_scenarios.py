"""What the random runs meet by chance, once each on purpose: who is stopped where, whose clock jumps, who wakes too late."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import NoReturn

import pytest

from speakerdb.catalog.work import MAX_ATTEMPTS
from speakerdb.errors import LeaseLost
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.testing.backends import Backend
from speakerdb.testing.chaos.fates import Fate
from speakerdb.testing.chaos.processes import Process
from speakerdb.testing.chaos.run import HOUR, POLL_SECONDS, Chaos
from speakerdb.testing.chaos.settling import LONG, settle
from speakerdb.testing.factories import FakeExecutor, silence, two_voices

PATIENCE = 60.0
"""A hang is ended after so long; nothing asserts how long anything takes."""
WORK = ("work", "--json")
"""One thread: a service that is stopped anywhere may be in the middle of a write in another one."""
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
"""Else each place to stop at is tried on files, and on servers those that are different there."""
_WAITS = (
    "SELECT (SELECT count(*) FROM work_items WHERE state <> 'done') +"
    " (SELECT count(*) FROM projections WHERE version > indexed_version)"
)


def until(chaos: Chaos, happened: Callable[[], object], what: str) -> None:
    """Wait until it is so; fails where it never is."""
    late = time.monotonic() + PATIENCE
    while not happened():
        chaos.processes.look()
        assert time.monotonic() < late, f"{what} did not happen: {[(p.name, p.state) for p in chaos.processes.started]}"
        time.sleep(POLL_SECONDS)


def stopped(chaos: Chaos, process: Process) -> None:
    """Wait until a process has come to its fate."""
    until(chaos, lambda: process.state == "stopped", f"the stop of {process.name}")


def expired(chaos: Chaos, name: str) -> Callable[[], bool]:
    """Whether a lease stands no longer, or is another one's than it was."""
    ((epoch,),) = chaos.looking.rows(f"SELECT epoch FROM leases WHERE name = '{name}'")  # noqa: S608

    def look() -> bool:
        ((now, expires),) = chaos.looking.rows(f"SELECT epoch, expires_at FROM leases WHERE name = '{name}'")  # noqa: S608
        return bool(now > epoch or expires is None or expires < time.time_ns() // 1000)

    return look


def drained(chaos: Chaos) -> bool:
    """Whether everything is extracted and written."""
    return bool(chaos.looking.rows(_WAITS) == [(0,)])


def add(chaos: Chaos, db: SpeakerDB, *names: str) -> None:
    """Recordings of two voices each, written down."""
    seconds = {"SPEAKER_00": 10.0, "SPEAKER_01": 10.0}
    for name in names:
        chaos.driver.ask(
            "add", lambda name=name: db.add(None, two_voices(), recording_id=name, waveform=silence(20)),  # type: ignore[misc]
            recording=name, seconds=seconds,
        )  # fmt: skip


@contextmanager
def opened(chaos: Chaos, settings: Settings) -> Iterator[SpeakerDB]:
    """The library in this process too, watched; at the end all must be well."""
    chaos.driver.ask("opened", lambda: None, serving=settings.serving)
    with chaos.watched():
        patient = settings.model_copy(update={"lease_seconds": LONG})
        with closing(SpeakerDB.open(patient, executor=FakeExecutor())) as db:
            yield db
        chaos.calm()
        found = settle(chaos.processes, chaos.driver, chaos.looking, settings)
    found += chaos.judge()
    assert found == [], "\n".join(map(str, found))


def only_where_it_differs(backend: Backend, differs: bool) -> None:
    """Leave a case out on servers that goes the same way on files, but in the thorough profile."""
    if backend.delayed and not (differs or THOROUGH):
        pytest.skip("tried on files; on servers with HYPOTHESIS_PROFILE=thorough")


@pytest.mark.parametrize(
    ("point", "at"),
    [("before commit", 3), ("before bulk", 1), ("after bulk", 1)],
    ids=["write", "bulk", "answer-to-a-bulk"],
)
def test_one_that_is_stopped_beyond_its_lease_and_goes_on(
    chaos: Chaos, home: Settings, backend: Backend, point: str, at: int
) -> None:
    only_where_it_differs(backend, point == "before commit")
    with opened(chaos, home) as db:
        add(chaos, db, "one", "two")
        first = chaos.processes.start("service", "first", fates=[Fate("stop", at, point)], args=WORK)
        stopped(chaos, first)
        until(chaos, expired(chaos, "work"), "the end of its lease")
        second = chaos.processes.start("service", "second", fates=())
        if point != "before commit" or backend.delayed:
            # A server ends the transaction of one that stands still; in a file it keeps all writers waiting until it goes on.
            until(chaos, lambda: drained(chaos), "the work of the second")
            chaos.driver.ask("remove", lambda: db.remove("one"), recording="one")
            until(chaos, lambda: drained(chaos), "the tombstones")
        first.send(signal.SIGCONT)
        until(chaos, lambda: first.ended, "the end of the first")
        add(chaos, db, "three")
        until(chaos, lambda: drained(chaos), "the work")
        assert not second.ended


def test_a_recording_that_every_process_dies_of_is_given_up_by_the_next(
    chaos: Chaos, home: Settings, backend: Backend
) -> None:
    """Its item is in the epoch of who died, and whoever ends it is in a later one: no write of a stale epoch."""
    only_where_it_differs(backend, False)
    with opened(chaos, home) as db:
        add(chaos, db, "one")
        for attempt in range(MAX_ATTEMPTS):
            fates = [Fate("kill", 4, "before commit")]
            one = chaos.processes.start("service", f"dies{attempt}", fates=fates, args=WORK)
            until(chaos, lambda one=one: one.ended, "its death")  # type: ignore[misc]
            assert one.state == -signal.SIGKILL
        last = chaos.processes.start("service", "last", fates=(), args=WORK)
        until(chaos, lambda: last.ended, "the end of the last")
        states = chaos.looking.rows("SELECT state, error_code, attempts FROM work_items WHERE generation = 'v3'")
        assert [tuple(row) for row in states] == [("failed", "worker-died", MAX_ATTEMPTS)]


@pytest.mark.parametrize(
    ("point", "at", "serves"),
    [("before update_aliases", 1, "v3"), ("before update_aliases", 2, "v3"), ("after update_aliases", 2, "v4")],
    ids=["before-its-token", "before-its-swap", "after-its-swap"],
)
def test_a_swap_that_is_stopped_beyond_its_lease_and_goes_on(
    chaos: Chaos, home: Settings, backend: Backend, point: str, at: int, serves: str
) -> None:
    only_where_it_differs(backend, (point, at) == ("before update_aliases", 2))
    with opened(chaos, home) as db:
        add(chaos, db, "one", "two")
        db.work()
        db.start_migration("v4", force=True)
        db.work()

        def finalize() -> None:
            args = ("migrate", "finalize", "--yes", "--json")
            first = chaos.processes.start("service", "finalize", fates=[Fate("stop", at, point)], args=args)
            stopped(chaos, first)
            until(chaos, expired(chaos, "migration"), "the end of its lease")
            chaos.processes.start("service", "second", fates=())
            undecided = "SELECT id FROM migrations WHERE state = 'finalizing'"
            until(chaos, lambda: not chaos.looking.rows(undecided), "the decision")
            assert chaos.looking.sample().aliases["speakers"] == [f"speakers_{serves}"]
            first.send(signal.SIGCONT)
            until(chaos, lambda: first.ended, "the end of the first")
            assert first.state != 0, "it says that it did what another one has decided"
            _lost()

        assert chaos.driver.ask("finalize", finalize, to="v4") == "unknown"
        assert chaos.looking.sample().aliases["speakers"] == [f"speakers_{serves}"]
        migration = chaos.looking.migration()
        assert migration is not None
        assert migration[1] == ("running" if serves == "v3" else "finalized")


def _lost() -> NoReturn:
    raise LeaseLost("Another process has decided it.")


def test_a_clock_that_jumps_an_hour_either_way(chaos: Chaos, home: Settings) -> None:
    with opened(chaos, home) as db:
        services = [chaos.processes.start("service", f"service{n}", fates=()) for n in range(2)]
        for number, seconds in enumerate((0, HOUR, -HOUR, 0)):
            chaos.processes.set_clock(seconds)
            add(chaos, db, f"recording-{number}")
            until(chaos, lambda: drained(chaos), f"the work at {seconds} s")
        assert not any(service.ended for service in services)


def test_a_deletion_a_crash_and_a_write_from_before(chaos: Chaos, home: Settings) -> None:
    """The crash of the engine itself is in tests/survive; here everybody who knew of the deletion is killed."""
    with opened(chaos, home) as db:
        add(chaos, db, "one", "two")
        first = chaos.processes.start("service", "first", fates=[Fate("stop", 1, "before bulk")], args=WORK)
        stopped(chaos, first)
        until(chaos, expired(chaos, "work"), "the end of its lease")
        second = chaos.processes.start("service", "second", fates=())
        until(chaos, lambda: drained(chaos), "the work of the second")
        chaos.driver.ask("remove", lambda: db.remove("one"), recording="one")
        until(chaos, lambda: drained(chaos), "the tombstones")
        second.send(signal.SIGKILL)
        until(chaos, lambda: second.ended, "its death")
        first.send(signal.SIGCONT)
        until(chaos, lambda: first.ended, "the end of the first")
        seen = chaos.looking.sample(documents=True)  # before a repair could have mended it
        assert seen.sql["recordings"].keys() == {"two"}
        assert seen.documents is not None
        assert set(seen.documents["v3"]) == seen.sql["speakers"].keys()
