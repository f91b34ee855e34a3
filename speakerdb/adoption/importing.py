"""Reading an index into SQL, part by part. See the package for the protocol."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from speakerdb.adoption.writing import PartImport, Plan, Tally, version_floor
from speakerdb.catalog import adopting, journal, leases
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.leases import Lease
from speakerdb.core import field_map
from speakerdb.core.field_map import OURS, REASONS, FieldMap
from speakerdb.errors import BackendError, ConfigurationError, DimensionMismatch, IndexMissing, InvalidInput
from speakerdb.index.foreign import ForeignIndex, ForeignInfo, OwnIndices
from speakerdb.index.port import VectorIndex
from speakerdb.migrator.layout import mark_of
from speakerdb.migrator.serving import LEASE_NAME, Serving
from speakerdb.reports.adopting import ImportProgress, ImportReport, OnImport, RefusedDocuments
from speakerdb.reports.seeing import Problem
from speakerdb.types import SERVING_ALIAS, Generation

PART = 1000
"""Documents of one transaction."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a person says about an index. `fields` are our names with the names of its fields."""

    generation: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    library: str = "default"
    known_only: bool = False
    """Refuse documents of recordings that SQL does not know."""
    assumed_seconds: float | None = None
    """Seconds of speech behind a vector of which the index does not say it; the least that a recipe takes unless given."""
    extract_again: bool = False
    """Queue recordings that have turns, so that vectors of the generation's own recipe take the place of those read."""


