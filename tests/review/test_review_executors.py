"""What a review found about worker processes. One finding a test."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from speakerdb.errors import SpeakerDBError
from speakerdb.executors import ProcessExecutor


class TwoWords(Exception):
    """Can be pickled and not read again: what it was made of is not in its `args`."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} {other}")


def fails_oddly(_: float) -> float:
    raise TwoWords("very", "odd")


@pytest.fixture
def pool() -> Iterator[ProcessExecutor]:
    made = ProcessExecutor(1)
    yield made
    made.close()


def test_an_error_that_cannot_be_read_on_the_other_side_keeps_its_text_and_its_worker(pool: ProcessExecutor) -> None:
    with pytest.raises(SpeakerDBError, match="TwoWords: very odd"):
        pool.submit(fails_oddly, 1.0).result(120)
    assert pool.submit(math.sqrt, 4.0).result(120) == 2.0


def test_a_worker_that_dies_while_idle_costs_nothing(pool: ProcessExecutor) -> None:
    pool.submit(math.sqrt, 4.0).result(120)
    (process,) = pool.processes
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    assert wait([process.sentinel], 30)
    assert pool.submit(math.sqrt, 9.0).result(120) == 3.0


def waits_or_dies(task: Path) -> None:
    if task.name == "dies":
        os._exit(9)
    task.touch()
    while not task.with_name("end").exists():
        time.sleep(0.01)


def test_the_death_of_a_worker_that_was_started_later_is_seen_while_the_first_is_busy(tmp_path: Path) -> None:
    pool = ProcessExecutor(2)
    try:
        pool.submit(waits_or_dies, tmp_path / "waits")
        until = time.monotonic() + 120
        while not (tmp_path / "waits").exists() and time.monotonic() < until:
            time.sleep(0.01)
        with pytest.raises(BrokenExecutor):
            pool.submit(waits_or_dies, tmp_path / "dies").result(120)
    finally:
        (tmp_path / "end").touch()
        pool.close()


def test_how_a_worker_ended_is_told_although_another_task_was_given_since(pool: ProcessExecutor) -> None:
    with pytest.raises(BrokenExecutor):
        pool.submit(os._exit, 9).result(120)
    assert pool.submit(math.sqrt, 9.0).result(120) == 3.0
    assert pool.restart() == "ended with exit status 9"
    assert pool.restart() == ""


UNGUARDED = """
from pathlib import Path
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import fake_settings, silence, two_voices

with SpeakerDB.open(fake_settings(Path("library"), executor="process")) as db:
    db.add(None, two_voices(), recording_id="a", waveform=silence(20))
    print("failed", db.work().recordings_failed)
"""


def test_a_script_without_a_guard_comes_to_an_end_and_is_told_why(tmp_path: Path, repository: Path) -> None:
    """Each worker ran the whole script, added the recording again, which reset its attempts, and died: for ever."""
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    environment = os.environ | {"PYTHONPATH": str(repository)}
    ran = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert ran.stdout.strip() == "failed 1"
    assert "opens its library again in a worker process" in ran.stderr
