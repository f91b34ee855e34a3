"""Which index serves. Only the alias says: alias, then concrete index, then generation."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from speakerdb.catalog import adopting, journal, vectors
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.leases import Lease
from speakerdb.core.commands import command
from speakerdb.core.lifecycle import State
from speakerdb.errors import AliasMissing, ConfigurationError, IndexUnavailable, LeaseHeld, SafetyStop
from speakerdb.index.port import VectorIndex
from speakerdb.migrator.layout import Layout, current_in, mark_of
from speakerdb.migrator.swap import TOKEN_PREFIX, remove_tokens
from speakerdb.reports.seeing import Problem
from speakerdb.types import SERVING_ALIAS, AliasAction, Generation, IndexInfo

CACHE_SECONDS = 1.0
LOOKS = 10
"""How often it is looked what lies in the index, until nothing was moved meanwhile."""
LEASE_NAME = "migration"
logger = logging.getLogger("speakerdb.migrator")

_REBUILD = "Build the index again from SQL with `speakerdb index rebuild {}`."


@dataclass(frozen=True, slots=True)
class ServingState:
    """The generation that serves and the concrete index the alias names."""

    generation: Generation
    index: str
    indices: Mapping[str, str]
    """For every generation the concrete index that is kept current for it."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """The alias names something else than SQL says: somebody moved it, or the database is an older copy."""

    stated: str
    """The generation that serves by what SQL knows."""
    named: tuple[str, ...]
    """The concrete indices that the alias names."""
    foreign: bool = False
    """It names an index by the generation's name that speakerdb did not write."""

    @property
    def sentence(self) -> str:
        named = " and ".join(self.named) or "nothing"
        if self.foreign:
            return f"The alias {SERVING_ALIAS!r} names {named}, which speakerdb did not write as an index of {self.stated}."
        return f"The alias {SERVING_ALIAS!r} names {named}; by what SQL knows, {self.stated} serves."


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
        state = self._state(self._index.aliases(), lambda: self._index.indices(()))
        self._cached = (self._clock(), state)
        return state

    def resolved_in(self, layout: Layout) -> ServingState:
        """What served when the index was looked at. Raises as `resolve`."""
        return self._state(layout.aliases, lambda: layout.infos)

    def _state(
        self, aliases: Mapping[str, tuple[str, ...]], indices: Callable[[], Mapping[str, IndexInfo]]
    ) -> ServingState:
        targets = aliases.get(SERVING_ALIAS, ())
        if len(targets) != 1:
            raise AliasMissing(
                f"The alias {SERVING_ALIAS!r} names {len(targets)} indices; it must name one.",
                hint=_REBUILD.format((self.stated() or "GENERATION") + (" --serve" if targets else "")),
                targets=list(targets),
            )
        generation = self._named_by(targets[0], aliases) or self._marked(targets[0], indices())
        current = {name: current_in(aliases, one) for name, one in self._generations.items()}
        return ServingState(generation, targets[0], current)

    def forget(self) -> None:
        """Ask the alias again at the next `resolve`."""
        self._cached = None

    def _named_by(self, index: str, aliases: Mapping[str, tuple[str, ...]]) -> Generation | None:
        """The generation of a concrete index by its name; of one that was built beside another, by its name and the write
        alias. None where only its mark can tell."""
        for generation in self._generations.values():
            if generation.index_name == index:
                return generation
        built = [
            generation for generation in self._generations.values()
            if index.startswith(f"{generation.index_name}.") and aliases.get(generation.write_alias) == (index,)
        ]  # fmt: skip
        return built[0] if len(built) == 1 else None

    def _marked(self, index: str, infos: Mapping[str, IndexInfo]) -> Generation:
        info = infos.get(index)
        for generation in self._generations.values():
            if info is not None and info.metadata == mark_of(generation):
                return generation
        raise ConfigurationError(
            f"The alias names the index {index!r}, and no generation of that index is defined.",
            hint="Define it in the settings under [generations.NAME].",
        )

    def index_of(self, generation: Generation) -> str:
        """The concrete index that is kept current for a generation: the one its write alias names, else the one that
        would be made for it."""
        return current_in(self._index.aliases(), generation)

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

    def disagreement(self) -> Disagreement | None:
        """What the alias and SQL say differently; None where they agree, or SQL cannot tell."""
        # While it is moved they may seem to: then they do not the second time.
        return None if self._disagreement() is None else self._disagreement()

    def _disagreement(self) -> Disagreement | None:
        stated = self.stated()
        if stated is None:
            return None
        aliases = self._index.aliases()
        named = aliases.get(SERVING_ALIAS, ())
        generation = self._generations[stated]
        if named != (current_in(aliases, generation),):
            return Disagreement(stated, named)
        info = self._index.indices(()).get(named[0])
        own = info is None or info.metadata == mark_of(generation)
        return None if own else Disagreement(stated, named, foreign=True)

    def live(self) -> tuple[str, ...]:
        """The live generations, by name."""
        with self._catalog.read() as tx:
            return journal.live_generations(tx)

    def to_rebuild(self) -> list[str]:
        """Live generations whose index is ahead of SQL since the database was restored, until it is built again."""
        with self._catalog.read() as tx:
            return [name for name in journal.live_generations(tx) if journal.restored_since_rebuild(tx, name)]

    def layout(self, counted: Generation | None = None) -> Layout:
        """What lies in the index now, as it says itself: its indices, between two looks at the aliases that saw the same.

        Documents are counted in the index that is kept current for `counted`, and in no other: one that nobody can count must
        not hide all others. `IndexUnavailable` where the aliases are moved each time.
        """
        aliases = self._index.aliases()
        for _ in range(LOOKS):
            current = () if counted is None else (current_in(aliases, counted),)
            infos, before = self._index.indices(current), aliases
            aliases = self._index.aliases()
            if aliases == before:
                return Layout(infos, aliases)
        raise IndexUnavailable("Aliases come and go too fast to be listed.")

    def left_over(self) -> dict[str, str]:
        """See `Layout.left_over`."""
        return self.layout().left_over(self._generations.values(), self.live())

    def restored_problems(self) -> list[Problem]:
        """For `status`: what a restored database has still to be brought in line with."""
        return [
            Problem(
                "index-ahead", "error",
                f"The database is an older copy than the index of {name}, which may hold voices and versions that it does"
                " not know.",
                "speakerdb index rebuild --all", generation=name,
            )
            for name in self.to_rebuild()
        ]  # fmt: skip

    def notice_restored(self, who: str) -> None:
        """Write an event down where an index holds newer documents than SQL has rows for: the database is an older copy.

        Called before anything new is written, which would hide it: versions grow with the clock.
        """
        newest = {name: self._newest_in_index(self._generations[name]) for name in self.live()}
        with self._catalog.read() as tx:
            ahead = {
                name: newest[name]
                for name in journal.live_generations(tx)
                if newest.get(name)
                and not journal.restored_since_rebuild(tx, name)
                and not vectors.has_version_from(tx, name, newest[name])
            }
        if ahead:
            with self._catalog.job() as tx:
                for name, version in ahead.items():
                    journal.record(tx, "index-ahead", who, self._catalog.now(), entity_id=name, newest=version)

    def _newest_in_index(self, generation: Generation) -> int:
        """The newest version in the index that is kept current for a generation; 0 where it is empty, absent or another's,
        which `Layout.misled` tells of.

        0 too where the engine answers, and cannot count what is in this index: else everything would be refused, also what
        builds it again. The status tells of such an index, and a repair of what is ahead in it.
        """
        try:
            layout = self.layout(generation)
        except IndexUnavailable as error:
            if "status" not in error.details:
                raise
            logger.warning("restoration-not-checked generation=%s code=%s", generation.name, error.code)
            return 0
        info = layout.infos.get(layout.current(generation))
        return info.newest if info is not None and info.metadata == mark_of(generation) else 0

    def first_start(self, wanted: Generation) -> None:
        """Make the index and the alias of an installation that has neither; do nothing to one that is used already.

        What exists and is not ours is never guessed at: `SafetyStop` where a concrete index has the alias's name, or where the
        alias serves and the database knows no generation; `AliasMissing` where there are only indices. Each says what to
        do. An alias that is missing although the database knows a live generation is reported by `resolve`. No error is
        read as absence: what was asked is known before anything is made.
        """
        aliases = self._index.aliases()
        # Only where there is no alias does it count whether there are documents.
        infos = self._index.indices(() if SERVING_ALIAS in aliases else None)
        with self._catalog.read() as tx:
            live = journal.live_generations(tx)
            begun = adopting.begun(tx)
        if SERVING_ALIAS in infos and SERVING_ALIAS not in aliases:
            raise _legacy(begun is not None)
        if SERVING_ALIAS in aliases:
            if not live:
                raise _unclaimed(aliases[SERVING_ALIAS])
            return
        if any(info.documents or info.tombstones for info in infos.values()):
            if not live:
                raise _unnamed([name for name, info in sorted(infos.items()) if info.documents])
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
                self._catalog.keep(lease)
                self.make_index(wanted)
                self.give_alias(lease, wanted)
        except LeaseHeld:
            self._wait_for_alias()

    def make_index(self, generation: Generation) -> None:
        """The generation's concrete index and write alias, where they are not there yet."""
        if generation.write_alias not in self._index.aliases():
            self._index.create(generation.index_name, generation.dimension, mark_of(generation))
            self._index.update_aliases([AliasAction.add(generation.write_alias, generation.index_name)])

    def give_alias(self, lease: Lease, generation: Generation) -> None:
        """The alias gets a target where it has none: under a one-time token, as in a swap.

        Otherwise a holder that was stopped here, and wakes after the next one's migration, would give it a second target.
        """
        self._catalog.renew(lease)
        remove_tokens(self._index)
        if SERVING_ALIAS in self._index.aliases():
            return
        token = f"{TOKEN_PREFIX}first-{lease.epoch}"
        name = self.index_of(generation)
        self._catalog.keep(lease)
        self._index.update_aliases([AliasAction.add(token, name)])
        self._catalog.renew(lease)
        self._index.update_aliases([AliasAction.remove(token, name), AliasAction.add(SERVING_ALIAS, name)])

    def _wait_for_alias(self) -> None:
        """Another process is starting the same installation for the first time."""
        deadline = self._clock() + self._catalog.lease_seconds
        while SERVING_ALIAS not in self._index.aliases():
            if self._clock() >= deadline:
                return
            time.sleep(0.05)


