"""What the triggers keep of work items, and whom the judge calls stale by it, on either kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from speakerdb.catalog import schema, work
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.leases import Lease
from speakerdb.catalog.work import MAX_ATTEMPTS, Item
from speakerdb.errors import ExtractionError, SpeakerDBError, WorkerDied
from speakerdb.service import SpeakerDB
from speakerdb.testing.chaos import audit
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices
from speakerdb.testing.history import History
from speakerdb.testing.history_check import check
from tests.lent_library import EITHER, on_either


@pytest.fixture(params=EITHER)
def db(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SpeakerDB]:
    """Two recordings in the queue, and every commit is kept."""
    with (
        on_either(request, monkeypatch),
        SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor()) as opened,
    ):
        for name in ("r", "s"):
            opened.add(None, two_voices(), recording_id=name, waveform=silence(20.0))
        url = opened.settings.catalog_url
        audit.install(url)
        yield opened
        audit.uninstall(url)


def kept(db: SpeakerDB) -> tuple[list[str], list[str]]:
    """Which commits there were, and what the judge calls stale of them."""
    commits = audit.commits(db.settings.catalog_url)
    wrong = [str(violation) for violation in check(History([], [], commits))]
    assert all("stale-epoch" in each for each in wrong)
    return [f"{one.what} {one.subject}" for one in commits], wrong


def taken(db: SpeakerDB, attempts: int = MAX_ATTEMPTS - 1) -> tuple[Lease, Item]:
    """By somebody who dies then, or is stopped beyond its lease."""
    with db.catalog.holding("work") as lease, db.catalog.change(lease) as tx:
        tx.execute(sa.update(schema.work_items).where(schema.work_items.c.state == "queued").values(attempts=attempts))
        (item,) = work.take(tx, lease, 1)
    return lease, item


def fails(tx: Transaction, lease: Lease, item: Item, error: SpeakerDBError, db: SpeakerDB) -> bool:
    return work.fail(tx, lease, item, error, db.catalog.now())


def test_what_another_one_died_of_is_given_up(db: SpeakerDB) -> None:
    taken(db)
    with db.catalog.holding("work") as lease:
        assert [error.code for error in db.extraction.begin(lease).errors] == ["worker-died"]
        with db.catalog.change(lease) as tx:
            (item,) = work.take(tx, lease, 1)
            assert fails(tx, lease, item, WorkerDied("It died."), db)  # its own worker
    assert kept(db) == (["taken r/v3", "given-up r/v3", "taken s/v3", "given-up s/v3"], [])


@pytest.mark.parametrize("error", [WorkerDied("It died."), ExtractionError("It gave up.")])
def test_whoever_is_stale_gives_up_nothing(db: SpeakerDB, error: SpeakerDBError) -> None:
    """It does not touch its lease."""
    before, item = taken(db)
    with db.catalog.holding("work") as lease, db.catalog.database.write() as tx:
        assert lease.epoch > before.epoch
        assert fails(tx, before, item, error, db)
    _, wrong = kept(db)
    assert len(wrong) == 1
    assert f"r/v3 under epoch {before.epoch}, now {lease.epoch}" in wrong[0]


def test_whoever_is_stale_gives_up_nothing_that_was_left(db: SpeakerDB) -> None:
    """The newest works already: what was left is given up before that."""
    first, _ = taken(db)
    with db.catalog.holding("work") as stale:
        pass
    with db.catalog.holding("work") as lease:
        with db.catalog.change(lease) as tx:
            work.take(tx, lease, 1)
        with db.catalog.database.write() as tx:
            assert [error.recording_id for error in work.reclaim(tx, stale, db.catalog.now())] == ["r"]
    _, wrong = kept(db)
    assert len(wrong) == 1
    assert f"given-up of r/v3 under epoch {first.epoch}, now {lease.epoch}" in wrong[0]


def test_what_is_diarized_is_kept_too(db: SpeakerDB) -> None:
    db.add(None, recording_id="t", waveform=silence(20.0))
    db.work()
    commits, wrong = kept(db)
    assert {"taken t/diarize", "extracted t/diarize", "extracted t/v3"} <= set(commits)
    assert wrong == []
