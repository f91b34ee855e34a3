"""Backups are made while the library is in use and put back in one step; a restored library says that its index is ahead."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from speakerdb.backup import back_up, described, restore_library
from speakerdb.catalog import copies, upgrade
from speakerdb.catalog.database import Database
from speakerdb.errors import (
    AliasMoved,
    BackupUnusable,
    DatabaseUnavailable,
    InvalidInput,
    LeaseLost,
    LibraryInUse,
    StorageFull,
)
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices
from speakerdb.testing.invariants import check


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return fake_settings(tmp_path / "data", who="ada")


def opened(settings: Settings) -> SpeakerDB:
    return SpeakerDB.open(settings, executor=FakeExecutor())


def fill(db: SpeakerDB, *names: str) -> None:
    for name in names:
        db.add(None, two_voices(), recording_id=name, waveform=silence(20))
    db.work()


def ids(db: SpeakerDB) -> list[str]:
    return [row.id for row in db.recordings()]


@pytest.fixture
def saved(settings: Settings, tmp_path: Path) -> Path:
    """A backup of two recordings; the library has gone on since: one more came in, one was removed."""
    file = tmp_path / "backup.db"
    with opened(settings) as db:
        fill(db, "one", "two")
        report = back_up(db.catalog, file, who=db.who, why="before the upgrade")
        assert (report.recordings, report.speakers, report.live, report.revision) == (2, 4, ("v3",), upgrade.HEAD)
        (event, *_) = db.overview.events(limit=1)
        assert (event["kind"], event["who"], event["why"]) == ("backup-made", "ada", "before the upgrade")
        fill(db, "three")
        db.remove("one")
        db.work()
    return file


def test_a_restored_library_says_so_until_its_index_is_built_again(settings: Settings, saved: Path) -> None:
    report = restore_library(settings, saved, why="the new import was wrong")
    assert (report.recordings, report.live) == (2, ("v3",))
    with opened(settings) as db:
        assert ids(db) == ["one", "two"]
        assert db.serving.to_rebuild() == ["v3"]
        assert any("index rebuild" in problem.command for problem in db.status().problems)
        db.rebuild_index("v3")
        assert db.serving.to_rebuild() == []
        check(db)
        view = check(db)
        assert {view.speakers[key].recording_id for key in view.documents["v3"]} == {"one", "two"}
        assert len(db.match(speaker=db.speakers()[0].id).matches) == 2
    kept = Path(report.kept or "")
    assert described(kept).recordings == 2, "what was there is kept: two and three"


def test_whoever_follows_the_events_by_number_hears_of_a_restoration(settings: Settings, saved: Path) -> None:
    """The backup's own numbers end below what was heard last; none is given twice."""
    with opened(settings) as db:
        for number in range(5):
            db.create_profile(f"later {number}")
        seen = {event["id"]: event["kind"] for event in db.overview.events_after(0, 1000)}
    restore_library(settings, saved)
    with opened(settings) as db:
        db.create_profile("new")
        told = [event["kind"] for event in db.overview.events_after(max(seen), 1000)]
        again = {event["id"]: event["kind"] for event in db.overview.events_after(0, 1000)}
    assert "library-restored" in told
    assert "profile-created" in told
    assert all(again[number] == kind for number, kind in seen.items() if number in again)


def test_no_version_goes_back(settings: Settings, saved: Path) -> None:
    with opened(settings) as db:
        newest = db.index.indices()["speakers_v3"].newest
    restore_library(settings, saved)
    with opened(settings) as db:
        report = db.rebuild_index("v3")
        assert all(document.version > newest for document in db.index.scan(report.index))


def test_a_file_that_was_put_back_by_hand_is_noticed_before_anything_is_written(
    settings: Settings, saved: Path
) -> None:
    for file in settings.data_dir.glob("catalog.db*"):
        file.unlink()
    shutil.copy(saved, settings.data_dir / "catalog.db")
    with opened(settings) as db:
        assert db.serving.to_rebuild() == ["v3"]
        fill(db, "four")
    with opened(settings) as db:
        assert db.serving.to_rebuild() == ["v3"], "what was written since does not hide it"
        db.rebuild_index("v3")
        assert db.serving.to_rebuild() == []
        check(db)


def test_a_migration_after_a_restoration_is_not_taken_for_restored(settings: Settings, saved: Path) -> None:
    """Its target's index was made after the restoration: it knows nothing that the database does not."""
    restore_library(settings, saved)
    with opened(settings) as db:
        db.rebuild_index("v3")
        db.migrator.start("v4", force=True)
        assert db.serving.to_rebuild() == []
        db.work()
        db.migrator.finalize()
        db.migrator.retire()
        assert db.serving.to_rebuild() == []
        assert db.status().problems == ()
        check(db)
        back_up(db.catalog, again := saved.with_name("again.db"), who=db.who)
    restore_library(settings, again)
    with opened(settings) as db:
        assert db.serving.to_rebuild() == ["v4"], "this one is"


def test_a_library_that_is_only_read_on_is_not_taken_for_a_restored_one(settings: Settings, saved: Path) -> None:
    for _ in range(2):
        with opened(settings) as db:
            assert db.serving.to_rebuild() == []


