"""The benchmark of repair runs, at toy sizes, and finds what it broke. Nothing is said about time."""

from __future__ import annotations

from pathlib import Path

from benchmarks import repairing


def test_the_benchmark_of_repair_runs(tmp_path: Path) -> None:
    rows = repairing.embedded(tmp_path, (200, 400), times=1)
    assert len({row.name for row in rows}) == len(rows) == 5
    assert sum(row.goal is not None for row in rows) == 3
