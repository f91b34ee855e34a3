"""What is given to a worker at once, and what comes back: checked, because a worker may answer anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from speakerdb.catalog.work import Item
from speakerdb.core.measures import Heard
from speakerdb.core.turns import validate
from speakerdb.diarizers.port import DiarizationProgress
from speakerdb.errors import (
    DiarizationFailed,
    ExtractionError,
    NotFinite,
    SpeakerDBError,
    WorkerDied,
)
from speakerdb.extraction.extract import Extracted, Task, Together
from speakerdb.extraction.task import Diarized, DiarizeTask
from speakerdb.reports import CurrentRecording
from speakerdb.types import Embedding, Generation, Unembeddable

NORM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item."""

    item: Item
    task: Task | DiarizeTask
    result: Extracted | Diarized | SpeakerDBError


@dataclass(frozen=True, slots=True)
class Parcel:
    """One recording for one generation, or for several that are extracted together; or one that is diarized."""

    pairs: tuple[tuple[Item, Task | DiarizeTask], ...]
    told: list[DiarizationProgress] = field(default_factory=list, compare=False)
    """How far it is: the last that was heard of it."""

    @property
    def items(self) -> list[Item]:
        return [item for item, _ in self.pairs]

    @property
    def lane(self) -> str:
        """The (first) generation, or what else is done."""
        return self.pairs[0][0].lane

    @property
    def suspect(self) -> bool:
        """Whether it was tried before, and may be what ended its worker then."""
        return any(item.attempts > 1 for item, _ in self.pairs)

    @property
    def payload(self) -> Task | DiarizeTask | Together:
        """What the worker gets."""
        tasks = [task for _, task in self.pairs]
        return tasks[0] if len(tasks) == 1 else Together(tuple(task for task in tasks if isinstance(task, Task)))

    def heard(self, progress: DiarizationProgress) -> None:
        """It is so far."""
        self.told[:] = [progress]

    def apart(self) -> list[Parcel]:
        """One for each generation."""
        return [Parcel((pair,)) for pair in self.pairs]

    def current(self) -> list[CurrentRecording]:
        """What a person sees of it while it is being worked on."""
        last = self.told[-1] if self.told else None
        step = "" if last is None else last.step
        share = None if last is None or not last.total else last.completed / last.total
        return [
            CurrentRecording(
                item.recording_id,
                task.path,
                item.lane,
                len(task.turns),
                len({turn.speaker for turn in task.turns}),
                step,
                share,
            )
            for item, task in self.pairs
        ]

    def failed(self, error: SpeakerDBError) -> list[Outcome]:
        """The same error for each."""
        return [Outcome(item, task, error) for item, task in self.pairs]

    def opened(self, future: Future[Any]) -> tuple[list[Outcome], list[Parcel]]:
        """What a finished future says of each; and those that were left because their model does not fit beside another's.

        Raises only `KeyboardInterrupt`, where this process was interrupted while it extracted by itself.
        """
        error = future.exception()
        if error is not None:
            return self.failed(_ours(error)), []
        answers = future.result()
        if len(self.pairs) == 1:
            answers = (answers,)
        if not isinstance(answers, tuple) or len(answers) != len(self.pairs):
            answers = (answers,) * len(self.pairs)
        left = [pair for pair, answer in zip(self.pairs, answers, strict=True) if answer is None and len(answers) > 1]
        outcomes = [
            Outcome(item, task, _checked(task, answer))
            for (item, task), answer in zip(self.pairs, answers, strict=True)
            if (item, task) not in left
        ]
        return outcomes, [Parcel((pair,)) for pair in left]


def checked(task: Task | DiarizeTask, future: Future[Any]) -> Extracted | Diarized | SpeakerDBError:
    """What a future that did not lose its process says of one task, checked."""
    error = future.exception()
    return _checked(task, future.result()) if error is None else _ours(error)


