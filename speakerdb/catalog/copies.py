"""Copies of the database file: made from a running library, examined, and put back in its place.

SQLite only. A copy is made with VACUUM INTO (one point in time, no writer waits) and put back with SQLite's backup API,
which replaces the content of the database in one transaction: a process that is killed in the middle leaves the old one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from speakerdb.catalog import journal, library, trail, upgrade
from speakerdb.catalog.database import Database
from speakerdb.catalog.schema import events, fences, leases
from speakerdb.errors import BackendError, BackupUnusable, ConfigurationError, SchemaNewer, SpeakerDBError

PAGES = 4096
"""Pages that are put back between two reports of progress."""


@dataclass(frozen=True, slots=True)
class CopyInfo:
    """What a copy of a library's database holds. `made_at` is the time of its newest event, None where there is none."""

    path: Path
    revision: str
    recordings: int
    speakers: int
    profiles: int
    live: tuple[str, ...]
    made_at: int | None


def file_of(database: Database) -> Path:
    """The database's file. `ConfigurationError` for a database that is none."""
    if database.path is None:
        raise ConfigurationError(
            "Only a database in a file can be backed up by speakerdb.",
            hint=database.backing_up,
        )
    return database.path


def copy_out(database: Database, target: Path) -> None:
    """Write a copy of the database to `target`, which must not exist. It appears whole or not at all."""
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    try:
        with database.raw() as connection:
            connection.execute("VACUUM INTO ?", (str(part),))
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)


def readable(path: Path) -> Database:
    """A database file that is only to be read, wherever it lies; nothing is written beside it."""
    log = path.with_name(path.name + "-wal")
    at_rest = not log.exists() or log.stat().st_size == 0
    address = path.absolute().as_uri().removeprefix("file://")
    return Database(f"sqlite:///file:{address}?mode=ro{'&immutable=1' if at_rest else ''}&uri=true", as_it_is=True)


def examine(path: Path) -> CopyInfo:
    """What a copy holds, after SQLite has checked the whole file. `BackupUnusable` for anything else."""
    if not path.is_file():
        raise BackupUnusable(f"There is no file {path}.")
    database = readable(path)
    try:
        if damage := database.damage():
            raise BackupUnusable(f"{path} is damaged: {damage[0]}.")
        revision = upgrade.current(database)
        if revision is None:
            raise BackupUnusable(f"{path} is a SQLite database, but not one of speakerdb.")
        upgrade.known(revision)
        with database.read() as tx:
            counts = library.counts(tx)
            return CopyInfo(
                path, revision, counts["recordings"], counts["speakers"], counts["profiles"],
                journal.live_generations(tx), tx.scalar(sa.select(sa.func.max(events.c.at))),
            )  # fmt: skip
    except SchemaNewer as error:
        raise BackupUnusable(f"{path} was made by a newer speakerdb: {error.message}", hint=error.hint) from error
    except (BackendError, sa.exc.DBAPIError) as error:
        raise BackupUnusable(f"{path} cannot be read as a database: {str(error).rstrip('.')}.") from error
    finally:
        database.close()


def is_sound(database: Database) -> bool:
    """Whether SQLite can read the whole of a library's database."""
    try:
        return not database.damage()
    except (BackendError, sa.exc.DBAPIError):
        return False


def highest_epoch(database: Database) -> int:
    """The highest epoch of any lease of a library; 0 where there is none, or the database cannot be read."""
    return _highest(database, leases.c.epoch)


def highest_event(database: Database) -> int:
    """The number of the last event of a library; 0 as above."""
    return _highest(database, events.c.id)


def _highest(database: Database, column: sa.Column[int]) -> int:
    try:
        with database.read() as tx:
            return tx.scalar(sa.select(sa.func.max(column))) or 0
    except (SpeakerDBError, sa.exc.DBAPIError):
        return 0


def prepare(
    database: Database, *, epoch: int, event: int, path: str, made_at: int | None, who: str, why: str | None
) -> None:
    """Make a copy ready to take a library's place: this version's schema, no lease held, every epoch above `epoch` (so
    that no process of before the restoration can still commit), and the event that says so, with a number above `event`."""
    upgrade.upgrade(database)
    with database.write() as tx:
        tx.execute(sa.update(leases).values(holder=None, expires_at=None, length=None, epoch=_above(epoch)))
        tx.execute(sa.update(fences).values(holder=None, expires_at=None))
        number = max(event, trail.newest_number(tx)) + 1
        journal.record_restoration(tx, number, who, database.now(), why=why, path=path, made_at=made_at)


def _above(epoch: int) -> sa.ColumnElement[int]:
    return sa.case((leases.c.epoch > epoch, leases.c.epoch), else_=sa.literal(epoch, sa.BigInteger)) + 1


def put_back(copy: Database, target: Database, on_progress: Callable[[int, int], None]) -> None:
    """Replace the content of `target` by that of `copy`, in one transaction. `on_progress` is told pages done and all."""

    def told(_status: int, remaining: int, total: int) -> None:
        on_progress(total - remaining, total)

    with copy.raw() as source, target.raw() as connection:
        source.backup(connection, pages=PAGES, progress=told)


def sweep(folder: Path, name: str) -> None:
    """Remove what a restoration that was killed has left beside the database."""
    for left in folder.glob(f"{name}.restoring*"):
        with suppress(FileNotFoundError):
            left.unlink()
