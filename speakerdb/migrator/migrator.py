"""The life of a migration, step by step. Each step writes its intention before it acts and can be run again.

One lease covers whatever moves an alias or changes which generations are live. A process that died in the middle is
succeeded by the next one: it resolves what was left first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from speakerdb.catalog import asking, choosing, journal, leases, vectors, work
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.choosing import Part
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.journal import MigrationRow
from speakerdb.catalog.leases import Lease
from speakerdb.catalog.library import library_id
from speakerdb.core.lifecycle import State
from speakerdb.diarizers.asked import Asked
from speakerdb.errors import (
    AliasMoved,
    ConfigurationError,
    Conflict,
    GateFailed,
    IllegalTransition,
    InvalidInput,
    MigrationActive,
    NoMigration,
    PreflightFailed,
    WritesFenced,
)
from speakerdb.index.port import VectorIndex
from speakerdb.migrator import gates, preflight
from speakerdb.migrator.layout import mark_of
from speakerdb.migrator.outcome import Outcome
from speakerdb.migrator.pointing import Pointing
from speakerdb.migrator.probing import Probing
from speakerdb.migrator.rebuild import Rebuild
from speakerdb.migrator.serving import LEASE_NAME, Serving
from speakerdb.migrator.swap import Swap
from speakerdb.projector import Projector
from speakerdb.reports import GateReport, Preflight
from speakerdb.reports.rebuilding import OnRebuild, RebuildReport
from speakerdb.types import SERVING_ALIAS, Generation


@dataclass(frozen=True, slots=True)
class MigratorOptions:
    """What the settings say about migrations."""

    media_roots: tuple[Path, ...]
    data_dir: Path
    disk_floor_bytes: int
    workers: int
    fence_seconds: float
    rollback_days: float


@dataclass(frozen=True, slots=True)
class Swapped:
    """What a finalize or roll-back did."""

    gates: GateReport | None
    source_lag: int
    fence_seconds: float


@dataclass(frozen=True, slots=True)
class Which:
    """Which failed recordings are meant, and why: by error code, by a library's name, by a list of ids or paths. What is
    None does not matter."""

    code: str | None = None
    library: str | None = None
    listed: tuple[str, ...] | None = None
    why: str | None = None

    def chosen(self, tx: Transaction) -> work.Chosen:
        """The same by ids. `NotFound` for a library or a recording that is not there."""
        return work.Chosen(
            code=self.code,
            library=None if self.library is None else library_id(tx, self.library),
            recordings=None if self.listed is None else choosing.resolve_all(tx, self.listed),
        )


class Migrator:
    """Starts, finalizes, rolls back and retires migrations of the alias."""

    def __init__(
        self,
        catalog: Catalog,
        index: VectorIndex,
        generations: Mapping[str, Generation],
        serving: Serving,
        projector: Projector,
        options: MigratorOptions,
        *,
        probing: Probing,
        who: str,
    ) -> None:
        self._catalog = catalog
        self._index = index
        self._generations = generations
        self._serving = serving
        self._projector = projector
        self._options = options
        self._outcome = Outcome(catalog, index, generations, serving, rollback_days=options.rollback_days, who=who)
        self.rebuilding = Rebuild(catalog, index, serving, projector, self._outcome, who=who)
        self.pointing = Pointing(catalog, index, generations, serving, projector, self._outcome, who=who)
        self._probing = probing
        self._who = who

    # Start

    def preflight(self, target: str, *, rediarize: bool = False) -> Preflight:
        """What starting would meet. Changes nothing."""
        source, wanted = self._endpoints(target)
        return preflight.examine(
            self._catalog,
            self._index,
            source=source,
            source_index=self._serving.index_of(source),
            target=wanted,
            probe=self._probing.model,
            probe_diarizer=self._probing.diarizer if rediarize else None,
            media_roots=self._options.media_roots,
            data_dir=self._options.data_dir,
            disk_floor_bytes=self._options.disk_floor_bytes,
            workers=self._options.workers,
        )

    def start(
        self, target: str, *, force: bool = False, checked: Preflight | None = None, rediarize: bool = False
    ) -> int:
        """Begin a migration; its id. Embeddings that SQL has of an earlier try are used again. With `rediarize`, recordings
        that have sound are queued to be diarized again first.

        `MigrationActive`, `PreflightFailed` (with the report in its details) unless `force`.
        """
        if checked is None:
            # It may take minutes, in which no lease is held.
            self.recover_if_needed()
            self._refuse_second()
            checked = self.preflight(target, rediarize=rediarize)
        with self._catalog.holding(LEASE_NAME) as lease:
            self._outcome.recover(lease)
            source, wanted = self._endpoints(target)
            self._refuse_second()
            if (checked.source, checked.target) != (source.name, wanted.name):
                raise InvalidInput("This pre-flight was made for another migration.", hint="Make it again.")
            if not checked.passed and not force:
                names = ", ".join(check.name for check in checked.checks if check.verdict == "fail")
                raise PreflightFailed(
                    f"The migration would not come to its end: {names}.",
                    hint="Mend what failed, or start with --force.",
                    report=checked,
                )
            for name, found in self._index.indices(()).items():
                # Ours and not live, so it is what a start that died, or a database that was restored since, left:
                # documents that SQL does not know would stay in it for ever. Another's is refused below.
                if found.metadata == mark_of(wanted):
                    self._outcome.drop(lease, name)
            self._catalog.keep(lease)
            self._serving.make_index(wanted)
            with self._catalog.job(lease) as tx:
                # No recording may slip in between the work that is queued here and the generations it sees as live.
                leases.exclude_writers(tx)
                now = self._catalog.now()
                self._refuse_second(tx)
                journal.register_generation(tx, wanted, now)
                started = journal.insert_migration(tx, SERVING_ALIAS, source.name, wanted.name, now)
                journal.set_live(tx, wanted.name, live=True)
                # They are taken in the order of their numbers: turns before what is extracted of them.
                asked = Asked(who=self._who).to_json()
                to_diarize = asking.ask_all(tx, "migration", now, asked) if rediarize else 0
                queued = work.enqueue_library(tx, wanted.name, now)
                reused = vectors.raise_generation(tx, wanted.name, now)
                journal.record(
                    tx, "migration-started", self._who, now, migration_id=started,
                    source=source.name, target=wanted.name, queued=queued, reused=reused, to_diarize=to_diarize,
                )  # fmt: skip
            return started

    # While it runs

    def pause(self, reason: str) -> None:
        """Leave what is queued for the target in the queue. New recordings go on."""
        self._set_paused(True, reason or None)

    def resume(self) -> None:
        """Go on with what was paused."""
        self._set_paused(False, None)

    def retry(self, which: Which) -> int:
        """Queue failed items of the live generations again; how many."""
        with self._catalog.change() as tx:
            count = work.retry(tx, self._catalog.now(), which.chosen(tx))
            if count:
                journal.record(
                    tx, "items-retried", self._who, self._catalog.now(), why=which.why,
                    count=count, code=which.code, library=which.library,
                )  # fmt: skip
            return count

    def waive(self, which: Which) -> int:
        """Let failed items of the target be missing, on a person's word, kept in the events; how many."""
        if not (which.why or "").strip():
            raise InvalidInput("A waiver needs a reason.", hint="Say it with --why.")
        why = str(which.why)
        with self._catalog.change() as tx:
            migration = self._active(tx, State.RUNNING, verb="waive")
            now = self._catalog.now()
            waived = work.waive(tx, why, now, replace(which.chosen(tx), generation=migration.target))
            for recording, code in waived:
                journal.record(
                    tx,
                    "item-waived",
                    self._who,
                    now,
                    migration_id=migration.id,
                    entity_id=recording,
                    why=why,
                    code=code,
                )
            return len(waived)

    def first(self, part: Part) -> int:
        """Let a part of what the running migration has queued go before the rest; how many recordings."""
        with self._catalog.change() as tx:
            migration = self._active(tx, State.RUNNING, verb="order")
            count = choosing.put_first(tx, migration.target, part)
            journal.record(
                tx, "part-first", self._who, self._catalog.now(), migration_id=migration.id,
                count=count, share=part.share, library=part.library,
                listed=None if part.listed is None else len(part.listed),
            )  # fmt: skip
            return count

    def cancel(self) -> None:
        """End a running migration. The alias never moved; what was extracted stays in SQL for another try."""
        with self._catalog.holding(LEASE_NAME) as lease:
            self._outcome.recover(lease)
            with self._catalog.read() as tx:
                target = self._active(tx, State.RUNNING, verb="cancel").target
            self._check_serves_what_stays()
            drop = self._serving.index_of(self._generations[target])
            with self._catalog.job(lease) as tx:
                migration = self._active(tx, State.RUNNING, verb="cancel")
                self._outcome.end(tx, migration, State.CANCELLED, leaving=target, drop=drop)
            self._outcome.drop_left_over(lease)

    # Gates and swap

    def check_gates(self) -> GateReport:
        """Measure the gates of the running migration now, without swapping."""
        with self._catalog.read() as tx:
            migration = self._active(tx, State.RUNNING, verb="finalize")
        target = self._generations[migration.target]
        self._projector.settle(target)
        return self._measure(target, self._serving.index_of(target), lambda: None)

    def finalize(self) -> Swapped:
        """Prove the target and swap it in. `GateFailed` names what is not proven; then nothing changed."""
        with self._catalog.holding(LEASE_NAME) as lease:
            if self._outcome.recover(lease) is State.FINALIZED:
                return self._resumed()  # the swap of a process that died before it could say so
            with self._catalog.read() as tx:
                migration = self._active(tx, State.RUNNING, verb="finalize")
            source, target = self._generations[migration.source], self._generations[migration.target]
            leaving, entering = self._serving.index_of(source), self._serving.index_of(target)
            self._refuse_moved(leaving)

            def keep() -> None:
                self._catalog.keep(lease)

            gates.settle(self._projector, target, keep)
            report = self._measure(target, entering, keep)
            _refuse_unproven(report)
            swap = Swap.of(migration, lease.epoch, leaving=leaving, entering=entering)
            begun = time.monotonic()
            self._raise_fence(lease)
            try:
                gates.settle(self._projector, target, keep)
                late = gates.catch_up(self._catalog, self._index, target, entering, report.watermark)
                report = GateReport((*report.checks, late), report.watermark)
                _refuse_unproven(report)
                self._outcome.carry_out(lease, migration, swap, State.FINALIZING, fenced=True)
            except (Exception, KeyboardInterrupt):
                with self._catalog.job() as tx:
                    leases.lift_fence(tx, self._catalog.holder.name)
                raise
            return Swapped(report, self.source_lag(source), time.monotonic() - begun)

    def rollback(self, *, now: bool = False) -> Swapped:
        """Swap the source back in. With `now`, first swap, then bring the source up to date.

        `IllegalTransition` or `NoMigration` where there is nothing to roll back; `GateFailed` where the source
        index does not equal SQL. Speakers that the source lacks are counted, not refused.
        """
        with self._catalog.holding(LEASE_NAME) as lease:
            if self._outcome.recover(lease) is State.ROLLED_BACK:
                return self._resumed()  # the swap of a process that died before it could say so
            with self._catalog.read() as tx:
                migration = self._active(tx, State.FINALIZED, verb="roll back")
            source, target = self._generations[migration.source], self._generations[migration.target]
            leaving, entering = self._serving.index_of(target), self._serving.index_of(source)
            self._refuse_moved(leaving)

            def keep() -> None:
                self._catalog.keep(lease)

            report = None
            if not now:
                gates.settle(self._projector, source, keep)
                mark = gates.watermark(self._catalog, source)
                equal = gates.equality(self._catalog, self._index, source, entering, mark, keep)
                report = GateReport((equal,), mark)
                _refuse_unproven(report)
            swap = Swap.of(migration, lease.epoch, leaving=leaving, entering=entering)
            self._outcome.carry_out(lease, migration, swap, State.ROLLING_BACK, fenced=False)
            if now:
                gates.settle(self._projector, source, keep)
            return Swapped(report, self.source_lag(source), 0.0)

    def retire(self, *, purge: bool = False) -> None:
        """End the roll-back period: the state first, then the source index goes. Its vectors stay in SQL unless `purge`.

        Can be run again: what an earlier run left is finished.
        """
        with self._catalog.holding(LEASE_NAME) as lease:
            self._outcome.recover(lease)
            with self._catalog.read() as tx:
                migration = journal.newest(tx, SERVING_ALIAS)
            if migration is None:
                raise NoMigration("There is no migration to retire.")
            retired = migration.state is State.RETIRED
            self._check_serves_what_stays()
            drop = "" if retired else self._serving.index_of(self._generations[migration.source])
            with self._catalog.job(lease) as tx:
                if not retired:
                    migration = self._active(tx, State.FINALIZED, verb="retire")
                    self._outcome.end(tx, migration, State.RETIRED, leaving=migration.source, drop=drop)
                if purge:
                    vectors.purge(tx, migration.source)
                    journal.record(
                        tx, "vectors-purged", self._who, self._catalog.now(), migration_id=migration.id,
                        generation=migration.source,
                    )  # fmt: skip
            self._outcome.drop_left_over(lease)

    def rebuild(
        self, generation: Generation, *, serve: bool = False, on_progress: OnRebuild = lambda _: None
    ) -> RebuildReport:
        """Build a live generation's index again from SQL, beside the one that is there. See `Rebuild.run`."""
        return self.rebuilding.run(generation, serve=serve, on_progress=on_progress)

    def source_lag(self, source: Generation) -> int:
        """Speakers that the source could not answer for now."""
        with self._catalog.read() as tx:
            return vectors.lacking(tx, source.name)

    def _resumed(self) -> Swapped:
        with self._catalog.read() as tx:
            migration = journal.newest(tx, SERVING_ALIAS)
        return Swapped(None, 0 if migration is None else self.source_lag(self._generations[migration.source]), 0.0)

    def recover_if_needed(self) -> None:
        """Resolve what a dead process left behind, unless nothing is left or another live process is at it."""
        self._outcome.recover_if_needed()

    # Small parts

    def _endpoints(self, target: str) -> tuple[Generation, Generation]:
        source = self._serving.resolve(fresh=True).generation
        wanted = self._generations.get(target)
        if wanted is None:
            raise ConfigurationError(
                f"There is no generation {target!r}.",
                hint=f"Known generations: {', '.join(sorted(self._generations))}.",
            )
        if wanted.name == source.name:
            others = ", ".join(sorted(set(self._generations) - {target}))
            raise Conflict(
                f"Generation {target!r} serves already; there is nothing to move.",
                hint=f"Choose another target ({others}). Which generation a new library begins with is the setting `serving`.",
            )
        return source, wanted

    def _refuse_moved(self, leaving: str) -> None:
        """Before an intention is written that could not come true: `AliasMoved` unless the alias names what is to leave."""
        serving = self._serving.resolve(fresh=True)
        if serving.index != leaving:
            raise AliasMoved(f"The alias names {serving.index}, and should name {leaving}.")

    def _check_serves_what_stays(self) -> None:
        """Before a migration ends: `AliasMoved` where somebody put the alias on what is to go, or on anything else."""
        disagreement = self._serving.disagreement()
        if disagreement is not None and disagreement.named:
            raise AliasMoved(
                disagreement.sentence,
                hint=f"Let it serve again with `speakerdb index rebuild {disagreement.stated} --serve`.",
            )

    def _refuse_second(self, tx: Transaction | None = None) -> None:
        if tx is None:
            with self._catalog.read() as reading:
                active = journal.active(reading, SERVING_ALIAS)
        else:
            active = journal.active(tx, SERVING_ALIAS)
        if active is not None:
            raise MigrationActive(
                f"The migration from {active.source} to {active.target} is {active.state.value.replace('_', ' ')}.",
                migration=active.id,
                state=active.state.value,
                target=active.target,
            )

    def _active(self, tx: Transaction, wanted: State, *, verb: str) -> MigrationRow:
        migration = journal.active(tx, SERVING_ALIAS)
        if migration is None:
            raise NoMigration(f"There is no migration to {verb}.")
        if migration.state is not wanted:
            raise IllegalTransition(
                f"The migration is {migration.state.value.replace('_', ' ')}; only a {wanted.value} one can be asked to "
                f"{verb}.",
                state=migration.state.value,
            )
        return migration

    def _measure(self, target: Generation, name: str, keep: gates.Keep) -> GateReport:
        keep()
        self._index.tune(name, loading=False)  # what a load left switched off must not outlive it
        mark = self._catalog.now()
        return GateReport(
            (
                gates.coverage(self._catalog, target),
                gates.profiles(self._catalog, target),
                gates.equality(self._catalog, self._index, target, name, gates.watermark(self._catalog, target), keep),
                gates.read_back(self._catalog, self._index, target, name),
            ),
            mark,
        )

    def _set_paused(self, paused: bool, reason: str | None) -> None:
        with self._catalog.job() as tx:
            migration = self._active(tx, State.RUNNING, verb="pause" if paused else "resume")
            journal.update_migration(tx, migration.id, paused=paused, pause_reason=reason)
            kind = "migration-paused" if paused else "migration-resumed"
            journal.record(tx, kind, self._who, self._catalog.now(), migration_id=migration.id, why=reason)

    def _raise_fence(self, lease: Lease) -> None:
        with self._catalog.job(lease) as tx:
            if not leases.raise_fence(tx, self._catalog.holder.name, self._catalog.now(), self._options.fence_seconds):
                raise WritesFenced("Another process holds the write fence.", hint="Finalize again in a moment.")


def _refuse_unproven(report: GateReport) -> None:
    if not report.proven:
        failed = [check for check in report.checks if check.verdict == "fail"]
        raise GateFailed(
            f"Not proven: {', '.join(check.name for check in failed)}.",
            hint=" ".join(dict.fromkeys(check.hint for check in failed if check.hint)),
            report=report,
        )
