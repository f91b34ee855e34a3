"""Questions to OpenSearch: a match beside the bare call of opensearch-py, and how many of the true neighbours come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
from opensearchpy import OpenSearch, Transport

from benchmarks.libraries import GENERATION
from benchmarks.report import Row, median, row, say
from speakerdb.index.opening import open_index
from speakerdb.index.port import VectorIndex
from speakerdb.service import SpeakerDB
from speakerdb.types import AliasAction, Document, Filter, FloatArray, Kind

GOAL_OVER_BARE = 1.3
GOAL_RECALL = 0.99
K = 10
QUERIES = 200
WARM_UP = 10
NOISE = 0.5
"""Of a query about a voice: as far from the voice as two voices of one person are from each other's middle."""
BATCH = 4000
WIDE = 6000
"""Candidates with which even directions at random are found."""
WHERE = Filter(kinds=(Kind.SPEAKER,))


def match(db: SpeakerDB, driver: OpenSearch, ids: Sequence[str], made: FloatArray, rounds: int) -> list[Row]:
    """`match` by a stored speaker, and the bare call with the body that it sends, about the same speakers in turns."""
    random = np.random.default_rng(11)
    index = db.serving.index_of(db.generations[GENERATION])
    with _sent() as sent:
        db.match(speaker=ids[0], k=K)
    ((path, body),) = [(path, body) for path, body in sent if path.endswith("_search")]
    wired = path.strip("/").split("/")[0]
    depth = body["size"]
    matches: list[float] = []
    bare: list[float] = []
    searches: list[float] = []
    plain: list[float] = []
    for turn, n in enumerate(random.integers(len(ids), size=WARM_UP + rounds).tolist()):
        vector = made[n]
        asked = about(body, vector)
        by_hand = {"size": K, "query": {"knn": {"vector": {"vector": vector.tolist(), "k": K}}}, "_source": False}
        sides: list[tuple[list[float], Callable[[], Any]]] = [
            (matches, lambda n=n: db.match(speaker=ids[n], k=K)),  # type: ignore[misc]
            (bare, lambda a=asked: driver.search(index=wired, body=a)),  # type: ignore[misc]
            (searches, lambda v=vector: db.index.search(index, v[np.newaxis], depth, WHERE)),  # type: ignore[misc]
            (plain, lambda b=by_hand: driver.search(index=wired, body=b)),  # type: ignore[misc]
        ]
        # Whoever asks first finds the pages cold: each in its turn.
        for times, call in sides[turn % 4 :] + sides[: turn % 4]:
            begun = time.perf_counter()
            call()
            if turn >= WARM_UP:
                times.append(time.perf_counter() - begun)
    ours, theirs = median(matches), median(bare)
    say(f"match {ours * 1e3:.2f} ms, search {median(searches) * 1e3:.2f} ms, bare {theirs * 1e3:.2f} ms")
    name = f"match on the servers at {len(ids):,} speakers"
    return [
        row(f"{name}, median", ours * 1e3, "ms"),
        row("bare k-NN call with the same body, median", theirs * 1e3, "ms"),
        row(f"{name}, over the bare call", ours / theirs, "ratio", at_most=GOAL_OVER_BARE),
        row(f"{name}, its search alone over the bare call", median(searches) / theirs, "ratio"),
        row(f"bare k-NN call for {K} ids without oversampling, median", median(plain) * 1e3, "ms"),
    ]


def recall_of_voices(db: SpeakerDB, ids: Sequence[str], made: FloatArray) -> list[Row]:
    """Voices as they are: people with some recordings each, and queries that are one more recording of them."""
    random = np.random.default_rng(7)
    noise = random.standard_normal((QUERIES, made.shape[1]), np.float32) * np.float32(NOISE / np.sqrt(made.shape[1]))
    queries = made[random.integers(len(made), size=QUERIES)] + noise
    index = db.serving.index_of(db.generations[GENERATION])
    return _recall(db.index, index, "voices", ids, made, queries)


