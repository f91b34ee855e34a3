"""What the OpenSearch adapter promises beyond the contract of the port, on a real server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from speakerdb.errors import (
    AliasMoved,
    IndexExists,
    IndexMissing,
    IndexUnavailable,
    InvalidInput,
    SpeakerDBError,
    StorageFull,
)
from speakerdb.generations import BUILT_IN
from speakerdb.index.opensearch import searching
from speakerdb.index.opensearch.adapter import OpenSearchIndex
from speakerdb.migrator.layout import mark_of
from speakerdb.migrator.swap import TOKEN_PREFIX, remove_tokens
from speakerdb.settings import OpenSearchSettings
from speakerdb.testing.index_oracle import DIMENSION, C, R, W, document, outcomes, vectors
from speakerdb.testing.servers.opensearch import OpenSearch, fresh_prefix
from speakerdb.types import AliasAction

pytestmark = pytest.mark.servers

Open = Callable[..., OpenSearchIndex]


@pytest.fixture
def opened(opensearch: OpenSearch, opensearch_prefix: str) -> Iterator[Open]:
    """Opens an adapter under the test's prefix; closes them all."""
    made: list[OpenSearchIndex] = []

    def open_one(**more: Any) -> OpenSearchIndex:
        options = {"prefix": opensearch_prefix, "replicas": 0, "retry_seconds": 2.0} | more
        made.append(OpenSearchIndex(OpenSearchSettings(hosts=(opensearch.url,), **options)))
        return made[-1]

    yield open_one
    for each in made:
        each.close()


@pytest.fixture
def index(opened: Open) -> OpenSearchIndex:
    made = opened()
    made.create("a", DIMENSION, {"generation": "v0"})
    made.update_aliases([AliasAction.add("w", "a"), AliasAction.add("r", "a")])
    return made


def test_a_generation_is_made_from_its_definition(opened: Open, opensearch: OpenSearch, opensearch_prefix: str) -> None:
    index = opened(shards=2)
    for generation in BUILT_IN.values():
        index.create(generation.index_name, generation.dimension, mark_of(generation))
        wired = f"{opensearch_prefix}{generation.index_name}"
        told = opensearch.ask("GET", f"/{wired}")[wired]
        assert told["mappings"]["_meta"] == mark_of(generation)
        assert told["mappings"]["dynamic"] == "strict"
        vector = told["mappings"]["properties"]["vector"]
        assert (vector["dimension"], vector["method"]["engine"], vector["method"]["space_type"]) == (
            generation.dimension, "lucene", "cosinesimil",
        )  # fmt: skip
        assert told["settings"]["index"]["number_of_shards"] == "2"
        assert told["settings"]["index"]["number_of_replicas"] == "0"
    assert set(index.indices()) == {generation.index_name for generation in BUILT_IN.values()}


def test_installations_do_not_see_each_other(opensearch: OpenSearch, opened: Open, index: OpenSearchIndex) -> None:
    prefix = fresh_prefix()
    other = opened(prefix=prefix)
    try:
        other.create("a", DIMENSION + 1, {"generation": "other"})
        other.update_aliases([AliasAction.add("r", "a")])
        assert index.indices()["a"].dimension == DIMENSION
        assert other.indices()["a"].dimension == DIMENSION + 1
        assert (dict(index.aliases()), dict(other.aliases())) == ({"w": ("a",), "r": ("a",)}, {"r": ("a",)})
        other.drop("a")
        assert set(index.indices()) == {"a"}
    finally:
        opensearch.remove(prefix)


def test_without_a_prefix_only_names_of_ours_can_be_made(opened: Open) -> None:
    index = opened(prefix="")
    with pytest.raises(InvalidInput, match="speakers"):
        index.create("a", DIMENSION, {})
    assert all(name.startswith("speakers") for name in index.indices())
    assert all(name.startswith("speakers") for name in index.aliases())


