"""Libraries on files and on real servers, whose indices somebody else changes."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from repair_kit import Damaged

from speakerdb.testing.backends import FILES, Backend
from tests.on_servers import backend, servers_backend, spare_databases

__all__ = ["backend", "servers_backend", "spare_databases"]


@pytest.fixture
def make() -> Iterator[Callable[..., Damaged]]:
    """Libraries of some recordings, drained; in files unless a backend is given."""
    made: list[Damaged] = []

    def library(recordings: int = 3, *, backend: Backend = FILES, **settings: Any) -> Damaged:
        made.append(Damaged(recordings, backend, **settings))
        return made[-1]

    yield library
    for each in made:
        each.close()


@pytest.fixture
def library(make: Callable[..., Damaged]) -> Damaged:
    return make()
