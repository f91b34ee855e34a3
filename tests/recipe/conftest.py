from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from synthetic_voices import MadeUp, make_library

from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import fake_settings


@pytest.fixture(scope="session")
def talks(tmp_path_factory: pytest.TempPathFactory) -> list[MadeUp]:
    """Six recordings of 32 s: recording i has the voices i and i + 1 (modulo 3), each with 16 s."""
    return make_library(tmp_path_factory.mktemp("recipe") / "media", 6, voices=3, seconds=8.0)


@pytest.fixture
def db(tmp_path: Path, talks: list[MadeUp]) -> Iterator[SpeakerDB]:
    """A library of the talks, with spectral models that need no weights; nothing is extracted."""
    settings = fake_settings(tmp_path / "data", dimensions={"v3": 64, "v4": 48})
    with SpeakerDB.open(settings) as opened:
        for talk in talks:
            opened.add(talk.path, talk.turns, recording_id=talk.stem)
        yield opened
