"""Rows about recordings' files: walked in parts, moved, and queued again. Every walk takes constant memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from speakerdb.catalog.database import Transaction
from speakerdb.catalog.schema import generations, libraries, recordings, work_items
from speakerdb.errors import MediaForbidden, MediaMissing
from speakerdb.types import Fingerprint


@dataclass(frozen=True, slots=True)
class FileRow:
    """A recording's file as SQL knows it. `path` is None where the sound was given in memory."""

    recording_id: str
    library_id: str
    library: str
    path: str | None
    fingerprint: Fingerprint | None
    seconds: float | None
    content_version: int


def count(tx: Transaction, *, library: str | None = None) -> int:
    """How many recordings there are, in a library (by id) or in all."""
    return tx.scalar(sa.select(sa.func.count()).select_from(recordings).where(*_of(library))) or 0


def part(tx: Transaction, after: str, limit: int, *, library: str | None = None) -> list[FileRow]:
    """The next recordings by id, of a library (by id) or of all."""
    query = _columns.where(recordings.c.id > after, *_of(library)).order_by(recordings.c.id).limit(limit)
    return [_row(row) for row in tx.execute(query)]


@dataclass(frozen=True, slots=True)
class Below:
    """Recordings whose file is at the path `under` or in that folder, and not at or in `outside`; of a library (by id)."""

    under: str
    outside: str | None = None
    library: str | None = None

    def count(self, tx: Transaction) -> int:
        """How many there are."""
        return tx.scalar(sa.select(sa.func.count()).select_from(recordings).where(*self._clauses())) or 0

    def part(self, tx: Transaction, after: str, limit: int) -> list[FileRow]:
        """The next ones by path, about `limit` of them: recordings that share a file are never torn apart."""
        clauses = self._clauses()
        query = _columns.where(recordings.c.path > after, *clauses).order_by(recordings.c.path, recordings.c.id)
        found = [_row(row) for row in tx.execute(query.limit(limit))]
        if found:
            last = found[-1]
            rest = _columns.where(recordings.c.path == last.path, recordings.c.id > last.recording_id, *clauses)
            found += [_row(row) for row in tx.execute(rest.order_by(recordings.c.id))]
        return found

    def _clauses(self) -> list[sa.ColumnElement[bool]]:
        clauses = [*_of(self.library), _lies_in(self.under)]
        return clauses if self.outside is None else [*clauses, ~_lies_in(self.outside)]


def by_id(tx: Transaction, ids: Sequence[str]) -> dict[str, FileRow]:
    """Recordings that exist, by id."""
    return {row.id: _row(row) for row in tx.execute(_columns.where(recordings.c.id.in_(list(ids))))}


def paths_in_use(tx: Transaction, paths: Sequence[str]) -> set[tuple[str, str]]:
    """Those of the paths that a recording has, each with its library's id."""
    query = sa.select(recordings.c.library_id, recordings.c.path).where(recordings.c.path.in_(list(paths)))
    return {(row.library_id, row.path) for row in tx.execute(query)}


def move(tx: Transaction, row: FileRow, new: str, now: int) -> bool:
    """Give a recording's file another path. False where the recording has changed since the row was read."""
    assert row.fingerprint is not None
    moved = sa.update(recordings).where(
        recordings.c.id == row.recording_id,
        recordings.c.path == row.path,
        recordings.c.media_size == row.fingerprint.size,
        recordings.c.media_digest == row.fingerprint.digest,
    )
    return tx.execute(moved.values(path=new, updated_at=now)).rowcount == 1


def retry_unfound(tx: Transaction, recording_ids: Sequence[str], now: int) -> int:
    """Queue again, from the first attempt on, what failed for live generations because the file was not found or was
    outside the media roots; how many items. What a person has waived stays waived."""
    live = sa.select(generations.c.name).where(generations.c.live)
    failed = sa.update(work_items).where(
        work_items.c.recording_id.in_(list(recording_ids)),
        work_items.c.state == "failed",
        work_items.c.error_code.in_((MediaMissing.code, MediaForbidden.code)),
        work_items.c.generation.is_(None) | work_items.c.generation.in_(live),
    )
    return tx.execute(
        failed.values(state="queued", attempts=0, error_code=None, error_message=None, updated_at=now)
    ).rowcount


def top_folders(tx: Transaction, limit: int) -> list[str]:
    """Where the library's files lie: the folder they have in common, or up to `limit` folders right below it."""
    ends = tx.execute(sa.select(sa.func.min(recordings.c.path), sa.func.max(recordings.c.path))).one()
    if ends[0] is None:
        return []
    common = os.path.commonpath([os.path.dirname(ends[0]), os.path.dirname(ends[1])])
    base = common.rstrip("/") + "/"
    found: list[str] = []
    after = base
    while len(found) <= limit:
        first = tx.scalar(sa.select(sa.func.min(recordings.c.path)).where(recordings.c.path > after))
        if first is None or not first.startswith(base):
            return found
        name, slash, _ = first.removeprefix(base).partition("/")
        if not slash:
            return [common]
        found.append(base + name)
        after = base + name + "0"  # the character after the slash
    return [common]


_columns: sa.Select[tuple[object, ...]] = sa.select(
    recordings.c.id,
    recordings.c.library_id,
    libraries.c.name.label("library"),
    recordings.c.path,
    recordings.c.media_size,
    recordings.c.media_digest,
    recordings.c.seconds,
    recordings.c.content_version,
).join(libraries, libraries.c.id == recordings.c.library_id)


def _of(library: str | None) -> list[sa.ColumnElement[bool]]:
    return [] if library is None else [recordings.c.library_id == library]


def _lies_in(place: str) -> sa.ColumnElement[bool]:
    # Not LIKE: a path may hold its wildcards, and LIKE may not tell "A" from "a".
    folder = place.rstrip("/") + "/"
    return (recordings.c.path == place) | (sa.func.substr(recordings.c.path, 1, len(folder)) == folder)


def _row(row: sa.Row[tuple[object, ...]]) -> FileRow:
    print_ = None if row.media_size is None else Fingerprint(row.media_size, row.media_digest)
    return FileRow(row.id, row.library_id, row.library, row.path, print_, row.seconds, row.content_version)
