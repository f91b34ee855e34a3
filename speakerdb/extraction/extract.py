"""From one recording to its speakers' embeddings. Needs no database and no index, and runs in any process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speakerdb import media
from speakerdb.core.pooling import pool
from speakerdb.core.sound import is_silent
from speakerdb.errors import ExtractionError, NotFinite, SpeakerDBError
from speakerdb.extraction import state
from speakerdb.extraction.lane import NO_FINITE_VECTOR, Lane, blamed, embed
from speakerdb.extraction.measuring import Listening
from speakerdb.extraction.shelf import Keep, Place
from speakerdb.extraction.source import opened
from speakerdb.extraction.stream import ON_A_CPU, ON_A_GPU, ahead, portions
from speakerdb.extraction.task import Answer, Extracted, LoadEmbedder, Task, Together
from speakerdb.models.registry import LoadedModel, load_embedder
from speakerdb.types import Embedding, FloatArray, Generation, Span, Waveform

__all__ = [
    "NO_FINITE_VECTOR",
    "Answer",
    "Extracted",
    "LoadEmbedder",
    "Loader",
    "Task",
    "Together",
    "embed_clip",
    "extract",
    "extract_together",
]


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
        return state.shelf.get(key, generation, place, lambda: self._load(generation))

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


def extract(task: Task) -> Extracted:
    """Choose, decode, embed and pool. Raises `MediaError` and `ExtractionError` classes, and `NeedsTurns`.

    A recording in which nobody's speech is usable is answered without opening its file.
    """
    with state.busy:
        (lane,) = _extracted((task,))
        if lane.error is not None:
            raise lane.error
        return lane.answer()


def extract_together(group: Together) -> tuple[Answer, ...]:
    """The same for each task. The file is read once for all whose recipes choose the same speech at the same sample rate,
    which makes the same vectors as one after the other. What goes wrong with one generation's model is that one's."""
    with state.busy:
        return tuple(_told(lane) for lane in _extracted(group.tasks))


def _told(lane: Lane) -> Answer:
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


def _extracted(tasks: Sequence[Task]) -> list[Lane]:
    """One lane a task, each with its results or its error."""
    lanes = [Lane(task) for task in tasks]
    wanting = [lane for lane in lanes if lane.wanted]
    if wanting:
        ticket = state.network.ticket()
        with blamed(wanting):
            # The file first: a missing one must not cost the loading of a model.
            source = opened(tasks[0])
            measure = any(lane.task.measure for lane in lanes)
            for stream in _streams(_loaded(wanting)):
                listening = Listening(stream[0].wanted, stream[0].model.embedder.sample_rate) if measure else None
                with blamed(stream):
                    _run(stream, source, ticket, listening)
                # Once a recording, not once a generation: the first stream that went well tells how it sounds.
                if listening is not None and (lane := next((one for one in stream if one.error is None), None)):
                    lane.heard, lane.told = listening.heard(), tuple(listening.notices)
                    measure = False
    elif lanes[0].task.measure:
        lanes[0].heard = {}  # nobody's speech is clean: there is nothing to listen to
    return lanes


def _loaded(lanes: Sequence[Lane]) -> list[Lane]:
    """Those whose model is there. Where not all fit side by side, the one that was loaded last; the others are postponed."""
    before = state.shelf.crowded
    for lane in lanes:
        with blamed([lane]):
            lane.loaded = lane.task.load(lane.task.generation)
            lane.crowded = state.shelf.crowded != before
    ready = [lane for lane in lanes if lane.error is None]
    if state.shelf.crowded != before:
        for lane in ready[:-1]:
            lane.postponed = True
        ready = ready[-1:]
    return ready


def _streams(lanes: Sequence[Lane]) -> list[list[Lane]]:
    """Lanes that want the same sound, together."""
    streams: dict[tuple[int, tuple[Span, ...]], list[Lane]] = {}
    for lane in lanes:
        streams.setdefault((lane.model.embedder.sample_rate, lane.spans), []).append(lane)
    return list(streams.values())


def _run(
    stream: Sequence[Lane],
    source: Callable[[Sequence[Span], int], Iterator[FloatArray]],
    ticket: int,
    listening: Listening | None,
) -> None:
    first = stream[0]
    rate = first.model.embedder.sample_rate
    on_gpu = any(str(getattr(lane.model.embedder, "device", "")).startswith("cuda") for lane in stream)
    sounds = first.decoded.counted(source(first.spans, rate), rate)
    for portion in ahead(portions(sounds, rate, ON_A_GPU if on_gpu else ON_A_CPU)):
        going = [lane for lane in stream if lane.error is None]
        for lane in going:
            with blamed([lane]):
                lane.take(portion, ticket)
        if not going:
            break
        if listening is not None:
            listening.take(portion)


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
    with state.network.turn(state.network.ticket()):
        rows = embed(embedder, parts)
    kept = [(row, len(part) / rate) for row, part in zip(rows, parts, strict=True) if row is not None]
    if not kept:
        raise NotFinite("The clip holds no sound that could be embedded.", hint="Give at least a second of speech.")
    return pool(np.stack([row for row, _ in kept]), [length for _, length in kept]), loaded.checksum
