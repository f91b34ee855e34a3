"""Keeping a lease, its limit, breaking it; and that whoever works long without a transaction renews it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from speakerdb.catalog import holders, leases, trail
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.holders import own_seconds
from speakerdb.errors import Conflict, InvalidInput, LeaseHeld, LeaseLost
from speakerdb.migrator import gates
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices


class Own:
    """A machine's own clock."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def own() -> Own:
    return Own()


@pytest.fixture
def catalog(on_a_machine: Callable[..., Catalog], own: Own) -> Catalog:
    return on_a_machine(own_clock=own)


def expiry(catalog: Catalog) -> int:
    with catalog.read() as tx:
        row = leases.find(tx, "work")
    assert row is not None
    assert row.expires_at is not None
    return row.expires_at


def test_keeping_writes_only_when_a_third_is_over(catalog: Catalog, own: Own) -> None:
    lease = catalog.acquire("work")
    first = expiry(catalog)
    own.at = 19.9
    catalog.keep(lease)
    assert expiry(catalog) == first
    own.at = 20.0
    catalog.keep(lease)
    renewed = expiry(catalog)
    assert renewed > first
    own.at = 39.0
    catalog.keep(lease)
    assert expiry(catalog) == renewed


def test_a_run_has_a_limit_by_both_clocks(on_a_machine: Callable[..., Catalog], own: Own) -> None:
    at = [1_000_000_000_000]
    catalog = on_a_machine(own_clock=own, clock=lambda: at[0])
    with catalog.holding("work", limit=7200) as lease:
        assert catalog.left(lease) == 7200
        own.at += 7199
        at[0] += 7199_000_000
        catalog.renew(lease)
        assert expiry(catalog) == 1_000_000_000_000 + 7200_000_000, "it does not stand for longer than the run may last"
        assert catalog.left(lease) == 1
        own.at += 1
        for act in (catalog.keep, catalog.renew):
            with pytest.raises(LeaseLost, match="limit"):
                act(lease)
    assert catalog.acquire("work").epoch == 2, "it was given back"


def test_a_run_is_over_by_the_databases_clock_too(on_a_machine: Callable[..., Catalog], own: Own) -> None:
    at = [1_000_000_000_000]
    catalog = on_a_machine(own_clock=own, clock=lambda: at[0])
    lease = catalog.acquire("work", limit=100)
    at[0] += 100_000_000
    with pytest.raises(LeaseLost, match="limit"):
        catalog.renew(lease)


def test_a_lease_of_its_own_length_is_not_taken_for_one_of_a_moved_clock(on_a_machine: Callable[..., Catalog]) -> None:
    """Who has a shorter one in his settings must not take a longer one away."""
    at = [1_000_000_000_000]
    patient, hasty = (on_a_machine(lease_seconds=each, clock=lambda: at[0]) for each in (60, 5))
    lease = patient.acquire("work")
    with pytest.raises(LeaseHeld):
        hasty.acquire("work")
    at[0] -= 3600_000_000
    assert hasty.acquire("work").epoch == lease.epoch + 1


def test_the_own_clock_counts_while_the_machine_sleeps() -> None:
    import time

    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("this system has no such clock")
    assert holders._OWN_CLOCK == time.CLOCK_BOOTTIME
    assert 0 < own_seconds() <= own_seconds()


def test_a_broken_lease_is_free_and_its_holder_commits_nothing(
    on_a_machine: Callable[..., Catalog], catalog: Catalog
) -> None:
    lease = catalog.acquire("work")
    other = on_a_machine()
    for why in ("", "  "):
        with pytest.raises(InvalidInput):
            other.break_lease("work", "me", why=why)
    row = other.break_lease("work", "me", why="it hangs in a decoder")
    assert (row.holder, row.epoch) == (catalog.holder.name, lease.epoch)
    with pytest.raises(LeaseLost), catalog.job(lease):
        pytest.fail("it was taken away")
    with pytest.raises(Conflict, match="Nobody holds"):
        other.break_lease("work", "me", why="again")
    taken = other.acquire("work")
    assert taken.epoch > lease.epoch + 1
    catalog.release(lease)  # late
    other.renew(taken)
    with other.read() as tx:
        (event,) = trail.latest_events(tx, 10)
    assert (event["kind"], event["who"], event["why"]) == ("lease-broken", "me", "it hangs in a decoder")
    assert event["data"] == {"holder": catalog.holder.name, "epoch": lease.epoch}


# Whoever works long


@pytest.fixture
def db(tmp_path: Path) -> SpeakerDB:
    made = SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor())
    yield made  # type: ignore[misc]
    made.close()


def test_a_long_comparison_keeps_the_lease(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        db.add(None, two_voices(), recording_id=f"r{number}", waveform=silence(20))
    db.work()
    monkeypatch.setattr(gates, "KEEP_EVERY", 2)
    kept: list[str] = []
    keep = db.catalog.keep
    real = gates.equality

    def equality(*given: object) -> object:
        kept.clear()
        found = real(*given)  # type: ignore[arg-type]
        assert len(kept) == 3, "once every two of six documents"
        return found

    monkeypatch.setattr(gates, "equality", equality)
    monkeypatch.setattr(db.catalog, "keep", lambda lease: (kept.append(lease.name), keep(lease)))
    db.rebuild_index("v3")


def test_who_slept_before_an_alias_request_sends_none(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is suspended after the intention is written: on waking it asks first whether the lease is still its own."""
    db.add(None, two_voices(), recording_id="r", waveform=silence(20))
    db.work()
    db.start_migration("v4", force=True)
    db.work()
    sent: list[object] = []
    request = db.index.update_aliases
    announce = db.migrator._outcome._announce
    slept = [0.0]

    def fall_asleep(*given: object, **named: object) -> None:
        announce(*given, **named)  # type: ignore[arg-type]
        slept[0] = 3600.0
        db.catalog.break_lease("migration", "another", why="as if it had expired and been taken")
        monkeypatch.setattr(db.index, "update_aliases", lambda actions: (sent.append(actions), request(actions)))

    monkeypatch.setattr(db.catalog, "_own_clock", lambda: own_seconds() + slept[0])
    monkeypatch.setattr(db.migrator._outcome, "_announce", fall_asleep)
    with pytest.raises(LeaseLost):
        db.finalize()
    assert sent == []
    assert db.serving.resolve(fresh=True).generation.name == "v3"
    monkeypatch.undo()
    db.work()  # decides what was announced
    assert [token for token in db.index.aliases() if token.startswith("speakers-swap")] == []
    assert db.finalize().serving == "v4"


def test_waiting_for_a_slow_recording_renews_at_a_third_only(db: SpeakerDB) -> None:
    lease = db.catalog.acquire("work")
    until = expiry(db.catalog)
    for _ in range(3):
        db.catalog.keep(lease)
    assert expiry(db.catalog) == until


def test_a_stale_drop_is_not_sent(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = db.catalog.acquire("migration")
    db.catalog.break_lease("migration", "another", why="it hangs")
    now = own_seconds()
    monkeypatch.setattr(db.catalog, "_own_clock", lambda: now + 30)
    before = dict(db.index.aliases())
    with pytest.raises(LeaseLost):
        db.migrator._outcome.drop(lease, "speakers_v3")
    assert dict(db.index.aliases()) == before
