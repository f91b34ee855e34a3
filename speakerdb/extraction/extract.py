"""From one recording to its speakers' embeddings. Needs no database and no index, and runs in any process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np

from speakerdb import media
from speakerdb.core.pooling import pool
from speakerdb.core.selection import TOO_SHORT, select
from speakerdb.errors import MediaChanged, MediaError, MediaMissing, NeedsTurns, NotFinite
from speakerdb.extraction.shelf import Keep, Place, Shelf
from speakerdb.models.port import Embedder
from speakerdb.models.registry import LoadedModel, load_embedder
from speakerdb.types import Embedding, Fingerprint, FloatArray, Generation, Span, Turn, Unembeddable, Waveform

CHUNK_SEGMENTS = 8
"""Segments that are decoded ahead and embedded together; bounds memory however long a recording is."""

NO_FINITE_VECTOR = "no-finite-vector"
"""The model gives NaN for all of this speaker's segments, as it may for digital silence, while others have vectors."""

Item = TypeVar("Item")
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

    def __call__(self, generation: Generation) -> LoadedModel:
        """The model, ready. Raises what `load_embedder` raises."""
        place = Place(self.device, self.folder, self.keep)
        return _shelf.get((generation.model, self), generation, place, lambda: self._load(generation))

    def _load(self, generation: Generation) -> LoadedModel:
        return load_embedder(
            generation.model,
            device=self.device,
            allow_unknown=self.allow_unknown,
            telemetry=self.telemetry,
            offline=self.offline,
            folder=self.folder,
        )


_shelf = Shelf()
"""The models of this process."""


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
class Extracted:
    """What a recording gave: one result for each of its speakers.

    `model` says for a person what computed it (empty where no speech was usable and no model was needed), `checksum` is
    its checkpoint's. `speech_seconds` is what passed the network.
    """

    recording_id: str
    content_version: int
    results: Mapping[str, Embedding | Unembeddable]
    speech_seconds: float
    model: str
    checksum: str | None
    notices: tuple[str, ...]


def extract(task: Task) -> Extracted:
    """Choose, decode, embed and pool. Raises `MediaError` and `ExtractionError` classes, and `NeedsTurns`.

    A recording in which nobody's speech is usable is answered without opening its file.
    """
    if not task.turns:
        raise NeedsTurns(
            f"The recording {task.recording_id!r} has no turns: it was made from the vectors of an index.",
            hint="Add its file with its turns, under the same id.",
        )
    chosen = select(task.turns, task.generation.recipe, duration=task.seconds)
    results: dict[str, Embedding | Unembeddable] = {
        speaker: found for speaker, found in chosen.items() if isinstance(found, Unembeddable)
    }
    wanted = sorted(
        (span, speaker) for speaker, found in chosen.items() if not isinstance(found, Unembeddable) for span in found
    )
    if not wanted:
        return Extracted(task.recording_id, task.content_version, results, 0.0, "", None, ())
    # The file first: a missing one must not cost the loading of a model.
    source = _open(task)
    loaded = task.load(task.generation)
    embedder = loaded.embedder
    sounds = source([span for span, _ in wanted], embedder.sample_rate)
    vectors: dict[str, list[FloatArray]] = {speaker: [] for _, speaker in wanted}
    seconds: dict[str, list[float]] = {speaker: [] for _, speaker in wanted}
    tried: set[str] = set()
    for chunk in _ahead(_chunks(zip(sounds, wanted, strict=True), CHUNK_SEGMENTS)):
        usable = [(sound, speaker) for sound, (_, speaker) in chunk if len(sound) >= embedder.min_samples]
        rows = _embed(embedder, [sound for sound, _ in usable])
        for (sound, speaker), row in zip(usable, rows, strict=True):
            tried.add(speaker)
            if row is not None:
                vectors[speaker].append(row)
                seconds[speaker].append(len(sound) / embedder.sample_rate)
    if tried and not any(vectors.values()):
        raise NotFinite(
            f"{loaded.description} gave no finite vector for any segment of this recording.",
            hint="Listen to it: it may be silent where its turns say that somebody talks.",
        )
    for speaker, found in vectors.items():
        if found:
            results[speaker] = pool(np.stack(found), seconds[speaker])
        else:
            results[speaker] = Unembeddable(NO_FINITE_VECTOR if speaker in tried else TOO_SHORT)
    spoken = sum(sum(each) for each in seconds.values())
    notices = (*loaded.notices, *_shelf.take_notices())
    return Extracted(
        task.recording_id, task.content_version, results, spoken, loaded.description, loaded.checksum, notices
    )


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
    parts = [part for part in np.array_split(samples, count) if len(part) >= embedder.min_samples]
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
    """A row a segment; None for one that gives no finite vector (digital silence), which is left out of the pool."""
    if not segments:
        return []
    try:
        return list(embedder.embed(segments))
    except NotFinite:
        if len(segments) == 1:
            return [None]
    return [row for segment in segments for row in _embed(embedder, [segment])]


def _chunks(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    while chunk := list(islice(items, size)):
        yield chunk


def _ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made in a thread while the one before it is being used."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as thread:
        pending = thread.submit(next, items, end)
        while (item := pending.result()) is not end:
            pending = thread.submit(next, items, end)
            yield item  # type: ignore[misc]
