"""The queue: "extract this recording for this generation, because …". One row a (recording, generation); and one a recording
whose turns are to be found: "diarize this recording, because …".

Attempts are counted when an item is taken, so a recording that kills its worker fails after three and stops nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import sqlalchemy as sa

from speakerdb.catalog.database import Transaction, cleaned, held, parts, upsert
from speakerdb.catalog.leases import Lease
from speakerdb.catalog.schema import embeddings, generations, recordings, speakers, work_items
from speakerdb.catalog.vectors import waiting_count
from speakerdb.core.turns import AWAITED, DIARIZE, NOBODY
from speakerdb.errors import SpeakerDBError, WorkerDied, WorkerTimeout
from speakerdb.reports import ItemError, Progress

Reason = Literal["new", "changed", "repair", "migration"]
Task = Literal["extract", "diarize"]

MAX_ATTEMPTS = 3
# Order of work: a person waits for what is new; a migration's named profiles come before the rest of it.
PRIORITY: dict[Reason, int] = {"new": 0, "changed": 10, "repair": 20, "migration": 40}
PRIORITY_NAMED = 30


LANE = sa.func.coalesce(work_items.c.generation, work_items.c.task)
"""The generation that an item is of, or what it does where it is of none."""

_HAS_SPEECH = recordings.c.turns_digest.not_in((AWAITED, NOBODY))
"""There is nothing to extract from a recording that nobody talks in, or that is yet to be diarized."""


@dataclass(frozen=True, slots=True)
class Item:
    """A work item that was taken."""

    id: int
    recording_id: str
    generation: str | None
    """None where no vectors are made, but turns."""
    attempts: int
    task: Task = "extract"
    options: str | None = None
    """What a person asked for, as JSON."""

    @property
    def lane(self) -> str:
        """What has to be loaded for it: the generation's model, or what the task is called."""
        return self.generation or self.task


def begun_anew(statement: Any, names: Sequence[str], *, turns: bool = False, where: Any = None) -> Any:
    """An upsert of items: those that are there are queued from their first attempt on, with the columns `names` as they are
    given. `turns`: the items are those of recordings whose turns are to be found. `where` says which of them, if not all."""
    unique: dict[str, Any] = {"index_elements": ["recording_id", "generation"]}
    if turns:
        unique = {"index_elements": ["recording_id", "task"], "index_where": sa.text("generation IS NULL")}
    changes = {name: statement.excluded[name] for name in names}
    cleared = dict.fromkeys(("taken_epoch", "error_code", "error_message", "waived_why"), None)
    return statement.on_conflict_do_update(set_=changes | cleared, where=where, **unique)


@lru_cache
def _enqueue(dialect: str) -> Any:
    return begun_anew(upsert(dialect, work_items), ("reason", "priority", "state", "attempts", "updated_at"))


def enqueue(tx: Transaction, recording_id: str, generations: Sequence[str], reason: Reason, now: int) -> None:
    """Queue a recording, from its first attempt on. An item that is being worked on is taken away from its worker."""
    if generations:
        fresh: dict[str, object] = {
            "task": "extract",
            "reason": reason,
            "priority": PRIORITY[reason],
            "state": "queued",
            "attempts": 0,
            "updated_at": now,
        }
        tx.execute(
            _enqueue(tx.dialect.name),
            [fresh | {"recording_id": recording_id, "generation": g} for g in generations],
        )