def recall_of_random(db: SpeakerDB, count: int) -> list[Row]:
    """The hard case: directions at random, among which nothing is near. In an index of its own, gone afterwards.

    With the candidates that are set, and with more.
    """
    index, dimension = db.index, db.generations[GENERATION].dimension
    random = np.random.default_rng(3)
    made = random.standard_normal((count, dimension), np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    queries = random.standard_normal((QUERIES, dimension), np.float32)
    name, alias = "speakers_random", "speakers_random_write"
    index.create(name, dimension, {})
    index.update_aliases([AliasAction.add(alias, name)])
    ids = [f"spk_{n:09}" for n in range(count)]
    begun = time.perf_counter()
    for start in range(0, count, BATCH):
        part = [
            Document(ids[n], 1, f"{n:032x}", Kind.SPEAKER, "default", f"rec_{n // 2:09}", None, made[n])
            for n in range(start, min(start + BATCH, count))
        ]
        index.bulk(alias, part)
    index.refresh(name)
    say(f"{count} random directions written in {time.perf_counter() - begun:.1f} s")
    rows = _recall(index, name, "random directions", ids, made, queries)
    wide = db.settings.opensearch.model_copy(update={"candidates": WIDE})
    with closing(open_index(db.settings.model_copy(update={"opensearch": wide}))) as looking_wider:
        rows += _recall(looking_wider, name, f"random directions, {WIDE:,} candidates", ids, made, queries)
    index.drop(name)
    return rows


def reading(db: SpeakerDB) -> list[Row]:
    """What repair and the gates read: every document in order, and the digests of all buckets."""
    index = db.serving.index_of(db.generations[GENERATION])
    begun = time.perf_counter()
    documents = sum(1 for _ in db.index.scan(index))
    scanned = time.perf_counter() - begun
    begun = time.perf_counter()
    digests = db.index.digests(index)
    summed = time.perf_counter() - begun
    assert sum(digest.documents for digest in digests.values()) == documents
    return [
        row(f"scan of {documents:,} documents in OpenSearch", documents / scanned, "documents/s"),
        row(f"digests of {documents:,} documents in OpenSearch", summed, "s"),
    ]


def _recall(
    index: VectorIndex, name: str, what: str, ids: Sequence[str], made: FloatArray, queries: FloatArray
) -> list[Row]:
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    best = np.argpartition(-(queries @ made.T), K, axis=1)[:, :K]
    found = index.search(name, queries, K, WHERE)
    hits = [
        len({ids[n] for n in wanted} & {hit.id for hit in got})
        for wanted, got in zip(best.tolist(), found, strict=True)
    ]
    recall = sum(hits) / (K * len(hits))
    say(f"recall@{K} of {what}: {recall:.4f}")
    return [row(f"recall@{K} of OpenSearch at {len(ids):,} {what}", recall, "of the true ones", at_least=GOAL_RECALL)]


def about(body: Any, vector: FloatArray) -> Any:
    """A body that was sent with another vector, as plain lists."""
    if isinstance(body, np.ndarray):
        return vector.tolist()
    if isinstance(body, dict):
        return {name: about(value, vector) for name, value in body.items()}
    return [about(value, vector) for value in body] if isinstance(body, list) else body


@contextmanager
def _sent() -> Iterator[list[tuple[str, Any]]]:
    """Paths and bodies of all that opensearch-py sends within the block."""
    noted: list[tuple[str, Any]] = []
    perform = Transport.perform_request

    def noting(self: Transport, method: str, url: str, *rest: Any, **more: Any) -> Any:
        noted.append((url, more.get("body")))
        return perform(self, method, url, *rest, **more)

    Transport.perform_request = noting  # type: ignore[method-assign]
    try:
        yield noted
    finally:
        Transport.perform_request = perform  # type: ignore[method-assign]
