"""SQL and one concrete index as two ordered streams, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

from speakerdb.catalog import repair_log, repairs
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction, can_hold
from speakerdb.core.drift import (
    HIGHEST,
    UNHELD,
    Drift,
    Finding,
    Mend,
    Standing,
    Stated,
    When,
    is_as_believed,
    judge,
    learned,
)
from speakerdb.core.reconcile import side_by_side
from speakerdb.index.port import VectorIndex
from speakerdb.repairer.spool import Spool
from speakerdb.types import Document, Generation, Kind

PAGE = 4000
"""So many rows are compared between two looks at the lease; so many are asked for at once of what SQL lacks."""
QUARANTINED = 1000
"""So many of those in quarantine are looked at by each repair."""
_HELD_BACK = 500


@dataclass
class Tally:
    """What was counted besides the findings."""

    compared: int = 0
    young: int = 0
    quarantined: int = 0
    ahead: int = 0
    """Documents that are newer than their row, in whatever library, and in quarantine too."""
    unknown: int = 0
    """Documents that nothing in SQL stands behind, likewise."""


@dataclass
class Comparison:
    """Compares one generation's rows with the documents of a concrete index, and spools what is to be done.

    `pulse` is called now and then with the number of what was compared, and says whether to go on. `library` is an id.
    """

    catalog: Catalog
    index: VectorIndex
    generation: Generation
    concrete: str
    when: When
    pulse: Callable[[int], bool]
    library: str | None = None
    tally: Tally = field(default_factory=Tally)
    spool: Spool = field(default_factory=Spool)
    _buffer: list[Finding] = field(default_factory=list)
    _done: set[str] = field(default_factory=set)

    def walk(self, *, after: str = "", rows: int | None = None, buckets: Collection[int] | None = None) -> str | None:
        """Compare what has an id above `after`: as far as so many rows go, or all of it. The id that was reached; None for
        the end."""
        held = self.index.scan(self.concrete, after=after, buckets=buckets)
        try:
            until = None
            if rows is not None:
                with self.catalog.read() as tx:
                    until = repairs.share_end(tx, self.generation.name, after, rows)
            with closing(self._rows(after, until, buckets)) as stated:
                reached = self._merge(held, stated, until)
        finally:
            if (close := getattr(held, "close", None)) is not None:
                close()
        self._flush()
        return reached

    def search(self, buckets: Collection[int] | None) -> None:
        """Compare these buckets by what tells each document's state, and look at those that differ: where a few of a million
        do, the others are not read."""
        marks = self.index.marks(self.concrete, buckets=buckets)
        differ: list[str] = []
        try:
            with self.catalog.read() as tx:
                rows = repairs.believed(tx, self.generation.name, buckets=buckets)
                for id, want, mark in side_by_side(rows, marks, lambda row: row.id):
                    if want is None or not is_as_believed(want, mark, self.when):
                        differ.append(id)
                        if len(differ) == _HELD_BACK:
                            self._look_at(differ)
                    self.tally.compared += 1
                    if self.tally.compared % PAGE == 0 and not self.pulse(self.tally.compared):
                        return
            self._look_at(differ)
        finally:
            if (close := getattr(marks, "close", None)) is not None:
                close()
            self._flush()

    def _look_at(self, ids: list[str]) -> None:
        for _, want, have in self._both(ids):
            if want is not None or have is not None:  # else it went meanwhile
                self._look(want, have)
        ids.clear()

    def _merge(self, held: Iterator[Document], stated: Iterator[Stated], until: str | None) -> str | None:
        for id, want, have in side_by_side(stated, held, lambda row: row.document.id):
            if until is not None and id > until:
                return until
            self._look(want, have)
            self.tally.compared += 1
            if self.tally.compared % PAGE == 0 and not self.pulse(self.tally.compared):
                return id
        return until

    def _rows(self, after: str, until: str | None, buckets: Collection[int] | None) -> Generator[Stated, None, None]:
        name, dimension = self.generation.name, self.generation.dimension
        with self.catalog.read() as tx:
            rows = repairs.stated(tx, name, dimension, after=after, until=until, buckets=buckets)
            self._was_read()
            yield from rows

    def look_again(self) -> list[str]:
        """Judge by id what is in quarantine, and what the index refuses; those that are as they should be by now."""
        with self.catalog.read() as tx:
            entries = repair_log.entries(tx, self.generation.name, QUARANTINED)
            refused = repairs.rejected(tx, self.generation.name, QUARANTINED)
        ids = list(dict.fromkeys([*(entry.id for entry in entries), *refused]))
        mended = []
        for id, want, have in self._both(ids):
            found = None if want is None and have is None else self._judged(want, have)
            if found is None or found in ("equal", "learn"):
                mended.append(id)
            elif isinstance(found, Finding):
                self._keep(found)
                self._done.add(id)
        self._flush()
        return mended

    def look_for_lost(self) -> None:
        """What SQL itself lacks: speakers whose vector is gone, and recordings that nobody queued."""
        for part in self._pages(repairs.without_embedding):
            for id, want, have in self._both(list(part)):
                found = self._judged(want, have) if want is not None else None
                if found == "young" or (isinstance(found, Finding) and found.drift is not Drift.LOST):
                    continue
                self._keep(found if isinstance(found, Finding) else _lost(id, want, part[id]))
        for part in self._pages(repairs.without_item):
            for id, library in part.items():
                self._keep(
                    Finding(id, Drift.UNFINISHED, Mend.EXTRACT, None, None, library=library, detail="no work item")
                )
        self._flush()

    def _pages(self, read: Callable[[Transaction, str, str, int], dict[str, str]]) -> Iterator[dict[str, str]]:
        after = ""
        while True:
            with self.catalog.read() as tx:
                part = read(tx, self.generation.name, after, PAGE)
            yield part
            if len(part) < PAGE or not self.pulse(self.tally.compared):
                return
            after = max(part)

    def _both(self, ids: list[str]) -> Iterator[tuple[str, Stated | None, Document | None]]:
        """Both sides of some ids, the index first."""
        for start in range(0, len(ids), _HELD_BACK):
            part = ids[start : start + _HELD_BACK]
            held = self.index.fetch(self.concrete, part)
            with self.catalog.read() as tx:
                stated = repairs.stated_by_id(tx, self.generation.name, self.generation.dimension, part)
            self._was_read()
            for id in part:
                yield id, stated.get(id), held.get(id)

    def _was_read(self) -> None:
        self.when = replace(self.when, read=self.catalog.now())

    def _judged(self, want: Stated | None, have: Document | None) -> Finding | Standing:
        return judge(want, have, self.when, self.generation.dimension)

    def _look(self, want: Stated | None, have: Document | None) -> None:
        found = self._judged(want, have)
        if found == "learn":
            assert want is not None
            document = want.document
            self.spool.add_learned(learned(document.id, document.version, document.content_hash))
        elif found == "young":
            self.tally.young += 1
        elif isinstance(found, Finding) and not (found.drift is Drift.LOST and want is not None and not want.known):
            # (What SQL has lost altogether is looked for by itself, also where the documents are all equal.)
            self._keep(found)

    def _keep(self, one: Finding) -> None:
        if one.id in self._done:
            return
        self.tally.ahead += one.drift is Drift.AHEAD
        self.tally.unknown += one.deletes
        if self.library is not None and one.library != self.library:
            return
        if not can_hold(one.id) and one.mend is not Mend.PURGE:
            one = replace(one, mend=Mend.QUARANTINE, detail=UNHELD)
        self._buffer.append(one)
        if len(self._buffer) >= _HELD_BACK:
            self._flush()

    def _flush(self) -> None:
        """Spool what was found, but for what is left alone."""
        if not self._buffer:
            return
        with self.catalog.read() as tx:
            ids = [one.id for one in self._buffer]
            quarantined = repair_log.standing(tx, self.generation.name, ids, self.when.now)
        for one in self._buffer:
            due = quarantined.get(one.id)
            if due is False:
                self.tally.quarantined += 1
                continue
            if one.mend is Mend.QUARANTINE and due and (one.held or 0) < HIGHEST:
                one = replace(one, mend=Mend.REWRITE)
            self.spool.add(one)
        self._buffer.clear()


def _lost(id: str, want: Stated | None, library: str) -> Finding:
    version = None if want is None else want.document.version
    return Finding(id, Drift.LOST, Mend.EXTRACT, version, None, Kind.SPEAKER, library, "there is no vector any more")
