"""Libraries on which services run, in processes of their own or in this one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from serve_kit import Place, Zygote

from speakerdb.settings import OpenSearchSettings
from tests.on_postgres import Spare, spare_databases

__all__ = ["spare_databases"]


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """Forks services."""
    with closing(Zygote()) as made:
        yield made


@pytest.fixture
def place(tmp_path: Path, zygote: Zygote) -> Iterator[Place]:
    """A library in files."""
    with closing(Place(tmp_path, zygote)) as made:
        yield made


@pytest.fixture(params=["files", pytest.param("servers", marks=pytest.mark.servers)])
def anywhere(request: pytest.FixtureRequest, place: Place) -> Iterator[Place]:
    """A library in files, then one on PostgreSQL and OpenSearch."""
    if request.param == "files":
        yield place
        return
    spare: Spare = request.getfixturevalue("spare_databases")
    url = spare.lend()
    search = OpenSearchSettings(
        hosts=(request.getfixturevalue("opensearch").url,),
        prefix=request.getfixturevalue("opensearch_prefix"),
        replicas=0,
    )
    place.more |= {"database_url": url, "opensearch": search}
    yield place
    place.close()
    spare.give_back(url)
