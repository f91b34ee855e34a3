"""Rows of migrations and generations, and the append-only events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from speakerdb.catalog.database import Row, Transaction, held
from speakerdb.catalog.schema import ENDED_STATES, events, generations, migrations
from speakerdb.core.lifecycle import State
from speakerdb.errors import GenerationChanged
from speakerdb.events import KINDS
from speakerdb.types import Generation


@dataclass(frozen=True, slots=True)
class MigrationRow:
    """A migration as it stands in SQL."""

    id: int
    alias: str
    source: str
    target: str
    state: State
    paused: bool
    pause_reason: str | None
    swap_token: str | None
    drop_index: str | None
    started_at: int
    finalized_at: int | None
    rollback_until: int | None
    ended_at: int | None


def active(tx: Transaction, alias: str) -> MigrationRow | None:
    """The migration of an alias that is not at its end; the schema allows one."""
    query = sa.select(migrations).where(migrations.c.alias == alias, migrations.c.state.not_in(ENDED_STATES))
    return _migration(tx.execute(query).one_or_none())


def newest(tx: Transaction, alias: str) -> MigrationRow | None:
    """The migration that was started last."""
    query = sa.select(migrations).where(migrations.c.alias == alias).order_by(migrations.c.id.desc()).limit(1)
    return _migration(tx.execute(query).one_or_none())


def to_drop(tx: Transaction) -> list[MigrationRow]:
    """Ended migrations that left an index to be dropped."""
    rows = tx.execute(sa.select(migrations).where(migrations.c.drop_index.is_not(None)))
    return [found for row in rows if (found := _migration(row)) is not None]


def insert_migration(tx: Transaction, alias: str, source: str, target: str, now: int) -> int:
    """A new migration, running; its id. The partial unique index refuses a second active one."""
    statement = sa.insert(migrations).values(
        alias=alias, source=source, target=target, state=State.RUNNING.value, paused=False, started_at=now
    )
    return int(tx.execute(statement.returning(migrations.c.id)).scalar_one())


def update_migration(tx: Transaction, migration_id: int, **values: object) -> None:
    """Write fields of a migration."""
    kept = {name: held(value) if isinstance(value, str) else value for name, value in values.items()}
    tx.execute(sa.update(migrations).where(migrations.c.id == migration_id).values(**kept))


def paused_targets(tx: Transaction) -> list[str]:
    """Targets of running migrations that are paused."""
    return list(tx.scalars(sa.select(migrations.c.target).where(migrations.c.paused, migrations.c.state == "running")))


def live_generations(tx: Transaction) -> tuple[str, ...]:
    """The generations that every new or changed recording is extracted for."""
    return tuple(tx.scalars(_live))


_live = sa.select(generations.c.name).where(generations.c.live).order_by(generations.c.name)


def set_live(tx: Transaction, name: str, *, live: bool) -> None:
    """Begin or end extracting what is new for a generation."""
    tx.execute(sa.update(generations).where(generations.c.name == name).values(live=live))


def register_generation(tx: Transaction, generation: Generation, now: int) -> None:
    """Remember a generation's definition; `GenerationChanged` if the library knows another one of this name.

    Its operating point may change: it belongs to the generation, but no vector depends on it.
    """
    found = tx.execute(sa.select(generations).where(generations.c.name == generation.name)).one_or_none()
    definition = json.dumps(asdict(generation), sort_keys=True)
    if found is None:
        tx.execute(
            sa.insert(generations).values(
                name=generation.name,
                fingerprint=generation.fingerprint,
                checksum=None,
                dimension=generation.dimension,
                definition=definition,
                live=False,
                created_at=now,
            )
        )
        return
    if found.fingerprint != generation.fingerprint:
        raise GenerationChanged(
            f"Generation {generation.name!r} is not the one this library knows.",
            known=json.loads(found.definition),
            given=asdict(generation),
        )
    if found.definition != definition:
        tx.execute(sa.update(generations).where(generations.c.name == generation.name).values(definition=definition))


def known_generations(tx: Transaction) -> dict[str, str]:
    """Fingerprints of the generations this library has used, by name."""
    return {row.name: row.fingerprint for row in tx.execute(sa.select(generations.c.name, generations.c.fingerprint))}


def checksum(tx: Transaction, name: str) -> str | None:
    """The checkpoint's checksum that a generation's vectors were made with; None before the first load."""
    return tx.execute(_checksum, {"generation": name}).scalar_one_or_none()


_checksum = sa.select(generations.c.checksum).where(generations.c.name == sa.bindparam("generation"))


def check_checksum(tx: Transaction, name: str, value: str) -> str | None:
    """`GenerationChanged` unless a generation's vectors were made with this checkpoint, or none were made yet (None)."""
    known = checksum(tx, name)
    if known is not None and known != value:
        raise GenerationChanged(
            f"The checkpoint of generation {name!r} (SHA-256 {value[:12]}…) is not the one its vectors were made with "
            f"({known[:12]}…)."
        )
    return known


