"""Which measurements are made, at which sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opensearchpy import OpenSearch

from benchmarks import (
    bringing,
    diarizing,
    extracting,
    nearest,
    opening,
    projecting,
    repairing,
    searching,
    serving,
    sound,
    swapping,
    working,
)
from benchmarks.extracting import ExtractionSizes
from benchmarks.libraries import null_executor, settings, voices
from benchmarks.report import Row, document, machine
from benchmarks.servers import Engines, engines
from benchmarks.serving import ServingSizes
from speakerdb.service import SpeakerDB


@dataclass(frozen=True, slots=True)
class ServerSizes:
    """How much is measured on PostgreSQL and OpenSearch."""

    recordings: int
    times: int
    documents: int
    rounds: int
    swap_speakers: int
    queries: int
    swaps: int


SERVING = ServingSizes(10_000, 301, 100)
EXTRACTION = ExtractionSizes(3_600, (1_800, 3_600, 7_200), 5, 180.0, 60, (4, 16), 10_000)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    recordings: int
    memory: tuple[int, ...]
    speakers: tuple[int, ...]
    rounds: int
    batches: int
    times: int
    sound_seconds: float
    library: tuple[int, ...] = (1_000, 10_000)
    servers: ServerSizes = ServerSizes(3_000, 3, 100_000, 201, 2_000, 10_000, 8)
    serving: ServingSizes = SERVING
    repair: tuple[int, ...] = (10_000, 1_000_000)
    extraction: ExtractionSizes = EXTRACTION


FULL = Sizes(10_000, (1_000, 10_000, 50_000), (1_000, 10_000, 100_000), 101, 7, 5, 1800.0)
QUICK = Sizes(
    1_000,
    (200, 1_000),
    (1_000, 4_000),
    31,
    5,
    2,
    120.0,
    (200, 1_000),
    ServerSizes(500, 2, 12_000, 51, 200, 400, 4),
    ServingSizes(2_000, 101, 20),
    (2_000, 20_000),
    ExtractionSizes(600, (600, 1_200), 3, 20.0, 10, (2, 4), 1_000),
)


def run(
    folder: Path, *, quick: bool, parts: Sequence[str], sizes: Sizes | None = None, device: str = "cpu"
) -> dict[str, Any]:
    """Measure the parts in `folder`; what is kept in a results file. `device` is where models compute: ``cpu`` or ``cuda``."""
    sizes = sizes or (QUICK if quick else FULL)
    about = machine() | {"sizes": "quick" if quick else "full"}
    rows: list[Row] = []
    if "orchestration" in parts:
        rows += working.orchestration(folder, sizes.recordings)
    if "memory" in parts:
        rows += working.memory(folder, sizes.memory)
    if "intake" in parts:
        rows += bringing.bringing(folder, sizes.library)
    if "search" in parts:
        library = folder / "search"
        rows += searching.match(library, sizes.speakers, rounds=sizes.rounds, batches=sizes.batches)
        rows += opening.opening(library, sizes.speakers[-1], times=sizes.times)
        rows += opening.rebuild(library, times=sizes.times)
    if "sound" in parts:
        rows += sound.decoding(folder, sizes.sound_seconds)
    if "extraction" in parts:
        about["extraction"], measured = extracting.extraction(folder / "extraction", sizes.extraction, device)
        rows += measured
    if "diarization" in parts:
        seconds, step, rounds = (15.0, 0.5, 1) if quick else (30.0, 0.1, 3)
        rows += diarizing.diarization(folder / "diarization", seconds=seconds, step=step, rounds=rounds)
    if "serving" in parts:
        (folder / "serving").mkdir()
        rows += serving.serving(folder / "serving", sizes.serving)
    if "repair" in parts:
        rows += repairing.embedded(folder / "repair", sizes.repair, times=3)
        with engines() as found:
            about["servers"] = None if found is None else found.versions
            if found is not None:
                rows += repairing.on_servers(folder / "repair", found, sizes.repair, times=3)
    if "servers" in parts:
        with engines() as found:
            about["servers"] = None if found is None else found.versions
            if found is not None:
                rows += on_servers(folder, found, sizes.servers)
    return document(about, rows)


def on_servers(folder: Path, engines: Engines, sizes: ServerSizes) -> list[Row]:
    """What is measured on PostgreSQL and OpenSearch."""
    rows = working.on_postgres(folder, engines, sizes.recordings, times=sizes.times)
    rows += swapping.swapping(
        folder / "swaps", engines, speakers=sizes.swap_speakers, queries=sizes.queries, swaps=sizes.swaps
    )
    made = voices(sizes.documents)
    with (
        engines.library() as more,
        OpenSearch(engines.opensearch.url, timeout=300) as driver,
        SpeakerDB.open(settings(folder / "servers", **more), executor=null_executor()) as db,
    ):
        projected, ids = projecting.projection(db, more, driver, made)
        rows += projected
        rows += nearest.match(db, driver, ids, made, sizes.rounds)
        rows += nearest.recall_of_voices(db, ids, made)
        rows += nearest.reading(db)
        rows += nearest.recall_of_random(db, sizes.documents)
    return rows
