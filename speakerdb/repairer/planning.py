"""One generation's plan: what is compared, what was found, and whether it may be carried out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from speakerdb.catalog import journal, repair_log, repairs
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction
from speakerdb.core.drift import Scene, Sums, When, brakes, differing
from speakerdb.errors import DeletionBrake, EmptySource, IndexMissing, RestoredSource, SafetyStop
from speakerdb.index.port import VectorIndex
from speakerdb.migrator import Serving
from speakerdb.migrator.layout import Layout, mark_of
from speakerdb.repairer.comparing import Comparison
from speakerdb.reports.repairing import GenerationPlan, Refusal, RunKind
from speakerdb.settings import RepairSettings
from speakerdb.types import SERVING_ALIAS, Generation, IndexInfo

NOT_LIVE = "it is not live: nothing keeps its index current"
STOPS: dict[str, type[SafetyStop]] = {each.code: each for each in (EmptySource, RestoredSource, DeletionBrake)}


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of a repair."""

    kind: RunKind = "check"
    whole: bool = False
    """Compare everything, and not only the buckets that differ."""
    share: bool = False
    """Compare the next share of the rotating walk."""
    lost: bool = True
    """Also look for what SQL itself lacks."""
    library: str | None = None
    """An id."""
    forced: frozenset[str] = frozenset()


@dataclass
class Draft:
    """A plan with everything that is needed to carry it out. Close it."""

    plan: GenerationPlan
    comparison: Comparison | None = None
    mended: list[str] = field(default_factory=list)
    """What was in quarantine and is as it should be by now."""
    reached: str | None = None
    """For a share: the last id that was compared; None where the lap is over."""
    cut_short: bool = False
    """Whether time was over, or somebody asked to stop."""
    forced: bool = False
    """Whether a person has said that what would be deleted is to go: the brake does not count it then."""
    newest: int = 0
    """The highest version that the index knew."""
    older: bool = False
    """Whether the index knows what the database does not, and that was not written down yet."""
    restored: bool = False
    """Whether it is written down that the database was an older copy, and not yet that this is over."""

    def close(self) -> None:
        if self.comparison is not None:
            self.comparison.spool.close()


