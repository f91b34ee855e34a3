"""The repairs of one library: planned, carried out under the lease, and written down."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from speakerdb.catalog import activity, journal, library, repair_log
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.leases import Lease
from speakerdb.catalog.repair_log import Cursor, Ended
from speakerdb.core.drift import FORCES
from speakerdb.errors import ConfigurationError, IndexMissing, InvalidInput, LeaseLost, SpeakerDBError
from speakerdb.index.port import VectorIndex
from speakerdb.migrator import Serving
from speakerdb.projector import Projector
from speakerdb.repairer.mending import STOPPED, Mending, Outcome
from speakerdb.repairer.planning import NOT_LIVE, STOPS, Ask, Draft, Planning, hands_off
from speakerdb.reports.repairing import (
    GenerationHealth,
    GenerationPlan,
    GenerationRepair,
    OnRepair,
    QuarantineView,
    RepairPlan,
    RepairProgress,
    RepairReport,
    RepairStatus,
    RunState,
    RunView,
)
from speakerdb.reports.seeing import Problem
from speakerdb.settings import RepairSettings
from speakerdb.types import Generation

LEASE_NAME = "repair"
COMPARING_SHARE = 0.5
"""Of the time that a run may take: what was found by then is mended in the rest of it."""
ENDING_SHARE = 0.02
"""Of the time that a run may take, left for its end: to write down how far it came, and to give the lease back."""

Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class _Watch:
    """Who hears how far a run is, and who ends it."""

    on_progress: OnRepair
    stop: Stop


class Repairer:
    """Finds and mends differences between SQL and the live generations' indices."""

    def __init__(
        self,
        catalog: Catalog,
        index: VectorIndex,
        generations: Mapping[str, Generation],
        serving: Serving,
        projector: Projector,
        settings: RepairSettings,
        *,
        who: str,
    ) -> None:
        self._catalog = catalog
        self._generations = generations
        self._settings = settings
        self._serving = serving
        self._planning = Planning(catalog, index, serving, settings)
        self._mending = Mending(catalog, index, projector)
        self._who = who

    # Repairing

    def plan(
        self,
        *,
        generation: str | None = None,
        library: str | None = None,
        vectors: bool = False,
        force: Collection[str] = (),
        on_progress: OnRepair = lambda _: None,
    ) -> RepairPlan:
        """What `run` would do now. Changes nothing, and needs no lease."""
        begun = time.monotonic()
        ask = self._asked(library, vectors=vectors, force=force)
        plans = []
        for each in self._chosen(generation):
            draft = self._planning.draft(each, ask, partial(_tell, on_progress, each.name))
            draft.close()
            plans.append(draft.plan)
        return RepairPlan(ask.kind, tuple(plans), round(time.monotonic() - begun, 3))

    def run(
        self,
        *,
        generation: str | None = None,
        library: str | None = None,
        vectors: bool = False,
        force: Collection[str] = (),
        why: str | None = None,
        on_progress: OnRepair = lambda _: None,
        stop: Stop = lambda: False,
    ) -> RepairReport:
        """Compare and mend one live generation, or all of them.

        Buckets are compared, and what is in those that differ; with `vectors` every document with its vector. With
        `library` (a name) only what belongs to it is mended. `force` names brakes that a person has overruled
        (`core.drift.FORCES`). `DeletionBrake`, `EmptySource` or `RestoredSource` (with `details["report"]`) where a generation's
        plan was refused, after the others were repaired; `LeaseHeld` while another process repairs; `IndexMissing` where an
        index is gone.
        """
        ask = self._asked(library, vectors=vectors, force=force)
        return self._repair(ask, self._chosen(generation), why, _Watch(on_progress, stop))

    def check(self, *, stop: Stop = lambda: False) -> RepairReport:
        """The cheap comparison by buckets, of every live generation, and the repair of what differs. Raises as `run`."""
        return self._repair(Ask("check", lost=False), self._chosen(None), None, _Watch(lambda _: None, stop))

    def walk(self, *, stop: Stop = lambda: False) -> RepairReport:
        """The next share of the comparison of every vector, and the repair of what differs. Raises as `run`."""
        return self._repair(Ask("walk", share=True), self._chosen(None), None, _Watch(lambda _: None, stop))

    def _asked(self, library_name: str | None, *, vectors: bool, force: Collection[str]) -> Ask:
        if unknown := sorted(set(force) - set(FORCES)):
            raise InvalidInput(f"There is no brake {unknown[0]!r}.", hint=f"Brakes: {', '.join(FORCES)}.")
        home = None
        if library_name is not None:
            with self._catalog.read() as tx:
                home = library.library_id(tx, library_name)
        whole = vectors or home is not None
        return Ask("walk" if vectors else "check", whole=whole, library=home, forced=frozenset(force))

    def _chosen(self, name: str | None) -> list[Generation]:
        if name is not None and name not in self._generations:
            known = ", ".join(sorted(self._generations))
            raise ConfigurationError(f"There is no generation {name!r}.", hint=f"Known: {known}.")
        with self._catalog.read() as tx:
            names = journal.live_generations(tx) if name is None else (name,)
        return [self._generations[each] for each in names]

    def _repair(self, ask: Ask, chosen: Sequence[Generation], why: str | None, watch: _Watch) -> RepairReport:
        begun = time.monotonic()
        repaired: list[GenerationRepair] = []
        errors: list[SpeakerDBError] = []
        with self._catalog.holding(LEASE_NAME, limit=self._settings.run_hours * 3600.0) as lease:
            for generation in chosen:
                try:
                    repaired.append(self._one(lease, generation, ask, why, watch))
                except LeaseLost:
                    raise
                except SpeakerDBError as error:  # of this generation; the others are repaired first
                    plan = GenerationPlan(generation.name, None, ask.kind)
                    repaired.append(GenerationRepair(plan, "failed", {}, code=error.code, message=error.message))
                    errors.append(error)
        report = RepairReport(ask.kind, tuple(repaired), round(time.monotonic() - begun, 3))
        for each in repaired:
            for refusal in each.plan.refused:
                raise STOPS[refusal.code](refusal.message, hint=refusal.hint, report=report)
        if errors:
            raise errors[0]
        return report

    def _one(self, lease: Lease, generation: Generation, ask: Ask, why: str | None, watch: _Watch) -> GenerationRepair:
        name, before = generation.name, self._serving.index_of(generation)
        with self._catalog.job(lease) as tx:
            if name not in journal.live_generations(tx):  # perhaps it never was, and no run of it can be written down
                plan = GenerationPlan(name, None, ask.kind, skipped=NOT_LIVE)
                return GenerationRepair(plan, "stopped", {}, message=NOT_LIVE)
            who = journal.actor().who or self._who
            run = repair_log.begin(tx, name, ask.kind, lease.epoch, who, why, self._catalog.now())
        outcome = Outcome()
        plan = GenerationPlan(name, None, ask.kind)
        try:
            draft = self._planning.draft(generation, ask, lambda count: self._may_compare(lease, name, count, watch))
            try:
                plan = draft.plan
                if plan.skipped or plan.refused:
                    return self._leave(lease, run, draft)
                if watch.stop():
                    outcome.interrupted = STOPPED  # what was found is not mended: a walk goes on where it began
                else:
                    self._mending.carry_out(
                        lease,
                        run,
                        draft,
                        outcome,
                        lambda doing, count: self._may_mend(lease, name, doing, count, watch),
                    )
                state: RunState = "stopped" if watch.stop() or draft.cut_short or outcome.interrupted else "done"
                return self._finish(lease, run, draft, ask, outcome, state, why)
            finally:
                draft.close()
        except IndexMissing as error:
            if (reason := self._left(generation, before)) is None:
                self._broken_off(lease, run, plan, outcome, error)
                raise
            self._end(lease, run, Ended("stopped", plan.compared, plan.found, _done(outcome), message=reason))
            return GenerationRepair(plan, "stopped", _done(outcome), outcome.written, message=reason)
        except (Exception, KeyboardInterrupt) as error:
            self._broken_off(lease, run, plan, outcome, error)
            raise

    def _broken_off(self, lease: Lease, run: int, plan: GenerationPlan, outcome: Outcome, error: BaseException) -> None:
        """Write down that a run ended by an error. Where that cannot be done, the next run ends it."""
        code = error.code if isinstance(error, SpeakerDBError) else None
        state: RunState = "stopped" if code is None else "failed"
        message = str(error) or type(error).__name__
        with suppress(SpeakerDBError):
            self._end(lease, run, Ended(state, plan.compared, plan.found, _done(outcome), code, message))

    def _left(self, generation: Generation, before: str) -> str | None:
        """Why the index `before` is rightly gone: it was replaced, or its migration has ended. None where it is not."""
        with self._catalog.read() as tx:
            reason = hands_off(tx, generation.name)
        if reason is None and self._serving.index_of(generation) != before:
            reason = "its index was replaced meanwhile"
        return reason

    def _leave(self, lease: Lease, run: int, draft: Draft) -> GenerationRepair:
        """Write down that a plan is not carried out, and why."""
        plan = draft.plan
        if plan.skipped:
            self._end(lease, run, Ended("stopped", 0, {}, {}, message=plan.skipped))
            return GenerationRepair(plan, "stopped", {}, message=plan.skipped)
        refusal = plan.refused[0]
        with self._catalog.job(lease) as tx:
            now = self._catalog.now()
            before = repair_log.last(tx, plan.generation, before=run)
            repair_log.end(tx, run, Ended("refused", plan.compared, plan.found, {}, refusal.code, refusal.message), now)
            if draft.older and any(each.force == "restored" for each in plan.refused):
                # It stays known until the index was built again: what is mended later hides its traces.
                journal.record(tx, "index-ahead", self._who, now, entity_id=plan.generation, newest=draft.newest)
            if before is None or (before.state, before.code, before.found) != ("refused", refusal.code, plan.found):
                journal.record(
                    tx, "repair-refused", self._who, now, entity_id=plan.generation,
                    generation=plan.generation, code=refusal.code, found=dict(plan.found),
                )  # fmt: skip
        return GenerationRepair(plan, "refused", {}, code=refusal.code, message=refusal.message)

    def _finish(
        self, lease: Lease, run: int, draft: Draft, ask: Ask, outcome: Outcome, state: RunState, why: str | None
    ) -> GenerationRepair:
        plan, done, name = draft.plan, _done(outcome), draft.plan.generation
        # On a person's word, and only once nothing is left in the index that the database does not know.
        asked = draft.restored and "restored" in ask.forced and ask.library is None and state == "done"
        accepted = asked and self._planning.is_equal(draft)
        with self._catalog.job(lease) as tx:
            now = self._catalog.now()
            message = outcome.interrupted or None
            repair_log.end(tx, run, Ended(state, plan.compared, plan.found, done, message=message), now)
            if done:
                journal.record(
                    tx, "repair-done", self._who, now, entity_id=name, why=why,
                    generation=name, found=dict(plan.found), done=done, forced=sorted(ask.forced),
                )  # fmt: skip
            if accepted:
                journal.record(tx, "restoration-accepted", self._who, now, entity_id=name, why=why, generation=name)
            if outcome.quarantined:
                codes = dict(outcome.quarantined)
                journal.record(
                    tx, "quarantined", self._who, now, entity_id=name,
                    generation=name, count=sum(codes.values()), codes=codes,
                )  # fmt: skip
            if ask.kind == "walk" and ask.library is None and plan.index is not None and not outcome.interrupted:
                repair_log.move_cursor(tx, name, _moved(repair_log.cursor(tx, name), plan.index, draft.reached, now))
        return GenerationRepair(
            plan, state, done, outcome.written, sum(outcome.quarantined.values()), message=outcome.interrupted
        )

    def _end(self, lease: Lease, run: int, ended: Ended) -> None:
        with self._catalog.job(lease) as tx:
            repair_log.end(tx, run, ended, self._catalog.now())

    def _may_compare(self, lease: Lease, name: str, count: int, watch: _Watch) -> bool:
        self._catalog.keep(lease)
        watch.on_progress(RepairProgress(name, "comparing", count))
        left = self._catalog.left(lease)
        return not watch.stop() and (left is None or left > COMPARING_SHARE * self._settings.run_hours * 3600.0)

    def _may_mend(self, lease: Lease, name: str, doing: str, count: int, watch: _Watch) -> bool:
        self._catalog.keep(lease)
        watch.on_progress(RepairProgress(name, doing, count))  # type: ignore[arg-type]
        left = self._catalog.left(lease)
        return not watch.stop() and (left is None or left > ENDING_SHARE * self._settings.run_hours * 3600.0)

    # What is known of it

    def status(self) -> RepairStatus:
        """Where repair stands in each live generation."""
        found = []
        with self._catalog.read() as tx:
            for name in journal.live_generations(tx):
                cursor = repair_log.cursor(tx, name)
                counted = repair_log.counted(tx, name)
                found.append(
                    GenerationHealth(
                        generation=name,
                        last_check=repair_log.last(tx, name, "check"),
                        last_walk=repair_log.last(tx, name, "walk"),
                        walked_to="" if cursor is None else cursor.after,
                        lap_begun_at=None if cursor is None else cursor.lap_begun_at,
                        lap_ended_at=None if cursor is None else cursor.lap_ended_at,
                        quarantined=counted.waiting,
                        waived=counted.waived,
                        oldest_at=counted.oldest_at,
                    )
                )
            views = activity.lease_views(tx, self._catalog, self._catalog.now())
        holders = [view.holder for view in views if view.name == LEASE_NAME and view.held]
        return RepairStatus(tuple(found), holders[0] if holders else None)

    def history(self, *, limit: int = 20, generation: str | None = None) -> list[RunView]:
        """The last repairs, newest first. Of those in a row that found nothing, only the newest is kept."""
        with self._catalog.read() as tx:
            return repair_log.history(tx, limit, generation)

    def problems(self) -> list[Problem]:
        """For `status`: repairs that were refused, and what is in quarantine."""
        found = []
        with self._catalog.read() as tx:
            for name in journal.live_generations(tx):
                last = repair_log.last(tx, name)
                if last is not None and last.state == "refused":
                    message = f"A repair of {name} was refused: {last.message}"
                    found.append(
                        Problem(last.code or "", "error", message, "speakerdb repair run --dry-run", generation=name)
                    )
                counted = repair_log.counted(tx, name)
                if counted.waiting:
                    message = f"{counted.waiting:,} documents of {name} could not be mended, and are tried again later."
                    found.append(
                        Problem(
                            "quarantined", "warning", message, "speakerdb repair quarantine list", counted.waiting, name
                        )
                    )
        return found

    # Quarantine

    def quarantine(
        self, *, generation: str | None = None, code: str | None = None, limit: int | None = None
    ) -> list[QuarantineView]:
        """What could not be mended, the oldest first."""
        with self._catalog.read() as tx:
            return repair_log.chosen(tx, generation=generation, code=code, limit=limit)

    def retry_quarantined(
        self,
        *,
        generation: str | None = None,
        code: str | None = None,
        ids: Sequence[str] | None = None,
        why: str | None = None,
    ) -> int:
        """Try these again with the next repair, those that were waived too; how many."""
        with self._catalog.job() as tx:
            now = self._catalog.now()
            count = repair_log.make_due(tx, generation, code, ids, now)
            if count:
                journal.record(tx, "quarantine-retried", self._who, now, why=why, count=count)
        return count

    def waive_quarantined(
        self,
        *,
        why: str,
        generation: str | None = None,
        code: str | None = None,
        ids: Sequence[str] | None = None,
    ) -> int:
        """Let these be as they are, on a person's word; how many."""
        if not why.strip():
            raise InvalidInput("A waiver needs a reason.", hint="Give `--why TEXT`.")
        with self._catalog.job() as tx:
            count = repair_log.waive(tx, generation, code, ids, why)
            if count:
                journal.record(tx, "quarantine-waived", self._who, self._catalog.now(), why=why, count=count)
        return count


def _tell(on_progress: OnRepair, name: str, count: int) -> bool:
    on_progress(RepairProgress(name, "comparing", count))
    return True


def _done(outcome: Outcome) -> dict[str, int]:
    return {str(mend): count for mend, count in sorted(outcome.done.items()) if count}


def _moved(old: Cursor | None, index: str, reached: str | None, now: int) -> Cursor:
    """The cursor after a share: at the last id that was compared, or at the beginning of the next lap."""
    begun = now if old is None or old.index != index or not old.after else old.lap_begun_at
    ended = None if old is None or old.index != index else old.lap_ended_at
    return Cursor(index, reached or "", begun, now if reached is None else ended)