@pytest.mark.parametrize("dimension", [0, 100_000])
def test_an_index_that_cannot_be_made(opened: Open, dimension: int) -> None:
    with pytest.raises(InvalidInput):
        opened().create("a", dimension, {})
    assert dict(opened().indices()) == {}


@pytest.mark.parametrize("metadata", [{"x": float("nan")}, {"x": object()}])
def test_metadata_that_json_cannot_hold(opened: Open, metadata: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        opened().create("a", DIMENSION, metadata)


def test_indices_of_others_under_our_names_break_nothing(
    index: OpenSearchIndex, opensearch: OpenSearch, opensearch_prefix: str
) -> None:
    one = {"number_of_shards": 1, "number_of_replicas": 0}
    fields = {
        "voice": {"type": "knn_vector", "dimension": 3, "method": {"name": "hnsw", "engine": "lucene"}},
        "version": {"type": "text"},
    }
    knn = {
        "settings": {"index": {"knn": True, **one}},
        "mappings": {"properties": fields, "_meta": {"whose": "theirs"}},
    }
    opensearch.ask("PUT", f"/{opensearch_prefix}foreign", knn)
    opensearch.ask("PUT", f"/{opensearch_prefix}plain", {"settings": {"index": one}})
    opensearch.ask("PUT", f"/{opensearch_prefix}foreign/_doc/1?refresh=true", {"voice": [1, 2, 3], "version": "new"})
    index.bulk("w", [document("x", 7), document("y", 8, deleted=True)])
    index.refresh("a")
    found = index.indices()
    assert set(found) == {"a", "foreign", "plain"}
    assert (found["a"].documents, found["a"].tombstones, found["a"].newest) == (1, 1, 8)
    assert (found["foreign"].dimension, found["foreign"].metadata) == (3, {"whose": "theirs"})
    assert (found["foreign"].documents, found["plain"].dimension) == (1, 0)
    with pytest.raises(IndexExists):
        index.create("foreign", 3, {"whose": "theirs"})
    index.update_aliases([AliasAction.add("theirs", "foreign"), AliasAction.add("theirs", "a")])
    assert index.aliases()["theirs"] == ("a", "foreign")


def test_an_index_of_others_that_nobody_may_read_about_hides_nothing_of_ours(
    index: OpenSearchIndex, opensearch: OpenSearch, opensearch_prefix: str
) -> None:
    """The cluster refuses a question about all indices for one of them."""
    theirs = f"/other-{opensearch_prefix}"
    alias = f"{opensearch_prefix}theirs"
    opensearch.ask("PUT", theirs, {"settings": {"number_of_replicas": 0}, "aliases": {alias: {}}})
    before = dict(index.aliases())
    assert before["theirs"] == (theirs[1:],), "an alias of ours that names another's is told"
    opensearch.ask("POST", "/_aliases", {"actions": [{"remove": {"index": theirs[1:], "alias": alias}}]})
    opensearch.ask("PUT", f"{theirs}/_settings", {"index.blocks.metadata": True})
    try:
        del before["theirs"]
        assert dict(index.aliases()) == before
        assert set(index.indices()) == {"a"}
    finally:
        opensearch.ask("PUT", f"{theirs}/_settings", {"index.blocks.metadata": None})
        opensearch.ask("DELETE", theirs)


def test_documents_that_somebody_else_wrote_equal_nothing(
    index: OpenSearchIndex, opensearch: OpenSearch, opensearch_prefix: str
) -> None:
    """By hand: without our fields, with a vector only, with bytes that are none, under a second id. Nothing breaks."""
    by_hand = f"/{opensearch_prefix}a/_doc"
    row = vectors(1)[0].tolist()
    index.bulk("w", [document("mine", 3)])
    opensearch.ask("PUT", f"{by_hand}/bare?version=9&version_type=external", {"id": "bare"})
    opensearch.ask("PUT", f"{by_hand}/vector", {"id": "vector", "vector": row, "kind": "speaker"})
    opensearch.ask("PUT", f"{by_hand}/bytes", {"id": "bytes", "vector_bytes": "AAA=", "kind": "robot", "vector": row})
    opensearch.ask("PUT", f"{by_hand}/another", {"id": "mine", "content_hash": "x"})
    opensearch.ask("PUT", f"{by_hand}/nameless", {"vector": row})
    with pytest.raises(OSError, match="400"):
        opensearch.ask("PUT", f"{by_hand}/short", {"id": "short", "vector": row[:-1]})
    with pytest.raises(OSError, match="400"):
        opensearch.ask("PUT", f"{by_hand}/more", {"id": "more", "color": "red"})
    found = {d.id: d for d in index.scan("a")}
    assert list(found) == ["bare", "bytes", "mine", "vector"]
    assert {id for id, d in found.items() if d.content_hash == ""} == {"bare", "bytes", "vector"}
    assert found["bare"].version == 9
    assert index.fetch("a", ["bare"])["bare"].content_hash == ""
    assert [hit.id for hit in index.search("a", vectors(1), 9)[0]] == ["mine"]
    assert outcomes(index, "w", [document("bare", 9), document("bare", 10), document("vector", 2)]) == [C, W, W]
    assert -1 in index.digests("a")


def test_blocks(index: OpenSearchIndex, opensearch: OpenSearch, opensearch_prefix: str) -> None:
    index.bulk("w", [document("x")])

    def block(name: str, value: bool | None) -> None:
        opensearch.ask("PUT", f"/{opensearch_prefix}a/_settings", {f"index.blocks.{name}": value})

    for name, kind in (
        ("read_only_allow_delete", StorageFull),
        ("write", IndexUnavailable),
        ("read_only", IndexUnavailable),
    ):
        block(name, True)
        with pytest.raises(SpeakerDBError) as found:
            index.bulk("w", [document("y")])
        assert type(found.value) is kind
        assert set(index.fetch("a", ["x", "y"])) == {"x"}
        assert [d.id for d in index.scan("a")] == ["x"]
        (sentence,) = index.troubles()
        assert "the index a" in sentence
        block(name, None)
        assert list(index.troubles()) == []
    assert outcomes(index, "w", [document("y")]) == [W]


def test_a_closed_index_is_unavailable_and_not_empty(
    index: OpenSearchIndex, opensearch: OpenSearch, opensearch_prefix: str
) -> None:
    index.bulk("w", [document("x")])
    opensearch.ask("POST", f"/{opensearch_prefix}a/_close")
    for call in (
        index.indices,
        lambda: index.scan("a"),
        lambda: index.search("a", vectors(1), 1),
        lambda: index.fetch("a", ["x"]),
        lambda: index.bulk("w", [document("y")]),
    ):
        with pytest.raises(IndexUnavailable):
            call()
    assert any("closed" in sentence for sentence in index.troubles())


def test_what_a_load_leaves_is_seen_and_put_right(
    index: OpenSearchIndex, opensearch: OpenSearch, opensearch_prefix: str
) -> None:
    index.tune("a", loading=True)
    (sentence,) = index.troubles()
    assert "does not refresh" in sentence
    index.bulk("w", [document("x")])
    index.tune("a", loading=False)
    assert list(index.troubles()) == []
    told = opensearch.ask("GET", f"/{opensearch_prefix}a/_settings")[f"{opensearch_prefix}a"]["settings"]["index"]
    assert "refresh_interval" not in told
    assert index.indices()["a"].documents == 1


def test_a_drop_that_was_stopped_in_between_destroys_nothing(
    index: OpenSearchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its two requests the token is seen, and whoever takes it away stops the second one."""
    index.update_aliases([AliasAction.add("token", "a")])
    send = index._client.send
    seen: list[dict[str, tuple[str, ...]]] = []

    def stopped(method: str, path: str, *args: Any, **more: Any) -> Any:
        if path == "/_aliases":
            seen.append(dict(other.aliases()))
            if len(seen) == 2:
                (place,) = seen[1]["token"]
                other.update_aliases([AliasAction.remove("token", place)])
        return send(method, path, *args, **more)

    other = index.reopened()
    monkeypatch.setattr(index._client, "send", stopped)
    with pytest.raises(AliasMoved):
        index.drop("a", token="token")  # noqa: S106
    assert set(other.indices()) == {"a"}
    assert dict(other.aliases()) == {"w": ("a",), "r": ("a",)}
    assert other.fetch("r", []) == {}
    other.close()


def test_a_token_that_moves_while_tokens_are_taken_away_is_taken_too(
    index: OpenSearchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A successor reads where the tokens are; then the first request of a drop that was stopped is carried out."""
    token = f"{TOKEN_PREFIX}drop-a-1"
    index.update_aliases([AliasAction.add(token, "a")])
    send, successor = index._client.send, index.reopened()
    read = successor.aliases
    answers: list[Any] = []

    def stopped(method: str, path: str, *args: Any, **more: Any) -> Any:
        if path != "/_aliases" or answers:
            return send(method, path, *args, **more)

        def then_moved() -> Any:
            found = read()
            if not answers:
                answers.append(send(method, path, *args, **more))
            return found

        monkeypatch.setattr(successor, "aliases", then_moved)
        remove_tokens(successor)
        return answers[0]

    monkeypatch.setattr(index._client, "send", stopped)
    with pytest.raises(AliasMoved):
        index.drop("a", token=token)
    assert set(read()) == {"w", "r"}
    assert set(successor.indices()) == {"a"}
    successor.close()


def test_the_place_of_tokens_outlives_a_node(
    index: OpenSearchIndex, opensearch: OpenSearch, opensearch_prefix: str
) -> None:
    """`status` would call it red for ever, though there is nothing in it that could be lost."""
    index.update_aliases([AliasAction.add("token", "a")])
    index.drop("a", token="token")  # noqa: S106
    place = f"{opensearch_prefix}speakers-tokens"
    told = opensearch.ask("GET", f"/{place}/_settings")[place]["settings"]["index"]
    assert told["auto_expand_replicas"] == "0-1"
    assert list(index.troubles()) == []


def test_actions_mean_what_they_mean_one_after_the_other(index: OpenSearchIndex) -> None:
    add, remove = AliasAction.add, AliasAction.remove
    index.update_aliases([add("t", "a"), remove("t", "a")])
    index.update_aliases([remove("r", "a"), add("r", "a"), remove("r", "a")])
    assert dict(index.aliases()) == {"w": ("a",)}
    for actions in (
        [remove("w", "a"), remove("w", "a")],
        [remove("t", "a", must_exist=False), remove("t", "a")],
        [remove("t", "absent")],
        [remove("t", "w")],
    ):
        with pytest.raises(AliasMoved):
            index.update_aliases([*actions, add("n", "a")])
    for actions in ([add("n", "w")], [add("n", "absent"), remove("n", "absent")]):
        with pytest.raises(IndexMissing):
            index.update_aliases(actions)
    index.update_aliases([remove("t", "absent", must_exist=False), remove("w", "a"), add("r", "a")])
    assert dict(index.aliases()) == {"r": ("a",)}


def test_an_index_that_was_made_again_under_its_name_is_searched_as_it_is_now(
    index: OpenSearchIndex, opened: Open
) -> None:
    index.bulk("w", [document("x")])
    index.refresh("a")
    assert [hit.id for hit in index.search("r", vectors(1), 1)[0]] == ["x"]
    other = opened(shards=3)
    other.drop("a")
    other.create("a", 5, {})
    other.update_aliases([AliasAction.add("w", "a"), AliasAction.add("r", "a")])
    row = np.ones(5, np.float32)
    other.bulk("w", [document("y", vector=row)])
    other.refresh("a")
    assert [hit.id for hit in index.search("r", row[None], 1)[0]] == ["y"]
    with pytest.raises(InvalidInput):
        index.search("r", vectors(1), 1)
    other.create("b", 5, {})
    other.update_aliases([AliasAction.add("r", "b")])
    with pytest.raises(IndexMissing):
        index.search("r", row[None], 1)


def test_more_hits_than_the_engine_gives(index: OpenSearchIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    index.bulk("w", [document("x")])
    index.refresh("a")
    assert len(index.search("a", vectors(1), 50_000)[0]) == 1
    monkeypatch.setattr(searching, "_LARGEST", 0)
    with pytest.raises(InvalidInput, match="at most"):
        index.reopened().search("a", vectors(1), 50_000)


def test_vectors_of_any_size_come_back_bit_for_bit(index: OpenSearchIndex) -> None:
    random = np.random.default_rng(5)
    rows = (random.standard_normal((60, DIMENSION)) * 10.0 ** random.integers(-18, 18, (60, 1))).astype(np.float32)
    rows[0, 0], rows[1, 1] = np.float32(1e-45), -0.0
    assert outcomes(index, "w", [document(f"id-{n:02}", vector=row) for n, row in enumerate(rows)]) == [W] * 60
    for n, stored in enumerate(index.scan("a")):
        assert stored.vector is not None
        assert stored.vector.tobytes() == rows[n].tobytes()


def test_what_the_engine_itself_refuses_is_rejected_with_its_reason(index: OpenSearchIndex) -> None:
    """Its square does not fit into float32, so it has no direction for Lucene; NumPy in float64 sees one."""
    (result,) = index.bulk("w", [document("x", vector=np.full(DIMENSION, 1e-30, np.float32))])
    if result.outcome is R:
        assert "vector" in result.detail


def test_many_threads_share_one_adapter(index: OpenSearchIndex) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(5):
                index.bulk("w", [document(f"{number}-{step}")])
                index.search("a", vectors(1), 3)
                assert set(index.fetch("r", [f"{number}-{step}"])) == {f"{number}-{step}"}
                assert dict(index.aliases())
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(list(index.scan("a"))) == 40


class TestAnIndexWhoseShardIsNotThereYet:
    """As each is for a moment after it was made; here until the test lets its shard have a node."""

    NOWHERE = "index.routing.allocation.require._name"

    @pytest.fixture
    def wired(self, opensearch: OpenSearch, opensearch_prefix: str) -> str:
        wired = f"{opensearch_prefix}new"
        body = {"settings": {self.NOWHERE: "nobody", "number_of_replicas": 0}}
        opensearch.ask("PUT", f"/{wired}?wait_for_active_shards=0", body)
        return wired

    def test_it_is_waited_for(self, index: OpenSearchIndex, opensearch: OpenSearch, wired: str) -> None:
        refused = threading.Event()
        send = index._client.send

        def sending(*asked: Any, **more: Any) -> Any:
            answer = send(*asked, **more)
            if any("error" in each for each in answer.get("responses", ())):
                refused.set()
            return answer

        index._client.send = sending  # type: ignore[method-assign]

        def give_it_a_node() -> None:
            refused.wait(60)
            opensearch.ask("PUT", f"/{wired}/_settings", {self.NOWHERE: None})

        giver = threading.Thread(target=give_it_a_node)
        giver.start()
        found = index.indices()
        giver.join()
        assert refused.is_set()
        assert set(found) == {"a", "new"}

    def test_one_that_gets_none_is_told_of(self, opened: Open, index: OpenSearchIndex, wired: str) -> None:
        assert wired
        with pytest.raises(IndexUnavailable, match="503"):
            opened(retry_seconds=0.0).indices()
        assert set(index.aliases()) == {"w", "r"}, "what needs no shard answers"