def enqueue_library(tx: Transaction, generation: str, now: int) -> int:
    """Queue every recording that this generation has not got as it is now; how many. Recordings with named voices first."""
    named = (
        sa.select(speakers.c.id)
        .where(speakers.c.recording_id == recordings.c.id, speakers.c.profile_id.is_not(None))
        .exists()
    )
    current = _current(generation)
    rows = sa.select(
        recordings.c.id,
        sa.literal("extract"),
        sa.literal(generation),
        sa.literal("migration"),
        sa.case((named, PRIORITY_NAMED), else_=PRIORITY["migration"]),
        sa.literal("queued"),
        sa.literal(0),
        sa.literal(now, sa.BigInteger),
    ).where(~current, _HAS_SPEECH)
    rows = rows.order_by(recordings.c.created_at, recordings.c.id)  # they are taken in the order of their numbers
    columns = ["recording_id", "task", "generation", "reason", "priority", "state", "attempts", "updated_at"]
    statement = upsert(tx.dialect.name, work_items).from_select(columns, rows)
    result = tx.execute(
        begun_anew(statement, columns[3:]),
        execution_options={"preserve_rowcount": True},  # for an INSERT it is not known otherwise
    )
    return int(result.rowcount)


_take = (
    sa.update(work_items)
    .where(work_items.c.id.in_(sa.bindparam("ids", expanding=True)))
    .values(state="taken", attempts=work_items.c.attempts + 1, taken_epoch=sa.bindparam("epoch"))
)


def take(
    tx: Transaction,
    lease: Lease,
    limit: int,
    *,
    known: Collection[str] | None = None,
    paused: Collection[str] = (),
    without: Collection[str] = (),
    tried: bool = True,
) -> list[Item]:
    """Take the next items by priority, and count the attempt. The transaction touched the lease first.

    Items of a migration to a generation in `paused` stay, as does everything of the lanes in `without`. Of `known` generations
    alone (None: of all): another process may have begun to move to one that the caller's settings do not define.
    An item that was tried before waits behind those of its priority that were not, and one such is taken at most (none
    unless `tried`): it is worked on in a process of its own, so that if it kills that again, it takes nobody with it.
    """
    query = (
        sa.select(
            work_items.c.id,
            work_items.c.recording_id,
            work_items.c.generation,
            work_items.c.attempts,
            work_items.c.task,
            work_items.c.options,
            work_items.c.priority,
        )
        .where(work_items.c.state == "queued")
        .order_by(work_items.c.priority, work_items.c.id)
    )
    if paused:
        # Of a migration that makes turns, too: what has no generation is part of the one that there is.
        mine = work_items.c.generation.is_(None) | work_items.c.generation.in_(list(paused))
        query = query.where(~((work_items.c.reason == "migration") & mine))
    if known is not None:
        query = query.where(work_items.c.generation.is_(None) | work_items.c.generation.in_(list(known)))
    if without:
        query = query.where(LANE.not_in(list(without)))
    rows = list(tx.execute(query.where(work_items.c.attempts == 0).limit(limit)))
    if tried:
        again = query.where(work_items.c.attempts > 0).limit(1)
        if rows:
            # All that the queue holds of a higher priority was tried before, so this reads no more than those.
            again = again.where(work_items.c.priority < rows[0].priority)
        rows = [*tx.execute(again), *rows][:limit]
    # What is about to be listened to is extracted when its turns are known.
    heard = {row.recording_id for row in rows if row.task == DIARIZE}
    rows = [row for row in rows if row.task == DIARIZE or row.recording_id not in heard]
    items = [Item(row.id, row.recording_id, row.generation, row.attempts + 1, row.task, row.options) for row in rows]
    if items:
        tx.execute(_take, {"ids": [item.id for item in items], "epoch": lease.epoch})
    return items


def reclaim(tx: Transaction, lease: Lease, now: int) -> list[ItemError]:
    """Queue again what earlier holders of the lease had taken and left; those that have now failed as `worker-died`."""
    left = (work_items.c.state == "taken") & (work_items.c.taken_epoch < lease.epoch)
    attempt = sa.literal("Attempt ") + sa.cast(work_items.c.attempts, sa.Text) + ": the whole process died."
    values = {
        "taken_epoch": None,
        "error_code": WorkerDied.code,
        "error_message": sa.func.coalesce(work_items.c.error_message + " ", "") + attempt,
        "updated_at": now,
    }
    told = (work_items.c.recording_id, LANE.label("lane"), work_items.c.error_message, work_items.c.attempts)
    failed = tx.execute(
        sa.update(work_items)
        .where(left, work_items.c.attempts >= MAX_ATTEMPTS)
        .values(state="failed", **values)
        .returning(*told)
    ).all()
    tx.execute(sa.update(work_items).where(left).values(state="queued", **values))
    return [ItemError(r.recording_id, r.lane, WorkerDied.code, r.error_message, r.attempts) for r in failed]


