"""Rows as a repair reads and mends them. Every change is conditional on what was read: it loses to whoever came first."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import sqlalchemy as sa

from speakerdb.catalog import people, vectors, work
from speakerdb.catalog.database import Transaction, can_hold, cleaned, parts, upsert
from speakerdb.catalog.schema import Text, embeddings, profiles, projections, recordings, speakers, turns, work_items
from speakerdb.catalog.vectors import EmbeddingRow, arrays
from speakerdb.core.digests import bucket_of, digest_of
from speakerdb.core.drift import Believed, Drift, Finding, Mend, Stated, Sums, is_sound
from speakerdb.core.reconcile import compare
from speakerdb.core.turns import AWAITED
from speakerdb.types import Document, Embedding, Kind

RECOVERED = "recovered"
"""The recipe that a vector bears which was taken back from an index: the statistics it was pooled from are gone with it."""
_WIDTH = len(vectors.expected.selected_columns)

# What SQL believes

_sums = (
    sa.select(
        projections.c.bucket,
        sa.func.count(),
        sa.func.sum(sa.case((projections.c.indexed_version > 0, 1), else_=0)),
        sa.func.sum(projections.c.indexed_digest),
        sa.func.sum(
            sa.case(((projections.c.indexed_version > 0) & projections.c.indexed_digest.is_(None), 1), else_=0)
        ),
        sa.func.sum(sa.case((projections.c.deleted, 0), else_=1)),
        sa.func.max(projections.c.version),
        sa.func.sum(sa.case((projections.c.version > projections.c.indexed_version, 1), else_=0)),
    )
    .where(projections.c.generation == sa.bindparam("in_generation"))
    .group_by(projections.c.bucket)
)


def sums(tx: Transaction, generation: str) -> Sums:
    """One walk over a generation's rows: counts and sums of digests by bucket, and what else a plan must know."""
    documents: dict[int, int] = {}
    digests: dict[int, int] = {}
    unknown = rows = live = newest = waiting = 0
    unplaced = False
    for bucket, count, indexed, digest, without, alive, highest, behind in tx.execute(
        _sums, {"in_generation": generation}
    ):
        rows, live, newest, waiting = rows + count, live + int(alive), max(newest, highest), waiting + int(behind)
        if bucket is None:
            unplaced = unplaced or indexed > 0
            unknown += int(indexed)
        elif indexed:
            documents[bucket], digests[bucket] = int(indexed), int(digest or 0)
            unknown += int(without)
    return Sums(documents, digests, unknown, unplaced, rows, live, newest, waiting)


_stated = vectors.expected.add_columns(
    projections.c.indexed_version,
    projections.c.rejected_version,
    projections.c.rejection,
    projections.c.bucket,
    projections.c.indexed_digest,
    embeddings.c.entity_id.label("known"),
)
_after = _stated.where(projections.c.entity_id > sa.bindparam("after"))
_STREAMED, _MARKS = 2000, 4000
_by_id = _stated.where(projections.c.entity_id.in_(sa.bindparam("ids", expanding=True)))


def stated(
    tx: Transaction,
    generation: str,
    dimension: int,
    *,
    after: str = "",
    until: str | None = None,
    buckets: Collection[int] | None = None,
) -> Iterator[Stated]:
    """Rows by ascending id, streamed: one query, because a server would join whole tables again for each page of many."""
    query = _after
    if until is not None:
        query = query.where(projections.c.entity_id <= until)
    if buckets is not None:
        query = query.where(projections.c.bucket.in_(sorted(buckets)))
    rows = tx.execute(query.execution_options(yield_per=_STREAMED), {"in_generation": generation, "after": after})
    return (_read(row, dimension) for row in rows)


_believed = sa.select(
    projections.c.entity_id,
    projections.c.version,
    projections.c.indexed_version,
    projections.c.indexed_digest,
    projections.c.deleted,
).where(projections.c.generation == sa.bindparam("in_generation"))


