"""A repair is stopped at any moment, or its time is over: what was found and not mended is found again, and nobody waits long."""

from __future__ import annotations

import errno
from collections.abc import Callable
from itertools import count
from typing import IO

import pytest
import repair_kit as kit
from repair_kit import Damaged, done

from speakerdb.errors import StorageFull
from speakerdb.repairer import comparing, mending, spool
from speakerdb.reports.repairing import RepairProgress


def after(calls: int) -> Callable[[], bool]:
    """Asked to stop at this look, and at every one after it."""
    looks = count(1)
    return lambda: next(looks) > calls


@pytest.mark.parametrize("looks", range(1, 6))
def test_a_walk_that_was_stopped_passes_nothing_over(
    make: Callable[..., Damaged], monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    """A vector changed by hand is found by the walk alone: a cursor beyond it would hide it for a week."""
    monkeypatch.setattr(comparing, "PAGE", 2)
    library = make(4, repair={"walk_share": 1})
    library.damage(kit.other_vector)
    stopped = library.db.repairer.walk(stop=after(looks))
    assert stopped.generations[0].state == "stopped"
    mended = done(stopped).get("rewrite", 0)
    assert mended + done(library.db.repairer.walk()).get("rewrite", 0) == 1
    library.mended()


def test_learning_many_digests_is_stopped_between_two_transactions(
    library: Damaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mending, "LEARN", 1)
    library.sql("UPDATE projections SET indexed_digest = NULL")
    stopping: list[int] = []
    report = library.db.repairer.run(vectors=True, stop=lambda: len(stopping) > 1, on_progress=_until(stopping))
    assert (report.generations[0].state, report.generations[0].plan.learned) == ("stopped", 6)
    with library.db.catalog.read() as tx:
        known = tx.exec_driver_sql("SELECT count(*) FROM projections WHERE indexed_digest IS NOT NULL").scalar_one()
    assert known == 2
    library.db.repairer.run(vectors=True)
    library.mended()


def _until(stopping: list[int]) -> Callable[[RepairProgress], None]:
    return lambda progress: stopping.append(1) if progress.doing == "mending" else None


def test_pooling_and_proving_are_stopped_too(make: Callable[..., Damaged], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each profile is a transaction, and each batch that is read back takes two reads."""
    monkeypatch.setattr(mending, "BATCH", 1)
    library = make(3)
    for speaker in library.db.speakers():
        library.db.assign(speaker.id, library.db.create_profile(f"of {speaker.id}").id)
    library.db.work()
    library.sql("DELETE FROM embeddings WHERE kind = 'profile'")
    library.damage(kit.halved)
    seen: list[str] = []
    report = library.db.repairer.run(
        vectors=True, stop=lambda: "proving" in seen, on_progress=lambda progress: seen.append(progress.doing)
    )
    (repaired,) = report.generations
    assert (repaired.state, seen.count("proving")) == ("stopped", 1)
    assert "asked to stop" in repaired.message
    seen.clear()
    library.sql("DELETE FROM embeddings WHERE kind = 'profile'")
    monkeypatch.setattr(library.db.projector, "repool", lambda *_: pytest.fail("it was to stop before"))
    library.damage(kit.halved)
    library.db.repairer.run(stop=lambda: "projecting" in seen, on_progress=lambda progress: seen.append(progress.doing))


def test_a_run_ends_in_order_before_its_time_is_over(make: Callable[..., Damaged]) -> None:
    """While it mends: it writes down how far it came and gives its lease back, instead of losing it."""
    library = make(3)
    library.damage(lambda _: [])
    clock, late = library.db.catalog._own_clock, [0.0]
    library.db.catalog._own_clock = lambda: clock() + late[0]

    def slow(progress: RepairProgress) -> None:
        late[0] = 0.99 * 2 * 3600.0 if progress.doing == "mending" else late[0]

    report = library.db.repairer.run(on_progress=slow)
    (repaired,) = report.generations
    assert repaired.state == "stopped"
    assert "its time was over" in repaired.message
    assert library.db.repairer.status().holder is None
    assert library.db.repairer.history()[0].state == "stopped"
    late[0] = 0.0
    library.db.work()
    library.mended()


def test_no_room_for_what_it_finds(library: Damaged, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> IO[str]:
        file = real()

        def write(_: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        file.write = write  # type: ignore[method-assign]
        return file

    real = spool._file
    library.damage(kit.halved)
    with monkeypatch.context() as patched:
        patched.setattr(spool, "_file", full)
        with pytest.raises(StorageFull, match="nothing was mended"):
            library.db.repairer.check()
    assert done(library.db.repairer.check()) == {"rewrite": 3}
    library.mended()


def test_a_generation_that_is_not_live_is_left_alone(library: Damaged) -> None:
    """Also one that this library never had, of which no run can be written down."""
    before = library.db.repairer.history()
    (planned,) = library.db.repairer.plan(generation="v4").generations
    (repaired,) = library.db.repairer.run(generation="v4").generations
    assert (
        planned.skipped
        == repaired.message
        == repaired.plan.skipped
        == "it is not live: nothing keeps its index current"
    )
    assert library.db.repairer.history() == before


def test_who_died_while_it_repaired_does_not_repair_now(library: Damaged) -> None:
    library.other.catalog.acquire("repair")
    assert library.db.repairer.status().holder == library.other.catalog.holder.name
    library.world.kill(1)
    assert library.db.repairer.status().holder is None
