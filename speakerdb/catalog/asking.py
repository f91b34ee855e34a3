"""Recordings that are to be diarized, for the first time or again: which ones can be, queueing them, one or all at once, and
how far a migration is that asked for it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from speakerdb.catalog.adopting import NO_TURNS
from speakerdb.catalog.database import Transaction, parts, upsert
from speakerdb.catalog.schema import diarizations, recordings, work_items
from speakerdb.catalog.work import PRIORITY, Reason, begun_anew
from speakerdb.core.turns import AWAITED, DIARIZE
from speakerdb.reports.rediarizing import TurnsProgress

PRIORITY_TURNS_FIRST = 25
"""A migration's recordings are diarized again before they are extracted: else they would be extracted twice."""

_ids: sa.BindParameter[list[str]] = sa.bindparam("ids", expanding=True)
_HAS_SOUND = recordings.c.path.is_not(None)
_KNOWN = recordings.c.turns_digest != AWAITED
WITHOUT_TURNS = (AWAITED, NO_TURNS)
"""Digests of turns that were never there: nobody has listened yet. Nothing could be kept."""
_UNDONE = (work_items.c.task == DIARIZE) & (work_items.c.state != "done")
"""To be diarized: queued, under way, or failed."""
_open = sa.select(work_items.c.recording_id).where(
    work_items.c.recording_id.in_(_ids), work_items.c.task == DIARIZE, work_items.c.state.in_(("queued", "taken"))
)
_OF_THE_SOUND = {"num_speakers", "min_speakers", "max_speakers", "channels"}
"""What of a person's options is said of the recording itself."""
_columns = ("recording_id", "task", "reason", "priority", "state", "attempts", "updated_at", "options")


@dataclass(frozen=True, slots=True)
class Askable:
    """How many recordings have a file and were diarized, or came with turns; and the seconds of their sound. `without_sound`
    and `awaiting` are those that cannot be diarized again: they have no file, or wait to be diarized for the first time."""

    recordings: int
    seconds: float
    without_sound: int
    awaiting: int


def askable(tx: Transaction, home: str | None = None) -> Askable:
    """What of a library (by id), or of all, can be diarized again."""
    counted = sa.case((_HAS_SOUND & _KNOWN, 1), else_=0)
    query = sa.select(
        sa.func.coalesce(sa.func.sum(counted), 0),
        sa.func.coalesce(sa.func.sum(sa.case((_HAS_SOUND & _KNOWN, recordings.c.seconds), else_=0.0)), 0.0),
        sa.func.coalesce(sa.func.sum(sa.case((~_HAS_SOUND & _KNOWN, 1), else_=0)), 0),
        sa.func.coalesce(sa.func.sum(sa.case((~_KNOWN, 1), else_=0)), 0),
    )
    row = tx.execute(query if home is None else query.where(recordings.c.library_id == home)).one()
    return Askable(int(row[0]), float(row[1]), int(row[2]), int(row[3]))


def askable_ids(tx: Transaction, home: str) -> Iterator[str]:
    """The recordings of a library that can be diarized again, in the order they came."""
    query = sa.select(recordings.c.id).where(recordings.c.library_id == home, _HAS_SOUND, _KNOWN)
    return iter(tx.scalars(query.order_by(recordings.c.created_at, recordings.c.id)))


@lru_cache
def _ask(dialect: str) -> Any:
    return begun_anew(upsert(dialect, work_items), _columns[2:], turns=True)


def _priority(reason: Reason) -> int:
    return PRIORITY_TURNS_FIRST if reason == "migration" else PRIORITY[reason]


def ask_for_turns(
    tx: Transaction, recording_ids: Sequence[str], reason: Reason, now: int, options: str | None = None
) -> None:
    """Queue recordings to be diarized, from their first attempt on, with what a person asks of it."""
    fresh: dict[str, object] = {
        "task": DIARIZE, "reason": reason, "priority": _priority(reason), "state": "queued", "attempts": 0,
        "updated_at": now, "options": options,
    }  # fmt: skip
    if recording_ids:
        tx.execute(_ask(tx.dialect.name), [fresh | {"recording_id": each} for each in recording_ids])


def no_more_turns(tx: Transaction, recording_id: str) -> None:
    """The turns of a recording came otherwise: it need not be diarized."""
    tx.execute(sa.delete(work_items).where(_UNDONE, work_items.c.recording_id == recording_id))


def keep_as_they_are(tx: Transaction, recording_ids: Sequence[str]) -> list[str]:
    """Forget that these were to be diarized again, failed or yet to come; of which of them, in their order. What has no turns
    yet stays."""
    found = {
        id
        for part in parts(list(recording_ids))
        for id in tx.scalars(_forget(recordings.c.id.in_(part)).returning(work_items.c.recording_id))
    }
    return [id for id in recording_ids if id in found]


def keep_all(tx: Transaction, home: str) -> int:
    """The same of a library (by id); of how many."""
    return int(tx.execute(_forget(recordings.c.library_id == home)).rowcount)


