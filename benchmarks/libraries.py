"""Libraries of any size, made in bulk: their rows are what adding and extracting would have left.

Every recording has two speakers and `TURNS` turns. Vectors are voices: a direction of its own for each person (five
speakers a person), and noise around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from speakerdb.catalog import library, schema, vectors
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.vectors import EmbeddingRow
from speakerdb.core.turns import turns_digest
from speakerdb.extraction.extract import Extracted, Task
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.testing.factories import FAKE_CHECKSUM, FakeExecutor
from speakerdb.types import Embedding, FloatArray, Kind, Turn

GENERATION = "v4"
DIMENSION = 256
SPEAKERS = 2
TURNS = 20
TURN_SECONDS = 4.0
SECONDS = TURNS * TURN_SECONDS
SPEAKERS_A_PERSON = 5
CHUNK = 2500
"""Recordings a transaction, while a library is made."""


def settings(folder: Path, *, batch: int = 16, **more: Any) -> Settings:
    """A library in `folder` that serves v4 (256 dimensions). `batch` recordings are taken and committed at once; `more`
    may name servers."""
    return Settings(
        data_dir=folder, serving=GENERATION, executor="inline", batch_recordings=batch, disk_floor_mb=0, **more
    )


def null_executor() -> FakeExecutor:
    """Answers every task at once with vectors that were made beforehand: what is left is orchestration."""
    ready = [Embedding(vector, SECONDS / SPEAKERS, 5, 0.9, 0.8) for vector in voices(1000)]
    turn = 0

    def answer(task: Task) -> Extracted:
        nonlocal turn
        turn += SPEAKERS
        speakers = dict.fromkeys(each.speaker for each in task.turns)
        results = {speaker: ready[(turn + n) % len(ready)] for n, speaker in enumerate(speakers)}
        return Extracted(task.recording_id, task.content_version, results, SECONDS, "none", FAKE_CHECKSUM, ())

    return FakeExecutor(answer)


def voices(count: int, *, seed: int = 5) -> FloatArray:
    """Unit vectors of shape (count, DIMENSION); cosine about 0.8 within a person, about 0 between two."""
    random = np.random.default_rng(seed)
    people = random.standard_normal((count // SPEAKERS_A_PERSON + 1, DIMENSION), np.float32)
    found = people[random.integers(len(people), size=count)]
    found += np.float32(0.5) * random.standard_normal((count, DIMENSION), np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def add_queued(db: SpeakerDB, recordings: int) -> None:
    """Recordings that wait for extraction."""
    for count in _chunks(recordings):
        _add(db, count, None)


def add_embedded(db: SpeakerDB, made: FloatArray) -> list[str]:
    """Recordings whose speakers are embedded and projected, two a recording; the speakers' ids in the order of `made`."""
    ids = add_unprojected(db, made)
    db.projector.drain(db.generations[GENERATION])
    return ids


def add_unprojected(db: SpeakerDB, made: FloatArray) -> list[str]:
    """The same, with the documents still waiting for the projector."""
    ids: list[str] = []
    for count in _chunks(len(made) // SPEAKERS):
        ids += _add(db, count, made[len(ids) : len(ids) + count * SPEAKERS])
    return ids


def _chunks(recordings: int) -> Sequence[int]:
    return [min(CHUNK, recordings - begun) for begun in range(0, recordings, CHUNK)]


def _add(db: SpeakerDB, count: int, made: FloatArray | None) -> list[str]:
    now = db.catalog.now()
    with db.catalog.change() as tx:
        home = library.ensure_library(tx, "default", now)
        recordings = [library.new_id("rec") for _ in range(count)]
        speakers = [library.new_id("spk") for _ in range(count * SPEAKERS)]
        _insert_recordings(tx, home, recordings, speakers, now)
        state = (
            {"state": "queued", "attempts": 0} if made is None else {"state": "done", "attempts": 1, "done_version": 1}
        )
        common = {
            "task": "extract",
            "generation": GENERATION,
            "reason": "new",
            "priority": 0,
            "updated_at": now,
        } | state
        tx.execute(sa.insert(schema.work_items), [common | {"recording_id": each} for each in recordings])
        if made is not None:
            recipe = db.generations[GENERATION].recipe.digest
            rows = [
                EmbeddingRow(speaker, Kind.SPEAKER, Embedding(vector, SECONDS / SPEAKERS, 5, 0.9, 0.8), recipe, 1)
                for speaker, vector in zip(speakers, made, strict=True)
            ]
            vectors.write_embeddings(tx, GENERATION, rows, dict.fromkeys(speakers, home), now)
    return speakers


def _insert_recordings(
    tx: Transaction, home: str, recordings: Sequence[str], speakers: Sequence[str], now: int
) -> None:
    stamps = {"created_at": now, "updated_at": now}
    times = [(n * TURN_SECONDS, (n + 1) * TURN_SECONDS, n % SPEAKERS) for n in range(TURNS)]
    digest = turns_digest([Turn(start, end, f"SPEAKER_{who:02}") for start, end, who in times])
    tx.execute(
        sa.insert(schema.recordings),
        [
            {"id": each, "library_id": home, "path": f"/media/{each}.mp3", "media_size": 1, "media_digest": "0",
             "seconds": SECONDS, "turns_digest": digest, "content_version": 1} | stamps
            for each in recordings
        ],
    )  # fmt: skip
    tx.execute(
        sa.insert(schema.speakers),
        [
            {"id": each, "recording_id": recordings[n // SPEAKERS], "label": f"SPEAKER_{n % SPEAKERS:02}",
             "speech_seconds": SECONDS / SPEAKERS, "created_at": now}
            for n, each in enumerate(speakers)
        ],
    )  # fmt: skip
    tx.execute(
        sa.insert(schema.turns),
        [
            {"recording_id": each, "ordinal": ordinal, "start": start, "end": end, "speaker_id": speakers[n * SPEAKERS + who]}
            for n, each in enumerate(recordings)
            for ordinal, (start, end, who) in enumerate(times)
        ],
    )  # fmt: skip
