"""Every class of damage to an index: found, mended, and gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import repair_kit as kit
from repair_kit import DAY, Damaged, done

from speakerdb.errors import DeletionBrake
from speakerdb.testing.backends import Backend
from speakerdb.types import Document

DAMAGES: dict[str, tuple[Callable[[list[Document]], list[Document]], dict[str, int], bool]] = {
    "one is gone": (lambda documents: documents[1:], {"missing": 1}, True),
    "half is gone": (kit.halved, {"missing": 3}, True),
    "all is gone": (lambda _: [], {"missing": 6}, True),
    "an older version": (kit.aged, {"stale": 1}, True),
    "another content hash": (kit.other_hash, {"stale": 1}, True),
    "a tombstone of what lives": (kit.dead, {"stale": 1}, False),
    "ahead by hand": (kit.ahead, {"ahead": 1}, True),
    "nobody knows it": (kit.strangers(2), {"orphaned": 2}, True),
    "another library": (kit.other_library, {"filters": 1}, False),
    "another vector under a correct digest": (kit.other_vector, {"vector": 1}, False),
    "a vector of another length": (kit.long_vector, {"malformed": 1}, False),
}
"""The damage, what is found, and whether the sums of the buckets show it."""


@pytest.mark.parametrize("damage", DAMAGES)
def test_it_is_found_mended_and_gone(make: Callable[..., Damaged], backend: Backend, damage: str) -> None:
    library = make(3, backend=backend)
    how, found, cheap = DAMAGES[damage]
    library.damage(how)
    quick = library.plan(vectors=False)
    assert dict(quick.found) == (found if cheap else {})
    assert (quick.buckets == 0) is not cheap
    plan = library.plan()
    assert dict(plan.found) == found
    assert {view.difference for view in plan.sample} == set(found)
    report = library.db.repairer.check() if cheap else library.db.repairer.run(vectors=True)
    assert sum(done(report).values()) == sum(found.values())
    library.mended()


def test_what_was_deleted_does_not_come_back_with_an_old_snapshot(
    make: Callable[..., Damaged], backend: Backend
) -> None:
    """A snapshot holds what was deleted since, alive; and what was added since is missing."""
    library = make(4, backend=backend)
    snapshot = library.documents()
    library.db.remove("recording-0")
    library.db.remove("recording-1")
    library.add("later")
    library.db.work()
    library.lay(snapshot)
    plan = library.plan(vectors=False)
    assert dict(plan.found) == {"missing": 2, "stale": 4}
    assert plan.deletions == 0, "a person deleted them, and the row says so"
    library.db.repairer.check()
    library.mended()
    assert [d.deleted for d in library.documents()].count(True) == 4


def test_a_delete_an_engine_crash_and_a_stale_write(make: Callable[..., Damaged], backend: Backend) -> None:
    """The engine forgets the tombstone, and a writer that was stopped all the while brings the document back."""
    library = make(2, backend=backend)
    stale = [d for d in library.documents() if d.recording_id == "recording-0"]
    library.db.remove("recording-0")
    library.db.work()
    library.damage(lambda documents: [d for d in documents if not d.deleted] + stale)
    library.db.repairer.check()
    library.mended()
    assert all(d.deleted for d in library.index.fetch(library.concrete(), [s.id for s in stale]).values())


def test_a_stale_write_after_the_tombstone_was_purged(library: Damaged) -> None:
    """A week later nothing remembers the id any more: it is an orphan, and is buried."""
    stale = [d for d in library.documents() if d.recording_id == "recording-0"]
    library.db.remove("recording-0")
    library.db.work()
    library.add("newer")
    library.db.work()
    library.world.jump(8 * DAY)
    assert done(library.db.repairer.run(vectors=True)) == {"purge": 2}
    assert not library.index.fetch(library.concrete(), [d.id for d in stale])
    library.damage(lambda documents: [*documents, *stale])
    assert done(library.db.repairer.check()) == {"bury": 2}
    library.mended()


def test_a_tombstone_that_sql_does_not_know_is_kept_for_a_week(make: Callable[..., Damaged], backend: Backend) -> None:
    library = make(2, backend=backend)
    library.damage(lambda documents: [*kit.buried("gone")(documents), replace(documents[0], id="odd", vector=None)])
    assert done(library.db.repairer.check()) == {"adopt": 2}
    library.mended()
    library.add("newer")
    library.world.jump(8 * DAY)
    library.add("newest")
    library.db.work()
    assert done(library.db.repairer.run(vectors=True)) == {"purge": 2}
    assert not {"gone", "odd"} & {d.id for d in library.documents()}
    library.mended()


def test_the_newest_row_of_all_is_never_purged(library: Damaged) -> None:
    """The index remembers the highest version it ever held; by that it is known whether a database is an older copy."""
    library.db.remove("recording-0")
    library.db.remove("recording-1")
    library.db.work()
    library.world.jump(30 * DAY)
    assert done(library.db.repairer.run(vectors=True)) == {"purge": 2}, "those of the recording that went first"
    plan = library.plan()
    assert plan.empty
    assert not plan.refused
    assert "index-ahead" not in {problem.code for problem in library.db.status().problems}
    library.world.kill(0)
    assert "index-ahead" not in {problem.code for problem in library.db.status().problems}


def test_ten_thousand_documents_that_nobody_knows(make: Callable[..., Damaged], backend: Backend) -> None:
    library = make(1, backend=backend)
    library.unwatched()
    library.damage(kit.strangers(10_000))
    before = library.documents()
    with pytest.raises(DeletionBrake) as caught:
        library.db.repairer.check()
    (repair,) = caught.value.details["report"].generations
    assert (repair.state, repair.plan.deletions, repair.plan.allowed) == ("refused", 10_000, 10)
    assert len(repair.plan.sample) == 10
    assert len(library.documents()) == len(before)
    assert "deletion-brake" in {problem.code for problem in library.db.status().problems}
    report = library.db.repairer.run(force=["deletions"], why="a load test wrote here")
    assert done(report) == {"bury": 10_000}
    assert "deletion-brake" not in {problem.code for problem in library.db.status().problems}
    library.mended()


def test_documents_of_a_row_that_nothing_stands_behind_count_as_deletions(make: Callable[..., Damaged]) -> None:
    """Rows of speakers that vanished from SQL in bulk: the database is what is damaged."""
    library = make(8)
    library.sql("DELETE FROM turns")
    library.sql("DELETE FROM embeddings")
    library.sql("DELETE FROM speakers")
    plan = library.plan()
    assert dict(plan.found) == {"unfounded": 16}
    assert [refusal.code for refusal in plan.refused] == ["deletion-brake"]
    report = library.db.repairer.run(vectors=True, force=["deletions"], why="they are to go")
    assert done(report) == {"bury": 16}
    assert all(d.deleted for d in library.documents())
