"""`speakerdb media` as it is typed: exit codes, tables that end, documents that are whole, and questions."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from speakerdb.cli import media as verbs
from speakerdb.cli.main import main
from tests.fault.fault_kit import CommandLine, everything, make_command_line, rows
from tests.synthetic_voices import make_library, make_recording, write_settings

COUNT = 4


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    made = make_library(tmp_path / "media", COUNT, seconds=1.0)
    write_settings(tmp_path / "speakerdb.toml")
    line = make_command_line(tmp_path, monkeypatch, capsys)
    line.ok("add", *(one.path for one in made), "--turns", tmp_path / "media" / "all.rttm")
    return line


def text(cli: CommandLine, *args: object) -> tuple[int, str, str]:
    """A command without `--json`."""
    exit_code = main([*map(str, args)])
    out, err = cli.capsys.readouterr()
    return exit_code, out, err


def test_check(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = cli.ok("media", "check", "--deep")
    assert (answer["states"], answer["files"], answer["deep"]) == ({"ok": COUNT}, [], True)
    assert text(cli, "media", "check")[:2] == (0, f"{COUNT} recordings: {COUNT} ok.\n")
    for n in range(3):
        (cli.folder / "media" / f"talk0{n}.wav").unlink()
    monkeypatch.setattr(verbs, "SHOWN", 2)
    monkeypatch.setattr(verbs, "LINE_SECONDS", 0.0)
    before = everything(cli.data)
    exit_code, out, err = text(cli, "media", "check")
    assert exit_code == 6
    assert (out.count("media-missing"), "1 more; `--json` lists all 3." in out) == (2, True)
    assert f"next: If they were moved: `speakerdb media relocate {cli.folder / 'media'} NEW`" in out
    assert f"Looking: {COUNT} of {COUNT}, 3 not right" in err
    ran = cli("media", "check", "--library", "default")
    assert (ran.exit_code, len(ran.json["files"])) == (6, 3)
    assert {f["state"] for f in ran.json["files"]} == {"missing"}
    assert everything(cli.data) == before
    cli.refused("media", "check", "--library", "none", code="not-found", exit_code=3)
    cli.refused("media", "check", "--recording", "none", code="not-found", exit_code=3)


def test_a_document_is_whole_however_much_it_holds(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows wait in a file, with whatever a path may hold, and are read back in pieces."""
    names = ['"quoted" \\ back', "line\nbreak", "tab\tü\u2028", "x" * 200]
    for n, name in enumerate(names):
        made = make_recording(cli.folder / "media", f"odd{n}", [("A", n, 1.0)])
        target = made.path.with_name(f"{name}.wav")
        made.path.rename(target)
        cli.ok("add", target, "--turns", json_turns(cli.folder / "media"))
    shutil.move(cli.folder / "media", cli.folder / "elsewhere")
    real = verbs._pieces

    class Slow(io.StringIO):
        def read(self, size: int | None = -1, /) -> str:
            return super().read(7)

    monkeypatch.setattr(verbs, "_pieces", lambda file: real(Slow(file.read())))
    ran = cli("media", "check")
    assert ran.exit_code == 6
    assert len(ran.json["files"]) == COUNT + len(names)
    assert {Path(f["path"]).stem for f in ran.json["files"]} >= set(names)
    answer = cli.ok("media", "relocate", cli.folder / "media", cli.folder / "elsewhere")
    assert (answer["relocated"], answer["recordings"]) == (COUNT + len(names), [])


def json_turns(folder: Path) -> Path:
    path = folder / "turns.json"
    path.write_text(json.dumps([{"start": 0, "end": 1, "speaker": "A"}]))
    return path


def test_relocate(cli: CommandLine) -> None:
    media, disk = cli.folder / "media", cli.folder / "disk"
    shutil.move(media, disk)
    lost = disk / "talk01.wav"
    lost.rename(cli.folder / "lost.wav")
    ran = cli("work")
    assert ran.json["recordings_failed"] == COUNT
    before = everything(cli.data)
    assert "talk01.wav does not exist" in cli("media", "relocate", media, disk, "--dry-run").out
    exit_code, out, _ = text(cli, "media", "relocate", media, disk, "--dry-run")
    assert (exit_code, f"3 of 4 recordings would move from {media} to {disk}" in out) == (6, True)
    assert everything(cli.data) == before
    exit_code, out, _ = text(cli, "media", "relocate", media, disk, "--why", "a new disk")
    assert exit_code == 6
    assert "1 recording left as they are" in out
    assert "media-missing" in out
    assert "next: `speakerdb work` extracts 3 items that had failed without the file." in out
    assert cli.ok("work")["recordings_done"] == 3
    (cli.folder / "lost.wav").rename(lost)
    answer = cli.ok("media", "relocate", media, disk)
    assert (answer["matched"], answer["relocated"], answer["queued"]) == (1, 1, 1)
    assert cli.ok("media", "check")["states"] == {"ok": COUNT}
    assert {why for (why,) in rows(cli.data, "SELECT why FROM events WHERE kind = 'recording-relocated'")} == {
        "a new disk", None,
    }  # fmt: skip
    error = cli.refused("media", "relocate", media, disk, code="not-found", exit_code=3)
    assert str(disk) in error["hint"]
    cli.refused("media", "relocate", disk, disk, code="invalid-input", exit_code=4)
    cli.refused("media", "relocate", "", disk, code="invalid-input", exit_code=4)


def test_accept(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    media = cli.folder / "media"
    cli.ok("work")
    make_recording(media, "talk00", [("A", 8, 2.0), ("B", 9, 2.0)])
    make_recording(media, "talk01", [("A", 8, 1.0)])
    ids = dict(rows(cli.data, "SELECT path, id FROM recordings"))
    short = ids[str(media / "talk01.wav")]
    ran = cli("media", "accept", short)
    assert (ran.exit_code, [r["code"] for r in ran.json["recordings"]]) == (4, ["invalid-turns"])
    cli.refused("media", "accept", code="invalid-input", exit_code=4)
    cli.refused("media", "accept", "--all-changed", short, "--yes", code="invalid-input", exit_code=4)
    cli.refused("media", "accept", "none", code="not-found", exit_code=3)
    before = everything(cli.data)
    cli.refused("media", "accept", "--all-changed", code="not-confirmed", exit_code=12)
    assert text(cli, "media", "accept", "--all-changed", "--dry-run")[0] == 4
    assert everything(cli.data) == before
    asked: list[str] = []
    monkeypatch.setattr("speakerdb.cli.session.Session.check_terminal", lambda _: None)
    monkeypatch.setattr("speakerdb.cli.session.Session.confirm", lambda _, question, **__: asked.append(question))
    exit_code, out, _ = text(cli, "media", "accept", "--all-changed", "--why", "recorded again")
    assert asked == ["Take 1 changed file as they are, and extract their recordings again?"]
    assert (exit_code, "1 changed file accepted, 0 had not changed, 1 refused." in out) == (4, True)
    assert "next: `speakerdb work` extracts them again for v3." in out
    assert cli.ok("work")["recordings_done"] == 1
    assert cli("media", "check").json["states"] == {"ok": COUNT - 1, "changed": 1}
