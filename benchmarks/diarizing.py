"""Diarization: one pass a chunk beside pyannote's unchanged pipeline, on torch and on OpenVINO, in turns.

The sound is the half minute of two people that is installed with pyannote.audio, the pipeline the stand-in of this repository at
pyannote's own step (a chunk a second). The unchanged pipeline passes its chunks one at a time, which is fastest on a processor.
All of it in a process of its own, with every core that this one may use.

`python -m benchmarks.diarizing FOLDER` measures how good the stand-in is on real speech, which you give it, and writes
`results/diarization.json`: every `NAME.flac` with a `NAME.rttm` beside it, anywhere in the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import THREAD_VARIABLES, Row, machine, median, row, say, write

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "assets" / "models" / "standin-diarization"
RESULTS = Path(__file__).resolve().parent / "results" / "diarization.json"
GOALS = {"torch": 0.45, "openvino": 0.35}
"""The most of the unchanged pipeline's time."""
GOAL_COSINE = 0.9999
RATE = 16_000


def diarization(folder: Path, *, seconds: float, step: float, rounds: int) -> list[Row]:
    """The rows. `folder` is one for the process's answer and the converted network."""
    folder.mkdir(parents=True, exist_ok=True)
    request = {"seconds": seconds, "step": step, "rounds": rounds}
    threads = dict.fromkeys(THREAD_VARIABLES, str(len(os.sched_getaffinity(0))))
    subprocess.run(
        [sys.executable, "-m", "benchmarks.diarizing", "--child", json.dumps(request), str(folder.resolve())],
        cwd=Path(__file__).resolve().parent.parent,
        env=os.environ | threads,
        check=True,
        stdout=sys.stderr,
    )
    return rows(json.loads((folder / "answered.json").read_text()))


def rows(found: Mapping[str, Any]) -> list[Row]:
    """What the process found, as rows."""
    base = median(found["took"]["unchanged"])
    made = [row("diarization, unchanged", base / found["seconds"], "seconds a second of sound")]
    for backend, goal in GOALS.items():
        share = [mine / other for mine, other in zip(found["took"][backend], found["took"]["unchanged"], strict=True)]
        made.append(row(f"diarization, shared on {backend} over unchanged", median(share), "of the time", at_most=goal))
        made.append(
            row(f"diarization, shared on {backend}: same turns", float(found["same"][backend]), "1 is yes", at_least=1)
        )
        made.append(
            row(
                f"diarization, shared on {backend}: least cosine",
                found["cosine"][backend],
                "cosine",
                at_least=GOAL_COSINE,
            )
        )
    return made


def measure(folder: Path, seconds: float, step: float, rounds: int) -> dict[str, Any]:
    """In this process: each way in turn, `rounds` times, after one round that does not count."""
    from speakerdb import media
    from speakerdb.diarizers.sound import Sound
    from speakerdb.types import Waveform

    package = find_spec("pyannote")
    assert package is not None, "pyannote.audio is installed"
    assert package.submodule_search_locations is not None
    sample = Path(package.submodule_search_locations[0]) / "audio" / "sample" / "sample.wav"
    samples = media.decode_all(sample, RATE, seconds)
    sound = Sound.of_waveform(Waveform(samples, RATE), "sample")
    ways = {
        "unchanged": _loaded(folder, step, embedding="unchanged", embedding_batch_size=1),
        "torch": _loaded(folder, step, backend="torch"),
        "openvino": _loaded(folder, step, backend="openvino"),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    found = {name: way.diarize(sound) for name, way in ways.items() if name != "unchanged"}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            found[name] = way.diarize(sound)
            took[name].append(time.perf_counter() - begun)
            say(f"diarization, {name}: {took[name][-1]:.1f} s")
    truth = found["unchanged"]
    voices = {label: voice for label, voice in truth.embeddings.items() if voice is not None}
    return {
        "seconds": len(samples) / RATE,
        "took": took,
        "same": {name: found[name].turns == truth.turns and found[name].exclusive == truth.exclusive for name in GOALS},
        "cosine": {
            name: min(
                (
                    0.0 if (mine := found[name].embeddings.get(label)) is None else float(np.dot(mine, voice))
                    for label, voice in voices.items()
                ),
                default=1.0,
            )
            for name in GOALS
        },
    }


def accuracy(folder: Path, work: Path) -> dict[str, Any]:
    """The error rates of the stand-in on the speech of a folder, at its own step."""
    from speakerdb.core.turns import parse_rttm
    from speakerdb.diarizers.evaluating import evaluate
    from speakerdb.diarizers.sound import Sound

    diarizer = _loaded(work, None)
    kept: list[dict[str, Any]] = []
    pairs = [(path, path.with_suffix(".rttm")) for path in sorted(folder.rglob("*.flac"))]
    for path, rttm in (pair for pair in pairs if pair[1].is_file()):
        (reference,) = parse_rttm(rttm.read_text()).values()
        found = diarizer.diarize(Sound.of_file(path))
        rates = [
            evaluate({"": reference}, {"": found.turns}, collar=collar).error_rate or 0.0 for collar in (0.0, 0.25)
        ]
        kept.append(
            {
                "name": path.stem,
                "seconds": round(found.seconds),
                "speakers": len({turn.speaker for turn in reference}),
                "found": len(found.speakers),
                "der": round(rates[0], 3),
                "der_collar": round(rates[1], 3),
            }
        )
        say(f"diarization: {kept[-1]}")
    about = {key: value for key, value in machine().items() if key in ("cpu", "cores", "python", "day")}
    return {
        "machine": about,
        "pipeline": "stand-in of this repository, for tests only; it was trained on some excerpts of AMI",
        "recordings": kept,
    }


def _loaded(folder: Path, step: float | None, **more: object) -> Any:
    from speakerdb.diarizers.loading import load_diarizer
    from speakerdb.settings import DiarizerSettings

    settings = DiarizerSettings(pipeline=str(FOLDER), segmentation_step=step, **more)  # type: ignore[arg-type]
    return load_diarizer(settings, device="cpu", allow_unknown=True, offline=True, folder=folder)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.diarizing", description=__doc__)
    parser.add_argument("folder", type=Path, help="speech with turns: NAME.flac and NAME.rttm")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        found = measure(given.folder / "models", **json.loads(given.child))
        (given.folder / "answered.json").write_text(json.dumps(found))
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="speakerdb-bench-") as work:
        write(RESULTS, accuracy(given.folder, Path(work)))


if __name__ == "__main__":
    main()
