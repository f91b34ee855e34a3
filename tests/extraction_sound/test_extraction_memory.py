"""Memory does not grow with a recording: ten hours, and a thousand speakers, beside ten minutes and three."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.audio_files import chirps, write

PROGRAM = Path(__file__).with_name("long_recording.py")
MINUTE, MINUTES, HOURS = 60, 600, 36_000
ROOM_MIB = 24.0
"""More than ten minutes take. Ten hours of sound are 2.3 GB, and the speech of a thousand speakers 190 MB at 3 s of each."""
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
SPEECH = 30.0 if THOROUGH else 3.0
"""Seconds of each of the thousand. Thirty of each are nearly the whole ten hours."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peaks of memory from /proc")


def _extract(path: Path, seconds: int, speakers: int, speech: float) -> dict[str, float]:
    command = [sys.executable, str(PROGRAM), str(path), str(seconds), str(speakers), str(speech)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    assert (found["embedded"], found["speech"]) == (speakers, pytest.approx(speakers * speech, rel=0.01))
    return found


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of MP3 without any header, so that it can be put together with itself."""
    options = {"write_xing": "0", "id3v2_version": "0", "reservoir": "0"}
    path = tmp_path_factory.mktemp("long") / "block.mp3"
    return write(
        path, chirps(MINUTE, 16_000), 16_000, codec="libmp3lame", sample_format="s16p", bit_rate=24_000, options=options
    )


@pytest.fixture(scope="module")
def short(block: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """The peak that ten minutes with three speakers take, in MiB."""
    return _extract(_repeated(block, MINUTES, tmp_path_factory.mktemp("short")), MINUTES, 3, 30.0)["peak"]


def _repeated(block: Path, seconds: int, folder: Path) -> Path:
    path = folder / "long.mp3"
    path.write_bytes(block.read_bytes() * (seconds // MINUTE))
    return path


def test_ten_hours_of_a_compressed_file(block: Path, short: float, tmp_path: Path) -> None:
    assert _extract(_repeated(block, HOURS, tmp_path), HOURS, 3, 30.0)["peak"] < short + ROOM_MIB


def test_a_thousand_speakers_in_ten_hours(block: Path, short: float, tmp_path: Path) -> None:
    assert _extract(_repeated(block, HOURS, tmp_path), HOURS, 1000, SPEECH)["peak"] < short + ROOM_MIB
