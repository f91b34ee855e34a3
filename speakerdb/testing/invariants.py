"""What must be true of a library at every moment, whatever crashed, was lost or came late.

`check` looks at one moment; a `Monitor` remembers what it saw and also notices what went back, vanished or was swapped in
before it was complete. SQL and index are read from the tables and the port; what an index should hold is worked out here
once more, without the product's own queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import sqlalchemy as sa

from speakerdb.catalog import schema
from speakerdb.catalog.database import Row, Transaction
from speakerdb.core.turns import AWAITED, NOBODY
from speakerdb.errors import IndexMissing
from speakerdb.index.port import VectorIndex
from speakerdb.service import SpeakerDB
from speakerdb.testing.faults import FaultyIndex
from speakerdb.types import SERVING_ALIAS, Document, FloatArray, Generation

K = TypeVar("K")
NORM_TOLERANCE = 1e-3
Key = tuple[str, str]
"""A generation and an entity."""


@dataclass(frozen=True)
class View:
    """All of SQL and of the live generations' indices, the indices read first: a document can then never be newer."""

    aliases: Mapping[str, tuple[str, ...]]
    documents: Mapping[str, Mapping[str, Document]]
    """By generation and id; generations whose index is absent are left out."""
    generations: Mapping[str, Generation]
    live: tuple[str, ...]
    recordings: Mapping[str, Row]
    speakers: Mapping[str, Row]
    profiles: Mapping[str, Row]
    embeddings: Mapping[Key, Row]
    projections: Mapping[Key, Row]
    items: Mapping[Key, Row]
    """By generation and recording."""
    migrations: tuple[Row, ...]
    leases: Mapping[str, Row]

    def concrete(self, name: str) -> str:
        """The concrete index of a generation: the one its write alias names, else the one that would be made for it."""
        generation = self.generations[name]
        return (self.aliases.get(generation.write_alias) or (generation.index_name,))[0]

    @property
    def active(self) -> Row | None:
        """The migration that is not at its end. More than one is an error."""
        found = [row for row in self.migrations if row.state not in schema.ENDED_STATES]
        assert len(found) <= 1, f"{len(found)} migrations are active: {found}"
        return found[0] if found else None


def look(db: SpeakerDB) -> View:
    """The state of a library, read past any faulty wrapper."""
    index = unwrapped(db.index)
    aliases = index.aliases()
    documents = {}
    for name, generation in db.generations.items():
        with suppress(IndexMissing):
            concrete = (aliases.get(generation.write_alias) or (generation.index_name,))[0]
            documents[name] = {document.id: document for document in index.scan(concrete)}
    with db.catalog.read() as tx:
        return View(
            aliases=aliases,
            documents=documents,
            generations=db.generations,
            live=tuple(tx.scalars(sa.select(schema.generations.c.name).where(schema.generations.c.live))),
            recordings={row.id: row for row in _rows(tx, schema.recordings)},
            speakers={row.id: row for row in _rows(tx, schema.speakers)},
            profiles={row.id: row for row in _rows(tx, schema.profiles)},
            embeddings={(row.generation, row.entity_id): row for row in _rows(tx, schema.embeddings)},
            projections={(row.generation, row.entity_id): row for row in _rows(tx, schema.projections)},
            items={(row.generation, row.recording_id): row for row in _rows(tx, schema.work_items)},
            migrations=tuple(_rows(tx, schema.migrations.select().order_by(schema.migrations.c.id))),
            leases={row.name: row for row in _rows(tx, schema.leases)},
        )


def unwrapped(index: VectorIndex) -> VectorIndex:
    """The index itself, without the faults around it."""
    while isinstance(index, FaultyIndex):
        index = index.inner
    return index


def check(db: SpeakerDB) -> View:
    """Assert every invariant that one moment can show; what was seen."""
    view = look(db)
    one_alias_target(view)
    live_generations(view)
    stored_vectors(view)
    versions(view)
    indexed_documents(view)
    nothing_resurrected(view)
    no_forgotten_work(view)
    return view


