"""The real engines for the benchmarks: servers that the environment names, else started for this run and ended with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from benchmarks.report import say
from speakerdb.testing.servers import servers
from speakerdb.testing.servers.opensearch import OpenSearch, fresh_prefix
from speakerdb.testing.servers.postgres import Databases
from speakerdb.testing.servers.run import NoServer

HEAP = 2048
"""MiB for an OpenSearch that is started for the run."""


@dataclass(frozen=True, slots=True)
class Engines:
    """A PostgreSQL and an OpenSearch of one node."""

    postgres: Databases
    opensearch: OpenSearch

    @property
    def versions(self) -> dict[str, str]:
        """For the results."""
        engine = sa.create_engine(self.postgres.url)
        with engine.connect() as connection:
            postgres = str(connection.scalar(sa.text("SHOW server_version")))
        engine.dispose()
        return {"postgresql": postgres, "opensearch": self.opensearch.ask("GET", "/")["version"]["number"]}

    @contextmanager
    def library(self, *, catalog: bool = True, index: bool = True) -> Iterator[dict[str, Any]]:
        """Settings of a library on the servers: a fresh database, a fresh prefix, or both; they are gone at the end."""
        more: dict[str, Any] = {}
        with ExitStack() as stack:
            if catalog:
                more["database_url"] = self.postgres.new_database()
                stack.callback(self.postgres.drop, [more["database_url"]])
            if index:
                prefix = fresh_prefix()
                # One node holds no copies.
                more["opensearch"] = {"hosts": [self.opensearch.url], "prefix": prefix, "replicas": 0}
                stack.callback(self.opensearch.remove, prefix)
            yield more


@contextmanager
def engines() -> Iterator[Engines | None]:
    """Both servers; None, with a line that says why, where they cannot be had."""
    with ExitStack() as stack:
        say("PostgreSQL and OpenSearch: half a minute where they have to be started")
        try:
            found = stack.enter_context(servers(heap=HEAP))
        except NoServer as why:
            say(f"NOT MEASURED: everything on real servers, which could not be had: {why}")
            yield None
            return
        yield Engines(found.postgres, found.opensearch)
