"""The OpenSearch adapter beside opensearch-py as one writes it by hand: loading, searching, reading.

Functions for `benchmarks.run`; by themselves: `python -m benchmarks.opensearch_bench http://127.0.0.1:9200 100000`.
"""

from __future__ import annotations

import base64
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from opensearchpy import OpenSearch, helpers

from speakerdb.index.opensearch.adapter import OpenSearchIndex
from speakerdb.index.opensearch.searching import OVERSAMPLING
from speakerdb.settings import OpenSearchSettings
from speakerdb.types import AliasAction, Document, FloatArray, Kind

PREFIX = "bench-"
NAME, ALIAS = "speakers_bench", "speakers_bench_write"
BATCH = 4000
K = 10


def opened(url: str, **more: Any) -> OpenSearchIndex:
    """An adapter with a prefix of its own."""
    return OpenSearchIndex(
        OpenSearchSettings(hosts=(url,), prefix=PREFIX, replicas=0, timeout_seconds=300, retry_seconds=300, **more)
    )


def bare(url: str) -> OpenSearch:
    """The driver, as its documentation shows it."""
    return OpenSearch(url, timeout=300)


def documents(vectors: FloatArray, *, version: int = 1, begin: int = 0) -> Iterator[Document]:
    for number, vector in enumerate(vectors, begin):
        yield Document(
            f"spk-{number:09d}", version, f"{number:032x}", Kind.SPEAKER, f"library-{number % 10}",
            f"rec-{number // 2:09d}", None, vector,
        )  # fmt: skip


def fresh(index: OpenSearchIndex, dimension: int) -> None:
    """An empty index with its write alias, ready for a load."""
    index.drop(NAME)
    index.create(NAME, dimension, {"generation": "bench"})
    index.update_aliases([AliasAction.add(ALIAS, NAME)])
    index.tune(NAME, loading=True)


def load(index: OpenSearchIndex, vectors: FloatArray) -> float:
    """Seconds for everything through the adapter, until searches find it."""
    begun = time.perf_counter()
    for start in range(0, len(vectors), BATCH):
        index.bulk(ALIAS, list(documents(vectors[start : start + BATCH], begin=start)))
    index.tune(NAME, loading=False)
    return time.perf_counter() - begun


def load_bare(client: OpenSearch, vectors: FloatArray) -> float:
    """The same documents with `helpers.bulk`, as one writes it by hand."""

    def actions() -> Iterator[dict[str, Any]]:
        for each in documents(vectors):
            assert each.vector is not None
            yield {
                "_id": each.id, "_version": each.version, "_version_type": "external",
                "id": each.id, "version": each.version, "content_hash": each.content_hash, "kind": "speaker",
                "library_id": each.library_id, "recording_id": each.recording_id, "bucket": 0, "digest": 0,
                "vector": each.vector.tolist(), "vector_bytes": base64.b64encode(each.vector.tobytes()).decode(),
            }  # fmt: skip

    begun = time.perf_counter()
    helpers.bulk(client, actions(), index=PREFIX + ALIAS, chunk_size=1000, require_alias=True)
    client.indices.refresh(index=PREFIX + NAME)
    return time.perf_counter() - begun


def search_bare(client: OpenSearch, query: FloatArray, k: int = K) -> list[str]:
    """One k-NN call of the driver, with the body that the adapter sends."""
    candidates = OpenSearchSettings().candidates
    knn = {"vector": {"vector": query.tolist(), "k": max(OVERSAMPLING * k, candidates)}}
    body = {
        "size": k, "query": {"knn": knn}, "_source": ["kind", "vector_bytes"], "version": True, "track_total_hits": False,
    }  # fmt: skip
    answer = client.search(index=PREFIX + NAME, body=body)
    return [hit["_id"] for hit in answer["hits"]["hits"]]


def medians(index: OpenSearchIndex, client: OpenSearch, queries: FloatArray, k: int = K) -> tuple[float, float]:
    """Milliseconds of one search: through the adapter, and bare, in turns."""
    ours, theirs = [], []
    for query in queries:
        ours.append(timed(lambda q=query: index.search(NAME, q[None], k)))  # type: ignore[misc]
        theirs.append(timed(lambda q=query: search_bare(client, q, k)))  # type: ignore[misc]
    return statistics.median(ours) * 1e3, statistics.median(theirs) * 1e3


def recall(index: OpenSearchIndex, vectors: FloatArray, queries: FloatArray, k: int = K) -> float:
    """Share of the k best by exact search that the adapter finds. Vectors and queries are of unit norm."""
    best = np.argpartition(-(queries @ vectors.T), k, axis=1)[:, :k]
    found = index.search(NAME, queries, k)
    hits = [
        len({f"spk-{number:09d}" for number in wanted} & {hit.id for hit in got})
        for wanted, got in zip(best.tolist(), found, strict=True)
    ]
    return sum(hits) / (k * len(queries))


def timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def main(url: str, count: int, clustered: bool) -> None:
    from benchmarks.libraries import DIMENSION, voices

    random = np.random.default_rng(3)
    vectors = voices(count) if clustered else random.standard_normal((count, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[random.integers(count, size=200)] + np.float32(0.03) * random.standard_normal((200, DIMENSION))
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    index, client = opened(url), bare(url)
    fresh(index, DIMENSION)
    print(f"loaded in {load(index, vectors):.1f} s")
    ours, theirs = medians(index, client, queries)
    print(f"search: adapter {ours:.2f} ms, bare {theirs:.2f} ms, ratio {ours / theirs:.2f}")
    for k in (10, 100):
        print(f"recall@{k}: {recall(index, vectors, queries, k):.4f}")
    print(f"batch of 200: {timed(lambda: index.search(NAME, queries, K)) / 200 * 1e3:.2f} ms a query")
    print(f"scan: {count / timed(lambda: sum(1 for _ in index.scan(NAME))):.0f} documents a second")
    print(f"digests: {timed(lambda: index.digests(NAME)):.2f} s, indices: {timed(index.indices):.3f} s")
    index.close()
    client.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), clustered=len(sys.argv) < 4)