class Planning:
    """Makes plans. Changes nothing."""

    def __init__(self, catalog: Catalog, index: VectorIndex, serving: Serving, settings: RepairSettings) -> None:
        self._catalog = catalog
        self._index = index
        self._serving = serving
        self._settings = settings

    def draft(self, generation: Generation, ask: Ask, pulse: Callable[[int], bool]) -> Draft:
        """What a repair of one generation would do.

        `IndexMissing` where its index or its write alias is gone, `SafetyStop` where the alias names another's.
        """
        draft = self._draft(generation, ask, pulse)
        if ask.share and draft.older:
            # What is newer than its row may be the trace of an older database: all of it is seen before anything is done.
            draft.close()
            return self._draft(generation, replace(ask, share=False, whole=True), pulse)
        return draft

    def _draft(self, generation: Generation, ask: Ask, pulse: Callable[[int], bool]) -> Draft:
        # In this order: what SQL says is later than what the index says.
        now = self._catalog.now()
        layout = self._serving.layout(generation)
        with self._catalog.read() as tx:
            reason = hands_off(tx, generation.name)
        told = self._of_aliases(generation, layout)
        if reason is not None:
            return Draft(GenerationPlan(generation.name, None, ask.kind, aliases=told, skipped=reason))
        info = _current(generation, layout)
        held = None
        if not (ask.whole or ask.share):
            held = {bucket: (each.documents, each.digest) for bucket, each in self._index.digests(info.name).items()}
        with self._catalog.read() as tx:
            sums = repairs.sums(tx, generation.name)
            flagged = journal.restored_since_rebuild(tx, generation.name)
            deleted = repair_log.deleted_since(tx, generation.name, now - repair_log.DAY)
            cursor = repair_log.cursor(tx, generation.name)
        buckets = None if held is None else differing(sums, held)
        # Never the newest row of all: by its version a database that is an older copy is known.
        tombstones = min(now - int(self._settings.tombstone_days * repair_log.DAY), sums.newest)
        when = When(now, now, int(self._settings.grace_seconds * 1e6), tombstones)
        comparison = Comparison(self._catalog, self._index, generation, info.name, when, pulse, library=ask.library)
        draft = Draft(GenerationPlan(generation.name, info.name, ask.kind), comparison, newest=info.newest)
        draft.forced = "deletions" in ask.forced
        try:
            draft.mended = comparison.look_again()
            if ask.share:
                after = cursor.after if cursor is not None and cursor.index == info.name else ""
                draft.reached = comparison.walk(after=after, rows=max(1, -(-sums.rows // self._settings.walk_share)))
            elif held is not None and not sums.unknown:
                if buckets is None or buckets:
                    comparison.search(buckets)
            elif buckets is None or buckets:
                draft.reached = comparison.walk(buckets=buckets)  # which learns what is not known
            if ask.lost:
                comparison.look_for_lost()
            draft.cut_short = not pulse(comparison.tally.compared)
            scene = self._scene(comparison, sums, info, flagged=flagged, deleted=deleted)
            draft.older, draft.restored = scene.is_older and not flagged, flagged
            draft.plan = _plan(comparison, sums, scene, ask, told)
            if held is not None:
                draft.plan = replace(draft.plan, buckets=None if buckets is None else len(buckets))
        except BaseException:
            draft.close()
            raise
        return draft

    def is_equal(self, draft: Draft) -> bool:
        """Whether the index holds by now what SQL says, and nothing else: by all buckets, and nothing waits."""
        assert draft.comparison is not None
        held = self._index.digests(draft.comparison.concrete)
        with self._catalog.read() as tx:
            sums = repairs.sums(tx, draft.plan.generation)
        counted = {bucket: (each.documents, each.digest) for bucket, each in held.items()}
        return not (sums.waiting or sums.unknown) and differing(sums, counted) == frozenset()

    def _scene(self, comparison: Comparison, sums: Sums, info: IndexInfo, *, flagged: bool, deleted: int) -> Scene:
        return Scene(
            generation=comparison.generation.name,
            rows=sums.rows,
            live=sums.live,
            documents=info.documents,
            newest_stated=sums.newest,
            newest_held=info.newest,
            restored=flagged,
            ahead=comparison.tally.ahead,
            unknown=comparison.tally.unknown,
            deletions=comparison.spool.deletions,
            deleted_before=deleted,
            least=self._settings.max_deletions,
            share=self._settings.max_deletion_share,
        )

    def _of_aliases(self, generation: Generation, layout: Layout) -> tuple[str, ...]:
        """What is wrong with the aliases. Nothing here moves one."""
        found = [layout.misled(generation)]
        disagreement = self._serving.disagreement()
        if disagreement is not None and disagreement.stated == generation.name:
            found.append(disagreement.sentence)
        return tuple(sentence for sentence in found if sentence is not None)


def hands_off(tx: Transaction, generation: str) -> str | None:
    """Why a repair must not touch a generation at this moment; None where it may."""
    if generation not in journal.live_generations(tx):
        return NOT_LIVE
    if journal.is_replacing(tx, generation):
        return "its index is being replaced at this moment"
    active = journal.active(tx, SERVING_ALIAS)
    if active is not None and active.state.intention and generation in (active.source, active.target):
        return f"its migration is {active.state.value}: a swap is announced"
    return None


def _current(generation: Generation, layout: Layout) -> IndexInfo:
    """The concrete index that is kept current for a generation."""
    hint = f"Build it again from SQL with `speakerdb index rebuild {generation.name}`."
    names = layout.aliases.get(generation.write_alias, ())
    if len(names) != 1 or names[0] not in layout.infos:
        named = " and ".join(names) or "nothing"
        raise IndexMissing(f"The write alias of {generation.name} names {named}; it must name one index.", hint=hint)
    info = layout.infos[names[0]]
    if info.metadata != mark_of(generation):
        raise SafetyStop(f"The write alias of {generation.name} names {info.name}, which is not its index.", hint=hint)
    return info


def _plan(comparison: Comparison, sums: Sums, scene: Scene, ask: Ask, told: tuple[str, ...]) -> GenerationPlan:
    spool, tally = comparison.spool, comparison.tally
    return GenerationPlan(
        generation=scene.generation,
        index=comparison.concrete,
        kind=ask.kind,
        rows=sums.rows,
        compared=tally.compared,
        buckets=None,
        waiting=sums.waiting,
        young=tally.young,
        learned=spool.learned,
        quarantined=tally.quarantined,
        found=dict(sorted(spool.found.items())),
        actions=dict(sorted(spool.actions.items())),
        deletions=scene.deletions,
        deleted_before=scene.deleted_before,
        allowed=scene.allowed,
        sample=spool.sample,
        refused=tuple(
            Refusal(brake.code, brake.message, STOPS[brake.code].default_hint, brake.force)
            for brake in brakes(scene, ask.forced)
        ),
        aliases=told,
    )
