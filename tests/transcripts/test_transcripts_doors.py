"""Transcripts on the command line and over HTTP: one use case, the same answers; nothing half-written, nothing told."""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from transcripts_kit import HOSTILE, SAID, SRT, VTT, WORDS, add, whisperx

from speakerdb.core.transcript import parse_transcript
from speakerdb.reports.access import Role
from speakerdb.service import SpeakerDB
from speakerdb.transcripts import MAX_TRANSCRIPT_BYTES
from tests.lent_library import Shell

WHERE = "/v1/recordings/talk/transcript"
GOLDEN_SRT = f"""1
00:00:01,000 --> 00:00:04,500
[Ada] Well, um, hello there.

2
00:00:11,000 --> 00:00:14,200
[SPEAKER_01] Hello {SAID} uh
"""
GOLDEN_VTT = f"""WEBVTT

00:00:01.000 --> 00:00:04.500
<v Ada>Well, um, hello there.

00:00:11.000 --> 00:00:14.200
<v SPEAKER_01>Hello {SAID} uh
"""
GOLDEN_JSON = {
    "segments": [
        {"start": "1.000", "end": "4.500", "text": "Well, um, hello there.", "speaker": "Ada"},
        {"start": "11.000", "end": "14.200", "text": f"Hello {SAID} uh", "speaker": "SPEAKER_01"},
    ],
    "speakers": ["Ada", "SPEAKER_01"],
    "diarization": [
        {"start": 0.0, "end": 10.0, "speaker": "Ada"},
        {"start": 10.0, "end": 20.0, "speaker": "SPEAKER_01"},
    ],
}
TYPES = {".json": "application/json", ".srt": "application/x-subrip", ".vtt": "text/vtt"}


def named(db: SpeakerDB) -> None:
    (first,) = (each for each in db.speakers(recording="talk") if each.label == "SPEAKER_00")
    db.rename_speaker(first.id, "Ada")


def given(folder: Path, text: str | bytes, ending: str = ".json") -> Path:
    path = folder / f"said{ending}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def holding(data: Path) -> set[str]:
    """The tables of every database file in which the secret word stands, also where it is compressed; and other files."""
    found = set()
    for path in data.rglob("*"):
        if path.is_dir() or path.name.endswith(("-wal", "-shm")):
            continue
        if path.suffix != ".db":
            found |= {path.name} if SAID.encode() in path.read_bytes() else set()
            continue
        with sqlite3.connect(path) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                for row in database.execute(f'SELECT * FROM "{table}"'):  # noqa: S608
                    found |= {f"{path.name}/{table}" for cell in row if SAID in _plain(cell)}
        database.close()
    return found


def _plain(cell: Any) -> str:
    if not isinstance(cell, bytes):
        return str(cell)
    try:
        return zlib.decompress(cell).decode()
    except (zlib.error, UnicodeDecodeError):
        return cell.decode(errors="replace")


