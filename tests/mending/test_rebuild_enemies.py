"""A rebuild among others who write, who rebuild too, and who end its migration; and what is left of it when it dies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from speakerdb.catalog import leases, vectors
from speakerdb.errors import BackendError, Conflict, GateFailed, IndexUnavailable, LeaseHeld
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.migrator import gates
from speakerdb.migrator.layout import mark_of
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices
from speakerdb.testing.faults import Fault, FaultQueue, FaultyIndex, SimulatedCrash
from speakerdb.testing.invariants import check
from speakerdb.testing.machine_world import Clock

HOUR = 3_600_000_000


class Library:
    """A library whose clock and index calls are in the test's hands."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.settings: Settings = fake_settings(folder)
        self.clock = Clock()
        with self.open() as db:
            self.fill(db, *names)

    def open(self, index: FaultyIndex | None = None) -> SpeakerDB:
        return SpeakerDB.open(self.settings, index=index, executor=FakeExecutor(), clock=self.clock)

    @staticmethod
    def fill(db: SpeakerDB, *names: str) -> None:
        for name in names:
            db.add(None, two_voices(), recording_id=name, waveform=silence(20))
        db.work()


def places(folder: Path, act: Callable[[SpeakerDB], object]) -> list[str]:
    """The places that a verb goes through."""
    library, seen = Library(folder, "one"), []
    index = FaultyIndex(EmbeddedIndex(library.settings.index_path), FaultQueue())
    with library.open(index) as db:
        index.on_call(lambda call, when: seen.append(f"{when} {call}"))
        act(db)
        index._callbacks.clear()
    return seen


def settled(db: SpeakerDB) -> None:
    """All invariants hold, nothing waits, and the index holds nothing but what SQL says."""
    db.work()
    view = check(db)
    for (name, entity), row in view.projections.items():
        if name in view.live:
            assert row.version == row.indexed_version, f"{entity} waits in {name}"
            assert row.deleted or entity in view.documents[name], f"{entity} was lost from {name}"


def test_a_change_is_not_lost_where_the_clock_was_moved_back(tmp_path: Path) -> None:
    """Versions lie ahead of the clock, so what is new has lower ones than what is there."""

    seen = places(tmp_path / "count", lambda db: db.rebuild_index("v3"))
    first, last = seen.index("before scan"), len(seen) - seen[::-1].index("after update_aliases")
    for at in range(first, last):
        library = Library(tmp_path / str(at))
        library.clock.now += HOUR
        with library.open() as db:
            library.fill(db, "one")
        library.clock.now -= HOUR
        counting: list[int] = []

        def late(
            call: str, when: str, library: Library = library, counting: list[int] = counting, at: int = at
        ) -> None:
            counting.append(at)
            if len(counting) == at:
                with library.open() as db:
                    library.fill(db, "late")

        index = FaultyIndex(EmbeddedIndex(library.settings.index_path), FaultQueue())
        with library.open(index) as db:
            index.on_call(late)
            with suppress(Conflict, GateFailed):  # what is new looks old, and was not there when it was compared
                db.rebuild_index("v3")
            index._callbacks.clear()
        with library.open() as db:
            settled(db)


@pytest.mark.parametrize(
    "after", [("compared", gates, "equality"), ("late", vectors, "changed_since")], ids=lambda each: each[0]
)
def test_a_change_is_not_lost_where_the_clock_is_moved_back_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: tuple[str, Any, str]
) -> None:
    """What is new after the comparison, or after what was late was read, has a time before that of the beginning."""
    library = Library(tmp_path, "one")
    monkeypatch.setattr(leases, "NOISE", 60_000_000)  # or the lease would count as over

    def moved(real: Callable[..., Any]) -> Callable[..., Any]:
        def then(*given: Any) -> Any:
            found = real(*given)
            library.clock.now -= 30_000_000
            with library.open() as other:
                library.fill(other, "late")
            return found

        return then

    _, place, name = after
    monkeypatch.setattr(place, name, moved(getattr(place, name)))
    with library.open() as db:
        db.rebuild_index("v3")
        settled(db)


def test_a_change_that_began_before_and_is_committed_after_the_comparison_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(tmp_path)
    compared, begun = threading.Event(), threading.Event()
    real = gates.equality

    def equality(*given: Any) -> Any:
        found = real(*given)
        compared.set()
        return found

    monkeypatch.setattr(gates, "equality", equality)
    with library.open() as db, library.open() as other:
        library.fill(db, "one")
        speaker = db.speakers()[0].id

        def writes() -> None:
            with other.catalog.job() as tx:
                now = other.catalog.now()
                begun.set()
                compared.wait(2)
                vectors.raise_versions(tx, [speaker], now)

        thread = threading.Thread(target=writes)
        real_mark = gates.watermark

        def watermark(*given: Any) -> int:
            if not thread.is_alive() and not begun.is_set():
                thread.start()
                begun.wait(5)
            library.clock.now += 1000
            return real_mark(*given)

        monkeypatch.setattr(gates, "watermark", watermark)
        db.rebuild_index("v3")
        thread.join()
        settled(db)


