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


@pytest.fixture
def open_db(tmp_path: Path, ear: Ear) -> Iterator[Callable[[], SpeakerDB]]:
    """Opens one library, whose workers are played by hand."""
    opened: list[SpeakerDB] = []

    def opener() -> SpeakerDB:
        opened.append(SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor(listen=ear)))
        return opened[-1]

    yield opener
    for each in opened:
        each.close()