def one_alias_target(view: View) -> None:
    """The alias has exactly one target, and it is the one that SQL's state allows."""
    targets = view.aliases.get(SERVING_ALIAS, ())
    assert len(targets) == 1, f"the alias names {targets}"
    active = view.active
    if active is not None:
        source, target = (view.concrete(name) for name in (active.source, active.target))
        allowed = {"running": {source}, "finalized": {target}}.get(active.state, {source, target})
        assert targets[0] in allowed, f"the alias names {targets[0]} while the migration is {active.state}"
    elif view.migrations:
        last = view.migrations[-1]
        serving = view.concrete(last.target if last.state == "retired" else last.source)
        assert targets[0] == serving, f"the alias names {targets[0]} after a migration that is {last.state}"


def live_generations(view: View) -> None:
    """Live are what serves and both ends of an active migration; each live one has its index and its write alias."""
    active = view.active
    if active is not None:
        assert set(view.live) == {active.source, active.target}, f"{view.live} are live in {active}"
    else:
        serving = view.aliases[SERVING_ALIAS][0]
        names = tuple(view.concrete(name) for name in view.live)
        assert names == (serving,), f"{view.live} are live, {serving} serves, and no migration is active"
    for name in view.live:
        generation = view.generations[name]
        assert name in view.documents, f"the index of the live generation {name} is gone"
        assert len(view.aliases.get(generation.write_alias, ())) == 1, f"write alias of {name}"


def stored_vectors(view: View) -> None:
    """Every stored vector is finite, of unit norm and of its generation's dimension, in SQL and in the index."""
    for (name, entity), row in view.embeddings.items():
        if row.vector is not None:
            _unit(np.frombuffer(row.vector, "<f4"), view.generations[name], entity)
    for name, documents in view.documents.items():
        for document in documents.values():
            if document.vector is not None:
                _unit(document.vector, view.generations[name], document.id)


def versions(view: View) -> None:
    """An indexed version is never above its SQL version, and no document is ahead of its row."""
    for (name, entity), row in view.projections.items():
        assert 0 <= row.indexed_version <= row.version, f"{entity} of {name}: {row}"
    for name in view.live:
        for document in view.documents[name].values():
            row_ = view.projections.get((name, document.id))
            if row_ is not None:
                assert document.version <= row_.version, f"{document.id} in the index of {name} is ahead of SQL"


def indexed_documents(view: View) -> None:
    """What SQL says is indexed is in the index as it should be: an acknowledged write is never lost."""
    for (name, entity), row in view.projections.items():
        if name not in view.live or row.indexed_version != row.version:
            continue
        have = view.documents[name].get(entity)
        want = _expected(view, name, entity)
        if want is None:
            assert have is None or have.deleted, f"{entity} should be a tombstone in the index of {name}"
            continue
        assert have is not None, f"{entity} is marked indexed, and the index of {name} does not have it"
        assert have.version == row.version, f"{entity} in {name}: version {have.version}, SQL has {row.version}"
        assert have.vector is not None, f"{entity} lives, and is a tombstone in the index of {name}"
        assert np.array_equal(have.vector, want), f"{entity} has another vector in the index of {name}"
        assert (have.kind.value, have.library_id) == (row.kind, row.library_id), f"filters of {entity} in {name}"
        speaker = view.speakers.get(entity)
        filters = (speaker.recording_id, speaker.profile_id) if speaker is not None else (None, entity)
        assert (have.recording_id, have.profile_id) == filters, f"filters of {entity} in {name}"


def nothing_resurrected(view: View) -> None:
    """Nothing deleted has a vector in SQL, and a live document of it waits to become a tombstone."""
    living = set(view.speakers) | {key for key, row in view.profiles.items() if row.merged_into is None}
    for name, entity in view.embeddings:
        assert entity in living, f"{entity} is gone and has an embedding in {name}"
    for name in view.live:
        for document in view.documents[name].values():
            row = view.projections.get((name, document.id))
            assert row is not None or document.deleted, f"{document.id} is in the index of {name}, and SQL has no row"
            if row is not None and not document.deleted and document.id not in living:
                assert row.version > row.indexed_version, f"{document.id} came back in {name}, and nothing waits"


