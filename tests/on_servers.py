"""Where the library of a test may lie: fixtures for those who try files and real servers."""

from __future__ import annotations

import pytest

from speakerdb.testing.backends import FILES, Backend
from speakerdb.testing.servers.opensearch import OpenSearch
from tests.on_postgres import Spare, spare_databases

__all__ = ["backend", "postgresql_backend", "servers_backend", "spare_databases"]


@pytest.fixture(scope="session")
def postgresql_backend(spare_databases: Spare) -> Backend:
    """Libraries on a real PostgreSQL with the embedded index."""
    return Backend(spare_databases)


@pytest.fixture(scope="session")
def servers_backend(spare_databases: Spare, opensearch: OpenSearch) -> Backend:
    """Libraries on a real PostgreSQL and a real OpenSearch."""
    return Backend(spare_databases, opensearch)


@pytest.fixture(scope="session", params=["files", pytest.param("servers", marks=pytest.mark.servers)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Files, and then real servers."""
    found: Backend = FILES if request.param == "files" else request.getfixturevalue("servers_backend")
    return found
