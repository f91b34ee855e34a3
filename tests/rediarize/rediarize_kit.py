"""A library whose recordings are diarized again by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from speakerdb.catalog import activity, library, work
from speakerdb.diarizers.asked import NOTHING_ASKED, Asked
from speakerdb.reports import WorkReport
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence
from speakerdb.types import Turn
from tests.listen.conftest import Ear

SECONDS = 30.0


def by_hand(folder: Path, ear: Ear, **more: Any) -> SpeakerDB:
    """A library whose diarizer is by hand, for what is queued and for what is looked at."""
    executor = FakeExecutor(listen=lambda task: ear(task))
    db = SpeakerDB.open(fake_settings(folder), executor=executor, **more)
    db.rediarizing._executor = lambda: executor
    return db


def turns(*stretches: tuple[float, float, str]) -> tuple[Turn, ...]:
    return tuple(Turn(*each) for each in stretches)


THREE = turns((0.0, 10.0, "A"), (10.0, 20.0, "B"), (20.0, 30.0, "C"))


def added(db: SpeakerDB, name: str = "r", given: Sequence[Turn] = THREE) -> dict[str, str]:
    """A recording in memory that is extracted already; its speakers' ids by label."""
    ids = dict(db.add(None, given, recording_id=name, waveform=silence(SECONDS)).speakers)
    db.work()
    return ids


def again(db: SpeakerDB, name: str = "r", asked: Asked = NOTHING_ASKED) -> WorkReport:
    """Diarize it again, and extract it."""
    db.extraction.keep(name, silence(SECONDS))
    db.rediarizing.queue([name], asked)
    return db.work()


def worked(db: SpeakerDB, name: str = "r") -> WorkReport:
    """Whatever is queued, with the sound of a recording at hand."""
    db.extraction.keep(name, silence(SECONDS))
    return db.work()


def row_of(db: SpeakerDB, name: str = "r") -> library.RecordingRow:
    with db.catalog.read() as tx:
        row = library.find_recording(tx, name)
    assert row is not None
    return row


def turns_of(db: SpeakerDB, name: str = "r") -> list[tuple[float, float, str]]:
    """With speaker ids."""
    with db.catalog.read() as tx:
        _, found = library.snapshot(tx, [name])[name]
    return [(turn.start, turn.end, turn.speaker) for turn in found]


def said_of(db: SpeakerDB, name: str = "r") -> dict[str, tuple[str, str | None, str | None]]:
    """Label, name and profile of each speaker."""
    return {one.id: (one.label, one.name, one.profile_id) for one in db.speakers(recording=name)}


def state_of(db: SpeakerDB, name: str = "r") -> str | None:
    """Of the item that finds its turns."""
    with db.catalog.read() as tx:
        found = activity.work_of(tx, name).get(work.DIARIZE)
    return None if found is None else found.state


def are_searchable(db: SpeakerDB, generation: str, ids: Iterable[str]) -> bool:
    """Whether a generation's index answers with each of these."""
    held = db.index.fetch(db.serving.index_of(db.generations[generation]), list(ids))
    return all(id in held and held[id].vector is not None for id in ids)
