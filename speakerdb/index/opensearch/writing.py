"""Bulk writes: bounded requests, a report for each item, and which items are tried again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import orjson

from speakerdb.errors import IndexMissing
from speakerdb.index.documents import encoded
from speakerdb.index.opensearch.client import LINES, Client, pause
from speakerdb.index.opensearch.definitions import source_of
from speakerdb.index.opensearch.refusals import Refusal, refusal_of
from speakerdb.types import Document, WriteOutcome, WriteResult

_TOO_LARGE = 413
_CONFLICT = 409
_BAD_REQUEST = 400
_CLOSED = "index_closed_exception"
"""The one bad request that is not the document's fault."""
_NUMPY = orjson.OPT_SERIALIZE_NUMPY
_OUTCOME = "items.*.status,items.*.error"

_SHARD_PATIENCE = "5s"
"""How long the cluster waits for a primary shard that is away before it says so; its own default is longer than an answer is
waited for, and a document that it refuses for that is sent again anyway."""


class Writer:
    """One bulk write through the alias `alias` (on the wire) into an index of `dimension`."""

    def __init__(self, client: Client, alias: str, documents: Sequence[Document], dimension: int) -> None:
        self._client = client
        self._alias = alias
        self._documents = documents
        self._blobs, problems = encoded(documents, dimension)
        self._results: dict[int, WriteResult] = {
            place: WriteResult(documents[place].id, WriteOutcome.REJECTED, problem)
            for place, problem in problems.items()
        }
        self._limit = int(client.settings.bulk_megabytes * 1_000_000)
        self.doubtful = False
        """Whether an item was refused in a way that an alias of several indices explains too."""

    def run(self) -> list[WriteResult]:
        """Write everything that can be written; the report in order.

        `IndexMissing` when the alias is gone, `StorageFull` or `IndexUnavailable` when something could not be written: then
        some may be, which their versions tell at the next try.
        """
        waiting = [place for place in range(len(self._documents)) if place not in self._results]
        deadline = time.monotonic() + self._client.settings.retry_seconds
        attempt = 0
        while waiting:
            refused: Refusal | None = None
            again: list[int] = []
            for places, body in self._requests(waiting):
                part, refusal = self._send(places, body)
                again += part
                refused = refusal or refused
            if refused is not None and not pause(attempt, deadline):
                raise refused.translated(f"Writing {len(again)} documents") from refused
            waiting = again
            attempt += 1
        return [self._results[place] for place in range(len(self._documents))]

    def _requests(self, places: Sequence[int]) -> Iterator[tuple[list[int], bytes]]:
        """Bodies below the limit, with the places of their documents."""
        body, held = bytearray(), list[int]()
        for place in places:
            document = self._documents[place]
            action = {"index": {"_id": document.id, "version": document.version, "version_type": "external"}}
            lines = b"%b\n%b\n" % (
                orjson.dumps(action),
                orjson.dumps(source_of(document, self._blobs[place]), option=_NUMPY),
            )
            if held and len(body) + len(lines) > self._limit:
                yield held, bytes(body)
                body, held = bytearray(), []
            body += lines
            held.append(place)
        if held:
            yield held, bytes(body)

    def _send(self, places: list[int], body: bytes) -> tuple[list[int], Refusal | None]:
        """Write one request's documents; which of them are to be tried again, and why."""
        try:
            answer = self._client.send(
                "POST",
                f"/{self._alias}/_bulk",
                body,
                params={"require_alias": "true", "filter_path": _OUTCOME, "timeout": _SHARD_PATIENCE},
                content=LINES,
            )
        except Refusal as refusal:
            if refusal.status != _TOO_LARGE or len(places) == 1:
                raise refusal.translated(f"Writing {len(places)} documents") from refusal
            self._limit = max(1, len(body) // 2)
            again: list[int] = []
            seen: Refusal | None = None
            for half, part in self._requests(places):
                more, why = self._send(half, part)
                again += more
                seen = why or seen
            return again, seen
        again, seen = [], None
        for place, item in zip(places, answer["items"], strict=True):
            refused = self._judge(place, item["index"])
            if refused is not None:
                again.append(place)
                seen = refused
        return again, seen

    def _judge(self, place: int, item: dict[str, object]) -> Refusal | None:
        """Keep what became of one document; the refusal where it is to be tried again."""
        status = int(str(item["status"]))
        id = self._documents[place].id
        if status < 300:
            self._results[place] = WriteResult(id, WriteOutcome.WRITTEN)
            return None
        refusal = refusal_of(status, item.get("error"))
        if status == _CONFLICT:
            self._results[place] = WriteResult(id, WriteOutcome.CONFLICT, refusal.reason)
        elif status == _BAD_REQUEST and refusal.kind != _CLOSED:
            self.doubtful |= refusal.kind == "illegal_argument_exception"
            detail = f"{refusal.kind}: {refusal.reason}"
            self._results[place] = WriteResult(id, WriteOutcome.REJECTED, detail)
        elif refusal.kind == "index_not_found_exception":
            raise IndexMissing(f"The alias {self._client.ours(self._alias)} is gone.") from refusal
        elif refusal.passes:
            return refusal
        else:
            raise refusal.translated(f"Writing {id!r}") from refusal
        return None
