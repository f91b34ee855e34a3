"""What other budgets would do with a library's own voices.

A trial only reads: nothing is written to SQL or to an index. It embeds a sample of voices in a worker process of its own,
one recording after the other, so that what it measures of the network is the network alone with this machine.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from speakerdb.catalog import journal, library, samples
from speakerdb.catalog.catalog import Catalog
from speakerdb.core import agreement
from speakerdb.core.agreement import Tried
from speakerdb.core.sampling import some_voices
from speakerdb.errors import Conflict, ExtractionError, InvalidInput, SpeakerDBError, WorkerDied, WorkerTimeout
from speakerdb.executors import Executor, Overdue, WorkerLost
from speakerdb.extraction.extract import LoadEmbedder
from speakerdb.migrator import Serving
from speakerdb.recipes.measuring import Measured, Task, measure
from speakerdb.reports.recipes import OnTrial, RecipeTrial, SkippedVoices, TrialProgress, Voice
from speakerdb.types import Embedding, Generation, Recipe, Unembeddable

ALL_SECONDS = 300.0
"""All clean speech of a speaker means at most so much of it, spread like a budget. Five minutes are ten times the usual one,
and a host of two hours would otherwise take as long as forty guests."""
MOST_SPEAKERS = 1000
"""All pairs of those that were tried are compared."""
SPEAKERS_A_TASK = 4
"""So many speakers of one recording are tried before progress is told and the clock begins anew."""


class Recipes:
    """What recipes there are, and what they would do."""

    def __init__(
        self,
        catalog: Catalog,
        generations: Mapping[str, Generation],
        serving: Serving,
        load: LoadEmbedder,
        *,
        executor: Callable[[], Executor],
        media_roots: Sequence[Path] = (),
        timeout: float = 900.0,
    ) -> None:
        """`executor` makes the one that a trial works in; `timeout` seconds are given to `SPEAKERS_A_TASK` speakers."""
        self._catalog = catalog
        self._generations = generations
        self._serving = serving
        self._load = load
        self._executor = executor
        self._media_roots = tuple(media_roots)
        self._timeout = timeout

    def try_budgets(
        self,
        budgets: Sequence[float],
        *,
        speakers: int = 50,
        generation: str | None = None,
        library_name: str | None = None,
        on_progress: OnTrial = lambda _: None,
    ) -> RecipeTrial:
        """Measure budgets (seconds of speech) on a sample of `speakers`, in the generation that serves unless another is given.

        `InvalidInput` for budgets that cannot be compared; `Conflict` where no voice could be tried; what loading the model
        raises; `GenerationChanged` where it is not the one that the generation's vectors were made with.
        """
        begun = time.monotonic()
        chosen = self._generation(generation)
        wanted = _checked_budgets(budgets, chosen.recipe)
        if not 1 <= speakers <= MOST_SPEAKERS:
            raise InvalidInput(f"A sample has 1 to {MOST_SPEAKERS:,} speakers.", hint="Give another `--sample`.")
        with self._catalog.read() as tx:
            home = None if library_name is None else library.library_id(tx, library_name)
            found = samples.voices_with_files(tx, home, chosen.recipe.minimum_seconds)
            voices = some_voices(found, speakers)
        outcome = _Outcome()
        executor = self._executor()
        try:
            for task in self._tasks(chosen, voices, (*wanted, ALL_SECONDS)):
                outcome.take(task, self._run(executor, task), lambda sum_: self._check(chosen, sum_))
                on_progress(TrialProgress(outcome.seen, len(voices), outcome.spoken))
        finally:
            executor.close()
        by_id = {voice.speaker_id: voice for voice in voices}
        tried = [
            Tried(by_id[speaker], {budget: each[budget] for budget in wanted}, each[ALL_SECONDS])
            for speaker, each in outcome.embedded.items()
        ]
        if not tried:
            raise outcome.nothing()
        speed = outcome.spoken / max(outcome.taken, 1e-9)
        results = agreement.results(tried, wanted, speed)
        return RecipeTrial(
            generation=chosen.name,
            recipe=chosen.recipe.name,
            budget_seconds=chosen.recipe.budget_seconds,
            model=outcome.model,
            speakers=len(tried),
            recordings=len({one.voice.recording_id for one in tried}),
            limit_seconds=ALL_SECONDS,
            limited=sum(one.everything.seconds > ALL_SECONDS - chosen.recipe.segment_min_seconds for one in tried),
            speed=speed,
            seconds=time.monotonic() - begun,
            budgets=results,
            not_measurable=agreement.why_not_measurable([one.voice for one in tried]),
            recommendation=agreement.recommend(results, len(tried), chosen.recipe.confident_seconds),
            skipped=tuple(outcome.skipped.values()),
            notices=tuple(outcome.notices),
        )

    def _generation(self, name: str | None) -> Generation:
        if name is None:
            return self._serving.resolve().generation
        if name not in self._generations:
            raise InvalidInput(
                f"There is no generation {name!r}.", hint=f"Known: {', '.join(sorted(self._generations))}."
            )
        return self._generations[name]

    def _tasks(self, generation: Generation, voices: Sequence[Voice], budgets: tuple[float, ...]) -> Iterator[Task]:
        """A recording is read only when its turn has come. What was removed since is left out."""
        by_recording: dict[str, list[str]] = defaultdict(list)
        for voice in voices:
            by_recording[voice.recording_id].append(voice.speaker_id)
        for recording_id, ids in by_recording.items():
            with self._catalog.read() as tx:
                found = library.snapshot(tx, [recording_id])
            if recording_id not in found:
                continue
            row, turns = found[recording_id]
            there = [speaker for speaker in ids if any(turn.speaker == speaker for turn in turns)]
            for at in range(0, len(there), SPEAKERS_A_TASK):
                yield Task(
                    recording_id=row.id,
                    speakers=tuple(there[at : at + SPEAKERS_A_TASK]),
                    turns=turns,
                    seconds=row.seconds,
                    path=row.path,
                    fingerprint=row.fingerprint,
                    media_roots=self._media_roots,
                    generation=generation,
                    budgets=budgets,
                    load=self._load,
                )

    def _run(self, executor: Executor, task: Task) -> Measured | SpeakerDBError:
        try:
            return executor.submit(measure, task, timeout=self._timeout).result()
        except SpeakerDBError as error:
            if error.scope == "run":
                raise
            return error
        except Overdue:
            return WorkerTimeout(f"it took more than {self._timeout:g} s and was ended.")
        except WorkerLost as error:
            return WorkerDied(f"its worker process {error.how}.")
        except MemoryError:
            return WorkerDied("its worker process ran out of memory.")
        except Exception as error:  # noqa: BLE001  a fault nobody foresaw belongs to the recording that met it
            return ExtractionError(f"{type(error).__name__}: {error}")

    def _check(self, generation: Generation, checksum: str) -> None:
        """The model must be the one that the generation's vectors were made with."""
        with self._catalog.read() as tx:
            if generation.name in journal.known_generations(tx):
                journal.check_checksum(tx, generation.name, checksum)