_mine = (work_items.c.id == sa.bindparam("item_id")) & (work_items.c.taken_epoch == sa.bindparam("epoch"))
_done = (
    sa.update(work_items)
    .where(work_items.c.id.in_(sa.bindparam("ids", expanding=True)), work_items.c.taken_epoch == sa.bindparam("epoch"))
    .values(
        state="done",
        done_version=sa.bindparam("content"),
        taken_epoch=None,
        error_code=None,
        error_message=None,
        updated_at=sa.bindparam("now"),
    )
    .returning(work_items.c.id)
)
_back = (
    sa.update(work_items)
    .where(_mine)
    .values(state="queued", taken_epoch=None, attempts=sa.bindparam("tries"), updated_at=sa.bindparam("now"))
)
_again = _back.values(error_code=sa.bindparam("code"), error_message=sa.bindparam("message"))
_fail = (
    sa.update(work_items)
    .where(_mine)
    .values(
        state="failed",
        taken_epoch=None,
        error_code=sa.bindparam("code"),
        error_message=sa.bindparam("message"),
        updated_at=sa.bindparam("now"),
    )
)


def finish(tx: Transaction, lease: Lease, contents: Mapping[int, int], now: int) -> set[int]:
    """Mark items done, each for its content version; `contents` gives it by the item's id.

    Answers with the ids of those that are still ours: the recording of another one changed meanwhile.
    """
    versions = dict[int, list[int]]()
    for id, version in contents.items():
        versions.setdefault(version, []).append(id)
    found: set[int] = set()
    for version, ids in versions.items():
        for part in parts(ids):
            values = {"ids": part, "epoch": lease.epoch, "content": version, "now": now}
            found.update(tx.scalars(_done, values))
    return found


def fail(tx: Transaction, lease: Lease, item: Item, error: SpeakerDBError, now: int) -> bool:
    """Record an error. A transient one is tried again up to three times; True when the item has failed for good."""
    values = {
        "item_id": item.id, "epoch": lease.epoch, "code": error.code, "message": cleaned(error.message), "now": now,
    }  # fmt: skip
    if error.transient and item.attempts < MAX_ATTEMPTS:
        tx.execute(_again, values | {"tries": item.attempts})
        return False
    return tx.execute(_fail, values).rowcount == 1


def give_back(
    tx: Transaction, lease: Lease, items: Sequence[Item], now: int, *, error: SpeakerDBError | None = None
) -> None:
    """Queue items again as if they had not been taken. What is known of earlier attempts stays, unless `error` says why
    nobody could work on them."""
    for item in items:
        values = {"item_id": item.id, "epoch": lease.epoch, "now": now, "tries": item.attempts - 1}
        if error is None:
            tx.execute(_back, values)
        else:
            tx.execute(_again, values | {"code": error.code, "message": cleaned(error.message)})


