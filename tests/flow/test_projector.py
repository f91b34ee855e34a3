"""Rows to documents: what an answer of the index means."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speakerdb.errors import IndexMissing, IndexUnavailable
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings, fake_vector
from speakerdb.testing.faults import Fault, FaultQueue, FaultyIndex
from speakerdb.types import Document, WriteOutcome
from tests.flow.conftest import add


def held(db: SpeakerDB, speaker: str) -> Document:
    return db.index.fetch("speakers_v3", [speaker])[speaker]


def waiting(db: SpeakerDB) -> int:
    return db.progress("v3").documents_waiting


def test_a_conflict_is_not_success(db: SpeakerDB) -> None:
    """An index that holds a higher version with another content, as after a restored database, is overtaken."""
    speaker = add(db, "r").speakers["SPEAKER_00"]
    db.work()
    right = held(db, speaker)
    ahead = replace(right, version=right.version + 10**9, vector=fake_vector("wrong", 24), content_hash="wrong")
    assert db.index.bulk("speakers_v3_write", [ahead])[0].outcome is WriteOutcome.WRITTEN
    with db.catalog.change() as tx:
        tx.exec_driver_sql("UPDATE projections SET version = version + 1")
    report = db.projector.step(db.generations["v3"])
    assert (report.ahead, report.written) == (1, 1)
    db.work()
    now = held(db, speaker)
    assert now.version > ahead.version
    np.testing.assert_array_equal(now.vector, right.vector)
    assert waiting(db) == 0


def test_a_lost_acknowledgement_is_confirmed_by_content_and_writes_nothing_twice(tmp_path: Path) -> None:
    faults = FaultQueue()
    index = FaultyIndex(EmbeddedIndex(tmp_path / "index.db"), faults)
    with SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor(), index=index) as db:
        speaker = add(db, "r").speakers["SPEAKER_00"]
        faults.next("bulk", Fault.LOSE_ACK)
        with pytest.raises(IndexUnavailable):
            db.work()
        assert waiting(db) == 2
        version = held(db, speaker).version
        report = db.projector.step(db.generations["v3"])
        assert (report.written, report.confirmed) == (0, 2)
        assert held(db, speaker).version == version
        assert waiting(db) == 0


def test_a_lost_index_is_an_error_and_is_not_made_again_without_its_mapping(db: SpeakerDB) -> None:
    speaker = add(db, "r").speakers["SPEAKER_00"]
    db.work()
    db.index.drop("speakers_v3")
    db.rename_speaker(speaker, "Ann")
    add(db, "s")
    with pytest.raises(IndexMissing):
        db.work()
    assert "speakers_v3" not in db.index.indices()
    assert ("index-missing", "speakerdb index rebuild v3") in [(p.code, p.command) for p in db.status().problems]
    assert db.rebuild_index("v3").documents == 4
    assert db.match(speaker=speaker).generation == "v3"
    assert db.speaker(speaker).name == "Ann"


def test_a_second_drain_writes_nothing(db: SpeakerDB) -> None:
    add(db, "r")
    db.work()
    before = {d.id: d.version for d in db.index.scan("speakers_v3")}
    assert db.work().documents_written == 0
    assert {d.id: d.version for d in db.index.scan("speakers_v3")} == before


def test_an_index_that_is_gone_keeps_no_other_from_its_documents(db: SpeakerDB) -> None:
    add(db, "one")
    db.work()
    db.start_migration("v4", force=True)
    add(db, "two")
    db.index.drop(db.serving.index_of(db.generations["v3"]))
    with pytest.raises(IndexMissing):
        db.work()
    assert db.progress("v4").documents_waiting == 0
    db.index.refresh("speakers_v4")
    assert db.index.indices()["speakers_v4"].documents == 4
