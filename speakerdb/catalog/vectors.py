"""Rows of embeddings, and the projections that say which documents an index should hold.

`projections.version` is the document's external version: `max(old + 1, now in microseconds)`. It never goes back. Whoever
wants a document written again raises it; acknowledgements only ever raise `indexed_version`, and write the digest of the
document that they are about beside it, so that SQL can sum what it believes an index to hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import sqlalchemy as sa

from speakerdb.catalog.database import Row, Transaction, cleaned, parts, replacing, upsert
from speakerdb.catalog.schema import (
    Text,
    embeddings,
    generations,
    profiles,
    projections,
    recordings,
    speakers,
    work_items,
)
from speakerdb.core.digests import bucket_of
from speakerdb.core.pooling import content_hash
from speakerdb.core.turns import AWAITED
from speakerdb.types import Document, Embedding, FloatArray, Kind, Unembeddable

_KINDS = {kind.value: kind for kind in Kind}
_version = projections.c.version
_bumped = sa.case((_version + 1 > sa.bindparam("now"), _version + 1), else_=sa.bindparam("now"))


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingRow:
    """What a generation knows of one speaker or profile."""

    entity_id: str
    kind: Kind
    result: Embedding | Unembeddable
    recipe: str
    content_version: int


_REPLACED = ("kind", "vector", "reason", "seconds", "segments", "resultant", "agreement", "recipe",
             "content_version", "created_at")  # fmt: skip


@lru_cache
def _write_projection(dialect: str) -> sa.Insert:
    statement = upsert(dialect, projections)
    old, new = projections.c.version, statement.excluded.version
    return statement.on_conflict_do_update(  # type: ignore[no-any-return]
        index_elements=["generation", "entity_id"],
        set_={
            "version": sa.case((old + 1 > new, old + 1), else_=new),
            "deleted": sa.false(),
            "library_id": statement.excluded.library_id,
            "bucket": statement.excluded.bucket,
            "rejected_version": None,
            "rejection": None,
        },
    )


_raise = sa.update(projections).values(version=_bumped)
_raise_entities = _raise.where(projections.c.entity_id.in_(sa.bindparam("ids", expanding=True)))
_raise_in = _raise_entities.where(projections.c.generation == sa.bindparam("in_generation"))


def write_embeddings(
    tx: Transaction, generation: str, rows: Sequence[EmbeddingRow], libraries: Mapping[str, str], now: int
) -> None:
    """Store embeddings and raise their projections. `libraries` gives each entity's library id.

    An unembeddable entity gets no document of its own; where one exists it becomes a tombstone.
    """
    if not rows:
        return
    dialect = tx.dialect.name
    store(tx, generation, rows, now)
    with_vector = [row for row in rows if isinstance(row.result, Embedding)]
    without = [row.entity_id for row in rows if isinstance(row.result, Unembeddable)]
    if with_vector:
        tx.execute(
            _write_projection(dialect),
            [
                {
                    "generation": generation,
                    "entity_id": row.entity_id,
                    "kind": row.kind.value,
                    "library_id": libraries[row.entity_id],
                    "version": now,
                    "bucket": bucket_of(row.entity_id),
                }
                for row in with_vector
            ],
        )
    if without:
        tx.execute(_raise_in, {"ids": without, "in_generation": generation, "now": now})


def store(tx: Transaction, generation: str, rows: Sequence[EmbeddingRow], now: int) -> None:
    """Store embeddings whose documents an index holds already: no version is raised."""
    if rows:
        tx.execute(
            replacing(tx.dialect.name, embeddings, *_REPLACED),
            [_embedding_values(generation, row, now) for row in rows],
        )


def raise_versions(tx: Transaction, entity_ids: Iterable[str], now: int) -> None:
    """Ask for these entities' documents to be written again, in every generation that has them."""
    for ids in parts(list(entity_ids)):
        tx.execute(_raise_entities, {"ids": ids, "now": now})


