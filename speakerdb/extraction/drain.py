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
from dataclasses import replace
from pathlib import Path
from typing import Any

from speakerdb.catalog import journal, library, talk, work
from speakerdb.catalog.adopting import NO_TURNS
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.leases import Lease
from speakerdb.catalog.library import RecordingRow
from speakerdb.catalog.work import Item
from speakerdb.core.turns import DIARIZE
from speakerdb.diarizers.asked import Asked
from speakerdb.diarizers.loading import DiarizerLoader
from speakerdb.errors import GenerationChanged, SpeakerDBError, WorkerTimeout
from speakerdb.executors import Executor, Interrupted, Overdue
from speakerdb.extraction.diarize import diarize
from speakerdb.extraction.extract import Extracted, LoadEmbedder, Task, Together, extract, extract_together
from speakerdb.extraction.outcomes import Outcome, Parcel, in_turn, lost
from speakerdb.extraction.report import StepReport
from speakerdb.extraction.storing import Storing
from speakerdb.extraction.task import DiarizeTask, LoadDiarizer
from speakerdb.reports import CurrentRecording
from speakerdb.settings import DiarizerSettings
from speakerdb.types import Generation, Turn, Waveform

LEASE_NAME = "work"
POLL_SECONDS = 1.0
"""How often a waiting coordinator looks at its clock, its lease, the queue, and whether it is to stop."""

DIARIZING_PACE = 8.0
"""Seconds that the diarization of one second of sound may take beyond what any recording may: four times what the slowest
pipeline takes on one core (`docs/how-to/diarize.md`)."""

COMMIT_SECONDS = 1.0
"""Finished recordings are committed together, but no later than this after the first of them."""

Observe = Callable[[Sequence[CurrentRecording]], None]


