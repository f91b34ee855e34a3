"""`kill -9` at commits and writes of the index of each verb; then the same command again. On files, and on real servers.

A few of each verb's points by default, all of them under HYPOTHESIS_PROFILE=thorough (some ten minutes on files). What
stands in SQL and in the index afterwards is what an uninterrupted run leaves: nothing lost, nothing half-written.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from acceptance_kit import Shell, Zygote, assert_equal, contents, integrity, prove, query
from synthetic_voices import make_library, write_settings

from speakerdb.testing.backends import FILES, Backend, Saved

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


THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
MOST_POINTS = 3
MOST_ON_SERVERS = 2

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
ON_SERVERS = (
    VERBS if THOROUGH else [verb for verb in VERBS if str(verb) in ("work", "migrate-start", "migrate-finalize")]
)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as made:
        yield made


@dataclass(frozen=True)
class Stages:
    """A library as it is at each stage, and a shell to use copies of it."""

    shell: Shell
    backend: Backend
    saved: dict[str, Saved | None]

    @contextmanager
    def at(self, verb: Verb, place: Path) -> Iterator[Shell]:
        shell = self.shell.moved(self.backend, place, self.saved[verb.stage])
        yield shell
        self.backend.remove(shell.settings)


@contextmanager
def _stages(backend: Backend, zygote: Zygote, folder: Path) -> Iterator[Stages]:
    made = make_library(folder / "media", 3, voices=3, seconds=2.0)
    bare = Shell(zygote, folder, folder / "nowhere", write_settings(folder / "speakerdb.toml"))
    shell = bare.moved(backend, folder / "library")
    settings = shell.settings
    saved: dict[str, Saved | None] = {"empty": None}
    added = shell.ok(*adding(folder))
    saved["added"] = backend.save(settings)
    shell.ok("work")
    speakers = added["recordings"][0]["report"]["speakers"]
    ann = shell.ok("profiles", "create", "Ann")["id"]
    shell.ok("speakers", "assign", speakers["A"], ann)
    shell.ok("speakers", "rename", speakers["B"], "Berta")
    saved["named"] = backend.save(settings)
    shell.ok("migrate", "start", "--to", "v4")
    saved["started"] = backend.save(settings)
    shell.ok("migrate", "finalize", "--yes")
    saved["finalized"] = backend.save(settings)
    assert len(made) == 3
    yield Stages(bare, backend, saved)
    backend.remove(settings)


@pytest.fixture(scope="module")
def stages(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    with _stages(FILES, zygote, tmp_path_factory.mktemp("stages")) as made:
        yield made


@pytest.fixture(scope="module")
def server_stages(
    zygote: Zygote, servers_backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stages]:
    with _stages(servers_backend, zygote, tmp_path_factory.mktemp("stages")) as made:
        yield made


def adding(folder: Path) -> list[object]:
    return ["add", *sorted((folder / "media").glob("*.wav")), "--turns", folder / "media" / "all.rttm"]


@pytest.mark.parametrize("verb", VERBS, ids=str)
def test_a_verb_that_is_killed_anywhere_is_finished_by_giving_it_again(
    verb: Verb, stages: Stages, tmp_path: Path
) -> None:
    _kill_and_give_again(verb, stages, tmp_path, MOST_POINTS)


@pytest.mark.parametrize("verb", ON_SERVERS, ids=str)
def test_on_servers_a_verb_that_is_killed_anywhere_is_finished_by_giving_it_again(
    verb: Verb, server_stages: Stages, tmp_path: Path
) -> None:
    _kill_and_give_again(verb, server_stages, tmp_path, MOST_ON_SERVERS)


def _kill_and_give_again(verb: Verb, stages: Stages, folder: Path, most: int) -> None:
    args = adding(stages.shell.folder) if verb.args == ("add",) else list(verb.args)
    record = folder / "points.txt"
    with stages.at(verb, folder / "whole") as shell:
        assert shell(*args, points=record).exit_code == 0
        expected = contents(shell)
    points = record.read_text().splitlines()
    assert {name.split()[0] for name in points} == {"before", "after"}

    numbers: Sequence[int] = range(len(points))
    if not THOROUGH:
        chosen = random.Random(str(verb)).sample(numbers, min(most, len(points)))  # noqa: S311
        numbers = sorted(chosen)
    for number in numbers:
        name, place = points[number], folder / f"{number}"
        with stages.at(verb, place) as shell:
            assert shell(*args, points=place / "points.txt", die_at=number).exit_code == -signal.SIGKILL
            states = [state for (state,) in query(shell, "SELECT state FROM migrations")] if verb.done_codes else []
            again = shell(*args, "--json")
            if states and states[-1] in ("finalized", "rolled_back", "cancelled") and states[-1] != verb.stage:
                assert again.code in verb.done_codes, (number, name, again)
            else:
                assert again.exit_code == 0, (number, name, again)
            assert_equal(contents(shell), expected)
            integrity(shell)
            prove(shell)
        shutil.rmtree(place)