def raise_generation(tx: Transaction, generation: str, now: int) -> int:
    """Ask for every document of a generation to be written again; how many there are."""
    result = tx.execute(
        _raise.where(projections.c.generation == sa.bindparam("in_generation")),
        {"in_generation": generation, "now": now},
    )
    return result.rowcount


def mark_deleted(tx: Transaction, entity_ids: Sequence[str], now: int) -> None:
    """Forget these entities' vectors and turn their documents into tombstones, in every generation."""
    if not entity_ids:
        return
    tx.execute(sa.delete(embeddings).where(embeddings.c.entity_id.in_(entity_ids)))
    tx.execute(_raise_entities.values(deleted=sa.true(), version=_bumped), {"ids": list(entity_ids), "now": now})


def embeddings_of(tx: Transaction, generation: str, ids: Sequence[str]) -> dict[str, EmbeddingRow]:
    """What a generation knows of these entities."""
    return {
        row.entity_id: _embedding_row(row)
        for part in parts(ids)
        for row in tx.execute(_embeddings_of, {"in_generation": generation, "ids": part}).all()
    }


_embeddings_of = sa.select(embeddings).where(
    embeddings.c.generation == sa.bindparam("in_generation"),
    embeddings.c.entity_id.in_(sa.bindparam("ids", expanding=True)),
)


def embeddings_known(tx: Transaction, generation: str, ids: Sequence[str]) -> set[str]:
    """Those of the entities on which a generation has a word: a vector, or a reason why there is none."""
    query = sa.select(embeddings.c.entity_id).where(embeddings.c.generation == generation)
    return {id for part in parts(ids) for id in tx.scalars(query.where(embeddings.c.entity_id.in_(part)))}


_speech_behind = sa.select(embeddings.c.entity_id, embeddings.c.seconds).where(
    embeddings.c.generation == sa.bindparam("in_generation"),
    embeddings.c.entity_id.in_(sa.bindparam("ids", expanding=True)),
    embeddings.c.reason.is_(None),
)


def speech_behind(tx: Transaction, generation: str, ids: Sequence[str]) -> dict[str, float]:
    """Those of the entities that have a vector in a generation, with the seconds of speech it was pooled from."""
    return {
        row.entity_id: row.seconds
        for part in parts(ids)
        for row in tx.execute(_speech_behind, {"in_generation": generation, "ids": part}).all()
    }


def member_embeddings(tx: Transaction, generation: str, profile: str) -> list[Embedding]:
    """The embeddings of a profile's members in a generation, in the order of their ids; none of an older content."""
    rows = tx.execute(
        sa.select(embeddings)
        .join(speakers, speakers.c.id == embeddings.c.entity_id)
        .join(recordings, recordings.c.id == speakers.c.recording_id)
        .where(speakers.c.profile_id == profile, embeddings.c.generation == generation)
        .where(embeddings.c.vector.is_not(None), embeddings.c.content_version == recordings.c.content_version)
        .order_by(embeddings.c.entity_id)
    )
    found = (_embedding_row(row).result for row in rows)
    return [one for one in found if isinstance(one, Embedding)]


# What an index should hold. One query says it, for all who ask; `document_of` reads its columns.

expected = (
    sa.select(
        projections.c.entity_id,
        projections.c.kind,
        projections.c.version,
        projections.c.library_id,
        projections.c.deleted,
        embeddings.c.vector,
        speakers.c.id.label("speaker"),
        speakers.c.recording_id,
        speakers.c.profile_id,
        profiles.c.id.label("profile"),
    )
    .select_from(projections)
    .outerjoin(
        embeddings,
        sa.and_(embeddings.c.generation == projections.c.generation, embeddings.c.entity_id == projections.c.entity_id),
    )
    .outerjoin(speakers, sa.and_(projections.c.kind == "speaker", speakers.c.id == projections.c.entity_id))
    .outerjoin(
        profiles,
        sa.and_(
            projections.c.kind == "profile",
            profiles.c.id == projections.c.entity_id,
            profiles.c.merged_into.is_(None),
        ),
    )
    .where(projections.c.generation == sa.bindparam("in_generation"))
    .order_by(projections.c.entity_id)
)
_sendable = sa.or_(projections.c.rejected_version.is_(None), projections.c.rejected_version < projections.c.version)
_waiting = expected.where(projections.c.version > projections.c.indexed_version, _sendable).limit(
    sa.bindparam("row_limit")
)


