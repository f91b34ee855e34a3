"""Fields that follow from the rest of a document, written by hand under its very version: counts and sums are made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from repair_kit import Damaged, done

from speakerdb.core.digests import bucket_of
from speakerdb.index.opensearch.adapter import OpenSearchIndex
from speakerdb.testing.backends import Backend

pytestmark = pytest.mark.servers


def written(library: Damaged, which: str, /, *, like: str | None = None, **fields: Any) -> None:
    """Write a document past the product, at the version that is there; None takes a field out."""
    index = library.index
    assert isinstance(index, OpenSearchIndex)
    client, wired = index._client, index._client.wired(library.concrete())
    found = client.ask("GET", f"/{wired}/_doc/{quote(like or which, safe='')}")
    source = {name: value for name, value in (found["_source"] | fields).items() if value is not None}
    params = {"version": str(found["_version"]), "version_type": "external_gte", "refresh": "true"}
    client.ask("PUT", f"/{wired}/_doc/{quote(which, safe='')}", source, params=params)
    library.world.monitor.damaged("v3")


@pytest.fixture
def remote(make: Callable[..., Damaged], servers_backend: Backend) -> Damaged:
    return make(2, backend=servers_backend)


@pytest.mark.parametrize("cheaply", ["digest=0", "digest=", "bucket=", "bucket=+1", "id="])
def test_what_counts_and_sums_are_made_of_is_put_right_once(remote: Damaged, cheaply: str) -> None:
    """Otherwise a bucket, or all of them, would differ at each check for ever."""
    name, _, value = cheaply.partition("=")
    id = remote.documents()[0].id
    given = {"": None, "0": 0, "+1": (bucket_of(id) + 1) % 256}[value]
    written(remote, id, **{name: given})
    assert done(remote.db.repairer.check()) == {"rewrite": 1}
    remote.mended()


@pytest.mark.parametrize("field", ["version", "id"])
def test_what_only_a_look_at_every_document_finds(remote: Damaged, field: str) -> None:
    """The newest version of an index says whether a database is an older copy."""
    first, second = remote.documents()[:2]
    written(remote, first.id, **{field: 10**18 if field == "version" else second.id})
    assert done(remote.db.repairer.run(vectors=True)) == {"rewrite": 1}
    assert remote.index.indices()[remote.concrete()].newest < 10**18
    remote.mended()


def test_documents_without_an_id_of_their_own_are_told(remote: Damaged) -> None:
    """No scan shows them, and nobody is ever shown them; but they may take the place of hits."""
    known = remote.documents()[0].id
    for name in ("first", "second"):
        written(remote, name, like=known, id=None)
    assert remote.plan().empty
    (problem,) = [each for each in remote.db.status().problems if each.code == "index-trouble"]
    assert "holds 2 documents" in problem.message
    remote.db.rebuild_index("v3")
    assert not [each for each in remote.db.status().problems if each.code == "index-trouble"]