def no_forgotten_work(view: View) -> None:
    """Every recording has its work item in every live generation; what is done is there for each of its speakers."""
    epoch = view.leases["work"].epoch if "work" in view.leases else 0
    for name in view.live:
        for recording, row in view.recordings.items():
            if row.turns_digest in (AWAITED, NOBODY):
                continue  # there is nothing to extract
            item = view.items.get((name, recording))
            assert item is not None, f"{recording} has no work item for the live generation {name}"
            assert item.state != "taken" or item.taken_epoch <= epoch, f"{item} was taken in an epoch to come"
            if item.state != "done":
                continue
            assert item.done_version == row.content_version, f"{recording} is done in {name} for other content: {item}"
            for speaker in view.speakers.values():
                if speaker.recording_id == recording:
                    known = view.embeddings.get((name, speaker.id))
                    assert known is not None, f"{recording} is done in {name}, and {speaker.id} is not there"
                    assert known.content_version == row.content_version, f"{speaker.id} in {name} is of other content"


def complete(view: View, name: str) -> None:
    """A generation is proven: each speaker embedded, unembeddable or waived, no item open, all of it in the index."""
    assert name in view.documents, f"{name} has no index"
    for speaker in view.speakers.values():
        item = view.items[name, speaker.recording_id]
        assert item.state in ("done", "waived"), f"the target is not complete: {item}"
        assert item.state != "waived" or item.waived_why, f"waived without a reason: {item}"
    for key, row in view.profiles.items():
        known = view.embeddings.get((name, key))
        if row.merged_into is None:
            assert known is not None, f"the profile {key} is not pooled in {name}"
            assert known.content_version == row.members_version, f"the profile {key} is dirty in {name}"
    for (generation, entity), row in view.projections.items():
        if generation == name:
            assert row.version == row.indexed_version, f"{entity} is not indexed in {name}"
    indexed_documents(view)


