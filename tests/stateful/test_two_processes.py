"""What one process meets while another one moves a migration on: answers and work go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from speakerdb.catalog import leases
from speakerdb.errors import GateFailed, WritesFenced
from speakerdb.service import SpeakerDB
from speakerdb.testing.backends import FILES, Backend
from speakerdb.testing.factories import fake_extract, silence, two_voices
from speakerdb.testing.faults import SimulatedCrash
from speakerdb.testing.machine_world import World, die


@pytest.fixture
def world() -> Iterator[World]:
    """A small library."""
    with _small(FILES) as made:
        yield made


@pytest.fixture
def anywhere(backend: Backend) -> Iterator[World]:
    """A small library on files, and one on real servers."""
    with _small(backend) as made:
        yield made


@contextmanager
def _small(backend: Backend) -> Iterator[World]:
    with closing(World(backend=backend, batch_recordings=1)) as made:
        db = made.processes[0].db
        for name in ("one", "two"):
            db.add(None, two_voices(), recording_id=name, waveform=silence(20))
        db.work()
        yield made


@pytest.mark.parametrize("verb", ["rollback", "retire"])
def test_a_reader_that_knows_the_alias_of_a_moment_ago_gets_its_answer(anywhere: World, verb: str) -> None:
    one, other = (process.db for process in anywhere.processes)
    one.start_migration("v4", force=True)
    one.work()
    if verb == "rollback":
        one.finalize()
    speaker = other.speakers()[0].id
    before = other.match(speaker=speaker)
    if verb == "retire":
        one.finalize()
    getattr(one, verb)()
    after = other.match(speaker=speaker)
    assert (before.generation, after.generation) == (("v4", "v3") if verb == "rollback" else ("v3", "v4"))


@pytest.mark.parametrize("verb", ["rollback", "retire"])
def test_a_reader_is_answered_at_every_point_of_a_question(anywhere: World, verb: str) -> None:
    """The index that it has just resolved is swapped out and dropped before it searches."""
    one, other = anywhere.processes
    for point in range(1, 12):
        if one.db.migration() is None or one.db.status().migration is None:
            target = "v4" if one.db.serving.resolve(fresh=True).generation.name == "v3" else "v3"
            one.db.start_migration(target, force=True)
        one.db.work()
        one.db.finalize()
        speaker = one.db.speakers()[0].id
        other.db.serving.forget()
        other.arm(point, getattr(one.db, verb))
        assert other.db.match(speaker=speaker).matches
        anywhere.check()
        if not other.disturbed:
            return
    raise AssertionError("a question has more points than that")


def test_work_goes_on_while_another_process_finalizes(world: World) -> None:
    one, other = world.processes
    one.db.start_migration("v4", force=True)
    one.db.work()
    points = 0
    for point in range(2, 42, 4):
        one.arm(point, lambda: _work_unless_fenced(other.db))
        one.db.finalize()
        points += one.disturbed
        one.db.rollback()
        one.calm()
        one.db.start_migration("v4", force=True)
        one.db.work()
    assert points


def _work_unless_fenced(db: SpeakerDB) -> None:
    with suppress(WritesFenced):
        db.work()


def test_sound_in_memory_is_kept_until_every_live_generation_has_it(world: World) -> None:
    db = world.processes[0].db
    db.start_migration("v4", force=True)
    db.work()
    heard: dict[str, bool] = {}

    def answer(task):  # type: ignore[no-untyped-def]
        heard[task.generation.name] = task.waveform is not None
        return fake_extract(task)

    db.extraction._executor.answer = answer  # type: ignore[attr-defined]
    db.add(None, two_voices(), recording_id="three", waveform=silence(20))
    db.work()
    assert heard == {"v3": True, "v4": True}


def test_the_fence_of_the_dead_does_not_outlast_a_clock_that_is_set_back(world: World) -> None:
    one = world.processes[0]
    one.db.start_migration("v4", force=True)
    one.db.work()
    one.calm()
    one.db.check_gates()
    for point in range(1, 60):
        one.arm(point, die)
        try:
            one.db.finalize()
        except SimulatedCrash:
            with one.db.catalog.read() as tx:
                stands = leases.fenced(tx, world.clock.now, 60.0)
            one = world.kill(0)
            if stands:
                break
    world.jump(-3600)
    one.db.add(None, two_voices(), recording_id="three", waveform=silence(20))


def test_nothing_slips_in_between_the_proof_and_the_announcement(world: World) -> None:
    """The monitor asserts, as the intention is committed, that the target is complete."""
    one, other = world.processes
    one.db.start_migration("v4", force=True)
    one.db.work()
    outcomes: set[str] = set()
    for point in range(1, 40):
        one.arm(point, lambda number=point: _add_unless_fenced(other.db, f"late-{number}", outcomes))  # type: ignore[misc]
        try:
            one.db.finalize()
        except GateFailed:
            outcomes.add("refused")
        one.calm()
        world.check()
        one.db.work()
        if one.db.status().serving == "v4":
            outcomes.add("swapped")
            one.db.rollback()
            one.db.start_migration("v4", force=True)
            one.db.work()
    assert outcomes == {"added", "fenced", "refused", "swapped"}


def _add_unless_fenced(db: SpeakerDB, recording: str, outcomes: set[str]) -> None:
    try:
        db.add(None, two_voices(), recording_id=recording, waveform=silence(20))
    except WritesFenced:
        outcomes.add("fenced")
    else:
        outcomes.add("added")


def test_a_voice_that_was_removed_is_no_answer_while_its_document_is_still_there(anywhere: World) -> None:
    one, other = (process.db for process in anywhere.processes)
    first, second = {each.recording_id: each.id for each in one.speakers()}.values()
    assert second in {match.id for match in other.match(speaker=first).matches}
    one.remove("two")
    assert second not in {match.id for match in other.match(speaker=first).matches}
