"""A rebuild among others who write, who rebuild too, and who end its migration; and what is left of it when it dies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from speakerdb.errors import Conflict, GateFailed
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.migrator import gates
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices
from speakerdb.testing.faults import FaultQueue, FaultyIndex
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

    def watched(self, at: int, act: Callable[[], None]) -> FaultyIndex:
        """An index that lets `act` happen at the `at`-th place before or after one of its calls."""
        index = FaultyIndex(EmbeddedIndex(self.settings.index_path), FaultQueue())
        seen: list[str] = []

        def callback(call: str, when: str) -> None:
            seen.append(f"{when} {call}")
            if len(seen) == at:
                act()

        index.seen = seen  # type: ignore[attr-defined]
        index.on_call(callback)
        return index


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

    def late(library: Library) -> None:
        with library.open() as db:
            library.fill(db, "late")

    for at in range(1, 60):
        library = Library(tmp_path / str(at))
        library.clock.now += HOUR
        with library.open() as db:
            library.fill(db, "one")
        library.clock.now -= HOUR
        index = library.watched(0, lambda: None)
        seen: list[str] = []

        def other(call: str, when: str, library: Library = library, seen: list[str] = seen, at: int = at) -> None:
            seen.append(f"{when} {call}")
            if len(seen) == at:
                late(library)

        with library.open(index) as db:
            index.on_call(other)
            with suppress(Conflict, GateFailed):  # what is new looks old, and was not there when it was compared
                db.rebuild_index("v3")
            index._callbacks.clear()
        with library.open() as db:
            settled(db)
            db.rebuild_index("v3")
            settled(db)
        if len(seen) < at:
            return
    raise AssertionError("a rebuild makes fewer calls than that")


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
            from speakerdb.catalog import vectors

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
