"""Draining with workers that have several recordings in them: nobody waits for another, and nothing wrong gets in."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extraction_kit import PATIENCE, Threads, add, answered, states, tried

from speakerdb.errors import BackendError, DatabaseUnavailable, GenerationChanged, IndexUnavailable, LeaseLost
from speakerdb.executors import ProcessExecutor
from speakerdb.extraction import Extracted, Loader, Task
from speakerdb.extraction.drain import Extraction
from speakerdb.models.registry import LoadedModel
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_extract, fake_settings
from speakerdb.types import Embedding, Generation

Open = Callable[..., SpeakerDB]


@pytest.fixture
def open_db(tmp_path: Path) -> Iterator[Open]:
    opened: list[SpeakerDB] = []

    def make(executor: Any, **more: Any) -> SpeakerDB:
        opened.append(SpeakerDB.open(fake_settings(tmp_path, **more), executor=executor))
        return opened[-1]

    yield make
    for db in opened:
        db.close()


def both_live(db: SpeakerDB) -> None:
    db.start_migration("v4", force=True)


def test_a_recording_that_takes_long_keeps_neither_the_next_batches_nor_the_index_waiting(open_db: Open) -> None:
    gate = threading.Event()

    def answer(task: Task) -> Extracted:
        if task.recording_id == "slow":
            assert gate.wait(PATIENCE)
        return fake_extract(task)

    db = open_db(Threads(2, answer), batch_recordings=2)
    add(db, "slow", *"abcdefg")
    alone_in_flight: list[bool] = []

    def look() -> bool:
        if not gate.is_set() and db.progress("v3").recordings_done == 7:
            alone_in_flight.append(states(db)["slow", "v3"] == ("taken", 1, None))
            if db.index.indices()["speakers_v3"].documents == 14:
                gate.set()
        return False

    report = db.work(stop=look)
    assert (report.recordings_done, report.stopped) == (8, "drained")
    assert all(alone_in_flight)


def test_what_comes_while_one_takes_long_is_begun(open_db: Open) -> None:
    gate = threading.Event()

    def answer(task: Task) -> Extracted:
        if task.recording_id == "slow":
            assert gate.wait(PATIENCE)
        if task.recording_id == "late":
            gate.set()
        return fake_extract(task)

    executor = Threads(2, answer)
    db = open_db(executor)
    add(db, "slow")
    other = open_db(FakeExecutor())
    looks = 0

    def look() -> bool:
        nonlocal looks
        looks += 1
        if looks == 5:
            db.extraction.keep("late", None)
            add(other, "late")
        return False

    assert db.work(stop=look).recordings_done == 2


def test_what_was_tried_before_runs_alone_beside_the_others_and_one_at_a_time(open_db: Open) -> None:
    begun, most = threading.Event(), 0

    def answer(task: Task) -> Extracted:
        nonlocal most
        if task.recording_id.startswith("suspect"):
            most = max(most, sum(name.startswith("suspect") for name in executor.running))
            begun.set()
        else:
            assert begun.wait(PATIENCE)  # until one of them has begun
        return fake_extract(task)

    executor = Threads(1, answer)
    db = open_db(executor)
    add(db, "suspect-1", "suspect-2", "suspect-3")
    tried(db, "suspect-1", "suspect-2", "suspect-3")
    add(db, "ordinary")
    with db.catalog.job() as tx:
        tx.exec_driver_sql("UPDATE work_items SET priority = 40 WHERE recording_id = 'ordinary'")
    assert db.work().recordings_done == 4
    assert most == 1
    assert {names[0]: alone for names, alone in executor.given} == {
        "suspect-1": True, "suspect-2": True, "suspect-3": True, "ordinary": False
    }  # fmt: skip


def test_what_runs_is_given_back_when_the_index_fails_between_two_steps(open_db: Open) -> None:
    gate = threading.Event()

    def answer(task: Task) -> Extracted:
        if task.recording_id == "slow":
            assert gate.wait(PATIENCE)
        return fake_extract(task)

    executor = Threads(2, answer)
    db = open_db(executor)
    add(db, "slow", "a")

    def broken(*_: Any, **__: Any) -> Any:
        raise IndexUnavailable("it went away")

    db.projector.drain = db.projector.settle = broken  # type: ignore[method-assign]
    try:
        with pytest.raises(BackendError):
            db.work()
    finally:
        gate.set()
    assert states(db)["slow", "v3"] == ("queued", 0, None)
    assert executor.restarts == 1


@pytest.mark.parametrize("what", ["database", "lease"])
def test_what_is_lost_three_times_costs_no_recording_an_attempt(
    open_db: Open, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The process lives, and nothing of the recording killed it: what could not be given back is not counted later."""
    executor = Threads(2)
    db = open_db(executor)
    add(db, "slow")
    job = db.catalog.job

    def away(*_: Any, **__: Any) -> Any:
        raise DatabaseUnavailable("it went away")

    def answer(task: Task) -> Extracted:
        if what == "database":
            monkeypatch.setattr(db.catalog, "job", away)
        else:
            db.catalog.break_lease("work", "ada", why="a test")
        return fake_extract(task)

    for _ in range(3):
        executor.answer = answer
        with pytest.raises(DatabaseUnavailable if what == "database" else LeaseLost):
            db.work()
        monkeypatch.setattr(db.catalog, "job", job)
        assert states(db)["slow", "v3"][0] == "taken"
    executor.answer = fake_extract
    assert db.work().recordings_done == 1
    assert [alone for _, alone in executor.given] == [False] * 4


