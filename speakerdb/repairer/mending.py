"""Carrying a plan out: rows first, in bounded transactions; then the projector; then everything is read back."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from speakerdb.catalog import repair_log, repairs, vectors
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction, can_hold
from speakerdb.catalog.leases import Lease
from speakerdb.catalog.repair_log import Unmended
from speakerdb.core.drift import Drift, Finding, Mend, When, is_proven, judge
from speakerdb.errors import ItemsRejected
from speakerdb.index.port import VectorIndex
from speakerdb.projector import Projector
from speakerdb.repairer.planning import Draft, hands_off
from speakerdb.types import Document

BATCH = 500
"""Findings that one transaction mends."""
LEARN = 4000
STOPPED = "it was asked to stop, or its time was over"
NOT_MENDED = "not-mended"
"""The code of what was written again and still differs."""
_SETTLED = When(0, 0, 0, 0)
"""Judges what is there now: nothing is young, and no tombstone is old."""


@dataclass
class Outcome:
    """What came of carrying a plan out. `done` is by action."""

    done: Counter[str] = field(default_factory=Counter)
    written: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    """By code."""
    interrupted: str = ""
    """Why the rest of the plan was left for the next repair."""


class Mending:
    """Mends what a plan found."""

    def __init__(self, catalog: Catalog, index: VectorIndex, projector: Projector) -> None:
        self._catalog = catalog
        self._index = index
        self._projector = projector

    def carry_out(
        self, lease: Lease, run: int, draft: Draft, outcome: Outcome, told: Callable[[str, int], bool]
    ) -> None:
        """Do what a draft says, and add to `outcome` what was done. `told` hears how far it is, and says whether to go on."""
        assert draft.comparison is not None
        spool, name = draft.comparison.spool, draft.plan.generation
        count = 0
        for learned in spool.to_learn(LEARN):
            with self._catalog.change(lease) as tx:
                if (reason := hands_off(tx, name)) is not None:
                    outcome.interrupted = reason
                    return
                repairs.learn(tx, name, learned)
            count += len(learned)
            if not told("mending", count):
                outcome.interrupted = STOPPED
                return
        if draft.mended:
            with self._catalog.job(lease) as tx:
                repair_log.take_out(tx, name, draft.mended)
        count = 0
        for findings in spool.findings(BATCH):
            if not self._batch(lease, run, draft, findings, outcome):
                return
            count += len(findings)
            if not told("mending", count):
                outcome.interrupted = STOPPED
                break
        self._project(lease, draft, outcome, told)
        if not outcome.interrupted:
            self._prove(lease, draft, outcome, told)

    def _batch(self, lease: Lease, run: int, draft: Draft, findings: Sequence[Finding], outcome: Outcome) -> bool:
        """Mend some findings in one transaction. False where the generation must be left alone by now."""
        assert draft.comparison is not None
        generation, concrete = draft.comparison.generation, draft.comparison.concrete
        by = defaultdict[Mend, list[Finding]](list)
        for one in findings:
            by[one.mend].append(one)
        needed = [one.id for mend in (Mend.RECOVER, Mend.ADOPT) for one in by[mend]]
        held = self._index.fetch(concrete, needed) if needed else {}
        done: Counter[str] = Counter()
        with self._catalog.change(lease) as tx:
            if (reason := hands_off(tx, generation.name)) is not None:
                outcome.interrupted = reason
                return False
            now = self._catalog.now()
            name = generation.name
            rewritten = [(one.id, one.stated or 0, max(one.stated or 0, one.held or 0)) for one in by[Mend.REWRITE]]
            done[Mend.REWRITE] = vectors.overtake(tx, name, rewritten, now)
            done[Mend.RECOVER] = self._recover(tx, draft, by[Mend.RECOVER], held, now)
            done[Mend.EXTRACT] = self._extract(tx, draft, by[Mend.EXTRACT], now)
            done[Mend.BURY] = repairs.bury(tx, name, by[Mend.BURY], now)
            if done[Mend.BURY] and not draft.forced:
                repair_log.note_deletions(tx, run, done[Mend.BURY])
            versions = {one.id: one.held for one in by[Mend.ADOPT]}
            adopted = {id: one for id, one in held.items() if one.deleted and versions.get(id) == one.version}
            done[Mend.ADOPT] = repairs.adopt(tx, name, adopted, now)
            purged = self._forget(tx, name, by[Mend.PURGE])
            refused = [
                Unmended(one.id, one.drift.value, ItemsRejected.code, one.detail)
                for one in by[Mend.QUARANTINE]
                if can_hold(one.id)
            ]
            repair_log.put(tx, name, refused, now)
        if purged:
            # Their rows are gone, so nobody writes them again; and only what is a tombstone of this very version goes.
            self._catalog.keep(lease)
            self._index.purge(concrete, purged)
            done[Mend.PURGE] = len(purged)
        outcome.done += done
        outcome.quarantined.update(each.code for each in refused)
        return True

    def _recover(
        self, tx: Transaction, draft: Draft, found: Sequence[Finding], held: Mapping[str, Document], now: int
    ) -> int:
        """Take vectors back, if SQL still lacks them and the document still proves what it holds."""
        assert draft.comparison is not None
        generation = draft.comparison.generation
        stated = repairs.stated_by_id(tx, generation.name, generation.dimension, [one.id for one in found])
        proven = {}
        for id, want in stated.items():
            have = held.get(id)
            lost = want.lives and not want.deleted and not (want.known and want.sound)
            if have is not None and lost and is_proven(want, have, generation.dimension):
                proven[id] = have
        return repairs.recover(tx, generation.name, proven, generation.recipe.budget_seconds, now)

    def _extract(self, tx: Transaction, draft: Draft, found: Sequence[Finding], now: int) -> int:
        """Queue what SQL lacks, if it still does."""
        assert draft.comparison is not None
        generation = draft.comparison.generation
        lost = [one.id for one in found if one.drift is Drift.LOST]
        stated = repairs.stated_by_id(tx, generation.name, generation.dimension, lost)
        embedded = vectors.embeddings_known(tx, generation.name, lost)
        still = [
            one for one in found
            if one.drift is not Drift.LOST
            or one.id not in embedded
            or ((want := stated.get(one.id)) is not None and not want.sound)
        ]  # fmt: skip
        return repairs.extract_again(tx, generation.name, still, now)

    @staticmethod
    def _forget(tx: Transaction, generation: str, found: Sequence[Finding]) -> list[tuple[str, int]]:
        """Delete the rows of old tombstones. Those of them that SQL knows nothing of can be purged without."""
        rows = repairs.forget(tx, generation, [(one.id, one.stated) for one in found if one.stated is not None])
        bare = {one.id: one.held for one in found if one.stated is None and one.held is not None}
        known = repairs.known_rows(tx, generation, list(bare))
        return [*rows, *((id, version) for id, version in bare.items() if id not in known)]

    def _project(self, lease: Lease, draft: Draft, outcome: Outcome, told: Callable[[str, int], bool]) -> None:
        """Write what waits, as any projector would, and keep the lease meanwhile."""
        assert draft.comparison is not None
        generation = draft.comparison.generation
        while (report := self._projector.step(generation)).handled:
            outcome.written += report.written
            self._catalog.keep(lease)
            if not told("projecting", outcome.written):
                outcome.interrupted = STOPPED
                return
        outcome.written += self._projector.settle(
            generation, stop=lambda: not told("projecting", outcome.written)
        ).written

    def _prove(self, lease: Lease, draft: Draft, outcome: Outcome, told: Callable[[str, int], bool]) -> None:
        """Read back what was mended. What still differs is left alone for a while."""
        assert draft.comparison is not None
        generation, concrete = draft.comparison.generation, draft.comparison.concrete
        count = 0
        for findings in draft.comparison.spool.findings(BATCH):
            mended = {one.id: one for one in findings if one.mend in (Mend.REWRITE, Mend.RECOVER, Mend.BURY)}
            if not mended:
                continue
            held = self._index.fetch(concrete, list(mended))
            with self._catalog.read() as tx:
                stated = repairs.stated_by_id(tx, generation.name, generation.dimension, list(mended))
            good, bad = [], []
            for id, one in mended.items():
                if (want := stated.get(id)) is None:
                    continue
                found = judge(want, held.get(id), _SETTLED, generation.dimension)
                if not isinstance(found, Finding):
                    if found != "lag":
                        good.append(id)
                elif found.drift is Drift.REJECTED:
                    bad.append(Unmended(id, one.drift.value, ItemsRejected.code, found.detail))
                else:
                    bad.append(Unmended(id, one.drift.value, NOT_MENDED, f"It is {found.drift.value} again at once."))
            with self._catalog.job(lease) as tx:
                repair_log.take_out(tx, generation.name, good)
                repair_log.put(tx, generation.name, bad, self._catalog.now())
            outcome.quarantined.update(each.code for each in bad)
            count += len(mended)
            if not told("proving", count):
                outcome.interrupted = STOPPED
                return
