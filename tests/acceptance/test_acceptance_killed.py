"""`kill -9` at random moments of real runs, and stops by signal: then the same command again, and a comparison."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance_kit import Command, Shell, Zygote, assert_equal, contents, held, integrity, query, wait_for
from synthetic_voices import make_library, write_settings

pytestmark = pytest.mark.acceptance

START = ("migrate", "start", "--to", "v4")
FINALIZE = ("migrate", "finalize", "--yes")


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as made:
        yield made


@pytest.fixture(scope="module")
def added(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A library that was added, and two voices named. Copy it, do not use it."""
    folder = tmp_path_factory.mktemp("added")
    made = make_library(folder / "media", 6, voices=3, seconds=3.0)
    shell = Shell(zygote, folder, folder / "data", write_settings(folder / "speakerdb.toml"))
    rows = shell.ok("add", *(m.path for m in made), "--turns", folder / "media" / "all.rttm")["recordings"]
    ann = shell.ok("profiles", "create", "Ann")["id"]
    shell.ok("speakers", "assign", rows[0]["report"]["speakers"]["A"], ann)
    shell.ok("speakers", "assign", rows[3]["report"]["speakers"]["A"], ann)
    shell.ok("speakers", "rename", rows[1]["report"]["speakers"]["B"], "Berta")
    return shell


@pytest.fixture(scope="module")
def uninterrupted(added: Shell) -> dict[str, object]:
    """What the whole story leaves when nothing disturbs it, in one process."""
    shell = copied(added, added.folder / "uninterrupted")
    for command in (("work",), START, FINALIZE):
        shell.ok(*command)
    found = contents(shell.data)
    assert len(found["documents"]["speakers_v4"]) == 13, "twelve speakers and a profile"
    return found


def copied(added: Shell, folder: Path, *, executor: str = "inline", more: str = "") -> Shell:
    folder.mkdir(exist_ok=True)
    shutil.copytree(added.data, folder / "data")
    config = write_settings(folder / "speakerdb.toml", executor=executor, more=more)
    return Shell(added.zygote, folder, folder / "data", config)


def killed(shell: Shell, args: tuple[str, ...], lease: str, seconds: float) -> Command:
    """A command that is killed so long after it took its lease, if it has not ended by then."""
    command = shell.start(*args)
    wait_for(lambda: held(shell.data, lease) or command.ended)
    time.sleep(seconds)
    command.send(signal.SIGKILL)
    command.wait()
    shell.no_worker_left()
    return command


@pytest.mark.parametrize(("executor", "seed"), [("inline", 1), ("inline", 2), ("process", 3)])
def test_killed_at_random_and_continued_equals_uninterrupted(
    executor: str, seed: int, added: Shell, uninterrupted: dict[str, object], tmp_path: Path
) -> None:
    rng = random.Random(seed)  # noqa: S311
    shell = copied(added, tmp_path / "library", executor=executor)
    longest = 0.4 if executor == "inline" else 3.0
    # No more than twice each: an item whose process died three times is given up as the one that kills it.
    for args, lease in ((("work",), "work"), (START, "work"), (FINALIZE, "migration")):
        for _ in range(2 if lease == "work" else 1):
            killed(shell, args, lease, rng.uniform(0, longest if lease == "work" else 0.1))
            integrity(shell.data)
        again = shell(*args, "--json")
        assert again.exit_code == 0 or (args == FINALIZE and again.code == "illegal-transition"), again
    assert_equal(contents(shell.data), uninterrupted)
    shell.no_worker_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_stops_work_cleanly(number: signal.Signals, added: Shell, tmp_path: Path) -> None:
    shell = copied(added, tmp_path / "library")
    command = shell.start("work", "--forever", "--json")
    wait_for(lambda: query(shell.data, "SELECT 1 FROM work_items WHERE state = 'done'") != [])
    command.send(number)
    ran = command.wait()
    assert ran.exit_code == 128 + number, ran
    assert ran.json["stopped"] == "stopped"
    assert "to continue" in ran.err
    assert query(shell.data, "SELECT count(*) FROM work_items WHERE state NOT IN ('done', 'queued')") == [(0,)]
    assert query(shell.data, "SELECT count(*) FROM work_items WHERE state = 'queued' AND attempts > 0") == [(0,)]
    assert not held(shell.data, "work")
    shell.ok("work")
    assert shell.ok("status")["progress"]["v3"]["recordings_done"] == 6


def test_ctrl_c_reaches_the_workers_too_and_loses_nothing(added: Shell, tmp_path: Path) -> None:
    shell = copied(added, tmp_path / "library", executor="process")
    command = shell.start("work", "--forever", "--json")
    wait_for(lambda: query(shell.data, "SELECT 1 FROM work_items WHERE state = 'done'") != [])
    os.killpg(command.pid, signal.SIGINT)
    ran = command.wait()
    assert ran.exit_code == 128 + signal.SIGINT, ran
    assert "Traceback" not in ran.err
    shell.no_worker_left()
    assert query(shell.data, "SELECT count(*) FROM work_items WHERE state NOT IN ('done', 'queued')") == [(0,)]
    assert shell.ok("work")["recordings_failed"] == 0
    assert shell.ok("status")["progress"]["v3"]["recordings_done"] == 6
