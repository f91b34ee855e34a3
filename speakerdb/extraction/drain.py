"""Draining the queue: take, snapshot, extract, commit. The coordinator that holds the lease is the only one that commits.

A recording is the unit of atomicity: all its embeddings in a generation are committed with the state of its work item, and
only if the recording is still the one that was read. One transaction may hold many recordings; what one of them cannot
store, the others do not lose.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from speakerdb.catalog import journal, library, people, vectors, work
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction, savepoint
from speakerdb.catalog.leases import Lease
from speakerdb.catalog.vectors import EmbeddingRow
from speakerdb.catalog.work import Item
from speakerdb.errors import (
    BackendError,
    DimensionMismatch,
    ExtractionError,
    NotFinite,
    SpeakerDBError,
    WorkerDied,
    WorkerTimeout,
)
from speakerdb.executors import Executor
from speakerdb.extraction.extract import Extracted, LoadEmbedder, Task, extract
from speakerdb.reports import CurrentRecording, ItemError
from speakerdb.types import Embedding, Generation, Kind, Unembeddable, Waveform

LEASE_NAME = "work"
POLL_SECONDS = 1.0
"""How often a waiting coordinator looks at its clock, its lease and whether it is to stop."""

COMMIT_SECONDS = 1.0
"""Finished recordings are committed together, but no later than this after the first of them."""
NORM_TOLERANCE = 1e-3

Observe = Callable[[Sequence[CurrentRecording]], None]


@dataclass(slots=True)
class StepReport:
    """What one batch did. `taken` 0 means that the queue holds nothing that can be worked on."""

    taken: int = 0
    done: int = 0
    failed: int = 0
    embedded: int = 0
    unembeddable: int = 0
    audio_seconds: float = 0.0
    speech_seconds: float = 0.0
    models: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    errors: list[ItemError] = field(default_factory=list)
    unavailable: dict[str, SpeakerDBError] = field(default_factory=dict)
    """Generations whose model cannot be loaded; their items stay queued."""

    def add(self, other: StepReport) -> None:
        """Count another report into this one."""
        for name in ("taken", "done", "failed", "embedded", "unembeddable", "audio_seconds", "speech_seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.models |= other.models
        self.notices += [notice for notice in other.notices if notice not in self.notices]
        self.errors += other.errors
        self.unavailable |= other.unavailable


class Extraction:
    """Steps through the queue of work."""

    def __init__(
        self,
        catalog: Catalog,
        executor: Executor,
        generations: Mapping[str, Generation],
        *,
        load: LoadEmbedder,
        media_roots: Iterable[Path] = (),
        batch: int = 16,
        timeout: float = 900.0,
        width: Callable[[], int] | None = None,
        function: Callable[[Task], Extracted] = extract,
    ) -> None:
        """`width` says how many recordings are to be extracted at once; it is asked often. None: as the executor is."""
        self._catalog = catalog
        self._executor = executor
        self._width = width
        self._generations = generations
        self._load = load
        self._media_roots = tuple(media_roots)
        self._batch = batch
        self._timeout = timeout
        self._extract = function
        self._waveforms: dict[str, Waveform] = {}
        self._loaded_last = ""

    def keep(self, recording_id: str, waveform: Waveform | None) -> Waveform | None:
        """Hold in-memory sound until its recording is extracted (None lets go of it); what was held before."""
        before = self._waveforms.pop(recording_id, None)
        if waveform is not None:
            self._waveforms[recording_id] = waveform
        return before

    def begin(self, lease: Lease) -> StepReport:
        """Queue again what a coordinator before this one had taken and left; what has failed by that is reported."""
        with self._catalog.change(lease) as tx:
            failed = work.reclaim(tx, lease, self._catalog.now())
        return StepReport(failed=len(failed), errors=failed)

    def step(
        self,
        lease: Lease,
        *,
        without: Iterable[str] = (),
        limit: int | None = None,
        stop: Callable[[], bool] = lambda: False,
        hurry: Callable[[], bool] = lambda: False,
        observe: Observe = lambda _: None,
    ) -> StepReport:
        """Take one batch, extract it, commit it. `LeaseLost` if another coordinator took over: nothing more is committed.

        Items of the generations in `without` stay queued. When `stop()` turns true, what has not begun is given back; when
        `hurry()` does, what runs is ended and given back too, as if it had not been tried.
        """
        report = StepReport()
        items = self._take(lease, limit, without)
        report.taken = len(items)
        tasks = self._tasks(items)
        waiting = self._in_order(item for item in items if item.id in tasks)
        running: dict[Future[Extracted], _Running] = {}
        ready: list[_Outcome] = []
        committed = time.monotonic()
        try:
            while waiting or running or ready:
                if stop() or report.unavailable:
                    self._give_back(lease, waiting)
                    waiting.clear()
                if running and hurry():
                    self._cut_short(lease, running)
                if waiting and self._width is not None:
                    self._executor.resize(self._width())
                while waiting and len(running) < self._executor.width:
                    item = waiting.popleft()
                    future = self._executor.submit(self._extract, tasks[item.id])
                    running[future] = _Running(item, tasks[item.id], time.monotonic())
                if running:
                    observe([one.current for one in running.values()])
                    ready += self._finished(lease, running, waiting)
                idle = not (waiting or running)
                if ready and (idle or time.monotonic() - committed >= COMMIT_SECONDS):
                    self._commit(lease, ready, report)
                    ready, committed = [], time.monotonic()
        except (Exception, KeyboardInterrupt):
            # This process lives, so none of them killed it: what is not committed counts as not tried.
            with suppress(SpeakerDBError), self._catalog.job(lease) as tx:  # else whoever works next reclaims them
                work.give_back(tx, lease, items, self._catalog.now())
            raise
        finally:
            if running:
                self._executor.restart()
        return report

    def rest(self) -> None:
        """Nothing is to be extracted for a while: let the workers go, and with them the models that they hold."""
        self._executor.restart()

    def _in_order(self, items: Iterable[Item]) -> deque[Item]:
        """One generation after the other, that of the item before them first: where a worker cannot hold all models, it
        loads as few as can be."""
        ordered = deque(sorted(items, key=lambda item: (item.generation != self._loaded_last, item.generation)))
        if ordered:
            self._loaded_last = ordered[-1].generation
        return ordered

    def _take(self, lease: Lease, limit: int | None, without: Iterable[str]) -> list[Item]:
        size = self._batch if limit is None else min(limit, self._batch)
        with self._catalog.change(lease) as tx:
            return work.take(tx, lease, size, paused=journal.paused_targets(tx), without=list(without))

    def _tasks(self, items: Sequence[Item]) -> dict[int, Task]:
        """What to extract, by item. A recording that was removed since has no task; its item went with it."""
        if not items:
            return {}
        with self._catalog.read() as tx:
            found = library.snapshot(tx, [item.recording_id for item in items])
        tasks = {}
        for item in items:
            if item.recording_id in found:
                row, turns = found[item.recording_id]
                tasks[item.id] = Task(
                    recording_id=row.id,
                    content_version=row.content_version,
                    generation=self._generations[item.generation],
                    turns=turns,
                    seconds=row.seconds,
                    path=row.path,
                    fingerprint=row.fingerprint,
                    media_roots=self._media_roots,
                    load=self._load,
                    waveform=self._waveforms.get(row.id),
                )
        return tasks

    def _finished(
        self, lease: Lease, running: dict[Future[Extracted], _Running], waiting: deque[Item]
    ) -> list[_Outcome]:
        """Wait a moment; what has finished leaves `running`. Renews the lease while it waits."""
        done, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        self._catalog.keep(lease)
        if any(_lost(future) for future in done):
            return self._all_lost(running)
        outcomes = [_outcome(running.pop(future), future) for future in done]
        now = time.monotonic()
        overdue = [future for future, one in running.items() if now - one.since > self._timeout]
        if overdue:
            self._executor.restart()
            for future in overdue:
                one = running.pop(future)
                late = WorkerTimeout(f"it took more than {self._timeout:g} s and was ended.")
                outcomes.append(_Outcome(one.item, one.task, late))
            # The others were ended with it through no fault of their own.
            waiting.extendleft(one.item for one in running.values())
            running.clear()
        return outcomes

    def _all_lost(self, running: dict[Future[Extracted], _Running]) -> list[_Outcome]:
        """A pool that lost a worker is lost as a whole. What ran in it costs an attempt, and is tried again alone."""
        held = len(running)
        how = self._executor.restart() or "died"
        who = "its worker process" if held == 1 else f"one of the {held} worker processes"
        outcomes = []
        for future, one in running.items():
            finished = future.done() and not future.cancelled() and not _lost(future)
            outcomes.append(
                _outcome(one, future) if finished else _Outcome(one.item, one.task, WorkerDied(f"{who} {how}."))
            )
        running.clear()
        return outcomes

    def _give_back(self, lease: Lease, items: Iterable[Item]) -> None:
        listed = list(items)
        if listed:
            with self._catalog.change(lease) as tx:
                work.give_back(tx, lease, listed, self._catalog.now())

    def _cut_short(self, lease: Lease, running: dict[Future[Extracted], _Running]) -> None:
        """End what runs, and give it back without waiting for a fence: there is no time for that."""
        self._executor.restart()
        items = [one.item for one in running.values()]
        running.clear()
        with self._catalog.job(lease) as tx:
            work.give_back(tx, lease, items, self._catalog.now())

    def _commit(self, lease: Lease, outcomes: Sequence[_Outcome], report: StepReport) -> None:
        """Store results and errors. Counted only when the transaction stands."""
        counted = StepReport()
        results: list[tuple[_Outcome, Extracted]] = []
        with self._catalog.change(lease) as tx:
            for one in outcomes:
                if isinstance(one.result, BackendError):
                    raise one.result
                elif isinstance(one.result, SpeakerDBError):
                    self._fail(tx, lease, one, one.result, counted)
                else:
                    results.append((one, one.result))
            stored = self._store(tx, lease, results, counted)
            if stored:
                people.mark_dirty(tx, people.of_recordings(tx, stored), self._catalog.now())
        report.add(counted)
        self._let_go({one.item.recording_id for one in outcomes} & self._waveforms.keys())

    def _let_go(self, held: set[str]) -> None:
        """Forget in-memory sound that no generation waits for any more."""
        if held:
            with self._catalog.read() as tx:
                held -= work.still_open(tx, held)
            for recording_id in held:
                self._waveforms.pop(recording_id, None)

    def _store(
        self, tx: Transaction, lease: Lease, results: Sequence[tuple[_Outcome, Extracted]], counted: StepReport
    ) -> list[str]:
        """Store results together; where that fails, each half by itself, down to the recording whose fault it is.

        The recordings that were stored. Their profiles are marked dirty by the caller.
        """
        if not results:
            return []
        try:
            with savepoint(tx):
                stored, report = self._stored(tx, lease, results)
        except BackendError:
            raise  # no recording's fault, and the transaction may be over
        except SpeakerDBError as error:
            if len(results) == 1:
                self._fail(tx, lease, results[0][0], error, counted)
                return []
            half = len(results) // 2
            return self._store(tx, lease, results[:half], counted) + self._store(tx, lease, results[half:], counted)
        counted.add(report)
        return stored

    def _stored(
        self, tx: Transaction, lease: Lease, results: Sequence[tuple[_Outcome, Extracted]]
    ) -> tuple[list[str], StepReport]:
        """Store the embeddings of those recordings that are still what was read: which, and what is to be counted.

        One statement for all where it can be: a database on a server answers each with a delay.
        """
        now = self._catalog.now()
        rows = library.recordings_of(tx, list({result.recording_id for _, result in results}))
        unchanged = {
            one.item.id: result.content_version for one, result in results
            if (row := rows.get(result.recording_id)) is not None and row.content_version == result.content_version
        }  # fmt: skip
        ours = work.finish(tx, lease, unchanged, now)
        kept = [(one, result) for one, result in results if one.item.id in ours]
        report = StepReport()
        for generation in dict.fromkeys(one.task.generation for one, _ in kept):
            part = [result for one, result in kept if one.task.generation == generation]
            for checksum in dict.fromkeys(result.checksum for result in part if result.checksum is not None):
                journal.learn_checksum(tx, generation.name, checksum)
            recipe = generation.recipe.digest
            written = [
                EmbeddingRow(speaker, Kind.SPEAKER, _checked(found, generation), recipe, result.content_version)
                for result in part
                for speaker, found in result.results.items()
            ]
            homes = {speaker: rows[result.recording_id].library_id for result in part for speaker in result.results}
            vectors.write_embeddings(tx, generation.name, written, homes, now)
        for one, result in kept:
            report.add(_counted(one, result))
        return [result.recording_id for _, result in kept], report

    def _fail(self, tx: Transaction, lease: Lease, one: _Outcome, error: SpeakerDBError, counted: StepReport) -> None:
        now = self._catalog.now()
        generation = one.item.generation
        if isinstance(error, (WorkerDied, WorkerTimeout)):
            told = f"{work.earlier_attempts(tx, one.item)} Attempt {one.item.attempts}: {error.message}".strip()
            error = type(error)(told) if one.item.attempts < work.MAX_ATTEMPTS else WorkerDied(told)
        if error.scope == "run":
            # Not this recording's fault: it waits until the model can be loaded.
            work.give_back(tx, lease, [one.item], now, error=error)
            counted.unavailable.setdefault(generation, error)
        elif work.fail(tx, lease, one.item, error, now):
            counted.failed += 1
            counted.errors.append(
                ItemError(one.item.recording_id, generation, error.code, error.message, one.item.attempts)
            )
        else:
            counted.notices.append(f"{one.item.recording_id}: {error.message} It will be tried again.")


@dataclass(frozen=True, slots=True)
class _Running:
    item: Item
    task: Task
    since: float

    @property
    def current(self) -> CurrentRecording:
        speakers = {turn.speaker for turn in self.task.turns}
        return CurrentRecording(
            self.item.recording_id, self.task.path, self.item.generation, len(self.task.turns), len(speakers)
        )


@dataclass(frozen=True, slots=True)
class _Outcome:
    item: Item
    task: Task
    result: Extracted | SpeakerDBError


def _outcome(one: _Running, future: Future[Extracted]) -> _Outcome:
    error = future.exception()
    result: Extracted | SpeakerDBError
    if error is None:
        result = future.result()
    elif isinstance(error, SpeakerDBError):
        result = error
    elif isinstance(error, MemoryError):
        result = WorkerDied("its worker process ran out of memory.")
    elif not isinstance(error, KeyboardInterrupt):
        # A fault nobody foresaw (a library that exits, too) belongs to the recording that met it, where a person sees it.
        result = ExtractionError(f"{type(error).__name__}: {error}")
    else:
        raise error
    return _Outcome(one.item, one.task, result)


def _counted(one: _Outcome, result: Extracted) -> StepReport:
    embedded = sum(isinstance(found, Embedding) for found in result.results.values())
    return StepReport(
        done=1,
        embedded=embedded,
        unembeddable=len(result.results) - embedded,
        audio_seconds=one.task.seconds or 0.0,
        speech_seconds=result.speech_seconds,
        models={one.item.generation: result.model} if result.model else {},
        notices=list(dict.fromkeys(result.notices)),
    )


def _lost(future: Future[Extracted]) -> bool:
    return future.done() and not future.cancelled() and isinstance(future.exception(), BrokenExecutor)


def _checked(found: Embedding | Unembeddable, generation: Generation) -> Embedding | Unembeddable:
    """No vector reaches SQL that is not finite, of unit norm and of its generation's dimension."""
    if isinstance(found, Embedding):
        if found.vector.shape != (generation.dimension,):
            raise DimensionMismatch(
                f"A vector of {len(found.vector)} dimensions came for generation {generation.name!r} ({generation.dimension})."
            )
        if not abs(float(np.linalg.norm(found.vector)) - 1.0) < NORM_TOLERANCE:
            raise NotFinite("A vector is not finite, or not of unit norm.")
    return found
