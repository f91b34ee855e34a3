"""How a machine's cores are best shared: workers by how many recordings are in each. `python -m benchmarks.workers`.

The same recordings are drained by each way in turn, several rounds of it, and each way's shortest round counts: what else the
machine does makes a round longer, and never shorter. The first recordings warm the workers up and are not counted.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from benchmarks.report import Row, document, machine, row, say, show
from benchmarks.talk import Talk, record
from speakerdb.executors import ProcessExecutor
from speakerdb.models.registry import STAND_INS
from speakerdb.service import SpeakerDB
from speakerdb.settings import GenerationSettings, Settings

CHECKPOINT = Path(__file__).resolve().parent.parent / "tests" / "assets" / "models" / "standin-wespeaker-resnet34"
SECONDS = 600


def main() -> None:
    """Measure, and show the table."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--recordings", type=int, default=8)
    given.add_argument("--rounds", type=int, default=3)
    given.add_argument("--backend", default="torch")
    given.add_argument("--device", default="cpu")
    asked = given.parse_args()
    os.environ.pop("OMP_NUM_THREADS", None)  # it would stand in the place of what is measured
    with tempfile.TemporaryDirectory() as folder:
        rows = shared(Path(folder), asked.recordings, asked.rounds, backend=asked.backend, device=asked.device)
    show(document(machine(), rows))


def shared(folder: Path, recordings: int, rounds: int, *, backend: str, device: str) -> list[Row]:
    """How fast each way of sharing is."""
    talk = record(folder / "talk.mp3", SECONDS)
    ways = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 3)]
    best = dict.fromkeys(ways, float("inf"))
    network = dict.fromkeys(ways, 0.0)
    for n in range(rounds):
        for way in ways if n % 2 else ways[::-1]:
            place = folder / f"{n}-{way[0]}-{way[1]}"
            taken, share = _drained(place, talk, recordings, way, backend, device)
            say(f"{way[0]} workers, {way[1]} in each: {taken:.2f} s")
            if taken < best[way]:
                best[way], network[way] = taken, share
    rows = []
    for way, taken in best.items():
        name = f"{way[0]} workers with {way[1]} recordings in each"
        rows.append(row(f"{name}, {recordings} recordings of {SECONDS // 60} min", taken, "s"))
        rows.append(row(f"{name}, over one with one", best[1, 1] / taken, "ratio of speeds"))
        rows.append(row(f"{name}, network", network[way], "of the workers' time"))
    return rows


def _drained(
    folder: Path, talk: Talk, recordings: int, way: tuple[int, int], backend: str, device: str
) -> tuple[float, float]:
    """Seconds from a warm start to the last commit, and the network's share of the workers' time."""
    checksum, name = next((sha, name) for sha, name in STAND_INS.items() if name == CHECKPOINT.name)
    settings = Settings(
        data_dir=folder,
        serving="v4",
        device=device,
        disk_floor_mb=0,
        workers=way[0],
        extractor={"backend": backend},  # type: ignore[arg-type]
        generations={"v4": GenerationSettings(model=f"standin/{name}", sources=(str(CHECKPOINT),), sha256=checksum)},
    )
    with SpeakerDB.open(settings, executor=ProcessExecutor(way[0], depth=way[1])) as db:
        _work(db, talk, way[0], "warm")  # one for each, which loads the model
        begun = time.perf_counter()
        share = _work(db, talk, recordings, "measured")
        return time.perf_counter() - begun, share


def _work(db: SpeakerDB, talk: Talk, recordings: int, name: str) -> float:
    for n in range(recordings):
        path = talk.path.with_name(f"{db.settings.data_dir.name}-{name}-{n}.mp3")
        path.hardlink_to(talk.path)
        db.add(path, talk.turns)
    report = db.work()
    assert report.recordings_done == recordings, report
    return report.work.network_share


if __name__ == "__main__":
    main()
