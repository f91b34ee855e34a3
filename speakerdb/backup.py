"""Backups: SQL is all that must be kept. A restored library builds its indices again from it.

A restored database finds its index ahead of it: documents of voices that it never heard of, or in versions that it does
not know yet. It says so (`Serving.to_rebuild`, `status`) until each live generation's index was built again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from speakerdb.catalog import copies, journal, moving
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Database
from speakerdb.catalog.holders import others
from speakerdb.errors import BackendError, InvalidInput, LibraryInUse, StorageFull
from speakerdb.reports.rebuilding import BackupReport, RestoreReport
from speakerdb.settings import Settings

OnPages = Callable[[int, int], None]


def back_up(catalog: Catalog, target: Path, *, who: str, why: str | None = None) -> BackupReport:
    """Write a copy of the library's database to `target` while it is in use. `InvalidInput` where the file exists."""
    begun = time.monotonic()
    source = copies.file_of(catalog.database)
    target = target.expanduser().absolute()
    if target.is_dir():
        target /= f"speakerdb-{stamp()}.db"
    if target.exists():
        raise InvalidInput(f"{target} exists already.", hint="Give a new name, or a folder.")
    if not target.parent.is_dir():
        raise InvalidInput(f"There is no folder {target.parent}.", hint="Make it first.")
    _refuse_full(source, target.parent)
    copies.copy_out(catalog.database, target)
    info = copies.examine(target)
    with catalog.job() as tx:
        journal.record(tx, "backup-made", who, catalog.now(), why=why, path=str(target))
    return BackupReport(
        str(target), target.stat().st_size, info.recordings, info.speakers, info.profiles, info.live, info.revision,
        round(time.monotonic() - begun, 3),
    )  # fmt: skip


def described(backup: Path) -> RestoreReport:
    """What a backup holds, after checking the whole file. Changes nothing."""
    info = copies.examine(backup.expanduser().absolute())
    return RestoreReport(
        str(info.path), info.made_at, info.recordings, info.speakers, info.profiles, info.live, None, 0.0
    )


def restore_library(settings: Settings, backup: Path, *, why: str | None = None) -> RestoreReport:
    """Put a backup in the place of the database that the settings name. See `restore`."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.catalog_url)
    try:
        return restore(database, settings.data_dir / "locks", backup, who=settings.actor, why=why)
    finally:
        database.close()


def restore(
    database: Database,
    locks: Path,
    backup: Path,
    *,
    who: str,
    why: str | None = None,
    on_progress: OnPages = lambda _done, _all: None,
) -> RestoreReport:
    """Put a backup in the place of the library's database, in one step; what was there is kept beside it.

    A database on a server must be empty (`InvalidInput`): this is how a library in a file comes there.
    `BackupUnusable`, `LibraryInUse` while any process of this machine has the library open, `StorageFull`; then nothing
    was changed.
    """
    begun = time.monotonic()
    target = database.path or locks.with_name("catalog.db")
    backup = backup.expanduser().absolute()
    if backup == database.path:
        raise InvalidInput("This file is the library's own database.", hint="Give the file of a backup.")
    info = copies.examine(backup)
    refuse_in_use(locks)
    target.parent.mkdir(parents=True, exist_ok=True)
    _refuse_full(backup, target.parent)
    copies.sweep(target.parent, target.name)
    kept, replaces = None, database.path is not None and target.exists()
    ready = target.with_name(f"{target.name}.restoring")
    source, copy = copies.readable(backup), Database(f"sqlite:///{ready}")
    try:
        copies.copy_out(source, ready)
        copies.prepare(
            copy,
            epoch=copies.highest_epoch(database),
            event=copies.highest_event(database),
            path=str(backup),
            made_at=info.made_at,
            who=who,
            why=why,
        )
        refuse_in_use(locks)
        kept = _keep(database, target) if replaces else None
        put = moving.fill if database.path is None else copies.put_back
        put(copy, database, on_progress)
    finally:
        source.close()
        copy.close()
        copies.sweep(target.parent, target.name)
    return RestoreReport(
        str(backup), info.made_at, info.recordings, info.speakers, info.profiles, info.live,
        None if kept is None else str(kept), round(time.monotonic() - begun, 3),
    )  # fmt: skip


def refuse_in_use(locks: Path) -> None:
    """`LibraryInUse` while another process of this machine has the library open."""
    if alive := others(locks):
        pids = ", ".join(each.partition("-")[0] for each in alive[:5])
        raise LibraryInUse(
            f"Process {pids} has this library open." if len(alive) == 1 else
            f"{len(alive)} other processes have this library open: {pids}."
        )  # fmt: skip


def stamp() -> str:
    """Now, as part of a file's name."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def _keep(database: Database, target: Path) -> Path:
    """Keep what is there: as a copy where it can be read, else the files themselves, moved aside."""
    try:
        kept = target.with_name(f"{target.name}.before-{stamp()}")
        copies.copy_out(database, kept)
    except BackendError:
        if copies.is_sound(database):
            raise  # it is the copy that could not be written
        kept = target.with_name(f"{target.name}.damaged-{stamp()}")
        database.close()
        for ending in ("-wal", "-shm", ""):
            file = target.with_name(target.name + ending)
            if file.exists():
                file.rename(kept.with_name(kept.name + ending))
    return kept


def _refuse_full(source: Path, folder: Path) -> None:
    import shutil

    free, needed = shutil.disk_usage(folder).free, 2 * source.stat().st_size
    if free < needed:
        raise StorageFull(f"{folder} has {free // 1_000_000} MB free; this needs {needed // 1_000_000} MB.")
