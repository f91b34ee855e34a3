"""The alias, set by a person: the way out where somebody has moved it, and in an emergency.

It is a swap like any other (see `swap`): under the migration's lease, with a one-time token, and decided by the alias where
the answer does not come. A migration stays in the state it is in; `status` goes on to say where the alias and SQL disagree.
"""

from __future__ import annotations

from collections.abc import Mapping

from speakerdb.catalog import journal
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.leases import Lease
from speakerdb.errors import (
    AliasMoved,
    BackendError,
    ConfigurationError,
    GateFailed,
    IllegalTransition,
    IndexMissing,
    InvalidInput,
    SafetyStop,
    SpeakerDBError,
)
from speakerdb.index.port import VectorIndex
from speakerdb.migrator import gates
from speakerdb.migrator.layout import mark_of
from speakerdb.migrator.outcome import Outcome
from speakerdb.migrator.serving import LEASE_NAME, Serving
from speakerdb.migrator.swap import TOKEN_PREFIX, remove_tokens
from speakerdb.projector import Projector
from speakerdb.reports import Check, GateReport
from speakerdb.reports.pointing import AliasReport, AliasView
from speakerdb.types import SERVING_ALIAS, AliasAction, Generation


class Pointing:
    """Shows what the alias names, and lets it name another index."""

    def __init__(
        self,
        catalog: Catalog,
        index: VectorIndex,
        generations: Mapping[str, Generation],
        serving: Serving,
        projector: Projector,
        outcome: Outcome,
        *,
        who: str,
    ) -> None:
        self._catalog = catalog
        self._index = index
        self._generations = generations
        self._serving = serving
        self._projector = projector
        self._outcome = outcome
        self._who = who

    def show(self) -> AliasView:
        """What the alias names now, and what SQL says. Changes nothing."""
        aliases = self._index.aliases()
        named = aliases.get(SERVING_ALIAS, ())
        generation, problem = None, None
        try:
            generation = self._serving.resolve(fresh=True).generation.name
        except SpeakerDBError as error:
            if isinstance(error, BackendError):
                raise
            problem = error.message
        if problem is None and (disagreement := self._serving.disagreement()) is not None:
            problem = disagreement.sentence
        live = self._serving.live()
        with self._catalog.read() as tx:
            active = journal.active(tx, SERVING_ALIAS)
        announced = active is not None and active.state.intention
        return AliasView(
            alias=SERVING_ALIAS,
            indices=named,
            generation=generation,
            stated=self._serving.stated(),
            current={name: self._serving.index_of(self._generations[name]) for name in live},
            intention=active.state.value if active is not None and announced else None,
            problem=problem,
        )

    def set(self, name: str, *, why: str, force: bool = False) -> AliasReport:
        """Let the alias name the index of a live generation, whatever it names now.

        What is announced already is decided first; `IllegalTransition` where that is not possible, because the alias names
        neither of the two. `IndexMissing` for a generation without an index that is kept current. `GateFailed` where that
        index does not equal SQL. With `force` both of them may be: then the alias, set to one of the two, decides the swap.
        """
        if not why.strip():
            raise InvalidInput("The alias is not set by hand without a reason.", hint="Say it with --why.")
        if name not in self._generations:
            raise ConfigurationError(
                f"There is no generation {name!r}.", hint=f"Known: {', '.join(sorted(self._generations))}."
            )
        generation = self._generations[name]
        with self._catalog.holding(LEASE_NAME) as lease:
            self._decide_announced(lease, name, force=force)
            target = self._target(generation)
            left = self._index.aliases().get(SERVING_ALIAS, ())
            if left == (target,):
                return AliasReport(name, target, left, moved=False, check=None)
            check = self._compared(lease, generation, target)
            if check.verdict == "fail" and not force:
                raise GateFailed(
                    f"The index of {name} does not equal SQL: {check.value}.",
                    hint=f"Run `speakerdb work`, or `speakerdb index rebuild {name}`; or set it anyway with `--force`.",
                    report=GateReport((check,), self._catalog.now()),
                )
            self._move(lease, generation, target, left, why=why, forced=check.verdict == "fail")
            self._outcome.recover(lease)  # what was left because the alias stood where it did
            return AliasReport(name, target, left, moved=True, check=check)

    def _announced(self) -> tuple[str, str] | None:
        """Source and target of a swap that is announced and not decided."""
        with self._catalog.read() as tx:
            active = journal.active(tx, SERVING_ALIAS)
        return (active.source, active.target) if active is not None and active.state.intention else None

    def _decide_announced(self, lease: Lease, name: str, *, force: bool) -> None:
        """From here on no request that is on its way moves the alias: tokens are gone."""
        try:
            self._outcome.recover(lease)
        except SafetyStop as error:
            ends = self._announced()
            if ends is None:
                return  # it names an index that is to be dropped, which is why it is to be set
            if not force or name not in ends:
                raise IllegalTransition(
                    f"A swap between {ends[0]} and {ends[1]} was announced, and the alias names neither.",
                    hint=f"Set it to one of the two with `--force`: that decides the swap. {error.message}",
                ) from error

    def _target(self, generation: Generation) -> str:
        """The generation's own index that is kept current."""
        if generation.name not in self._serving.live():
            raise IndexMissing(
                f"Generation {generation.name!r} has no index that is kept current.",
                hint=f"Live generations: {', '.join(self._serving.live())}. Move there with `speakerdb migrate start`.",
            )
        target = self._serving.index_of(generation)
        info = self._index.indices(()).get(target)
        if info is None or info.metadata != mark_of(generation):
            found = "is missing" if info is None else "is not one that speakerdb wrote for it"
            raise IndexMissing(
                f"The index {target!r} of {generation.name} {found}.",
                hint=f"Build it again from SQL with `speakerdb index rebuild {generation.name}`.",
            )
        return target

    def _compared(self, lease: Lease, generation: Generation, target: str) -> Check:
        def keep() -> None:
            self._catalog.keep(lease)

        gates.settle(self._projector, generation, keep)
        mark = gates.watermark(self._catalog, generation)
        return gates.equality(self._catalog, self._index, generation, target, mark, keep)

    def _move(
        self, lease: Lease, generation: Generation, target: str, left: tuple[str, ...], *, why: str, forced: bool
    ) -> None:
        """Token, event, and one request: all or nothing."""
        token = f"{TOKEN_PREFIX}set-{generation.name}-{lease.epoch}"
        self._catalog.keep(lease)
        self._index.update_aliases([AliasAction.add(token, target)])
        with self._catalog.job(lease) as tx:
            journal.record(
                tx, "alias-set", self._who, self._catalog.now(), entity_id=generation.name, why=why,
                index=target, left=list(left), forced=forced,
            )  # fmt: skip
        self._catalog.keep(lease)
        try:
            self._index.update_aliases(
                [
                    AliasAction.remove(token, target),
                    *(AliasAction.remove(SERVING_ALIAS, name) for name in left),
                    AliasAction.add(SERVING_ALIAS, target),
                ]
            )
        except (AliasMoved, BackendError):
            # The answer did not come, or somebody moved it this moment: without its token it has happened, or never will.
            self._catalog.renew(lease)
            remove_tokens(self._index)
            if self._index.aliases().get(SERVING_ALIAS) != (target,):
                with self._catalog.job(lease) as tx:
                    journal.record(
                        tx, "alias-not-set", self._who, self._catalog.now(), entity_id=generation.name, index=target
                    )
                raise
        finally:
            self._serving.forget()
