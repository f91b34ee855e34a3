"""Carrying a swap out and deciding one that was left unfinished; ending a migration and dropping the index that leaves.

Everything here runs under the migration's lease. Each effect is preceded by a statement that fails for whoever lost it, or by
a look at this machine's own clock.
"""

from __future__ import annotations

from collections.abc import Mapping

from speakerdb.catalog import asking, journal, leases, work
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.journal import MigrationRow
from speakerdb.catalog.leases import Lease
from speakerdb.core import lifecycle
from speakerdb.core.lifecycle import State
from speakerdb.errors import AliasMoved, BackendError, IllegalTransition, LeaseHeld, LeaseLost, SafetyStop, WritesFenced
from speakerdb.index.port import VectorIndex
from speakerdb.migrator.serving import LEASE_NAME, Serving
from speakerdb.migrator.swap import TOKEN_PREFIX, Swap, has_happened, remove_tokens
from speakerdb.types import SERVING_ALIAS, AliasAction, Generation

DAY = 86_400 * 1_000_000


class Outcome:
    """Brings a migration's announced changes to their end, and decides those that another process left."""

    def __init__(
        self,
        catalog: Catalog,
        index: VectorIndex,
        generations: Mapping[str, Generation],
        serving: Serving,
        *,
        rollback_days: float,
        who: str,
    ) -> None:
        self._catalog = catalog
        self._index = index
        self._generations = generations
        self._serving = serving
        self._rollback_days = rollback_days
        self._who = who

    def recover_if_needed(self) -> None:
        """Resolve what a dead process left behind, unless nothing is left or another live process is at it."""
        with self._catalog.read() as tx:
            migration = journal.active(tx, SERVING_ALIAS)
            left = journal.to_drop(tx) or journal.any_replacing(tx)
        if left or (migration is not None and migration.state.intention):
            try:
                with self._catalog.holding(LEASE_NAME) as lease:
                    self.recover(lease)
            except LeaseHeld:
                return  # whoever holds it decides it

    def recover(self, lease: Lease) -> State | None:
        """Decide an unfinished swap, take away stray tokens, and drop indices that were to go. Under the lease.

        The state that an unfinished swap led to if it has happened; None where there was none, or it never will.
        """
        reached = None
        self._catalog.renew(lease)  # nobody who lost the lease may take another one's token
        with self._catalog.read() as tx:
            migration = journal.active(tx, SERVING_ALIAS)
        self._catalog.keep(lease)
        remove_tokens(self._index)
        with self._catalog.job(lease) as tx:
            journal.clear_replacing(tx)  # of a rebuild that died: without its token it has happened, or never will
        if migration is not None and migration.state.intention:
            source, target = self._generations[migration.source], self._generations[migration.target]
            try:
                swapped = has_happened(
                    self._index, migration,
                    source=self._serving.index_of(source), target=self._serving.index_of(target),
                )  # fmt: skip
            except SafetyStop:
                self._catalog.renew(lease)  # a holder that wakes late sees an alias that is another one's to judge
                raise
            self._settle_intention(lease, migration, swapped=swapped, resolved=True)
            reached = lifecycle.resolve(migration.state, swapped=True) if swapped else None
        else:
            with self._catalog.job(lease) as tx:
                leases.lift_fence(tx)  # of a finalize that died before it announced its swap
        self.drop_left_over(lease)
        return reached

    def carry_out(self, lease: Lease, migration: MigrationRow, swap: Swap, intention: State, *, fenced: bool) -> None:
        """Token, intention, swap, and what became of it. `AliasMoved`, `WritesFenced`; then nothing serves differently."""
        self._catalog.keep(lease)
        swap.put_token(self._index)
        self._announce(lease, migration, swap, intention, fenced=fenced)
        self._perform(lease, swap)

    def _perform(self, lease: Lease, swap: Swap) -> None:
        """Send the swap and write down what became of it. An answer that does not come is decided by the alias."""
        self._catalog.keep(lease)  # who slept since the intention was written sends nothing
        try:
            swap.perform(self._index)
        except (AliasMoved, BackendError):
            if self.recover(lease) is None:
                raise
            return
        with self._catalog.read() as tx:
            announced = journal.active(tx, SERVING_ALIAS)
        if announced is None or announced.swap_token != swap.token:
            raise LeaseLost("Another process has finished this swap meanwhile.", hint="See `speakerdb migrate status`.")
        self._settle_intention(lease, announced, swapped=True, resolved=False)
        self.drop_left_over(lease)

    def _announce(self, lease: Lease, migration: MigrationRow, swap: Swap, intention: State, *, fenced: bool) -> None:
        """Write the intention, if this is still the holder and nothing has changed since it was proven."""
        with self._catalog.job(lease) as tx:
            now = self._catalog.now()
            current = journal.active(tx, SERVING_ALIAS)
            if current is None or current.id != migration.id:
                raise IllegalTransition("The migration ended meanwhile.", hint="See `speakerdb migrate status`.")
            lifecycle.check(current.state, intention)
            if fenced and not leases.fence_stands(tx, self._catalog.holder.name, now):
                raise WritesFenced(
                    "Catching up took longer than the write fence stands.",
                    hint="Finalize again at a quieter time, or raise the setting fence_seconds.",
                )
            journal.update_migration(tx, migration.id, state=intention.value, swap_token=swap.token)
            journal.record(
                tx, "swap-announced", self._who, now, migration_id=migration.id,
                intention=intention.value, entering=swap.entering, leaving=swap.leaving,
            )  # fmt: skip

    def _settle_intention(self, lease: Lease, migration: MigrationRow, *, swapped: bool, resolved: bool) -> None:
        state = lifecycle.resolve(migration.state, swapped=swapped)
        drop = self._serving.index_of(self._generations[migration.target])
        with self._catalog.job(lease) as tx:
            now = self._catalog.now()
            leases.lift_fence(tx)
            if state is State.ROLLED_BACK:
                self.end(tx, migration, state, leaving=migration.target, drop=drop)
            else:
                values: dict[str, object] = {"state": state.value, "swap_token": None}
                if state is State.FINALIZED and migration.finalized_at is None:
                    until = now + int(self._rollback_days * DAY)
                    values |= {"finalized_at": now, "rollback_until": until, "paused": False, "pause_reason": None}
                journal.update_migration(tx, migration.id, **values)
                journal.record(
                    tx, f"migration-{state.value}", self._who, now, migration_id=migration.id, resolved=resolved
                )
        self._serving.forget()

    def end(self, tx: Transaction, migration: MigrationRow, state: State, *, leaving: str, drop: str) -> None:
        """Write an end state; the generation that leaves is live no more, and its concrete index is to be dropped."""
        now = self._catalog.now()
        lifecycle.check(migration.state, state)
        journal.update_migration(
            tx, migration.id, state=state.value, swap_token=None, ended_at=now, paused=False, pause_reason=None,
            drop_index=drop,
        )  # fmt: skip
        leases.exclude_writers(tx)
        journal.set_live(tx, leaving, live=False)
        work.drop_open(tx, leaving)
        if state is State.CANCELLED:
            asking.drop_of_migration(tx, migration.started_at)
        journal.record(tx, f"migration-{state.value.replace('_', '-')}", self._who, now, migration_id=migration.id)

    def drop_left_over(self, lease: Lease) -> None:
        """Drop the indices that ended migrations left; never one that the alias names or that is live again."""
        with self._catalog.read() as tx:
            left = journal.to_drop(tx)
            names = journal.live_generations(tx)
        live = {self._serving.index_of(self._generations[name]) for name in names} if left else set()
        for migration in left:
            name = migration.drop_index
            if name is not None and name not in live and name in self._index.indices(()):
                if name in self._index.aliases().get(SERVING_ALIAS, ()):
                    self._catalog.renew(lease)  # it may have been made again, and swapped in, by the next holder
                    raise SafetyStop(
                        f"The index {name!r} is to be dropped, and the alias names it.",
                        hint="Somebody moved the alias by hand: `speakerdb status` names the command that puts it back.",
                    )
                self.drop(lease, name)
            with self._catalog.job(lease) as tx:
                journal.update_migration(tx, migration.id, drop_index=None)

    def drop(self, lease: Lease, name: str) -> None:
        """Drop an index. As with a swap: a holder that was stopped here and wakes late finds its token gone, and drops
        nothing that was made under the same name since."""
        token = f"{TOKEN_PREFIX}drop-{name}-{lease.epoch}"
        self._catalog.keep(lease)
        self._index.update_aliases([AliasAction.add(token, name)])
        self._catalog.renew(lease)
        self._index.drop(name, token=token)