class TestCommandLine:
    def test_a_transcript_is_written_in_the_forms_that_are_asked_for_and_kept(
        self, db: SpeakerDB, shell: Shell, tmp_path: Path
    ) -> None:
        named(db)
        out = {form: tmp_path / "new" / f"out.{form}" for form in ("json", "srt", "vtt")}
        words = ["label", given(tmp_path, whisperx()), "--recording", "talk"]
        for form, path in out.items():
            words += [f"--output-{form}", path]
        text = shell.ok(*words)
        assert "talk: 1 segment in 2 pieces, 7 words, en; kept\n" in text
        assert json.loads(out["json"].read_bytes()) == GOLDEN_JSON
        assert (out["srt"].read_text(), out["vtt"].read_text()) == (GOLDEN_SRT, GOLDEN_VTT)
        assert shell.json("transcripts", "show", "talk") == GOLDEN_JSON
        assert shell.ok("transcripts", "show", "talk", "--format", "srt") == GOLDEN_SRT
        assert shell.ok("transcripts", "show", "talk") == f"Ada: Well, um, hello there.\nSPEAKER_01: Hello {SAID} uh\n"
        shell.ok("transcripts", "show", "talk", "--format", "vtt", "--output", out["srt"])
        assert out["srt"].read_text() == GOLDEN_VTT
        assert {path.name for path in (tmp_path / "new").iterdir()} == {path.name for path in out.values()}
        again = shell.json(*words)["transcript"]
        assert (again["outcome"], again["words"]) == ("unchanged", 7)

    def test_the_words_of_the_json_have_times_and_speakers(self, shell: Shell, tmp_path: Path) -> None:
        out = tmp_path / "out.json"
        shell.ok("label", given(tmp_path, whisperx()), "--recording", "talk", "--words", "--output-json", out)
        listed = [word for segment in json.loads(out.read_bytes())["segments"] for word in segment["words"]]
        assert [(each["word"], each["start"], each["end"]) for each in listed] == WORDS
        assert [each["speaker"] for each in listed] == ["SPEAKER_00"] * 4 + ["SPEAKER_01"] * 3
        assert shell.json("transcripts", "show", "talk", "--words") == json.loads(out.read_bytes())
        for form in ("srt", "vtt", "text"):
            words = ["--format", form, "--output", out.with_suffix(".x"), "--words"]
            assert shell.refused("transcripts", "show", "talk", *words)["code"] == "invalid-input"
        assert not out.with_suffix(".x").exists()

    def test_a_recording_is_named_by_its_id_a_beginning_or_its_file(
        self, db: SpeakerDB, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from tests.synthetic_voices import make_recording

        (tmp_path / "media").mkdir()
        made = make_recording(tmp_path / "media", "show", [("A", 1, 2.0), ("B", 2, 2.0)])
        found = shell.json("add", made.path)["recordings"][0]["report"]["recording_id"]
        said = given(tmp_path, json.dumps([{"start": 0.5, "end": 1.5, "text": "hello"}]))
        monkeypatch.chdir(made.path.parent)
        for name in (found, found[:12], made.path, made.path.name):
            report = shell.json("label", said, "--recording", name)["transcript"]
            assert report["recording_id"] == found
        assert shell.refused("label", said, "--recording", "nothing.wav")["code"] == "not-found"
        shell.ok("add", made.path, "--library", "other", "--id", "twice")
        assert shell.refused("label", said, "--recording", made.path)["code"] == "invalid-input"

    def test_without_keeping_the_files_are_written_and_nothing_else(
        self, shell: Shell, tmp_path: Path, data: Path
    ) -> None:
        out = tmp_path / "out.srt"
        report = shell.json(
            "label", given(tmp_path, SRT, ".srt"), "--recording", "talk", "--no-keep", "--output-srt", out
        )
        assert (report["transcript"]["outcome"], report["written"]) == ("not-kept", [str(out)])
        assert SAID in out.read_text()
        assert shell.json("transcripts", "list") == []
        assert "No recording" in shell.ok("transcripts", "list")
        assert holding(data) == set()

    def test_removing_asks_and_leaves_no_word(self, db: SpeakerDB, shell: Shell, tmp_path: Path, data: Path) -> None:
        shell.ok("label", given(tmp_path, whisperx()), "--recording", "talk", "--why", "from the tape")
        assert holding(data) == {"catalog.db/transcripts"}
        assert [each["recording_id"] for each in shell.json("transcripts", "list")] == ["talk"]
        assert shell.refused("transcripts", "remove", "talk")["code"] == "not-confirmed"
        assert shell.json("transcripts", "remove", "talk", "--yes", "--why", "asked for") == {
            "recording_id": "talk", "words": 7,
        }  # fmt: skip
        assert holding(data) == set()
        events = [event for event in db.events() if event["kind"].startswith("transcript")]
        assert [(event["kind"], event["why"]) for event in events] == [
            ("transcript-removed", "asked for"), ("transcript-kept", "from the tape"),
        ]  # fmt: skip
        shell.ok("label", given(tmp_path, whisperx()), "--recording", "talk")
        assert holding(data) == {"catalog.db/transcripts"}
        shell.ok("remove", "talk", "--yes")
        assert holding(data) == set()

    def test_what_is_no_transcript_of_it_is_refused_and_nothing_is_written(
        self, shell: Shell, tmp_path: Path, data: Path
    ) -> None:
        out = [tmp_path / "out" / f"o.{form}" for form in ("json", "srt", "vtt")]
        for wrong, (content, ending) in HOSTILE.items():
            said = given(tmp_path, content, ending)
            words = ["label", said, "--recording", "talk", "--output-json", out[0], "--output-srt", out[1]]
            error = shell.refused(*words, "--output-vtt", out[2])
            assert (error["code"], error["exit_code"]) == ("invalid-transcript", 4), wrong
            assert error["hint"], wrong
            assert SAID not in json.dumps(error), wrong
            assert not out[0].parent.exists(), wrong
            code, printed, err = shell.run("--verbose", "label", said, "--recording", "talk")
            assert (code, SAID in printed + err) == (4, False), wrong
        assert shell.json("transcripts", "list") == []
        assert holding(data) == set()

    def test_what_is_no_file_is_refused(self, shell: Shell, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.json")
        large = tmp_path / "large.json"
        with large.open("wb") as file:
            file.truncate(MAX_TRANSCRIPT_BYTES + 1)
        for path in (tmp_path / "none.json", tmp_path, tmp_path / "pipe.json", Path("/dev/zero"), large):
            assert shell.refused("label", path, "--recording", "talk")["code"] == "invalid-transcript"
        said = given(tmp_path, whisperx())
        for place in (["--output-srt", tmp_path], ["--output-srt", tmp_path / "x", "--output-vtt", tmp_path / "x"]):
            assert shell.refused("label", said, "--recording", "talk", *place)["code"] == "invalid-input"
        assert shell.refused("transcripts", "show", "talk", "--output", "/dev/null")["code"] == "invalid-input"
        assert shell.json("transcripts", "list") == []

    def test_files_that_cannot_be_written_leave_nothing(self, shell: Shell, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        words = ["--output-srt", tmp_path / "good" / "o.srt", "--output-vtt", tmp_path / "file" / "o.vtt"]
        error = shell.refused("label", given(tmp_path, whisperx()), "--recording", "talk", *words)
        assert error["code"] == "io"
        assert list((tmp_path / "good").iterdir()) == []
        assert shell.json("transcripts", "list") == []

    def test_marks_of_windows_are_read(self, shell: Shell, tmp_path: Path) -> None:
        for content in (SRT.encode(), SRT.removeprefix("\ufeff").encode("utf-16"), b"\xef\xbb\xbf" + VTT.encode()):
            report = shell.json("label", given(tmp_path, content, ".txt"), "--recording", "talk")
            assert report["transcript"]["words"] == 7


class TestHttp:
    def test_a_transcript_is_put_read_in_every_form_and_removed(self, db: SpeakerDB, client: TestClient) -> None:
        named(db)
        assert client.get(WHERE).status_code == 404
        put = client.put(WHERE, content=whisperx(), headers={"Content-Type": "application/json"})
        assert (put.status_code, put.json()["outcome"], put.json()["words"]) == (200, "added", 7)
        shown = client.get(WHERE)
        assert (shown.json(), shown.headers["etag"]) == (GOLDEN_JSON, put.headers["etag"])
        assert client.get(WHERE, params={"form": "srt"}).text == GOLDEN_SRT
        vtt = client.get(WHERE, params={"form": "vtt"})
        assert (vtt.text, vtt.headers["content-type"]) == (GOLDEN_VTT, "text/vtt; charset=utf-8")
        assert client.get(WHERE, params={"words": True}).json()["segments"][1]["words"][1]["word"] == SAID
        (listed,) = client.get("/v1/transcripts").json()["items"]
        assert (listed["recording_id"], listed["words"]) == ("talk", 7)
        removed = client.delete(WHERE, params={"why": "asked for"})
        assert removed.json() == {"recording_id": "talk", "words": 7}
        assert (client.delete(WHERE).status_code, client.get(WHERE).status_code) == (404, 404)
        assert [event["why"] for event in db.events() if event["kind"] == "transcript-removed"] == ["asked for"]

    def test_the_body_is_the_file_whatever_it_is_sent_as(self, client: TestClient) -> None:
        for text, ending in ((whisperx(), ".json"), (SRT, ".srt"), (VTT, ".vtt"), (VTT, ".none")):
            kind = TYPES.get(ending, "application/octet-stream")
            put = client.put(WHERE, content=text.encode(), headers={"Content-Type": kind})
            assert (put.status_code, put.json()["words"]) == (200, 7), ending

    def test_of_two_who_change_what_they_read_one_wins(self, client: TestClient) -> None:
        new = client.put(WHERE, content=whisperx(), headers={"If-Match": '"none"'})
        assert new.status_code == 200
        assert client.put(WHERE, content=SRT.encode(), headers={"If-Match": '"none"'}).status_code == 412
        assert client.delete(WHERE, headers={"If-Match": '"none"'}).json()["code"] == "version-conflict"
        assert client.put(WHERE, content=SRT.encode(), headers={"If-Match": new.headers["etag"]}).status_code == 200

    def test_asking_without_keeping(self, client: TestClient) -> None:
        asked = client.put(WHERE, content=whisperx(), params={"keep": False})
        assert (asked.json()["outcome"], asked.headers["etag"]) == ("not-kept", '"none"')
        assert client.get("/v1/transcripts").json()["items"] == []

    def test_what_is_no_transcript_of_it_is_refused_and_nothing_is_written(
        self, client: TestClient, data: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for wrong, (content, ending) in HOSTILE.items():
            answer = client.put(WHERE, content=content, headers={"Content-Type": TYPES[ending]})
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid-transcript"), wrong
            assert SAID not in answer.text, wrong
        assert SAID not in caplog.text
        assert client.get(WHERE).status_code == 404
        assert holding(data) == set()

    def test_a_body_that_is_too_large_and_a_form_are_refused(self, db: SpeakerDB, client: TestClient) -> None:
        large = b" " * int(db.settings.api.turns_mb * 1_000_000 + 1)
        assert client.put(WHERE, content=large).json()["code"] == "too-large"
        assert client.put(WHERE, files={"file": b"x"}).json()["code"] == "invalid-input"

    def test_a_reader_reads_and_an_operator_writes(self, db: SpeakerDB, client: TestClient) -> None:
        made = {role: db.access.create(role.value, role).secret for role in Role}
        as_ = {role: {"Authorization": f"Bearer {secret}"} for role, secret in made.items()}
        assert client.put(WHERE, content=whisperx(), headers=as_[Role.READER]).status_code == 403
        assert client.put(WHERE, content=whisperx(), headers=as_[Role.OPERATOR]).status_code == 200
        assert client.get(WHERE, headers=as_[Role.READER]).status_code == 200
        assert client.delete(WHERE, headers=as_[Role.READER]).status_code == 403
        assert client.get(WHERE).status_code == 401


def test_the_text_is_in_no_log_and_no_support_bundle(db: SpeakerDB, shell: Shell, tmp_path: Path, data: Path) -> None:
    import zipfile

    shell.ok("label", given(tmp_path, whisperx()), "--recording", "talk")
    shell.refused("label", given(tmp_path, *HOSTILE["half a JSON"]), "--recording", "talk")
    shell.ok("support-bundle", "--out", tmp_path / "bundle.zip")
    assert {path for path in holding(data) if not path.startswith("catalog.db")} == set()
    with zipfile.ZipFile(tmp_path / "bundle.zip") as bundle:
        assert len(bundle.namelist()) > 2
        assert all(SAID.encode() not in bundle.read(name) for name in bundle.namelist())


def test_a_backup_brings_the_transcript_back(db: SpeakerDB, shell: Shell, tmp_path: Path) -> None:
    from speakerdb.testing.factories import FakeExecutor, fake_settings

    shell.ok("label", given(tmp_path, whisperx()), "--recording", "talk")
    shell.ok("backup", tmp_path / "kept.db")
    settings = fake_settings(tmp_path / "other", database_url=f"sqlite:///{tmp_path / 'kept.db'}")
    with SpeakerDB.open(settings, executor=FakeExecutor()) as other:
        assert other.transcripts.show("talk").transcript == parse_transcript(whisperx())


def test_voices_of_one_name_stay_apart_in_every_form(db: SpeakerDB, client: TestClient) -> None:
    for label, speaker in add(db).items():
        db.rename_speaker(speaker, "Ada" if label != "SPEAKER_02" else "Ada (SPEAKER_00)")
    client.put(WHERE, content=whisperx())
    assert client.get(WHERE).json()["speakers"] == ["Ada (SPEAKER_00)", "Ada (SPEAKER_01)"]
    assert "[Ada (SPEAKER_01)] Hello" in client.get(WHERE, params={"form": "srt"}).text