class Extraction:
    """Steps through the queue of work. What still runs when a step ends goes on, and is the next step's."""

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
        workers: Callable[[], int] | None = None,
        side_by_side: bool = True,
        function: Callable[[Task], Extracted] = extract,
        load_diarizer: LoadDiarizer | None = None,
        comparing: Callable[[], Generation | None] = lambda: None,
        measure: bool = False,
        who: str = "",
    ) -> None:
        """`workers` says how many there are to be; it is asked often. None: as the executor is. With `side_by_side` a worker
        holds the models of all generations, until one says that they do not fit; a recording that several wait for is then
        read once. `comparing` says in which generation the voices of a recording that is diarized again are compared; `who`
        is kept in the events of what is found. With `measure` the sound of a recording whose talk is not measured yet is
        listened to, too, and overlaps and measures of its voices are stored."""
        self._catalog = catalog
        self._executor = executor
        self._workers = workers
        self._generations = generations
        self._load = load
        self._media_roots = tuple(media_roots)
        self._batch = batch
        self._timeout = timeout
        self._side_by_side = side_by_side
        self._extract = function
        self._load_diarizer = load_diarizer or DiarizerLoader(DiarizerSettings())
        self._comparing = comparing
        self._measure = measure
        self._storing = Storing(catalog, who)
        self._waveforms: dict[str, Waveform] = {}
        self._loaded_last = ""
        self._open: dict[int, Item] = {}
        """What was taken, and neither committed nor given back."""
        self._left: list[tuple[Lease, list[Item]]] = []
        """What could not be given back when it was abandoned, by the lease that it was taken under."""
        self._waiting: deque[Parcel] = deque()
        self._running: dict[Future[Any], Parcel] = {}

    def keep(self, recording_id: str, waveform: Waveform | None) -> Waveform | None:
        """Hold in-memory sound until its recording is extracted (None lets go of it); what was held before."""
        before = self._waveforms.pop(recording_id, None)
        if waveform is not None:
            self._waveforms[recording_id] = waveform
        return before

    def has_sound(self, row: RecordingRow) -> bool:
        """Whether a recording could be listened to: it has a file, or its sound is held here."""
        return row.path is not None or row.id in self._waveforms

    def _sound_of(self, row: RecordingRow) -> Waveform | None:
        """What is held of it. Where it has a file, that is its sound, whatever was given before."""
        return self._waveforms.get(row.id) if row.path is None else None

    def patience(self, task: DiarizeTask) -> float:
        """Seconds that a diarization may take."""
        return self._timeout + DIARIZING_PACE * (task.seconds or 0.0)

    def begin(self, lease: Lease) -> StepReport:
        """Queue again what a coordinator before this one had taken and left; what has failed by that is reported. Where this
        one left it itself, because the database or its lease was gone, nothing has died, and no attempt is counted."""
        with self._catalog.change(lease) as tx:
            for taken_under, items in self._left:
                work.give_back(tx, taken_under, items, self._catalog.now())
            failed = work.reclaim(tx, lease, self._catalog.now())
        self._left.clear()
        return StepReport(failed=len(failed), errors=failed)

    def step(
        self,
        lease: Lease,
        *,
        without: Iterable[str] = (),
        limit: int | None = None,
        stop: Callable[[], bool] = lambda: False,
        hurry: Callable[[], bool] = lambda: False,
        until: Callable[[], bool] = lambda: False,
        observe: Observe = lambda _: None,
    ) -> StepReport:
        """Take one batch, extract it, commit it. `LeaseLost` if another coordinator took over: nothing more is committed.

        It ends when workers could do with more, or with what was committed where the queue holds no more: a recording that
        takes long makes nobody wait. When `stop()` turns true, and where `limit` is 0, it waits for what runs. Items of the
        generations in `without` stay queued. When `stop()` turns true, what has not begun is given back; when `hurry()`
        does, what runs is ended and given back too, as if it had not been tried. When `until()` does, it waits no longer.
        """
        report = StepReport()
        ready: list[Outcome] = []
        try:
            self._bring(lease, limit, without, report)
            committed = looked = time.monotonic()
            while self._waiting or self._running or ready:
                ending = stop() or bool(report.unavailable)
                if ending:
                    self._give_back(lease)
                if self._running and hurry():
                    self._cut_short(lease)
                self._submit()
                if report.taken and not ending and self._has_room():
                    break
                if self._running:
                    observe([one for parcel in self._running.values() for one in parcel.current()])
                    ready += self._finished(lease)
                if until():
                    break
                now = time.monotonic()
                idle = not (self._waiting or self._running)
                if ready and (idle or now - committed >= COMMIT_SECONDS):
                    self._commit(lease, ready, report)
                    ready, committed = [], now
                    if not (report.taken or ending or limit == 0):
                        break
                if not (report.taken or ending or limit == 0 or idle) and now - looked >= POLL_SECONDS:
                    self._bring(lease, limit, without, report)
                    looked = now
            if ready:
                self._commit(lease, ready, report)
            if any(isinstance(error, GenerationChanged) for error in report.unavailable.values()):
                self.rest()  # a worker holds a model that is not the library's; the next one loads what is there then
        except (Exception, KeyboardInterrupt):
            self.abandon(lease)
            raise
        report.running = sum(len(parcel.pairs) for parcel in self._running.values())
        return report

    def abandon(self, lease: Lease) -> None:
        """End what runs. This process lives, so nothing of it killed it: what is not committed counts as not tried. What cannot
        be given back now the next `begin` gives back, or whoever works next reclaims it."""
        self._end_all()
        items = list(self._open.values())
        self._open.clear()
        if items:
            self._left.append((lease, items))
            with suppress(SpeakerDBError):
                with self._catalog.job(lease) as tx:
                    work.give_back(tx, lease, items, self._catalog.now())
                self._left.pop()

    def rest(self) -> None:
        """Nothing is to be extracted for a while: let the workers go, and with them the models that they hold."""
        self._executor.restart()

    def _end_all(self) -> None:
        if self._running:
            self._executor.restart()
        self._running.clear()
        self._waiting.clear()

    # Taking

    def _bring(self, lease: Lease, limit: int | None, without: Iterable[str], report: StepReport) -> None:
        """The next items of the queue. One that was tried before comes when no other such is here."""
        size = self._batch if limit is None else min(limit, self._batch)
        if not size:
            return
        tried = not any(parcel.suspect for parcel in (*self._waiting, *self._running.values()))
        with self._catalog.change(lease) as tx:
            paused = journal.paused_targets(tx)
            items = work.take(
                tx, lease, size, known=self._generations, paused=paused, without=list(without), tried=tried
            )
        report.taken += len(items)
        self._open |= {item.id: item for item in items}
        tasks = self._tasks(items)
        self._forget(item for item in items if item.id not in tasks)
        parcels = [Parcel(((item, tasks[item.id]),)) for item in items if item.id in tasks]
        if self._side_by_side:
            self._waiting += self._joined(parcels)
        else:
            self._waiting += in_turn(parcels, self._loaded_last)

    def _joined(self, parcels: Sequence[Parcel]) -> list[Parcel]:
        """Those of one recording that were not tried before as one, in the place of the first."""
        joined: dict[object, Parcel] = {}
        for parcel in parcels:
            alone = parcel.suspect or self._extract is not extract or parcel.lane == DIARIZE
            key = parcel.items[0].id if alone else parcel.items[0].recording_id
            joined[key] = Parcel(joined[key].pairs + parcel.pairs) if key in joined else parcel
        return list(joined.values())

    def _tasks(self, items: Sequence[Item]) -> dict[int, Task | DiarizeTask]:
        """What to do, by item. A recording that was removed since has no task; its item went with it."""
        if not items:
            return {}
        with self._catalog.read() as tx:
            found = library.snapshot(tx, [item.recording_id for item in items])
            unheard = talk.unheard(tx, found) if self._measure else set()
        tasks: dict[int, Task | DiarizeTask] = {}
        for item in items:
            if item.recording_id not in found:
                continue
            row, turns = found[item.recording_id]
            if item.generation is None:
                tasks[item.id] = self.diarize_task(row, turns, Asked.from_json(item.options))
            else:
                task = self._task(row, turns, self._generations[item.generation])
                tasks[item.id] = replace(task, measure=True) if row.id in unheard else task
        return tasks

    def _task(self, row: RecordingRow, turns: tuple[Turn, ...], generation: Generation) -> Task:
        return Task(
            recording_id=row.id,
            content_version=row.content_version,
            generation=generation,
            turns=turns,
            seconds=row.seconds,
            path=row.path,
            fingerprint=row.fingerprint,
            media_roots=self._media_roots,
            load=self._load,
            waveform=self._sound_of(row),
        )

    def diarize_task(self, row: RecordingRow, turns: tuple[Turn, ...], asked: Asked) -> DiarizeTask:
        """What a worker is given to find a recording's turns. The turns that it has have speaker ids."""
        compared = self._comparing() if turns or row.turns_digest == NO_TURNS else None
        return DiarizeTask(
            recording_id=row.id,
            content_version=row.content_version,
            seconds=row.seconds,
            path=row.path,
            fingerprint=row.fingerprint,
            media_roots=self._media_roots,
            load=self._load_diarizer,
            asked=asked,
            waveform=self._sound_of(row),
            compare=None if compared is None else self._task(row, turns, compared),
            measure=self._measure,
        )

    # Running

    def _submit(self) -> None:
        if self._waiting and self._workers is not None:
            self._executor.resize(self._workers())
        while (parcel := self._next()) is not None:
            self._waiting.remove(parcel)
            self._loaded_last = parcel.pairs[-1][0].lane
            payload = parcel.payload
            future: Future[Any]
            if isinstance(payload, DiarizeTask):
                patience = self.patience(payload)
                future = self._executor.submit(
                    diarize, payload, timeout=patience, alone=parcel.suspect, on_told=parcel.heard
                )
            else:
                function: Callable[[Any], Any] = extract_together if isinstance(payload, Together) else self._extract
                future = self._executor.submit(function, payload, timeout=self._timeout, alone=parcel.suspect)
            self._running[future] = parcel

    def _next(self) -> Parcel | None:
        """What may begin now. One that was tried before runs in a process of its own, beside the others, where there is
        memory for one more model; where there is not, everything waits for it."""
        running = list(self._running.values())
        suspected = any(parcel.suspect for parcel in running)
        room = sum(not parcel.suspect for parcel in running) < self._executor.width
        if self._side_by_side:
            return next((one for one in self._waiting if (not suspected if one.suspect else room)), None)
        first = self._waiting[0] if self._waiting and room else None
        if first is not None and running:
            fits = not (suspected or first.suspect) and all(first.lane == one.lane for one in running)
            return first if fits else None
        return first

    def _has_room(self) -> bool:
        """Whether something runs, and more could."""
        ordinary = sum(not parcel.suspect for parcel in self._running.values())
        return bool(self._running) and not self._waiting and ordinary < self._executor.width

    def _finished(self, lease: Lease) -> list[Outcome]:
        """Wait a moment; what has finished leaves what runs. Renews the lease while it waits."""
        done, _ = wait(self._running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        self._catalog.keep(lease)
        outcomes: list[Outcome] = []
        crowded = False
        for future in done:
            parcel = self._running.pop(future)
            error = future.exception()
            if isinstance(error, Interrupted):
                self._waiting.appendleft(parcel)  # through no fault of its own
            elif isinstance(error, Overdue):
                late = WorkerTimeout(f"it took more than {self._timeout:g} s and was ended.")
                outcomes += parcel.failed(late)
            elif isinstance(error, BrokenExecutor):
                how = "" if hasattr(error, "how") else self._executor.restart()
                outcomes += parcel.failed(lost(error, how))
            else:
                found, left = parcel.opened(future)
                outcomes += found
                self._waiting.extendleft(left)
                crowded |= bool(left) or any(isinstance(o.result, Extracted) and o.result.crowded for o in found)
        if crowded:
            self._side_by_side = False
            self._waiting = deque(in_turn(self._waiting, self._loaded_last))
        return outcomes

    # Ending

    def _give_back(self, lease: Lease) -> None:
        """What has not begun goes back into the queue."""
        items = [item for parcel in self._waiting for item in parcel.items if self._awaited(item)]
        self._waiting.clear()
        if items:
            with self._catalog.change(lease) as tx:
                work.give_back(tx, lease, items, self._catalog.now())
            self._forget(items)

    def _cut_short(self, lease: Lease) -> None:
        """End what runs, and give it back without waiting for a fence: there is no time for that."""
        items = [item for parcel in self._running.values() for item in parcel.items if self._awaited(item)]
        self._executor.restart()
        self._running.clear()
        with self._catalog.job(lease) as tx:
            work.give_back(tx, lease, items, self._catalog.now())
        self._forget(items)

    def _commit(self, lease: Lease, outcomes: Sequence[Outcome], report: StepReport) -> None:
        self._storing.commit(lease, [one for one in outcomes if self._awaited(one.item)], report)
        self._forget(one.item for one in outcomes)
        used = {one.item.recording_id: one.task.waveform for one in outcomes if one.task.waveform is not None}
        held = {id for id, waveform in used.items() if self._waveforms.get(id) is waveform}  # not what came since
        if held:
            # In-memory sound that no generation waits for any more is forgotten.
            with self._catalog.read() as tx:
                held -= work.still_open(tx, held)
            for recording_id in held:
                if self._waveforms.get(recording_id) is used[recording_id]:
                    del self._waveforms[recording_id]

    def _awaited(self, item: Item) -> bool:
        """Whether it was not taken anew since. What is dropped while it runs may be asked for again, with other words; or its
        number is another recording's by then, for SQLite gives it again. An older result is not the answer to that."""
        return self._open.get(item.id) is item

    def _forget(self, items: Iterable[Item]) -> None:
        for item in items:
            if self._awaited(item):
                del self._open[item.id]