def test_a_recording_that_two_generations_wait_for_is_given_once(open_db: Open) -> None:
    executor = Threads(2)
    db = open_db(executor)
    both_live(db)
    add(db, *"abc")
    assert db.work().recordings_done == 6
    assert sorted(names for names, _ in executor.given) == [(name, "v3", "v4") for name in "abc"]
    one = Threads(2)
    other = open_db(one, models={"keep": "one"})
    add(other, *"de")
    other.work()
    assert sorted(names for names, _ in one.given) == [(name, v) for name in "de" for v in ("v3", "v4")]


def test_models_that_do_not_fit_side_by_side_are_used_one_after_the_other(open_db: Open) -> None:
    """A worker says so with its answer: what it left is given again, one generation after the other, and never both."""
    most: list[set[str]] = []

    def answer(task: Task) -> Extracted:
        now.append(task.generation.name)
        most.append(set(now))
        now.remove(task.generation.name)
        return fake_extract(task)

    now: list[str] = []
    executor = Threads(2, answer)
    executor.together = lambda tasks: (*[None] * (len(tasks) - 1), answered(tasks[-1], crowded=True))
    db = open_db(executor, batch_recordings=16)
    both_live(db)
    add(db, *"abcdef")
    assert db.work().recordings_done == 12
    assert {state for state, _, _ in states(db).values()} == {"done"}
    assert max(map(len, most)) == 1, "the models of both were in use"
    single = [names[1] for names, _ in executor.given if len(names) == 2]
    assert sum(a != b for a, b in pairwise(single)) <= 1, single


def test_what_was_under_way_when_it_got_crowded_comes_in_its_turn(open_db: Open) -> None:
    """What the last of two workers left is not given between two recordings of the other generation."""
    executor = Threads(2)
    db = open_db(executor, batch_recordings=16)

    def together(tasks: tuple[Task, ...]) -> Any:
        late = time.monotonic() + PATIENCE
        while tasks[0].recording_id == "b" and db.extraction._side_by_side:
            assert time.monotonic() < late
            time.sleep(0.01)
        return (*[None] * (len(tasks) - 1), answered(tasks[-1], crowded=True))

    executor.together = together
    both_live(db)
    add(db, *"abcdef")
    assert db.work().recordings_done == 12
    single = [names[1] for names, _ in executor.given if len(names) == 2]
    assert len(single) == 10
    assert sum(a != b for a, b in pairwise(single)) == 1, single


def with_vectors(task: Task, vector: Any) -> Extracted:
    return answered(task, results={s: Embedding(vector, 5.0, 1, 1.0, None) for s in fake_extract(task).results})


WRONG: dict[str, tuple[Callable[[Task], Any], str]] = {
    "nothing": (lambda _: None, "extraction"),
    "another thing": (lambda _: {"vectors": [1.0]}, "extraction"),
    "no voices": (lambda task: answered(task, results={}), "extraction"),
    "another voice": (lambda task: answered(task, results={"another": fake_extract(task)}), "extraction"),
    "another recording": (lambda task: answered(task, recording_id="another"), "extraction"),
    "no vector": (lambda task: answered(task, results={s: [1.0] for s in fake_extract(task).results}), "extraction"),
    "too long": (lambda task: with_vectors(task, np.ones(25)), "extraction"),
    "two dimensions": (lambda task: with_vectors(task, np.ones((1, 24))), "extraction"),
    "NaN": (lambda task: with_vectors(task, np.full(24, np.nan)), "not-finite"),
    "not of unit norm": (lambda task: with_vectors(task, np.ones(24)), "not-finite"),
}


