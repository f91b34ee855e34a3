from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices

Open = Callable[..., SpeakerDB]
SWITCHES = ("PYANNOTE_MODE", "PYANNOTE_VERSION", "PYANNOTE_FALLBACK")


@pytest.fixture(autouse=True)
def no_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def open_db(tmp_path: Path) -> Iterator[Open]:
    opened: list[SpeakerDB] = []

    def make(**more: Any) -> SpeakerDB:
        opened.append(SpeakerDB.open(fake_settings(tmp_path, **more), executor=FakeExecutor()))
        return opened[-1]

    yield make
    for db in opened:
        db.close()


def add(db: SpeakerDB, name: str, **more: Any) -> list[str]:
    """A recording with two voices; the ids of its speakers."""
    found = db.add(None, two_voices(), recording_id=name, waveform=silence(20), **more)
    return [found.speakers[label] for label in sorted(found.speakers)]
