"""The report of a soak: what each run met is kept at once, and what is in it is not run again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from speakerdb.testing.chaos import __main__ as soak
from speakerdb.testing.chaos.fates import by_seed
from speakerdb.testing.chaos.run import Outcome
from speakerdb.testing.history_check import Violation


def outcome(points: int, *violations: Violation) -> Outcome:
    """What a run of so many kills found."""
    return Outcome(
        "1/0", "files", Counter({"kill statement": points}), Counter(acknowledged=9), 5, 7, 2.5, list(violations)
    )


def test_a_report_goes_on_where_it_was_ended_and_keeps_other_seeds(tmp_path: Path) -> None:
    path = tmp_path / "new" / "soak.json"
    first = soak.Report(path, "files", "1", 100)
    first.take(outcome(60))
    soak.Report(path, "servers", "1", 100).take(outcome(10))
    again = soak.Report(path, "files", "1", 100)
    assert (again.points, again.runs, again.seed, again.violations) == (60, 1, "1/1", 0)
    again.take(outcome(50, Violation("lost", "a name")))
    kept = json.loads(path.read_text())["soaks"]
    assert [(each["backend"], each["crash_points"], each["runs"]) for each in kept] == [
        ("files", 110, 2),
        ("servers", 10, 1),
    ]
    assert kept[0]["points"] == {"kill statement": 110}
    assert kept[0]["violations"] == [{"run": 1, "kind": "lost", "text": "a name"}]
    assert {"speakerdb", "python", "system"} <= set(kept[0]["versions"])
    assert kept[0]["day"]
    assert str(tmp_path) not in path.read_text()


def test_what_is_done_is_not_done_again_and_a_violation_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "soak.json"
    soak.Report(path, "files", "1", 50).take(outcome(50))
    args = ["--points", "50", "--backend", "files", "--report", str(path)]
    assert soak.main(args) == 0
    assert "50 are in" in capsys.readouterr().out
    soak.Report(path, "files", "1", 50).take(outcome(1, Violation("lost", "a name")))
    assert soak.main(args) == 1


def test_a_seed_gives_the_same_fates_again() -> None:
    def some(seed: str) -> list[object]:
        fates = by_seed(seed, "service", longest=300)
        return [next(fates) for _ in range(200)]

    assert some("1/client0-2") == some("1/client0-2") != some("2/client0-2")
    assert {fate.kind for fate in some("1")} == {"kill", "kill-elsewhere", "stop", "lose"}  # type: ignore[attr-defined]
