"""Search: candidates from the k-NN engine, or all of them where there are few, scored again from their stored vectors."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from speakerdb.errors import IndexMissing, IndexUnavailable, InvalidInput
from speakerdb.index.matrix import checked_queries
from speakerdb.index.opensearch.client import Client
from speakerdb.index.opensearch.definitions import (
    BYTES,
    VECTOR,
    decoded,
    dimension_of,
    filter_clauses,
    matches_nothing,
)
from speakerdb.index.opensearch.refusals import Refusal, refuse_partial
from speakerdb.types import Filter, FloatArray, Hit, Kind

EXACT_DOCUMENTS = 10_000
"""An index of at most so many documents is searched exactly, by the engine's `knn_score` script: 5 ms for 10,000 vectors of
256 dimensions, about what the graph takes. Ties are decided by id at the cut too, which no graph does."""
OVERSAMPLING = 2
"""The graph collects so many times what is wanted, and never less than the setting `opensearch.candidates`.

Measured with 100,000 directions of 256 dimensions, five around each of 20,000, the hardest that voices can be (no two people
are alike in anything): of the best ten were found, with 100 candidates 92 %, with 400 97.7, with 1000 99.0 to 99.2, with 2000
99.5 to 100, in four times the time of 100. Recorded voices lie closer together, and need fewer.
"""
_LARGEST = 10_000
"""More than this the engine gives neither candidates nor hits."""
_FRESH_SECONDS = 30.0
_HITS_A_REQUEST = 20_000
_QUERIES_A_REQUEST = 200
_TRIES = 3
_KINDS = {kind.value: kind for kind in Kind}
_SOURCE = ["kind", BYTES]


@dataclass(frozen=True, slots=True)
class Target:
    """One concrete index, as it was when it was looked up."""

    index: str
    """Its name on the wire."""
    dimension: int
    shards: int
    documents: int
    until: float
    mapping: Mapping[str, Any]
    is_alias: bool


def look_up(client: Client, name: str, *, count: bool = False) -> Target:
    """The one concrete index that `name`, of an index or an alias, means. `IndexMissing` for none or several."""
    wired = client.wired(name)
    found = client.ask("GET", f"/{wired}")
    if len(found) != 1:
        raise IndexMissing(f"{name} is an alias of {len(found)} indices.")
    ((index, told),) = found.items()
    mapping = told["mappings"]
    documents = _counted(client, index) if count else 0
    shards = int(told["settings"]["index"]["number_of_shards"])
    until = time.monotonic() + _FRESH_SECONDS
    return Target(index, dimension_of(mapping), shards, documents, until, mapping, is_alias=index != wired)


def _counted(client: Client, index: str) -> int:
    answer = client.ask("GET", f"/{index}/_count")
    refuse_partial(client.ours(index), answer)
    return int(answer["count"])


class Searcher:
    """Searches through one client. What it remembers of an index is checked by every answer."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, Target] = {}

    def search(self, name: str, queries: FloatArray, k: int, where: Filter) -> list[list[Hit]]:
        """See the port. `InvalidInput` for what cannot be searched, and for more than 10,000 hits of a larger index."""
        # Where the cluster need not be asked, no answer would check what is remembered.
        target = None if matches_nothing(where) or not np.size(queries) else self._known.get(name)
        if target is not None and target.until > time.monotonic():
            try:
                return self._search(name, target, queries, k, where)
            except Refusal as refusal:
                if refusal.passes:  # it was tried again for long enough
                    raise refusal.translated(f"Searching {name}") from refusal
            except (_Changed, InvalidInput):
                pass  # The index may be another one by now: it is looked at again, and then told.
        for _ in range(_TRIES):
            self._known.pop(name, None)
            target = look_up(self._client, name, count=True)
            try:
                hits = self._search(name, target, queries, k, where)
            except _Changed:
                continue
            except Refusal as refusal:
                raise refusal.translated(f"Searching {name}") from refusal
            self._known[name] = target
            return hits
        raise IndexUnavailable(f"The index {name} was replaced again and again while it was searched.")

    def _search(self, name: str, target: Target, queries: FloatArray, k: int, where: Filter) -> list[list[Hit]]:
        unit = checked_queries(queries, target.dimension, k)
        if k > _LARGEST and target.documents > _LARGEST:
            raise InvalidInput(f"k is {k}; an index of more than {_LARGEST} documents gives at most {_LARGEST} hits.")
        if matches_nothing(where) or not len(unit):
            return [[] for _ in unit]
        clauses = filter_clauses(where)
        exact = target.documents <= EXACT_DOCUMENTS
        wired = self._client.wired(name)
        found: list[list[Hit]] = []
        step = max(1, min(_QUERIES_A_REQUEST, _HITS_A_REQUEST // k))
        for start in range(0, len(unit), step):
            part = unit[start : start + step]
            narrow = part.astype(np.float32)
            size = min(k, _LARGEST)
            bodies = [
                _exactly(query, size, clauses) if exact else self._by_graph(query, size, clauses) for query in narrow
            ]
            answers = self._answers(wired, bodies)
            for query, answer in zip(part, answers, strict=True):
                if answer["_shards"]["total"] != target.shards:
                    raise _Changed
                refuse_partial(name, answer)
                found.append(_scored(query, answer["hits"]["hits"], k))
        return found

    def _by_graph(self, query: FloatArray, k: int, clauses: Mapping[str, Any] | None) -> dict[str, Any]:
        candidates = max(OVERSAMPLING * k, self._client.settings.candidates)
        asked: dict[str, Any] = {"vector": query, "k": min(candidates, _LARGEST)}
        if clauses is not None:
            asked["filter"] = clauses
        return {
            "size": k,
            "query": {"knn": {VECTOR: asked}},
            "_source": _SOURCE,
            "version": True,
            "track_total_hits": False,
        }

    def _answers(self, wired: str, bodies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        if len(bodies) == 1:
            whole = {"allow_partial_search_results": "false"}
            return [self._client.send("POST", f"/{wired}/_search", bodies[0], params=whole)]
        header = b'{"allow_partial_search_results":false}\n'
        body = b"".join(header + orjson.dumps(each, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n" for each in bodies)
        return self._client.search_together(f"/{wired}/_msearch", body)


class _Changed(Exception):
    """The name means other shards than it did."""


def _exactly(query: FloatArray, k: int, clauses: Mapping[str, Any] | None) -> dict[str, Any]:
    live: list[Any] = [{"exists": {"field": VECTOR}}]
    if clauses is not None:
        live.append(clauses)
    script = {"field": VECTOR, "query_value": query, "space_type": "cosinesimil"}
    return {
        "size": k,
        "query": {
            "script_score": {
                "query": {"bool": {"filter": live}},
                "script": {"lang": "knn", "source": "knn_score", "params": script},
            }
        },
        "sort": ["_score", {"id": "asc"}],
        "_source": _SOURCE,
        "version": True,
        "track_total_hits": False,
    }


def _scored(query: npt.NDArray[np.float64], hits: Sequence[Mapping[str, Any]], k: int) -> list[Hit]:
    """The best k of an answer by their cosine with the unit `query`, in float64 from the stored vectors, ties by id."""
    size = 4 * len(query)
    # A hit without the bytes was written by somebody else: there is nothing to score it by, and a repair mends it.
    held = [(hit, blob) for hit in hits if len(blob := decoded(hit["_source"].get(BYTES)) or b"") == size]
    rows = np.frombuffer(b"".join(blob for _, blob in held), "<f4").reshape(len(held), len(query)).astype(np.float64)
    scores = (rows * query).sum(axis=1) / np.sqrt((rows * rows).sum(axis=1))
    np.clip(scores, -1.0, 1.0, out=scores)
    found = [
        Hit(hit["_id"], score, hit["_version"], kind)
        for (hit, _), score in zip(held, scores.tolist(), strict=True)
        if (kind := _KINDS.get(hit["_source"].get("kind"))) is not None
    ]
    found.sort(key=lambda hit: (-hit.score, hit.id))
    return found[:k]
