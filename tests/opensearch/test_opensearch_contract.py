"""The OpenSearch adapter keeps the contract of the port, on a real server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import settings

from speakerdb.index.opensearch.adapter import OpenSearchIndex
from speakerdb.index.port import VectorIndex
from speakerdb.settings import OpenSearchSettings
from speakerdb.testing.index_contract import IndexContract
from speakerdb.testing.index_machine import index_machine
from speakerdb.testing.servers.opensearch import OpenSearch

pytestmark = pytest.mark.servers


class TestOpenSearch(IndexContract):
    @pytest.fixture
    def index(self, opensearch: OpenSearch, opensearch_prefix: str) -> Iterator[VectorIndex]:
        index = OpenSearchIndex(OpenSearchSettings(hosts=(opensearch.url,), prefix=opensearch_prefix, replicas=0))
        yield index
        index.close()


def test_random_operations(opensearch: OpenSearch) -> None:
    @contextmanager
    def empty_index() -> Iterator[VectorIndex]:
        prefix = f"machine-{uuid.uuid4().hex[:12]}-"
        try:
            yield OpenSearchIndex(OpenSearchSettings(hosts=(opensearch.url,), prefix=prefix, replicas=0))
        finally:
            opensearch.remove(prefix)

    machine = index_machine(empty_index).TestCase
    machine.settings = settings(settings(), max_examples=8, stateful_step_count=20)
    machine().runTest()
