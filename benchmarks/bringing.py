"""Bringing in a library: media files of real audio bytes with a manifest of their turns, then the same again."""

from __future__ import annotations

import json
import time
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.libraries import SPEAKERS, TURNS, null_executor, settings
from benchmarks.report import Row, row, say
from benchmarks.working import GOAL_FLAT, child
from speakerdb.service import SpeakerDB

GOAL_BRING_IN_SECONDS = 60.0
GOAL_STATUS_SECONDS = 1.0
GOAL_RECORDINGS = 10_000
"""How many recordings the goals are about."""
RATE = 8000
SECONDS = 2.0
FOLDERS = 100


def make(folder: Path, recordings: int) -> Path:
    """So many WAV files, each unlike every other, and a manifest with two speakers and `TURNS` turns each; its path."""
    random = np.random.default_rng(11)
    length = SECONDS / TURNS
    turns = [
        {"start": n * length, "end": (n + 1) * length, "speaker": f"SPEAKER_{n % SPEAKERS:02}"} for n in range(TURNS)
    ]
    manifest = folder / "library.jsonl"
    folder.mkdir(parents=True)
    with manifest.open("w") as lines:
        for n in range(recordings):
            place = Path(f"media/{n % FOLDERS:03}/{n:06}.wav")
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            with wave.open(str(folder / place), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(1)
                file.setframerate(RATE)
                file.writeframes(random.integers(118, 138, int(RATE * SECONDS), dtype=np.uint8).tobytes())
            entry = {"id": f"show/{n:06}", "path": str(place), "turns": turns, "recorded_at": "2024-05-31T18:30:00Z"}
            if n % 3 == 0:
                entry["speakers"] = {"SPEAKER_00": {"name": f"Guest {n}", "profile": f"Person {n % 500}"}}
            lines.write(json.dumps(entry) + "\n")
    return manifest


def bringing(folder: Path, sizes: Sequence[int]) -> list[Row]:
    """The largest size is timed; the peaks of fresh processes at all sizes say whether memory is flat."""
    rows: list[Row] = []
    peaks = []
    for recordings in sizes:
        manifest = make(folder / f"bringing-{recordings}", recordings)
        found = child("bring", manifest.parent)
        say(f"bringing in {recordings} recordings: {found}")
        assert found["added"] == recordings
        peaks.append(found["peak"])
    goal = sizes[-1] == GOAL_RECORDINGS
    name = f"bringing in {sizes[-1]:,} recordings with {sizes[-1] * TURNS:,} turns"
    rows.append(row(name, found["seconds"], "s", at_most=GOAL_BRING_IN_SECONDS if goal else None))
    rows.append(row(f"{name}, by the processor's clock", found["cpu"], "s of CPU"))
    with SpeakerDB.open(settings(manifest.parent / "library"), executor=null_executor()) as db:
        begun = time.perf_counter()
        again = db.ingest.bring_in([manifest])
        seconds = time.perf_counter() - begun
        assert (again.unchanged, again.added, again.changed, again.refused) == (sizes[-1], 0, 0, 0)
        rows.append(row(f"{name}, again with nothing changed", seconds, "s"))
        begun = time.perf_counter()
        status = db.status()
        seconds = time.perf_counter() - begun
        assert status.recordings == sizes[-1]
        at_most = GOAL_STATUS_SECONDS if goal else None
        rows.append(row(f"status of {sizes[-1]:,} recordings", seconds, "s", at_most=at_most))
    rows += [
        row(f"peak memory while {count:,} recordings are brought in", peak, "MiB")
        for count, peak in zip(sizes, peaks, strict=True)
    ]
    rows.append(
        row(
            f"bringing in, memory, {sizes[-1]:,} recordings over {sizes[0]:,}",
            peaks[-1] / peaks[0],
            "ratio of peaks",
            at_most=GOAL_FLAT,
        )
    )
    return rows