def believed(tx: Transaction, generation: str, *, buckets: Collection[int] | None = None) -> Iterator[Believed]:
    """What SQL believes of each document by ascending id, streamed; no vector is read."""
    query = _believed
    if buckets is not None:
        query = query.where(projections.c.bucket.in_(sorted(buckets)))
    query = query.order_by(projections.c.entity_id).execution_options(yield_per=_MARKS)
    for part in tx.execute(query, {"in_generation": generation}).partitions():
        yield from map(Believed._make, part)


def stated_by_id(tx: Transaction, generation: str, dimension: int, ids: Sequence[str]) -> dict[str, Stated]:
    """Rows by id."""
    return {
        row[0]: _read(row, dimension)
        for part in parts([id for id in ids if can_hold(id)])
        for row in tx.execute(_by_id, {"in_generation": generation, "ids": part})
    }


def _read(row: Any, dimension: int) -> Stated:
    expected = list(row[:_WIDTH])
    blob, speaker, person = expected[5], expected[6], expected[9]
    version, (indexed, rejected, rejection, bucket, digest, known) = expected[2], row[_WIDTH:]
    sound = blob is None or (len(blob) == 4 * dimension and is_sound(np.frombuffer(blob, "<f4"), dimension))
    if not sound:
        expected[5] = None
    return Stated(
        vectors.document_of(expected),
        indexed,
        bool(expected[4]),
        (rejection or "refused") if rejected == version else None,
        (speaker if expected[1] == Kind.SPEAKER.value else person) is not None,
        known is not None,
        sound,
        bucket,
        digest,
    )


def share_end(tx: Transaction, generation: str, after: str, rows: int) -> str | None:
    """The id that so many rows end at; None where no more than those are left."""
    query = (
        sa.select(projections.c.entity_id)
        .where(projections.c.generation == generation, projections.c.entity_id > after)
        .order_by(projections.c.entity_id)
        .offset(rows - 1)
        .limit(2)
    )
    found = list(tx.scalars(query))
    return found[0] if len(found) == 2 else None


def rejected(tx: Transaction, generation: str, limit: int) -> list[str]:
    """Rows whose very version the index refuses."""
    query = sa.select(projections.c.entity_id).where(
        projections.c.generation == generation,
        projections.c.version > projections.c.indexed_version,
        projections.c.rejected_version == projections.c.version,
    )
    return list(tx.scalars(query.order_by(projections.c.entity_id).limit(limit)))


# Mending

_now = sa.bindparam("now", type_=sa.BigInteger)
_entity = sa.bindparam("id", type_=Text)
_was = sa.bindparam("was", type_=sa.BigInteger)
_this = (projections.c.generation == sa.bindparam("in_generation")) & (projections.c.entity_id == _entity)


@lru_cache
def _insert(dialect: str) -> sa.Insert:
    statement: sa.Insert = upsert(dialect, projections).on_conflict_do_nothing()
    return statement


def bury(tx: Transaction, generation: str, found: Sequence[Finding], now: int) -> int:
    """Let these documents become tombstones: those without a row get one that says so, those that nothing stands behind
    are marked as deleted; how many. A row, a speaker or a profile that has come meanwhile wins."""
    buried = _insert_rows(tx, generation, [one for one in found if one.stated is None], now, adopted=None)
    for one in found:
        if one.stated is not None:
            above = max(one.stated, one.held or 0) + 1
            buried += tx.execute(
                _unfounded,
                {
                    "in_generation": generation,
                    "id": one.id,
                    "was": one.stated,
                    "above": max(above, now),
                },
            ).rowcount
    return buried


_unfounded = (
    sa.update(projections)
    .where(_this, projections.c.version == _was, projections.c.deleted.is_(False))
    .where(~sa.select(speakers.c.id).where(speakers.c.id == _entity).exists())
    .where(~sa.select(profiles.c.id).where(profiles.c.id == _entity, profiles.c.merged_into.is_(None)).exists())
    .values(version=sa.bindparam("above", type_=sa.BigInteger), deleted=sa.true())
)


