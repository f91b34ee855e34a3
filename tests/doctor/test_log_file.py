"""The command line's log: what is in it, what is not, and that it never fails a command."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from speakerdb.cli import logfile, session
from speakerdb.cli.main import main
from speakerdb.errors import NotFound

TOKEN = "hf_ThisMustNotBeSeenAnywhere"  # noqa: S105 - made up
Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("SPEAKERDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SPEAKERDB_EXECUTOR", "inline")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return lambda *arguments: main(list(arguments))


def text(tmp_path: Path) -> str:
    path = tmp_path / "data" / "speakerdb.log"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def test_a_command_leaves_its_beginning_and_its_end(run: Run, tmp_path: Path) -> None:
    assert run("status") == 0
    assert run("speakers", "show", "Ada Lovelace") == 3
    lines = text(tmp_path).splitlines()
    assert len(lines) == 4
    assert "INFO speakerdb.cli command-began verb=status" in lines[0]
    assert "INFO speakerdb.cli command-ended verb=status exit=0" in lines[1]
    assert "WARNING speakerdb.cli command-ended verb=speakers.show exit=3" in lines[3]
    assert lines[3].endswith("code=not-found")
    assert "Lovelace" not in text(tmp_path)


def test_an_unforeseen_error_leaves_where_it_arose_and_not_what_it_says(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from speakerdb.service import SpeakerDB

    def fail(self: SpeakerDB) -> None:
        raise RuntimeError(f"Lovelace {TOKEN}")

    monkeypatch.setattr(SpeakerDB, "status", fail)
    assert run("status") == 70
    last = text(tmp_path).splitlines()[-1]
    assert "ERROR speakerdb.cli unexpected-error verb=status error=RuntimeError at=" in last
    assert "speakerdb/cli/status.py:" in last
    assert "Lovelace" not in last


def test_nothing_is_made_where_no_library_is_opened(run: Run, tmp_path: Path) -> None:
    assert run("models", "list") == 0
    assert run("--version") == 0
    assert not (tmp_path / "data").exists()


def test_what_modules_warn_of_is_in_it_without_secrets_in_one_line(run: Run, tmp_path: Path) -> None:
    handler = logfile.LogFile(tmp_path)
    handler.begin()
    try:
        logging.getLogger("speakerdb.models.pyannote").warning("cuda-not-used: %s\nsecond line", TOKEN)
        logging.getLogger("somebody.else").warning("not ours")
    finally:
        handler.end()
    (line,) = (tmp_path / "speakerdb.log").read_text().splitlines()
    assert line.endswith("WARNING speakerdb.models.pyannote cuda-not-used: <secret> second line")


@pytest.mark.parametrize("obstacle", ["a folder", "a full disk"])
def test_it_never_fails_a_command(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if obstacle == "a folder":
        (tmp_path / "data" / "speakerdb.log").mkdir(parents=True)
    else:
        Path("/dev/full").exists() or pytest.skip("needs /dev/full")
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "speakerdb.log").symlink_to("/dev/full")
    assert run("status") == 0
    assert "Error" not in capsys.readouterr().err


def test_it_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "MAX_BYTES", 2000)
    handler = logfile.LogFile(tmp_path)
    handler.begin()
    try:
        for number in range(200):
            logging.getLogger("speakerdb.cli").info("command-began verb=status pid=%d", number)
    finally:
        handler.end()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["speakerdb.log", "speakerdb.log.1", "speakerdb.log.2"]
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 6000


def test_the_old_cache_variable_is_told_of_once_a_command(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYANNOTE_CACHE", "/somewhere/of/jane")
    assert run("status") == 0
    assert text(tmp_path).count("old-model-cache") == 1
    assert "jane" not in text(tmp_path)


def test_a_library_that_cannot_be_opened_leaves_its_code(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()

    def refuse(_: object) -> None:
        raise NotFound("It is gone.")

    monkeypatch.setattr(session, "open_service", refuse)
    assert run("status") == 3
    assert text(tmp_path).splitlines()[-1].endswith("code=not-found")
    assert not logging.getLogger("speakerdb").handlers
