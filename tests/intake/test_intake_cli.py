"""`add` over folders and manifests, and `remove` of several, as they are typed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import intake_kit as kit
import pytest

from speakerdb.cli import intake_view, session
from speakerdb.cli.main import main
from speakerdb.cli.output import console_for
from speakerdb.errors import DuplicateEntry, InvalidManifest, MediaMissing, NotFound
from speakerdb.reports.intake import IntakeEvent
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path
) -> Callable[..., Ran]:
    def opened(_: Any) -> SpeakerDB:
        return SpeakerDB.open(fake_settings(data), executor=FakeExecutor())

    monkeypatch.setattr(session, "open_service", opened)
    monkeypatch.setenv("SPEAKERDB_DATA_DIR", str(data))
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> Ran:
        code = main([str(a) for a in args])
        return Ran(code, *capsys.readouterr())

    return run


def test_a_library_as_json(cli: Callable[..., Ran], tmp_path: Path, data: Path) -> None:
    path = kit.library(tmp_path, 3)
    kit.manifest(path, [*kit.entries_of(path), {"path": "gone.wav", "turns": kit.TURNS}, "x"])
    ran = cli("add", path, "--json")
    assert ran.code == MediaMissing.exit_code
    answer = ran.json
    assert (answer["added"], answer["recordings"], answer["work"]) == (3, 5, None)
    assert answer["refused"]["total"] == 2
    assert answer["refused"]["by_code"] == {"media-missing": 1, "invalid-manifest": 1}
    assert [each["exit_code"] for each in answer["refused"]["sample"]] == [
        MediaMissing.exit_code,
        InvalidManifest.exit_code,
    ]
    assert (answer["error"]["code"], answer["error"]["exit_code"]) == ("media-missing", ran.code)
    refused = Path(answer["refused_file"])
    assert refused.parent == data / "refused"
    assert [line["error"]["code"] for line in kit.entries_of(refused)] == ["media-missing", "invalid-manifest"]


def test_a_library_as_text(cli: Callable[..., Ran], tmp_path: Path, data: Path) -> None:
    kit.with_turns(tmp_path / "lib" / "a.wav")
    (tmp_path / "lib" / "cover.jpg").touch()
    ran = cli("add", tmp_path / "lib", kit.sound(tmp_path / "alone.wav", 3), "--no-diarize")
    assert ran.code == 4
    for shown in ("Added 1", "Refused 1", "1 other", "alone.wav came without turns. [needs-turns]"):
        assert shown in " ".join(ran.out.split()), shown
    assert "speakerdb add " + str(data / "refused") in ran.err
    assert "next: `speakerdb work`" in ran.err
    (written,) = (data / "refused").iterdir()
    again = cli("add", written, "--no-diarize")
    assert again.code == 4
    assert "next: `speakerdb work`" not in again.err


def test_a_dry_run(cli: Callable[..., Ran], tmp_path: Path, data: Path) -> None:
    path = kit.library(tmp_path, 2)
    ran = cli("add", path, "--dry-run")
    assert (ran.code, "Would be added" in ran.out) == (0, True)
    assert cli("add", tmp_path / "media" / "000.wav", "--no-diarize", "--dry-run", "--json").json["refused"][
        "by_code"
    ] == {"needs-turns": 1}
    assert not (data / "refused").exists()
    assert kit.rows(data, "SELECT count(*) FROM recordings") == [(0,)]


def test_now_does_the_work(cli: Callable[..., Ran], tmp_path: Path) -> None:
    ran = cli("add", kit.library(tmp_path, 2), "--now", "--json")
    assert (ran.code, ran.json["work"]["recordings_done"]) == (0, 2)


def test_duplicates_and_the_file_for_the_refused(cli: Callable[..., Ran], tmp_path: Path) -> None:
    path = kit.library(tmp_path, 1)
    ran = cli("add", path, path, "--refused", tmp_path / "out.jsonl", "--json")
    assert ran.code == DuplicateEntry.exit_code
    assert ran.json["refused_file"] == str(tmp_path / "out.jsonl")


@pytest.mark.parametrize("args", [["--id", "x"], ["--name", "A=Ann"]])
def test_what_a_manifest_says_itself(args: list[str], cli: Callable[..., Ran], tmp_path: Path) -> None:
    ran = cli("add", kit.library(tmp_path, 1), *args)
    assert (ran.code, "manifest" in ran.err) == (4, True)


def test_turns_beside_a_file_are_found(cli: Callable[..., Ran], tmp_path: Path) -> None:
    file = kit.with_turns(tmp_path / "a.wav")
    ran = cli("add", file, "--json")
    assert ran.code == 0
    assert ran.json["recordings"][0]["report"]["turns"] == 2


def test_a_name_that_is_not_text(cli: Callable[..., Ran], tmp_path: Path) -> None:
    file = kit.with_turns(tmp_path / os.fsdecode(b"caf\xe9.wav"))
    for args in (["add", file, "--json"], ["add", file, "--dry-run", "--json"], ["add", tmp_path, "--json"]):
        ran = cli(*args)
        assert ran.code == 6
        assert ran.json["error"]["code"] == "media-unreadable"
        assert "UTF-8" in ran.json["error"]["message"]


def test_many_are_removed_and_one_is_not_there(cli: Callable[..., Ran], tmp_path: Path) -> None:
    cli("add", kit.library(tmp_path, 3))
    ran = cli("remove", "r000", "nobody", "r002", "--yes", "--json")
    assert ran.code == NotFound.exit_code
    assert ran.json["removed"] == ["r000", "r002"]
    assert ran.json["error"]["code"] == "not-found"
    ran = cli("remove", "r001", "r000", "--yes")
    assert "Removed r001." in ran.out
    assert "error[not-found]" in ran.err
    assert cli("recordings", "list", "--json").json == []


def test_progress_on_a_terminal_and_in_a_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    event = IntakeEvent(3000, 2000, 1, 990, 9, 2.0)
    text = "3,000 recordings, 1,500 a second: 2,000 added, 1 changed, 990 unchanged, 9 refused, elapsed 0:00:02"
    assert intake_view.line_text(event) == text
    monkeypatch.setattr(intake_view, "LINE_SECONDS", 0.0)
    with intake_view.IntakeView(console_for(sys.stderr)) as view:
        view(event)
    assert text in capsys.readouterr().err
