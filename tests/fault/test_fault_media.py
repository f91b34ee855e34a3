"""Media that cannot be used: each file gets its code, exit status and next step, and nothing is written for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audio_files import chirps, write, write_long_wav, write_silent_film
from fault_kit import CommandLine, everything, make_command_line, rows
from synthetic_voices import make_library, make_recording, voice, write_settings, write_wav

from speakerdb.media.reader import Reader

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
    problems = {problem["code"]: problem["command"] for problem in cli.ok("status")["problems"]}
    assert problems == {code: "speakerdb media check"}

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


STRANGE: dict[str, dict[str, Any]] = {
    "hifi.wav": {"rate": 192_000, "codec": "pcm_s32le", "sample_format": "s32"},
    "phone.wav": {"rate": 8_000, "codec": "pcm_mulaw"},
    "surround.flac": {"rate": 48_000, "codec": "flac", "layout": "7.1"},
    "uneven.mp4": {"rate": 44_100, "codec": "aac", "sample_format": "fltp", "picture": True, "uneven": True},
}


def test_strange_media_work_like_any_other(cli: CommandLine) -> None:
    """192 kHz, 8 kHz, eight channels, a film of variable frame rate, ten hours."""
    folder = cli.folder / "media"
    for name, how in STRANGE.items():
        sound = np.stack([chirps(3.0, how["rate"])] * (8 if "layout" in how else 1))
        path = write(folder / name, sound, **how)
        (folder / f"{path.stem}.json").write_text(TURNS)
    write_long_wav(folder / "day.wav", 36_000, {35_990.0: chirps(6, 16_000)})
    (folder / "day.json").write_text('[{"start": 35991, "end": 35995, "speaker": "A"}]')
    added = cli.ok("add", *(folder / name for name in STRANGE), folder / "day.wav", "--turns", folder)
    assert [row["error"] for row in added["recordings"]] == [None] * 5
    report = cli.ok("work")
    assert (report["recordings_done"], report["speakers_embedded"]) == (5, 5)


def test_what_a_file_has_become_since_it_was_added(cli: CommandLine, tmp_path: Path) -> None:
    """A pipe, a folder, a loop, a link out of the media folders: each fails by its code, and the others are done."""
    wanted: dict[str, str] = {}
    for make, code in ((folder, "unreadable"), (pipe, "unreadable"), (loop, "unreadable"), (leaves, "forbidden")):
        made = make_recording(tmp_path / "media", make.__name__, [("A", 1, 2.0)])
        report = cli.ok("add", made.path, "--turns", made.path.with_suffix(".rttm"))["recordings"][0]["report"]
        wanted[report["recording_id"]] = f"media-{code}"
        made.path.unlink()
        make(made.path)
    good = make_recording(tmp_path / "media", "good", [("A", 1, 2.0)])
    cli.ok("add", good.path, "--turns", good.path.with_suffix(".rttm"))
    ran = cli("work")
    assert ran.json["recordings_done"] == 1
    assert {error["recording_id"]: error["code"] for error in ran.json["errors"]} == wanted


def leaves(path: Path) -> None:
    path.symlink_to(write_wav(path.parent.parent / "outside.wav", voice(1, 2.0)))


def is_replaced(path: Path) -> None:
    write_wav(path.with_suffix(".new"), voice(3, 40.0)).replace(path)


def grows(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(320_000))


def is_cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 4)


def is_emptied(path: Path) -> None:
    os.truncate(path, 0)


def goes(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("happens", [is_replaced, grows, is_cut, is_emptied, goes], ids=lambda each: each.__name__)
def test_a_file_that_changes_while_it_is_read(
    happens: Callable[[Path], None], cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before is thrown away, nothing is stored, and the others are done."""
    made = make_recording(cli.folder / "media", "changing", [("A", 1, 20.0), ("B", 2, 20.0)])
    cli.ok("add", made.path, "--turns", made.path.with_suffix(".rttm"))
    good = make_recording(cli.folder / "media", "good", [("A", 1, 2.0)])
    cli.ok("add", good.path, "--turns", good.path.with_suffix(".rttm"))
    read, spans = Reader.read, 0

    def watched(self: Reader, *args: Any, **more: Any) -> Any:
        nonlocal spans
        found = read(self, *args, **more)
        if self.path == made.path:
            spans += 1
            if spans == 2:
                happens(made.path)
        return found

    monkeypatch.setattr(Reader, "read", watched)
    ran = cli("work")
    assert ran.json["recordings_done"] == 1
    (error,) = ran.json["errors"]
    code = "media-missing" if happens is goes else "media-changed"
    assert (error["code"], error["attempts"], ran.exit_code) == (code, 1, 6)
    if code == "media-changed":
        assert "was changed while it was read" in error["message"]
    assert spans >= 2
    sql = "SELECT 1 FROM embeddings e JOIN speakers s ON s.id = e.entity_id WHERE s.recording_id = ?"
    assert rows(cli.data, sql, error["recording_id"]) == []