def adopt(tx: Transaction, generation: str, found: Mapping[str, Document], now: int) -> int:
    """Give tombstones of the index the rows that they lack: they are kept until they are old. One that is not as a tombstone
    should be is written again."""
    given = [Finding(d.id, Drift.TOMBSTONE, Mend.ADOPT, None, d.version, d.kind, d.library_id) for d in found.values()]
    return _insert_rows(tx, generation, given, now, adopted=found)


def _insert_rows(
    tx: Transaction,
    generation: str,
    found: Sequence[Finding],
    now: int,
    *,
    adopted: Mapping[str, Document] | None,
) -> int:
    rows = []
    for one in found:
        held, home = one.held or 0, cleaned(one.library)
        indexed: dict[str, object] = {"version": max(held + 1, now), "indexed_version": 0, "indexed_digest": None}
        if adopted is not None:
            tombstone = vectors.tombstone(one.id, held, one.kind, home)
            if compare(tombstone, adopted[one.id]) is None:
                digest = digest_of(one.id, held, tombstone.content_hash)
                indexed = {"version": held, "indexed_version": held, "indexed_digest": digest}
        rows.append(
            {"generation": generation, "entity_id": one.id, "kind": one.kind.value, "deleted": True,
             "library_id": home, "bucket": bucket_of(one.id)} | indexed
        )  # fmt: skip
    inserted = 0
    for part in parts(rows, 1000):
        known = known_rows(tx, generation, [str(row["entity_id"]) for row in part])
        fresh = [row for row in part if row["entity_id"] not in known]
        if fresh:
            tx.execute(_insert(tx.dialect.name), fresh)
        inserted += len(fresh)
    return inserted


_forget = (
    sa.delete(projections)
    .where(_this, projections.c.version == _was, projections.c.indexed_version == _was)
    .where(projections.c.deleted)
)


