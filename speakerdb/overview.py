"""What a person sees: what serves, what runs, what waits and why, what is broken and the command that mends it. Reads only."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speakerdb.catalog import activity, asking, journal, leases, library, listing, people, trail, vectors, work
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.journal import MigrationRow
from speakerdb.core import health
from speakerdb.core.health import Facts, GenerationFacts, MigrationFacts, TurnsFacts
from speakerdb.core.lifecycle import State
from speakerdb.core.pace import SLICES, WINDOW_SECONDS, pace
from speakerdb.core.turns import DIARIZE
from speakerdb.diarizers.asked import Asked
from speakerdb.errors import AliasMissing, ConfigurationError, SpeakerDBError
from speakerdb.extraction.drain import LEASE_NAME as WORK_LEASE
from speakerdb.index.port import VectorIndex
from speakerdb.live import Live, Preferences
from speakerdb.migrator import Serving
from speakerdb.migrator.layout import Layout
from speakerdb.migrator.serving import LEASE_NAME as MIGRATION_LEASE
from speakerdb.reports import CurrentRecording, ItemError, MigrationView, Progress, SourceLag, Status
from speakerdb.reports.recordings import MigrationSummary, Part
from speakerdb.reports.rediarizing import TurnsProgress
from speakerdb.reports.seeing import ErrorGroup, EventFilter, LeaseView, Pace, Problem
from speakerdb.types import SERVING_ALIAS, Generation

UNKNOWN = "?"
"""What is shown where the alias does not say what serves."""
EVENTS_A_PART = 1000

Watch = Callable[[], Iterable[Problem]]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the catalog and the index said, each at one point in time. `progress` is by generation."""

    facts: Facts
    live: tuple[str, ...]
    index: str | None
    away: bool
    """The index cannot be asked, and was asked once: each time may take as long as a request is tried again."""
    moving: bool
    """Indices or aliases may have been made, moved or dropped between the two."""
    faults: tuple[Problem, ...]
    leases: tuple[LeaseView, ...]
    current: tuple[CurrentRecording, ...]
    progress: Mapping[str, Progress]
    pace: Mapping[str, Pace]
    migration: MigrationRow | None
    lag: SourceLag | None
    errors: tuple[ErrorGroup, ...]
    failed: tuple[ItemError, ...]
    counts: Mapping[str, int]
    diarized: TurnsProgress | None
    """Of the newest migration."""


