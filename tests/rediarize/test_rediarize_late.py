"""What comes back late: of an item that was dropped while it ran, and whose place another one has by then."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from rediarize_kit import SECONDS, THREE, row_of, said_of, turns, turns_of

from speakerdb.catalog import activity
from speakerdb.catalog.leases import Lease
from speakerdb.diarizers.asked import Asked
from speakerdb.extraction.task import DiarizeTask, Task
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_extract, fake_settings, silence
from tests.listen.conftest import Ear


class Late(FakeExecutor):
    """Three workers. What is given to them while it holds stays with them until the test answers it."""

    width = 3

    def __init__(self, ear: Ear) -> None:
        super().__init__(listen=lambda task: ear(task))
        self.ear = ear
        self.holds = False
        self.held: list[tuple[Any, Future[Any]]] = []

    def submit(self, function: Any, task: Any, **how: Any) -> Future[Any]:
        if not (self.holds and isinstance(task, (Task, DiarizeTask))):
            return super().submit(function, task, **how)
        self.held.append((task, Future()))
        return self.held[-1][1]

    def answer_next(self) -> None:
        """The one that was given first has finished."""
        task, future = self.held.pop(0)
        future.set_result(fake_extract(task) if isinstance(task, Task) else self.ear(task))


@pytest.fixture
def late(ear: Ear) -> Late:
    return Late(ear)


@pytest.fixture
def db(tmp_path: Path, late: Late, catalogs: None) -> Iterator[SpeakerDB]:
    with SpeakerDB.open(fake_settings(tmp_path / "library"), executor=late) as opened:
        yield opened


@pytest.fixture
def lease(db: SpeakerDB, ear: Ear, late: Late) -> Iterator[Lease]:
    """One coordinator. A recording with a name is extracted, and two voices are heard in it from now on."""
    ids = dict(db.add(None, THREE, recording_id="r", waveform=silence(SECONDS)).speakers)
    db.work()
    db.rename_speaker(ids["C"], "Cem")
    ear.turns = turns((0.0, 10.0, "S0"), (10.0, 20.0, "S1"))
    late.holds = True
    with db.catalog.holding("work") as held:
        db.extraction.begin(held)
        yield held
        late.holds = False
        db.extraction.abandon(held)


def ask(db: SpeakerDB, asked: Asked) -> None:
    db.extraction.keep("r", silence(SECONDS))
    db.rediarizing.queue(["r"], asked)


def embedded(db: SpeakerDB, name: str) -> set[str]:
    return {one.generations["v3"] for one in db.speakers(recording=name)}


def state_of(db: SpeakerDB, name: str) -> str:
    """Of the item of what serves."""
    with db.catalog.read() as tx:
        return activity.work_of(tx, name)["v3"].state


def named(db: SpeakerDB) -> set[str]:
    return {name for _, name, _ in said_of(db).values() if name is not None}


def test_another_recording_has_its_number_by_then(db: SpeakerDB, lease: Lease, late: Late) -> None:
    """SQLite gives the number of the last row that was deleted to the next one."""
    was = turns_of(db)
    ask(db, Asked(accept_lost=True))
    db.extraction.step(lease)
    assert db.rediarizing.keep(["r"]).recordings == 1
    db.add(None, THREE, recording_id="x", waveform=silence(SECONDS))
    db.extraction.step(lease)
    late.answer_next()
    db.extraction.step(lease)
    assert turns_of(db) == was
    assert state_of(db, "x") == "taken"
    late.answer_next()
    assert db.extraction.step(lease).done == 1
    assert embedded(db, "x") == {"embedded"}


@pytest.mark.parametrize("kept", [True, False], ids=["kept-meanwhile", "asked-twice"])
def test_the_answer_to_what_was_asked_before_is_not_the_answer(
    db: SpeakerDB, lease: Lease, late: Late, *, kept: bool
) -> None:
    """First the name might go, then it may not."""
    ask(db, Asked(accept_lost=True))
    db.extraction.step(lease)
    if kept:
        db.rediarizing.keep(["r"])
    ask(db, Asked())
    db.extraction.step(lease)
    late.answer_next()
    assert db.extraction.step(lease).diarized == 0
    assert (named(db), row_of(db).content_version) == ({"Cem"}, 1)
    late.answer_next()
    (error,) = db.extraction.step(lease).errors
    assert (error.code, named(db)) == ("names-unmapped", {"Cem"})


def test_a_migration_that_was_cancelled_finishes_nothing_of_others(db: SpeakerDB, lease: Lease, late: Late) -> None:
    db.extraction.keep("r", silence(SECONDS))
    db.start_migration("v4", force=True)
    db.extraction.step(lease)
    db.cancel()
    db.add(None, THREE, recording_id="x", waveform=silence(SECONDS))
    db.extraction.step(lease)
    late.answer_next()
    db.extraction.step(lease)
    assert state_of(db, "x") == "taken"
    late.answer_next()
    assert db.extraction.step(lease).done == 1
    assert embedded(db, "x") == {"embedded"}
