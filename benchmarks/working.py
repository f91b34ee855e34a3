"""Orchestration: how fast recordings pass through queue, extraction step, commit and projector when a model costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.libraries import add_queued, null_executor, settings
from benchmarks.report import Row, median, row, say
from benchmarks.servers import Engines
from speakerdb.service import SpeakerDB

GOAL_RECORDINGS_A_SECOND = 500.0
GOAL_POSTGRES_OVER_SQLITE = 0.5
GOAL_FLAT = 1.15
"""The peak at the largest library over the peak at the smallest: what varies by itself is about a tenth."""
BATCH = 256
DEFAULT_BATCH = 16


def orchestration(folder: Path, recordings: int) -> list[Row]:
    """Recordings a second from queued to committed and projected, at a large batch and at the default one."""
    rows = []
    for batch in (BATCH, DEFAULT_BATCH):
        taken, busy = _worked(folder / f"orchestration-{batch}", recordings, batch)
        rate = recordings / taken
        say(f"orchestration, batches of {batch}: {rate:.0f} recordings/s")
        goal = GOAL_RECORDINGS_A_SECOND if batch == BATCH else None
        name = f"orchestration, {batch} recordings a transaction"
        rows.append(row(name, rate, "recordings/s", at_least=goal))
        rows.append(row(f"{name}, by the processor's clock", recordings / busy, "recordings/s of CPU"))
    return rows


def on_postgres(folder: Path, engines: Engines, recordings: int, *, times: int = 3) -> list[Row]:
    """The same with the catalog on PostgreSQL, and on SQLite beside it, in turns; the index is the embedded one in both."""
    rows = []
    for batch in (BATCH, DEFAULT_BATCH):
        rates: dict[bool, list[float]] = {False: [], True: []}
        for n in range(times):
            for on_server in (False, True) if n % 2 else (True, False):
                with engines.library(catalog=on_server, index=False) as more:
                    taken, _ = _worked(folder / f"catalogs-{batch}-{n}-{on_server}", recordings, batch, **more)
                rates[on_server].append(recordings / taken)
        ours, theirs = median(rates[True]), median(rates[False])
        say(f"orchestration, batches of {batch}: PostgreSQL {rates[True]}, SQLite {rates[False]} recordings/s")
        name = f"orchestration on PostgreSQL, {batch} recordings a transaction"
        rows += [
            row(name, ours, "recordings/s"),
            row(f"{name}, over SQLite", ours / theirs, "ratio of rates", at_least=GOAL_POSTGRES_OVER_SQLITE),
        ]
    return rows


def _worked(folder: Path, recordings: int, batch: int, **more: Any) -> tuple[float, float]:
    """Seconds, and seconds of the processor, that a fresh library's queue takes."""
    with SpeakerDB.open(settings(folder, batch=batch, **more), executor=null_executor()) as db:
        add_queued(db, recordings)
        begun, busy = time.perf_counter(), time.process_time()
        report = db.work()
        taken, busy = time.perf_counter() - begun, time.process_time() - busy
        assert (report.recordings_done, report.documents_written) == (recordings, 2 * recordings)
    return taken, busy


def memory(folder: Path, sizes: Sequence[int]) -> list[Row]:
    """Peak memory of a fresh process that drains a queue of so many recordings, and what a first search adds to it."""
    rows, peaks = [], []
    for recordings in sizes:
        path = folder / f"memory-{recordings}"
        with SpeakerDB.open(settings(path, batch=BATCH), executor=null_executor()) as db:
            add_queued(db, recordings)
        found = child("drain", path)
        peaks.append(found["peak"])
        say(f"draining {recordings} recordings: {found}")
        rows.append(row(f"peak memory while {recordings:,} recordings are drained", found["peak"], "MiB"))
    rows.append(
        row(
            f"memory, {sizes[-1]:,} recordings over {sizes[0]:,}",
            peaks[-1] / peaks[0],
            "ratio of peaks",
            at_most=GOAL_FLAT,
        )
    )
    rows.append(row(f"search cache of {sizes[-1] * 2:,} speakers", found["cache"], "MiB"))
    return rows


def child(what: str, folder: Path) -> dict[str, Any]:
    """Measure something in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.child", what, str(folder.resolve())],
        cwd=Path(__file__).resolve().parent.parent,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
