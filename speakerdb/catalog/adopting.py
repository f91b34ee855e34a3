"""Rows for vectors that come from an index: what SQL knows of some documents, and writing what it does not.

A recording that was made from an index alone has no file and no turns: its `turns_digest` is that of no turns. An embedding
from an index has the recipe `foreign:INDEX`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

import sqlalchemy as sa

from speakerdb.catalog import library, people, vectors
from speakerdb.catalog.database import Transaction, parts, upsert
from speakerdb.catalog.library import RecordingRow
from speakerdb.catalog.schema import (
    embeddings,
    events,
    libraries,
    profiles,
    projections,
    recordings,
    speakers,
    work_items,
)
from speakerdb.core.turns import turns_digest

FOREIGN = "foreign:"
NO_TURNS = turns_digest(())
BEGUN, IMPORTED, ADOPTED, GIVEN_UP = "adoption-begun", "index-imported", "index-adopted", "adoption-given-up"


# What is known


def known_libraries(tx: Transaction, ids: Sequence[str]) -> set[str]:
    """Those of the ids that are libraries."""
    return set(tx.scalars(sa.select(libraries.c.id).where(libraries.c.id.in_(ids))))


def recordings_by_id(tx: Transaction, ids: Sequence[str]) -> dict[str, RecordingRow]:
    """Those of the recordings that exist. Not locked: it is read by a dry run too, and whoever writes is alone."""
    query = sa.select(recordings).where(recordings.c.id.in_(ids))
    return {row.id: library.recording_row(row) for row in tx.execute(query)}


def removed(tx: Transaction, ids: Sequence[str]) -> set[str]:
    """Those of the ids that SQL once knew and removed."""
    query = sa.select(projections.c.entity_id).where(projections.c.entity_id.in_(ids), projections.c.deleted)
    return set(tx.scalars(query.distinct()))


def told_removed(tx: Transaction, ids: Sequence[str], kind: str) -> set[str]:
    """Those of the ids of which an event of this kind says that they were removed. Tombstones are purged after a time, and what
    they remember with them; such an event is kept."""
    told = sa.select(events.c.entity_id).where(events.c.kind == kind, events.c.entity_id.in_(ids))
    return {id for id in tx.scalars(told.distinct()) if id is not None}


def profiles_by_id(tx: Transaction, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """By id of a profile: where it is now, after merges, and its library."""
    into = profiles.alias()
    query = (
        sa.select(profiles.c.id, sa.func.coalesce(into.c.id, profiles.c.id), profiles.c.library_id)
        .select_from(profiles)
        .outerjoin(into, into.c.id == profiles.c.merged_into)
        .where(profiles.c.id.in_(ids))
    )
    return {id: (now, home) for id, now, home in tx.execute(query)}


def with_members(tx: Transaction, ids: Sequence[str]) -> set[str]:
    """Those of the profiles that have speakers."""
    return {
        p for p in tx.scalars(sa.select(speakers.c.profile_id).where(speakers.c.profile_id.in_(ids)).distinct()) if p
    }


def recipes(tx: Transaction, generation: str) -> dict[str, int]:
    """How many vectors of a generation were made by which recipe. Reads all of them."""
    query = (
        sa.select(embeddings.c.recipe, sa.func.count())
        .where(embeddings.c.generation == generation, embeddings.c.vector.is_not(None))
        .group_by(embeddings.c.recipe)
    )
    return {row.recipe: row[1] for row in tx.execute(query)}


def any_imported(tx: Transaction) -> bool:
    """Whether anything was ever imported."""
    return tx.scalar(sa.select(events.c.id).where(events.c.kind == IMPORTED).limit(1)) is not None


def begun(tx: Transaction) -> dict[str, str] | None:
    """What the last take-over wrote down before it blocked the index, unless it came to its end or was given up."""
    query = sa.select(events.c.kind, events.c.data).where(events.c.kind.in_((BEGUN, ADOPTED, GIVEN_UP)))
    last = tx.execute(query.order_by(events.c.id.desc()).limit(1)).one_or_none()
    return None if last is None or last.kind != BEGUN else json.loads(last.data)


def ever_adopted(tx: Transaction) -> bool:
    """Whether a take-over came to its end."""
    return tx.scalar(sa.select(events.c.id).where(events.c.kind == ADOPTED).limit(1)) is not None


def only_from(tx: Transaction, generation: str, recipe: str, after: str, limit: int) -> list[str]:
    """Ids of speakers, in order and after one of them, that nothing but an index has told of: their vector has its recipe,
    and their recording no turns."""
    query = (
        sa.select(embeddings.c.entity_id)
        .join(speakers, speakers.c.id == embeddings.c.entity_id)
        .join(recordings, recordings.c.id == speakers.c.recording_id)
        .where(embeddings.c.generation == generation, embeddings.c.recipe == recipe, embeddings.c.entity_id > after)
        .where(recordings.c.turns_digest == NO_TURNS)
        .order_by(embeddings.c.entity_id)
        .limit(limit)
    )
    return list(tx.scalars(query))


# What is written


def insert_library(tx: Transaction, id: str, name: str, now: int) -> None:
    """A library of this id."""
    tx.execute(sa.insert(libraries).values(id=id, name=name, created_at=now))


def insert_recordings(tx: Transaction, homes: Mapping[str, str], now: int) -> None:
    """Recordings without file and turns: ids with their libraries. Listed in the order in which they are given."""
    tx.execute(
        sa.insert(recordings),
        [
            {
                "id": id, "library_id": home, "turns_digest": NO_TURNS, "content_version": 1,
                "created_at": now + place, "updated_at": now,
            }
            for place, (id, home) in enumerate(homes.items())
        ],
    )  # fmt: skip


def insert_profile(tx: Transaction, id: str, home: str, name: str, now: int) -> None:
    """A profile of this id, without members."""
    tx.execute(sa.insert(profiles).values(id=id, library_id=home, name=name, members_version=now, created_at=now))


def insert_speakers(tx: Transaction, rows: Sequence[Mapping[str, object]], now: int) -> None:
    """Speakers: id, recording, label, name, profile and seconds of speech."""
    tx.execute(sa.insert(speakers), [{**row, "created_at": now} for row in rows])


@lru_cache
def _finish(dialect: str) -> sa.Insert:
    statement = upsert(dialect, work_items)
    cleared = dict.fromkeys(("error_code", "error_message", "waived_why"), None)
    return statement.on_conflict_do_update(  # type: ignore[no-any-return]
        index_elements=["recording_id", "generation"],
        set_={
            "state": "done",
            "done_version": statement.excluded.done_version,
            "updated_at": statement.excluded.updated_at,
        }
        | cleared,
        where=work_items.c.state != "taken",
    )


def complete(tx: Transaction, generation: str, recording_ids: Sequence[str]) -> dict[str, int]:
    """Those of the recordings all of whose speakers a generation knows as they are now; with their content version."""
    known = sa.and_(
        embeddings.c.entity_id == speakers.c.id,
        embeddings.c.generation == generation,
        embeddings.c.content_version == recordings.c.content_version,
    )
    lacking = (
        sa.select(speakers.c.id)
        .select_from(speakers)
        .outerjoin(embeddings, known)
        .where(speakers.c.recording_id == recordings.c.id, embeddings.c.entity_id.is_(None))
        .correlate(recordings)
    )
    query = sa.select(recordings.c.id, recordings.c.content_version).where(
        recordings.c.id.in_(recording_ids), ~lacking.exists()
    )
    return {row.id: row.content_version for row in tx.execute(query)}


def finish(tx: Transaction, generation: str, done: Mapping[str, int], now: int) -> None:
    """Nothing has to be extracted for these recordings (with their content version), unless somebody is at it."""
    if done:
        fresh: dict[str, object] = {
            "task": "extract", "generation": generation, "reason": "new", "priority": 0, "state": "done", "attempts": 0,
            "updated_at": now,
        }  # fmt: skip
        tx.execute(
            _finish(tx.dialect.name),
            [fresh | {"recording_id": id, "done_version": version} for id, version in done.items()],
        )


def forget(tx: Transaction, generation: str, ids: Sequence[str], now: int) -> None:
    """What only an index had told of, and tells no more (`only_from`): the vectors go, their documents become tombstones, and
    with them the speakers of whom no other generation knows anything, and recordings without speakers."""
    for part in parts(ids):
        rows = tx.execute(
            sa.select(speakers.c.id, speakers.c.recording_id, speakers.c.profile_id).where(speakers.c.id.in_(part))
        ).all()
        people.mark_dirty(tx, list({row.profile_id for row in rows if row.profile_id is not None}), now)
        known = sa.select(embeddings.c.entity_id).where(
            embeddings.c.entity_id.in_(part), embeddings.c.generation != generation
        )
        stays = set(tx.scalars(known))
        gone = [row.id for row in rows if row.id not in stays]
        vectors.mark_deleted(tx, gone, now)
        here = (embeddings.c.generation == generation) & embeddings.c.entity_id.in_(sorted(stays))
        tx.execute(sa.delete(embeddings).where(here))
        vectors.raise_versions(tx, stays, now)
        tx.execute(sa.delete(speakers).where(speakers.c.id.in_(gone)))
        touched = sorted({row.recording_id for row in rows})
        empty = ~sa.select(speakers.c.id).where(speakers.c.recording_id == recordings.c.id).exists()
        emptied = list(tx.scalars(sa.select(recordings.c.id).where(recordings.c.id.in_(touched), empty)))
        tx.execute(sa.delete(work_items).where(work_items.c.recording_id.in_(emptied)))
        tx.execute(sa.delete(recordings).where(recordings.c.id.in_(emptied)))
