"""The pool of worker processes: what is in which process, and what a death, a hang or a bad answer costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from speakerdb import executors
from speakerdb.errors import ExtractionError
from speakerdb.executors import Interrupted, Overdue, ProcessExecutor, WorkerLost, processes, share_out
from speakerdb.extraction import Loader
from speakerdb.migrator.probing import Probing

PATIENCE = 120.0


@pytest.fixture(autouse=True)
def looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOOK_SECONDS", 0.02)


@pytest.fixture
def pool(request: pytest.FixtureRequest) -> Iterator[ProcessExecutor]:
    workers, depth = getattr(request, "param", (1, 2))
    made = ProcessExecutor(workers, depth=depth)
    yield made
    made.close()


def until_there(*paths: Path) -> None:
    """Until files are there; used on both sides."""
    deadline = time.monotonic() + PATIENCE
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, paths
        time.sleep(0.005)


def waits(task: Path) -> int:
    """Says that it has begun, waits until it may go on, answers with its process."""
    task.touch()
    until_there(task.with_suffix(".go"))
    return os.getpid()


def dies(task: Path) -> None:
    until_there(task)
    os.kill(os.getpid(), signal.SIGKILL)


def answers_badly(how: str) -> Any:
    match how:
        case "unpicklable":
            return threading.Lock()
        case "unreadable":
            return Unreadable()
        case "exits":
            raise SystemExit(3)
        case _:
            return os.getpid()


def explodes() -> None:
    raise RuntimeError("it explodes when it is read")


class Unreadable:
    """Can be sent, and not be read."""

    def __reduce__(self) -> Any:
        return explodes, ()


def environment(_: object) -> tuple[str | None, ...]:
    return tuple(os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "OMP_WAIT_POLICY"))


def go(*tasks: Path) -> None:
    for task in tasks:
        task.with_suffix(".go").touch()


def test_two_are_in_one_process_and_its_death_costs_both_and_nobody_else(tmp_path: Path, pool: ProcessExecutor) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    together = [pool.submit(waits, path) for path in (a, b)]
    until_there(a, b)  # both have begun, so neither waits for the other
    go(a, b)
    pids = {future.result(PATIENCE) for future in together}
    assert pids == {process.pid for process in pool.processes}

    beside, deadly = pool.submit(waits, c), pool.submit(dies, c)
    errors = [future.exception(PATIENCE) for future in (beside, deadly)]
    for error in errors:
        assert isinstance(error, WorkerLost)
        assert (error.how, error.held) == (
            "was killed by signal 9 (SIGKILL), as the system does when memory runs out",
            2,
        )
    go(c)
    assert pool.submit(waits, c).result(PATIENCE) not in pids, "a fresh process"


@pytest.mark.parametrize("pool", [(2, 1)], indirect=True)
def test_the_death_of_one_process_leaves_the_other_alone(tmp_path: Path, pool: ProcessExecutor) -> None:
    a = tmp_path / "a"
    beside, deadly = pool.submit(waits, a), pool.submit(dies, a)
    error = deadly.exception(PATIENCE)
    assert isinstance(error, WorkerLost)
    assert error.held == 1
    assert not beside.done()
    go(a)
    assert beside.result(PATIENCE) in {process.pid for process in pool.processes}


def test_what_hangs_is_ended_with_its_process_and_what_is_beside_it_is_told_so(
    tmp_path: Path, pool: ProcessExecutor
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    endless = pool.submit(waits, a, timeout=0.1)
    beside = pool.submit(waits, b, timeout=0.1)
    (process,) = pool.processes
    assert isinstance(endless.exception(PATIENCE), Overdue)
    assert isinstance(beside.exception(PATIENCE), Interrupted)
    assert not process.is_alive()
    assert pool.processes == []


def test_the_time_of_one_begins_when_those_before_it_are_done(tmp_path: Path, pool: ProcessExecutor) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    first, second = pool.submit(waits, a), pool.submit(waits, b, timeout=0.01)
    until_there(a, b)  # which takes longer than that
    assert not second.done()
    go(a)
    first.result(PATIENCE)
    assert isinstance(second.exception(PATIENCE), Overdue)


def test_what_hangs_is_ended_however_busy_the_others_in_its_process_are(
    tmp_path: Path, pool: ProcessExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is looked at when it says something, not only when it has said nothing for a while."""
    monkeypatch.setattr(processes, "LOOK_SECONDS", PATIENCE)
    endless = pool.submit(waits, tmp_path / "a", timeout=0.1)
    deadline = time.monotonic() + PATIENCE / 2
    while not endless.done() and time.monotonic() < deadline:
        wait([pool.submit(environment, None)], PATIENCE)
    assert isinstance(endless.exception(0), Overdue)


