"""A library for real processes that are harmed, on files and on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from speakerdb.settings import Settings
from speakerdb.testing.backends import Backend
from speakerdb.testing.chaos.processes import Zygote
from speakerdb.testing.chaos.run import Chaos, library
from tests.on_servers import backend, servers_backend, spare_databases

__all__ = ["backend", "servers_backend", "spare_databases"]


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Forks services and clients."""
    with Zygote() as made:
        yield made


@pytest.fixture
def home(tmp_path: Path, backend: Backend) -> Iterator[Settings]:
    """A new library whose commits are kept."""
    with library(tmp_path, backend) as settings:
        yield settings


@pytest.fixture
def chaos(zygote: Zygote, tmp_path: Path, home: Settings, request: pytest.FixtureRequest) -> Iterator[Chaos]:
    """Nothing runs yet; whatever does at the end is killed."""
    made = Chaos(zygote, tmp_path, home, request.node.name)
    yield made
    made.close()