def hooked(library: Library, at: int, act: Callable[[], object]) -> tuple[FaultyIndex, list[str]]:
    """An index at whose `at`-th place `act` happens, and the places that were gone through."""
    index, seen = FaultyIndex(EmbeddedIndex(library.settings.index_path), FaultQueue()), []

    def callback(call: str, when: str) -> None:
        seen.append(f"{when} {call}")
        if len(seen) == at:
            act()

    index.on_call(callback)
    return index, seen


@pytest.mark.parametrize(
    ("verb", "generation"), [("finalize", "v4"), ("rollback", "v3"), ("cancel", "v4"), ("retire", "v3")]
)
def test_its_lease_expires_and_another_process_ends_the_migration(tmp_path: Path, verb: str, generation: str) -> None:
    """A rebuild of either end sleeps at one place for longer than its lease; it wakes and harms nothing."""
    for at in (13, 19, 23):
        library = Library(tmp_path / str(at), "one", "two")
        with library.open() as db:
            db.start_migration("v4", force=True)
            db.work()
            if verb in ("rollback", "retire"):
                db.finalize()

        def ends(library: Library = library) -> None:
            library.clock.now += 61_000_000
            with library.open() as other:
                library.fill(other, "late")
                other.remove("two")
                getattr(other, verb)()
                check(other)

        index, seen = hooked(library, at, ends)
        with library.open(index) as db:
            with suppress(Conflict, BackendError):
                db.rebuild_index(generation)
            index._callbacks.clear()
        assert len(seen) >= at
        with library.open() as db:
            settled(db)
            for name in db.serving.live():
                db.rebuild_index(name)
            settled(db)
            assert not db.status().problems
            assert len(db.index.indices()) == len(db.serving.live())


def test_only_one_process_rebuilds(tmp_path: Path) -> None:
    library = Library(tmp_path, "one")
    refused: list[str] = []

    def tries() -> None:
        with library.open() as other:
            with pytest.raises(LeaseHeld) as caught:
                other.rebuild_index("v3")
            refused.append(caught.value.code)
            assert not other.status().problems, "what is being made is no left-over"

    index, _ = hooked(library, 15, tries)
    with library.open(index) as db:
        db.rebuild_index("v3")
        index._callbacks.clear()
        settled(db)
    assert refused == ["lease-held"]


def test_the_source_is_built_again_while_a_migration_runs_and_a_roll_back_serves_it(tmp_path: Path) -> None:
    library = Library(tmp_path, "one", "two")
    with library.open() as db:
        db.start_migration("v4", force=True)
        report = db.rebuild_index("v3")
        library.fill(db, "three")
        assert db.serving.resolve(fresh=True).index == report.index
        db.finalize()
        db.rebuild_index("v3")
        db.remove("one")
        assert db.rollback().serving == "v3"
        settled(db)


def test_what_a_rebuild_that_failed_has_made_is_gone(tmp_path: Path) -> None:
    """And what one that was killed has made is told of: voices that are removed since would stay in it."""
    library = Library(tmp_path, "one")
    faults = FaultQueue()
    faults.next("bulk", Fault.LOSE_ACK)
    with library.open(FaultyIndex(EmbeddedIndex(library.settings.index_path), faults)) as db:
        with pytest.raises(IndexUnavailable):
            db.rebuild_index("v3")
        assert list(db.index.indices()) == ["speakers_v3"]
    faults.next("bulk", Fault.CRASH_AFTER)
    with (
        library.open(FaultyIndex(EmbeddedIndex(library.settings.index_path), faults)) as db,
        pytest.raises(SimulatedCrash),
    ):
        db.rebuild_index("v3")
    library.clock.now += 61_000_000
    with library.open() as db:
        assert len(db.index.indices()) == 2
        db.start_migration("v4", force=True)  # takes the lease, and with it the token
        (problem,) = [each for each in db.status().problems if each.code == "index-left-over"]
        assert problem.command == "speakerdb index rebuild v3"
        db.rebuild_index("v3")
        assert len(db.index.indices()) == 2, "one for each live generation"


def test_an_index_of_another_name_is_nobodys_left_over(tmp_path: Path) -> None:
    """Where the prefix of one installation begins another's, it sees that one's indices, which bear the same mark."""
    with Library(tmp_path, "one").open() as db:
        made = db.generations["v3"]
        for name in ("b-speakers_v3", "b-speakers_v3.r2", "speakers_v3x", "speakers_v3.r77"):
            db.index.create(name, made.dimension, mark_of(made))
        assert db.serving.left_over() == {"speakers_v3.r77": "v3"}
