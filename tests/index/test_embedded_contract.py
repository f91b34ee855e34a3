"""The embedded index keeps the contract of the port."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.index.port import VectorIndex
from speakerdb.testing.index_contract import IndexContract
from speakerdb.testing.index_machine import index_machine


class TestEmbedded(IndexContract):
    @pytest.fixture
    def index(self, tmp_path: Path) -> Iterator[VectorIndex]:
        index = EmbeddedIndex(tmp_path / "index.db")
        yield index
        index.close()


@contextmanager
def empty_index() -> Iterator[VectorIndex]:
    with tempfile.TemporaryDirectory() as folder:
        yield EmbeddedIndex(Path(folder) / "index.db")


TestEmbeddedStateful = index_machine(empty_index).TestCase
TestEmbeddedStateful.settings = settings()  # of the profile that tests/conftest.py loaded