class _Outcome:
    """What a trial has found so far."""

    def __init__(self) -> None:
        self.embedded: dict[str, Mapping[float, Embedding]] = {}
        self.skipped: dict[str, SkippedVoices] = {}
        self.notices: list[str] = []
        self.model = ""
        self.checksum: str | None = None
        self.seen = 0
        self.spoken = 0.0
        self.taken = 0.0
        self._last: SpeakerDBError | None = None

    def take(self, task: Task, found: Measured | SpeakerDBError, check: Callable[[str], None]) -> None:
        """Count what a task gave. `check` is called with the checksum of a model that was not seen before."""
        self.seen += len(task.speakers)
        if isinstance(found, SpeakerDBError):
            self._last = found
            self._skip(found.code, task, found.message, len(task.speakers))
            return
        if found.checksum is not None and found.checksum != self.checksum:
            check(found.checksum)
            self.checksum = found.checksum
        self.model = found.model or self.model
        self.notices += [notice for notice in found.notices if notice not in self.notices]
        self.spoken += found.speech_seconds
        self.taken += found.network_seconds
        for speaker, each in found.results.items():
            if isinstance(each, Unembeddable):
                self._skip(each.reason, task, "There is no clean speech of them that could be embedded.", 1)
            else:
                self.embedded[speaker] = each

    def _skip(self, code: str, task: Task, message: str, speakers: int) -> None:
        before = self.skipped.get(code)
        if before is None:
            self.skipped[code] = SkippedVoices(code, speakers, task.recording_id, message)
        else:
            self.skipped[code] = replace(before, speakers=before.speakers + speakers)

    def nothing(self) -> SpeakerDBError:
        """Why nobody could be tried."""
        if self._last is not None:
            return self._last
        return Conflict(
            "There is no voice to try a recipe with: none has clean speech in a recording that has a file.",
            hint="Add recordings first.",
        )


def _checked_budgets(budgets: Sequence[float], recipe: Recipe) -> tuple[float, ...]:
    """In ascending order, each once."""
    least = max(recipe.segment_min_seconds, recipe.minimum_seconds)
    if not budgets or not all(least <= budget < ALL_SECONDS for budget in budgets):
        raise InvalidInput(
            f"Budgets are seconds of speech from {least:g} to less than {ALL_SECONDS:g}.",
            hint="Give some as `--budget 10,20,30,60`.",
        )
    return tuple(sorted(set(budgets)))
