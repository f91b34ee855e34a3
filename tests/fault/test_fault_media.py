"""Media that cannot be used: each file gets its code, exit status and next step, and nothing is written for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from audio_files import chirps, write, write_silent_film
from fault_kit import CommandLine, everything, make_command_line, rows
from synthetic_voices import make_library, make_recording, voice, write_settings, write_wav

TURNS = '[{"start": 0.0, "end": 1.5, "speaker": "A"}]'


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """A library with one good recording, whose media may lie in `tmp_path/media` only."""
    media = tmp_path / "media"
    made = make_library(media, 1, seconds=1.5)
    write_settings(tmp_path / "speakerdb.toml", more=f'media_roots = ["{media}"]')
    (media / "turns.json").write_text(TURNS)
    line = make_command_line(tmp_path, monkeypatch, capsys)
    line.ok("add", made[0].path, "--turns", media / "all.rttm", "--now")
    return line


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("This is no sound.\n" * 100)


def random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(5).bytes(50_000))


def picture(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 500)


def playlist(path: Path) -> None:
    path.write_text(f"#EXTM3U\n#EXTINF:10,\n{path.with_name('talk00.wav')}\n#EXT-X-ENDLIST\n")


def header_only(path: Path) -> None:
    path.write_bytes(write_wav(path, voice(1, 2.0)).read_bytes()[:44])


def truncated_film(path: Path) -> None:
    """An MP4 whose table of contents stands at its end, and is gone."""
    whole = write(path.with_suffix(".m4a"), chirps(3.0, 16_000), 16_000, codec="aac", sample_format="fltp")
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])


def silent_film(path: Path) -> None:
    write_silent_film(path.with_suffix(".mp4")).replace(path)


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path)


def absent(path: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (absent, "media-missing"),
        (empty, "media-unreadable"),
        (text, "media-unreadable"),
        (random_bytes, "media-unreadable"),
        (picture, "media-unreadable"),
        (playlist, "media-unreadable"),
        (header_only, "media-unreadable"),
        (truncated_film, "media-unreadable"),
        (folder, "media-unreadable"),
        (pipe, "media-unreadable"),
        (loop, "media-unreadable"),
        (silent_film, "no-audio-track"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_file_that_is_no_sound(make: Callable[[Path], None], code: str, cli: CommandLine) -> None:
    path = cli.folder / "media" / "given.bin"
    make(path)
    cli.refused("add", path, "--turns", cli.folder / "media" / "turns.json", code=code, exit_code=6)


def test_one_bad_file_does_not_stop_the_others(cli: CommandLine) -> None:
    media = cli.folder / "media"
    (media / "bad.wav").write_bytes(b"")
    make_recording(media, "good", [("A", 1, 3.0)])
    shutil.copy(media / "turns.json", media / "bad.json")
    ran = cli("add", media / "bad.wav", media / "good.wav", "--turns", media)
    assert ran.exit_code == 6
    assert [(r["error"] or {}).get("code") for r in ran.json["recordings"]] == ["media-unreadable", None]
    assert len(rows(cli.data, "SELECT id FROM recordings")) == 2


def test_a_path_outside_the_media_roots(cli: CommandLine, tmp_path: Path) -> None:
    outside = write_wav(tmp_path / "outside.wav", voice(1, 2.0))
    media = tmp_path / "media"
    (media / "link.wav").symlink_to(outside)
    (media / "linked").symlink_to(tmp_path)
    (tmp_path / "media-beside").mkdir()
    beside = write_wav(tmp_path / "media-beside" / "a.wav", voice(1, 2.0))
    for path in (
        outside,
        media / ".." / "outside.wav",
        media / "link.wav",
        media / "linked" / "outside.wav",
        beside,
        tmp_path / "not-there.wav",
    ):
        error = cli.refused("add", path, "--turns", media / "turns.json", code="media-forbidden", exit_code=6)
        assert "media_roots" in error["hint"]
    cli.refused("match", "--clip", outside, code="media-forbidden", exit_code=6)


def test_roots_that_became_narrower_hold_at_extraction_too(cli: CommandLine, tmp_path: Path) -> None:
    media = tmp_path / "media"
    made = make_recording(media, "later", [("A", 1, 3.0)])
    cli.ok("add", made.path, "--turns", made.path.with_suffix(".rttm"))
    (tmp_path / "elsewhere").mkdir()
    write_settings(tmp_path / "speakerdb.toml", more=f'media_roots = ["{tmp_path / "elsewhere"}"]')
    ran = cli("work")
    assert (ran.exit_code, [e["code"] for e in ran.json["errors"]]) == (6, ["media-forbidden"])


@pytest.mark.parametrize("how", ["other sound", "gone", "emptied"])
def test_a_file_that_changed_since_its_turns_were_made(how: str, cli: CommandLine) -> None:
    media = cli.folder / "media"
    made = make_recording(media, "moved", [("A", 1, 3.0), ("B", 2, 3.0)])
    rttm = made.path.with_suffix(".rttm")
    cli.ok("add", made.path, "--turns", rttm)
    whole = made.path.read_bytes()
    if how == "other sound":
        make_recording(media, "moved", [("A", 3, 3.0), ("B", 2, 3.0)])
    elif how == "gone":
        made.path.unlink()
    else:
        made.path.write_bytes(b"")
    before = rows(cli.data, "SELECT * FROM embeddings")
    ran = cli("work")
    code = "media-missing" if how == "gone" else "media-changed"
    assert (ran.exit_code, [e["code"] for e in ran.json["errors"]]) == (6, [code])
    assert rows(cli.data, "SELECT * FROM embeddings") == before
    assert cli.ok("status")["progress"]["v3"]["errors"] == {code: 1}
    assert any("--retry" in warning for warning in cli.ok("status")["warnings"])

    if how == "other sound":
        # The turns were made again from the file that is there now.
        again = cli.ok("add", made.path, "--turns", rttm)["recordings"][0]["report"]
        assert (again["outcome"], again["queued"]) == ("changed", ["v3"])
        assert cli.ok("work")["recordings_done"] == 1
    else:
        made.path.write_bytes(whole)
        assert cli.ok("work", "--retry")["recordings_done"] == 1
    assert cli.ok("status")["progress"]["v3"]["errors"] == {}


@pytest.mark.parametrize("name", ["cut.wav", "cut.flac", "cut.mp3"])
def test_a_truncated_file_that_still_opens(name: str, cli: CommandLine) -> None:
    """What is there may be used; turns beyond it are refused, at the door or when they are read, and others go on."""
    media = cli.folder / "media"
    sound = np.concatenate([voice(1, 4.0), voice(2, 4.0)])
    if name == "cut.wav":
        path = write_wav(media / name, sound)
    else:
        codec, form = ("flac", "s16") if name == "cut.flac" else ("libmp3lame", "fltp")
        path = write(media / name, sound.astype(np.float64), 16_000, codec=codec, sample_format=form)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    turns = media / "cut.json"
    turns.write_text('[{"start": 0, "end": 3, "speaker": "A"}, {"start": 4.5, "end": 8, "speaker": "B"}]')
    good = make_recording(media, "good", [("A", 1, 3.0)])
    before = everything(cli.data)
    ran = cli("add", path, "--turns", turns)
    if ran.exit_code:
        assert (ran.error["code"], ran.exit_code) == ("invalid-turns", 4)
        assert everything(cli.data) == before
    cli.ok("add", good.path, "--turns", good.path.with_suffix(".rttm"))
    worked = cli("work")
    assert worked.json["recordings_done"] == 1
    if ran.exit_code == 0:
        (error,) = worked.json["errors"]
        assert error["code"] in ("media-too-short", "media-unreadable")
        assert worked.exit_code == 6
        sql = "SELECT 1 FROM embeddings e JOIN speakers s ON s.id = e.entity_id WHERE s.recording_id = ?"
        assert rows(cli.data, sql, error["recording_id"]) == []
