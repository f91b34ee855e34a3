"""Catalogs on either kind of database, as many as a test wants, each as if on a machine of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from speakerdb.catalog.catalog import Catalog
from tests.on_postgres import spare_databases

__all__ = ["spare_databases"]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of database."""
    return str(request.param)


@pytest.fixture
def url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of the test's database."""
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'catalog.db'}"
        return
    spare = request.getfixturevalue("spare_databases")
    made = spare.lend()
    yield made
    spare.give_back(made)


@pytest.fixture
def on_a_machine(url: str, tmp_path: Path) -> Iterator[Callable[..., Catalog]]:
    """Opens the database on another machine each time: nobody sees whether another's process lives."""
    opened: list[Catalog] = []

    def make(**given: Any) -> Catalog:
        made = Catalog(url, locks=tmp_path / f"machine-{len(opened)}", **given)
        opened.append(made)
        made.prepare(auto_upgrade=True)
        return made

    yield make
    for catalog in opened:
        catalog.close()