class Overview:
    """Reads the state of a library. `watch` adds problems that another room finds."""

    def __init__(
        self,
        catalog: Catalog,
        index: VectorIndex,
        generations: Mapping[str, Generation],
        serving: Serving,
        live: Live,
        preferences: Preferences,
        *,
        data_dir: Path,
        disk_floor_bytes: int = 0,
        backend: Callable[[Generation], str] | None = None,
    ) -> None:
        """`backend` says what computes a generation's vectors on this machine, and why."""
        self._live = live
        self._preferences = preferences
        self._catalog = catalog
        self._index = index
        self._generations = generations
        self._serving = serving
        self._data_dir = data_dir
        self._disk_floor = disk_floor_bytes
        self._backend = backend
        self._watches: list[Watch] = []

    def watch(self, find: Watch) -> None:
        """Ask `find` for more problems whenever the status is asked for. It must be quick, and read only."""
        self._watches.append(find)

    # What is

    def status(self) -> Status:
        """What serves, what runs, what waits and why, what is broken and the command that mends it."""
        seen = self._look()
        waits = health.waiting(seen.facts)
        found = [*seen.faults, *health.problems(seen.facts, waits)]
        watches = self._watches if seen.away else [self._troubles, *self._watches]
        found += [problem for find in watches for problem in find()]
        migration = seen.migration
        return Status(
            serving=seen.facts.serving or UNKNOWN,
            index=seen.index or UNKNOWN,
            live=seen.live,
            libraries=seen.counts["libraries"],
            recordings=seen.counts["recordings"],
            speakers=seen.counts["speakers"],
            profiles=seen.counts["profiles"],
            progress={name: seen.progress[name] for name in seen.live},
            migration=None if migration is None or migration.state.ended else _view(seen, migration),
            leases=seen.leases,
            problems=tuple(sorted(found, key=lambda problem: problem.severity != "error")),
            data_dir=str(self._data_dir),
            database=self._catalog.database.url,
            current=seen.current,
            pace=seen.pace,
            waiting=waits,
            preferences=self._preferences.views(),
            backends={}
            if self._backend is None
            else {name: self._backend(self._generations[name]) for name in seen.live},
        )

    def leases(self) -> tuple[LeaseView, ...]:
        """Every lease that was ever taken, who holds it, and whether that process still lives."""
        with self._catalog.read() as tx:
            return tuple(activity.lease_views(tx, self._catalog, self._catalog.now()))

    def progress(self, generation: str | None = None) -> Progress:
        """How far a generation is; without one, the target of a running migration, else what serves."""
        if generation is None:
            with self._catalog.read() as tx:
                active = journal.active(tx, SERVING_ALIAS)
            generation = active.target if active is not None else self._serving.resolve().generation.name
        with self._catalog.read() as tx:
            return work.progress(tx, generation)

    def migration(self) -> MigrationView | None:
        """The newest migration."""
        seen = self._look(migration_only=True)
        return None if seen.migration is None else _view(seen, seen.migration)

    # What happened

    def events(self, where: EventFilter = trail.ANY, *, limit: int = 50) -> list[dict[str, Any]]:
        """The last events that match, newest first."""
        with self._catalog.read() as tx:
            return trail.latest_events(tx, limit, where)

    def all_events(self, where: EventFilter = trail.ANY, *, after: int = 0) -> Iterator[dict[str, Any]]:
        """Every event that matches, oldest first, read in parts: nothing is held or locked between two of them."""
        while True:
            with self._catalog.read() as tx:
                part = trail.events_after(tx, after, EVENTS_A_PART, where)
            yield from part
            if len(part) < EVENTS_A_PART:
                return
            after = part[-1]["id"]

    def events_after(self, after: int, limit: int, where: EventFilter = trail.ANY) -> list[dict[str, Any]]:
        """The first events that match and come after one (by number), the oldest first."""
        with self._catalog.read() as tx:
            return trail.events_after(tx, after, limit, where)

    def migrations(self, *, before: int | None = None, limit: int) -> Part[MigrationSummary]:
        """Every migration that was started, the newest first, a page at a time."""
        with self._catalog.read() as tx:
            found = listing.migrations_before(tx, SERVING_ALIAS, before, limit + 1)
        more, found = len(found) > limit, found[:limit]
        return Part(tuple(found), (found[-1].id,) if more else None)

    def last_event(self) -> int:
        """The number of the last event, to follow what comes after it; 0 where there is none."""
        with self._catalog.read() as tx:
            return trail.newest_number(tx)

    def entity(self, given: str) -> str:
        """What a shortened id stands for, of what events are about, gone or not; as given where it stands for no one thing."""
        with self._catalog.read() as tx:
            found = trail.entities(tx, given)
        return found[0] if len(found) == 1 else given

    # Small parts

    def _look(self, *, migration_only: bool = False) -> _Seen:
        """Read everything once. With `migration_only`, what is counted is counted for the newest migration's target alone.

        Where something seems to be wrong with the aliases while a process may move them, it is looked once more: the index
        and SQL are not read at the same moment.
        """
        seen = self._read(migration_only=migration_only)
        return self._read(migration_only=migration_only) if seen.moving and health.astray(seen.facts) else seen

    def _read(self, *, migration_only: bool) -> _Seen:
        with self._catalog.read() as tx:
            row = leases.find(tx, MIGRATION_LEASE)
            mover = None if row is None else activity.lease_view(row, self._catalog, self._catalog.now())
        layout, faults = self._layout()
        serving, index, alias_faults = (None, None, []) if layout is None else self._alias(layout)
        stated, halt = self._serving.stated(), self._live.halt()
        with self._catalog.read() as tx:
            now = self._catalog.now()
            held = {one.name: one for one in activity.lease_views(tx, self._catalog, now)}
            newest = journal.newest(tx, SERVING_ALIAS)
            # In this transaction: another process may start a migration between two of them.
            only = {newest.target} if migration_only and newest is not None else set()
            every = journal.live_generations(tx)
            live = tuple(name for name in every if not migration_only or name in only)
            wanted = dict.fromkeys([*live, *only])
            queues = activity.queues(tx, journal.paused_targets(tx))
            diarized = None if newest is None else asking.progress(tx, newest.started_at)
            turns_too = not migration_only or (diarized is not None and diarized.recordings_failed > 0)
            groups = _groups(tx, [*wanted, *((DIARIZE,) if turns_too else ())])
            model_faults = {
                name: (code, text)
                for name, code, text in activity.faults_in_queue(tx)
                if code in (health.DIARIZER_FAULTS if name == DIARIZE else health.MODEL_FAULTS)
            }
            progress = {name: work.progress(tx, name) for name in wanted}
            generations = tuple(
                self._generation_facts(
                    tx, name, progress[name], queues.get(name, activity.Queue()), layout, model_faults.get(name),
                    tuple(group for group in groups if group.generation == name),
                )
                for name in live
            )  # fmt: skip
            works = held.get(WORK_LEASE)
            migrating = held.get(MIGRATION_LEASE)
            # Whoever makes, moves or drops an index holds the lease. Its epoch tells who had it and let it go in between.
            moving = mover != migrating or (mover is not None and mover.state not in ("free", "gone"))
            counts = {} if migration_only else library.counts(tx)
            lag = None
            if newest is not None and newest.state not in (State.RETIRED, State.CANCELLED):
                lag = _lag(tx, newest.source, progress)
            facts = Facts(
                now=now,
                serving=serving,
                stated=stated,
                generations=generations,
                migration=_migration_facts(newest, 0 if lag is None else lag.speakers),
                work=works,
                migrating=migrating,
                fence_until=activity.fence_until(tx, now),
                disk_free=shutil.disk_usage(self._data_dir).free,
                disk_floor=self._disk_floor,
                old_cache=os.environ.get("PYANNOTE_CACHE"),
                left_over={} if layout is None or moving else layout.left_over(self._generations.values(), every),
                halt=halt,
                turns=None if migration_only else _turns_facts(queues, model_faults, groups),
            )
            return _Seen(
                facts=facts,
                live=live,
                index=index,
                away=layout is None,
                moving=moving,
                faults=(*faults, *alias_faults),
                leases=tuple(held.values()),
                current=activity.current(tx) if works is not None and works.held else (),
                progress=progress,
                pace=_paces(tx, works, queues, wanted, now),
                migration=newest,
                lag=lag,
                errors=tuple(groups),
                failed=() if newest is None else activity.failures(tx, newest.target),
                counts=counts,
                diarized=diarized,
            )

    def _alias(self, layout: Layout) -> tuple[str | None, str | None, list[Problem]]:
        """The generation and the concrete index that serve; else what is wrong."""
        try:
            state = self._serving.resolved_in(layout)
        except SpeakerDBError as error:
            command = ""
            if isinstance(error, (AliasMissing, ConfigurationError)):
                stated = self._serving.stated()
                serve = "" if error.details.get("targets") == [] else " --serve"
                command = f"speakerdb index rebuild {stated}{serve}" if stated is not None else health.WORK
            return None, None, [Problem(error.code, "error", f"{error.message} {error.hint}".strip(), command)]
        return state.generation.name, state.index, []

    def _layout(self) -> tuple[Layout | None, list[Problem]]:
        """What lies in the index; None, and what is wrong, where it cannot be asked."""
        try:
            return self._serving.layout(), []
        except SpeakerDBError as error:
            return None, [Problem(error.code, "error", f"{error.message} {error.hint}".strip(), "speakerdb doctor")]

    def _troubles(self) -> list[Problem]:
        """What a person should know of the index's engine."""
        try:
            return [Problem("index-trouble", "warning", sentence, "") for sentence in self._index.troubles()]
        except SpeakerDBError as error:
            return [Problem(error.code, "warning", f"{error.message} {error.hint}".strip(), "speakerdb doctor")]

    def _generation_facts(
        self,
        tx: Transaction,
        name: str,
        progress: Progress,
        queue: activity.Queue,
        layout: Layout | None,
        fault: tuple[str, str] | None,
        errors: tuple[ErrorGroup, ...],
    ) -> GenerationFacts:
        generation = self._generations[name]
        index = generation.index_name if layout is None else layout.current(generation)
        refused, waived, why = activity.rejected(tx, name)
        return GenerationFacts(
            name=name,
            index=index,
            index_there=layout is None or index in layout.infos,
            queued=queue.recordings,
            held_back=queue.held_back,
            taken=queue.taken,
            dirty_profiles=people.dirty_count(tx, name),
            documents_waiting=progress.documents_waiting,
            rejected=refused,
            waived=waived,
            rejection=why,
            misled=None if layout is None else layout.misled(generation),
            model_fault=fault,
            errors=errors,
        )


