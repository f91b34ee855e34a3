"""Repair of a large library whose vectors are small: the cheap comparison in sync, one document of a hundred gone, and memory."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from opensearchpy import OpenSearch

from benchmarks.libraries import GENERATION, null_executor
from benchmarks.report import Row, row, say
from benchmarks.servers import Engines
from benchmarks.working import GOAL_FLAT, child
from speakerdb.catalog import library, schema, vectors
from speakerdb.catalog.vectors import EmbeddingRow
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.testing.factories import fake_settings
from speakerdb.types import Embedding, Kind

DIMENSION = 8
"""Small, so that a million are loaded in minutes: what is compared are rows, not the vectors' bytes."""
CHUNK = 20_000
GONE = 100
"""One of so many documents is deleted by hand."""
GOAL_EMBEDDED_SECONDS, GOAL_SERVERS_SECONDS = 2.0, 5.0
GOAL_PLAN_SECONDS = 60.0


def settings(folder: Path, more: Mapping[str, Any]) -> Settings:
    """A library whose one generation has small vectors, and whose repair leaves nothing alone because it is new."""
    return fake_settings(
        folder, serving=GENERATION, dimensions={"v3": 24, GENERATION: DIMENSION}, repair={"grace_seconds": 0}, **more
    )


def embedded(folder: Path, sizes: Sequence[int], *, times: int) -> list[Row]:
    """On SQLite and the embedded index, at each size."""
    peaks = [_at(folder / str(size), {}, size, "embedded", times) for size in sizes]
    return _rows(peaks, sizes, "embedded", GOAL_EMBEDDED_SECONDS)


def on_servers(folder: Path, engines: Engines, sizes: Sequence[int], *, times: int) -> list[Row]:
    """On PostgreSQL and OpenSearch, at each size."""
    found = []
    for size in sizes:
        with engines.library() as more:
            found.append(_at(folder / f"servers-{size}", more, size, "on the servers", times))
    return _rows(found, sizes, "on the servers", GOAL_SERVERS_SECONDS)


def _rows(found: Sequence[Mapping[str, float]], sizes: Sequence[int], where: str, goal: float) -> list[Row]:
    last, shown = found[-1], f"{sizes[-1]:,} speakers {where}"
    few, many = f"{sizes[0]:,}", f"{sizes[-1]:,}"
    return [
        row(f"cheap check of {shown}", last["check"], "s", at_most=goal),
        row(f"1 % drift of {shown}, found and planned", last["plan"], "s", at_most=GOAL_PLAN_SECONDS),
        row(f"1 % drift of {shown}, mended and read back", last["mend"], "s"),
        row(
            f"repair {where}, peak memory at {many} over {few}", last["peak"] / found[0]["peak"], "ratio of peaks",
            at_most=GOAL_FLAT,
        ),
        row(f"repair {where}, peak memory at {many}", last["peak"], "MiB"),
    ]  # fmt: skip


def _at(folder: Path, more: Mapping[str, Any], size: int, where: str, times: int) -> dict[str, float]:
    folder.mkdir(parents=True)
    begun = time.perf_counter()
    with SpeakerDB.open(settings(folder, more), executor=null_executor()) as db:
        ids = load(db, size)
        concrete = db.serving.index_of(db.generations[GENERATION])
    say(f"{size:,} speakers {where} loaded in {time.perf_counter() - begun:.0f} s")
    (folder / "repair.json").write_text(json.dumps({"more": dict(more), "times": times}))
    found = child("repair_check", folder)
    assert found["compared"] == 0, "the two were to be in sync"
    _forget(folder, more, concrete, ids[::GONE])
    drifted = child("repair_drift", folder)
    assert drifted["missing"] == len(ids[::GONE])
    say(f"{size:,} speakers {where}: {found}, {drifted}")
    return {
        "check": found["check"],
        "plan": drifted["plan"],
        "mend": drifted["mend"],
        "peak": max(found["peak"], drifted["peak"]),
    }


def load(db: SpeakerDB, size: int) -> list[str]:
    """Recordings with two speakers each, extracted and projected, without turns; the speakers' ids."""
    generation = db.generations[GENERATION]
    random = np.random.default_rng(3)
    made: list[str] = []
    db.index.tune(db.serving.index_of(generation), loading=True)
    while len(made) < size:
        count = min(CHUNK, size - len(made))
        given = random.standard_normal((count, DIMENSION)).astype(np.float32)
        given /= np.linalg.norm(given, axis=1, keepdims=True)
        made += _add(db, given)
        db.projector.drain(generation)
    db.index.tune(db.serving.index_of(generation), loading=False)
    return made


def _add(db: SpeakerDB, given: np.ndarray[Any, Any]) -> list[str]:
    now = db.catalog.now()
    speakers = [library.new_id("spk") for _ in given]
    recordings = [library.new_id("rec") for _ in speakers[::2]]
    stamps = {"created_at": now, "updated_at": now}
    item = {
        "task": "extract", "generation": GENERATION, "reason": "new", "priority": 0, "state": "done", "attempts": 1,
        "done_version": 1, "updated_at": now,
    }  # fmt: skip
    with db.catalog.change() as tx:
        home = library.ensure_library(tx, "default", now)
        tx.execute(
            sa.insert(schema.recordings),
            [
                {"id": each, "library_id": home, "turns_digest": "0", "content_version": 1} | stamps
                for each in recordings
            ],
        )
        tx.execute(
            sa.insert(schema.speakers),
            [
                {"id": each, "recording_id": recordings[n // 2], "label": f"S{n % 2}", "speech_seconds": 9.0,
                 "created_at": now}
                for n, each in enumerate(speakers)
            ],
        )  # fmt: skip
        tx.execute(sa.insert(schema.work_items), [item | {"recording_id": each} for each in recordings])
        rows = [
            EmbeddingRow(speaker, Kind.SPEAKER, Embedding(vector, 9.0, 3, 0.9, 0.8), "made", 1)
            for speaker, vector in zip(speakers, given, strict=True)
        ]
        vectors.write_embeddings(tx, GENERATION, rows, dict.fromkeys(speakers, home), now)
    return speakers


def _forget(folder: Path, more: Mapping[str, Any], concrete: str, ids: Sequence[str]) -> None:
    """Delete documents by hand, past the product."""
    if "opensearch" not in more:
        with closing(sqlite3.connect(folder / "index.db")) as file, file:
            (table,) = file.execute("SELECT 'documents_' || id FROM indices WHERE name = ?", (concrete,)).fetchone()
            file.executemany(f"DELETE FROM {table} WHERE id = ?", [(id,) for id in ids])  # noqa: S608 - ours
        return
    index = more["opensearch"]["prefix"] + concrete
    with OpenSearch(more["opensearch"]["hosts"][0], timeout=300) as driver:
        for start in range(0, len(ids), 5000):
            lines = [json.dumps({"delete": {"_index": index, "_id": id}}) for id in ids[start : start + 5000]]
            answer = driver.bulk(body="\n".join(lines) + "\n")
            assert not answer["errors"]
        driver.indices.refresh(index=index)
