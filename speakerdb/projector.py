"""Rows to documents: the one room that writes an index.

A projection row with `version > indexed_version` means "project me". A crash anywhere leaves that true, and the next step
finishes it. No lease is needed: versions make two projectors safe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from speakerdb.catalog import journal, people, vectors
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.vectors import EmbeddingRow
from speakerdb.core import pooling
from speakerdb.core.digests import digest_of
from speakerdb.core.drift import BEYOND, HIGHEST
from speakerdb.core.reconcile import compare
from speakerdb.errors import NotFinite
from speakerdb.index.port import VectorIndex
from speakerdb.types import Document, Embedding, Generation, Kind, Unembeddable, WriteOutcome

BATCH = 4000
NO_MEMBERS = "no-embedded-members"
MEMBERS_CANCEL = "members-cancel-each-other"


@dataclass(frozen=True, slots=True)
class ProjectionReport:
    """What one step did. `ahead` counts documents whose version was above SQL's, which was raised."""

    written: int = 0
    confirmed: int = 0
    ahead: int = 0
    rejected: int = 0

    def __add__(self, other: ProjectionReport) -> ProjectionReport:
        return ProjectionReport(
            self.written + other.written,
            self.confirmed + other.confirmed,
            self.ahead + other.ahead,
            self.rejected + other.rejected,
        )

    @property
    def handled(self) -> int:
        """Rows that were moved on; 0 means nothing is waiting."""
        return self.written + self.confirmed + self.ahead + self.rejected


class Projector:
    """Writes what SQL says to the index of a generation."""

    def __init__(self, catalog: Catalog, index: VectorIndex, *, batch: int = BATCH) -> None:
        self._catalog = catalog
        self._index = index
        self._batch = batch
        self._unseen: set[str] = set()
        """Generations that were written since their index was refreshed."""

    def step(self, generation: Generation) -> ProjectionReport:
        """Project one batch. `IndexMissing` when the generation's index is gone; nothing is acknowledged then.

        Nothing is projected for the moment in which a rebuild replaces the index.
        """
        with self._catalog.read() as tx:
            if journal.is_replacing(tx, generation.name):
                return ProjectionReport()
            documents = vectors.waiting_documents(tx, generation.name, self._batch)
        if not documents:
            return ProjectionReport()
        results = self._index.bulk(generation.write_alias, documents)
        self._unseen.add(generation.name)
        written, conflicts, refused = [], [], []
        for document, result in zip(documents, results, strict=True):
            if result.outcome is WriteOutcome.WRITTEN:
                written.append(_told(document))
            elif result.outcome is WriteOutcome.CONFLICT:
                conflicts.append(document)
            else:
                refused.append((document.id, document.version, result.detail or "rejected"))
        confirmed, ahead = self._resolve(generation, conflicts)
        refused += [(id, version, BEYOND) for id, version, held in ahead if held >= HIGHEST]
        ahead = [one for one in ahead if one[2] < HIGHEST]
        with self._catalog.job() as tx:
            if journal.is_replacing(tx, generation.name):
                return ProjectionReport()  # it may have gone to the index that leaves: the next step writes it again
            vectors.acknowledge(tx, generation.name, written + confirmed)
            vectors.overtake(tx, generation.name, ahead, self._catalog.now())
            vectors.reject(tx, generation.name, refused)
        return ProjectionReport(len(written), len(confirmed), len(ahead), len(refused))

    def drain(self, generation: Generation, *, stop: Callable[[], bool] = lambda: False) -> ProjectionReport:
        """Steps until nothing waits, or `stop()`: what is left is still marked."""
        total = ProjectionReport()
        while not stop() and (report := self.step(generation)).handled:
            total += report
        return total

    def repool(self, generation: Generation, limit: int = 100) -> int:
        """Pool dirty profiles again from their members; how many. Their documents are projected by the next step."""
        with self._catalog.read() as tx:
            waiting = people.dirty(tx, generation.name, limit)
        for profile in waiting:
            self._pool(generation, profile)
        return len(waiting)

    def settle(self, generation: Generation, *, stop: Callable[[], bool] = lambda: False) -> ProjectionReport:
        """Pool and project until nothing is dirty and nothing waits, or `stop()`; then searches find what was written."""
        while not stop() and self.repool(generation):
            pass
        report = self.drain(generation, stop=stop)
        if generation.name in self._unseen and not stop():
            self._index.refresh(generation.write_alias)
            self._unseen.discard(generation.name)
        return report

    def _resolve(
        self, generation: Generation, conflicts: Sequence[Document]
    ) -> tuple[list[tuple[str, int, int]], list[tuple[str, int, int]]]:
        """What a conflict means: the document is there already (an acknowledgement was lost), or it is ahead of SQL."""
        confirmed: list[tuple[str, int, int]] = []
        ahead: list[tuple[str, int, int]] = []
        if conflicts:
            held = self._index.fetch(generation.write_alias, [document.id for document in conflicts])
            for want in conflicts:
                have = held.get(want.id)
                if have is None or have.version < want.version:
                    continue  # gone again since; the row still waits
                if compare(want, have) is None:
                    confirmed.append(_told(want))
                else:
                    ahead.append((want.id, want.version, have.version))
        return confirmed, ahead

    def _pool(self, generation: Generation, profile: str) -> None:
        with self._catalog.job() as tx:
            row = people.find(tx, profile)
            if row is None or row.merged_into is not None:
                return
            members = vectors.member_embeddings(tx, generation.name, profile)
            result: Embedding | Unembeddable = Unembeddable(NO_MEMBERS)
            if members:
                try:
                    result = pooling.merge(members)
                except NotFinite:
                    result = Unembeddable(MEMBERS_CANCEL)
            vectors.write_embeddings(
                tx,
                generation.name,
                [EmbeddingRow(profile, Kind.PROFILE, result, generation.recipe.digest, row.members_version)],
                {profile: row.library_id},
                self._catalog.now(),
            )


def _told(document: Document) -> tuple[str, int, int]:
    """What an acknowledgement says of a document that is in the index: id, version, digest."""
    return document.id, document.version, digest_of(document.id, document.version, document.content_hash)
