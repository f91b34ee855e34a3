"""A real process that is stopped in the middle of a transaction: on a server it is put out, a file waits for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import leases_process
import pytest

from speakerdb.catalog import database, journal, leases, trail
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.leases import Lease
from speakerdb.errors import DatabaseUnavailable, LeaseHeld

LEASE_SECONDS = 2.0


@pytest.fixture
def here(on_a_machine: Callable[..., Catalog]) -> Catalog:
    """This process."""
    return on_a_machine(lease_seconds=LEASE_SECONDS)


@pytest.fixture
def stopped(url: str, tmp_path: Path, here: Catalog) -> Iterator[subprocess.Popen[str]]:
    """The other one, which holds the lease, has written, and is stopped before it commits."""
    given = json.dumps({"url": url, "folder": str(tmp_path / "elsewhere"), "seconds": LEASE_SECONDS})
    with subprocess.Popen(
        [sys.executable, leases_process.__file__, given], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "inside\n"
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        yield process
        process.kill()


def wake(process: subprocess.Popen[str]) -> str:
    """What became of it."""
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate("go on\n", timeout=60)
    return out.strip()


def taken(catalog: Catalog) -> Lease:
    """The lease, once it can be had."""
    for _ in range(600):
        try:
            return catalog.acquire("work")
        except (LeaseHeld, DatabaseUnavailable):
            time.sleep(0.05)
    pytest.fail("nobody gets the lease")


def written(catalog: Catalog) -> list[str]:
    with catalog.read() as tx:
        return [event["who"] for event in trail.events_after(tx, 0, 100)]


@pytest.mark.parametrize("kind", [pytest.param("postgresql", marks=pytest.mark.servers)], indirect=True)
def test_a_server_puts_it_out_and_another_takes_over(here: Catalog, stopped: subprocess.Popen[str]) -> None:
    lease = taken(here)  # its transaction was ended by the server, long before anybody's patience was at its end
    assert lease.epoch == 2
    with here.job(lease) as tx:
        journal.record(tx, "items-retried", "successor", here.now(), entity_id="work", epoch=lease.epoch)
    assert wake(stopped) in ("database-unavailable", "lease-lost")
    assert written(here) == ["successor"]


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_file_waits_for_it_and_nobody_is_lied_to(
    on_a_machine: Callable[..., Catalog], here: Catalog, stopped: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_SECONDS", 0.2)
    hasty = on_a_machine(lease_seconds=LEASE_SECONDS)
    with pytest.raises(DatabaseUnavailable, match="locked by another process") as caught:
        hasty.acquire("work")
    assert caught.value.transient
    assert written(hasty) == [], "readers go on"
    with here.read() as tx:
        row = leases.find(tx, "work")
    assert row is not None
    while row.stands(here.now(), 0):
        time.sleep(0.05)
    with pytest.raises(DatabaseUnavailable):
        hasty.acquire("work")  # expired, and still nobody can take it: so what it commits is not stale
    assert wake(stopped) == "committed"
    assert written(here) == ["stopped"]
    assert taken(here).epoch == 2


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_file_is_free_as_soon_as_it_is_killed(here: Catalog, stopped: subprocess.Popen[str]) -> None:
    stopped.kill()
    stopped.wait()
    assert taken(here).epoch == 2
    assert written(here) == []