def earlier_attempts(tx: Transaction, item: Item) -> str:
    """What `fail` and `reclaim` wrote of the attempts before this one; "" where nothing is known."""
    died = work_items.c.error_code.in_((WorkerDied.code, WorkerTimeout.code))
    return tx.scalar(sa.select(work_items.c.error_message).where(work_items.c.id == item.id, died)) or ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which items are meant; what is None does not matter. `generation` may be another lane, `library` is an id, `recordings`
    are full ids."""

    generation: str | None = None
    code: str | None = None
    library: str | None = None
    recordings: Sequence[str] | None = None

    def conditions(self) -> Iterator[list[sa.ColumnElement[bool]]]:
        """What an item must fulfil; a list of recordings comes in as many parts as statements need."""
        common: list[sa.ColumnElement[bool]] = []
        if self.generation is not None:
            common.append(LANE.in_([self.generation]))
        if self.code is not None:
            common.append(work_items.c.error_code == self.code)
        if self.library is not None:
            here = sa.select(recordings.c.id).where(recordings.c.library_id == self.library)
            common.append(work_items.c.recording_id.in_(here))
        if self.recordings is None:
            yield common
        else:
            for part in parts(self.recordings):
                yield [*common, work_items.c.recording_id.in_(part)]


EVERY = Chosen()


def retry(tx: Transaction, now: int, chosen: Chosen = EVERY) -> int:
    """Queue failed items of live generations, and of none, again, from their first attempt on. What another generation left
    is queued by the migration that makes it live again. Recordings that are named are tried again also where they were
    waived."""
    states = ("failed",) if chosen.recordings is None else ("failed", "waived")
    live = sa.select(generations.c.name).where(generations.c.live)
    query = sa.update(work_items).where(
        work_items.c.state.in_(states), work_items.c.generation.is_(None) | work_items.c.generation.in_(live)
    )
    cleared = dict.fromkeys(("error_code", "error_message", "waived_why"), None)
    values = {"state": "queued", "attempts": 0, "updated_at": now} | cleared
    return sum(tx.execute(query.where(*each).values(**values)).rowcount for each in chosen.conditions())


def waive(tx: Transaction, why: str, now: int, chosen: Chosen) -> list[tuple[str, str]]:
    """Let failed items be missing, on a person's word; recording and error code of each that was waived."""
    query = (
        sa.update(work_items)
        .where(work_items.c.state == "failed")
        .values(state="waived", waived_why=held(why), updated_at=now)
        .returning(work_items.c.recording_id, work_items.c.error_code)
    )
    return [
        (row.recording_id, row.error_code) for each in chosen.conditions() for row in tx.execute(query.where(*each))
    ]


def drop_open(tx: Transaction, generation: str) -> None:
    """Forget the open items of a generation that is no longer live."""
    tx.execute(
        sa.delete(work_items).where(work_items.c.generation == generation, work_items.c.state.in_(("queued", "taken")))
    )


def drop_open_of(tx: Transaction, recording_id: str) -> None:
    """Forget what is to be extracted of a recording: it is queued again when its turns are known."""
    mine = (work_items.c.recording_id == recording_id) & (work_items.c.task == "extract")
    tx.execute(sa.delete(work_items).where(mine, work_items.c.state != "done"))


def still_open(tx: Transaction, recording_ids: Collection[str]) -> set[str]:
    """Those of the recordings whose sound is still needed: to be extracted, or diarized."""
    query = sa.select(work_items.c.recording_id).where(
        work_items.c.recording_id.in_(list(recording_ids)), work_items.c.state.in_(("queued", "taken", "failed"))
    )
    return set(tx.scalars(query))


def given_up(tx: Transaction, recording_ids: Collection[str]) -> dict[tuple[str, str], str]:
    """Those of the recordings that nothing is done for any more: ``failed`` or ``waived``, by recording and lane."""
    query = sa.select(work_items.c.recording_id, LANE.label("lane"), work_items.c.state).where(
        work_items.c.recording_id.in_(list(recording_ids)), work_items.c.state.in_(("failed", "waived"))
    )
    return {(row.recording_id, row.lane): row.state for row in tx.execute(query)}


def open_count(tx: Transaction, generation: str | None = None) -> int:
    """How many items are queued or taken."""
    query = sa.select(sa.func.count()).where(work_items.c.state.in_(("queued", "taken")))
    if generation is not None:
        query = query.where(work_items.c.generation == generation)
    return tx.scalar(query) or 0


