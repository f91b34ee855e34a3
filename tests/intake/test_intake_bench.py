"""The benchmark of bringing in runs, at a toy size, and has its goals at the real one. Nothing is said about time."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import bringing
from benchmarks.run import FULL


def test_the_benchmark_brings_in_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bringing, "GOAL_RECORDINGS", 6)
    rows = bringing.bringing(tmp_path, (3, 6))
    assert len({row.name for row in rows}) == len(rows)
    assert sum(row.goal is not None for row in rows) == 3
    assert str(tmp_path) not in str(rows)
    monkeypatch.undo()
    assert FULL.library[-1] == bringing.GOAL_RECORDINGS == 10_000


def test_every_file_is_unlike_every_other(tmp_path: Path) -> None:
    bringing.make(tmp_path / "made", 5)
    assert len({path.read_bytes() for path in (tmp_path / "made").rglob("*.wav")}) == 5
