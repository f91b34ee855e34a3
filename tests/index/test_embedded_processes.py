"""Several processes on one index file, and processes that are killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.testing.index_oracle import vectors

COMMON = """
import sys
from pathlib import Path
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.testing.index_oracle import DIMENSION, document
from speakerdb.types import AliasAction

def opened():
    index = EmbeddedIndex(Path(sys.argv[1]))
    index.create("a", DIMENSION, {"generation": "v0"})
    index.update_aliases([AliasAction.add("w", "a")])
    return index
"""

WRITE_FOR_EVER = """
index = opened()
number = int(sys.argv[2])
while True:
    results = index.bulk("w", [document(f"{number}-{part}") for part in range(20)])
    assert all(result.outcome == "written" for result in results)
    print(number, flush=True)
    number += 1
"""

START_TOGETHER = """
print("ready", flush=True)
sys.stdin.readline()
index = opened()
for number in range(10):
    index.bulk("w", [document(f"{sys.argv[2]}-{number}"), document("shared", number + 1)])
print(len(index.search("a", __import__("speakerdb.testing.index_oracle", fromlist=["vectors"]).vectors(1), 999)[0]))
index.close()
"""


def run(script: str, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMON + script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.acceptance
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    rng = random.Random(5)  # noqa: S311
    acknowledged: set[int] = set()
    following = 0
    for _ in range(6):
        process = run(WRITE_FOR_EVER, path, following)
        assert process.stdout is not None
        for _ in range(rng.randrange(1, 30)):
            acknowledged.add(int(process.stdout.readline()))
        time.sleep(rng.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        acknowledged.update(int(line) for line in process.stdout.read().splitlines() if line)
        process.wait()
        process.stdout.close()
        assert process.stdin is not None
        process.stdin.close()
        following = max(acknowledged) + 2  # One more may have been written without an answer.

        index = EmbeddedIndex(path)
        found: dict[int, int] = {}
        for document in index.scan("a"):
            number = int(document.id.split("-")[0])
            found[number] = found.get(number, 0) + 1
        assert acknowledged <= set(found)
        assert len(set(found) - acknowledged) <= 6
        assert set(found.values()) == {20}
        assert index.indices()["a"].documents == 20 * len(found)
        assert len(index.search("a", vectors(1), 100_000)[0]) == 20 * len(found)
        index.close()


@pytest.mark.acceptance
def test_processes_may_open_create_and_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    processes = [run(START_TOGETHER, path, f"p{number}") for number in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert int(output) >= 11
    index = EmbeddedIndex(path)
    assert set(index.indices()) == {"a"}
    assert len(index.search("a", vectors(1), 999)[0]) == 41
    assert index.fetch("a", ["shared"])["shared"].version == 10
    index.close()
