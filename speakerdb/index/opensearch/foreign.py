"""Indices of an OpenSearch cluster that somebody else wrote: raw reads, and the acts of a take-over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from speakerdb.core.field_map import mapped_fields
from speakerdb.errors import IndexMissing, IndexUnavailable
from speakerdb.index.foreign import ForeignInfo, RawDocument
from speakerdb.index.opensearch.client import Client
from speakerdb.index.opensearch.refusals import Refusal, refuse_partial
from speakerdb.types import AliasAction

KEEP_ALIVE = "10m"
"""How long the point in time of a scan outlives the last page; each page asks for it again."""
_PATTERN = frozenset('*,?<>" /\\#:')


class ForeignIndices:
    """A `ForeignIndex` in a cluster.

    A name is looked for with this installation's prefix first, then as it stands: reading another application's index
    needs no prefix. What changes an index changes only those of this installation's names.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def describe(self, name: str) -> ForeignInfo:
        """See the port."""
        wired, found = self._find(name)
        settings, mapping = found["settings"]["index"], found["mappings"]
        vectors, fields = mapped_fields(mapping)
        self._client.ask("POST", f"/{wired}/_refresh")
        count = self._client.ask("GET", f"/{wired}/_count")
        refuse_partial(wired, count)
        blocks = settings.get("blocks", {})
        return ForeignInfo(
            self._client.ours(wired),
            str(settings["uuid"]),
            int(count["count"]),
            vectors,
            fields,
            mapping.get("_meta") or {},
            blocked=any(blocks.get(kind) in ("true", True) for kind in ("write", "read_only")),
        )

    def documents(self, name: str, size: int) -> Iterator[list[RawDocument]]:
        """See the port. The point in time is given back at the end, also where nobody reads on."""
        wired, _ = self._find(name)
        # Written and not yet refreshed, a document would be in no point in time.
        self._client.ask("POST", f"/{wired}/_refresh")
        opened = self._client.ask(
            "POST", f"/{wired}/_search/point_in_time",
            params={"keep_alive": KEEP_ALIVE, "allow_partial_pit_creation": "false"}, repeat=False,
        )  # fmt: skip
        point = opened["pit_id"]
        try:
            yield from self._pages(wired, point, size)
        finally:
            self._client.ask("DELETE", "/_search/point_in_time", {"pit_id": [point]})

    def _pages(self, wired: str, point: str, size: int) -> Iterator[list[RawDocument]]:
        after: list[Any] | None = None
        read, total = 0, None
        while True:
            body: dict[str, Any] = {
                "size": size,
                "pit": {"id": point, "keep_alive": KEEP_ALIVE},
                "sort": [{"_shard_doc": "asc"}],
                "version": True,
                "track_total_hits": total is None,
                "query": {"match_all": {}},
            }
            if after is not None:
                body["search_after"] = after
            answer = self._client.ask("POST", "/_search", body, params={"allow_partial_search_results": "false"})
            refuse_partial(wired, answer)
            if total is None:
                total = int(answer["hits"]["total"]["value"])
            hits = answer["hits"]["hits"]
            if not hits:
                break
            read += len(hits)
            after = hits[-1]["sort"]
            yield [RawDocument(hit["_id"], int(hit["_version"]), hit.get("_source") or {}) for hit in hits]
        if read != total:
            raise IndexUnavailable(f"Of {total} documents of the index {wired} {read} came.", hint="Run it again.")

    def holds(self, name: str, ids: Sequence[str]) -> set[str]:
        """See the port."""
        wired, _ = self._find(name)
        answer = self._client.ask("POST", f"/{wired}/_mget", {"ids": list(ids)}, params={"_source": "false"})
        for one in answer["docs"]:
            if "error" in one:
                raise IndexUnavailable(f"A document of the index {wired} cannot be read.", hint="Run it again.")
        return {one["_id"] for one in answer["docs"] if one.get("found")}

    def check_replaceable(self, name: str) -> None:
        """See the port. In a cluster everything can."""

    def block(self, name: str) -> None:
        """See the port. It is waited for what is being written: after the answer nothing comes any more."""
        wired = self._client.wired(name)
        answer = self._client.ask("PUT", f"/{wired}/_block/write", params=self._client.patience)
        taken = answer.get("acknowledged") and answer.get("shards_acknowledged")
        if not taken and not self.describe(name).blocked:  # one that stands already is not acknowledged again
            raise IndexUnavailable(f"The write block of {name!r} did not take effect everywhere.", hint="Run it again.")

    def unblock(self, name: str) -> None:
        """See the port."""
        wired = self._client.wired(name)
        self._client.ask("PUT", f"/{wired}/_settings", {"index.blocks.write": None}, params=self._client.patience)

    def copy(self, name: str, to: str) -> None:
        """See the port. The copy shares its files with the index, stays blocked, and is waited for."""
        wired, target = self._client.wired(name), self._client.made(to)
        self._client.ask(
            "PUT", f"/{wired}/_clone/{target}", {"settings": {"index.blocks.write": True}},
            params={**self._client.patience, "wait_for_active_shards": "1"}, repeat=False,
        )  # fmt: skip

    def replace(self, name: str, actions: Sequence[AliasAction]) -> None:
        """See the port."""
        body: list[dict[str, Any]] = [{"remove_index": {"index": self._client.wired(name)}}]
        for action in actions:
            what: dict[str, Any] = {"index": self._client.made(action.index), "alias": self._client.made(action.alias)}
            if action.verb == "remove":
                what["must_exist"] = action.must_exist
            body.append({action.verb: what})
        answer = self._client.ask("POST", "/_aliases", {"actions": body}, params=self._client.patience, repeat=False)
        if answer.get("acknowledged") is not True:
            raise IndexUnavailable("Not all nodes have taken over a change of aliases in time.", hint="Run it again.")

    def _find(self, name: str) -> tuple[str, dict[str, Any]]:
        """The concrete index on the wire, with its settings and its mapping."""
        for wired in dict.fromkeys((self._client.wire(name), name)):
            if wired is None or not name or _PATTERN & set(wired) or wired[0] in "_-+.":
                continue
            try:
                answer = self._client.send("GET", f"/{quote(wired, safe='')}")
            except Refusal as refusal:
                if refusal.status == 404 and refusal.kind == "index_not_found_exception":
                    continue
                raise refusal.translated(f"GET /{wired}") from refusal
            if len(answer) != 1:
                raise IndexMissing(f"{name!r} is an alias of {len(answer)} indices.", hint="Name one of them.")
            ((concrete, found),) = answer.items()
            return concrete, found
        raise IndexMissing(f"There is no index {name!r}.", hint="Name an index of the cluster: GET _cat/indices?v.")