def _turns_facts(
    queues: Mapping[str, activity.Queue], faults: Mapping[str, tuple[str, str]], groups: list[ErrorGroup]
) -> TurnsFacts | None:
    """What is to be diarized, or could not be; None where nothing is."""
    queue = queues.get(DIARIZE, activity.Queue())
    errors = tuple(group for group in groups if group.generation == DIARIZE)
    if not (queue.recordings or errors):
        return None
    return TurnsFacts(DIARIZE, queue.recordings, queue.held_back, faults.get(DIARIZE), errors)


def _groups(tx: Transaction, names: list[str]) -> list[ErrorGroup]:
    return [
        ErrorGroup(
            row.generation, row.code, row.failed, row.recording_id, row.path, row.message or "", row.attempts,
            row.updated_at, health.retry_command(row.code, row.recording_id, Asked.from_json(row.options).options),
        )
        for row in activity.failures_by_code(tx, names)
    ]  # fmt: skip


def _migration_facts(row: MigrationRow | None, lag: int) -> MigrationFacts | None:
    if row is None or row.state.ended:
        return None
    return MigrationFacts(row.source, row.target, row.state, row.paused, row.pause_reason, row.rollback_until, lag)


def _paces(
    tx: Transaction, works: LeaseView | None, queues: Mapping[str, activity.Queue], names: Iterable[str], now: int
) -> dict[str, Pace]:
    """How fast each generation goes, since the process that works began, and ten minutes at most."""
    if works is None or not works.held:
        return {}
    begin = max(now - int(WINDOW_SECONDS * 1e6), works.since or 0)
    found = {}
    for name in names:
        queue = queues.get(name, activity.Queue())
        slices = activity.finished(tx, name, begin, now, SLICES)
        measured = pace(
            slices, (now - begin) / 1e6,
            left_recordings=queue.recordings - queue.held_back, left_audio=queue.audio_seconds,
        )  # fmt: skip
        if measured is not None:
            found[name] = measured
    return found


