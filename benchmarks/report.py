"""Rows of a benchmark, the machine they were measured on, and how both are shown and kept."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Row:
    """One measured number. `goal` is a bound such as ``>= 500``, None where there is none; `holds` says if it was met."""

    name: str
    value: float
    unit: str
    goal: str | None = None
    holds: bool | None = None


def row(name: str, value: float, unit: str, *, at_least: float | None = None, at_most: float | None = None) -> Row:
    """A row with at most one bound, judged before the value is rounded for the eye."""
    shown = float(f"{value:.4g}")
    if at_least is not None:
        return Row(name, shown, unit, f">= {at_least:g}", value >= at_least)
    if at_most is not None:
        return Row(name, shown, unit, f"<= {at_most:g}", value <= at_most)
    return Row(name, shown, unit)


def machine() -> dict[str, Any]:
    """What the numbers depend on. Nothing that names this machine or its folders."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "sqlite": sqlite3.sqlite_version,
        "blas_threads": os.environ.get(THREAD_VARIABLES[0], "default"),
        "load_at_start": round(os.getloadavg()[0], 1),
        "day": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def document(machine: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """What is kept in a results file."""
    return {"machine": dict(machine), "rows": [asdict(each) for each in rows]}


def write(path: Path, kept: Mapping[str, Any]) -> None:
    """Write a results file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=2) + "\n")


def show(kept: Mapping[str, Any]) -> None:
    """Print a results document as a table."""
    about = kept["machine"]
    table = Table(
        title=f"speakerdb on {about['cpu']}, {about['cores']} cores, Python {about['python']}", title_justify="left"
    )
    table.add_column("what", overflow="fold")
    table.add_column("value", justify="right")
    table.add_column("unit", overflow="fold")
    table.add_column("goal", justify="right")
    table.add_column("holds")
    for each in kept["rows"]:
        holds = {True: "yes", False: "[red]no[/red]", None: ""}[each["holds"]]
        table.add_row(each["name"], f"{each['value']:,g}", each["unit"], each["goal"] or "", holds)
    Console().print(table)


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def median(seconds: Sequence[float]) -> float:
    """The middle of many timings: what a busy machine disturbs least."""
    return float(np.median(seconds))


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (OSError, ValueError):
        return None
