"""Libraries on real servers that a test may harm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from survive_kit import Place, Told
from survive_proxies import HttpProxy, TcpProxy

from speakerdb.testing.servers.opensearch import OpenSearch, OpenSearchServer
from speakerdb.testing.servers.postgres import PostgresServer
from tests.on_postgres import Spare, spare_databases

__all__ = ["spare_databases"]


@pytest.fixture
def told() -> Told:
    """What the user of the test's library was told."""
    return Told()


@pytest.fixture
def database(spare_databases: Spare) -> Iterator[str]:
    """The address of a database on the shared PostgreSQL that holds nothing."""
    url = spare_databases.lend()
    yield url
    spare_databases.give_back(url)


@pytest.fixture
def place(tmp_path: Path, database: str, opensearch: OpenSearch, opensearch_prefix: str) -> Iterator[Place]:
    """A library on the shared servers."""
    with closing(Place(tmp_path, database, opensearch.url, opensearch_prefix)) as found:
        yield found


@pytest.fixture
def proxy(opensearch: OpenSearch) -> Iterator[HttpProxy]:
    """Stands before the shared OpenSearch."""
    with closing(HttpProxy(opensearch.url)) as standing:
        yield standing


@pytest.fixture
def proxied(place: Place, proxy: HttpProxy) -> Place:
    """The library on the shared servers, with a proxy before OpenSearch."""
    place.search = proxy.url
    return place


@pytest.fixture
def on_own_search(tmp_path: Path, database: str, own_opensearch: OpenSearchServer) -> Iterator[Place]:
    """A library whose OpenSearch the test may stop."""
    with closing(Place(tmp_path, database, own_opensearch.url, "survive-")) as found:
        yield found


@pytest.fixture
def on_own_postgres(
    tmp_path: Path, own_postgres: PostgresServer, opensearch: OpenSearch, opensearch_prefix: str
) -> Iterator[Place]:
    """A library whose PostgreSQL the test may stop."""
    with closing(Place(tmp_path, own_postgres.new_database(), opensearch.url, opensearch_prefix)) as found:
        yield found


@pytest.fixture
def before_postgres(on_own_postgres: Place) -> Iterator[TcpProxy]:
    """Stands before the PostgreSQL of that library, which talks through it."""
    url = sa.make_url(on_own_postgres.database)
    assert url.host is not None
    assert url.port is not None
    with closing(TcpProxy(url.host, url.port)) as standing:
        through = url.set(host="127.0.0.1", port=standing.port)
        on_own_postgres.database = through.render_as_string(hide_password=False)
        yield standing
