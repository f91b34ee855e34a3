"""What a review found about gates, swaps and roll-back: wrong indices that passed, states without a way out."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from speakerdb.errors import GateFailed, SpeakerDBError
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.migrator import gates
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings, fake_vector, silence, two_voices
from speakerdb.types import AliasAction, Document, Filter, FloatArray, Hit, Kind

HOUR = 3_600_000_000


@pytest.fixture
def open_db(tmp_path: Path) -> Iterator[Callable[..., SpeakerDB]]:
    opened: list[SpeakerDB] = []

    def make(clock: Any = None) -> SpeakerDB:
        opened.append(SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor(), clock=clock))
        return opened[-1]

    yield make
    for db in opened:
        db.close()


def filled(db: SpeakerDB, *names: str) -> SpeakerDB:
    for name in names or ("a", "b"):
        db.add(None, two_voices(), recording_id=name, waveform=silence(20))
    db.work()
    return db


def migrating(db: SpeakerDB) -> SpeakerDB:
    filled(db)
    db.start_migration("v4", force=True)
    db.work()
    return db


def test_a_document_that_is_ahead_of_the_watermark_is_compared(open_db: Callable[..., SpeakerDB]) -> None:
    """After a restored database; only the sample of read-back could have found it, and it is small."""
    db = migrating(open_db())
    generation = db.generations["v4"]
    speaker = db.speakers()[0].id
    held = db.index.fetch(generation.index_name, [speaker])[speaker]
    db.index.bulk(generation.write_alias, [replace(held, version=2**60, vector=fake_vector("another", 16))])
    assert gates.equality(db.catalog, db.index, generation, generation.index_name, db.catalog.now()).verdict == "fail"
    with pytest.raises(GateFailed):
        db.finalize()


class OtherVectors(EmbeddedIndex):
    """Gives back what was written, and searches in something else: an engine keeps the two apart."""

    def search(self, index: str, queries: FloatArray, k: int, where: Filter | None = None) -> Sequence[Sequence[Hit]]:
        return super().search(index, -queries, k, where or Filter())

    def reopened(self) -> "OtherVectors":
        return OtherVectors(self.path)


def test_a_voice_that_its_own_vector_does_not_find_is_not_proven(open_db: Callable[..., SpeakerDB]) -> None:
    db = migrating(open_db())
    generation = db.generations["v4"]
    assert gates.read_back(db.catalog, db.index, generation, generation.index_name).verdict == "pass"
    with closing(OtherVectors(db.settings.index_path)) as other:
        check = gates.read_back(db.catalog, other, generation, generation.index_name)
    assert (check.verdict, check.value) == ("fail", "4 of 4 sampled documents equal, 0 of 4 found")


def test_a_document_that_sql_does_not_know_is_found_however_new(open_db: Callable[..., SpeakerDB]) -> None:
    db = migrating(open_db())
    alias = db.generations["v4"].write_alias
    db.index.bulk(alias, [Document("spk_x", 2**60, "x", Kind.SPEAKER, "lib", None, None, fake_vector("x", 16))])
    with pytest.raises(GateFailed):
        db.finalize()


def test_a_roll_back_compares_documents_from_before_the_clock_was_moved_back(
    open_db: Callable[..., SpeakerDB],
) -> None:
    """Every version was above "now", so an empty source index was proven equal, and served."""
    now = [time.time_ns() // 1000 + HOUR]
    db = migrating(open_db(clock=lambda: now[0]))
    db.finalize()
    now[0] -= HOUR
    db.index.drop("speakers_v3")
    db.serving.make_index(db.generations["v3"])
    with pytest.raises(GateFailed):
        db.rollback()


def test_what_an_older_database_left_in_the_target_index_does_not_stop_a_migration_for_ever(
    tmp_path: Path, open_db: Callable[..., SpeakerDB]
) -> None:
    """The index of a migration that the restored database never heard of is taken over with its orphans; the gate's
    hint, `index rebuild`, leaves them there. (Cancelling and starting again helps.)"""
    db = filled(open_db())
    db.close()
    saved = (tmp_path / "catalog.db").read_bytes()
    db = open_db()
    db.start_migration("v4", force=True)
    filled(db, "late")
    db.close()
    for file in tmp_path.glob("catalog.db*"):
        file.unlink()
    (tmp_path / "catalog.db").write_bytes(saved)
    db = open_db()
    db.start_migration("v4", force=True)
    db.work()
    try:
        db.finalize()
    except GateFailed:
        db.rebuild_index("v4")
        db.finalize()
    assert db.match(speaker=db.speakers()[0].id).generation == "v4"


def test_rollback_now_has_a_way_out_when_the_serving_index_is_gone(open_db: Callable[..., SpeakerDB]) -> None:
    """`--now` is for the day the target misbehaves. Its alias went with the index; the swap was announced and could
    then be decided by nobody: `SafetyStop` from every command, and `index rebuild` did not give the alias back."""
    db = migrating(open_db())
    db.finalize()
    db.index.drop("speakers_v4")
    attempts: list[Callable[[], object]] = [
        lambda: db.rollback(now=True),
        lambda: db.rebuild_index("v4"),
        lambda: db.rollback(now=True),
    ]
    for attempt in attempts:
        try:
            attempt()
        except SpeakerDBError:
            continue
    assert db.match(speaker=db.speakers()[0].id).generation == "v3"


def test_an_index_that_is_lost_during_a_swap_can_be_built_again(
    tmp_path: Path, open_db: Callable[..., SpeakerDB]
) -> None:
    db = migrating(open_db())
    real = db.index.update_aliases

    def killed(actions: list[AliasAction]) -> None:
        if any(action.verb == "remove" and action.must_exist for action in actions):
            raise KeyboardInterrupt
        real(actions)

    db.index.update_aliases = killed  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        db.finalize()
    db.close()
    for file in tmp_path.glob("index.db*"):
        file.unlink()
    db = open_db()
    for mend in (db.work, lambda: db.rebuild_index("v3"), lambda: db.rebuild_index("v4"), db.work, db.finalize):
        try:
            mend()
        except SpeakerDBError:
            continue
    assert db.match(speaker=db.speakers()[0].id).generation == "v4"