def test_one_that_is_to_be_alone_gets_a_process_beside_the_others_which_then_goes(
    tmp_path: Path, pool: ProcessExecutor
) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    ordinary = pool.submit(waits, a)
    alone = pool.submit(waits, b, alone=True)
    until_there(a, b)
    another = pool.submit(waits, c)
    until_there(c)
    assert len(pool.processes) == 2
    go(b)
    pid = alone.result(PATIENCE)
    assert len(pool.processes) == 1
    go(a, c)
    assert ordinary.result(PATIENCE) == another.result(PATIENCE) != pid

    alone = pool.submit(waits, tmp_path / "d", alone=True)
    ordinary = pool.submit(waits, tmp_path / "e")
    until_there(tmp_path / "d", tmp_path / "e")
    go(tmp_path / "e")
    stays = ordinary.result(PATIENCE)
    assert {process.pid for process in pool.processes} > {stays}, "it has nothing to do, and is not one too many"
    go(tmp_path / "d")
    assert stays != alone.result(PATIENCE)


def test_an_answer_that_cannot_be_sent_or_read_costs_itself_only(pool: ProcessExecutor) -> None:
    before = pool.submit(answers_badly, "").result(PATIENCE)
    for how, told in {"unpicklable": "pickle", "unreadable": "it explodes"}.items():
        error = pool.submit(answers_badly, how).exception(PATIENCE)
        assert told in str(error), how
    assert isinstance(pool.submit(answers_badly, "unreadable").exception(PATIENCE), ExtractionError)
    assert isinstance(pool.submit(answers_badly, "exits").exception(PATIENCE), SystemExit)
    assert pool.submit(answers_badly, "").result(PATIENCE) == before, "the process goes on"
    task: Future[Any] = pool.submit(answers_badly, threading.Lock())  # type: ignore[arg-type]
    assert isinstance(task.exception(PATIENCE), TypeError)


def test_a_resize_lets_what_runs_come_to_its_end_and_then_the_process_goes(
    tmp_path: Path, pool: ProcessExecutor
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    running = pool.submit(waits, a)
    until_there(a)
    pool.resize(2)
    assert pool.width == 4
    after = pool.submit(waits, b)
    until_there(b)
    assert len(pool.processes) == 2
    go(a, b)
    old, new = running.result(PATIENCE), after.result(PATIENCE)
    assert old != new
    assert [process.pid for process in pool.processes] == [new]


def test_a_restart_ends_what_runs_which_may_be_given_again(tmp_path: Path, pool: ProcessExecutor) -> None:
    running = [pool.submit(waits, tmp_path / name) for name in "ab"]
    until_there(tmp_path / "a", tmp_path / "b")
    (process,) = pool.processes
    assert pool.restart() == ""
    assert not process.is_alive()
    assert wait(running, PATIENCE).not_done == set()
    assert all(isinstance(future.exception(), Interrupted) for future in running)


@dataclass(frozen=True)
class Tried:
    """Loads a diarizer, which takes as long as a test says."""

    began: Path

    def __call__(self, channels: str) -> Any:
        waits(self.began)
        return SimpleNamespace(name=f"fake ({channels})")


def test_a_model_that_is_tried_while_extraction_lets_its_workers_go_is_tried_again(
    tmp_path: Path, pool: ProcessExecutor
) -> None:
    """As where extraction is paused at the moment in which a migration begins: its diarizer is none the worse for it."""
    probing = Probing(pool, Loader(), Tried(tmp_path / "began"), PATIENCE)
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(probing.diarizer)
        until_there(tmp_path / "began")
        pool.restart()
        go(tmp_path / "began")
        assert found.result(PATIENCE) == "fake (mix)"


def test_workers_divide_cores_and_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processes, "cores", lambda: 7)
    pool = ProcessExecutor(2, gpus=("3", "5"))
    try:
        a, b = tmp_path / "a", tmp_path / "b"
        running = [pool.submit(waits, path) for path in (a, b)]
        until_there(a, b)
        go(a, b)
        wait(running, PATIENCE)
        found = set()
        for _ in range(2):
            seen = pool.submit(environment, None).result(PATIENCE)
            found.add(seen)
            with suppress(ProcessLookupError):  # the next one answers
                os.kill(pool.processes[0].pid or 0, signal.SIGKILL)
            deadline = time.monotonic() + PATIENCE
            while len(pool.processes) == 2 and time.monotonic() < deadline:
                time.sleep(0.005)
        assert found == {("3", "3", "PASSIVE"), ("3", "5", "PASSIVE")}
    finally:
        pool.close()


def test_how_many_workers_there_are_follows_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "_DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert share_out(0, "auto") == (1, ())
    assert share_out(3, "auto") == (3, ())
    for name in ("nvidia0", "nvidia4", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert share_out(0, "auto") == (2, ("0", "1"))
    assert share_out(1, "auto") == (1, ("0", "1"))
    assert share_out(0, "cpu") == share_out(0, "cuda:1") == (1, ())
    for given, gpus in {"": (), "-1": (), "7": (), "7, GPU-8": ("7", "GPU-8")}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert share_out(0, "auto") == (max(1, len(gpus)), gpus)


def test_a_worker_needs_no_database_and_loads_no_model_before_it_is_given_one() -> None:
    """It begins sooner so: half of its beginning was the import of what only the coordinator uses."""
    program = "import sys, speakerdb.extraction.extract; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=PATIENCE)
    loaded = set(ran.stdout.split())
    assert "numpy" in loaded
    assert loaded.isdisjoint({"sqlalchemy", "alembic", "torch", "openvino", "fastapi", "speakerdb.catalog"})
