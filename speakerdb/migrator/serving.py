"""Which index serves. Only the alias says: alias, then concrete index, then generation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from speakerdb.catalog import journal, vectors
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.leases import Lease
from speakerdb.core.lifecycle import State
from speakerdb.errors import AliasMissing, ConfigurationError, IndexMissing, LeaseHeld, SafetyStop
from speakerdb.index.port import VectorIndex
from speakerdb.migrator.swap import TOKEN_PREFIX, remove_tokens
from speakerdb.projector import Projector
from speakerdb.types import SERVING_ALIAS, AliasAction, Generation

CACHE_SECONDS = 1.0
LEASE_NAME = "migration"
_REBUILD = "Build the index again from SQL with `speakerdb index rebuild {}`."


@dataclass(frozen=True, slots=True)
class ServingState:
    """The generation that serves and the concrete index the alias names."""

    generation: Generation
    index: str


class Serving:
    """Resolves the alias, and sets it up at the first start."""

    def __init__(
        self,
        catalog: Catalog,
        index: VectorIndex,
        generations: Mapping[str, Generation],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._index = index
        self._generations = generations
        self._clock = clock
        self._cached: tuple[float, ServingState] | None = None

    def resolve(self, *, fresh: bool = False) -> ServingState:
        """What serves now; an answer may be a second old unless `fresh`.

        `AliasMissing` when the alias does not name exactly one index, `ConfigurationError` when no definition fits the
        index it names.
        """
        if not fresh and self._cached is not None and self._clock() - self._cached[0] < CACHE_SECONDS:
            return self._cached[1]
        targets = self._index.aliases().get(SERVING_ALIAS, ())
        if len(targets) != 1:
            raise AliasMissing(
                f"The alias {SERVING_ALIAS!r} names {len(targets)} indices; it must name one.",
                hint=_REBUILD.format(self.stated() or "GENERATION"),
                targets=list(targets),
            )
        state = ServingState(self.generation_of(targets[0]), targets[0])
        self._cached = (self._clock(), state)
        return state

    def forget(self) -> None:
        """Ask the alias again at the next `resolve`."""
        self._cached = None

    def generation_of(self, index: str) -> Generation:
        """The definition that fits a concrete index."""
        for generation in self._generations.values():
            if generation.index_name == index:
                return generation
        raise ConfigurationError(
            f"The alias names the index {index!r}, and no generation of that index is defined.",
            hint="Define it in the settings under [generations.NAME].",
        )

    def stated(self) -> str | None:
        """The generation that should serve by what SQL knows; None where only the alias could tell."""
        with self._catalog.read() as tx:
            active = journal.active(tx, SERVING_ALIAS)
            live = journal.live_generations(tx)
        if active is None:
            return live[0] if len(live) == 1 else None
        if active.state is State.RUNNING:
            return active.source
        return active.target if active.state is State.FINALIZED else None

    def first_start(self, wanted: Generation) -> None:
        """Make the index and the alias of an installation that has neither; do nothing to any other.

        An alias that is missing where documents or a live generation exist is never guessed: `resolve` reports it.
        """
        if SERVING_ALIAS in self._index.aliases():
            with self._catalog.read() as tx:
                if not journal.live_generations(tx):
                    raise SafetyStop(
                        "The index belongs to another database than this one, which knows no generation.",
                        hint="Bring the database back, or move the index away to begin an empty library.",
                    )
            return
        if any(info.documents or info.tombstones for info in self._index.indices().values()):
            return
        try:
            with self._catalog.holding(LEASE_NAME) as lease:
                with self._catalog.job(lease) as tx:
                    live = journal.live_generations(tx)
                    if live not in ((), (wanted.name,)):
                        return
                    if live and vectors.anything_indexed(tx):
                        return  # the index was lost: a person must say so
                    journal.register_generation(tx, wanted, self._catalog.now())
                    journal.set_live(tx, wanted.name, live=True)
                self.make_index(wanted)
                self._give_alias(lease, wanted)
        except LeaseHeld:
            self._wait_for_alias()

    @staticmethod
    def metadata(generation: Generation) -> Mapping[str, str]:
        """What marks an index as this generation's."""
        return {"generation": generation.name, "fingerprint": generation.fingerprint}

    def make_index(self, generation: Generation) -> None:
        """The generation's concrete index and write alias, where they are not there yet."""
        self._index.create(generation.index_name, generation.dimension, self.metadata(generation))
        if generation.write_alias not in self._index.aliases():
            self._index.update_aliases([AliasAction.add(generation.write_alias, generation.index_name)])

    def rebuild(self, generation: Generation, projector: Projector) -> int:
        """Write every document of a generation again from SQL, into a new index where it is gone; how many.

        Gives the alias back its target where it has none and SQL knows which generation serves.
        """
        with self._catalog.holding(LEASE_NAME) as lease:
            with self._catalog.job(lease) as tx:
                if generation.name not in journal.live_generations(tx):
                    raise IndexMissing(
                        f"Generation {generation.name!r} is not live, so it has no index to build.",
                        hint="Live generations are those `speakerdb status` shows.",
                    )
            self.make_index(generation)
            with self._catalog.job(lease) as tx:
                vectors.raise_generation(tx, generation.name, self._catalog.now())
            written = projector.settle(generation).written
            if self.stated() == generation.name:
                self._give_alias(lease, generation)
            self.forget()
            return written

    def _give_alias(self, lease: Lease, generation: Generation) -> None:
        """The alias gets a target where it has none: under a one-time token, as in a swap.

        Otherwise a holder that was stopped here, and wakes after the next one's migration, would give it a second target.
        """
        self._catalog.renew(lease)
        remove_tokens(self._index)
        if SERVING_ALIAS in self._index.aliases():
            return
        token = f"{TOKEN_PREFIX}first-{lease.epoch}"
        self._index.update_aliases([AliasAction.add(token, generation.index_name)])
        self._catalog.renew(lease)
        self._index.update_aliases(
            [AliasAction.remove(token, generation.index_name), AliasAction.add(SERVING_ALIAS, generation.index_name)]
        )

    def _wait_for_alias(self) -> None:
        """Another process is starting the same installation for the first time."""
        deadline = self._clock() + self._catalog.lease_seconds
        while SERVING_ALIAS not in self._index.aliases():
            if self._clock() >= deadline:
                return
            time.sleep(0.05)
