"""Questions: one at a time and in batches, beside the same search in plain NumPy, turn by turn in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.libraries import add_embedded, null_executor, settings, voices
from benchmarks.report import Row, median, row, say
from speakerdb.service import SpeakerDB
from speakerdb.types import FloatArray

GOAL_OVER_NUMPY = 2.0
GOAL_BATCH = 5.0
K = 10
BATCH = 256


def match(folder: Path, sizes: Sequence[int], *, rounds: int = 101, batches: int = 7) -> list[Row]:
    """One library that grows through `sizes` speakers. Leaves it there, with one speaker's id in the file `speaker`."""
    everyone = voices(sizes[-1])
    random = np.random.default_rng(11)
    rows: list[Row] = []
    ids: list[str] = []
    with SpeakerDB.open(settings(folder), executor=null_executor()) as db:
        for size in sizes:
            begun = time.perf_counter()
            ids += add_embedded(db, everyone[len(ids) : size])
            say(f"{size} speakers made in {time.perf_counter() - begun:.1f} s")
            rows += _one(db, ids, everyone, random, rounds)
            rows.append(_many(db, ids, random, batches))
        (folder / "speaker").write_text(ids[0])
    return rows


def plain_search(matrix: FloatArray, query: FloatArray, k: int) -> list[tuple[int, float]]:
    """The same search in plain NumPy: the k best rows and their scores, best first."""
    scores = matrix @ query
    best = np.argpartition(scores, -k)[-k:]
    best = best[np.argsort(-scores[best])]
    return list(zip(best.tolist(), scores[best].tolist(), strict=True))


def _one(
    db: SpeakerDB, ids: Sequence[str], everyone: FloatArray, random: np.random.Generator, rounds: int
) -> list[Row]:
    product, plain = [], []
    db.match(speaker=ids[0], k=K)
    for number in random.integers(len(ids), size=rounds).tolist():
        product.append(_timed(lambda n=number: db.match(speaker=ids[n], k=K)))  # type: ignore[misc]
        plain.append(_timed(lambda n=number: plain_search(everyone, everyone[n], K)))  # type: ignore[misc]
    ours, theirs = median(product), median(plain)
    say(f"match at {len(ids)}: {ours * 1e3:.2f} ms; NumPy at {len(everyone)}: {theirs * 1e3:.2f} ms")
    return [
        row(f"match at {len(ids):,} speakers, median", ours * 1e3, "ms"),
        row(f"plain NumPy at {len(everyone):,}, beside match at {len(ids):,}", theirs * 1e3, "ms"),
        row(f"match at {len(ids):,} over NumPy at {len(everyone):,}", ours / theirs, "ratio", at_most=GOAL_OVER_NUMPY),
    ]


def _many(db: SpeakerDB, ids: Sequence[str], random: np.random.Generator, rounds: int) -> Row:
    single, batch = [], []
    for _ in range(rounds):
        asked = [ids[n] for n in random.integers(len(ids), size=BATCH).tolist()]
        # Timed as a whole, like the batch: what the machine does beside this disturbs long timings more than short ones.
        single.append(_timed(lambda a=asked: [db.match(speaker=each, k=K) for each in a]) / BATCH)  # type: ignore[misc]
        batch.append(_timed(lambda a=asked: db.match_many(a, k=K)) / BATCH)  # type: ignore[misc]
    one, each = median(single), median(batch)
    say(f"batch of {BATCH} at {len(ids)}: {each * 1e3:.3f} ms a query, single {one * 1e3:.2f} ms")
    return row(
        f"batch of {BATCH} at {len(ids):,} over single queries", one / each, "ratio of rates", at_least=GOAL_BATCH
    )


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