def test_a_restored_library_of_before_the_swap_gets_its_alias_back(settings: Settings, tmp_path: Path) -> None:
    """The alias names v4, and the database has never heard of a migration."""
    with opened(settings) as db:
        fill(db, "one", "two")
        back_up(db.catalog, tmp_path / "b.db", who="ada")
        db.start_migration("v4", force=True)
        db.work()
        db.finalize()
    restore_library(settings, tmp_path / "b.db")
    with opened(settings) as db:
        disagreement = db.serving.disagreement()
        assert disagreement is not None
        assert (disagreement.stated, disagreement.named) == ("v3", ("speakers_v4",))
        with pytest.raises(AliasMoved, match="keeps no index of v4 current"):
            db.match(speaker=db.speakers()[0].id)
        report = db.rebuild_index("v3")
        assert not report.alias_moved, "only a person moves the alias from one generation to another"
        report = db.rebuild_index("v3", serve=True)
        assert report.alias_moved
        assert db.serving.disagreement() is None
        check(db)
        assert db.match(speaker=db.speakers()[0].id).generation == "v3"
        db.start_migration("v4", force=True)  # drops what the unknown migration had left
        db.work()
        assert db.finalize().serving == "v4"
        check(db)


def test_a_library_moves_to_another_machine(settings: Settings, saved: Path, tmp_path: Path) -> None:
    there = fake_settings(tmp_path / "there")
    report = restore_library(there, saved)
    assert report.kept is None
    with opened(there) as db:
        db.rebuild_index("v3")
        check(db)
        assert ids(db) == ["one", "two"]


def test_a_lease_of_before_the_restoration_is_worth_nothing(settings: Settings, saved: Path) -> None:
    with opened(settings) as db:
        lease = db.catalog.acquire("work")
        restore_library(settings, saved)
        with pytest.raises(LeaseLost):
            db.catalog.renew(lease)
        assert db.catalog.acquire("work").epoch > lease.epoch


def test_a_restoration_that_dies_leaves_the_old_database(
    settings: Settings, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for step in ("prepare", "put_back"):
        with monkeypatch.context() as patched:
            patched.setattr(copies, step, dies)
            with pytest.raises(KeyboardInterrupt):
                restore_library(settings, saved)
        with opened(settings) as db:
            assert ids(db) == ["two", "three"]
            check(db)
    assert not list(settings.data_dir.glob("*.restoring*"))


@pytest.mark.parametrize("which", ["restoring", "before"])
def test_a_copy_that_cannot_be_written_is_no_damaged_database(
    settings: Settings, saved: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """A quota that is used up is no full disk to SQLite: the library must stay where it is."""
    real = copies.copy_out

    def refused(database: Database, target: Path) -> None:
        if which in target.name:
            raise DatabaseUnavailable("disk I/O error")
        real(database, target)

    monkeypatch.setattr(copies, "copy_out", refused)
    with pytest.raises(DatabaseUnavailable):
        restore_library(settings, saved)
    with opened(settings) as db:
        assert ids(db) == ["two", "three"]
        check(db)
    assert not [file for file in settings.data_dir.iterdir() if "damaged" in file.name or "restoring" in file.name]


def test_a_damaged_database_is_moved_aside(settings: Settings, saved: Path) -> None:
    path = settings.data_dir / "catalog.db"
    path.write_bytes(b"no database at all" * 1000)
    report = restore_library(settings, saved)
    assert report.kept is not None
    assert Path(report.kept).read_bytes().startswith(b"no database")
    with opened(settings) as db:
        assert ids(db) == ["one", "two"]


@pytest.mark.parametrize("number", [lambda: 12345, os.getpid], ids=["another", "the-same-in-another-container"])
def test_nobody_else_may_have_the_library_open(settings: Settings, saved: Path, number: Callable[[], int]) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom speakerdb.catalog.holders import Holder\n"
        "import os; os.getpid = lambda: int(sys.argv[2])\n"
        "holder = Holder(Path(sys.argv[1]))\nprint('ready', flush=True)\ntime.sleep(60)\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(settings.data_dir / "locks"), str(number())],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(LibraryInUse):
            restore_library(settings, saved)
    finally:
        other.kill()
        other.communicate()
    with opened(settings) as db:
        assert ids(db) == ["two", "three"]
    restore_library(settings, saved)  # a process that was killed is in nobody's way


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("no backup")


def _other(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (a)")
    connection.commit()
    connection.close()


def _newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40_000])


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8192:12288] = b"\xee" * 4096
    path.write_bytes(data)


@pytest.mark.parametrize("spoil", [_empty, _text, _other, _newer, _torn, _flipped, Path.unlink])
def test_what_is_no_backup_is_refused_and_nothing_changes(
    settings: Settings, saved: Path, spoil: Callable[[Path], None]
) -> None:
    if spoil is _other:
        saved.unlink()
    spoil(saved)
    with pytest.raises(BackupUnusable):
        described(saved)
    with pytest.raises(BackupUnusable):
        restore_library(settings, saved)
    with opened(settings) as db:
        assert ids(db) == ["two", "three"]


def test_where_a_backup_cannot_be_written(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(settings) as db:
        fill(db, "one")
        there = tmp_path / "there.db"
        there.write_text("something")
        with pytest.raises(InvalidInput, match="exists already"):
            back_up(db.catalog, there, who="ada")
        assert there.read_text() == "something"
        with pytest.raises(InvalidInput, match="no folder"):
            back_up(db.catalog, tmp_path / "nowhere" / "b.db", who="ada")
        (tmp_path / "folder").mkdir()
        assert Path(back_up(db.catalog, tmp_path / "folder", who="ada").path).parent == tmp_path / "folder"
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
        with pytest.raises(StorageFull):
            back_up(db.catalog, tmp_path / "b.db", who="ada")
    assert not (tmp_path / "b.db").exists()


def test_the_library_itself_is_no_backup_of_it(settings: Settings, saved: Path) -> None:
    with pytest.raises(InvalidInput, match="own database"):
        restore_library(settings, settings.data_dir / "catalog.db")