@pytest.mark.parametrize("how", WRONG)
def test_an_answer_that_is_none_is_an_error_of_its_recording(open_db: Open, how: str) -> None:
    wrong, code = WRONG[how]
    db = open_db(FakeExecutor(lambda task: wrong(task) if task.recording_id == "bad" else fake_extract(task)))
    add(db, "a", "bad", "b")
    report = db.work()
    assert report.recordings_done == 2
    assert [(error.recording_id, error.code) for error in report.errors] == [("bad", code)]
    assert db.progress("v3").speakers_embedded == 4


@pytest.mark.parametrize("answers", [(), None, "garbage", (None, None), (1, 2, 3)])
def test_an_answer_for_two_generations_that_is_none_is_an_error_of_both(open_db: Open, answers: Any) -> None:
    executor = Threads(2)
    executor.together = lambda _: answers
    db = open_db(executor)
    both_live(db)
    add(db, "a")
    db.work()
    wanted = "done" if answers in (None, (None, None)) else "failed"  # it was left, and is given again apart
    assert {state for state, _, _ in states(db).values()} == {wanted}


def test_a_model_that_was_replaced_in_mid_run_stops_its_generation_and_nothing_else(open_db: Open) -> None:
    """The second worker loads what lies there by then: none of its vectors come beside those of the first."""
    replaced = threading.Event()

    def answer(task: Task) -> Extracted:
        if task.generation.name == "v4" and task.recording_id != "a":
            replaced.set()
            return answered(task, checksum="1" * 64)
        return fake_extract(task)

    executor = Threads(1, answer)
    db = open_db(executor, batch_recordings=2)
    both_live(db)
    add(db, *"abcd")
    report = db.work()
    assert replaced.is_set()
    assert "is not the one its vectors were made with" in report.unavailable["v4"]
    assert {name: found for name, found in states(db).items() if name[1] == "v3"} == {
        (name, "v3"): ("done", 1, None) for name in "abcd"
    }
    assert states(db)["a", "v4"] == ("done", 1, None)
    for name in "bcd":
        assert states(db)[name, "v4"][:2] == ("queued", 0)
    assert executor.restarts >= 1, "no worker keeps the model"
    assert db.progress("v4").speakers_embedded == 2
    with pytest.raises(GenerationChanged):
        db.work()
    executor.answer = fake_extract
    assert db.work().recordings_done == 3


def endless_or_fake(task: Task) -> Extracted:
    if task.recording_id == "endless":
        time.sleep(3600)
    return fake_extract(task)


def test_one_that_hangs_in_a_process_holds_up_nobody_in_it(tmp_path: Path) -> None:
    pool = ProcessExecutor(1, depth=2)
    with SpeakerDB.open(fake_settings(tmp_path), executor=pool) as db:
        add(db, "endless", *"abcdef")
        extraction = Extraction(db.catalog, pool, db.generations, load=Loader(), batch=3, function=endless_or_fake)
        with db.catalog.holding("work") as lease:
            until = time.monotonic() + PATIENCE
            while db.progress("v3").recordings_done < 6 and time.monotonic() < until:
                extraction.step(lease)
            (process,) = pool.processes
            assert states(db)["endless", "v3"] == ("taken", 1, None)
            extraction.abandon(lease)
        assert not process.is_alive()
        found = states(db)
        assert found.pop(("endless", "v3")) == ("queued", 0, None)
        assert set(found.values()) == {("done", 1, None)}


@dataclass(frozen=True)
class Deadly:
    """A model whose loading ends the process, or takes for ever."""

    how: str

    def __call__(self, generation: Generation) -> LoadedModel:
        if self.how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(3600)
        raise AssertionError


@pytest.mark.parametrize(
    ("how", "told"), [("dies", "was killed by signal 9 (SIGKILL)"), ("hangs", "was not ready after 0.5 s")]
)
def test_a_model_that_ends_its_worker_when_it_is_tried_is_told_and_ends_nothing_else(
    tmp_path: Path, how: str, told: str
) -> None:
    settings = fake_settings(tmp_path, executor="process", recording_timeout=0.5 if how == "hangs" else PATIENCE)
    with SpeakerDB.open(settings, load_embedder=Deadly(how)) as db:
        checks = {check.name: check for check in db.preflight("v4").checks}
        assert checks["target model"].verdict == "fail"
        assert told in checks["target model"].value
