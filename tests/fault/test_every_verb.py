"""Every verb once on a real library: with `--json` one document on standard output and nothing else, without it some text,
and the exit code that was meant. Sound and networks are real (generated voices, spectral models); only the hub is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from fault_kit import CommandLine, make_command_line
from synthetic_voices import make_library, make_recording, write_settings

from speakerdb.cli.main import app, main

Words = list[object]


class Day:
    """A library, and a command for each verb that fits the state it is in by then. The order is that of a working day."""

    def __init__(self, cli: CommandLine) -> None:
        self.cli = cli
        self.media = cli.folder / "media"
        self.list = cli.folder / "list.txt"

    def speaker(self, number: int = 0) -> str:
        """Of a recording whose speakers have several turns each; ids are made up, so their order says nothing."""
        listed = self.cli.ok("speakers", "list", "--recording", self.recording("talk00"))
        return str(sorted(each["id"] for each in listed)[number])

    def profile(self, name: str) -> str:
        return next(str(each["id"]) for each in self.cli.ok("profiles", "list") if each["name"] == name)

    def recording(self, stem: str) -> str:
        return next(str(r["id"]) for r in self.cli.ok("recordings", "list") if Path(str(r["path"])).stem == stem)

    def commands(self) -> Iterator[tuple[str, Callable[[], Words], int]]:
        """Verb, its arguments as they are then, and the exit code."""
        nothing: Callable[[], Words] = list
        yield "db upgrade", nothing, 0
        yield "add", lambda: [self.media], 0
        yield "recordings list", nothing, 0
        yield "status", nothing, 0
        yield "work", nothing, 0
        yield "speakers list", nothing, 0
        yield "speakers show", lambda: [self.speaker()], 0
        yield "match", lambda: ["--speaker", self.speaker()], 0
        yield "profiles create", lambda: ["Ada", "--why", "first guest"], 0
        yield "profiles create", lambda: ["Eve"], 0
        yield "speakers assign", lambda: [self.speaker(), self.profile("Ada")], 0
        yield "speakers unassign", lambda: [self.speaker()], 0
        yield "undo", lambda: ["--yes"], 0
        yield "speakers rename", lambda: [self.speaker(), "Ada L.", "--why", "heard it"], 0
        yield "profiles rename", lambda: [self.profile("Ada"), "Ada Lovelace"], 0
        yield "profiles merge", lambda: [self.profile("Eve"), self.profile("Ada Lovelace")], 0
        yield "profiles list", nothing, 0
        yield "profiles show", lambda: [self.profile("Ada Lovelace")], 0
        yield "profiles create", lambda: ["Nobody"], 0
        yield "profiles delete", lambda: [self.profile("Nobody"), "--yes"], 0
        yield "speakers split", lambda: [self.speaker(), "--turns", "1"], 0
        yield "undo", lambda: ["--yes"], 0
        yield "work", nothing, 0
        yield "diarize", self._given_turns, 0
        yield "diarize evaluate", lambda: [self.media / "talk01.rttm", self.cli.folder / "turns" / "talk01.rttm"], 0
        yield "assignments list", lambda: [self.recording("talk00")], 0
        yield "assignments keep", lambda: ["--library", "default"], 0
        yield "label", self._transcript, 0
        yield "transcripts list", nothing, 0
        yield "transcripts show", lambda: [self.recording("talk00")], 0
        yield "transcripts words", lambda: ["--phrases", "2"], 0
        yield "transcripts remove", lambda: [self.recording("talk00"), "--yes", "--why", "asked for"], 0
        yield "explain", lambda: [self.speaker()], 0
        yield "explain", lambda: [self.recording("talk01")], 0
        yield "plot", lambda: ["speech", "--out", self.cli.folder / "speech.svg"], 0
        yield "overlaps list", lambda: ["--recording", self.recording("talk00"), "--least-seconds", "0.1"], 0
        yield "statistics speaker", lambda: [self.speaker()], 0
        yield "statistics profile", lambda: [self.profile("Ada Lovelace"), "--rows", "3"], 0
        yield "statistics library", lambda: ["default"], 0
        yield "recipe list", nothing, 0
        yield "recipe show", lambda: ["v4", "--budget", "20", "--settings-for", "v4"], 0
        yield "recipe try", lambda: ["--budget", "1,2", "--sample", "3", "--plot", self.cli.folder / "recipe.svg"], 0
        yield "lease list", nothing, 0
        yield "token create", lambda: ["uploader", "--role", "operator", "--days", "30", "--why", "to upload"], 0
        yield "token list", nothing, 0
        yield "token revoke", lambda: [self.cli.ok("token", "list")[0]["id"], "--yes", "--why", "not needed"], 0
        yield "live set", lambda: ["quiet_hours", "22:00-06:00", "--why", "the editors sleep"], 0
        yield "live show", nothing, 0
        yield "live clear", lambda: ["quiet_hours"], 0
        yield "alias show", nothing, 0
        yield "alias set", lambda: ["v3", "--why", "to be sure", "--yes"], 0
        yield "media check", nothing, 0
        yield "media relocate", lambda: [self.media, self._moved()], 0
        yield "media accept", lambda: [self.recording("talk00"), "--yes"], 0
        yield "backup", lambda: [self.cli.folder / "kept.db"], 0
        yield "migrate start", lambda: ["--to", "v4", "--detach", "--part", "50%"], 0
        yield "migrate pause", lambda: ["--why", "quiet hours"], 0
        yield "migrate resume", nothing, 0
        yield "work", self._broken, 6
        yield "migrate status", nothing, 0
        yield "migrate retry", lambda: ["--code", "media-missing", "--why", "looked again"], 0
        yield "work", nothing, 6
        yield "migrate waive", lambda: ["--why", "lost", "--list", self._listed("talk02")], 0
        yield "migrate finalize", lambda: ["--yes"], 0
        yield "migrate rollback", lambda: ["--yes"], 0
        yield "migrate start", lambda: ["--to", "v4", "--detach"], 0
        yield "migrate cancel", lambda: ["--yes"], 0
        yield "migrate start", lambda: ["--to", "v4", "--force", "--yes"], 6
        yield "migrate waive", lambda: ["--why", "lost", "--code", "media-missing"], 0
        yield "migrate finalize", lambda: ["--yes"], 0
        yield "migrate retire", lambda: ["--yes"], 0
        yield "index rebuild", lambda: ["--all"], 0
        yield "events", lambda: ["--kind", "item-waived"], 0
        yield "repair run", lambda: ["--dry-run", "--vectors"], 0
        yield "repair run", nothing, 0
        yield "repair status", nothing, 0
        yield "repair history", nothing, 0
        yield "repair quarantine list", nothing, 0
        yield "repair quarantine retry", lambda: ["--all"], 0
        yield "repair quarantine waive", lambda: ["--all", "--why", "known"], 0
        yield "remove", lambda: [self.recording("talk02"), "--dry-run"], 0
        yield "remove", lambda: [self.recording("talk02"), "--yes"], 0
        yield "restore", lambda: [self.cli.folder / "kept.db", "--yes"], 0
        yield "index rebuild", lambda: ["--all", "--yes"], 0
        yield "models list", nothing, 0
        yield "models verify", nothing, 0
        yield "models clear", lambda: ["--yes"], 0
        yield "support-bundle", lambda: ["--out", self.cli.folder / "bundle.zip"], 0

    def _given_turns(self) -> Words:
        """Without a network: the turns are there, and are written in another form."""
        wanted = ["--output-dir", self.cli.folder / "turns", "--format", "rttm,serialized", "--timing"]
        return [self.media / "talk01.wav", self.media / "talk00.wav", "--turns", self.media, *wanted]

    def _transcript(self) -> Words:
        said = self.cli.folder / "talk00.srt"
        said.write_text("1\n00:00:00,100 --> 00:00:01,000\nGood morning.\n", encoding="utf-8")
        return [
            said,
            "--recording",
            self.recording("talk00"),
            "--output-json",
            self.cli.folder / "talk00.labelled.json",
        ]

    def _moved(self) -> Path:
        new = self.cli.folder / "moved"
        self.media.rename(new)
        self.media = new
        return new

    def _broken(self) -> Words:
        (self.media / "talk02.wav").unlink()
        return []

    def _listed(self, stem: str) -> Path:
        self.list.write_text(f"# lost\n{self.recording(stem)}\n", encoding="utf-8")
        return self.list


ELSEWHERE = {
    "assignments revert": "tests/rediarize, of a recording that was diarized again",
    "rediarize": "tests/rediarize, with a diarizer by hand",
    "demo": "tests/cli/test_demo.py and test_demo_acceptance.py",
    "doctor": "tests/doctor",
    "index import": "tests/adoption, of an index whose database was lost",
    "index adopt": "tests/adoption, of another application's index",
    "lease break": "tests/leases, from a process that holds one",
    "models fetch": "tests/models, with a hub that is not one",
    "models pack": "tests/models",
    "models install": "tests/models",
    "models calibrate": "tests/models, with a network that can be quantised",
    "serve": "tests/serve, until it is told to end",
}
"""Verbs that need torch, a hub, or an index of somebody else's, and where they are run."""


