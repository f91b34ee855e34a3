"""Two processes on one library at once: they wait for each other or say so; nothing is done twice and nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from acceptance_kit import Ran, Shell, Zygote, assert_equal, contents, held, integrity, query, wait_for
from synthetic_voices import MadeUp, make_library, write_settings

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as made:
        yield made


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> list[MadeUp]:
    return make_library(tmp_path_factory.mktemp("media"), 6, voices=3, seconds=2.0)


@pytest.fixture
def shell(zygote: Zygote, tmp_path: Path) -> Shell:
    return Shell(zygote, tmp_path, tmp_path / "data", write_settings(tmp_path / "speakerdb.toml"))


def together(shell: Shell, *commands: Sequence[object]) -> list[Ran]:
    return [command.wait() for command in [shell.start(*args, "--json") for args in commands]]


def adding(media: Sequence[MadeUp]) -> list[object]:
    return ["add", *(m.path for m in media), "--turns", media[0].path.with_name("all.rttm")]


def codes(ran: Sequence[Ran]) -> list[int]:
    return sorted(each.exit_code for each in ran)


def test_two_first_starts(shell: Shell, media: list[MadeUp]) -> None:
    ran = together(shell, adding(media[:3]), adding(media[3:]), ["status"])
    assert codes(ran) == [0, 0, 0], ran
    status = shell.ok("status")
    assert (status["serving"], status["recordings"], status["libraries"]) == ("v3", 6, 1)
    index = contents(shell.data)["aliases"]
    assert index == {"speakers": ("speakers_v3",), "speakers_v3_write": ("speakers_v3",)}
    assert shell.ok("work")["recordings_done"] == 6


def test_the_same_files_added_by_two(shell: Shell, media: list[MadeUp]) -> None:
    ran = together(shell, adding(media), adding(media))
    assert codes(ran) == [0, 0], ran
    outcomes = [[row["report"]["outcome"] for row in each.json["recordings"]] for each in ran]
    assert sorted(outcomes[0] + outcomes[1]) == ["added"] * 6 + ["unchanged"] * 6
    assert query(shell.data, "SELECT count(*), count(DISTINCT path) FROM recordings") == [(6, 6)]


def test_two_schema_upgrades(shell: Shell) -> None:
    ran = together(shell, ["db", "upgrade"], ["db", "upgrade"], ["db", "upgrade"])
    assert codes(ran) == [0, 0, 0], ran
    assert len({each.json["revision"] for each in ran}) == 1
    integrity(shell.data)


def test_two_that_work(shell: Shell, media: list[MadeUp], tmp_path: Path) -> None:
    shell.ok(*adding(media))
    (tmp_path / "alone").mkdir()
    alone = Shell(shell.zygote, tmp_path / "alone", tmp_path / "alone" / "data", shell.config)
    shutil.copytree(shell.data, alone.data)
    alone.ok("work")

    forever = shell.start("work", "--forever", "--json")
    wait_for(lambda: held(shell.data, "work"))
    refused = shell("work", "--json")
    assert (refused.exit_code, refused.code) == (5, "lease-held")
    assert refused.json["error"]["hint"]
    wait_for(lambda: query(shell.data, "SELECT count(*) FROM work_items WHERE state = 'done'") == [(6,)])
    forever.send(15)
    assert forever.wait().json["recordings_done"] == 6
    assert query(shell.data, "SELECT max(attempts) FROM work_items") == [(1,)], "nothing was done twice"
    shell.ok("work")
    assert_equal(contents(shell.data), contents(alone.data))


def test_two_that_start_a_migration(shell: Shell, media: list[MadeUp]) -> None:
    shell.ok(*adding(media), "--now")
    ran = together(shell, *[["migrate", "start", "--to", "v4", "--detach"]] * 2)
    assert codes(ran) in ([0, 0], [0, 5]), ran
    assert {each.code for each in ran if each.exit_code} <= {"lease-held", "migration-active"}
    assert query(shell.data, "SELECT source, target, state FROM migrations") == [("v3", "v4", "running")]


def test_adding_while_another_works_and_while_another_finalizes(shell: Shell, media: list[MadeUp]) -> None:
    shell.ok(*adding(media[:3]))
    ran = together(shell, ["work"], adding(media[3:5]))
    assert codes(ran) == [0, 0], ran
    shell.ok("work")
    assert shell.ok("status")["progress"]["v3"]["recordings_done"] == 5
    shell.ok("migrate", "start", "--to", "v4")

    finalize, add = together(shell, ["migrate", "finalize", "--yes"], adding(media[5:]))
    assert add.exit_code == 0, "a writer waits for the fence, it does not fail"
    # Whoever comes first: the new recording is not extracted yet, and an unproven target is refused.
    assert finalize.exit_code == 0 or finalize.code == "gate-failed", finalize
    shell.ok("work")
    if finalize.exit_code:
        shell.ok("migrate", "finalize", "--yes")
    status = shell.ok("status")
    assert status["serving"] == "v4"
    assert {p["recordings_done"] for p in status["progress"].values()} == {6}
    found = contents(shell.data)
    assert len(found["documents"]["speakers_v3"]) == len(found["documents"]["speakers_v4"]) == 12
    integrity(shell.data)


def test_two_that_finalize(shell: Shell, media: list[MadeUp]) -> None:
    shell.ok(*adding(media[:2]), "--now")
    shell.ok("migrate", "start", "--to", "v4")
    ran = together(shell, *[["migrate", "finalize", "--yes"]] * 2)
    assert codes(ran) == [0, 5], ran
    assert {each.code for each in ran if each.exit_code} <= {"lease-held", "illegal-transition"}
    assert shell.ok("status")["serving"] == "v4"
    assert [e["kind"] for e in shell.ok("events")].count("migration-finalized") == 1
