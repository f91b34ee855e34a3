"""Places for libraries, in memory where there is some: a test opens and kills many processes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import fake_settings
from tests.adoption.legacy import Stage


@pytest.fixture
def make() -> Iterator[Callable[[], Stage]]:
    """Makes installations that nobody has opened yet."""
    memory = Path("/dev/shm")  # noqa: S108  only to be fast
    folder = Path(tempfile.mkdtemp(prefix="speakerdb-adoption-", dir=memory if memory.is_dir() else None))
    made: list[Stage] = []
    SpeakerDB.upgrade(fake_settings(folder / "empty"))
    catalog = (folder / "empty" / "catalog.db").read_bytes()

    def new() -> Stage:
        home = folder / str(len(made))
        home.mkdir()
        (home / "catalog.db").write_bytes(catalog)
        stage = Stage(fake_settings(home, auto_upgrade=False))
        made.append(stage)
        return stage

    yield new
    for stage in made:
        stage.close()
    shutil.rmtree(folder)


@pytest.fixture
def stage(make: Callable[[], Stage]) -> Stage:
    """One installation."""
    return make()