class Import:
    """Imports indices."""

    def __init__(
        self,
        catalog: Catalog,
        generations: Mapping[str, Generation],
        serving: Serving,
        index: VectorIndex,
        foreign: Callable[[], ForeignIndex],
        *,
        who: str,
        part: int = PART,
    ) -> None:
        self._catalog = catalog
        self._generations = generations
        self._serving = serving
        self._index = index
        self._foreign = foreign
        self._who = who
        self._part = part

    def run(
        self,
        name: str,
        options: ImportOptions | None = None,
        *,
        dry_run: bool = False,
        on_progress: OnImport = lambda _: None,
    ) -> ImportReport:
        """Read the vectors of an index into SQL, or only say what would be read.

        `IndexMissing`; `InvalidInput`, `DimensionMismatch` and `ConfigurationError` where it is not clear what the index
        holds; `LeaseHeld` while a migration is at work.
        """
        options = options or ImportOptions()
        begun = time.monotonic()
        info = self.describe(name)
        plan = self.plan(info, options, dry_run=dry_run)
        if dry_run:
            return self.report(info, plan, self.read(info, plan, None, on_progress), time.monotonic() - begun)
        with self._catalog.holding(LEASE_NAME) as lease:
            tally = self.read(info, plan, lease, on_progress)
            self.finish(lease, info, plan, tally)
        return self.report(info, plan, tally, time.monotonic() - begun)

    # Parts of it, for the take-over too

    def describe(self, name: str) -> ForeignInfo:
        """The concrete index of a name, or of an alias."""
        try:
            own = OwnIndices(self._index).describe(name)
        except IndexMissing:
            return self._foreign().describe(name)  # it may lie where the port does not look
        return own if is_ours(own) else self._foreign().describe(name)

    def plan(self, info: ForeignInfo, options: ImportOptions, *, dry_run: bool) -> Plan:
        """What its documents are, and which generation's."""
        map_ = self._map(info, options)
        generation = self._generation(info, map_, options.generation)
        assumed = options.assumed_seconds
        if assumed is None:
            assumed = max(generation.recipe.minimum_seconds, 0.001)
        elif not 0 < assumed <= 1e7:
            raise InvalidInput(f"{assumed:g} seconds cannot be assumed.", hint="Give a number above 0.")
        return Plan(
            generation, f"{adopting.FOREIGN}{info.name}", map_, options.library, options.known_only, assumed,
            options.extract_again, dry_run, version_floor(info.newest),
        )  # fmt: skip

    def read(self, info: ForeignInfo, plan: Plan, lease: Lease | None, on_progress: OnImport) -> Tally:
        """One pass over the index; a dry run where there is no lease."""
        total = Tally()
        if lease is not None:
            with self._catalog.job(lease) as tx:
                journal.register_generation(tx, plan.generation, self._catalog.now())
        doing = "reading" if lease is not None else "comparing"
        on_progress(ImportProgress(info.name, doing, 0, info.documents))
        for part in self._parts(info, plan):
            if lease is None:
                with self._catalog.read() as tx:
                    done = PartImport(tx, plan, self._catalog.now(), total).run(part)
            else:
                with self._catalog.change(lease) as tx:
                    done = PartImport(tx, plan, self._catalog.now(), total).run(part)
            total.add(done)
            on_progress(ImportProgress(info.name, doing, total.counts["documents"], info.documents))
        return total

    def finish(self, lease: Lease, info: ForeignInfo, plan: Plan, tally: Tally) -> None:
        """The generation is live where none is, and the event is written."""
        with self._catalog.job(lease) as tx:
            leases.exclude_writers(tx)
            if not journal.live_generations(tx):
                journal.set_live(tx, plan.generation.name, live=True)
            journal.record(
                tx, adopting.IMPORTED, self._who, self._catalog.now(), entity_id=plan.generation.name, index=info.name,
                recipe=plan.recipe, documents=tally.counts["documents"], imported=tally.counts["imported"],
                updated=tally.counts["updated"], refused=dict(tally.refused),
            )  # fmt: skip

    def report(self, info: ForeignInfo, plan: Plan, tally: Tally, seconds: float) -> ImportReport:
        """What a pass did, or would do."""
        counts = tally.counts
        live = plan.generation.name in self._serving.live()
        return ImportReport(
            index=info.name,
            generation=plan.generation.name,
            recipe=plan.recipe,
            fields=plan.map.named(),
            dry_run=plan.dry_run,
            documents=counts["documents"],
            imported=counts["imported"],
            updated=counts["updated"],
            present=counts["present"],
            kept=counts["kept"],
            refused=tuple(
                RefusedDocuments(reason, REASONS[reason], count, tuple(tally.examples[reason]))
                for reason, count in sorted(tally.refused.items(), key=lambda each: (-each[1], each[0]))
            ),
            recordings=counts["recordings"],
            speakers=counts["speakers"],
            profiles=counts["profiles"],
            normalised=counts["normalised"],
            without_seconds=counts["without_seconds"],
            assumed_seconds=plan.assumed_seconds,
            queued=counts["queued"],
            live=live,
            next="" if plan.dry_run else self._next(plan.generation, live=live),
            seconds=round(seconds, 3),
        )

    def problems(self) -> list[Problem]:
        """For `status`: an index of others that serves, and vectors that were not made by their generation's recipe."""
        with self._catalog.read() as tx:
            if not adopting.any_imported(tx):
                return []
            mixes = {name: adopting.recipes(tx, name) for name in journal.live_generations(tx)}
        return [*self._foreign_serves(), *(one for name, mix in mixes.items() for one in _mixed(name, mix))]

    def _foreign_serves(self) -> list[Problem]:
        try:
            found = self._serving.disagreement()
        except BackendError:
            return []  # `status` says what is wrong with the index
        if found is None or not found.foreign:
            return []
        command = f"speakerdb index rebuild {found.stated} --serve"
        return [Problem("foreign-index", "error", found.sentence, command, generation=found.stated)]

    # Small parts

    def _parts(self, info: ForeignInfo, plan: Plan) -> Iterator[list[field_map.Read]]:
        dimension = plan.generation.dimension
        source: ForeignIndex = OwnIndices(self._index) if is_ours(info) else self._foreign()
        for part in source.documents(info.name, self._part):
            yield [field_map.read(plan.map, dimension, one.id, one.version, one.source) for one in part]

    def _map(self, info: ForeignInfo, options: ImportOptions) -> FieldMap:
        if is_ours(info):
            if options.fields:
                raise InvalidInput(f"speakerdb wrote the index {info.name!r}: its fields are known.")
            return OURS
        return field_map.detect(info.vectors, info.fields, options.fields)

    def _generation(self, info: ForeignInfo, map_: FieldMap, said: str | None) -> Generation:
        """By the index's own mark, by what a person says, else by the dimension where only one generation has it."""
        dimension = info.vectors[map_.vector]
        if said is not None:
            found = self._generations.get(said)
            if found is None:
                raise ConfigurationError(
                    f"There is no generation {said!r}.", hint=f"Known: {', '.join(sorted(self._generations))}."
                )
            if found.dimension != dimension:
                raise DimensionMismatch(
                    f"The vectors of the index {info.name!r} have {dimension} dimensions, and those of {said}"
                    f" {found.dimension}.",
                    hint=f"Name a generation of {dimension} dimensions, or another vector field.",
                )
            return found
        for generation in self._generations.values():
            if info.metadata == mark_of(generation):
                return generation
        fitting = [one for one in self._generations.values() if one.dimension == dimension]
        if len(fitting) == 1:
            return fitting[0]
        if not fitting:
            raise ConfigurationError(
                f"The vectors of the index {info.name!r} have {dimension} dimensions, and no generation has.",
                hint="Define the generation that they are of, in the settings under [generations.NAME].",
            )
        names = " and ".join(sorted(one.name for one in fitting))
        raise InvalidInput(
            f"The vectors of the index {info.name!r} have {dimension} dimensions, as those of {names} have.",
            hint="Say which with `--generation NAME`.",
        )

    def _next(self, generation: Generation, *, live: bool) -> str:
        if not live:
            return f"speakerdb migrate start --to {generation.name}"
        aliases, infos = self._index.aliases(), self._index.indices(())
        if SERVING_ALIAS in infos:
            return "speakerdb index adopt"
        written = aliases.get(generation.write_alias, ())
        serving = aliases.get(SERVING_ALIAS, ())
        if len(written) == 1 and written[0] in infos and serving:
            return "speakerdb work"
        return f"speakerdb index rebuild {generation.name}" + (" --serve" if serving else "")


def is_ours(info: ForeignInfo) -> bool:
    """Whether speakerdb wrote the index, of whichever installation."""
    return set(info.metadata) == {"generation", "fingerprint"}


def _mixed(name: str, mix: Mapping[str, int]) -> list[Problem]:
    foreign = {recipe: count for recipe, count in mix.items() if recipe.startswith(adopting.FOREIGN)}
    if not foreign:
        return []
    parts = ", ".join(f"{count:,} {recipe}" for recipe, count in sorted(foreign.items()))
    count = sum(foreign.values())
    message = (
        f"Of {sum(mix.values()):,} vectors of {name}, {count:,} were imported and not made by its own recipe: {parts}."
    )
    return [Problem("foreign-vectors", "warning", message, "", count, name)]
