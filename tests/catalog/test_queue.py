"""The queue: order, attempts, take-over, retry and waivers."""

import pytest

from speakerdb.catalog import activity, journal, people, work
from speakerdb.catalog import library as rows
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.leases import Lease
from speakerdb.catalog.work import Item
from speakerdb.errors import MediaMissing, WorkerDied
from tests.catalog.conftest import Clock, add


@pytest.fixture
def lease(catalog: Catalog) -> Lease:
    return catalog.acquire("work")


def take(catalog: Catalog, lease: Lease, limit: int = 10, **more: object) -> list[Item]:
    with catalog.job(lease) as tx:
        return work.take(tx, lease, limit, **more)  # type: ignore[arg-type]


def names(items: list[Item]) -> list[str]:
    return [item.recording_id for item in items]


def test_new_before_changed_before_migration_and_named_first(catalog: Catalog, lease: Lease) -> None:
    people_ids = {name: add(catalog, name) for name in ("a", "b", "c")}
    with catalog.job() as tx:
        now = catalog.now()
        home = journal.live_generations(tx)
        assert home == ("v3",)
        library = tx.exec_driver_sql("SELECT id FROM libraries").scalar_one()
        profile = people.insert(tx, library, "Ann", now)
        rows.set_speaker(tx, people_ids["c"]["SPEAKER_00"], profile_id=profile)
        work.enqueue_library(tx, "v4", now)
        work.enqueue(tx, "b", ["v3"], "changed", now)
    taken = [(item.recording_id, item.generation) for item in take(catalog, lease)]
    assert taken == [("a", "v3"), ("c", "v3"), ("b", "v3"), ("c", "v4"), ("a", "v4"), ("b", "v4")]


def test_of_the_recordings_that_were_tried_before_one_is_taken_at_a_time(catalog: Catalog, lease: Lease) -> None:
    for name in ("a", "b", "c"):
        add(catalog, name)
    assert names(take(catalog, lease)) == ["a", "b", "c"]
    successor = _succeed(catalog, lease)
    assert names(take(catalog, successor)) == ["a"]
    assert names(take(catalog, successor, tried=False)) == []
    add(catalog, "d")
    assert names(take(catalog, successor, tried=False)) == ["d"]
    assert names(take(catalog, successor)) == ["b"]


def test_a_recording_that_kills_its_worker_fails_after_three_attempts(catalog: Catalog, lease: Lease) -> None:
    add(catalog, "deadly")
    add(catalog, "innocent")
    assert names(take(catalog, lease, 1)) == ["deadly"]
    lease = _succeed(catalog, lease)
    (innocent,) = take(catalog, lease, 1)
    assert innocent.recording_id == "innocent"
    with catalog.job(lease) as tx:
        assert work.finish(tx, lease, {innocent.id: 1}, catalog.now())
    for _ in range(work.MAX_ATTEMPTS - 1):
        assert names(take(catalog, lease)) == ["deadly"]
        lease = _succeed(catalog, lease)
    with catalog.read() as tx:
        (failure,) = activity.failures(tx)
    assert (failure.recording_id, failure.code, failure.attempts) == ("deadly", "worker-died", 3)
    assert take(catalog, lease) == []


def test_what_was_tried_before_waits_behind_its_priority_and_no_further(catalog: Catalog, lease: Lease) -> None:
    for name in ("hangs", "next", "last"):
        add(catalog, name)
    (item,) = take(catalog, lease, 1)
    with catalog.job(lease) as tx:
        assert not work.fail(tx, lease, item, WorkerDied("it hung"), catalog.now())
        work.enqueue(tx, "last", ["v3"], "changed", catalog.now())
    assert names(take(catalog, lease, 1)) == ["next"]
    assert names(take(catalog, lease)) == ["hangs", "last"]


