"""An index is built again from SQL beside the one that is there, and takes its place when it equals SQL; wherever the
rebuild dies, nothing that SQL calls indexed is missing in the index that the write alias names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from speakerdb.errors import AliasMoved, Conflict, GateFailed, IndexMissing, IndexUnavailable
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.reports.rebuilding import RebuildProgress
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices
from speakerdb.testing.faults import Fault, FaultQueue, FaultyIndex
from speakerdb.testing.invariants import check
from speakerdb.testing.machine_world import Clock
from speakerdb.types import SERVING_ALIAS


class Library:
    """Three recordings that are indexed; its index calls can be watched and made to fail."""

    def __init__(self, folder: Path) -> None:
        self.settings: Settings = fake_settings(folder)
        self.clock = Clock()
        self.faults = FaultQueue()
        with self.open() as db:
            for name in ("one", "two", "three"):
                self.add(db, name)
            db.work()
            person = db.create_profile("Ada")
            db.assign(db.speakers()[0].id, person.id)
            db.work()

    def open(self, index: FaultyIndex | None = None) -> SpeakerDB:
        return SpeakerDB.open(self.settings, index=index, executor=FakeExecutor(), clock=self.clock)

    def faulty(self) -> FaultyIndex:
        return FaultyIndex(EmbeddedIndex(self.settings.index_path), self.faults)

    @staticmethod
    def add(db: SpeakerDB, name: str) -> None:
        db.add(None, two_voices(), recording_id=name, waveform=silence(20))


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


@pytest.fixture
def db(library: Library) -> Iterator[SpeakerDB]:
    with library.open() as opened:
        yield opened


def test_the_new_index_takes_the_place_of_the_old_one(db: SpeakerDB) -> None:
    before = db.match(speaker=db.speakers()[0].id)
    seen: list[RebuildProgress] = []
    report = db.rebuild_index("v3", on_progress=seen.append)
    assert (report.documents, report.replaced, report.alias_moved) == (7, "speakers_v3", True)
    assert list(db.index.indices()) == [report.index] != ["speakers_v3"]
    assert db.index.aliases() == {SERVING_ALIAS: (report.index,), "speakers_v3_write": (report.index,)}
    after = db.match(speaker=db.speakers()[0].id)
    assert after == replace(before, index=report.index)
    assert [(each.doing, each.documents, each.total) for each in seen] == [
        ("writing", 0, 7), ("writing", 7, 7), ("comparing", 7, 7),
    ]  # fmt: skip
    check(db)
    again = db.rebuild_index("v3")
    assert again.replaced == report.index
    check(db)


def test_what_the_old_index_held_wrongly_is_gone(db: SpeakerDB) -> None:
    generation = db.generations["v3"]
    (document,) = db.index.fetch("speakers_v3", [db.speakers()[0].id]).values()
    db.index.bulk(generation.write_alias, [replace(document, id="spk_orphan", version=5)])
    report = db.rebuild_index("v3")
    assert not db.index.fetch(report.index, ["spk_orphan"])
    check(db)


def test_an_index_that_does_not_equal_sql_never_serves(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch) -> None:
    real = db.index.bulk

    def forgetful(alias: str, documents):  # type: ignore[no-untyped-def]
        results = real(alias, documents[1:])
        return [replace(results[0], id=documents[0].id), *results]

    with monkeypatch.context() as patched:
        patched.setattr(db.index, "bulk", forgetful)
        with pytest.raises(GateFailed, match="The old one stays"):
            db.rebuild_index("v3")
    assert db.index.aliases() == {SERVING_ALIAS: ("speakers_v3",), "speakers_v3_write": ("speakers_v3",)}
    assert list(db.index.indices()) == ["speakers_v3"]
    check(db)


def test_a_generation_that_is_not_live_has_no_index_to_build(db: SpeakerDB) -> None:
    with pytest.raises(IndexMissing, match="not live"):
        db.rebuild_index("v4")


def test_a_migration_goes_on_with_rebuilt_indices(db: SpeakerDB) -> None:
    db.rebuild_index("v3")
    db.start_migration("v4", force=True)
    db.work()
    db.rebuild_index("v4")
    db.rebuild_index("v3")
    assert db.finalize().serving == "v4"
    check(db)
    db.rebuild_index("v4")
    assert db.rollback().serving == "v3"
    check(db)
    db.start_migration("v4", force=True)
    db.work()
    db.rebuild_index("v4")
    db.finalize()
    db.retire()
    assert len(db.index.indices()) == 1, "the source's index went, whatever its name"
    check(db)


def points_of(library: Library) -> int:
    """How many places there are before and after calls of the index in one rebuild."""
    seen: list[str] = []
    index = library.faulty()
    with library.open(index) as db:
        index.on_call(lambda call, when: seen.append(f"{when} {call}"))
        db.rebuild_index("v3")
    return len(seen)


def test_it_dies_anywhere_and_the_next_one_finishes(tmp_path: Path) -> None:
    """At each point the process dies, another one changes the library and projects; then it is built again."""
    count = points_of(Library(tmp_path / "count"))
    assert count > 20
    for point in range(1, count + 1):
        library = Library(tmp_path / str(point))
        index = library.faulty()
        seen: list[str] = []

        def dies(call: str, when: str, seen: list[str] = seen, point: int = point) -> None:
            seen.append(f"{when} {call}")
            if len(seen) >= point:
                raise KeyboardInterrupt

        with library.open(index) as db:
            index.on_call(dies)
            with pytest.raises(KeyboardInterrupt):
                db.rebuild_index("v3")
            seen.clear()
            index._callbacks.clear()
        library.clock.now += 61_000_000
        with library.open() as db:
            library.add(db, "late")
            db.remove("two")
            db.work()
            check(db)
            db.rebuild_index("v3")
            check(db)
            assert len(db.index.indices()) == 1, f"a stray index is left after {point}"


def test_a_change_that_is_projected_anywhere_in_between_is_not_lost(tmp_path: Path) -> None:
    """Another process changes the library and projects at each point of a rebuild that goes on."""
    count = points_of(Library(tmp_path / "count"))
    for point in range(1, count + 1):
        library = Library(tmp_path / str(point))
        index = library.faulty()
        seen: list[str] = []

        def other(call: str, when: str, seen: list[str] = seen, point: int = point, library: Library = library) -> None:
            seen.append(f"{when} {call}")
            if len(seen) == point:
                with library.open() as db:
                    library.add(db, "late")
                    db.remove("two")
                    db.rename_profile(db.profiles()[0].id, "Grace")
                    db.work()

        with library.open(index) as db:
            index.on_call(other)
            db.rebuild_index("v3")
            db.work()
            view = check(db)
            live = {key for key, each in view.documents["v3"].items() if not each.deleted}
            assert {"late"} == {view.speakers[key].recording_id for key in live if key in view.speakers} - {
                "one",
                "three",
            }
            assert all(row.version == row.indexed_version for row in view.projections.values()), point


def test_it_is_stopped_anywhere_and_wakes_after_another_rebuild(tmp_path: Path) -> None:
    count = points_of(Library(tmp_path / "count"))
    for point in range(1, count + 1):
        library = Library(tmp_path / str(point))
        index = library.faulty()
        seen: list[str] = []

        def other(call: str, when: str, seen: list[str] = seen, point: int = point, library: Library = library) -> None:
            seen.append(f"{when} {call}")
            if len(seen) == point:
                library.clock.now += 61_000_000
                with library.open() as db:
                    library.add(db, "late")
                    db.work()
                    db.rebuild_index("v3")

        with library.open(index) as db:
            index.on_call(other)
            with suppress(Conflict, IndexMissing):
                db.rebuild_index("v3")
        with library.open() as db:
            db.work()
            check(db)
            db.rebuild_index("v3")
            check(db)
            assert len(db.index.indices()) == 1


@pytest.mark.parametrize("fault", [Fault.LOSE_ACK, Fault.LOSE_REQUEST, Fault.HOLD])
@pytest.mark.parametrize("nth", [0, 1])
def test_an_alias_change_whose_answer_does_not_come(library: Library, fault: Fault, nth: int) -> None:
    library.faults.next("update_aliases", *[Fault.PASS] * nth, fault)
    index = library.faulty()
    with library.open(index) as db:
        with suppress(IndexUnavailable, AliasMoved):
            db.rebuild_index("v3")
        while index.held:
            index.deliver_late()
        assert not library.faults.waiting
    with library.open() as db:
        db.work()
        check(db)
        db.rebuild_index("v3")
        check(db)
        assert len(db.index.indices()) == 1


def test_a_lost_index_is_built_and_gets_its_aliases_back(library: Library, tmp_path: Path) -> None:
    for file in tmp_path.glob("index.db*"):
        file.unlink()
    with library.open() as db:
        report = db.rebuild_index("v3")
        assert (report.index, report.replaced, report.alias_moved) == ("speakers_v3", None, True)
        check(db)


def test_an_index_file_of_the_first_version_is_brought_up_to_date(library: Library) -> None:
    path = library.settings.index_path
    with closing(EmbeddedIndex(path)) as index:
        newest, digests = index.indices()["speakers_v3"].newest, index.digests("speakers_v3")
        with index._writing() as connection:
            (table,) = connection.execute("SELECT 'documents_' || id FROM indices").fetchone()
            connection.execute(f"DROP INDEX {table}_digest")
            for each, column in ((table, "bucket"), (table, "digest"), ("indices", "purged"), ("indices", "newest")):
                connection.execute(f"ALTER TABLE {each} DROP COLUMN {column}")
            connection.execute("PRAGMA user_version = 1")
    with closing(EmbeddedIndex(path)) as index:
        assert index.indices()["speakers_v3"].newest == newest > 0
        assert index.digests("speakers_v3") == digests != {}
