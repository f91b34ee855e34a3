"""What a review found about worker processes. One finding a test."""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
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
    process = pool._context.started[-1]
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert pool._pool is not None
    manager = pool._pool._executor_manager_thread  # it marks the pool as broken, then ends
    manager.join(30)
    assert pool.submit(math.sqrt, 9.0).result(120) == 3.0


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
