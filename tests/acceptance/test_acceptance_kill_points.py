"""`kill -9` at commits and writes of the index of each verb; then the same command again.

A few of each verb's points by default, all of them under HYPOTHESIS_PROFILE=thorough (some ten minutes). What stands in
SQL and in the index afterwards is what an uninterrupted run leaves: nothing lost, nothing half-written.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from acceptance_kit import Shell, Zygote, assert_equal, contents, integrity, query
from synthetic_voices import make_library, write_settings

pytestmark = pytest.mark.acceptance


@dataclass(frozen=True)
class Verb:
    """A command, and the stage of the library at which it is given."""

    stage: str
    args: tuple[str, ...]
    done_codes: tuple[str, ...] = ()
    """What it may answer when the killed one had done everything already."""

    def __str__(self) -> str:
        return "-".join(self.args[:2]).strip("-")


MOST_POINTS = 6

FINALIZE = Verb("started", ("migrate", "finalize", "--yes"), ("illegal-transition",))
VERBS = (
    Verb("empty", ("add",)),
    Verb("added", ("work",)),
    Verb("named", ("migrate", "start", "--to", "v4")),
    FINALIZE,
    Verb("finalized", ("migrate", "rollback", "--yes"), ("no-migration",)),
    Verb("finalized", ("migrate", "retire", "--yes")),
    Verb("started", ("migrate", "cancel", "--yes"), ("no-migration",)),
    Verb("finalized", ("index", "rebuild", "v4")),
)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as made:
        yield made


@pytest.fixture(scope="module")
def stages(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell whose folder holds the library as it is at each stage, as `stage-NAME`."""
    folder = tmp_path_factory.mktemp("stages")
    made = make_library(folder / "media", 3, voices=3, seconds=2.0)
    shell = Shell(zygote, folder, folder / "data", write_settings(folder / "speakerdb.toml"))

    def keep(name: str) -> None:
        shutil.copytree(shell.data, folder / f"stage-{name}")

    (folder / "stage-empty").mkdir()
    added = shell.ok(*adding(folder))
    keep("added")
    shell.ok("work")
    speakers = added["recordings"][0]["report"]["speakers"]
    ann = shell.ok("profiles", "create", "Ann")["id"]
    shell.ok("speakers", "assign", speakers["A"], ann)
    shell.ok("speakers", "rename", speakers["B"], "Berta")
    keep("named")
    shell.ok("migrate", "start", "--to", "v4")
    keep("started")
    shell.ok("migrate", "finalize", "--yes")
    keep("finalized")
    assert len(made) == 3
    return shell


def adding(folder: Path) -> list[object]:
    return ["add", *sorted((folder / "media").glob("*.wav")), "--turns", folder / "media" / "all.rttm"]


def at(stages: Shell, verb: Verb, place: Path) -> Shell:
    data = place / "data"
    shutil.copytree(stages.folder / f"stage-{verb.stage}", data)
    return replace(stages, folder=place, data=data)


@pytest.mark.parametrize("verb", VERBS, ids=str)
def test_a_verb_that_is_killed_anywhere_is_finished_by_giving_it_again(
    verb: Verb, stages: Shell, tmp_path: Path
) -> None:
    args = adding(stages.folder) if verb.args == ("add",) else list(verb.args)
    (whole := tmp_path / "whole").mkdir()
    shell = at(stages, verb, whole)
    record = whole / "points.txt"
    assert shell(*args, points=record).exit_code == 0
    points = record.read_text().splitlines()
    assert {name.split()[0] for name in points} == {"before", "after"}
    expected = contents(shell.data)

    numbers: Sequence[int] = range(len(points))
    if os.environ.get("HYPOTHESIS_PROFILE") != "thorough":
        chosen = random.Random(str(verb)).sample(numbers, min(MOST_POINTS, len(points)))  # noqa: S311
        numbers = sorted(chosen)
    for number in numbers:
        name = points[number]
        (place := tmp_path / f"{number}").mkdir()
        shell = at(stages, verb, place)
        assert shell(*args, points=place / "points.txt", die_at=number).exit_code == -signal.SIGKILL
        states = [state for (state,) in query(shell.data, "SELECT state FROM migrations")] if verb.done_codes else []
        again = shell(*args, "--json")
        if states and states[-1] in ("finalized", "rolled_back", "cancelled") and states[-1] != verb.stage:
            assert again.code in verb.done_codes, (number, name, again)
        else:
            assert again.exit_code == 0, (number, name, again)
        assert_equal(contents(shell.data), expected)
        integrity(shell.data)
        shutil.rmtree(place)