def lost(error: BrokenExecutor, how: str) -> WorkerDied:
    """What is told of an item whose process ended by itself. `how` is what the executor says where the error does not."""
    held = getattr(error, "held", 1)
    who = "its worker process" if held == 1 else f"its worker process, with {held} recordings in it,"
    return WorkerDied(f"{who} {getattr(error, 'how', '') or how or 'died'}.")


def _ours(error: BaseException) -> SpeakerDBError:
    if isinstance(error, SpeakerDBError):
        return error
    if isinstance(error, MemoryError):
        return WorkerDied("its worker process ran out of memory.")
    if isinstance(error, KeyboardInterrupt):
        raise error
    # A fault nobody foresaw (a library that exits, too) belongs to the recording that met it, where a person sees it.
    return ExtractionError(f"{type(error).__name__}: {error}")


def _checked(task: Task | DiarizeTask, answer: Any) -> Extracted | Diarized | SpeakerDBError:
    """The answer, or what is wrong with it. No vector reaches SQL that is not finite, of unit norm and of its generation's
    dimension, and none of a speaker that the recording has not got; no turn that does not fit the recording."""
    if isinstance(answer, SpeakerDBError):
        return answer
    if isinstance(task, DiarizeTask):
        return _checked_turns(task, answer)
    if not isinstance(answer, Extracted):
        return ExtractionError(f"The worker answered with {type(answer).__name__}, which is no result.")
    speakers = {turn.speaker for turn in task.turns}
    if not isinstance(answer.results, Mapping) or answer.results.keys() != speakers:
        return ExtractionError("The worker answered for other voices than this recording has.")
    if (answer.recording_id, answer.content_version) != (task.recording_id, task.content_version):
        return ExtractionError(f"The worker answered for {answer.recording_id!r}.")
    heard = {} if answer.heard is None else answer.heard
    if not isinstance(heard, Mapping) or not all(isinstance(each, Heard) for each in heard.values()):
        return ExtractionError("The worker answered with how voices sound that is no such thing.")
    try:
        for found in answer.results.values():
            _check_vector(found, task.generation)
    except SpeakerDBError as error:
        return error
    return answer


def _checked_turns(task: DiarizeTask, answer: Any) -> Diarized | SpeakerDBError:
    if not isinstance(answer, Diarized):
        return DiarizationFailed(f"The worker answered with {type(answer).__name__}, which is no diarization.")
    if (answer.recording_id, answer.content_version) != (task.recording_id, task.content_version):
        return DiarizationFailed(f"The worker answered for {answer.recording_id!r}.")
    try:
        for part in (answer.found.turns, answer.found.exclusive):
            if part:
                validate(part, task.seconds)
    except SpeakerDBError as error:
        return DiarizationFailed(f"The diarizer's turns do not fit the recording: {error.message}")
    return answer


def _check_vector(found: Any, generation: Generation) -> None:
    if isinstance(found, Unembeddable):
        return
    if not isinstance(found, Embedding) or not isinstance(found.vector, np.ndarray):
        raise ExtractionError(f"The worker answered with {type(found).__name__} in the place of a vector.")
    if found.vector.shape != (generation.dimension,):
        # One recording's fault: whether a model is of the generation's dimension is looked at when it is loaded.
        raise ExtractionError(
            f"A vector of shape {found.vector.shape} came for generation {generation.name!r} ({generation.dimension})."
        )
    if not abs(float(np.linalg.norm(found.vector)) - 1.0) < NORM_TOLERANCE:
        raise NotFinite("A vector is not finite, or not of unit norm.")


def in_turn(parcels: Sequence[Parcel], first: str) -> list[Parcel]:
    """Each lane by itself, the one named first: so that one model is loaded after the other, as seldom as can be."""
    apart = [each for parcel in parcels for each in parcel.apart()]
    return sorted(apart, key=lambda parcel: (parcel.lane != first, parcel.lane))
