"""A library on disk whose extraction is answered without sound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def open_db(data: Path) -> Iterator[Callable[..., SpeakerDB]]:
    opened: list[SpeakerDB] = []

    def make(**more: Any) -> SpeakerDB:
        opened.append(SpeakerDB.open(fake_settings(data, **more), executor=FakeExecutor()))
        return opened[-1]

    yield make
    for db in opened:
        db.close()


@pytest.fixture
def db(open_db: Callable[..., SpeakerDB]) -> SpeakerDB:
    return open_db()
