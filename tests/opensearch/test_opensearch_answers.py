"""What the adapter makes of a cluster's answers: which are tried again, which never, and which error of ours they become."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from scripted import Answer, Asked, Scripted, error, opened, raised, serving

from speakerdb.errors import (
    AliasMoved,
    IndexExists,
    IndexMissing,
    IndexUnavailable,
    InvalidInput,
    SpeakerDBError,
    StorageFull,
)
from speakerdb.index.opensearch import client as client_module
from speakerdb.index.opensearch.adapter import OpenSearchIndex
from speakerdb.settings import OpenSearchSettings
from speakerdb.types import AliasAction, Document, Kind, WriteOutcome

W, C, R = WriteOutcome.WRITTEN, WriteOutcome.CONFLICT, WriteOutcome.REJECTED
MAPPING = {"properties": {"vector": {"type": "knn_vector", "dimension": 4}}}
INDEX = {"p-a": {"aliases": {"p-w": {}}, "mappings": MAPPING, "settings": {"index": {"number_of_shards": "1"}}}}


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_FIRST_WAIT", 0.001)
    monkeypatch.setattr(client_module, "_LONGEST_WAIT", 0.002)


def aliases(index: OpenSearchIndex) -> object:
    return index.aliases()


def documents(count: int) -> list[Document]:
    return [
        Document(f"id-{n}", 1, "hash", Kind.SPEAKER, "library", None, None, np.full(4, n + 1, np.float32))
        for n in range(count)
    ]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_cluster_is_asked_again(status: int) -> None:
    with serving(
        error(status, "busy_exception"), Answer(status, b"<html>", "text/html"), Answer(None), Answer()
    ) as script:
        index = opened(script)
        assert index.aliases() == {}
        assert len(script.asked) == 4
        index.close()


@pytest.mark.parametrize("status", [429, 503])
def test_a_cluster_that_stays_busy_is_unavailable(status: int) -> None:
    found, script = raised(aliases, error(status, "busy_exception"), retry_seconds=1.0)
    assert isinstance(found, IndexUnavailable)
    assert found.details["status"] == status
    assert len(script.asked) > 1


def test_a_ping_is_sent_once_and_a_busy_cluster_is_there() -> None:
    for answer in (Answer(None), error(503, "busy_exception"), Answer(502, b"<html>", "text/html")):
        found, script = raised(lambda index: index.ping("x"), answer)
        assert isinstance(found, IndexUnavailable)
        assert len(script.asked) == 1
    with serving(error(429, "rejected_execution_exception")) as script:
        index = opened(script)
        index.ping("x")
        index.close()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(400, "strange_exception"), IndexUnavailable),
        (error(401, "security_exception"), IndexUnavailable),
        (error(403, "security_exception"), IndexUnavailable),
        (Answer(403, b"Forbidden", "text/plain"), IndexUnavailable),
        (error(404, "index_not_found_exception", index="p-x"), IndexMissing),
        (Answer(404, {"error": "no handler", "status": 404}), IndexUnavailable),
        (Answer(404, b"<html>not here</html>", "text/html"), IndexUnavailable),
        (error(500, "null_pointer_exception"), IndexUnavailable),
        (Answer(500, [1, 2]), IndexUnavailable),
        (Answer(500, {"error": {"root_cause": []}}), IndexUnavailable),
        (error(403, "cluster_block_exception"), IndexUnavailable),
        (error(429, "cluster_block_exception"), StorageFull),
    ],
)
def test_what_another_try_would_meet_again_is_said_at_once(answer: Answer, kind: type[SpeakerDBError]) -> None:
    found, script = raised(aliases, answer)
    assert type(found) is kind
    assert len(script.asked) == 1
    assert found.hint
    assert "Traceback" not in str(found)
    assert "<html>" not in str(found)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html>a proxy's page</html>", "text/html"),
        Answer(200, b"<html>a proxy's page</html>"),
        Answer(200, b'{"p-a": {"aliases"'),
        Answer(200, b'"text"'),
        Answer(200, b""),
        Answer(200, b"\xff\xfe"),
        Answer(200, {"p-a": {"aliases": {}}}, cut=9),
        Answer(None),
    ],
    ids=["html", "html as json", "cut json", "text", "nothing", "bytes", "half an answer", "silence"],
)
def test_half_an_answer_is_no_answer(answer: Answer) -> None:
    found, script = raised(aliases, answer, retry_seconds=0.02)
    assert type(found) is IndexUnavailable
    assert len(script.asked) > 1
    with serving(answer, Answer(200, {"p-a": {"aliases": {"p-w": {}}}})) as script:
        index = opened(script)
        assert index.aliases() == {"w": ("a",)}
        index.close()


def test_a_cluster_that_does_not_answer() -> None:
    found, script = raised(aliases, Answer(hang=True), timeout_seconds=0.05, retry_seconds=0.0)
    assert type(found) is IndexUnavailable
    assert "did not answer within 0.05 s" in found.message
    assert len(script.asked) == 1


def test_a_cluster_that_is_not_there() -> None:
    with serving(Answer()) as script:
        pass
    index = opened(script, retry_seconds=0.01)
    for call in (
        index.aliases,
        index.indices,
        index.troubles,
        lambda: index.search("a", np.ones((1, 4), np.float32), 1),
    ):
        with pytest.raises(IndexUnavailable, match="cannot be reached"):
            call()
    index.close()


def test_the_next_host_is_tried() -> None:
    with serving(Answer()) as gone:
        pass
    with serving(Answer(200, {"p-a": {"aliases": {"p-w": {}}}})) as script:
        index = OpenSearchIndex(OpenSearchSettings(hosts=(gone.url, script.url), prefix="p-"))
        for _ in range(4):
            assert index.aliases() == {"w": ("a",)}
        index.close()
        again = OpenSearchIndex(OpenSearchSettings(hosts=(gone.url, script.url), prefix="p-"))
        script.answers = [Answer(200, {"acknowledged": True})]
        script.asked.clear()
        again.update_aliases([AliasAction.add("w", "a")])  # nothing can have been done where no connection came about
        assert len(script.asked) == 1
        again.close()


# Alias changes


def swap(index: OpenSearchIndex) -> None:
    index.update_aliases([AliasAction.remove("r", "a"), AliasAction.add("r", "b")])


@pytest.mark.parametrize(
    "answer",
    [
        Answer(None),
        Answer(hang=True),
        Answer(200, {"acknowledged": True}, cut=4),
        Answer(200, {"acknowledged": False}),
        Answer(200, {}),
        Answer(200, b"<html>", "text/html"),
        error(503, "cluster_manager_not_discovered_exception"),
        error(429, "busy_exception"),
        Answer(502, b"<html>", "text/html"),
    ],
    ids=["silence", "timeout", "half", "not acknowledged", "empty", "html", "503", "429", "502"],
)
def test_an_alias_change_is_never_sent_twice(answer: Answer) -> None:
    found, script = raised(swap, answer, timeout_seconds=0.5)
    assert type(found) is IndexUnavailable
    assert [(each.method, each.path.partition("?")[0]) for each in script.asked] == [("POST", "/_aliases")]
    assert json.loads(script.asked[0].body)["actions"] == [
        {"remove": {"alias": "p-r", "index": "p-a", "must_exist": True}},
        {"add": {"alias": "p-r", "index": "p-b"}},
    ]


def test_what_an_alias_change_was_refused_for() -> None:
    assert type(raised(swap, error(404, "aliases_not_found_exception"))[0]) is AliasMoved
    assert (
        type(raised(swap, error(400, "invalid_alias_name_exception"), Answer(200, {"p-a": {}, "p-b": {}}))[0])
        is IndexExists
    )
    missing = error(404, "index_not_found_exception", index="p-b")
    assert type(raised(swap, missing, Answer(200, {"p-a": {}}))[0]) is IndexMissing
    assert type(raised(swap, missing, Answer(200, {"p-b": {}}))[0]) is AliasMoved


def test_a_drop_is_never_sent_twice() -> None:
    listing = Answer(200, {"p-a": {"mappings": {}}})
    found, script = raised(lambda index: index.drop("a"), listing, Answer(None))
    assert type(found) is IndexUnavailable
    assert [each.method for each in script.asked] == ["GET", "DELETE"]


# Bulk writes


def reply(*statuses: int, kind: str = "some_exception") -> Answer:
    items = [
        {"index": {"status": status, **({} if status < 300 else {"error": {"type": kind, "reason": "why"}})}}
        for status in statuses
    ]
    return Answer(200, {"items": items})


def ids(asked: Asked) -> list[str]:
    return [json.loads(line)["index"]["_id"] for line in asked.body.splitlines()[::2]]


@pytest.fixture
def script() -> Iterator[Scripted]:
    with serving(Answer(200, INDEX), Answer()) as script:
        yield script


def test_only_what_was_refused_for_the_moment_is_written_again(script: Scripted) -> None:
    script.answers[1:] = [reply(201, 429, 409, 400, 503), reply(201, 429), reply(200)]
    index = opened(script)
    report = index.bulk("w", documents(5))
    assert [each.outcome for each in report] == [W, W, C, R, W]
    assert report[3].detail == "some_exception: why"
    assert [ids(each) for each in script.asked[1:]] == [
        ["id-0", "id-1", "id-2", "id-3", "id-4"],
        ["id-1", "id-4"],
        ["id-4"],
    ]
    assert all("require_alias=true" in each.path for each in script.asked[1:])
    action = json.loads(script.asked[1].body.splitlines()[0])["index"]
    assert action == {"_id": "id-0", "version": 1, "version_type": "external"}
    index.close()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply(429, kind="cluster_block_exception"), StorageFull),
        (reply(403, kind="cluster_block_exception"), IndexUnavailable),
        (reply(404, kind="index_not_found_exception"), IndexMissing),
        (reply(500), IndexUnavailable),
        (reply(503), IndexUnavailable),
        (reply(429), IndexUnavailable),
        (error(403, "security_exception"), IndexUnavailable),
        (error(413, "too_large"), IndexUnavailable),
        (error(400, "parse_exception"), IndexUnavailable),
        (Answer(None), IndexUnavailable),
    ],
)
def test_a_document_that_could_not_be_written_is_no_report(answer: Answer, kind: type[SpeakerDBError]) -> None:
    found, _ = raised(lambda index: index.bulk("w", documents(1)), Answer(200, INDEX), answer, retry_seconds=0.05)
    assert type(found) is kind
    assert found.hint


def test_a_write_whose_answer_was_lost_meets_its_own_version(script: Scripted) -> None:
    script.answers[1:] = [Answer(None), reply(409, 409)]
    index = opened(script)
    assert [each.outcome for each in index.bulk("w", documents(2))] == [C, C]
    index.close()


def test_a_request_that_is_too_large_is_split(script: Scripted) -> None:
    def at_most_two(asked: Asked) -> Answer:
        count = len(ids(asked))
        return reply(*[201] * count) if count <= 2 else error(413, "too_large")

    script.answers[1:] = [at_most_two]
    index = opened(script)
    assert [each.outcome for each in index.bulk("w", documents(7))] == [W] * 7
    written = [ids(each) for each in script.asked[1:] if len(ids(each)) <= 2]
    assert [id for part in written for id in part] == [f"id-{n}" for n in range(7)]
    index.close()


def test_requests_stay_below_the_limit(script: Scripted) -> None:
    script.answers[1:] = [lambda asked: reply(*[201] * len(ids(asked)))]
    index = opened(script, bulk_megabytes=0.002)
    assert [each.outcome for each in index.bulk("w", documents(40))] == [W] * 40
    sizes = [len(each.body) for each in script.asked[1:]]
    assert len(sizes) > 3
    assert max(sizes) <= 2000
    assert [id for each in script.asked[1:] for id in ids(each)] == [f"id-{n}" for n in range(40)]
    index.close()


def test_an_alias_that_got_a_second_index_meanwhile_is_missing() -> None:
    two = Answer(200, INDEX | {"p-b": INDEX["p-a"]})
    answers = (Answer(200, INDEX), reply(400, kind="illegal_argument_exception"), two)
    assert type(raised(lambda index: index.bulk("w", documents(1)), *answers)[0]) is IndexMissing


# Reads


def test_an_absent_index_is_told_by_its_type_alone() -> None:
    for call in (
        lambda index: index.fetch("a", ["x"]),
        lambda index: index.refresh("a"),
        lambda index: index.scan("a"),
        lambda index: index.search("a", np.ones((1, 4), np.float32), 1),
    ):
        assert type(raised(call, error(404, "index_not_found_exception"))[0]) is IndexMissing
        assert type(raised(call, error(404, "other_exception"))[0]) is IndexUnavailable
        assert type(raised(call, error(403, "index_not_found_exception_or_no_right"))[0]) is IndexUnavailable


@pytest.mark.parametrize(
    "name", ["", "A", "a,b", "a*", "_all", "../_cluster", "a/b", "a?x=1", "<a-{now}>", "\ud800", "x" * 300]
)
def test_strange_names_never_reach_the_cluster(name: str) -> None:
    with serving(Answer(200, {})) as script:
        index = opened(script, prefix="")
        for call in (
            lambda: index.fetch(name, ["x"]),
            lambda: index.refresh(name),
            lambda: index.scan(name),
            lambda: index.bulk(name, documents(1)),
            lambda: index.search(name, np.ones((1, 4), np.float32), 1),
            lambda: index.tune(name, loading=True),
            lambda: index.digests(name),
        ):
            with pytest.raises(IndexMissing):
                call()
        with pytest.raises(InvalidInput):
            index.create(name, 4, {})
        with pytest.raises(AliasMoved):
            index.drop("speakers_v4", token=name)
        with pytest.raises(AliasMoved):
            index.update_aliases([AliasAction.remove(name, "speakers_v4")])
        with pytest.raises(IndexExists):
            index.update_aliases([AliasAction.add(name, "speakers_v4")])
        with pytest.raises(IndexMissing):
            index.update_aliases([AliasAction.add("speakers", name)])
        index.drop(name)
        index.update_aliases([AliasAction.remove(name, "speakers_v4", must_exist=False)])
        assert script.asked == []
        index.close()


def test_a_scan_closes_its_point_in_time_however_it_ends() -> None:
    hit = {
        "_id": "x",
        "_version": 1,
        "_source": {"content_hash": "h", "kind": "speaker", "library_id": "l"},
        "sort": ["x"],
    }
    page = Answer(200, {"pit_id": "second", "hits": {"hits": [hit] * 4000}})
    answers = [
        Answer(200, INDEX),
        Answer(200, {"_shards": {"failed": 0}}),
        Answer(200, {"pit_id": "first"}),
        page,
        Answer(),
    ]
    for ends in (False, True):
        with serving(*answers) as script:
            index = opened(script)
            scan = index.scan("a")
            assert [each.path.partition("?")[0] for each in script.asked][-1] == "/p-a/_search/point_in_time"
            if ends:
                assert next(scan).id == "x"
            scan.close()
            assert (script.asked[-1].method, json.loads(script.asked[-1].body)) == (
                "DELETE",
                {"pit_id": ["second" if ends else "first"]},
            )
            index.close()


def test_a_search_that_was_refused_for_long_is_not_begun_again(script: Scripted) -> None:
    """What is remembered of the index is no reason to look it up: the same would be said for as long again."""
    found = Answer(200, {"hits": {"hits": []}, "_shards": {"total": 1, "failed": 0}})
    script.answers[1:] = [Answer(200, {"count": 3}), found, error(503, "search_phase_execution_exception")]
    index = opened(script, retry_seconds=0.1)
    assert index.search("a", np.ones((1, 4), np.float32), 3) == [[]]
    with pytest.raises(IndexUnavailable):
        index.search("a", np.ones((1, 4), np.float32), 3)
    assert all("/_search" in each.path for each in script.asked[3:])
    index.close()


@pytest.mark.parametrize(
    "lasting",
    [(403, "security_exception"), (503, "cluster_block_exception")],
    ids=["forbidden", "blocked"],
)
def test_what_one_of_several_searches_will_always_say_is_not_waited_for(lasting: tuple[int, str]) -> None:
    """Though another one may be answered a moment later. Ours are counted by one search, what is of others by another."""
    said = [
        {"status": status, "error": {"type": kind, "reason": "why"}}
        for status, kind in ((503, "search_phase_execution_exception"), lasting)
    ]
    kinds = {"id": "keyword", "version": "long", "bucket": "short", "digest": "long"}
    ours = {"properties": MAPPING["properties"] | {name: {"type": kind} for name, kind in kinds.items()}}
    listed = {"p-a": {"mappings": ours}, "p-b": {"mappings": {"properties": {}}}}
    for answers in (said, said[::-1]):
        with serving(Answer(200, listed), Answer(200, {"responses": answers})) as script:
            index = opened(script)
            with pytest.raises(IndexUnavailable) as refused:
                index.indices()
            assert refused.value.details["kind"] == lasting[1]
            assert [each.path.partition("?")[0] for each in script.asked] == ["/p-*/_mapping", "/_msearch"]
            index.close()


def test_a_search_that_only_some_shards_answered_is_none(script: Scripted) -> None:
    """The index got another number of shards since: it is looked up again, and again."""
    count, hits = Answer(200, {"count": 3}), {"hits": {"hits": []}}
    script.answers[1:] = [
        count, Answer(200, hits | {"_shards": {"total": 2}}), Answer(200, INDEX), count,
        Answer(200, hits | {"_shards": {"total": 1}}),
    ]  # fmt: skip
    index = opened(script)
    assert index.search("a", np.ones((1, 4), np.float32), 3) == [[]]
    assert len(script.asked) == 6
    assert all("allow_partial_search_results=false" in each.path for each in script.asked if "_search" in each.path)
    index.close()


LACKING: tuple[dict[str, Any], ...] = (
    {"timed_out": True},
    {"_shards": {"total": 1, "successful": 0, "failed": 1, "failures": [{"shard": 0}]}},
)
WHOLE = {"_shards": {"total": 1, "failed": 0}, "timed_out": False, "terminated_early": True}
NOTHING = {"hits": {"hits": []}, "aggregations": {"bucket": {"buckets": []}, "index": {"buckets": []}}, "count": 0}
ONE = np.ones((1, 4), np.float32)
READS: dict[str, tuple[list[Any], Callable[[OpenSearchIndex], object]]] = {
    "scan": ([INDEX, WHOLE, {"pit_id": "p"}], lambda index: list(index.scan("a"))),
    "marks": ([INDEX, WHOLE, {"pit_id": "p"}], lambda index: list(index.marks("a"))),
    "digests": ([INDEX, WHOLE], lambda index: index.digests("a")),
    "count": ([INDEX], lambda index: index.search("a", ONE, 3)),
    "search": ([INDEX, WHOLE | NOTHING], lambda index: index.search("a", ONE, 3)),
    "searches": ([INDEX, WHOLE | NOTHING], lambda index: index.search("a", np.vstack([ONE, ONE]), 3)),
    "indices": ([{"p-a": {"mappings": MAPPING}}], lambda index: index.indices()),
}


@pytest.mark.parametrize("lacking", LACKING, ids=lambda each: next(iter(each)))
@pytest.mark.parametrize("read", READS)
def test_an_answer_that_lacks_a_part_is_never_read_as_the_whole(read: str, lacking: dict[str, Any]) -> None:
    before, call = READS[read]
    part = {"pit_id": "p"} | NOTHING | WHOLE | lacking
    body = {"responses": [WHOLE | NOTHING, part]} if read in ("searches", "indices") else part
    with serving(*(Answer(200, each) for each in before), Answer(200, body)) as script:
        index = opened(script)
        with pytest.raises(IndexUnavailable, match="did not answer"):
            call(index)
        index.close()


def test_a_closed_index_says_so(script: Scripted) -> None:
    index = opened(script)
    index.close()
    index.close()
    with pytest.raises(IndexUnavailable, match="closed"):
        index.aliases()
    assert script.asked == []
