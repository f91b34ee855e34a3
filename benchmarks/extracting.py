"""Extraction: from a file to centroids with each back end, beside what others do with the same model and the same turns.

It is measured in processes of their own (`benchmarks.extracting_child`), which may use every core that this one may: one
thread, as the other benchmarks have it, would say nothing of a network.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.others import Effort
from benchmarks.report import THREAD_VARIABLES, Row, median, row, say

GOAL_OVER = {
    "pyannote's get_embeddings": {"float": 1000.0, "int8": None},
    "turn by turn": {"float": 50.0, "int8": None},
    "the five longest turns": {"float": 2.5, "int8": 4.0},
    "torch, one segment at a time": {"float": 1.25, "int8": 2.4},
}
"""How many times faster than each of the others, in float32 and in int8."""
GOAL_SECONDS = {"cuda": 0.5, "amx": 1.0, "float": 3.0, "int8": 1.7}
"""For an hour with three speakers, warm, from file to centroids: by where and in what it is computed."""
GOAL_COSINE = {"cuda": 0.999, "amx": 0.9999, "float": 0.9999, "int8": 0.995}
"""Of a speaker's centroid to that of torch in float32; on a GPU some are computed in half precision."""
GOAL_NETWORK_SHARE = 0.85
GOAL_FLAT = 1.15
"""The dearest over the cheapest: of lengths of a recording, of recordings in a run."""


@dataclass(frozen=True, slots=True)
class ExtractionSizes:
    """How much is measured. Lengths are in seconds of a recording; `seconds` is the one that is called an hour."""

    seconds: int
    lengths: tuple[int, ...]
    rounds: int
    stage_seconds: float
    sampled_turns: int
    recordings: tuple[int, int]
    people: int


def extraction(folder: Path, sizes: ExtractionSizes, device: str) -> tuple[dict[str, Any], list[Row]]:
    """What the numbers depend on besides the machine, and the rows. `device` is ``cpu`` or ``cuda``."""
    found = asked("measure", folder, asdict(sizes) | {"device": device})
    same = {"seconds": sizes.seconds, "device": device}
    cold = {name: asked("cold", folder, same | {"way": name}) for name in found["ways"]}
    best = fastest(found["ways"], "float")
    found["one_more"]["embedded in v3 and v4 and matched, cold"] = asked("one", folder, same | {"way": best})
    return found["about"], rows(found, cold, sizes)


def fastest(ways: dict[str, dict[str, Any]], precision: str) -> str | None:
    """The name of the back end that took least in the median."""
    taken = {name: _seconds(way) for name, way in ways.items() if way["precision"] == precision}
    return min(taken, key=lambda name: taken[name], default=None)


def _seconds(way: dict[str, Any]) -> float:
    return median([each["seconds"] for each in way["rounds"]])


def asked(what: str, folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Measure something in a fresh process with all the threads that the processor has for us."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "asked.json").write_text(json.dumps(request))
    threads = dict.fromkeys(THREAD_VARIABLES, str(len(os.sched_getaffinity(0))))
    subprocess.run(
        [sys.executable, "-m", "benchmarks.extracting_child", what, str(folder.resolve())],
        cwd=Path(__file__).resolve().parent.parent,
        env=os.environ | threads,
        check=True,
        stdout=sys.stderr,
    )
    answered: dict[str, Any] = json.loads((folder / "answered.json").read_text())
    return answered


def rows(found: dict[str, Any], cold: dict[str, dict[str, float]], sizes: ExtractionSizes) -> list[Row]:
    """All rows from what was measured."""
    ways: dict[str, dict[str, Any]] = found["ways"]
    others = {name: Effort(**effort) for name, effort in found["others"].items()}
    minutes = sizes.seconds // 60
    what = f"extraction of {minutes} min, 3 speakers"
    result = []
    for name, way in ways.items():
        seconds = _seconds(way)
        goal = GOAL_SECONDS[way["kind"]] if sizes.seconds == 3600 else None
        result.append(row(f"{what}, {name}, warm", seconds, "s", at_most=goal))
        result.append(row(f"{what}, {name}, cold", cold[name]["seconds"], "s"))
        result.append(row(f"loading the model, {name}", cold[name]["load"], "s"))
        result.append(row(f"peak memory of a process that extracts, {name}", cold[name]["memory"], "MiB"))
        share = median([each["network"] / each["seconds"] for each in way["rounds"]])
        result.append(row(f"the network's share of it, {name}", share, "of the time", at_least=GOAL_NETWORK_SHARE))
        decoding = median([each["decode"] / each["seconds"] for each in way["rounds"]])
        result.append(row(f"decoding beside it, {name}", decoding, "of the time"))
        result.append(row(f"{what}, {name}, forwards", way["rounds"][0]["forwards"], "forwards"))
        result.append(row(f"{what}, {name}, through the network", way["rounds"][0]["speech"], "s of speech"))
        least = GOAL_COSINE[way["kind"]]
        result.append(row(f"lowest cosine of a centroid to torch's, {name}", way["cosine"], "cosine", at_least=least))
        if way["memory"] is not None:
            result.append(row(f"{what}, {name}, peak of the device's memory", way["memory"], "MiB"))
    for name, effort in others.items():
        result.append(row(f"{what}, {name}{_scaled(effort)}", effort.seconds, "s"))
        result.append(row(f"{what}, {name}, forwards", effort.forwards, "forwards"))
        result.append(row(f"{what}, {name}, through the network", effort.speech, "s of speech"))
    for precision in ("float", "int8"):
        best = fastest(ways, precision)
        if best is not None:
            result += _ratios(best, _seconds(ways[best]), precision, others)
    result += _flat(found["lengths"])
    result += _linear(found["runs"])
    for name, each in found["one_more"].items():
        result.append(row(f"one more speaker, {name}", each["seconds"], "s"))
    return result


def _scaled(effort: Effort) -> str:
    return "" if effort.measured == 1 else f" ({effort.measured:.1%} of it measured, and scaled)"


def _ratios(name: str, ours: float, precision: str, others: dict[str, Effort]) -> list[Row]:
    result = []
    for other, effort in others.items():
        goal = next(goals[precision] for start, goals in GOAL_OVER.items() if other.startswith(start))
        result.append(row(f"{name} over {other}", effort.seconds / ours, "times faster", at_least=goal))
    return result


def _flat(lengths: dict[str, list[float]]) -> list[Row]:
    taken = {seconds: median(rounds) for seconds, rounds in lengths.items()}
    result = [row(f"extraction of {int(seconds) // 60} min", each, "s") for seconds, each in taken.items()]
    longest, shortest = (pick(taken, key=int) for pick in (max, min))
    name = f"cost of {int(longest) // 60} min over {int(shortest) // 60} min"
    result.append(row(name, taken[longest] / taken[shortest], "ratio", at_most=GOAL_FLAT))
    say(f"by length: {lengths}")
    return result


def _linear(runs: dict[str, list[float]]) -> list[Row]:
    each = {int(count): median(rounds) / int(count) for count, rounds in runs.items()}
    fewest, most = min(each), max(each)
    return [
        row(f"{most} recordings through the workers, each", each[most], "s"),
        row(
            f"a recording of {most} over one of {fewest}, in the workers",
            each[most] / each[fewest],
            "ratio",
            at_most=GOAL_FLAT,
        ),
    ]
