"""Leases and the write fence: who may work, and who must wait."""

import threading
import time
from pathlib import Path

import pytest

from speakerdb.catalog import journal, leases, trail
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.holders import Holder
from speakerdb.errors import LeaseHeld, LeaseLost, WritesFenced
from tests.catalog.conftest import Clock, add, open_catalog


@pytest.fixture
def other(url: str, tmp_path: Path, clock: Clock, catalog: Catalog) -> Catalog:
    """A second process on the same database."""
    made = open_catalog(url, tmp_path, clock)
    yield made  # type: ignore[misc]
    made.close()


def test_one_holder_at_a_time_and_the_epoch_grows(catalog: Catalog, other: Catalog) -> None:
    first = catalog.acquire("work")
    with pytest.raises(LeaseHeld):
        other.acquire("work")
    with pytest.raises(LeaseHeld):
        catalog.acquire("work")
    catalog.release(first)
    assert other.acquire("work").epoch == first.epoch + 1


def test_an_expired_lease_is_taken_and_its_old_holder_commits_nothing(
    catalog: Catalog, other: Catalog, clock: Clock
) -> None:
    lease = catalog.acquire("work")
    clock.pass_seconds(61)
    other.acquire("work")
    with pytest.raises(LeaseLost), catalog.job(lease) as tx:
        journal.record(tx, "written-too-late", "me", 1)
    with pytest.raises(LeaseLost):
        catalog.renew(lease)
    catalog.release(lease)  # does not take it away from the new holder
    with pytest.raises(LeaseHeld):
        catalog.acquire("work")
    with catalog.read() as tx:
        assert trail.latest_events(tx, 10) == []


def test_touching_renews(catalog: Catalog, other: Catalog, clock: Clock) -> None:
    lease = catalog.acquire("work")
    for _ in range(3):
        clock.pass_seconds(50)
        catalog.renew(lease)
    with pytest.raises(LeaseHeld):
        other.acquire("work")


def test_a_released_lease_cannot_be_used(catalog: Catalog) -> None:
    lease = catalog.acquire("work")
    catalog.release(lease)
    with pytest.raises(LeaseLost):
        catalog.renew(lease)


def test_a_clock_that_was_moved_back_locks_nobody_out(catalog: Catalog, other: Catalog, clock: Clock) -> None:
    catalog.acquire("work")
    clock.pass_seconds(-100_000)
    assert other.acquire("work").epoch == 2


def test_a_dead_holder_on_this_machine_is_succeeded_at_once(catalog: Catalog, other: Catalog) -> None:
    catalog.acquire("work")
    # What the operating system does when a process dies: the lock goes, the file stays.
    assert catalog.holder._file is not None
    catalog.holder._file.close()
    assert other.acquire("work").epoch == 2


def test_a_holder_knows_itself_the_living_and_the_unknown(tmp_path: Path) -> None:
    one, two = Holder(tmp_path), Holder(tmp_path)
    assert not one.is_dead(two.name)
    assert not one.is_dead(one.name)
    assert not one.is_dead(two.name.partition("/")[0] + "/123-never-seen")
    assert not one.is_dead("another-machine/" + two.name.partition("/")[2])
    two.close()
    one.close()


def test_writers_wait_for_the_fence_and_go_on(catalog: Catalog, other: Catalog) -> None:
    with catalog.job() as tx:
        assert leases.raise_fence(tx, catalog.holder.name, catalog.now(), 10)
    with pytest.raises(WritesFenced):
        add(other, "r")

    def lift() -> None:
        time.sleep(0.05)
        with catalog.job() as tx:
            leases.lift_fence(tx, catalog.holder.name)

    thread = threading.Thread(target=lift)
    thread.start()
    add(other, "r")
    thread.join()


def test_a_fence_expires_and_is_not_taken_for_ones_own(catalog: Catalog, other: Catalog, clock: Clock) -> None:
    with catalog.job() as tx:
        assert leases.raise_fence(tx, catalog.holder.name, clock(), 10)
    with other.job() as tx:
        assert not leases.raise_fence(tx, other.holder.name, clock(), 10)
        assert not leases.fence_stands(tx, other.holder.name, clock())
    with catalog.job() as tx:
        assert leases.fence_stands(tx, catalog.holder.name, clock())
    clock.pass_seconds(11)
    add(other, "r")
    with catalog.job() as tx:
        assert not leases.fence_stands(tx, catalog.holder.name, clock())
        leases.lift_fence(tx, other.holder.name)  # somebody else's lift does nothing to it
