"""The benchmarks run, at toy sizes, and what they keep has the promised shape. Nothing is said about time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import libraries, report, sound
from benchmarks.run import Sizes, run
from benchmarks.searching import plain_search

TOY = Sizes(recordings=6, memory=(4, 8), speakers=(20, 40), rounds=2, batches=1, times=1, sound_seconds=14.0)
PRODUCT_PARTS = ("orchestration", "memory", "search")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return run(tmp_path_factory.mktemp("bench"), quick=True, parts=PRODUCT_PARTS, sizes=TOY)


def test_what_is_kept_is_a_machine_and_rows(kept: dict, tmp_path: Path) -> None:
    report.write(tmp_path / "new" / "latest.json", kept)
    read = json.loads((tmp_path / "new" / "latest.json").read_text())
    assert set(read) == {"machine", "rows"}
    # Keys that name the machine itself have no place here.
    assert set(read["machine"]) == {
        "cpu", "cores", "memory_gib", "platform", "python", "numpy", "sqlite", "blas_threads", "load_at_start", "day", "sizes",
    }  # fmt: skip
    for row in read["rows"]:
        assert set(row) == {"name", "value", "unit", "goal", "holds"}
        assert isinstance(row["value"], float | int)
        assert (row["goal"] is None) == (row["holds"] is None)


def test_every_goal_of_the_project_has_its_rows(kept: dict) -> None:
    goals = [row["name"] for row in kept["rows"] if row["goal"]]
    for start, count in (
        ("orchestration", 1), ("memory", 1), ("match at", 2), ("batch of", 2), ("opening", 2), ("index of", 2),
    ):  # fmt: skip
        assert sum(name.startswith(start) for name in goals) == count, start


def test_names_are_unique_and_nothing_names_this_machine(kept: dict, tmp_path: Path) -> None:
    names = [row["name"] for row in kept["rows"]]
    assert len(set(names)) == len(names)
    text = json.dumps(kept)
    assert str(tmp_path.parent.parent) not in text
    assert str(Path.home()) not in text


def test_decoding_is_measured(tmp_path: Path) -> None:
    rows = sound.decoding(tmp_path, 14.0, times=1)
    assert [row.goal for row in rows] == [None, None]
    assert all(row.value > 0 for row in rows)


def test_a_bound_is_judged_from_its_side() -> None:
    assert report.row("rate", 499.99, "x", at_least=500) == report.Row("rate", 500.0, "x", ">= 500", False)
    assert report.row("ratio", 1.5, "x", at_most=2) == report.Row("ratio", 1.5, "x", "<= 2", True)
    assert report.row("free", 1.0, "x").holds is None


def test_the_plain_search_finds_the_best_rows_best_first() -> None:
    matrix = libraries.voices(50)
    found = plain_search(matrix, matrix[7], 5)
    assert found[0][0] == 7
    scores = (matrix @ matrix[7]).tolist()
    assert [score for _, score in found] == pytest.approx(sorted(scores, reverse=True)[:5])


def test_the_table_shows_every_goal_with_its_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        report.row("rate", 4.0, "x", at_least=5),
        report.row("ratio", 1.5, "y", at_most=2),
        report.row("z", 3.0, ""),
    ]
    report.show(report.document({"cpu": "c", "cores": 2, "python": "3"}, rows))
    shown = capsys.readouterr().out
    assert all(part in shown for part in (">= 5", "no", "<= 2", "yes", "z"))
