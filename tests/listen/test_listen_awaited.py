"""A recording whose sound is another one now, and whose turns are yet to be found: nobody is extracted by its old turns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from audio_files import write

from speakerdb.catalog import activity, library, schema
from speakerdb.core.turns import AWAITED
from speakerdb.errors import DiarizationFailed, NeedsTurns
from speakerdb.people.splitting import Choice
from speakerdb.service import SpeakerDB
from speakerdb.types import Turn
from tests.listen.conftest import Ear

TURNS = (Turn(0.0, 5.0, "A"), Turn(5.0, 10.0, "B"), Turn(10.0, 20.0, "A"))


@pytest.fixture
def db(open_db: Callable[[], SpeakerDB], ear: Ear) -> SpeakerDB:
    """Its diarizer can hear nothing."""
    ear.error = DiarizationFailed("It cannot.")
    return open_db()


def other_sound(db: SpeakerDB, folder: Path, *, extracted: bool) -> None:
    """A recording with turns gets other sound, without turns."""
    file = write(folder / "a.wav", np.zeros(320_000), 16_000, codec="pcm_s16le")
    db.add(file, TURNS, recording_id="r")
    if extracted:
        db.work()
    write(folder / "a.wav", np.full(320_000, 0.1), 16_000, codec="pcm_s16le")
    db.add(file, recording_id="r")
    assert digest(db) == AWAITED
    assert db.work().recordings_diarized == 0


def digest(db: SpeakerDB) -> str:
    with db.catalog.read() as tx:
        row = library.find_recording(tx, "r")
    assert row is not None
    return row.turns_digest


def lanes(db: SpeakerDB) -> dict[str, str]:
    with db.catalog.read() as tx:
        return {lane: found.state for lane, found in activity.work_of(tx, "r").items()}


def test_a_repair_does_not_queue_what_waits_for_its_turns(db: SpeakerDB, tmp_path: Path) -> None:
    other_sound(db, tmp_path, extracted=False)
    assert lanes(db) == {"diarize": "failed"}
    db.repairer.walk()
    db.work()
    assert lanes(db) == {"diarize": "failed"}
    assert "embedded" not in {speaker.generations["v3"] for speaker in db.speakers(recording="r")}


def test_nor_for_a_vector_that_is_damaged_in_the_database(db: SpeakerDB, tmp_path: Path) -> None:
    other_sound(db, tmp_path, extracted=True)
    before = lanes(db)
    with db.catalog.job() as tx:
        tx.execute(sa.update(schema.embeddings).values(vector=bytes(8)))
        tx.execute(sa.update(schema.projections).values(version=1, indexed_version=1))  # nor does the index prove it
    db.repairer.run(vectors=True)
    assert lanes(db) == before
    db.work()
    assert "embedded" not in {speaker.generations["v3"] for speaker in db.speakers(recording="r")}


def test_nor_does_a_split(db: SpeakerDB, tmp_path: Path, ear: Ear) -> None:
    other_sound(db, tmp_path, extracted=True)
    (speaker,) = [one.id for one in db.speakers(recording="r") if one.label == "A"]
    with pytest.raises(NeedsTurns, match="other sound"):
        db.people.split(speaker, Choice(turns="1"))
    assert digest(db) == AWAITED
    ear.error = None
    db.retry(recording="r")
    assert db.work().recordings_diarized == 1
    assert digest(db) != AWAITED


def test_a_migration_is_not_held_up_by_it(db: SpeakerDB, tmp_path: Path) -> None:
    """Nobody knows who talks in it, in the source no more than in the target."""
    other_sound(db, tmp_path, extracted=True)
    db.start_migration("v4", force=True)
    db.work()
    (coverage,) = [check for check in db.check_gates().checks if check.name == "coverage"]
    assert coverage.verdict == "pass", coverage
    assert db.finalize().serving == "v4"