def test_transient_errors_are_tried_again_and_others_are_not(catalog: Catalog, lease: Lease) -> None:
    add(catalog, "a")
    (item,) = take(catalog, lease)
    with catalog.job(lease) as tx:
        assert not work.fail(tx, lease, item, WorkerDied("died"), catalog.now())
    (item,) = take(catalog, lease)
    assert item.attempts == 2
    with catalog.job(lease) as tx:
        assert work.fail(tx, lease, item, MediaMissing("gone"), catalog.now())
    assert take(catalog, lease) == []
    with catalog.job() as tx:
        assert work.retry(tx, catalog.now(), work.Chosen(code="media-unreadable")) == 0
        assert work.retry(tx, catalog.now(), work.Chosen(code="media-missing")) == 1
    assert [item.attempts for item in take(catalog, lease)] == [1]


def test_giving_back_costs_no_attempt(catalog: Catalog, lease: Lease) -> None:
    add(catalog, "a")
    for _ in range(5):
        items = take(catalog, lease)
        assert [item.attempts for item in items] == [1]
        with catalog.job(lease) as tx:
            work.give_back(tx, lease, items, catalog.now())


def test_a_change_takes_the_item_away_from_its_worker(catalog: Catalog, lease: Lease) -> None:
    add(catalog, "a")
    (item,) = take(catalog, lease)
    with catalog.job() as tx:
        work.enqueue(tx, "a", ["v3"], "changed", catalog.now())
    with catalog.job(lease) as tx:
        assert not work.finish(tx, lease, {item.id: 1}, catalog.now())
        assert not work.fail(tx, lease, item, MediaMissing("gone"), catalog.now())
    assert names(take(catalog, lease)) == ["a"]


def test_waiving_needs_a_failure_and_is_ended_by_a_change(catalog: Catalog, lease: Lease) -> None:
    add(catalog, "a")
    with catalog.job() as tx:
        assert work.waive(tx, "lost for good", catalog.now(), work.Chosen(generation="v3")) == []
    (item,) = take(catalog, lease)
    with catalog.job(lease) as tx:
        work.fail(tx, lease, item, MediaMissing("gone"), catalog.now())
        assert work.waive(tx, "lost for good", catalog.now(), work.Chosen(generation="v3", code="media-missing")) == [
            ("a", "media-missing")
        ]
        assert work.progress(tx, "v3").recordings_waived == 1
        work.enqueue(tx, "a", ["v3"], "changed", catalog.now())
        assert work.progress(tx, "v3").recordings_queued == 1


def test_paused_migrations_and_missing_models_wait(catalog: Catalog, lease: Lease) -> None:
    add(catalog, "a")
    with catalog.job() as tx:
        work.enqueue_library(tx, "v4", catalog.now())
    assert [i.generation for i in take(catalog, lease, paused=["v4"])] == ["v3"]
    assert take(catalog, lease, without=["v4"]) == []
    assert [i.generation for i in take(catalog, lease)] == ["v4"]


def test_what_is_done_is_not_queued_again_by_another_migration(catalog: Catalog, lease: Lease) -> None:
    add(catalog, "a")
    with catalog.job(lease) as tx:
        work.enqueue_library(tx, "v4", catalog.now())
    done = [item for item in take(catalog, lease) if item.generation == "v4"]
    with catalog.job(lease) as tx:
        assert work.finish(tx, lease, {done[0].id: 1}, catalog.now())
        assert work.enqueue_library(tx, "v4", catalog.now()) == 0
        tx.exec_driver_sql("UPDATE recordings SET content_version = 2")
        assert work.enqueue_library(tx, "v4", catalog.now()) == 1


def _succeed(catalog: Catalog, lease: Lease) -> Lease:
    """The holder dies; the next one takes over and reclaims."""
    catalog.release(lease)
    successor = catalog.acquire(lease.name)
    with catalog.job(successor) as tx:
        work.reclaim(tx, successor, catalog.now())
    return successor


def test_a_migration_takes_recordings_in_the_order_they_came(catalog: Catalog, clock: Clock, lease: Lease) -> None:
    names_in_order = [f"r{number}" for number in (3, 1, 4, 2, 5)]
    for name in names_in_order:
        add(catalog, name)
        clock.pass_seconds(1)
    with catalog.job() as tx:
        tx.exec_driver_sql(
            "UPDATE recordings SET content_version = 2 WHERE id = 'r3'"
        )  # what it does to the table's order
        work.enqueue_library(tx, "v4", catalog.now())
    assert names(take(catalog, lease, without=["v3"])) == names_in_order
