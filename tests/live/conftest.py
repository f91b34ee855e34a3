from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings

Open = Callable[..., SpeakerDB]


@pytest.fixture
def open_db(tmp_path: Path) -> Iterator[Open]:
    """Opens the library, as one process more each time."""
    opened: list[SpeakerDB] = []

    def make(*, executor: Any = None, **more: Any) -> SpeakerDB:
        opened.append(SpeakerDB.open(fake_settings(tmp_path, **more), executor=executor or FakeExecutor()))
        return opened[-1]

    yield make
    for db in opened:
        db.close()


@pytest.fixture
def db(open_db: Open) -> SpeakerDB:
    return open_db()
