"""A catalog in a database of its own, of either kind, with a clock that stands still until a test moves it."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from speakerdb.catalog import journal, library, vectors, work
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.library import RecordingRow
from speakerdb.catalog.vectors import EmbeddingRow
from speakerdb.core.pooling import pool
from speakerdb.core.turns import turns_digest
from speakerdb.generations import V3, V4
from speakerdb.testing.factories import fake_vector, two_voices
from speakerdb.types import Generation, Kind, Turn
from tests.on_postgres import spare_databases

__all__ = ["spare_databases"]


@dataclass
class Clock:
    """Microseconds, by hand."""

    now: int = 1_000_000_000_000

    def __call__(self) -> int:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += int(seconds * 1e6)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of database."""
    return str(request.param)


@pytest.fixture
def new_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Makes addresses of databases that are empty."""
    if kind == "sqlite":
        numbers = itertools.count()
        yield lambda: f"sqlite:///{tmp_path / f'{next(numbers)}.db'}"
        return
    yield request.getfixturevalue("postgres").new_database


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
def catalog(url: str, tmp_path: Path, clock: Clock) -> Iterator[Catalog]:
    made = open_catalog(url, tmp_path, clock)
    yield made
    made.close()


def open_catalog(url: str, folder: Path, clock: Clock) -> Catalog:
    made = Catalog(url, locks=folder / "locks", fence_patience=0.2, clock=clock)
    made.prepare(auto_upgrade=True)
    with made.job() as tx:
        for generation in (V3, V4):
            journal.register_generation(tx, generation, clock())
        journal.set_live(tx, "v3", live=True)
    return made


def add(catalog: Catalog, name: str, turns: tuple[Turn, ...] | None = None) -> dict[str, str]:
    """A recording with queued work for the live generations; speaker ids by label."""
    chosen = turns or two_voices()
    with catalog.change() as tx:
        now = catalog.now()
        home = library.ensure_library(tx, "default", now)
        row = RecordingRow(name, home, None, None, 20.0, turns_digest(chosen), 1)
        library.insert_recording(tx, row, now)
        ids, _ = library.write_turns(tx, name, chosen, now)
        work.enqueue(tx, name, journal.live_generations(tx), "new", now)
    return ids


def embed(catalog: Catalog, speaker: str, generation: Generation = V3, text: str = "") -> None:
    """Give a speaker a vector."""
    vector = fake_vector(text or speaker, generation.dimension)
    row = EmbeddingRow(speaker, Kind.SPEAKER, pool(vector[None], [5.0]), generation.recipe.digest, 1)
    with catalog.change() as tx:
        home = library.library_id(tx, "default")
        vectors.write_embeddings(tx, generation.name, [row], {speaker: home}, catalog.now())