class Monitor:
    """Checks a library again and again, and remembers. One for all handles of a library.

    Call `check` whenever nobody is inside a transaction, `committed` after each commit and
    `called` after each call of any handle's index.
    """

    def __init__(self) -> None:
        self._sql: dict[Key, tuple[int, int, bool]] = {}
        self._indexed: dict[str, dict[str, tuple[int, bool]]] = {}
        self._content: dict[tuple[str, int], int] = {}
        self._members: dict[str, int] = {}
        self._epochs: dict[str, int] = {}
        self._states: dict[int, str] = {}
        self._announced: dict[int, dict[str, int]] = {}
        self._serving: str | None = None

    def called(self, db: SpeakerDB, call: str) -> None:
        """After a call of the index, before anything else happens: look at the alias, forget an index that is gone."""
        if call == "drop":
            held = unwrapped(db.index).aliases()
            for name, generation in db.generations.items():
                if generation.write_alias not in held:
                    self._indexed.pop(name, None)
        elif call == "update_aliases":
            self.alias_moved(db)

    def damaged(self, name: str) -> None:
        """Somebody changed the index of a generation past the product: what was seen of it is no promise any more."""
        self._indexed.pop(name, None)

    def alias_moved(self, db: SpeakerDB) -> None:
        """A swap happens only while it is announced, and what was proven then is still there."""
        now = unwrapped(db.index).aliases().get(SERVING_ALIAS, ())
        assert len(now) <= 1, f"the alias names {now}"
        before, self._serving = self._serving, now[0] if now else None
        if before is None or self._serving == before:
            return
        infos = unwrapped(db.index).indices()
        if before in infos and infos[before].metadata == infos[self._serving or ""].metadata:
            return  # a rebuild replaced a generation's index by another one of it
        view = look(db)
        active = view.active
        assert active is not None, "a swap without a migration"
        assert active.state in ("finalizing", "rolling_back"), f"a swap that nobody announced: {active}"
        entering = active.target if active.state == "finalizing" else active.source
        assert self._serving == view.concrete(entering), f"{self._serving} serves in {active}"
        if active.state == "finalizing":
            for entity, version in self._announced[active.id].items():
                have = view.documents[entering].get(entity)
                assert have is not None, f"{entity} was proven, and left {entering} before the swap"
                assert have.version >= version, f"{entity} went back in {entering} before the swap"

    def committed(self, db: SpeakerDB) -> None:
        """No version went back; and when a swap into a target is announced, the target is complete."""
        with db.catalog.read() as tx:
            states = {
                row.id: row.state for row in tx.execute(sa.select(schema.migrations.c.id, schema.migrations.c.state))
            }
            rows = _rows(tx, schema.projections)
        self._went_on({(row.generation, row.entity_id): row for row in rows})
        for number, state in states.items():
            if state == "finalizing" and self._states.get(number) != "finalizing":
                view = look(db)
                assert view.active is not None
                complete(view, view.active.target)
                documents = view.documents[view.active.target].values()
                self._announced[number] = {one.id: one.version for one in documents if not one.deleted}
        self._states = states

    def _went_on(self, projections: Mapping[Key, Row]) -> None:
        """What goes back is mended soon by itself, so it is looked at after every commit. Only a purge forgets rows: all of a
        generation, or those of tombstones that were indexed."""
        left = {name for name, _ in projections}
        for key, (version, indexed, deleted) in self._sql.items():
            row = projections.get(key)
            if row is None:
                purged = deleted and version == indexed
                assert purged or key[0] not in left, f"the projection of {key} vanished"
                continue
            assert row.version >= version, f"the version of {key} went back from {version} to {row.version}"
            assert row.indexed_version >= indexed, f"the indexed version of {key} went back"
        self._sql = {key: (row.version, row.indexed_version, row.deleted) for key, row in projections.items()}

    def check(self, db: SpeakerDB) -> View:
        """Everything `check` does, and that nothing went back since the last time."""
        view = check(db)
        self._went_on(view.projections)
        for name, documents in view.documents.items():
            for entity, (version, deleted) in self._indexed.get(name, {}).items():
                have = documents.get(entity)
                if have is None:
                    purged = deleted and (name, entity) not in view.projections
                    assert purged, f"{entity} vanished from the index of {name}"
                    continue
                assert have.version >= version, f"{entity} went back in the index of {name}"
        self._indexed = {
            name: {one.id: (one.version, one.deleted) for one in each.values()} for name, each in view.documents.items()
        }
        self._content = _grown(
            self._content, {(row.id, row.created_at): row.content_version for row in view.recordings.values()}
        )
        self._members = _grown(self._members, {row.id: row.members_version for row in view.profiles.values()})
        self._epochs = _grown(self._epochs, {row.name: row.epoch for row in view.leases.values()}, keep=True)
        self._serving = view.aliases[SERVING_ALIAS][0]
        return view


def _grown(before: Mapping[K, int], now: dict[K, int], *, keep: bool = False) -> dict[K, int]:
    for key, value in before.items():
        assert key in now or not keep, f"{key} vanished"
        assert now.get(key, value) >= value, f"{key} went back from {value} to {now[key]}"
    return now


def _rows(tx: Transaction, what: sa.Table | sa.Select[Any]) -> list[Row]:
    return list(tx.execute(what.select() if isinstance(what, sa.Table) else what))


def _unit(vector: FloatArray, generation: Generation, entity: str) -> None:
    assert vector.shape == (generation.dimension,), f"{entity} has shape {vector.shape} in {generation.name}"
    assert np.isfinite(vector).all(), f"{entity} is not finite in {generation.name}"
    norm = float(np.linalg.norm(vector))
    assert abs(norm - 1.0) < NORM_TOLERANCE, f"{entity} has norm {norm} in {generation.name}"


def _expected(view: View, name: str, entity: str) -> FloatArray | None:
    """The vector that the index should hold; None where it should hold a tombstone or nothing."""
    known = view.embeddings.get((name, entity))
    profile = view.profiles.get(entity)
    lives = entity in view.speakers or (profile is not None and profile.merged_into is None)
    if not lives or known is None or known.vector is None:
        return None
    return np.frombuffer(known.vector, "<f4")