def expected_documents(tx: Transaction, generation: str) -> Iterator[Document]:
    """Every document that the generation's index should hold, tombstones too, by ascending id, streamed."""
    result = tx.execute(expected.execution_options(yield_per=2000), {"in_generation": generation})
    return (document_of(row) for row in result)


def expected_by_id(tx: Transaction, generation: str, ids: Sequence[str]) -> list[Document]:
    """The documents of these entities, as the index should hold them."""
    query = expected.where(projections.c.entity_id.in_(ids))
    return [document_of(row) for row in tx.execute(query, {"in_generation": generation})]


def changed_since(tx: Transaction, generation: str, watermark: int) -> list[Document]:
    """The documents whose version was raised above a watermark."""
    query = expected.where(projections.c.version > watermark)
    return [document_of(row) for row in tx.execute(query, {"in_generation": generation})]


def count(tx: Transaction, generation: str) -> int:
    """How many documents a generation's index should hold, tombstones too."""
    return tx.scalar(sa.select(sa.func.count()).where(projections.c.generation == generation)) or 0


def has_version_from(tx: Transaction, generation: str, version: int) -> bool:
    """Whether a generation has a document of this version or a higher one."""
    query = sa.select(projections.c.entity_id).where(projections.c.generation == generation, _version >= version)
    return tx.scalar(query.limit(1)) is not None


def newest_version(tx: Transaction, generation: str) -> int:
    """The highest version of a generation's documents; 0 where there are none."""
    return tx.scalar(sa.select(sa.func.max(projections.c.version)).where(projections.c.generation == generation)) or 0


def waiting_documents(tx: Transaction, generation: str, limit: int) -> list[Document]:
    """Documents whose index copy is behind, vector and version from one SELECT."""
    return [document_of(row) for row in tx.execute(_waiting, {"in_generation": generation, "row_limit": limit}).all()]


def waiting_count(tx: Transaction, generation: str) -> int:
    """How many documents are behind (rejected ones too)."""
    query = sa.select(sa.func.count()).where(
        projections.c.generation == generation, projections.c.version > projections.c.indexed_version
    )
    return tx.scalar(query) or 0


def sample_ids(tx: Transaction, generation: str, count: int) -> list[str]:
    """Ids of indexed live documents, spread at random."""
    query = (
        sa.select(projections.c.entity_id)
        .where(projections.c.generation == generation, projections.c.deleted.is_(False))
        .where(projections.c.indexed_version == projections.c.version)
        .order_by(sa.func.random())
        .limit(count)
    )
    return list(tx.scalars(query))


@lru_cache
def _acknowledge(dialect: str) -> sa.Update:
    """One statement for all on PostgreSQL, where each costs a journey; one for each on SQLite."""
    id: sa.ColumnElement[str] = sa.bindparam("id")
    written: sa.ColumnElement[int] = sa.bindparam("written")
    digest: sa.ColumnElement[int] = sa.bindparam("digest")
    if dialect != "sqlite":
        id, written, digest = arrays(("id", Text), ("written", sa.BigInteger), ("digest", sa.BigInteger))
    return (
        sa.update(projections)
        .where(projections.c.generation == sa.bindparam("in_generation"), projections.c.entity_id == id)
        .where(projections.c.indexed_version < written)
        .values(indexed_version=written, indexed_digest=digest)
    )


def arrays(*columns: tuple[str, Any]) -> list[Any]:
    """Columns of a table whose rows are given as one array a column, each by the column's name."""
    given = [sa.bindparam(name, type_=sa.ARRAY(kind), unique=False) for name, kind in columns]
    rows = sa.func.unnest(*given).table_valued(*(sa.column(name, kind) for name, kind in columns), name="given")
    return list(rows.render_derived().c)


