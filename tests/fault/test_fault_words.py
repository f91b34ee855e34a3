"""Words of a command line that are no text, or numbers that nothing counts to: a code and a next step, never a bug."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_kit import CommandLine, make_command_line
from synthetic_voices import write_settings

NOT_TEXT = "bad\udcff"
"""A word that is not UTF-8, as Python hands it over."""


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    write_settings(tmp_path / "speakerdb.toml")
    return make_command_line(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        (["remove", "--yes", NOT_TEXT], 3),
        (["recordings", "list", "--library", NOT_TEXT], 3),
        (["speakers", "list", "--recording", NOT_TEXT], 3),
        (["speakers", "list", "--name", NOT_TEXT], 0),
        (["speakers", "show", NOT_TEXT], 3),
        (["speakers", "rename", NOT_TEXT, "Ada"], 3),
        (["speakers", "assign", NOT_TEXT, "--name", "Ada"], 3),
        (["speakers", "split", NOT_TEXT, "--turns", "1"], 3),
        (["profiles", "show", NOT_TEXT], 3),
        (["profiles", "merge", NOT_TEXT, NOT_TEXT], 3),
        (["profiles", "delete", NOT_TEXT, "--yes"], 3),
        (["profiles", "list", "--library", NOT_TEXT], 3),
        (["media", "check", "--library", NOT_TEXT], 3),
        (["media", "accept", NOT_TEXT], 3),
        (["media", "relocate", NOT_TEXT, "/"], 4),
        (["explain", NOT_TEXT], 3),
        (["migrate", "retry", "--code", NOT_TEXT], 4),
        (["recordings", "list", "--limit", "9" * 30], 2),
        (["speakers", "list", "--limit", "9" * 30], 2),
        (["speakers", "show", "x", "--turns", "9" * 30], 2),
        (["profiles", "show", "x", "--rows", "9" * 30], 2),
        (["events", "--limit", "9" * 30], 2),
        (["work", "--limit", "9" * 30], 2),
        (["speakers", "list", "--limit", str(2**63 - 1)], 0),
    ],
    ids=lambda value: " ".join(value).replace(NOT_TEXT, "?")[:40] if isinstance(value, list) else str(value),
)
def test_a_word_that_nothing_can_be_called(cli: CommandLine, words: list[str], exit_code: int) -> None:
    ran = cli(*words)
    assert ran.exit_code == exit_code, ran
    if exit_code:
        assert ran.error["hint"]
