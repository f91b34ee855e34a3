"""From one recording to its speakers' embeddings. Needs no database and no index, and runs in any process."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from speakerdb import media
from speakerdb.core.pooling import pool
from speakerdb.core.selection import TOO_SHORT, select
from speakerdb.core.sound import is_silent
from speakerdb.errors import (
    ExtractionError,
    MediaChanged,
    MediaError,
    MediaMissing,
    NeedsTurns,
    NotFinite,
    SpeakerDBError,
)
from speakerdb.extraction.shelf import Keep, Place, Shelf
from speakerdb.extraction.stream import ON_A_CPU, ON_A_GPU, Decoded, Line, Stopwatch, ahead, portions
from speakerdb.models.port import Embedder
from speakerdb.models.registry import LoadedModel, load_embedder
from speakerdb.reports.work import Work
from speakerdb.types import Embedding, Fingerprint, FloatArray, Generation, Span, Turn, Unembeddable, Waveform

NO_FINITE_VECTOR = "no-finite-vector"
"""All of this speaker's segments are silent, or the model gives NaN for them, while others have vectors."""

LoadEmbedder: TypeAlias = Callable[[Generation], LoadedModel]


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads a generation's model. It travels to a worker, where a model is loaded once as long as it is held."""

    device: str = "auto"
    allow_unknown: bool = False
    telemetry: bool = False
    offline: bool = False
    folder: Path | None = None
    keep: Keep = "auto"
    backend: str = "auto"
    half: bool = False

    def __call__(self, generation: Generation) -> LoadedModel:
        """The model, ready. Raises what `load_embedder` raises."""
        place = Place(self.device, self.folder, self.keep)
        arithmetic = generation.recipe.arithmetic
        # A quantised network is its generation's own.
        quantised = "" if arithmetic == "float" else generation.name
        key = (generation.model, arithmetic, quantised, self)
        return _shelf.get(key, generation, place, lambda: self._load(generation))

    def _load(self, generation: Generation) -> LoadedModel:
        return load_embedder(
            generation.model,
            generation.recipe,
            generation=generation.name,
            device=self.device,
            backend=self.backend,
            half=self.half,
            allow_unknown=self.allow_unknown,
            telemetry=self.telemetry,
            offline=self.offline,
            folder=self.folder,
        )


_shelf = Shelf()
"""The models of this process."""
_network = Line()
"""A model takes all the cores of its process, so one recording at a time passes through."""
_busy = Stopwatch()
"""When this process extracts."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One recording for one generation, as it was when it was read. The turns' speakers are speaker ids."""

    recording_id: str
    content_version: int
    generation: Generation
    turns: tuple[Turn, ...]
    seconds: float | None
    path: str | None
    fingerprint: Fingerprint | None
    media_roots: tuple[Path, ...]
    load: LoadEmbedder
    waveform: Waveform | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Together:
    """One recording for several generations at once: their tasks, which differ in the generation only."""

    tasks: tuple[Task, ...]

    @property
    def recording_id(self) -> str:
        """The recording of them all."""
        return self.tasks[0].recording_id


@dataclass(frozen=True, slots=True, eq=False)
class Extracted:
    """What a recording gave: one result for each of its speakers.

    `model` says for a person what computed it (empty where no speech was usable and no model was needed), `checksum` is
    its checkpoint's. `speech_seconds` is what was pooled. `crowded` says that models of other generations had to be let go
    of for this one.
    """

    recording_id: str
    content_version: int
    results: Mapping[str, Embedding | Unembeddable]
    speech_seconds: float
    model: str
    checksum: str | None
    notices: tuple[str, ...]
    work: Work = field(default_factory=Work)
    crowded: bool = False


Answer: TypeAlias = Extracted | SpeakerDBError | None
"""What became of one of several tasks; None: nothing yet, because its model does not fit beside another."""


def extract(task: Task) -> Extracted:
    """Choose, decode, embed and pool. Raises `MediaError` and `ExtractionError` classes, and `NeedsTurns`.

    A recording in which nobody's speech is usable is answered without opening its file.
    """
    with _busy:
        (lane,) = _extracted((task,))
        if lane.error is not None:
            raise lane.error
        return lane.answer()


def extract_together(group: Together) -> tuple[Answer, ...]:
    """The same for each task. The file is read once for all whose recipes choose the same speech at the same sample rate,
    which makes the same vectors as one after the other. What goes wrong with one generation's model is that one's."""
    with _busy:
        return tuple(_told(lane) for lane in _extracted(group.tasks))


def _told(lane: _Lane) -> Answer:
    if lane.postponed:
        return None
    if lane.error is None:
        try:
            return lane.answer()
        except SpeakerDBError as error:
            return error
    if isinstance(lane.error, SpeakerDBError):
        return lane.error
    return ExtractionError(f"{type(lane.error).__name__}: {lane.error}")


def _extracted(tasks: Sequence[Task]) -> list[_Lane]:
    """One lane a task, each with its results or its error."""
    lanes = [_Lane(task) for task in tasks]
    wanting = [lane for lane in lanes if lane.wanted]
    if wanting:
        ticket = _network.ticket()
        with _blamed(wanting):
            # The file first: a missing one must not cost the loading of a model.
            source = _open(tasks[0])
            for stream in _streams(_loaded(wanting)):
                with _blamed(stream):
                    _run(stream, source, ticket)
    return lanes


def _loaded(lanes: Sequence[_Lane]) -> list[_Lane]:
    """Those whose model is there. Where not all fit side by side, the one that was loaded last; the others are postponed."""
    before = _shelf.crowded
    for lane in lanes:
        with _blamed([lane]):
            lane.loaded = lane.task.load(lane.task.generation)
            lane.crowded = _shelf.crowded != before
    ready = [lane for lane in lanes if lane.error is None]
    if _shelf.crowded != before:
        for lane in ready[:-1]:
            lane.postponed = True
        ready = ready[-1:]
    return ready


