"""Two workers on two machines: they share the servers and nothing else, so neither sees whether the other one lives."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import survive_process
from survive_kit import Place, Told, wait_for

from speakerdb.errors import LeaseHeld
from speakerdb.service import SpeakerDB

LEASE_SECONDS = 3.0
LEASE_LOST = 5


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The file for which the other process waits."""
    return tmp_path / "gate"


@pytest.fixture
def library(place: Place, told: Told) -> SpeakerDB:
    """A library with work that waits, opened on this machine."""
    db = place.open(lease_seconds=LEASE_SECONDS)
    told.add(db, "one", "two")
    told.settled(db)
    told.remove(db, "two")
    told.add(db, "three", "four")
    return db


@pytest.fixture
def other(place: Place, library: SpeakerDB, gate: Path) -> Iterator[subprocess.Popen[str]]:
    """The worker on the other machine, which has taken its first recording."""
    given = {
        "folder": str(place.folder), "database": place.database, "search": place.search, "prefix": place.prefix,
        "gate": str(gate), "lease_seconds": str(LEASE_SECONDS),
    }  # fmt: skip
    command = [sys.executable, survive_process.__file__, json.dumps(given)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
        process.kill()


def works(db: SpeakerDB) -> bool:
    """Whether this machine may work now; then it has."""
    try:
        db.work()
    except LeaseHeld as error:
        held = error
    else:
        return True
    assert (held.code, held.exit_code, held.transient) == ("lease-held", 5, True)
    assert held.details["holder"] in held.message
    return False


def test_while_one_works_the_other_is_told_who_it_is(
    library: SpeakerDB, other: subprocess.Popen[str], gate: Path, told: Told
) -> None:
    assert not works(library)
    (lease,) = [one for one in library.status().leases if one.name == "work"]
    assert (lease.held, lease.pid) == (True, other.pid)
    told.add(library, "five")  # everything else goes on
    assert library.match(speaker=told.has["one"][0]).generation == "v3"
    gate.touch()
    out, _ = other.communicate(timeout=60)
    assert (other.returncode, json.loads(out)["code"]) == (0, None)
    assert not library.catalog.holder.has_ended(str(lease.holder)), "it cannot be seen from here"
    told.settled(library)


def test_one_that_was_killed_is_succeeded_when_its_lease_has_ended(
    library: SpeakerDB, other: subprocess.Popen[str], told: Told
) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert not works(library), "nobody can know yet that it is dead"
    wait_for(lambda: works(library), "the end of its lease")
    told.settled(library)


def test_one_that_was_stopped_wakes_late_and_commits_nothing(
    library: SpeakerDB, other: subprocess.Popen[str], gate: Path, told: Told
) -> None:
    other.send_signal(signal.SIGSTOP)
    wait_for(lambda: works(library), "the end of its lease")
    told.add(library, "five")
    before = told.settled(library)
    gate.touch()
    other.send_signal(signal.SIGCONT)
    out, _ = other.communicate(timeout=60)
    assert (other.returncode, json.loads(out)["code"]) == (LEASE_LOST, "lease-lost")
    assert "speakerdb status" in json.loads(out)["hint"] or "run it again" in json.loads(out)["hint"]
    after = told.settled(library)
    assert (after.projections, after.items) == (before.projections, before.items), "it wrote after all"
    with suppress(LeaseHeld):
        library.work()
