"""What `migrate start` would meet: can the migration come to its end, what does it cost. A dry run prints it."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speakerdb import media
from speakerdb.catalog import asking, library, work
from speakerdb.catalog.catalog import Catalog
from speakerdb.errors import DimensionMismatch, MediaError, SpeakerDBError
from speakerdb.index.port import VectorIndex
from speakerdb.models.registry import LoadedModel
from speakerdb.reports import Check, Preflight
from speakerdb.types import Generation

MEDIA_SAMPLE = 50
PROBE_SEGMENTS = 4
PROBE_SECONDS = 3.0

ROW_OVERHEAD_BYTES = 700
"""Measured on SQLite: ids, statistics, keys and page slack of one speaker's rows in catalog and index together."""
DISK_RESERVE = 1.5
"""Both write-ahead logs may hold what is being written once more."""

LOW, HIGH = 0.8, 2.0
"""The estimate is a range: a short probe is neither the whole library nor a machine that does nothing else."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A model that was tried: what it is and how many seconds of speech it embeds in a second."""

    description: str
    speed: float


def disk_needed(speakers: int, dimension: int) -> int:
    """Bytes that `speakers` embeddings will take: a float32 vector in SQL and one in the index, with their rows."""
    return int(speakers * (2 * 4 * dimension + ROW_OVERHEAD_BYTES) * DISK_RESERVE)


def probe_model(load: Callable[[Generation], LoadedModel], generation: Generation) -> Probe:
    """Load a model and time it on noise. Raises what loading raises; `DimensionMismatch`."""
    loaded = load(generation)
    embedder = loaded.embedder
    if embedder.dimension != generation.dimension:
        raise DimensionMismatch(
            f"{loaded.description} gives {embedder.dimension} dimensions, generation {generation.name!r} has "
            f"{generation.dimension}."
        )
    samples = int(PROBE_SECONDS * embedder.sample_rate)
    noise = np.random.default_rng(0).standard_normal((PROBE_SEGMENTS + 1, samples)).astype(np.float32) * 0.1
    embedder.embed([noise[0]])
    begun = time.perf_counter()
    embedder.embed(list(noise[1:]))
    took = max(time.perf_counter() - begun, 1e-9)
    return Probe(loaded.description, PROBE_SEGMENTS * PROBE_SECONDS / took)


def examine(
    catalog: Catalog,
    index: VectorIndex,
    *,
    source: Generation,
    source_index: str,
    target: Generation,
    probe: Callable[[Generation], Probe],
    media_roots: Sequence[Path],
    data_dir: Path,
    disk_floor_bytes: int,
    workers: int,
    probe_diarizer: Callable[[], str] | None = None,
) -> Preflight:
    """Everything a person should know before a migration starts. `probe_diarizer` where everything is to be diarized again."""
    with catalog.read() as tx:
        listen = asking.askable(tx)
        cost = work.cost(tx, target.name, target.recipe.budget_seconds)
        files = library.media_files(tx)
    checks: list[Check] = []
    tried, check = _model_check("target model", probe, target, missing="fail")
    checks.append(check)
    known, check = _model_check("source model", probe, source, missing="warn")
    checks.append(check)
    if probe_diarizer is not None:
        checks.append(_diarizer_check(probe_diarizer))
    checks.append(_media_check(files, media_roots))
    needed, free = disk_needed(cost.speakers, target.dimension), shutil.disk_usage(data_dir).free
    checks.append(
        Check(
            "disk",
            "pass" if free - needed >= disk_floor_bytes else "fail",
            f"{free / 1e6:,.0f} MB free, {needed / 1e6:,.1f} MB needed",
            f"{disk_floor_bytes / 1e6:,.0f} MB left over",
            "Make room on this disk, or lower the setting disk_floor_mb.",
        )
    )
    checks.append(_index_check(index, source, source_index))
    estimate = None
    if tried is not None:
        seconds = cost.speech_seconds / tried.speed / workers
        estimate = (seconds * LOW, seconds * HIGH + 0.5 * cost.to_extract / workers)
    return Preflight(
        source=source.name,
        target=target.name,
        recordings=cost.recordings,
        recordings_to_extract=cost.to_extract,
        speakers=cost.speakers,
        audio_seconds=cost.audio_seconds,
        speech_seconds=cost.speech_seconds,
        disk_needed_bytes=needed,
        disk_free_bytes=free,
        estimate_seconds=estimate,
        source_model_loads=known is not None,
        checks=tuple(checks),
        recordings_to_diarize=0 if probe_diarizer is None else listen.recordings,
        audio_seconds_to_diarize=0.0 if probe_diarizer is None else listen.seconds,
    )


def _diarizer_check(probe: Callable[[], str]) -> Check:
    try:
        found = probe()
    except SpeakerDBError as error:
        return Check("diarizer", "fail", f"{error.code}: {error.message}", "loads", error.hint)
    return Check("diarizer", "pass", found, "loads")


def _model_check(
    name: str, probe: Callable[[Generation], Probe], generation: Generation, *, missing: str
) -> tuple[Probe | None, Check]:
    wanted = f"loads, {generation.dimension} dimensions"
    try:
        found = probe(generation)
    except SpeakerDBError as error:
        verdict = "fail" if missing == "fail" else "warn"
        hint = error.hint if verdict == "fail" else (
            "New recordings cannot be searched until finalize, and a roll-back will lack them. " + error.hint
        )  # fmt: skip
        return None, Check(
            name, "fail" if verdict == "fail" else "warn", f"{error.code}: {error.message}", wanted, hint
        )
    return found, Check(name, "pass", f"{found.description}, {found.speed:,.0f} s of speech a second", wanted)


def _media_check(files: Sequence[library.MediaFile], roots: Sequence[Path]) -> Check:
    sample = random.Random(0).sample(files, min(MEDIA_SAMPLE, len(files)))  # noqa: S311
    wrong: list[str] = []
    for file in sample:
        try:
            if file.path is None:
                wrong.append(f"{file.recording_id}: it has no file")
                continue
            path = media.check_allowed(Path(file.path), roots)
            if file.fingerprint is not None and media.fingerprint(path) != file.fingerprint:
                wrong.append(f"{file.recording_id}: media-changed")
        except MediaError as error:
            wrong.append(f"{file.recording_id}: {error.code}")
    value = f"{len(sample) - len(wrong)} of {len(sample)} sampled files can be read"
    if wrong:
        value += f" ({', '.join(wrong[:3])})"
    every = bool(sample) and len(wrong) == len(sample)
    return Check(
        "media",
        "fail" if every else "warn" if wrong else "pass",
        value,
        "all",
        "Recordings that cannot be read will fail; mend them and retry, or waive them before finalize."
        if wrong
        else "",
    )


def _index_check(index: VectorIndex, source: Generation, name: str) -> Check:
    info = index.indices((name,)).get(name)
    if info is None:
        return Check(
            "index", "fail", f"{name} is missing", "there",
            f"Run `speakerdb index rebuild {source.name}`.",
        )  # fmt: skip
    return Check("index", "pass", f"{name} holds {info.documents} documents", "there")
