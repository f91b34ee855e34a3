"""Real servers for tests, benchmarks and the demonstration: PostgreSQL and OpenSearch, without Docker, as any user.

Addresses in `SPEAKERDB_TEST_POSTGRES` and `SPEAKERDB_TEST_OPENSEARCH` come first; where one is missing a server of our
own is started on loopback, from ordinary packages (`speakerdb[dev]`). It ends with the process that asked for it, even
by `kill -9`. For pytest: the plugin `speakerdb.testing.servers.plugin`. By hand: `python -m speakerdb.testing.servers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speakerdb.testing.servers.opensearch import OpenSearch
    from speakerdb.testing.servers.postgres import Databases


@dataclass(frozen=True, slots=True)
class Servers:
    """A PostgreSQL (`.new_database()`) and an OpenSearch (`.url`)."""

    postgres: Databases
    opensearch: OpenSearch


@contextmanager
def servers(*, heap: int = 1024) -> Iterator[Servers]:
    """Both servers, for as long as the context lasts; `heap` of a local OpenSearch in MiB.

    `NoServer` where one cannot be had. Databases that were made through it are dropped at the end; indices in a server
    that was named by its address are the caller's to remove (`.opensearch.remove(prefix)`).
    """
    from speakerdb.testing.servers import given
    from speakerdb.testing.servers.opensearch import OpenSearch, OpenSearchServer
    from speakerdb.testing.servers.postgres import Databases, PostgresServer
    from speakerdb.testing.servers.run import Run

    given.take()
    run = Run.begin()
    try:
        opensearch, postgres = given.get(given.OPENSEARCH), given.get(given.POSTGRES)
        if opensearch is not None:
            OpenSearch(opensearch).reach()
        if postgres is not None:
            Databases(postgres).reach()
        node = OpenSearchServer(run, heap=heap) if opensearch is None else None
        if node is not None:
            node.launch()
        database = PostgresServer(run) if postgres is None else None
        if database is not None:
            database.start()
        if node is not None:
            node.wait_until_ready()
        started = Servers(database or Databases(str(postgres)), node or OpenSearch(str(opensearch)))
        try:
            yield started
        finally:
            if database is None:
                started.postgres.drop(started.postgres.made)
    finally:
        run.end()