def verbs(group: Any = None, prefix: str = "") -> Iterator[str]:
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{prefix}{name} ")
        else:
            yield prefix + name


@pytest.fixture
def day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Day:
    media = tmp_path / "media"
    for number, made in enumerate(make_library(media, 2, seconds=1.5)):
        made.path.with_suffix(".rttm").exists() or pytest.fail(f"no turns beside recording {number}")
    make_recording(media, "talk02", [("A", 1, 2.0), ("B", 2, 2.0)])
    (media / "all.rttm").unlink(missing_ok=True)
    write_settings(tmp_path / "speakerdb.toml", batch=16)
    return Day(make_command_line(tmp_path, monkeypatch, capsys))


def test_a_day_with_json(day: Day) -> None:
    for verb, words, code in day.commands():
        given = words()
        ran = day.cli(*verb.split(), *given)
        assert ran.exit_code == code, (verb, given, ran)
        document = json.loads(ran.out)
        assert document is not None, verb
        if code and verb != "migrate start":
            assert "media-missing" in ran.out, (verb, ran)


def test_the_same_day_as_text(day: Day) -> None:
    for verb, words, code in day.commands():
        given = [str(each) for each in words()]
        found = main([*verb.split(), *given])
        out, err = day.cli.capsys.readouterr()
        assert found == code, (verb, given, out, err)
        assert (out + err).strip(), verb
        assert not out.startswith("{"), verb
        assert "Traceback" not in err


def test_no_verb_is_left_out(day: Day) -> None:
    assert {verb for verb, _, _ in day.commands()} | set(ELSEWHERE) == set(verbs())