def open_lanes(tx: Transaction, lanes: Collection[str]) -> set[str]:
    """Those of the lanes that something is queued or taken in."""
    is_open = work_items.c.state.in_(("queued", "taken"))
    return {
        lane for lane in lanes
        if tx.scalar(sa.select(work_items.c.id).where(is_open, LANE.in_([lane])).limit(1)) is not None
    }  # fmt: skip


def progress(tx: Transaction, generation: str) -> Progress:
    """How far the work of a generation is."""
    total = tx.execute(sa.select(sa.func.count(), sa.func.sum(recordings.c.seconds)).where(_HAS_SPEECH)).one()
    states = {
        row.state: row
        for row in tx.execute(
            sa.select(
                work_items.c.state, sa.func.count().label("items"), sa.func.sum(recordings.c.seconds).label("audio")
            )
            .join(recordings, recordings.c.id == work_items.c.recording_id)
            .where(work_items.c.generation == generation)
            .group_by(work_items.c.state)
        )
    }
    voices = tx.execute(
        sa.select(
            sa.func.count(),
            sa.func.count(embeddings.c.reason),
            sa.func.sum(embeddings.c.segments),
            sa.func.sum(sa.case((embeddings.c.reason.is_(None), embeddings.c.seconds))),
        ).where(embeddings.c.generation == generation, embeddings.c.kind == "speaker")
    ).one()
    codes = tx.execute(
        sa.select(work_items.c.error_code, sa.func.count().label("failed"))
        .where(work_items.c.generation == generation, work_items.c.state == "failed")
        .group_by(work_items.c.error_code)
    )

    def items(state: str) -> int:
        return states[state].items if state in states else 0

    return Progress(
        generation=generation,
        recordings_total=total[0],
        recordings_done=items("done"),
        recordings_failed=items("failed"),
        recordings_waived=items("waived"),
        recordings_queued=items("queued") + items("taken"),
        audio_seconds_total=float(total[1] or 0.0),
        audio_seconds_done=float(states["done"].audio or 0.0) if "done" in states else 0.0,
        speakers_embedded=voices[0] - voices[1],
        speakers_unembeddable=voices[1],
        documents_waiting=waiting_count(tx, generation),
        errors={row.error_code: row.failed for row in codes},
        segments_embedded=voices[2] or 0,
        speech_seconds_embedded=float(voices[3] or 0.0),
    )


@dataclass(frozen=True, slots=True)
class Cost:
    """What a generation has still to extract. `speech_seconds` is at most the budget for each speaker."""

    recordings: int
    to_extract: int
    speakers: int
    audio_seconds: float
    speech_seconds: float


def cost(tx: Transaction, generation: str, budget_seconds: float) -> Cost:
    """What it takes to bring a generation to the whole library; embeddings that SQL has are used again."""
    current = _current(generation)
    speech = sa.case((speakers.c.speech_seconds > budget_seconds, budget_seconds), else_=speakers.c.speech_seconds)
    every = tx.scalar(sa.select(sa.func.count()).where(_HAS_SPEECH)) or 0
    files = tx.execute(sa.select(sa.func.count(), sa.func.sum(recordings.c.seconds)).where(~current, _HAS_SPEECH)).one()
    voices = tx.execute(
        sa.select(sa.func.count(), sa.func.sum(speech))
        .select_from(speakers)
        .join(recordings, recordings.c.id == speakers.c.recording_id)
        .where(~current)
    ).one()
    return Cost(every, files[0], voices[0], float(files[1] or 0.0), float(voices[1] or 0.0))


def _current(generation: str) -> sa.Exists:
    """Whether a recording is extracted for a generation as it is now."""
    return (
        sa.select(work_items.c.id)
        .where(work_items.c.recording_id == recordings.c.id, work_items.c.generation == generation)
        .where(work_items.c.state == "done", work_items.c.done_version == recordings.c.content_version)
        .exists()
    )
