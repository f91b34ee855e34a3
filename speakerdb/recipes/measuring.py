"""Some voices of one recording with several budgets: each segment passes the network once. Runs in any process."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from speakerdb import media
from speakerdb.core.pooling import pool
from speakerdb.core.selection import select
from speakerdb.core.sound import is_silent
from speakerdb.errors import MediaChanged, MediaMissing
from speakerdb.extraction.extract import NO_FINITE_VECTOR, LoadEmbedder
from speakerdb.extraction.lane import embed
from speakerdb.types import Embedding, Fingerprint, FloatArray, Generation, Span, Turn, Unembeddable

SEGMENTS_AT_ONCE = 8


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Some speakers of one recording, to be tried with several budgets. The turns' speakers are speaker ids."""

    recording_id: str
    speakers: tuple[str, ...]
    turns: tuple[Turn, ...]
    seconds: float | None
    path: str | None
    fingerprint: Fingerprint | None
    media_roots: tuple[Path, ...]
    generation: Generation
    budgets: tuple[float, ...]
    """The last is for all clean speech."""
    load: LoadEmbedder


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What a task gave: an embedding a budget for each speaker, or why it has none."""

    results: Mapping[str, Mapping[float, Embedding] | Unembeddable]
    speech_seconds: float
    """Through the network while it was timed, each segment once however many budgets use it."""
    network_seconds: float
    model: str
    checksum: str | None
    notices: tuple[str, ...] = ()


def measure(task: Task) -> Measured:
    """Choose for each budget, decode and embed each segment once, and pool. Runs in any process.

    Raises `MediaError` and `ExtractionError` classes.
    """
    spans: dict[str, dict[float, tuple[Span, ...]]] = defaultdict(dict)
    results: dict[str, Mapping[float, Embedding] | Unembeddable] = {}
    for budget in task.budgets:
        recipe = replace(task.generation.recipe, budget_seconds=budget)
        chosen = select(task.turns, recipe, duration=task.seconds)
        for speaker in task.speakers:
            found = chosen[speaker]
            if isinstance(found, Unembeddable):
                results[speaker] = found
            else:
                spans[speaker][budget] = found
    if not spans:
        return Measured(results, 0.0, 0.0, "", None)
    wanted = sorted({(span, speaker) for speaker, mine in spans.items() for each in mine.values() for span in each})
    path = _checked(task)
    loaded = task.load(task.generation)
    embedder = loaded.embedder
    sounds = media.decode_spans(path, [span for span, _ in wanted], embedder.sample_rate)
    rows: dict[tuple[Span, str], tuple[FloatArray, float]] = {}
    spoken, taken, warm = 0.0, 0.0, False
    for chunk in _chunks(zip(wanted, sounds, strict=True)):
        usable = [(key, sound) for key, sound in chunk if len(sound) >= embedder.min_samples and not is_silent(sound)]
        if usable and not warm:
            embed(embedder, [usable[0][1]])  # the first pass of a process is slower than all others
            warm = True
        begun = time.perf_counter()
        found_rows = embed(embedder, [sound for _, sound in usable])
        taken += time.perf_counter() - begun
        for (key, sound), row in zip(usable, found_rows, strict=True):
            seconds = len(sound) / embedder.sample_rate
            spoken += seconds
            if row is not None:
                rows[key] = (row, seconds)
    for speaker, mine in spans.items():
        pooled = {
            budget: pool(np.stack([row for row, _ in kept]), [seconds for _, seconds in kept])
            for budget, each in mine.items()
            if (kept := [rows[span, speaker] for span in each if (span, speaker) in rows])
        }
        results[speaker] = pooled if len(pooled) == len(task.budgets) else Unembeddable(NO_FINITE_VECTOR)
    return Measured(results, spoken, taken, loaded.description, loaded.checksum, loaded.notices)


def _checked(task: Task) -> Path:
    if task.path is None:
        raise MediaMissing("The sound of this recording was given in memory and is not there any more.")
    path = media.check_allowed(Path(task.path), task.media_roots)
    if task.fingerprint is not None and media.fingerprint(path) != task.fingerprint:
        raise MediaChanged(f"{path} is not the file its turns were made from.")
    return path


def _chunks(
    items: Iterator[tuple[tuple[Span, str], FloatArray]],
) -> Iterator[list[tuple[tuple[Span, str], FloatArray]]]:
    while chunk := list(islice(items, SEGMENTS_AT_ONCE)):
        yield chunk