def forget(tx: Transaction, generation: str, found: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Delete the rows of tombstones (id, version) that the index has, if they still are; which. The tombstones themselves go
    after them."""
    return [
        (id, was)
        for id, was in found
        if tx.execute(_forget, {"in_generation": generation, "id": id, "was": was}).rowcount
    ]


def known_rows(tx: Transaction, generation: str, ids: Sequence[str]) -> set[str]:
    """Those of the ids that SQL has a row for."""
    query = sa.select(projections.c.entity_id).where(projections.c.generation == generation)
    storable = [id for id in ids if can_hold(id)]
    return {id for part in parts(storable) for id in tx.scalars(query.where(projections.c.entity_id.in_(part)))}


@lru_cache
def _learn(dialect: str) -> sa.Update:
    columns: list[Any] = [sa.bindparam(name) for name in ("id", "was", "bucket", "digest")]
    if dialect != "sqlite":
        kinds = (("id", Text), ("was", sa.BigInteger), ("bucket", sa.SmallInteger), ("digest", sa.BigInteger))
        columns = arrays(*kinds)
    return (
        sa.update(projections)
        .where(projections.c.generation == sa.bindparam("in_generation"), projections.c.entity_id == columns[0])
        .where(projections.c.version == columns[1], projections.c.indexed_version == columns[1])
        .values(bucket=columns[2], indexed_digest=columns[3])
    )


def learn(tx: Transaction, generation: str, known: Sequence[tuple[str, int, int, int]]) -> None:
    """Remember of documents that were found equal: id, version, bucket, digest."""
    rows = [dict(zip(("id", "was", "bucket", "digest"), one, strict=True)) for one in known]
    vectors.each(tx, _learn(tx.dialect.name), {"in_generation": generation}, rows)


# What SQL itself lacks

_finished = sa.and_(
    work_items.c.recording_id == recordings.c.id,
    work_items.c.generation == sa.bindparam("in_generation"),
    work_items.c.state == "done",
    work_items.c.done_version == recordings.c.content_version,
)
_without = (
    sa.select(speakers.c.id, recordings.c.library_id)
    .join(recordings, recordings.c.id == speakers.c.recording_id)
    .join(work_items, _finished)
    .where(
        ~sa.select(embeddings.c.entity_id)
        .where(embeddings.c.generation == sa.bindparam("in_generation"), embeddings.c.entity_id == speakers.c.id)
        .exists()
    )
    .where(speakers.c.id > sa.bindparam("after"))
    .order_by(speakers.c.id)
    .limit(sa.bindparam("row_limit"))
)
_unqueued = (
    sa.select(recordings.c.id, recordings.c.library_id)
    .where(
        ~sa.select(work_items.c.id)
        .where(work_items.c.recording_id == recordings.c.id, work_items.c.generation == sa.bindparam("in_generation"))
        .exists()
    )
    .where(sa.select(turns.c.recording_id).where(turns.c.recording_id == recordings.c.id).exists())
    .where(recordings.c.turns_digest != AWAITED)
    .where(recordings.c.id > sa.bindparam("after"))
    .order_by(recordings.c.id)
    .limit(sa.bindparam("row_limit"))
)


def without_embedding(tx: Transaction, generation: str, after: str, limit: int) -> dict[str, str]:
    """Speakers of recordings that are done as they are now, of whom the generation has not a word, and their libraries."""
    rows = tx.execute(_without, {"in_generation": generation, "after": after, "row_limit": limit})
    return {row.id: row.library_id for row in rows}


def without_item(tx: Transaction, generation: str, after: str, limit: int) -> dict[str, str]:
    """Recordings with turns that nobody ever queued for the generation, and their libraries."""
    rows = tx.execute(_unqueued, {"in_generation": generation, "after": after, "row_limit": limit})
    return {row.id: row.library_id for row in rows}


def recover(tx: Transaction, generation: str, recovered: Mapping[str, Document], budget: float, now: int) -> int:
    """Store vectors again that an index had; how many. The caller has compared them with the rows of this transaction.

    What is known only of the sound (seconds, segments, agreement) is not known any more: the seconds are those of the
    speaker's turns, up to the recipe's budget.
    """
    query = (
        sa.select(speakers.c.id, speakers.c.speech_seconds, speakers.c.profile_id, recordings.c.content_version)
        .join(recordings, recordings.c.id == speakers.c.recording_id)
        .join(work_items, _finished)
        .where(speakers.c.id.in_(sa.bindparam("ids", expanding=True)))
    )
    rows, dirty = [], set()
    for part in parts(list(recovered)):
        for row in tx.execute(query, {"in_generation": generation, "ids": part}):
            vector = recovered[row.id].vector
            assert vector is not None
            seconds = min(row.speech_seconds, budget)
            # As one segment that agrees with itself it keeps its weight where it is pooled with others.
            known = Embedding(vector, seconds, 1, 1.0, None)
            rows.append(EmbeddingRow(row.id, Kind.SPEAKER, known, RECOVERED, row.content_version))
            if row.profile_id is not None:
                dirty.add(row.profile_id)
    vectors.store(tx, generation, rows, now)
    people.mark_dirty(tx, sorted(dirty), now)
    return len(rows)


def extract_again(tx: Transaction, generation: str, found: Sequence[Finding], now: int) -> int:
    """Queue recordings, and let profiles be pooled again; how many. What is queued, or was given up, stays as it is; and what
    waits for its turns, which are not those of the sound that it has now."""
    persons = [one.id for one in found if one.kind is Kind.PROFILE]
    people.mark_dirty(tx, persons, now)
    ids = [one.id for one in found if one.kind is Kind.SPEAKER]
    wanted: set[str] = set()
    heard = sa.select(recordings.c.id).where(recordings.c.turns_digest != AWAITED)
    for part in parts(ids):
        of_speakers = sa.select(speakers.c.recording_id).where(speakers.c.id.in_(part))
        wanted.update(tx.scalars(heard.where(recordings.c.id.in_(part) | recordings.c.id.in_(of_speakers))))
    queued = 0
    for part in parts(sorted(wanted)):
        open_items = sa.select(work_items.c.recording_id).where(
            work_items.c.generation == generation,
            work_items.c.recording_id.in_(part),
            work_items.c.state != "done",
        )
        for recording in sorted(set(part) - set(tx.scalars(open_items))):
            work.enqueue(tx, recording, [generation], "repair", now)
            queued += 1
    return queued + len(persons)
