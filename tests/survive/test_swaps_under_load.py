"""Four threads ask all along while the alias goes there and back: no question fails, no answer mixes two generations."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.swapping import GENERATIONS, Load, swaps_under_load
from speakerdb.testing.servers.opensearch import OpenSearch
from speakerdb.testing.servers.postgres import Databases

QUERIES, SWAPS = 300, 4


def _check(load: Load) -> None:
    assert load.failed == []
    assert load.wrong == []
    assert load.queries >= QUERIES
    assert load.swaps == SWAPS
    assert len(load.requests) == SWAPS
    assert all(load.answers[generation] > 0 for generation in GENERATIONS)
    assert sum(load.answers.values()) == load.queries


def test_on_files(tmp_path: Path) -> None:
    _check(swaps_under_load(tmp_path, speakers=40, queries=QUERIES, swaps=SWAPS))


@pytest.mark.timeout(600)
def test_on_real_servers(tmp_path: Path, postgres: Databases, opensearch: OpenSearch, opensearch_prefix: str) -> None:
    named = {"hosts": [opensearch.url], "prefix": opensearch_prefix, "replicas": 0}
    database = postgres.new_database()
    _check(
        swaps_under_load(tmp_path, speakers=40, queries=QUERIES, swaps=SWAPS, database_url=database, opensearch=named)
    )
