"""Services as processes of their own, with real signals: who works, what a signal gives back, who takes over."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa
from serve_kit import Place, add, drained, holder, states, wait_for

from speakerdb.catalog import schema
from speakerdb.testing import invariants
from speakerdb.testing.invariants import Monitor
from speakerdb.types import SERVING_ALIAS
from tests.synthetic_voices import make_recording


def alive(pid: int) -> bool:
    """Whether a process is there."""
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def asleep(pid: int) -> bool:
    """Whether a process is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_two_that_start_at_once_on_nothing_make_one_library_and_one_works(anywhere: Place) -> None:
    both = [anywhere.start(), anywhere.start()]
    for process in both:
        process.until("service-started")
    db = anywhere.open()
    assert len(db.index.aliases()[SERVING_ALIAS]) == 1
    add(db, "a", "b", "c")
    wait_for(lambda: drained(db), "the work")
    working = [process for process in both if process.logged("work-began")]
    assert [process.pid for process in working] == [holder(db)]
    Monitor().check(db)
    for process in both:
        assert process.stop() == 128 + signal.SIGTERM
        assert process.logged("service-stopped", unfinished="-")
    assert holder(db) is None


def test_a_batch_in_flight_is_given_back_and_its_worker_ended(place: Place) -> None:
    db = place.open()
    for name in ("a", "b"):
        made = make_recording(place.folder, name, [("A", 1, 4.0), ("B", 2, 4.0)])
        db.add(made.path, made.turns, recording_id=name)
    process = place.start(play="worker")
    (begun,) = wait_for(lambda: list(place.folder.glob("worker-*")), "a worker that begins")
    worker = int(begun.name.removeprefix("worker-"))
    assert states(db) == {"a": ("taken", 1), "b": ("taken", 1)}
    assert process.stop() == 128 + signal.SIGTERM
    assert process.logged("service-stopped", unfinished="-"), "it was ended in time"
    assert states(db) == {"a": ("queued", 0), "b": ("queued", 0)}, "as if they had not been tried"
    assert holder(db) is None
    assert not alive(worker)


def test_a_standby_takes_over_what_is_released(place: Place) -> None:
    db = place.open()
    first = place.start()
    first.until("work-began")
    standby = place.start()
    standby.until("service-started")
    add(db, "a")
    wait_for(lambda: drained(db), "the work of the first")
    assert standby.logged("work-began") is None
    assert first.stop() == 128 + signal.SIGTERM
    standby.until("work-began")
    add(db, "b")
    wait_for(lambda: drained(db), "the work of the second")
    assert holder(db) == standby.pid


def test_a_standby_takes_over_from_one_that_was_killed(anywhere: Place) -> None:
    """On one machine at once, by the operating system's lock; see the test after it for another machine."""
    db = anywhere.open()
    add(db, "a")
    first = anywhere.start(play="gate")
    wait_for(lambda: anywhere.begun() == {"a"}, "the first")
    standby = anywhere.start()
    standby.until("service-started")
    first.send(signal.SIGKILL)
    assert first.ended() == -signal.SIGKILL
    standby.until("work-began")
    wait_for(lambda: drained(db), "the work")
    assert states(db)["a"] == ("done", 2), "the attempt that died counts"
    invariants.complete(Monitor().check(db), "v3")


def test_one_on_another_machine_takes_over_when_the_lease_has_expired(place: Place) -> None:
    place.more |= {"lease_seconds": 3.0, "database_url": f"sqlite:///{place.folder / 'shared.db'}"}
    db = place.open()
    add(db, "a")
    first = place.start(play="gate")
    wait_for(lambda: place.begun() == {"a"}, "the first")
    first.send(signal.SIGKILL)
    first.ended()
    for lock in (place.folder / "data" / "locks").glob("*.lock"):  # of another machine nobody sees the locks
        if lock.stem.startswith(f"{first.pid}-"):
            lock.unlink()
    second = place.start()
    second.until("work-began")
    wait_for(lambda: drained(db), "the work")


def test_one_that_slept_beyond_its_lease_commits_nothing(place: Place) -> None:
    place.more |= {"lease_seconds": 2.0, "database_url": f"sqlite:///{place.folder / 'shared.db'}"}
    db = place.open()
    add(db, "a")
    first = place.start(play="gate")
    wait_for(lambda: place.begun() == {"a"}, "the first")
    for lock in (place.folder / "data" / "locks").glob(f"{first.pid}-*.lock"):
        lock.unlink()
    with db.catalog.job():  # while we write nobody does: who sleeps in a write blocks every writer of an SQLite file
        first.send(signal.SIGSTOP)
        wait_for(lambda: asleep(first.pid), "its sleep")
    second = place.start()
    second.until("work-began")
    wait_for(lambda: drained(db), "the work of the second")
    assert states(db)["a"] == ("done", 2)
    place.go_on()
    first.send(signal.SIGCONT)
    first.until("job-lost-its-lease", job="work")
    assert holder(db) == second.pid
    assert states(db)["a"] == ("done", 2)
    Monitor().check(db)


def test_a_second_signal_ends_it_at_once_and_another_one_goes_on(place: Place) -> None:
    db = place.open()
    add(db, "a")
    process = place.start(play="gate")  # in a thread that nothing can end
    wait_for(lambda: place.begun() == {"a"}, "the first")
    process.send(signal.SIGINT)
    process.send(signal.SIGTERM)
    assert process.ended() in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert process.logged("service-stopped") is None
    place.start().until("work-began")
    wait_for(lambda: drained(db), "the work")


def test_without_jobs_it_works_on_nothing(place: Place) -> None:
    db = place.open()
    add(db, "a")
    answers = place.start("--no-jobs", "--port", "0")
    assert answers.get("/v1/health")[0] == 200
    wait_for(lambda: answers.get("/v1/ready")[0] == 200, "its readiness")
    assert states(db) == {"a": ("queued", 0)}
    assert holder(db) is None
    works = place.start("--no-api")
    assert works.until("serve-began")["url"] == "-"
    wait_for(lambda: drained(db), "the work")
    assert "speakerdb_lag_documents" in answers.get("/metrics")[1]
    assert answers.stop() == works.stop() == 128 + signal.SIGTERM


def test_api_and_jobs_in_one_process_end_together(place: Place) -> None:
    db = place.open()
    add(db, "a")
    process = place.start("--port", "0", "--json")
    wait_for(lambda: drained(db), "the work")
    status, metrics = process.get("/metrics")
    assert status == 200
    assert 'speakerdb_recordings_total{result="done"} 1.0' in metrics
    assert process.stop() == 128 + signal.SIGTERM
    told = json.loads(process.out.read_text())
    assert (told["signal"], told["finished"]) == ("SIGTERM", True)


def test_live_settings_reach_another_process(anywhere: Place) -> None:
    anywhere.more["lease_seconds"] = 3.0
    db = anywhere.open()
    process = anywhere.start()
    process.until("work-began")
    db.live.set("paused", "on", why="a test")
    wait_for((anywhere.folder / "rested").exists, "the rest of the workers")
    add(db, "a")
    seen = expiry(db)
    wait_for(lambda: expiry(db) not in (seen, None), "that it goes on holding the lease")
    assert states(db) == {"a": ("queued", 0)}
    db.live.clear("paused")
    wait_for(lambda: drained(db), "the work")


def expiry(db: object) -> int | None:
    """Until when the lease stands."""
    with db.catalog.read() as tx:  # type: ignore[attr-defined]
        return tx.scalar(sa.select(schema.leases.c.expires_at).where(schema.leases.c.name == "work"))
