from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices

Open = Callable[..., SpeakerDB]


@pytest.fixture
def executor() -> FakeExecutor:
    return FakeExecutor()


@pytest.fixture
def open_db(tmp_path: Path, executor: FakeExecutor) -> Iterator[Open]:
    """Opens the library, as one process more each time."""
    opened: list[SpeakerDB] = []

    def make(**more: Any) -> SpeakerDB:
        opened.append(SpeakerDB.open(fake_settings(tmp_path / "data", **more), executor=executor))
        return opened[-1]

    yield make
    for db in opened:
        db.close()


def add(db: SpeakerDB, *names: str) -> None:
    for name in names:
        db.add(None, two_voices(), recording_id=name, waveform=silence(20))


@pytest.fixture
def migrating(open_db: Open) -> SpeakerDB:
    """v3 serves, and v4 has everything."""
    db = open_db()
    add(db, "a", "b")
    db.work()
    db.start_migration("v4", force=True)
    db.work()
    return db


@pytest.fixture
def finalized(migrating: SpeakerDB) -> SpeakerDB:
    """v4 serves, and v3 is kept current."""
    migrating.finalize()
    return migrating
