"""OpenSearch as a `VectorIndex`: one concrete index a generation, aliases of the cluster, k-NN search.

The cluster is shared with others: only names that begin with `opensearch.prefix` (or, without one, with `speakers`) are seen
or touched. A document's external version is the engine's own `_version`, so no stale writer can go back.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from speakerdb.core.digests import BUCKETS, BucketDigest, Mark
from speakerdb.errors import IndexExists, IndexMissing, IndexUnavailable, InvalidInput, SpeakerDBError
from speakerdb.index.opensearch import aliasing, health, scanning
from speakerdb.index.opensearch.client import LINES, Client
from speakerdb.index.opensearch.definitions import (
    BYTES,
    STORED,
    VECTOR,
    checked_metadata,
    dimension_of,
    document_of,
    index_body,
    is_our_mapping,
    refresh_interval,
)
from speakerdb.index.opensearch.foreign import ForeignIndices
from speakerdb.index.opensearch.refusals import TOO_BUSY, Refusal, refusal_of, refuse_partial
from speakerdb.index.opensearch.searching import Searcher, look_up
from speakerdb.index.opensearch.writing import Writer
from speakerdb.settings import OpenSearchSettings
from speakerdb.types import AliasAction, Document, Filter, FloatArray, Hit, IndexInfo, WriteResult

_ANY = Filter()
_IDS_A_REQUEST = 1000
_NAMELESS = {"query": {"bool": {"must_not": [{"exists": {"field": "id"}}]}}}
_TRIES = 3
_STARTING_SECONDS = 3.0
"""An index that was made just now is listed a moment before its shard answers."""


class OpenSearchIndex:
    """A `VectorIndex` in the cluster that the settings name. Threads may share it."""

    def __init__(self, settings: OpenSearchSettings) -> None:
        self._client = Client(settings)
        self._searcher = Searcher(self._client)

    def __repr__(self) -> str:
        return f"<OpenSearchIndex {self._client!r}>"

    # Indices and aliases

    def create(self, name: str, dimension: int, metadata: Mapping[str, Any]) -> None:
        """Make a concrete index; see the port. `InvalidInput` for a name, dimension or metadata that OpenSearch refuses."""
        if not name or dimension < 1:
            raise InvalidInput("An index needs a name and a dimension of at least 1.")
        client, wired = self._client, self._client.made(name)
        given = checked_metadata(name, metadata)
        try:
            answer = client.send(
                "PUT", f"/{wired}", index_body(client.settings, dimension, given), params=client.patience
            )
        except Refusal as refusal:
            if refusal.kind not in ("resource_already_exists_exception", "invalid_index_name_exception"):
                if refusal.status == 400:
                    raise InvalidInput(f"OpenSearch cannot make the index {name}: {refusal.reason}.") from refusal
                raise refusal.translated(f"Making the index {name}") from refusal
            self._refuse_another(name, wired, dimension, given, refusal)
            return
        if not (answer["acknowledged"] and answer["shards_acknowledged"]):
            raise IndexUnavailable(f"The index {name} was made, but not in time on any node.", hint=health.LOOK)

    def _refuse_another(self, name: str, wired: str, dimension: int, metadata: Any, refusal: Refusal) -> None:
        """`IndexExists` unless the index that is there already is the one that is wanted."""
        found = self._client.ask("GET", f"/{wired}")
        if wired not in found:
            raise IndexExists(f"{name} is the name of an alias.") from refusal
        mapping = found[wired]["mappings"]
        if (dimension_of(mapping), mapping.get("_meta", {})) != (dimension, metadata) or not is_our_mapping(mapping):
            raise IndexExists(f"An index {name} exists with another dimension or other metadata.") from refusal

    def drop(self, name: str, *, token: str | None = None) -> None:
        """Remove a concrete index; see the port. Never sent twice: it could remove what was made since."""
        wired = self._client.wire(name)
        if token is not None:
            aliasing.drop_with_token(self._client, wired or "", token)
        elif wired is not None and wired in self._mappings():
            try:
                self._client.send("DELETE", f"/{wired}", repeat=False)
            except Refusal as refusal:
                if refusal.kind != "index_not_found_exception":
                    raise refusal.translated(f"Removing the index {name}") from refusal

    def _mappings(self) -> Mapping[str, Any]:
        """The mappings of all indices that hold documents, by their names on the wire."""
        found = self._client.concrete()
        return {name: told["mappings"] for name, told in found.items() if name != self._client.token_place}

    def indices(self, counted: Collection[str] | None = None) -> Mapping[str, IndexInfo]:
        """All concrete indices by name; see the port. Counts are as of the last refresh.

        Of an index with another mapping than ours only the dimension, `_meta` and the number of documents are told.
        """
        for _ in range(_TRIES):
            mappings = self._mappings()
            try:
                counts = self._counts(
                    {
                        name: mapping
                        for name, mapping in mappings.items()
                        if counted is None or self._client.ours(name) in counted
                    }
                )
            except Refusal as refusal:
                if refusal.kind == "index_not_found_exception":  # dropped in between
                    continue
                raise refusal.translated("Counting documents") from refusal
            return {
                self._client.ours(wired): IndexInfo(
                    self._client.ours(wired),
                    dimension_of(mapping),
                    mapping.get("_meta", {}),
                    *counts.get(wired, (0, 0, 0)),
                )
                for wired, mapping in sorted(mappings.items())
            }
        raise IndexUnavailable("Indices come and go too fast to be listed.")

    def _counts(self, mappings: Mapping[str, Any]) -> dict[str, tuple[int, int, int]]:
        """Live documents, tombstones and the newest version by index: one request, whatever the number of indices."""
        ours = [name for name, mapping in mappings.items() if is_our_mapping(mapping)]
        others = [name for name in mappings if name not in ours]
        inner = {"live": {"filter": {"exists": {"field": "vector"}}}, "newest": {"max": {"field": "version"}}}
        lines: list[Any] = []
        for names, parts in ((ours, inner), (others, {})):
            if names:
                index = {"terms": {"field": "_index", "size": len(names)}, "aggs": parts}
                lines += [
                    {"index": names, "allow_partial_search_results": False},
                    {"size": 0, "track_total_hits": False, "aggs": {"index": index}},
                ]
        if not lines:
            return {}
        counts = {}
        for answer in self._client.search_together("/_msearch", _lines(lines), seconds=_STARTING_SECONDS):
            refuse_partial(self._client.pattern, answer)
            for bucket in answer["aggregations"]["index"]["buckets"]:
                every = bucket["doc_count"]
                live = bucket["live"]["doc_count"] if "live" in bucket else every
                newest = int((bucket.get("newest") or {}).get("value") or 0)
                counts[bucket["key"]] = (live, every - live, newest)
        return counts

    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        """All aliases with the concrete indices they name (sorted). Another's index that an alias of ours names has its
        whole name."""
        client = self._client
        found: dict[str, list[str]] = {}
        # Of our names alone, twice: asked for aliases of all indices, the cluster refuses where somebody forbade to read about
        # any one of them. An alias of ours that names another's index is among them: a name that is an alias's stands for it.
        for index, told in client.ask("GET", f"/{client.pattern}/_alias/{client.pattern}").items():
            for alias in told["aliases"]:
                if client.is_ours(alias):
                    found.setdefault(client.ours(alias), []).append(client.ours(index))
        return {alias: tuple(sorted(names)) for alias, names in sorted(found.items())}

    def update_aliases(self, actions: Sequence[AliasAction]) -> None:
        """Apply all actions in order, or none, in one request; see the port. `IndexExists` when an alias would take an
        index's name. After `IndexUnavailable` it may still be carried out."""
        aliasing.change(self._client, actions)

    # Documents

    def bulk(self, write_alias: str, documents: Sequence[Document]) -> Sequence[WriteResult]:
        """Write documents; see the port. `StorageFull` or `IndexUnavailable` when not all could be written: some may be."""
        target = look_up(self._client, write_alias)
        if not target.is_alias:
            raise IndexMissing(f"{write_alias} is an index and no alias; nothing was written.")
        writer = Writer(self._client, self._client.wired(write_alias), documents, target.dimension)
        results = writer.run()
        if writer.doubtful:
            look_up(self._client, write_alias)  # Whether it still is an alias of one index.
        return results

    def fetch(self, index: str, ids: Sequence[str]) -> Mapping[str, Document]:
        """Documents by id, in real time and from the primary copy; see the port."""
        if not ids:
            look_up(self._client, index)
        wired = self._client.wired(index)
        found: dict[str, Document] = {}
        wanted = list(dict.fromkeys(id for id in ids if id))
        for part in _parted(wanted, _IDS_A_REQUEST):
            answer = self._client.ask(
                "POST",
                f"/{wired}/_mget",
                {"ids": part},
                params={"_source_includes": ",".join(STORED), "realtime": "true", "preference": "_primary"},
            )
            for told in answer["docs"]:
                if "error" in told:
                    self._refuse_get(index, told["error"])
                elif told["found"]:
                    found[told["_id"]] = document_of(told["_id"], told["_version"], told.get("_source", {}))
        return found

    def _refuse_get(self, index: str, error: Any) -> None:
        refusal = refusal_of(500, error)
        if refusal.kind == "":
            causes = error.get("root_cause") if isinstance(error, dict) else None
            refusal = refusal_of(500, causes[0] if causes else None)
        if refusal.kind == "illegal_argument_exception":
            look_up(self._client, index)  # An alias of several indices is `IndexMissing`.
        raise refusal.translated(f"Reading {index}") from refusal

    def scan(
        self, index: str, *, after: str | None = None, buckets: Collection[int] | None = None
    ) -> Generator[Document, None, None]:
        """All documents by id as they are at the time of this call, with all that was written before; see the port."""
        target = look_up(self._client, index)
        self._refresh(target.index)
        return scanning.documents(self._client, index, target, after=after, buckets=buckets)

    def marks(self, index: str, *, buckets: Collection[int] | None = None) -> Generator[Mark, None, None]:
        """What tells the state of all documents by id, as they are at the time of this call; see the port."""
        target = look_up(self._client, index)
        self._refresh(target.index)
        return scanning.marks(self._client, index, target, buckets=buckets)

    def purge(self, index: str, tombstones: Sequence[tuple[str, int]]) -> int:
        """Forget tombstones; see the port. Each is removed by the sequence number under which it was read, which the engine
        gives no second time: a request that arrives late finds another one."""
        look_up(self._client, index)
        wired = self._client.wired(index)
        wanted = dict(tombstones)
        purged = 0
        for part in _parted(list(wanted), _IDS_A_REQUEST):
            answer = self._client.ask(
                "POST",
                f"/{wired}/_mget",
                {"ids": part},
                params={"_source_includes": f"{VECTOR},{BYTES}", "realtime": "true", "preference": "_primary"},
            )
            lines = []
            for told in answer["docs"]:
                if "error" in told:
                    self._refuse_get(index, told["error"])
                elif told["found"] and told["_version"] == wanted[told["_id"]] and not told.get("_source"):
                    number = {"if_seq_no": told["_seq_no"], "if_primary_term": told["_primary_term"]}
                    lines.append({"delete": {"_index": told["_index"], "_id": told["_id"], **number}})
            if lines:
                purged += self._forget(index, lines)
        return purged

    def _forget(self, index: str, lines: Sequence[Any]) -> int:
        try:
            answer = self._client.send(
                "POST", "/_bulk", _lines(lines), params={"filter_path": "items.*.status,items.*.error"}, content=LINES
            )
        except Refusal as refusal:
            raise refusal.translated(f"Purging {index}") from refusal
        purged = 0
        for item in answer["items"]:
            status = int(item["delete"]["status"])
            if status < 300:
                purged += 1
            elif status not in (404, 409):
                refused = refusal_of(status, item["delete"].get("error"))
                raise refused.translated(f"Purging {index}") from refused
        return purged

    # Search

    def search(self, index: str, queries: FloatArray, k: int, where: Filter = _ANY) -> Sequence[Sequence[Hit]]:
        """The k best live documents a query; see the port and `Searcher`."""
        return self._searcher.search(index, queries, k, where)

    def ping(self, index: str) -> None:
        """Whether each shard answers a search; see the port. One that is too busy is there."""
        wired = self._client.wired(index)
        body = {"size": 0, "track_total_hits": False, "query": {"match_none": {}}}
        whole = {"allow_partial_search_results": "false"}
        try:
            answer = self._client.send("POST", f"/{wired}/_search", body, params=whole, repeat=False)
        except Refusal as refusal:
            if refusal.status == TOO_BUSY:
                return
            raise refusal.translated(f"Searching {index}") from refusal
        refuse_partial(index, answer)

    def refresh(self, index: str) -> None:
        """Make everything written so far visible to `search`."""
        self._refresh(look_up(self._client, index).index)

    def _refresh(self, wired: str) -> None:
        answer = self._client.ask("POST", f"/{wired}/_refresh")
        if answer["_shards"]["failed"]:
            raise IndexUnavailable(f"The index {self._client.ours(wired)} could not be refreshed.", hint=health.LOOK)

    def tune(self, name: str, *, loading: bool) -> None:
        """No refreshes while an index is loaded; afterwards the definition's own interval, and what was loaded is seen."""
        target = look_up(self._client, name)
        interval = "-1" if loading else refresh_interval(target.mapping.get("_meta", {}))
        self._client.ask("PUT", f"/{target.index}/_settings", {"index": {"refresh_interval": interval}})
        if not loading:
            self._refresh(target.index)

    def digests(self, index: str) -> Mapping[int, BucketDigest]:
        """Counts and sums by bucket, of all that was written before. Documents without a bucket are in the bucket -1."""
        target = look_up(self._client, index)
        self._refresh(target.index)
        # One more than there are, for -1; a foreign value in `bucket` would show as a bucket that SQL does not know.
        buckets = {"terms": {"field": "bucket", "size": 2 * BUCKETS, "missing": -1}}
        answer = self._client.ask(
            "POST",
            f"/{target.index}/_search",
            {
                "size": 0,
                "track_total_hits": False,
                "query": {"exists": {"field": "id"}},  # as a scan: what has no id is not of ours
                "aggs": {"bucket": {**buckets, "aggs": {"digest": {"sum": {"field": "digest"}}}}},
            },
            params={"allow_partial_search_results": "false"},
        )
        refuse_partial(index, answer)
        return {
            int(each["key"]): BucketDigest(each["doc_count"], int(each["digest"]["value"]))
            for each in answer["aggregations"]["bucket"]["buckets"]
        }

    def troubles(self) -> Sequence[str]:
        """What a person should know of the cluster; see `health.troubles`."""
        return [*health.troubles(self._client), *self._nameless()]

    def _nameless(self) -> Iterator[str]:
        """Documents that no scan shows: whoever wrote them left their own id out."""
        for wired, mapping in sorted(self._mappings().items()):
            if is_our_mapping(mapping):
                with suppress(SpeakerDBError):  # an index that cannot be read is a trouble of its own
                    count = int(self._client.ask("POST", f"/{wired}/_count", _NAMELESS, repeat=False)["count"])
                    if count:
                        yield (
                            f"The index {self._client.ours(wired)} holds {count:,} documents that somebody else wrote without"
                            " the field `id`. They are never shown, but may take the place of hits, and no repair sees them: a"
                            " rebuild leaves them behind."
                        )

    def foreign(self) -> ForeignIndices:
        """The same cluster, for indices that somebody else wrote. Closed with this one."""
        return ForeignIndices(self._client)

    def reopened(self) -> OpenSearchIndex:
        """The same through connections of its own, remembering nothing."""
        return OpenSearchIndex(self._client.settings)

    def close(self) -> None:
        """Close every connection. Fine to call twice."""
        self._client.close()


def _parted(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _lines(parts: Iterator[Any] | Sequence[Any]) -> bytes:
    import orjson

    return b"".join(orjson.dumps(part) + b"\n" for part in parts)
