"""One extraction in a process of its own: how much memory it took at most. Run by test_extraction_memory.py.

`python long_recording.py PATH SECONDS SPEAKERS SPEECH`: a recording of so many seconds, in which so many speakers have as
many seconds of speech each, spread over all of it. The model costs nothing, so that what is left is the recording.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from speakerdb.extraction.extract import Task, extract
from speakerdb.generations import V4
from speakerdb.models.registry import LoadedModel
from speakerdb.types import Embedding, FloatArray, Generation, Turn


class Cheap:
    """An embedder that looks at every sample and computes hardly anything."""

    model_id = "cheap"
    dimension = 256
    sample_rate = 16_000
    min_samples = 8_000
    forwards = 0

    def embed(self, segments: Sequence[FloatArray]) -> FloatArray:
        self.forwards += len(segments)
        rows = np.ones((len(segments), self.dimension), dtype=np.float32)
        rows[:, 0] += [float(np.abs(segment).mean()) for segment in segments]
        return rows


CHEAP = Cheap()


def load(generation: Generation) -> LoadedModel:
    return LoadedModel(CHEAP, "0" * 64, "built-in", (), "cheap")


def spread(seconds: float, speakers: int, speech: float) -> tuple[Turn, ...]:
    """Turns of 3 s, each speaker's all over the recording. They fill it where there are enough of them."""
    count = round(speakers * speech / 3.0)
    starts = np.linspace(0.0, seconds - 3.5, count)
    return tuple(
        Turn(round(float(at), 3), round(float(at) + 3.0, 3), f"S{n % speakers}") for n, at in enumerate(starts)
    )


def peak() -> float:
    """MiB of resident memory of this process at most so far. Without what its parent held, which `ru_maxrss` counts."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def main() -> None:
    path, seconds, speakers, speech = sys.argv[1], *map(float, sys.argv[2:])
    turns = spread(seconds, int(speakers), speech)
    before = peak()
    done = extract(Task("rec", 1, V4, turns, seconds, path, None, (), load))
    embedded = sum(isinstance(found, Embedding) for found in done.results.values())
    print(json.dumps({"before": before, "peak": peak(), "embedded": embedded, "speech": done.speech_seconds}))


if __name__ == "__main__":
    main()