def _view(seen: _Seen, row: MigrationRow) -> MigrationView:
    facts, progress = seen.facts, seen.progress[row.target]
    return MigrationView(
        id=row.id,
        alias=row.alias,
        source=row.source,
        target=row.target,
        state=row.state.value,
        paused=row.paused,
        pause_reason=row.pause_reason,
        serving=facts.serving or UNKNOWN,
        started_at=row.started_at,
        finalized_at=row.finalized_at,
        rollback_until=row.rollback_until,
        source_lag=0 if seen.lag is None else seen.lag.speakers,
        progress=progress,
        failed=seen.failed,
        next_step=_next_step(row, progress),
        errors=tuple(
            group
            for group in seen.errors
            if group.generation == row.target or (seen.diarized is not None and group.generation == DIARIZE)
        ),
        current=tuple(one for one in seen.current if one.generation == row.target),
        pace=seen.pace.get(row.target),
        waiting=tuple(one for one in health.waiting(facts) if one.generation == row.target),
        lag=seen.lag,
        diarized=seen.diarized,
    )


def _lag(tx: Transaction, source: str, progress: Mapping[str, Progress]) -> SourceLag:
    known = progress.get(source) or work.progress(tx, source)
    return SourceLag(
        source,
        vectors.lacking(tx, source),
        known.documents_waiting,
        known.recordings_queued,
        known.recordings_failed,
        known.errors,
    )


def _next_step(row: MigrationRow, progress: Progress) -> str:
    if row.state is State.RUNNING:
        if row.paused:
            return "speakerdb migrate resume"
        if progress.recordings_queued or progress.documents_waiting:
            return "speakerdb work"
        if progress.recordings_failed:
            return "speakerdb migrate retry, or speakerdb migrate waive --code CODE --why TEXT"
        return "speakerdb migrate finalize"
    if row.state is State.FINALIZED:
        return "speakerdb migrate retire, when no roll-back will be needed"
    if row.state.intention:
        return "speakerdb work (it resolves the swap that was interrupted)"
    return f"speakerdb migrate start --to {row.target}" if row.state is not State.RETIRED else ""