def _legacy(begun: bool) -> SafetyStop:
    stood = " A take-over of it was interrupted, and it may be blocked for writing." if begun else ""
    back = " To let it be written again instead: `speakerdb index adopt --give-up`." if begun else ""
    return SafetyStop(
        f"An index is called {SERVING_ALIAS!r}, the name of the alias that says what serves: it is from before speakerdb."
        f"{stood}",
        hint="Take its place with `speakerdb index adopt --dry-run`, then `speakerdb index adopt`: its vectors are read into"
        f" the database first, and it is kept as a copy.{back}",
    )


def _unclaimed(targets: Sequence[str]) -> SafetyStop:
    named = " and ".join(targets)
    return SafetyStop(
        f"The alias {SERVING_ALIAS!r} names {named}, and the database knows no generation: the index is of another application"
        " or of another database.",
        hint="Bring the database back; or read the vectors into this one with"
        f" `{command('index import', targets[0], options=' --dry-run')}`, then without `--dry-run`; or move the index away to"
        " begin an empty library.",
        targets=list(targets),
    )


def _unnamed(found: Sequence[str]) -> AliasMissing:
    commands = "; ".join(f"`{command('index import', name)}`" for name in found)
    return AliasMissing(
        f"No alias {SERVING_ALIAS!r} says which index serves, the database knows no generation, and there are:"
        f" {', '.join(found) or 'deleted documents only'}.",
        hint=f"Choose what is to serve by reading it into the database (`--dry-run` first): {commands or 'none can be read'}."
        " Or bring the database back, or move the indices away to begin an empty library.",
        targets=[],
        indices=list(found),
    )
