"""Which recordings are meant: one by id or path, or some by library, by a list of ids and paths, or a share of all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from speakerdb.catalog import activity, library
from speakerdb.catalog.database import Transaction, can_hold, parts
from speakerdb.catalog.schema import recordings, work_items
from speakerdb.errors import InvalidInput, NotFound, SpeakerDBError

SHOWN = 5

PRIORITY_FIRST = 25
"""What was asked to go first in a migration: before its named voices, after repairs."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the library that is to go first. Exactly one is given: a share in (0, 1], a library's name, or a list of
    recordings (ids, beginnings of ids, paths)."""

    share: float | None = None
    library: str | None = None
    listed: tuple[str, ...] | None = None


def recording_of(tx: Transaction, given: str) -> str:
    """The full id of a recording from an id, the beginning of one, or the path of its file.

    `NotFound`; `InvalidInput` where several fit.
    """
    try:
        return library.resolve_id(tx, recordings, given, "recording")
    except NotFound:
        named = activity.recordings_of_path(tx, _whole(given)) if given.isprintable() else []
        if not named:
            raise
    if len(named) > 1:
        raise InvalidInput(
            f"{given!r} is the file of several recordings: {', '.join(named[:5])}.", hint="Give one of these ids."
        )
    return named[0]


def _whole(given: str) -> str:
    try:
        return str(Path(given).resolve())
    except (OSError, RuntimeError):  # a loop of links
        return given


def resolve_all(tx: Transaction, given: Sequence[str]) -> list[str]:
    """Full ids of recordings from ids, beginnings of ids, or paths. `NotFound` names those that fit nothing."""
    found: dict[str, str] = {}
    wanted = list(dict.fromkeys(given))
    for part in parts([each for each in wanted if can_hold(each)]):
        rows = tx.execute(sa.select(recordings.c.path, recordings.c.id).where(recordings.c.path.in_(part)))
        found |= {str(row.path): row.id for row in rows}
        found |= {each: each for each in tx.scalars(sa.select(recordings.c.id).where(recordings.c.id.in_(part)))}
    unknown = []
    for each in wanted:
        if each not in found:
            try:
                found[each] = library.resolve_id(tx, recordings, each, "recording")
            except SpeakerDBError:
                unknown.append(each)
    if unknown:
        shown = ", ".join(repr(each) for each in unknown[:SHOWN]) + (" and more" if len(unknown) > SHOWN else "")
        raise NotFound(
            f"{len(unknown)} of {len(wanted)} recordings are not in the library: {shown}.",
            hint="List ids or paths as `speakerdb recordings list` shows them; nothing was changed.",
        )
    return list(dict.fromkeys(found[each] for each in wanted))


def put_first(tx: Transaction, generation: str, part: Part) -> int:
    """Let a part of what a migration has queued go before the rest of it; how many recordings."""
    mine = (work_items.c.generation == generation) & (work_items.c.state == "queued")
    mine &= work_items.c.reason == "migration"
    first = sa.update(work_items).where(mine, work_items.c.priority > PRIORITY_FIRST).values(priority=PRIORITY_FIRST)
    if part.library is not None:
        home = library.library_id(tx, part.library)
        return tx.execute(
            first.where(
                work_items.c.recording_id.in_(sa.select(recordings.c.id).where(recordings.c.library_id == home))
            )
        ).rowcount
    if part.listed is not None:
        ids = resolve_all(tx, part.listed)
    else:
        every = tx.scalars(sa.select(work_items.c.recording_id).where(mine)).all()
        ids = [each for each in every if _place(each) < (part.share or 0.0)]
    return sum(tx.execute(first.where(work_items.c.recording_id.in_(each))).rowcount for each in parts(ids))


def _place(recording_id: str) -> float:
    """A number in [0, 1) that belongs to an id, as if by chance: a larger share always holds the smaller one."""
    digest = hashlib.blake2b(recording_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
