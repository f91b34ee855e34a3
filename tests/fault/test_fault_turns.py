"""Turns that cannot be used, and arguments that cannot: refused at the door, with nothing written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fault_kit import CommandLine, everything, make_command_line
from synthetic_voices import make_library, write_settings

from speakerdb.errors import InvalidInput, InvalidTurns, NeedsTurns
from speakerdb.types import Turn, Waveform

GOOD = "SPEAKER talk00 1 0.5 1.0 <NA> <NA> A <NA> <NA>\n"


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """A library with one recording of 6 seconds, which is given again with other turns."""
    make_library(tmp_path / "media", 1, seconds=1.5)
    write_settings(tmp_path / "speakerdb.toml")
    line = make_command_line(tmp_path, monkeypatch, capsys)
    line.ok("add", tmp_path / "media" / "talk00.wav", "--turns", tmp_path / "media" / "all.rttm", "--now")
    return line


@pytest.mark.parametrize(
    "line",
    [
        "SPEAKER talk00 1 0.5 1.0 <NA> A",
        "SPEAKER talk00 1 0.5 1.0 <NA> <NA> Anna Maria B <NA> <NA>",
        "SPEAKER talk00 1 zero 1.0 <NA> <NA> A <NA> <NA>",
        "SPEAKER talk00 1 0.5 nan <NA> <NA> A <NA> <NA>",
        "SPEAKER talk00 1 0.5 inf <NA> <NA> A <NA> <NA>",
        "SPEAKER talk00 1 1e999 1.0 <NA> <NA> A <NA> <NA>",
        "SPEAKER talk00 1 -0.5 1.0 <NA> <NA> A <NA> <NA>",
        "SPEAKER talk00 1 0.5 -1.0 <NA> <NA> A <NA> <NA>",
        "SPEAKER talk00 1 0.5 0 <NA> <NA> A <NA> <NA>",
        "SPEAKER talk00 1 5.0 9.0 <NA> <NA> A <NA> <NA>",
        "SPEAKER talk00 1 100 1.0 <NA> <NA> A <NA> <NA>",
        "SPEAKER talk00 1 0.5 1.0 <NA> <NA> <NA> <NA> <NA>",
        "start,end,speaker",
    ],
)
def test_rttm_that_is_wrong_in_one_line(line: str, cli: CommandLine) -> None:
    turns = cli.folder / "given.rttm"
    turns.write_text(GOOD + line + "\n" + GOOD)
    cli.refused("add", cli.folder / "media" / "talk00.wav", "--turns", turns, code="invalid-turns", exit_code=4)


@pytest.mark.parametrize(
    "text",
    [
        '[{"start": 0, "end": 1}]',
        '[{"start": "0", "end": 1, "speaker": "A"}]',
        '[{"start": NaN, "end": 1, "speaker": "A"}]',
        '[{"start": 0, "end": Infinity, "speaker": "A"}]',
        '[{"start": 1, "end": 1, "speaker": "A"}]',
        '[{"start": 2, "end": 1, "speaker": "A"}]',
        '[{"start": -1, "end": 1, "speaker": "A"}]',
        '[{"start": 0, "end": 60, "speaker": "A"}]',
        '[{"start": 0, "end": 1, "speaker": ""}]',
        '[{"start": 0, "end": 1, "speaker": "\\u0000"}]',
        '[{"start": 0, "end": 1, "speaker": "\\ud800"}]',
        '{"turns": []}',
        "[[0, 1]]",
        "not json",
        "[" * 100_000,
        '[{"start": 1' + "0" * 5000 + ', "end": 1, "speaker": "A"}]',
    ],
)
def test_json_turns_that_are_wrong(text: str, cli: CommandLine) -> None:
    turns = cli.folder / "given.json"
    turns.write_text(text)
    cli.refused("add", cli.folder / "media" / "talk00.wav", "--turns", turns, code="invalid-turns", exit_code=4)


@pytest.mark.parametrize(
    ("name", "text"), [("given.rttm", ""), ("given.rttm", "; nobody\n"), ("given.json", "[]"), ("given.json", " ")]
)
def test_no_turns_at_all(name: str, text: str, cli: CommandLine) -> None:
    media = cli.folder / "media" / "talk00.wav"
    turns = cli.folder / name
    turns.write_text(text)
    error = cli.refused("add", media, "--turns", turns, code="needs-turns", exit_code=4)
    assert "--turns" in error["hint"]
    media.with_suffix(".rttm").unlink()  # without --turns it would be found beside the file
    assert cli.refused("add", media, "--no-diarize", code="needs-turns", exit_code=4)["hint"] == error["hint"]


def test_a_turns_file_that_cannot_be_read(cli: CommandLine) -> None:
    media = cli.folder / "media" / "talk00.wav"
    (cli.folder / "latin.rttm").write_bytes("SPEAKER é".encode("latin-1"))
    for name in ("latin.rttm", "absent.rttm"):
        cli.refused("add", media, "--turns", cli.folder / name, code="invalid-turns", exit_code=4)
    (cli.folder / "other.rttm").write_text(GOOD.replace("talk00", "x") + GOOD.replace("talk00", "y"))
    error = cli.refused("add", media, "--turns", cli.folder / "other.rttm", code="invalid-turns", exit_code=4)
    assert "x, y" in error["message"]


@pytest.mark.parametrize(
    ("args", "code", "exit_code"),
    [
        (["--name", "Z=Nobody"], "invalid-input", 4),
        (["--name", "A"], "invalid-input", 4),
        (["--id", " "], "invalid-input", 4),
        (["--id", "a\nb"], "invalid-input", 4),
        (["--id", "x" * 500], "invalid-input", 4),
    ],
)
def test_arguments_of_add(args: list[str], code: str, exit_code: int, cli: CommandLine) -> None:
    media = cli.folder / "media"
    cli.refused("add", media / "talk00.wav", "--turns", media / "all.rttm", *args, code=code, exit_code=exit_code)


@pytest.mark.parametrize(
    ("args", "code", "exit_code"),
    [
        (["match", "--speaker", "spk_nobody"], "not-found", 3),
        (["match", "--profile", "prf_nobody"], "not-found", 3),
        (["match", "--clip", "absent.wav"], "media-missing", 6),
        (["match"], "invalid-input", 4),
        (["match", "--vector", "absent.npy"], "invalid-input", 4),
        (["remove", "--yes", "rec_nobody"], "not-found", 3),
        (["remove", "--yes", "rec_"], "not-found", 3),
        (["speakers", "rename", "spk_nobody", "A"], "not-found", 3),
        (["profiles", "create", " "], "invalid-input", 4),
        (["recordings", "list", "--library", "nowhere"], "not-found", 3),
        (["index", "rebuild", "v9"], "configuration", 2),
        (["index", "rebuild", "v4"], "index-missing", 8),
        (["migrate", "start", "--to", "v9"], "configuration", 2),
        (["migrate", "start", "--to", "v3"], "conflict", 5),
        (["work", "--limit", "0"], "usage", 2),
        (["nonsense"], "usage", 2),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_what_is_not_there(args: list[str], code: str, exit_code: int, cli: CommandLine) -> None:
    cli.refused(*args, code=code, exit_code=exit_code)


def test_through_the_api(cli: CommandLine) -> None:
    path = cli.folder / "media" / "talk00.wav"
    sound = Waveform(np.zeros(16_000, np.float32), 16_000)
    before = everything(cli.data)
    with cli.open() as db:
        for turns in ([Turn(0, float("nan"), "A")], [Turn(1, 1, "A")], [Turn(-1, 1, "A")], [Turn(0, 99, "A")]):
            with pytest.raises(InvalidTurns):
                db.add(path, turns)
        with pytest.raises(NeedsTurns):
            db.add(path, [])
        with pytest.raises(InvalidTurns):
            db.add(None, [Turn(0, 2, "A")], waveform=sound)
        with pytest.raises(InvalidInput):
            db.add(None, [Turn(0, 1, "A")])
        with pytest.raises(InvalidInput):
            db.match(vector=np.full(64, np.nan, np.float32))
        with pytest.raises(InvalidInput):
            db.match(vector=np.ones(65, np.float32))
    assert everything(cli.data) == before