def each(
    tx: Transaction, statement: sa.Update, common: dict[str, object], rows: Sequence[Mapping[str, object]]
) -> None:
    """Carry out for each row a statement that was made for `arrays` where there are any."""
    for part in parts(rows):
        if tx.dialect.name == "sqlite":
            tx.execute(statement, [common | dict(row) for row in part])
        elif part:
            tx.execute(statement, common | {name: [row[name] for row in part] for name in part[0]})


_overtake = (
    sa.update(projections)
    .where(projections.c.generation == sa.bindparam("in_generation"), projections.c.entity_id == sa.bindparam("id"))
    .where(_version == sa.bindparam("was"))
    .values(version=sa.bindparam("above"))
)
_reject = (
    sa.update(projections)
    .where(projections.c.generation == sa.bindparam("in_generation"), projections.c.entity_id == sa.bindparam("id"))
    .where(_version == sa.bindparam("was"))
    .values(rejected_version=sa.bindparam("was"), rejection=sa.bindparam("why"))
)


def acknowledge(tx: Transaction, generation: str, written: Sequence[tuple[str, int, int]]) -> None:
    """The index holds these documents: id, version, digest (`core.digests`). A late acknowledgement lowers nothing."""
    rows = [{"id": id, "written": version, "digest": digest} for id, version, digest in written]
    each(tx, _acknowledge(tx.dialect.name), {"in_generation": generation}, rows)


def acknowledge_up_to(tx: Transaction, generation: str, mark: int) -> None:
    """The index was proven to hold every document of a generation whose version is not above `mark`: also those that the one
    before it had refused, which may have been another's that somebody let the write alias name. Their digests are not at
    hand; the next repair learns them."""
    tx.execute(
        sa.update(projections)
        .where(projections.c.generation == generation, _version <= mark, _version > projections.c.indexed_version)
        .values(indexed_version=_version, indexed_digest=None, rejected_version=None, rejection=None)
    )


def overtake(tx: Transaction, generation: str, ahead: Sequence[tuple[str, int, int]], now: int) -> int:
    """Raise versions above what the index already holds, or above themselves: (id, version that was read, version to be
    above of); how many. Whoever raised one meanwhile wins. They are told by their time as all changes are."""
    if not ahead:
        return 0
    rows = [{"in_generation": generation, "id": i, "was": was, "above": max(held + 1, now)} for i, was, held in ahead]
    return tx.execute(_overtake, rows).rowcount


def reject(tx: Transaction, generation: str, refused: Sequence[tuple[str, int, str]]) -> None:
    """The index refused these documents: (id, version, why)."""
    if refused:
        tx.execute(
            _reject,
            [{"in_generation": generation, "id": i, "was": was, "why": cleaned(why)} for i, was, why in refused],
        )


def uncovered(tx: Transaction, generation: str) -> tuple[int, list[str]]:
    """Speakers that the generation should know and does not, nor is it waived: how many, and a sample of ids.

    An embedding of an older content of the recording does not count; nor does a recording whose sound is another one now, and
    whose turns are yet to be found: nobody knows who talks in it, in any generation.
    """
    query = (
        sa.select(speakers.c.id)
        .join(recordings, recordings.c.id == speakers.c.recording_id)
        .outerjoin(embeddings, sa.and_(embeddings.c.entity_id == speakers.c.id, embeddings.c.generation == generation))
        .outerjoin(
            work_items,
            sa.and_(work_items.c.recording_id == recordings.c.id, work_items.c.generation == generation),
        )
        .where(sa.or_(embeddings.c.entity_id.is_(None), embeddings.c.content_version != recordings.c.content_version))
        .where(sa.or_(work_items.c.state.is_(None), work_items.c.state != "waived"))
        .where(recordings.c.turns_digest != AWAITED)
    )
    count = tx.scalar(sa.select(sa.func.count()).select_from(query.subquery())) or 0
    return count, list(tx.scalars(query.limit(10))) if count else []


