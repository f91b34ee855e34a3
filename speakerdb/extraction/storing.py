"""Results into SQL: all of a recording's embeddings in a generation with the state of its work item, or none of them."""

from __future__ import annotations

from collections.abc import Sequence

from speakerdb.catalog import journal, library, people, talk, vectors, work
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction, savepoint
from speakerdb.catalog.leases import Lease
from speakerdb.catalog.talk import Talked
from speakerdb.catalog.vectors import EmbeddingRow
from speakerdb.errors import BackendError, SpeakerDBError, WorkerDied, WorkerTimeout
from speakerdb.extraction.extract import Extracted
from speakerdb.extraction.outcomes import Outcome
from speakerdb.extraction.report import StepReport
from speakerdb.extraction.storing_turns import store_turns
from speakerdb.extraction.task import Diarized, DiarizeTask, Task
from speakerdb.reports import ItemError
from speakerdb.types import Embedding, Kind


class Storing:
    """Commits what was extracted, if the recording is still what was read."""

    def __init__(self, catalog: Catalog, who: str = "") -> None:
        self._catalog = catalog
        self._who = who

    def commit(self, lease: Lease, outcomes: Sequence[Outcome], report: StepReport) -> None:
        """Store results and errors, and count them into the report when the transaction stands."""
        counted = StepReport()
        results: list[tuple[Outcome, Extracted]] = []
        with self._catalog.change(lease) as tx:
            for one in outcomes:
                if isinstance(one.result, BackendError):
                    raise one.result
                elif isinstance(one.result, SpeakerDBError):
                    self._fail(tx, lease, one, one.result, counted)
                elif isinstance(one.result, Diarized):
                    self._store_turns(tx, lease, one, one.result, counted)
                else:
                    results.append((one, one.result))
            stored = self._store(tx, lease, results, counted)
            if stored:
                people.mark_dirty(tx, people.of_recordings(tx, stored), self._catalog.now())
        counted.finished = len(outcomes)
        report.add(counted)

    def _store(
        self, tx: Transaction, lease: Lease, results: Sequence[tuple[Outcome, Extracted]], counted: StepReport
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
        self, tx: Transaction, lease: Lease, results: Sequence[tuple[Outcome, Extracted]]
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
        of = [(one.task.generation, result) for one, result in kept if isinstance(one.task, Task)]
        for generation in dict.fromkeys(generation for generation, _ in of):
            part = [result for other, result in of if other == generation]
            for checksum in dict.fromkeys(result.checksum for result in part if result.checksum is not None):
                journal.learn_checksum(tx, generation.name, checksum)
            recipe = generation.recipe.digest
            written = [
                EmbeddingRow(speaker, Kind.SPEAKER, found, recipe, result.content_version)
                for result in part
                for speaker, found in result.results.items()
            ]
            homes = {speaker: rows[result.recording_id].library_id for result in part for speaker in result.results}
            vectors.write_embeddings(tx, generation.name, written, homes, now)
        found = {
            result.recording_id: Talked(result.recording_id, result.content_version, one.task.turns, result.heard)
            for one, result in kept
            if result.heard is not None
        }
        talk.write_all(tx, list(found.values()), now)
        for one, result in kept:
            report.add(_counted(one, result))
        return [result.recording_id for _, result in kept], report

    def _store_turns(self, tx: Transaction, lease: Lease, one: Outcome, result: Diarized, counted: StepReport) -> None:
        """Store the turns of a recording, or what is wrong with them."""
        assert isinstance(one.task, DiarizeTask)
        try:
            with savepoint(tx):
                stored = store_turns(tx, lease, one.item, one.task, result, self._who, self._catalog.now())
        except BackendError:
            raise
        except SpeakerDBError as error:
            self._fail(tx, lease, one, error, counted)
            return
        if stored:
            counted.diarized += 1
            counted.models[one.item.lane] = result.found.diarizer
        counted.notices += [each for each in result.notices if each not in counted.notices]

    def _fail(self, tx: Transaction, lease: Lease, one: Outcome, error: SpeakerDBError, counted: StepReport) -> None:
        now = self._catalog.now()
        generation = one.item.lane
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


def _counted(one: Outcome, result: Extracted) -> StepReport:
    embedded = sum(isinstance(found, Embedding) for found in result.results.values())
    return StepReport(
        done=1,
        embedded=embedded,
        unembeddable=len(result.results) - embedded,
        audio_seconds=one.task.seconds or 0.0,
        speech_seconds=result.speech_seconds,
        work=result.work,
        models={one.item.lane: result.model} if result.model else {},
        notices=list(dict.fromkeys(result.notices)),
    )