def learn_checksum(tx: Transaction, name: str, value: str) -> None:
    """Pin a generation to the checkpoint that was loaded first. `GenerationChanged` for another one."""
    if check_checksum(tx, name, value) is None:
        tx.execute(sa.update(generations).where(generations.c.name == name).values(checksum=value))


@dataclass(frozen=True, slots=True)
class Actor:
    """On whose behalf this thread works. `who` None is the one whom the settings name."""

    who: str | None = None
    source: str | None = None
    """From where: "cli", "schedule", or "api" with the address of who asked."""
    why: str | None = None
    """What is written where the use case was given no reason of its own."""


_actor: ContextVar[Actor] = ContextVar("speakerdb_actor", default=Actor())  # noqa: B039 - it is frozen


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """In this block what is written into the audit trail is this actor's."""
    before = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(before)


def actor() -> Actor:
    """On whose behalf this thread works."""
    return _actor.get()


def record(
    tx: Transaction,
    kind: str,
    who: str,
    now: int,
    *,
    migration_id: int | None = None,
    entity_id: str | None = None,
    why: str | None = None,
    **data: object,
) -> None:
    """Append an event. `kind` is one of `events.KINDS`; what varies is data. In a block of `acting` it is that actor's."""
    tx.execute(
        _insert_event, [_event(kind, who, now, why, data) | {"migration_id": migration_id, "entity_id": entity_id}]
    )


def record_restoration(tx: Transaction, number: int, who: str, now: int, *, why: str | None, **data: object) -> None:
    """Append the event that a library was put back, with this number, above all that were ever given: whoever follows the
    events by their numbers hears of it. Only in a file: a server would go on counting from where it was."""
    row = _event("library-restored", who, now, why, data)
    tx.execute(_insert_event, [row | {"migration_id": None, "entity_id": None, "id": number}])


def _event(kind: str, who: str, now: int, why: str | None, data: Mapping[str, object]) -> dict[str, object]:
    assert kind in KINDS, f"the event {kind!r} is not among the known kinds"
    behalf = _actor.get()
    return {
        "at": now, "kind": kind, "who": held(behalf.who or who), "why": held(why if why is not None else behalf.why),
        "data": json.dumps(data), "source": held(behalf.source),
    }  # fmt: skip


_insert_event = sa.insert(events)


def set_replacing(tx: Transaction, name: str, epoch: int) -> None:
    """From now on nothing is acknowledged in a generation: its index is about to be replaced."""
    tx.execute(sa.update(generations).where(generations.c.name == name).values(replacing=epoch))


def clear_replacing(tx: Transaction) -> None:
    """The replacement has happened, or never will."""
    tx.execute(sa.update(generations).where(generations.c.replacing.is_not(None)).values(replacing=None))


_replacing = sa.select(generations.c.replacing).where(generations.c.name == sa.bindparam("generation"))


def is_replacing(tx: Transaction, name: str) -> bool:
    """Whether a generation's index is about to be replaced."""
    return tx.execute(_replacing, {"generation": name}).scalar_one_or_none() is not None


def any_replacing(tx: Transaction) -> bool:
    """Whether a rebuild is about to replace an index, or died while it was."""
    return tx.scalar(sa.select(generations.c.name).where(generations.c.replacing.is_not(None)).limit(1)) is not None


def restored_since_rebuild(tx: Transaction, generation: str) -> bool:
    """Whether the database was put back from a backup, and this generation's index was not made or built again since, nor
    made equal to it on a person's word."""
    restored = tx.scalar(sa.select(sa.func.max(events.c.id)).where(events.c.kind.in_(RESTORED_KINDS)))
    if restored is None:
        return False
    begun = sa.select(migrations.c.id).where(migrations.c.target == generation)
    # A migration begins with an index of its own, which knows nothing of before.
    built = sa.or_(
        events.c.kind.in_(("index-rebuilt", "restoration-accepted")) & (events.c.entity_id == generation),
        (events.c.kind == "migration-started") & events.c.migration_id.in_(begun),
    )
    return tx.scalar(sa.select(sa.func.max(events.c.id)).where(built, events.c.id > restored)) is None


RESTORED_KINDS = ("library-restored", "index-ahead")


def _migration(row: Row | None) -> MigrationRow | None:
    if row is None:
        return None
    values = row._asdict()
    return MigrationRow(**values | {"state": State(values["state"])})
