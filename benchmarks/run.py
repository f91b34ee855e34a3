"""Which measurements are made, at which sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import bringing, opening, searching, sound, working
from benchmarks.report import Row, document, machine


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


FULL = Sizes(10_000, (1_000, 10_000, 50_000), (1_000, 10_000, 100_000), 101, 7, 5, 1800.0)
QUICK = Sizes(1_000, (200, 1_000), (1_000, 4_000), 31, 5, 2, 120.0, (200, 1_000))


def run(folder: Path, *, quick: bool, parts: Sequence[str], sizes: Sizes | None = None) -> dict[str, Any]:
    """Measure the parts in `folder`; what is kept in a results file."""
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
        rows += sound.extraction(folder, sizes.sound_seconds)
    return document(about, rows)