def lacking(tx: Transaction, generation: str) -> int:
    """Speakers that have a vector in some generation but no current word in this one: the lag of a source."""
    # A recording that is extracted as it is now lacks nothing: few are left to look into.
    extracted = sa.select(work_items.c.id).where(
        work_items.c.recording_id == recordings.c.id,
        work_items.c.generation == generation,
        work_items.c.state == "done",
        work_items.c.done_version == recordings.c.content_version,
    )
    behind = sa.select(recordings.c.id).where(~extracted.exists())
    here = (
        sa.select(embeddings.c.entity_id)
        .join(recordings, recordings.c.content_version == embeddings.c.content_version)
        .where(embeddings.c.generation == generation, embeddings.c.entity_id == speakers.c.id)
        .where(recordings.c.id == speakers.c.recording_id)
        .correlate(speakers)
    )
    known = sa.select(embeddings.c.entity_id).where(
        embeddings.c.entity_id == speakers.c.id, embeddings.c.kind == "speaker", embeddings.c.vector.is_not(None)
    )
    query = sa.select(sa.func.count()).where(speakers.c.recording_id.in_(behind), ~here.exists(), known.exists())
    return tx.scalar(query) or 0


def purge(tx: Transaction, generation: str) -> None:
    """Forget every vector of a generation, and with them which checkpoint made them."""
    tx.execute(sa.update(generations).where(generations.c.name == generation).values(checksum=None))
    tx.execute(sa.delete(embeddings).where(embeddings.c.generation == generation))
    tx.execute(sa.delete(projections).where(projections.c.generation == generation))
    tx.execute(sa.delete(work_items).where(work_items.c.generation == generation))


def document_of(row: Any) -> Document:
    """A row of `expected`, in the order of its columns."""
    id, kind_value, version, home, deleted, blob, speaker, recording, member_of, person = row
    kind = _KINDS[kind_value]
    alive = not deleted and blob is not None
    if kind is Kind.SPEAKER:
        alive, profile = alive and speaker is not None, member_of
    else:
        alive, recording, profile = alive and person is not None, None, id
    if not alive:
        return tombstone(id, version, kind, home)
    vector = _stored(blob)
    hashed = content_hash(vector, kind_value, home, recording, profile)
    return Document(id, version, hashed, kind, home, recording, profile, vector)


def _stored(blob: bytes) -> FloatArray:
    """A vector as it was stored. Bytes that were harmed and are no numbers any more are a vector of none, which every index
    refuses and says so: one row of a million must not stop the others."""
    return np.frombuffer(blob if len(blob) % 4 == 0 else b"", dtype="<f4")


def tombstone(id: str, version: int, kind: Kind, home: str) -> Document:
    """The document of something that has no vector any more."""
    return Document(id, version, content_hash(None, kind.value, home, None, None), kind, home, None, None, None)


def _embedding_row(row: Row) -> EmbeddingRow:
    result: Embedding | Unembeddable
    if row.vector is None:
        result = Unembeddable(row.reason, row.seconds)
    else:
        result = Embedding(_stored(row.vector), row.seconds, row.segments, row.resultant, row.agreement)
    return EmbeddingRow(row.entity_id, Kind(row.kind), result, row.recipe, row.content_version)


def _embedding_values(generation: str, row: EmbeddingRow, now: int) -> dict[str, object]:
    known = row.result if isinstance(row.result, Embedding) else None
    return {
        "generation": generation,
        "entity_id": row.entity_id,
        "kind": row.kind.value,
        "vector": None if known is None else known.vector.astype("<f4", copy=False).tobytes(),
        "reason": row.result.reason if isinstance(row.result, Unembeddable) else None,
        "seconds": row.result.seconds,
        "segments": 0 if known is None else known.segments,
        "resultant": None if known is None else known.resultant,
        "agreement": None if known is None else known.agreement,
        "recipe": row.recipe,
        "content_version": row.content_version,
        "created_at": now,
    }


def anything_indexed(tx: Transaction) -> bool:
    """Whether SQL believes that some index holds something."""
    return tx.scalar(sa.select(projections.c.entity_id).where(projections.c.indexed_version > 0).limit(1)) is not None
