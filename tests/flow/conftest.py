"""A library without sound: `FakeExecutor` answers extraction, so every vector is known beforehand."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from speakerdb.reports import AddReport
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices
from speakerdb.types import Turn

Add: TypeAlias = Callable[..., AddReport]


@pytest.fixture
def executor() -> FakeExecutor:
    return FakeExecutor()


@pytest.fixture
def open_db(tmp_path: Path, executor: FakeExecutor) -> Iterator[Callable[..., SpeakerDB]]:
    opened: list[SpeakerDB] = []

    def make(*, folder: Path = tmp_path, index: Any = None, clock: Any = None, **more: Any) -> SpeakerDB:
        opened.append(SpeakerDB.open(fake_settings(folder, **more), executor=executor, index=index, clock=clock))
        return opened[-1]

    yield make
    for db in opened:
        db.close()


@pytest.fixture
def db(open_db: Callable[..., SpeakerDB]) -> SpeakerDB:
    return open_db()


def add(db: SpeakerDB, name: str, turns: tuple[Turn, ...] | None = None, **more: Any) -> AddReport:
    """A recording of 20 s given in memory, with two voices unless told otherwise."""
    return db.add(None, two_voices() if turns is None else turns, recording_id=name, waveform=silence(20), **more)


def migrate(db: SpeakerDB, target: str = "v4") -> None:
    """Start, drain, finalize. Sound in memory fails the pre-flight's look at the files, so it is forced."""
    db.start_migration(target, force=True)
    db.work()
    db.finalize()
