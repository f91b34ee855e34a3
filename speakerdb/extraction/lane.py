"""One generation's part of the work on a recording: from chosen sound to one vector a speaker."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from speakerdb.core.measures import Heard
from speakerdb.core.pooling import pool
from speakerdb.core.selection import TOO_SHORT, select
from speakerdb.core.sound import is_silent
from speakerdb.errors import NeedsTurns, NotFinite
from speakerdb.extraction import state
from speakerdb.extraction.stream import Decoded
from speakerdb.extraction.task import Extracted, Task
from speakerdb.models.port import Embedder
from speakerdb.models.registry import LoadedModel
from speakerdb.reports.work import Work
from speakerdb.types import Embedding, FloatArray, Unembeddable

NO_FINITE_VECTOR = "no-finite-vector"
"""All of this speaker's segments are silent, or the model gives NaN for them, while others have vectors."""


class Lane:
    """One generation's part of the work on a recording."""

    def __init__(self, task: Task) -> None:
        """Chooses the speech. Raises `NeedsTurns`, `ConfigurationError`."""
        if not task.turns:
            raise NeedsTurns(
                f"The recording {task.recording_id!r} has no turns: it was made from the vectors of an index.",
                hint="Add its file with its turns, under the same id.",
            )
        self.task = task
        self.error: Exception | None = None
        self.postponed = self.crowded = False
        self.loaded: LoadedModel | None = None
        self.decoded = Decoded()
        self.heard: Mapping[str, Heard] | None = None
        self.told: tuple[str, ...] = ()
        chosen = select(task.turns, task.generation.recipe, duration=task.seconds)
        self.results: dict[str, Embedding | Unembeddable] = {
            speaker: found for speaker, found in chosen.items() if isinstance(found, Unembeddable)
        }
        self.wanted = sorted(
            (span, speaker)
            for speaker, found in chosen.items()
            if not isinstance(found, Unembeddable)
            for span in found
        )
        self.spans = tuple(span for span, _ in self.wanted)
        self._at = 0
        self._to_come = Counter(speaker for _, speaker in self.wanted)
        self._vectors: dict[str, list[FloatArray]] = {speaker: [] for speaker in self._to_come}
        self._seconds: dict[str, list[float]] = {speaker: [] for speaker in self._to_come}
        self._tried: set[str] = set()
        self._spoken = self._embedded = self._network_time = 0.0
        self._forwards = 0

    @property
    def model(self) -> LoadedModel:
        """The model, which was loaded."""
        assert self.loaded is not None
        return self.loaded

    def take(self, sounds: Sequence[FloatArray], ticket: int) -> None:
        """The next segments of those wanted."""
        embedder = self.model.embedder
        part = self.wanted[self._at : self._at + len(sounds)]
        self._at += len(sounds)
        usable = [
            (sound, speaker)
            for sound, (_, speaker) in zip(sounds, part, strict=True)
            if len(sound) >= embedder.min_samples
        ]
        self._tried.update(speaker for _, speaker in usable)
        heard = [(sound, speaker) for sound, speaker in usable if not is_silent(sound)]
        for (sound, speaker), row in zip(heard, self._rows([sound for sound, _ in heard], ticket), strict=True):
            if row is not None:
                self._vectors[speaker].append(row)
                self._seconds[speaker].append(len(sound) / embedder.sample_rate)
        for _, speaker in part:
            self._to_come[speaker] -= 1
            if not self._to_come[speaker]:
                self._pool(speaker)

    def _rows(self, segments: Sequence[FloatArray], ticket: int) -> list[FloatArray | None]:
        embedder = self.model.embedder
        with state.network.turn(ticket):
            before, begun = embedder.forwards, time.perf_counter()
            rows = embed(embedder, segments)
            self._network_time += time.perf_counter() - begun
            self._forwards += embedder.forwards - before
        self._embedded += sum(map(len, segments)) / embedder.sample_rate
        return rows

    def _pool(self, speaker: str) -> None:
        """A speaker's last segment has come: its vectors become one."""
        found, seconds = self._vectors.pop(speaker), self._seconds.pop(speaker)
        if found:
            self.results[speaker] = pool(np.stack(found), seconds)
        else:
            self.results[speaker] = Unembeddable(NO_FINITE_VECTOR if speaker in self._tried else TOO_SHORT)
        self._spoken += sum(seconds)

    def answer(self) -> Extracted:
        """What it gave. `NotFinite` where all that it gave is no vector."""
        task = self.task
        if self._tried and not any(isinstance(found, Embedding) for found in self.results.values()):
            raise NotFinite(
                f"{self.model.description} gave no finite vector for any segment of this recording.",
                hint="Listen to it: it may be silent where its turns say that somebody talks.",
            )
        loads = state.shelf.take_loads()
        work = Work(
            forwards=self._forwards,
            embedded_seconds=self._embedded,
            decoded_seconds=self.decoded.seconds,
            decode_time=self.decoded.time,
            network_time=self._network_time,
            load_time=sum(loads),
            total_time=state.busy.take(),
            loads=len(loads),
        )
        model, checksum, notices = "", None, state.shelf.take_notices()
        if self.loaded is not None:
            model, checksum = self.loaded.description, self.loaded.checksum
            notices = (*self.loaded.notices, *notices)
        notices = (*notices, *self.told)
        return Extracted(
            task.recording_id, task.content_version, self.results, self._spoken, model, checksum, notices, work,
            self.crowded, self.heard,
        )  # fmt: skip


@contextmanager
def blamed(lanes: Sequence[Lane]) -> Iterator[None]:
    """What goes wrong in this block is the error of these lanes, where they have none yet. Memory that ran out is nobody's
    own."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, it is told to who asked
        for lane in lanes:
            lane.error = lane.error or error


def embed(embedder: Embedder, segments: Sequence[FloatArray]) -> list[FloatArray | None]:
    """A row a segment; None for one that gives no finite vector, which is left out of the pool."""
    if not segments:
        return []
    try:
        return list(embedder.embed(segments))
    except NotFinite:
        if len(segments) == 1:
            return [None]
    return [row for segment in segments for row in embed(embedder, [segment])]
