"""All documents of an index by id, from one point in time: whole, or only what tells their state."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from contextlib import suppress
from typing import Any, TypeVar, cast

from speakerdb.core.digests import Mark, bucket_of
from speakerdb.errors import SpeakerDBError
from speakerdb.index.opensearch.client import Client
from speakerdb.index.opensearch.definitions import STORED, document_of
from speakerdb.index.opensearch.refusals import refuse_partial
from speakerdb.index.opensearch.searching import Target
from speakerdb.types import Document

Found = TypeVar("Found")

_PAGE_BYTES = 4_000_000
_SMALLEST_PAGE, _LARGEST_PAGE = 100, 4000
_MARKS_A_PAGE = 4000
_KEEP_ALIVE = "5m"


def documents(
    client: Client, index: str, target: Target, *, after: str | None, buckets: Collection[int] | None
) -> Generator[Document, None, None]:
    """All documents; see the port's `scan`. The index was refreshed."""
    page = min(max(_PAGE_BYTES // (6 * target.dimension + 400), _SMALLEST_PAGE), _LARGEST_PAGE)
    asked = {"size": page, "_source": list(STORED)}
    return _begun(_documents(_pages(client, index, target, asked, after, buckets)))


def marks(
    client: Client, index: str, target: Target, *, buckets: Collection[int] | None
) -> Generator[Mark, None, None]:
    """Id, version and digest of all documents; see the port's `marks`. Nothing is read but columns."""
    asked = {"size": _MARKS_A_PAGE, "_source": False, "docvalue_fields": ["digest", "bucket"]}
    return _begun(_marks(_pages(client, index, target, asked, None, buckets)))


def _documents(pages: Generator[list[Any], None, None]) -> Generator[Document | None, None, None]:
    next(pages)
    yield None
    for page in pages:
        for hit in page:
            yield document_of(hit["_id"], hit["_version"], hit["_source"])


def _marks(pages: Generator[list[Any], None, None]) -> Generator[Mark | None, None, None]:
    next(pages)
    yield None
    for page in pages:
        for hit in page:
            fields = hit.get("fields", {})
            digest = fields.get("digest", ())
            # What somebody else wrote may hold several, or count in another bucket.
            kept = len(digest) == 1 and fields.get("bucket") == [bucket_of(hit["_id"])]
            yield Mark(hit["_id"], hit["_version"], digest[0] if kept else None)


def _begun(found: Generator[Found | None, None, None]) -> Generator[Found, None, None]:
    """Run up to the first yield: the point in time is of the call, not of the first document."""
    next(found)
    return cast("Generator[Found, None, None]", found)


def _pages(
    client: Client,
    index: str,
    target: Target,
    asked: Mapping[str, Any],
    after: str | None,
    buckets: Collection[int] | None,
) -> Generator[list[Any], None, None]:
    """An empty page once the point in time is taken; then the hits by id, a page at a time."""
    opened = client.ask(
        "POST",
        f"/{target.index}/_search/point_in_time",
        params={"keep_alive": _KEEP_ALIVE, "allow_partial_pit_creation": "false"},
    )
    point = opened["pit_id"]
    try:
        yield []
        mark: list[Any] | None = None if not after else [after]
        while True:
            body: dict[str, Any] = {
                **asked,
                "pit": {"id": point, "keep_alive": _KEEP_ALIVE},
                "query": _wanted(buckets),
                "sort": [{"id": "asc"}],
                "version": True,
                "track_total_hits": False,
            }
            if mark is not None:
                body["search_after"] = mark
            answer = client.ask("POST", "/_search", body, params={"allow_partial_search_results": "false"})
            refuse_partial(index, answer)
            point = answer["pit_id"]
            hits = answer["hits"]["hits"]
            yield [
                hit for hit in hits
                if hit["sort"][0] == hit["_id"] and (buckets is None or bucket_of(hit["_id"]) in buckets)
            ]  # fmt: skip
            if len(hits) < asked["size"]:
                return
            mark = hits[-1]["sort"]
    finally:
        with suppress(SpeakerDBError):  # It ends by itself after a while.
            client.ask("DELETE", "/_search/point_in_time", {"pit_id": [point]}, repeat=False)


def _wanted(buckets: Collection[int] | None) -> dict[str, Any]:
    # By code point, as UTF-8 is. What has no id of its own is not of ours; see `troubles`.
    named: dict[str, Any] = {"exists": {"field": "id"}}
    if buckets is None:
        return named
    # What somebody else wrote may have none: then its id says which it belongs to.
    either = [
        {"terms": {"bucket": sorted(buckets)}},
        {"bool": {"must_not": {"exists": {"field": "bucket"}}}},
    ]
    return {"bool": {"filter": [named, {"bool": {"should": either, "minimum_should_match": 1}}]}}