def _forget(which: sa.ColumnElement[bool]) -> sa.Delete:
    known = sa.select(recordings.c.id).where(which, recordings.c.turns_digest.not_in(WITHOUT_TURNS))
    return sa.delete(work_items).where(_UNDONE, work_items.c.recording_id.in_(known))


def to_diarize(tx: Transaction) -> int:
    """How many recordings wait for their turns."""
    mine = (work_items.c.task == DIARIZE) & work_items.c.state.in_(("queued", "taken"))
    return tx.scalar(sa.select(sa.func.count()).where(mine)) or 0


def waiting(tx: Transaction, recording_ids: Collection[str]) -> set[str]:
    """Those of the recordings that are queued to be diarized already, or are being diarized."""
    return {id for part in parts(list(recording_ids)) for id in tx.scalars(_open, {"ids": part})}


def ask_all(tx: Transaction, reason: Reason, now: int, options: str | None, home: str | None = None) -> int:
    """Queue everything of a library (by id), or of all, that can be diarized again; how many recordings.

    For a migration, what a person asked for and is not done yet stays as it was asked for. Where `options` say nothing of
    speakers and channels, what was said of a recording when it was diarized last holds for it again.
    """
    rows = sa.select(
        recordings.c.id,
        sa.literal(DIARIZE),
        sa.literal(reason),
        sa.literal(_priority(reason)),
        sa.literal("queued"),
        sa.literal(0),
        sa.literal(now, sa.BigInteger),
        sa.literal(options, sa.Text),
    ).where(_HAS_SOUND, _KNOWN)
    if home is not None:
        rows = rows.where(recordings.c.library_id == home)
    rows = rows.order_by(recordings.c.created_at, recordings.c.id)  # they are taken in the order of their numbers
    statement = upsert(tx.dialect.name, work_items).from_select(list(_columns), rows)
    asked = None
    if reason == "migration":
        over = work_items.c.state.not_in(("queued", "taken"))
        asked = (work_items.c.state == "done") | (over & (work_items.c.reason == "migration"))
    result = tx.execute(
        begun_anew(statement, _columns[2:], turns=True, where=asked),
        execution_options={"preserve_rowcount": True},  # for an INSERT it is not known otherwise
    )
    said = json.loads(options) if options else {}
    if not said.keys() & _OF_THE_SOUND:
        _as_before(tx, reason, now, said, home)
    return int(result.rowcount)


def _as_before(tx: Transaction, reason: Reason, now: int, said: dict[str, Any], home: str | None) -> None:
    """How many people talk, and who has which channel, is so whoever asks."""
    query = (
        sa.select(work_items.c.recording_id, diarizations.c.options)
        .join(diarizations, diarizations.c.recording_id == work_items.c.recording_id)
        .where(work_items.c.task == DIARIZE, work_items.c.state == "queued", work_items.c.reason == reason)
        .where(work_items.c.updated_at == now, diarizations.c.options != "{}")
    )
    if home is not None:
        query = query.join(recordings, recordings.c.id == work_items.c.recording_id)
        query = query.where(recordings.c.library_id == home)
    alike: dict[str, list[str]] = {}
    for id, known in tx.execute(query):
        alike.setdefault(known, []).append(id)
    for known, ids in alike.items():
        kept = {key: value for key, value in json.loads(known).items() if key in _OF_THE_SOUND}
        change = sa.update(work_items).where(work_items.c.task == DIARIZE).values(options=json.dumps(kept | said))
        for part in parts(ids):
            tx.execute(change.where(work_items.c.recording_id.in_(part)))


def drop_of_migration(tx: Transaction, since: int) -> None:
    """Forget what a migration that was started at `since` asked for and is not done. What an earlier one left failed stays."""
    own = (work_items.c.reason == "migration") & (work_items.c.updated_at >= since)
    tx.execute(sa.delete(work_items).where(_UNDONE, own))


def progress(tx: Transaction, since: int) -> TurnsProgress | None:
    """How far a migration is that was started at `since` with the diarization of everything; None where it did not ask."""
    query = (
        sa.select(work_items.c.state, sa.func.count(), sa.func.coalesce(sa.func.sum(recordings.c.seconds), 0.0))
        .join(recordings, recordings.c.id == work_items.c.recording_id)
        .where(work_items.c.task == DIARIZE, work_items.c.reason == "migration", work_items.c.updated_at >= since)
        .group_by(work_items.c.state)
    )
    found = {row[0]: (row[1], float(row[2])) for row in tx.execute(query)}
    if not found:
        return None
    waits = [found.get(state, (0, 0.0)) for state in ("queued", "taken")]
    return TurnsProgress(
        recordings_queued=sum(count for count, _ in waits),
        recordings_done=found.get("done", (0, 0.0))[0],
        recordings_failed=found.get("failed", (0, 0.0))[0],
        audio_seconds_queued=sum(seconds for _, seconds in waits),
    )
