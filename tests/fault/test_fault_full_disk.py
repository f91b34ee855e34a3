"""No room: `storage-full`, nothing half-written, and everything goes on once there is room again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fault_kit import everything, rows

from speakerdb.errors import StorageFull
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.migrator import gates
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices

NO_LIMIT = 2**30


def opened(folder: Path) -> SpeakerDB:
    return SpeakerDB.open(
        fake_settings(folder, dimensions={"v3": 512, "v4": 256}, batch_recordings=8), executor=FakeExecutor()
    )


def add(db: SpeakerDB, number: int) -> None:
    db.add(None, two_voices(), recording_id=f"r{number}", waveform=silence(20))


def limit_catalog(db: SpeakerDB, more: int | None) -> None:
    """Let the catalog grow by so many pages (None: as it likes). SQLite then says that the disk is full."""
    engine = db.catalog.database._engine
    engine.dispose()
    ((pages,),) = rows(db.settings.data_dir, "PRAGMA page_count")

    def configure(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {NO_LIMIT if more is None else pages + more}")

    sa.event.listen(engine, "connect", configure)


def limit_index(db: SpeakerDB, more: int | None) -> None:
    assert isinstance(db.index, EmbeddedIndex)
    writer = db.index._file._writer
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {NO_LIMIT if more is None else pages + more}")


def whole(db: SpeakerDB, count: int) -> None:
    """Every recording with its two voices, in SQL and in the index."""
    data = db.settings.data_dir
    assert rows(data, "PRAGMA integrity_check") == rows(data, "PRAGMA integrity_check", file="index.db") == [("ok",)]
    assert rows(data, "SELECT count(*) FROM recordings") == [(count,)]
    assert rows(data, "SELECT count(*) FROM speakers") == rows(data, "SELECT count(*) FROM turns") == [(2 * count,)]
    assert rows(data, "SELECT state, count(*) FROM work_items GROUP BY state") == [("done", count)]
    assert db.index.indices()["speakers_v3"].documents == 2 * count
    check = gates.equality(
        db.catalog, db.index, db.generations["v3"], db.generations["v3"].index_name, db.catalog.now()
    )
    assert check.verdict == "pass", check


def test_the_catalog_is_full_while_recordings_are_added(tmp_path: Path) -> None:
    with opened(tmp_path) as db:
        add(db, 0)
        limit_catalog(db, 4)
        count, full = 1, None
        while full is None:
            try:
                add(db, count)
                count += 1
            except StorageFull as error:
                full = error
        assert (full.exit_code, bool(full.hint)) == (8, True)
        assert count > 1
        assert rows(tmp_path, "SELECT count(*) FROM speakers") == [(2 * count,)]
        before = everything(tmp_path)
        with pytest.raises(StorageFull):
            add(db, count)
        assert everything(tmp_path) == before
        limit_catalog(db, None)
        add(db, count)
        db.work()
        whole(db, count + 1)


def test_the_catalog_is_full_while_embeddings_are_committed(tmp_path: Path) -> None:
    with opened(tmp_path) as db:
        for number in range(40):
            add(db, number)
        waveforms = dict(db.extraction._waveforms)
        limit_catalog(db, 10)
        with pytest.raises(StorageFull):
            db.work()
        ((done,),) = rows(tmp_path, "SELECT count(*) FROM work_items WHERE state = 'done'")
        assert done < 40
        assert rows(tmp_path, "SELECT count(*) FROM embeddings") == [(2 * done,)], "whole recordings or nothing"
        limit_catalog(db, None)
        for recording, sound in waveforms.items():
            db.extraction.keep(recording, sound)
        db.work()
        whole(db, 40)


def test_the_index_is_full(tmp_path: Path) -> None:
    with opened(tmp_path) as db:
        for number in range(40):
            add(db, number)
        limit_index(db, 2)
        with pytest.raises(StorageFull) as full:
            db.work()
        assert full.value.hint
        ((acknowledged,),) = rows(tmp_path, "SELECT count(*) FROM projections WHERE indexed_version > 0")
        assert db.index.indices()["speakers_v3"].documents == acknowledged
        limit_index(db, None)
        db.work()
        whole(db, 40)


def test_the_index_is_full_when_a_migration_starts_or_swaps(tmp_path: Path) -> None:
    with opened(tmp_path) as db:
        for number in range(4):
            add(db, number)
        waveforms = dict(db.extraction._waveforms)
        db.work()
        limit_index(db, 0)
        before = everything(tmp_path)
        with pytest.raises(StorageFull):
            db.start_migration("v4", force=True)
        assert everything(tmp_path) == before
        limit_index(db, None)
        db.start_migration("v4", force=True)
        for recording, sound in waveforms.items():
            db.extraction.keep(recording, sound)
        db.work()
        limit_catalog(db, 0)
        assert db.match(speaker=db.speakers(limit=1)[0].id).generation == "v3"
        limit_catalog(db, None)
        assert db.finalize().serving == "v4"


SMALL_DISK = """
import sys
from pathlib import Path
sys.path[:0] = [{fault!r}, {tests!r}]
from test_fault_full_disk import add, everything, opened, rows, whole
from speakerdb.errors import StorageFull

data, ballast = Path(sys.argv[1]) / "data", Path(sys.argv[1]) / "ballast"
with opened(data) as db:
    add(db, 0)
    ballast.write_bytes(b"x" * int(sys.argv[2]))
    count, full = 1, 0
    for attempt in range(3000):
        try:
            add(db, count)
            count += 1
            if count % 10 == 0:
                db.work()
        except StorageFull:
            full += 1
            if full == 5:
                break
    else:
        sys.exit("the disk did not become full")
    assert rows(data, "SELECT count(*) FROM speakers") == [(2 * count,)]
    waveforms = dict(db.extraction._waveforms)
    ballast.unlink()
    db.work()
    whole(db, count)
with opened(data) as db:
    whole(db, count)
print("went on with", count)
"""


def test_a_disk_that_really_is_full(tmp_path: Path) -> None:
    """A file system of 6 MB, where the system lets us make one (root in a mount namespace of its own)."""
    unshare = shutil.which("unshare")
    script = tmp_path / "small_disk.py"
    here = Path(__file__).parent
    script.write_text(SMALL_DISK.format(fault=str(here), tests=str(here.parent)))
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=6m none '{disk}'"
    if unshare is None or subprocess.run([unshare, "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("no small file system can be made here")
    command = f"{mount} && exec '{sys.executable}' '{script}' '{disk}' 4000000"
    ran = subprocess.run([unshare, "-m", "sh", "-c", command], capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran
    assert "went on with" in ran.stdout
