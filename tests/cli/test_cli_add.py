"""`add`: which turns belong to which file, and one bad file among good ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from speakerdb.diarizers.asked import Asked
from speakerdb.diarizers.port import Hints
from speakerdb.errors import DatabaseUnavailable, InvalidTurns, MediaMissing
from tests.cli.conftest import CommandLine

Rttm = Callable[..., Path]


def starts(cli: CommandLine) -> dict[str, list[float]]:
    """The start of each turn that was added, by file name."""
    return {args[0].name: [t.start for t in args[1]] for args, _ in cli.db.named("add")}


def test_without_turns(cli: CommandLine) -> None:
    ran = cli("add", "one.wav", "--no-diarize", "--json")
    assert (ran.exit_code, ran.json["error"]["code"]) == (4, "needs-turns")


def test_without_turns_a_diarizer_is_told_what_is_known(cli: CommandLine) -> None:
    assert cli("add", "unknown.wav", "--num-speakers", "2", "--channels", "as-speakers").exit_code == 0
    ((args, kwargs),) = cli.db.named("add")
    assert args[1] is None
    assert kwargs["asked"] == Asked(Hints(2), "as-speakers")
    ran = cli("add", "one.wav", "--min-speakers", "3", "--max-speakers", "2", "--json")
    assert (ran.exit_code, ran.json["error"]["code"]) == (4, "invalid-input")


def test_one_file_takes_the_only_recording_of_an_rttm(cli: CommandLine, rttm: Rttm) -> None:
    rttm("another-name")
    ran = cli("add", "one.wav", "--turns", "turns.rttm", "--id", "rec", "--library", "tv", "--name", "A=Ada B")
    assert ran.exit_code == 0
    ((args, kwargs),) = cli.db.named("add")
    assert args[0] == Path("one.wav")
    assert kwargs == {"recording_id": "rec", "library": "tv", "names": {"A": "Ada B"}, "asked": Asked()}
    assert "rec-one" in ran.out


def test_many_files_find_their_turns_by_name(cli: CommandLine, rttm: Rttm) -> None:
    rttm("zero", "one", "two")
    assert cli("add", "media/two.mp3", "one.wav", "--turns", "turns.rttm").exit_code == 0
    assert starts(cli) == {"two.mp3": [2.0], "one.wav": [1.0]}


def test_a_recording_that_the_rttm_lacks_is_named_with_those_it_has(cli: CommandLine, rttm: Rttm) -> None:
    rttm("zero", "one")
    ran = cli("add", "three.wav", "--turns", "turns.rttm")
    assert ran.exit_code == 4
    assert "error[invalid-turns]" in ran.err
    assert "one, zero" in ran.err


def test_a_folder_holds_a_file_for_each(cli: CommandLine, rttm: Rttm, tmp_path: Path) -> None:
    rttm("whatever", file="turns/one.rttm")
    (tmp_path / "turns" / "two.json").write_text(json.dumps([{"start": 7, "end": 9, "speaker": "B"}]))
    assert cli("add", "one.wav", "two.wav", "--turns", "turns").exit_code == 0
    assert starts(cli) == {"one.wav": [0.0], "two.wav": [7.0]}


def test_a_folder_with_two_answers_or_none(cli: CommandLine, rttm: Rttm, tmp_path: Path) -> None:
    rttm("one", file="turns/one.rttm")
    (tmp_path / "turns" / "one.json").write_text("[]")
    ran = cli("add", "one.wav", "two.wav", "--turns", "turns", "--json")
    assert [row["error"]["code"] for row in ran.json["recordings"]] == ["invalid-turns", "needs-turns"]
    assert ran.exit_code == 4


def test_a_json_list_is_one_recording(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "turns.json").write_text(json.dumps([{"start": 1, "end": 2, "speaker": "B"}]))
    assert cli("add", "one.wav", "--turns", "turns.json").exit_code == 0
    assert cli("add", "two.wav", "three.wav", "--turns", "turns.json").exit_code == 4
    assert starts(cli) == {"one.wav": [1.0]}


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"SPEAKER one\n"])
def test_turns_that_cannot_be_read(content: bytes, cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "turns.rttm").write_bytes(content)
    assert cli("add", "one.wav", "--turns", "turns.rttm").exit_code == 4
    assert not cli.db.calls


def test_turns_that_are_not_there(cli: CommandLine) -> None:
    ran = cli("add", "one.wav", "--turns", "nowhere.rttm")
    assert ran.exit_code == 4
    assert "nowhere.rttm" in ran.err


@pytest.mark.parametrize(
    "args",
    [
        ["a.wav", "b.wav", "--id", "x"],
        ["a.wav", "b.wav", "--name", "A=Ada"],
        ["x/a.wav", "y/a.mp3"],
        ["a.wav", "--name", "Ada"],
        ["a.wav", "--name", "=Ada"],
    ],
)
def test_what_cannot_be_meant(args: list[str], cli: CommandLine, rttm: Rttm) -> None:
    rttm("a", "b")
    assert cli("add", *args, "--turns", "turns.rttm").exit_code == 4
    assert not cli.db.calls


def test_one_bad_file_does_not_stop_the_others(cli: CommandLine, rttm: Rttm) -> None:
    rttm("one", "two", "three")
    cli.db.refused_files = {"one.wav": MediaMissing("It is not there."), "two.wav": InvalidTurns("Not turns.")}
    ran = cli("add", "one.wav", "two.wav", "three.wav", "--turns", "turns.rttm")
    assert ran.exit_code == MediaMissing.exit_code
    assert "rec-three" in ran.out
    assert "error[media-missing]: one.wav" in ran.err
    ran = cli("add", "one.wav", "two.wav", "three.wav", "--turns", "turns.rttm", "--json")
    assert [r["error"] and r["error"]["code"] for r in ran.json["recordings"]] == [
        "media-missing",
        "invalid-turns",
        None,
    ]
    assert ran.json["error"]["code"] == "media-missing"
    assert ran.json["error"]["exit_code"] == ran.exit_code == MediaMissing.exit_code


def test_what_concerns_all_files_stops_at_once(cli: CommandLine, rttm: Rttm) -> None:
    rttm("one", "two")
    cli.db.refused_files = {"one.wav": DatabaseUnavailable("It is locked.")}
    assert cli("add", "one.wav", "two.wav", "--turns", "turns.rttm").exit_code == DatabaseUnavailable.exit_code
    assert len(cli.db.named("add")) == 1


def test_now_does_the_work(cli: CommandLine, rttm: Rttm) -> None:
    rttm("one")
    ran = cli("add", "one.wav", "--turns", "turns.rttm", "--now", "--json")
    assert ran.json["work"]["stopped"] == "drained"
    assert cli.db.named("work")
    cli("add", "one.wav", "--turns", "turns.rttm")
    assert len(cli.db.named("work")) == 1


@pytest.mark.parametrize("more", [("--turns", "turns.rttm"), ("--no-diarize",)])
def test_numbers_for_a_diarizer_that_is_not_asked_are_refused(
    cli: CommandLine, rttm: Rttm, more: tuple[str, ...]
) -> None:
    rttm("one")
    ran = cli("add", "one.wav", *more, "--num-speakers", "2", "--json")
    assert (ran.exit_code, ran.json["error"]["code"]) == (4, "invalid-input")
    assert cli.db.named("add") == []
