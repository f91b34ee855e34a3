"""Taking the place of a legacy concrete index that has the alias's name. See the package for the protocol."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace

from speakerdb.adoption.importing import Import, ImportOptions
from speakerdb.adoption.writing import Plan, Tally
from speakerdb.catalog import adopting, journal
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.leases import Lease
from speakerdb.core.commands import command
from speakerdb.core.field_map import DOCUMENT_ID, REASONS
from speakerdb.errors import Conflict, IndexUnavailable, InvalidInput, SafetyStop, SpeakerDBError
from speakerdb.index.foreign import COPY_PREFIX, ForeignIndex, ForeignInfo
from speakerdb.index.port import VectorIndex
from speakerdb.migrator.rebuild import Rebuild
from speakerdb.migrator.serving import LEASE_NAME, Serving
from speakerdb.migrator.swap import remove_tokens
from speakerdb.reports.adopting import AdoptReport, ImportProgress, OnImport
from speakerdb.reports.rebuilding import RebuildProgress
from speakerdb.types import SERVING_ALIAS, AliasAction

LOOKED_UP = 1000


class TakeOver:
    """Replaces the concrete index `speakers` by the alias."""

    def __init__(
        self,
        catalog: Catalog,
        index: VectorIndex,
        foreign: Callable[[], ForeignIndex],
        importer: Import,
        serving: Serving,
        rebuild: Rebuild,
        *,
        who: str,
    ) -> None:
        self._catalog = catalog
        self._index = index
        self._open = foreign
        self._import = importer
        self._serving = serving
        self._rebuild = rebuild
        self._who = who

    def preview(self, options: ImportOptions | None = None, *, on_progress: OnImport = lambda _: None) -> AdoptReport:
        """What a take-over would read, and whether it could begin. Changes nothing."""
        begun = time.monotonic()
        info = self._legacy()
        plan = self._plan(info, options or ImportOptions(), dry_run=True)
        report = self._import.report(info, plan, self._import.read(info, plan, None, on_progress), 0.0)
        return AdoptReport(
            report, info.name, None, False, 0, info.blocked, round(time.monotonic() - begun, 3)
        )  # fmt: skip

    def run(
        self,
        options: ImportOptions | None = None,
        *,
        leave: Collection[str] = (),
        on_progress: OnImport = lambda _: None,
    ) -> AdoptReport:
        """Read it, block it, compare it, copy it, and let the alias take its place. `leave` are reasons for which
        documents may be refused; they stay in the copy.

        `SafetyStop` where something would be lost; the old index is then as it was, and takes writes again. Can be run
        again after anything.
        """
        if wrong := sorted(set(leave) - set(REASONS)):
            raise InvalidInput(f"Nothing is refused as {wrong[0]!r}.", hint=f"There are: {', '.join(sorted(REASONS))}.")
        begun = time.monotonic()
        with self._catalog.holding(LEASE_NAME) as lease:

            def on_part(progress: ImportProgress) -> None:
                self._catalog.keep(lease)
                on_progress(progress)

            self._clear(lease)
            if self._has_happened(lease):
                named = self._serving.resolve(fresh=True).index
                return AdoptReport(None, named, None, True, 0, False, round(time.monotonic() - begun, 3))
            info = self._legacy()
            plan = self._plan(info, options or ImportOptions(), dry_run=False)
            if plan.map.id == DOCUMENT_ID:
                # Most of it, while the application may still write.
                self._refuse_losses(self._import.read(info, plan, lease, on_part), leave)
            else:
                # Which of two documents of one id was the newer, nobody could tell: they are read once, and stand still.
                self._refuse_losses(self._import.read(info, replace(plan, dry_run=True), None, on_part), leave)
            with self._catalog.job(lease) as tx:
                journal.record(
                    tx, adopting.BEGUN, self._who, self._catalog.now(), index=info.name, identity=info.identity
                )
            try:
                return self._blocked(lease, info, plan, leave, on_part, begun)
            except (Exception, KeyboardInterrupt):
                with suppress(SpeakerDBError):  # then the next start says that it is blocked
                    self._lift(lease)
                raise

    def give_up(self) -> AdoptReport:
        """Let the legacy index take writes again. What was read stays in SQL."""
        with self._catalog.holding(LEASE_NAME) as lease:
            self._clear(lease)
            if self._has_happened(lease):
                raise Conflict(
                    "The take-over has happened; there is nothing to give up.", hint="See `speakerdb status`."
                )
            self._lift(lease)
        info = self._legacy()
        return AdoptReport(None, info.name, None, False, 0, info.blocked, 0.0)

    # Steps

    def _blocked(
        self, lease: Lease, info: ForeignInfo, plan: Plan, leave: Collection[str], on_progress: OnImport, begun: float
    ) -> AdoptReport:
        """From the block on."""
        foreign = self._open()
        self._catalog.renew(lease)
        foreign.block(info.name)
        still = self._same(foreign, info)
        tally = self._import.read(still, plan, lease, on_progress)
        self._refuse_losses(tally, leave)
        forgotten = self._forget(lease, foreign, still, plan)
        self._compare(still, plan, leave, on_progress)
        copy = f"{COPY_PREFIX}{lease.epoch}"
        self._catalog.renew(lease)
        foreign.copy(info.name, copy)
        self._wait_for(foreign, copy, still.documents)
        self._import.finish(lease, info, plan, tally)

        def tell(progress: RebuildProgress) -> None:
            on_progress(ImportProgress(progress.generation, progress.doing, progress.documents, progress.total))

        def instead(actions: Sequence[AliasAction]) -> None:
            now = self._same(foreign, info)
            if not now.blocked or now.documents != still.documents:
                raise SafetyStop(
                    f"The index {info.name!r} was written, or may be written again, after it was compared.",
                    hint="Somebody lifted its write block. Run this again when nobody does.",
                )
            self._catalog.renew(lease)
            foreign.replace(info.name, actions)

        built = self._rebuild.under(lease, plan.generation, on_progress=tell, send=instead)
        self._conclude(lease, built.index, copy)
        report = self._import.report(info, plan, tally, time.monotonic() - begun)
        return AdoptReport(report, built.index, copy, True, forgotten, False, round(time.monotonic() - begun, 3))

    def _forget(self, lease: Lease, foreign: ForeignIndex, info: ForeignInfo, plan: Plan) -> int:
        """Voices that only an earlier pass had told of, and whose documents are not there any more; how many."""
        if plan.map.id != DOCUMENT_ID:
            return 0  # read once only, after the block
        count, after = 0, ""
        while True:
            with self._catalog.read() as tx:
                ids = adopting.only_from(tx, plan.generation.name, plan.recipe, after, LOOKED_UP)
            if not ids:
                return count
            after = ids[-1]
            held = foreign.holds(info.name, ids)
            gone = [id for id in ids if id not in held]
            if gone:
                with self._catalog.change(lease) as tx:
                    adopting.forget(tx, plan.generation.name, gone, self._catalog.now())
                count += len(gone)

    def _compare(self, info: ForeignInfo, plan: Plan, leave: Collection[str], on_progress: OnImport) -> None:
        """Every document equals SQL, or was refused by name. `SafetyStop` otherwise."""
        found = self._import.read(info, replace(plan, dry_run=True), None, on_progress)
        self._refuse_losses(found, leave)
        if found.changes or found.counts["documents"] != info.documents:
            raise SafetyStop(
                f"The index {info.name!r} and the database do not agree: {found.changes} documents differ,"
                f" {found.counts['documents']} of {info.documents} were read.",
                hint="Run it again; if it stays so, look at them with `speakerdb index import --dry-run`.",
            )

    # Small parts

    def _clear(self, lease: Lease) -> None:
        """Whatever another holder left under way can not happen any more."""
        self._catalog.renew(lease)
        remove_tokens(self._index)
        with self._catalog.job(lease) as tx:
            journal.clear_replacing(tx)
        self._serving.forget()

    def _has_happened(self, lease: Lease) -> bool:
        """Whether an earlier run came to its request; it may have died before it could say so."""
        aliases, infos = self._index.aliases(), self._index.indices(())
        if SERVING_ALIAS in infos or SERVING_ALIAS not in aliases:
            return False
        with self._catalog.read() as tx:
            begun, ended = adopting.begun(tx), adopting.ever_adopted(tx)
        if begun is not None:
            self._conclude(lease, aliases[SERVING_ALIAS][0], None)
        return ended or begun is not None

    def _conclude(self, lease: Lease, index: str, copy: str | None) -> None:
        with self._catalog.job(lease) as tx:
            journal.record(tx, adopting.ADOPTED, self._who, self._catalog.now(), index=index, copy=copy)
        self._serving.forget()

    def _lift(self, lease: Lease) -> None:
        """Give the legacy index back to whoever writes it, if it is still there."""
        self._catalog.renew(lease)
        remove_tokens(self._index)
        if SERVING_ALIAS in self._index.indices(()):
            self._catalog.renew(lease)
            self._open().unblock(SERVING_ALIAS)
            with self._catalog.job(lease) as tx:
                journal.clear_replacing(tx)
                journal.record(tx, adopting.GIVEN_UP, self._who, self._catalog.now(), index=SERVING_ALIAS)

    def _legacy(self) -> ForeignInfo:
        aliases, infos = self._index.aliases(), self._index.indices(())
        if SERVING_ALIAS in aliases and SERVING_ALIAS not in infos:
            raise Conflict(
                f"{SERVING_ALIAS!r} is an alias already; there is no legacy index.", hint="See `speakerdb status`."
            )
        foreign = self._open()
        foreign.check_replaceable(SERVING_ALIAS)
        return foreign.describe(SERVING_ALIAS)

    def _plan(self, info: ForeignInfo, options: ImportOptions, *, dry_run: bool) -> Plan:
        plan = self._import.plan(info, options, dry_run=dry_run)
        live = self._serving.live()
        if live not in ((), (plan.generation.name,)):
            raise Conflict(
                f"This library uses {', '.join(live)}, and the legacy index is of {plan.generation.name}: it cannot become"
                " what serves.",
                hint=f"Read it with `{command('index import', info.name)}`, then move it away.",
            )
        return plan

    def _same(self, foreign: ForeignIndex, info: ForeignInfo) -> ForeignInfo:
        now = foreign.describe(info.name)
        if now.identity != info.identity:
            raise SafetyStop(f"The index {info.name!r} is not the one that was read.", hint="Run this again.")
        return now

    def _wait_for(self, foreign: ForeignIndex, copy: str, documents: int) -> None:
        """A copy counts only when it answers with all its documents."""
        found = foreign.describe(copy).documents
        if found != documents:
            raise IndexUnavailable(f"The copy {copy!r} holds {found} of {documents} documents.", hint="Run it again.")

    def _refuse_losses(self, tally: Tally, leave: Collection[str]) -> None:
        lost = {reason: count for reason, count in tally.refused.items() if reason not in leave}
        if lost:
            shown = "; ".join(
                f"{count} {REASONS[reason]} ({reason}: {', '.join(tally.examples[reason])})"
                for reason, count in sorted(lost.items())
            )
            options = " ".join(f"--leave {reason}" for reason in sorted(lost))
            raise SafetyStop(
                f"Documents would be lost: {shown}.",
                hint=f"Mend them, or leave them in the copy of the old index with `{options}`.",
                refused=lost,
            )
