"""Libraries whose diarizer is what a test says: turns and voices by recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from speakerdb.core.exclusive import exclusive
from speakerdb.core.overlap import OverlapScores
from speakerdb.diarizers.port import Diarization
from speakerdb.extraction.task import Diarized, DiarizeTask
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings, fake_vector
from speakerdb.types import Turn
from tests.lent_library import on_either
from tests.on_postgres import spare_databases

__all__ = ["spare_databases"]


@dataclass
class Ear:
    """A diarizer by hand. What is not said has two who take turns."""

    turns: Sequence[Turn] = (Turn(0.0, 10.0, "SPEAKER_00"), Turn(9.0, 20.0, "SPEAKER_01"))
    voices: Mapping[str, str] = field(default_factory=dict)
    """By label, whose voice it is: a speaker id whose vector of `generation` and `content` it has."""
    error: Exception | None = None
    heard: list[DiarizeTask] = field(default_factory=list)

    def __call__(self, task: DiarizeTask) -> Diarized:
        return self.hear(task)

    def hear(self, task: DiarizeTask) -> Diarized:
        self.heard.append(task)
        if self.error is not None:
            raise self.error
        turns = tuple(self.turns)
        seconds = task.seconds or 20.0
        scores = OverlapScores(0.0, 0.5, [0.9] * int(seconds * 2))
        found = Diarization(turns, exclusive(turns), seconds, "by hand", scores)
        compare = task.compare
        vectors = {}
        if compare is not None:
            vectors = {
                label: fake_vector(
                    f"{compare.generation.name}/{who}/{task.content_version}", compare.generation.dimension
                )
                for label, who in self.voices.items()
            }
        return Diarized(task.recording_id, task.content_version, found, vectors, ())


@pytest.fixture
def ear() -> Ear:
    return Ear()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The queue is tried with its catalog on PostgreSQL, too."""
    if metafunc.module.__name__.endswith("test_listen_queue") and "open_db" in metafunc.fixturenames:
        metafunc.fixturenames.append("catalogs")
        real = pytest.param("postgresql", marks=pytest.mark.servers)
        metafunc.parametrize("catalogs", ["sqlite", real], indirect=True)


@pytest.fixture
def catalogs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every library of a test has its catalog in an SQLite file, then in a database on PostgreSQL."""
    with on_either(request, monkeypatch):
        yield


@pytest.fixture
def open_db(tmp_path: Path, ear: Ear, request: pytest.FixtureRequest) -> Iterator[Callable[[], SpeakerDB]]:
    """Opens one library, whose workers are played by hand."""
    if "catalogs" in request.fixturenames:
        request.getfixturevalue("catalogs")
    opened: list[SpeakerDB] = []

    def opener() -> SpeakerDB:
        opened.append(SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor(listen=ear)))
        return opened[-1]

    yield opener
    for each in opened:
        each.close()