def _streams(lanes: Sequence[_Lane]) -> list[list[_Lane]]:
    """Lanes that want the same sound, together."""
    streams: dict[tuple[int, tuple[Span, ...]], list[_Lane]] = {}
    for lane in lanes:
        streams.setdefault((lane.model.embedder.sample_rate, lane.spans), []).append(lane)
    return list(streams.values())


def _run(stream: Sequence[_Lane], source: Callable[[Sequence[Span], int], Iterator[FloatArray]], ticket: int) -> None:
    first = stream[0]
    rate = first.model.embedder.sample_rate
    on_gpu = any(str(getattr(lane.model.embedder, "device", "")).startswith("cuda") for lane in stream)
    sounds = first.decoded.counted(source(first.spans, rate), rate)
    for portion in ahead(portions(sounds, rate, ON_A_GPU if on_gpu else ON_A_CPU)):
        going = [lane for lane in stream if lane.error is None]
        for lane in going:
            with _blamed([lane]):
                lane.take(portion, ticket)
        if not going:
            break


class _Lane:
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
        with _network.turn(ticket):
            before, begun = getattr(embedder, "forwards", 0), time.perf_counter()
            rows = _embed(embedder, segments)
            self._network_time += time.perf_counter() - begun
            self._forwards += getattr(embedder, "forwards", 0) - before
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
        loads = _shelf.take_loads()
        work = Work(
            forwards=self._forwards,
            embedded_seconds=self._embedded,
            decoded_seconds=self.decoded.seconds,
            decode_time=self.decoded.time,
            network_time=self._network_time,
            load_time=sum(loads),
            total_time=_busy.take(),
            loads=len(loads),
        )
        model, checksum, notices = "", None, _shelf.take_notices()
        if self.loaded is not None:
            model, checksum = self.loaded.description, self.loaded.checksum
            notices = (*self.loaded.notices, *notices)
        return Extracted(
            task.recording_id, task.content_version, self.results, self._spoken, model, checksum, notices, work,
            self.crowded,
        )  # fmt: skip


@contextmanager
def _blamed(lanes: Sequence[_Lane]) -> Iterator[None]:
    """What goes wrong in this block is the error of these lanes, where they have none yet. Memory that ran out is nobody's
    own."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, it is told to who asked
        for lane in lanes:
            lane.error = lane.error or error


def embed_clip(
    sound: Waveform | Path,
    load: LoadEmbedder,
    generation: Generation,
    *,
    media_roots: Sequence[Path],
    limit_seconds: float,
) -> tuple[Embedding, str]:
    """One embedding for a clip in which one person talks (its first `limit_seconds`, in segments of the recipe's target
    length), and the checksum of the checkpoint that made it."""
    loaded = load(generation)
    embedder = loaded.embedder
    rate = embedder.sample_rate
    if isinstance(sound, Waveform):
        length = min(len(sound.samples) / sound.sample_rate, limit_seconds)
        (samples,) = media.waveform_spans(sound, [Span(0.0, length)], rate)
    else:
        samples = media.decode_all(media.check_allowed(sound, media_roots), rate, limit_seconds)
    recipe = generation.recipe
    count = max(1, round(len(samples) / rate / recipe.segment_target_seconds))
    parts = [
        part for part in np.array_split(samples, count) if len(part) >= embedder.min_samples and not is_silent(part)
    ]
    with _network.turn(_network.ticket()):
        rows = _embed(embedder, parts)
    kept = [(row, len(part) / rate) for row, part in zip(rows, parts, strict=True) if row is not None]
    if not kept:
        raise NotFinite("The clip holds no sound that could be embedded.", hint="Give at least a second of speech.")
    return pool(np.stack([row for row, _ in kept]), [length for _, length in kept]), loaded.checksum


def _open(task: Task) -> Callable[[Sequence[Span], int], Iterator[FloatArray]]:
    if task.waveform is not None:
        waveform = task.waveform
        return lambda spans, rate: media.waveform_spans(waveform, spans, rate)
    if task.path is None:
        raise MediaMissing(
            "The sound of this recording was given in memory and is not there any more.",
            hint="Add the recording again with its file or its waveform.",
        )
    path = media.check_allowed(Path(task.path), task.media_roots)
    wanted = task.fingerprint
    _check_same(path, wanted, "is not the file its turns were made from")
    return lambda spans, rate: _unchanged_spans(path, wanted, media.decode_spans(path, spans, rate))


def _unchanged_spans(path: Path, wanted: Fingerprint | None, sounds: Iterator[FloatArray]) -> Iterator[FloatArray]:
    """The spans, and at their end `MediaChanged` where the file was replaced or written to while it was read."""
    try:
        yield from sounds
    except MediaError as error:
        try:
            _check_same(path, wanted, "was changed while it was read")
        except MediaError as changed:  # which explains why it could not be read
            raise changed from error
        raise
    _check_same(path, wanted, "was changed while it was read")


def _check_same(path: Path, wanted: Fingerprint | None, what: str) -> None:
    if wanted is not None and media.fingerprint(path) != wanted:
        raise MediaChanged(f"{path} {what}.")


def _embed(embedder: Embedder, segments: Sequence[FloatArray]) -> list[FloatArray | None]:
    """A row a segment; None for one that gives no finite vector, which is left out of the pool."""
    if not segments:
        return []
    try:
        return list(embedder.embed(segments))
    except NotFinite:
        if len(segments) == 1:
            return [None]
    return [row for segment in segments for row in _embed(embedder, [segment])]
