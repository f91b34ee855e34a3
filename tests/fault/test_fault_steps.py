"""Lost requests, lost answers, part of a write, and crashes around every commit, in extraction and projection.

After recovery the library equals one that nothing happened to: the vectors are what `fake_vector` says they must be,
and the index holds what SQL says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_kit import rows

from speakerdb.catalog.database import Database, Transaction
from speakerdb.errors import BackendError, IndexUnavailable
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings, fake_vector, silence, two_voices
from speakerdb.testing.faults import Fault, FaultQueue, FaultyIndex, SimulatedCrash

RECORDINGS = 5


class Crashing:
    """Counts commits; the chosen one crashes, before it stands or after. Later ones pass: it died only once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commits = 0
        self.at: tuple[int, str] | None = None
        write = Database.write

        @contextmanager
        def watched(database: Database) -> Iterator[Transaction]:
            number, self.commits = self.commits, self.commits + 1
            with write(database) as tx:
                yield tx
                if self.at == (number, "before"):
                    raise SimulatedCrash(f"before commit {number}")
            if self.at == (number, "after"):
                raise SimulatedCrash(f"after commit {number}")

        monkeypatch.setattr(Database, "write", watched)


class Later:
    """A clock that can be put forward, past the expiry of what a dead process held."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000

    def __call__(self) -> int:
        self.now += 1
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += int(seconds * 1e6)


@pytest.fixture
def clock() -> Later:
    return Later()


def opened(folder: Path, clock: Later, plan: FaultQueue | None = None) -> SpeakerDB:
    index = EmbeddedIndex(folder / "index.db")
    return SpeakerDB.open(
        fake_settings(folder, batch_recordings=2),
        index=FaultyIndex(index, plan) if plan else index,
        executor=FakeExecutor(),
        clock=clock,
    )


def filled(folder: Path, clock: Later, plan: FaultQueue | None = None) -> SpeakerDB:
    folder.mkdir(exist_ok=True)
    db = opened(folder, clock, plan)
    ann = db.create_profile("Ann").id
    for number in range(RECORDINGS):
        report = db.add(None, two_voices(), recording_id=f"r{number}", waveform=silence(20))
        db.rename_speaker(report.speakers["SPEAKER_00"], f"name {number}")
        if number < 2:
            db.assign(report.speakers["SPEAKER_00"], ann)
    return db


def is_as_if_nothing_had_happened(db: SpeakerDB) -> None:
    data = db.settings.data_dir
    assert rows(data, "SELECT state, count(*) FROM work_items GROUP BY state") == [("done", RECORDINGS)]
    assert rows(data, "SELECT count(*) FROM projections WHERE version <> indexed_version OR rejected_version > 0") == [
        (0,)
    ]
    speakers = db.speakers()
    assert len(speakers) == 2 * RECORDINGS
    assert sum(s.name is not None for s in speakers) == RECORDINGS
    ids = [s.id for s in speakers]
    held = EmbeddedIndex(data / "index.db")
    try:
        documents = {d.id: d for d in held.scan("speakers_v3")}
    finally:
        held.close()
    versions = dict(rows(data, "SELECT entity_id, version FROM projections"))
    stored = {e: np.frombuffer(v, "<f4") for e, v in rows(data, "SELECT entity_id, vector FROM embeddings")}
    assert documents.keys() == versions.keys() == stored.keys()
    assert len(documents) == 2 * RECORDINGS + 1, "and one profile"
    for key, document in documents.items():
        assert document.version == versions[key]
        assert document.vector is not None
        assert np.array_equal(document.vector, stored[key])
        if key in ids:
            assert np.allclose(document.vector, fake_vector(f"v3/{key}/1", 24), atol=1e-6)
    ann = [fake_vector(f"v3/{s.id}/1", 24) for s in speakers if s.profile_name == "Ann"]
    (profile,) = (d for d in documents.values() if d.kind == "profile")
    mean = np.sum(ann, axis=0) / np.linalg.norm(np.sum(ann, axis=0))
    assert profile.vector is not None
    assert np.allclose(profile.vector, mean, atol=1e-5)
    assert db.match(speaker=ids[0]).matches


def crashes(act: Callable[[], Any]) -> bool:
    """Whether the process dies. It lets go of nothing: the object is left as it lies, only its files are closed."""
    try:
        act()
    except SimulatedCrash:
        return True
    return False


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_every_commit_of_work(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Later
) -> None:
    crashing = Crashing(monkeypatch)
    with filled(tmp_path / "whole", clock) as db:
        begun = crashing.commits
        db.work()
        total = crashing.commits - begun
        is_as_if_nothing_had_happened(db)
    assert total >= 6
    for number in range(total):
        folder = tmp_path / f"{when}-{number}"
        crashing.at = None
        with filled(folder, clock) as db:
            waveforms = dict(db.extraction._waveforms)
            crashing.at = (crashing.commits + number, when)
            assert crashes(db.work), number
        clock.forward(3600)
        with opened(folder, clock) as db:
            for recording, sound in waveforms.items():
                db.extraction.keep(recording, sound)
            db.work()
            is_as_if_nothing_had_happened(db)
            assert rows(folder, "SELECT max(attempts) FROM work_items") <= [(2,)]


@pytest.mark.parametrize(
    "fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LOSE_REQUEST, Fault.LOSE_ACK, Fault.PART]
)
@pytest.mark.parametrize("number", [0, 2])
def test_a_bulk_write_that_goes_wrong(fault: Fault, number: int, tmp_path: Path, clock: Later) -> None:
    """The row still says "project me"; a document that is there already is recognised, not written over."""
    plan = FaultQueue()
    with filled(tmp_path / "data", clock, plan) as db:
        plan.next("bulk", *[Fault.PASS] * number, fault)
        with pytest.raises((IndexUnavailable, SimulatedCrash)):
            db.work()
        assert plan.waiting == 0
    clock.forward(3600)
    with opened(tmp_path / "data", clock) as db:
        db.work()
        is_as_if_nothing_had_happened(db)


def test_a_step_whose_answer_was_lost_counts_as_confirmed(tmp_path: Path, clock: Later) -> None:
    plan = FaultQueue()
    with filled(tmp_path / "data", clock, plan) as db:
        plan.next("bulk", Fault.LOSE_ACK)
        with pytest.raises(IndexUnavailable):
            db.work()
        report = db.projector.step(db.generations["v3"])
        assert (report.written, report.confirmed, report.ahead) == (0, 4, 0)
        db.work()
        is_as_if_nothing_had_happened(db)


def test_a_step_of_which_half_was_written(tmp_path: Path, clock: Later) -> None:
    plan = FaultQueue()
    with filled(tmp_path / "data", clock, plan) as db:
        plan.next("bulk", Fault.PART)
        with pytest.raises(IndexUnavailable):
            db.work()
        report = db.projector.step(db.generations["v3"])
        assert (report.written, report.confirmed, report.ahead) == (2, 2, 0)


def test_a_conflict_that_cannot_be_resolved_now_is_resolved_later(tmp_path: Path, clock: Later) -> None:
    plan = FaultQueue()
    with filled(tmp_path / "data", clock, plan) as db:
        plan.next("bulk", Fault.LOSE_ACK)
        plan.next("fetch", Fault.LOSE_REQUEST)
        for _ in range(2):
            with pytest.raises(IndexUnavailable):
                db.work()
        assert plan.waiting == 0
        db.work()
        is_as_if_nothing_had_happened(db)


def test_a_change_between_reading_and_acknowledging_is_written_too(tmp_path: Path, clock: Later) -> None:
    """The version is raised while its document is on its way: the acknowledgement of the old one must not cover it."""
    plan = FaultQueue()
    with filled(tmp_path / "data", clock, plan) as db:
        db.work()
        ben = db.create_profile("Ben").id
        moved = db.speakers(recording="r4")[0].id
        db.assign(moved, ben)

        def change(call: str, when: str) -> None:
            if (call, when) == ("bulk", "after") and ben:
                db.index._callbacks.clear()  # type: ignore[attr-defined]
                db.assign(moved, None)

        db.index.on_call(change)  # type: ignore[attr-defined]
        db.projector.step(db.generations["v3"])
        assert rows(db.settings.data_dir, "SELECT count(*) FROM projections WHERE version > indexed_version") == [(1,)]
        db.work()
        (document,) = db.index.fetch("speakers_v3", [moved]).values()
        assert document.profile_id is None


def test_an_index_that_stays_away_loses_nothing(tmp_path: Path, clock: Later) -> None:
    plan = FaultQueue()
    with filled(tmp_path / "data", clock, plan) as db:
        plan.next("bulk", *[Fault.LOSE_REQUEST] * 4)
        for _ in range(4):
            with pytest.raises(BackendError):
                db.work()
        db.work()
        is_as_if_nothing_had_happened(db)
