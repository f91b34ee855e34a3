"""A whole library comes in, again and again: what is new, changed, the same or refused, and what people said stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import intake_kit as kit
import pytest

from speakerdb import media
from speakerdb.errors import DatabaseUnavailable, InvalidInput, InvalidTurns, StorageFull
from speakerdb.ingest import Given, bulk, entries, turns_files
from speakerdb.ingest.looking import Looking
from speakerdb.ingest.sources import Sources
from speakerdb.ingest.turns_files import TurnsFiles
from speakerdb.people.naming import Choice
from speakerdb.reports import AddOutcome
from speakerdb.reports.intake import IntakeReport
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import silence
from speakerdb.types import MediaInfo, Turn

Open = Callable[..., SpeakerDB]


def counts(report: IntakeReport) -> tuple[int, int, int, int]:
    return report.added, report.changed, report.unchanged, report.refused


def codes(report: IntakeReport) -> dict[str, int]:
    return dict(report.refused_by_code)


def speaker(db: SpeakerDB, recording: str, label: str = "A") -> Any:
    return next(s for s in db.speakers(recording=recording) if s.label == label)


# New, changed, the same


def test_a_manifest_comes_in_and_again_changes_nothing(db: SpeakerDB, data: Path, tmp_path: Path) -> None:
    path = kit.library(tmp_path / "lib", 5, library="tv", recorded_at="2024-05-31T18:30:00Z")
    report = db.ingest.bring_in([path])
    assert counts(report) == (5, 0, 0, 0)
    assert report.turns == 10
    assert [(r.id, r.library, r.turns) for r in db.recordings()] == [(f"r{n:03}", "tv", 2) for n in range(5)]
    assert kit.rows(data, "SELECT DISTINCT recorded_at FROM recordings") == [(1_717_180_200_000_000,)]
    assert [e["data"] for e in db.events() if e["kind"] == "library-brought-in"] == [
        {"added": 5, "changed": 0, "unchanged": 0, "refused": 0, "named": 0, "retried": 0}
    ]
    assert db.work().recordings_done == 5
    before = kit.everything(data)
    assert counts(db.ingest.bring_in([path])) == (0, 0, 5, 0)
    assert kit.everything(data) == before


def test_what_is_the_same_is_not_opened_again(db: SpeakerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kit.library(tmp_path / "lib", 3)
    db.ingest.bring_in([path])
    kit.sound(tmp_path / "lib" / "media" / "001.wav", seed=99)
    opened: list[Path] = []
    probe = media.probe
    monkeypatch.setattr(media, "probe", lambda file: (opened.append(file), probe(file))[1])
    assert counts(db.ingest.bring_in([path])) == (0, 1, 2, 0)
    assert [file.name for file in opened] == ["001.wav"]


def test_edited_turns_and_moved_files(db: SpeakerDB, tmp_path: Path) -> None:
    path = kit.library(tmp_path / "lib", 3)
    db.ingest.bring_in([path])
    given = kit.entries_of(path)
    given[0]["turns"] = [{"start": 0, "end": 2, "speaker": "A"}]
    (tmp_path / "lib" / "media" / "001.wav").rename(tmp_path / "lib" / "moved.wav")
    given[1]["path"] = "moved.wav"
    given[2]["recorded_at"] = "2020-01-01"
    kit.manifest(path, given)
    assert counts(db.ingest.bring_in([path])) == (0, 1, 2, 0)
    assert next(r.path for r in db.recordings() if r.id == "r001") == str(tmp_path / "lib" / "moved.wav")
    kinds = [e["kind"] for e in db.events(limit=4)]
    assert kinds == ["library-brought-in", "recording-changed", "recording-relocated", "recording-changed"]


def test_one_file_added_alone_and_in_a_folder_is_one_recording(db: SpeakerDB, tmp_path: Path) -> None:
    file = kit.with_turns(tmp_path / "lib" / "a.wav")
    added = db.add(file, TurnsFiles().of(file).of())
    assert counts(db.ingest.bring_in([tmp_path / "lib"])) == (0, 0, 1, 0)
    assert [r.id for r in db.recordings()] == [added.recording_id]


def test_a_failed_recording_is_tried_again_and_a_waived_one_is_not(open_db: Open, tmp_path: Path, data: Path) -> None:
    path = kit.library(tmp_path / "lib", 3)
    db = open_db()
    db.ingest.bring_in([path])
    with db.catalog.job() as tx:
        tx.exec_driver_sql(
            "UPDATE work_items SET state = 'failed', error_code = 'media-missing' WHERE recording_id = 'r000'"
        )
        tx.exec_driver_sql("UPDATE work_items SET state = 'waived', waived_why = 'x' WHERE recording_id = 'r001'")
    report = db.ingest.bring_in([path])
    assert report.retried == 1
    states = dict(kit.rows(data, "SELECT recording_id, state FROM work_items"))
    assert states == {"r000": "queued", "r001": "waived", "r002": "queued"}


# Folders


def test_a_folder_is_walked(db: SpeakerDB, tmp_path: Path) -> None:
    lib, outside = tmp_path / "lib", kit.with_turns(tmp_path / "outside.wav", 9)
    for n, name in enumerate(["b.wav", "a/x.wav", "a/deep/y.WAV", ".hidden.wav", ".git/annex/z.wav", "notes.txt"]):
        kit.with_turns(lib / name, n)
    (lib / "out.wav").symlink_to(outside)
    (lib / "again.wav").symlink_to(lib / "b.wav")
    (lib / "kept.wav").symlink_to(lib / ".git" / "annex" / "z.wav")
    (lib / "kept.rttm").write_text(kit.RTTM.format("kept"))
    (lib / "round").symlink_to(lib)
    os.mkfifo(lib / "pipe.wav")
    (lib / "pipe.rttm").write_text(kit.RTTM.format("pipe"))
    report = db.ingest.bring_in([lib])
    assert [Path(r.path or "").name for r in db.recordings()] == ["y.WAV", "x.wav", "b.wav", "z.wav"]
    assert report.left_out["hidden"] == 3
    assert report.left_out["link"] == 2
    assert codes(report) == {"media-unreadable": 1}


def test_turns_in_a_folder_of_their_own(db: SpeakerDB, tmp_path: Path) -> None:
    lib, turns = tmp_path / "lib", tmp_path / "turns"
    for n, name in enumerate(["day1/x.wav", "day2/x.wav", "day2/only.wav", "day2/twice.wav", "day3/twice.wav"]):
        kit.sound(lib / name, n)
    (turns / "day1").mkdir(parents=True)
    (turns / "day1" / "x.rttm").write_text(kit.RTTM.format("x"))
    (turns / "only.json").write_text(json.dumps(kit.TURNS))
    (turns / "twice.rttm").write_text(kit.RTTM.format("twice"))
    report = db.ingest.bring_in([lib], turns=turns)
    # Neither x of day2 nor one of the two called twice may be given another's turns.
    assert [Path(r.path or "").name for r in db.recordings()] == ["x.wav", "only.wav"]
    assert codes(report) == {"needs-turns": 3}


def test_one_rttm_of_the_whole_library_is_read_once(
    db: SpeakerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{n:02}" for n in range(6)]
    for n, name in enumerate(names):
        kit.sound(tmp_path / "lib" / f"{name}.wav", n)
    everyone = tmp_path / "all.rttm"
    everyone.write_text("".join(kit.RTTM.format(name) for name in names))
    read: list[Path] = []
    text = turns_files.read_text
    monkeypatch.setattr(turns_files, "read_text", lambda path: (read.append(path), text(path))[1])
    assert counts(db.ingest.bring_in([tmp_path / "lib"], turns=everyone)) == (6, 0, 0, 0)
    assert len(read) == 1
    given = [{"path": f"lib/{name}.wav", "turns_file": "all.rttm"} for name in names]
    assert counts(db.ingest.bring_in([kit.manifest(tmp_path / "m.jsonl", given)])) == (0, 0, 6, 0)
    assert len(read) == 2


def test_a_diarizers_file_goes_before_subtitles(tmp_path: Path) -> None:
    file = kit.with_turns(tmp_path / "a.wav")
    file.with_suffix(".srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nno tag\n")
    assert len(TurnsFiles().of(file).of()) == 2
    file.with_suffix(".json").write_text("[]")
    with pytest.raises(InvalidTurns, match="both"):
        TurnsFiles().of(file)


# Refused, corrected, fed again


def test_refused_entries_are_corrected_and_fed_again(db: SpeakerDB, tmp_path: Path) -> None:
    lib = tmp_path / "lib"
    path = kit.library(lib, 4)
    given: list[Any] = kit.entries_of(path)
    given[1]["path"] = "media/gone.wav"
    given[2]["turns"][0]["end"] = 50
    kit.manifest(
        path, [*given, "{no json", given[0], {"id": "other", "path": "media/../media/003.wav", "turns": kit.TURNS}]
    )
    out = tmp_path / "elsewhere" / "refused.jsonl"
    report = db.ingest.bring_in([path], refused=out)
    assert counts(report) == (2, 0, 0, 5)
    assert codes(report) == {"duplicate-entry": 2, "media-missing": 1, "invalid-turns": 1, "invalid-manifest": 1}
    assert (report.refused_file, out.stat().st_mode & 0o777) == (str(out), 0o600)
    assert [f"{path}, line {n}" for n in (2, 3, 5, 6, 7)] == [each.where for each in report.sample]
    lines = kit.entries_of(out)
    assert [sorted(line["error"])[:4] for line in lines] == [
        ["code", "hint", "message", *rest] for rest in [["where"]] * 2 + [["text"]] + [["where"]] * 2
    ]
    assert lines[0]["path"] == str(lib / "media" / "gone.wav")

    lines[0]["path"] = str(lib / "media" / "001.wav")
    lines[1]["turns"][0]["end"] = 1
    kit.manifest(out, lines[:3])
    again = db.ingest.bring_in([out], refused=out)  # the same file is read and written
    assert counts(again) == (2, 0, 0, 1)
    assert [line["error"]["code"] for line in kit.entries_of(out)] == ["invalid-manifest"]
    assert [r.id for r in db.recordings()] == ["r000", "r003", "r001", "r002"]


def test_a_dry_run_says_what_happens_and_writes_nothing(db: SpeakerDB, data: Path, tmp_path: Path) -> None:
    path = kit.library(tmp_path / "lib", 4, speakers={"A": {"name": "Ann", "profile": "Ann"}})
    given: list[Any] = kit.entries_of(path)
    kit.manifest(path, [*given[:3], {"path": "gone.wav", "turns": kit.TURNS}])
    before = kit.everything(data)
    dry = db.ingest.bring_in([path], dry_run=True)
    assert kit.everything(data) == before
    wet = db.ingest.bring_in([path])
    assert counts(dry) == counts(wet) == (3, 0, 0, 1)
    assert (dry.named, dry.profiles_made) == (wet.named, wet.profiles_made) == (3, 1)
    assert dry.dry_run
    before = kit.everything(data)
    assert counts(db.ingest.bring_in([path], dry_run=True)) == (0, 0, 3, 1)
    assert kit.everything(data) == before


def test_each_bad_input_has_its_code_and_the_rest_goes_on(open_db: Open, tmp_path: Path) -> None:
    lib = tmp_path / "lib"
    path = kit.library(lib, 2)
    outside = kit.sound(tmp_path / "outside.wav", 50)
    (lib / "link.wav").symlink_to(outside)
    os.mkfifo(lib / "pipe.wav")
    os.mkfifo(lib / "pipe.rttm")
    (lib / "folder.wav").mkdir()
    (lib / "empty.wav").touch()
    kit.sound(lib / "new\nline.wav", 60)
    bytes_name = os.fsdecode(b"caf\xe9.wav")
    kit.sound(lib / bytes_name, 61)
    bad = {
        "link.wav": "media-forbidden", "../outside.wav": "media-forbidden", "pipe.wav": "media-unreadable",
        "folder.wav": "media-unreadable", "empty.wav": "media-unreadable", bytes_name: "media-unreadable",
        "http://x/y.wav": "media-missing", "a\u0000b.wav": "media-unreadable",
    }  # fmt: skip
    more = [{"path": name, "turns": kit.TURNS} for name in [*bad, "new\nline.wav"]]
    more += [
        {"path": "media/000.wav", "id": "t1", "turns_file": "pipe.rttm"},
        {"path": "media/000.wav", "id": "t2", "turns_file": "absent.rttm"},
        {"path": "media/000.wav", "id": "t3", "turns": []},
        {"path": "media/000.wav", "id": "t4", "turns": kit.TURNS, "speakers": {"Z": {"name": "Zoe"}}},
        {"path": "media/000.wav", "id": "t5"},
    ]
    path.write_text(path.read_text() + "".join(json.dumps(each) + "\n" for each in more))
    report = open_db(media_roots=(lib,)).ingest.bring_in([path], refused=tmp_path / "refused.jsonl")
    assert counts(report) == (3, 0, 0, 13)
    assert [each.code for each in report.sample[:8]] == list(bad.values())
    assert [each.code for each in report.sample[8:]] == [
        "invalid-turns", "invalid-turns", "needs-turns", "invalid-input", "needs-turns",
    ]  # fmt: skip
    assert all(each.hint for each in report.sample)
    assert len(kit.entries_of(tmp_path / "refused.jsonl")) == 13


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("m.jsonl", b"", "no entry"),
        ("m.csv", b"path\n", "no entry"),
        ("m.csv", b"file;id\nx;y\n", "unknown column"),
        ("m.jsonl", b"\x00\x01RIFF", "binary"),
        ("m.jsonl", '{"path": "x"}'.encode("utf-16"), "binary"),
        ("m.csv", None, "no manifest"),
    ],
)
def test_manifests_that_are_refused_whole(
    name: str, content: bytes | None, says: str, db: SpeakerDB, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    good = kit.with_turns(tmp_path / "good.wav")
    report = db.ingest.bring_in([path, good])
    assert counts(report) == (1, 0, 0, 1)
    assert codes(report) == {"invalid-manifest": 1}
    assert says in report.sample[0].message


def test_manifests_as_other_programs_write_them(db: SpeakerDB, tmp_path: Path) -> None:
    kit.library(tmp_path, 2)
    line = json.dumps({"id": "r000", "path": "media/000.wav", "turns": kit.TURNS})
    (tmp_path / "a.ndjson").write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\r\n\r\n")
    turns = json.dumps(kit.TURNS).replace('"', '""')
    (tmp_path / "b.csv").write_bytes(f'\ufeffid,path,turns\r\nr001,media/001.wav,"{turns}"\r\n'.encode())
    report = db.ingest.bring_in([tmp_path / "a.ndjson", tmp_path / "b.csv"])
    assert counts(report) == (2, 0, 0, 0)


def test_a_line_without_an_end_and_one_that_is_not_text(
    db: SpeakerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kit.library(tmp_path, 2)
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b'{"path": "' + b"x" * 9000 + b'"}\n' + b'{"path": "caf\xe9"}\n' + second.rstrip(b"\n"))
    monkeypatch.setattr("speakerdb.core.manifest.MAX_LINE_BYTES", 4000)
    report = db.ingest.bring_in([path])
    assert counts(report) == (2, 0, 0, 2)
    assert ["4,000 bytes" in report.sample[0].message, "UTF-8" in report.sample[1].message] == [True, True]


def test_too_many_turns(db: SpeakerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speakerdb.ingest.looking.MAX_TURNS", 1)
    report = db.ingest.bring_in([kit.library(tmp_path, 1)])
    assert codes(report) == {"invalid-turns": 1}
    assert entries.MAX_TURNS == 1_000_000


def test_too_many_speakers(db: SpeakerDB) -> None:
    many = [Turn(n / 1000, (n + 1) / 1000, f"S{n}") for n in range(entries.MAX_SPEAKERS + 1)]
    with pytest.raises(InvalidTurns, match="10,001 speakers"):
        db.add(None, many, recording_id="long", waveform=silence(60.0))
    assert len(db.add(None, many[1:], recording_id="long", waveform=silence(60.0)).speakers) == entries.MAX_SPEAKERS
    other = [Turn(t.start, t.end, t.speaker + "x") for t in many[1:]]
    assert db.add(None, other, recording_id="long", waveform=silence(60.0)).outcome is AddOutcome.CHANGED
    db.remove("long")
    assert db.speakers() == []


def test_a_file_that_is_replaced_while_it_is_read(
    db: SpeakerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kit.library(tmp_path, 2)
    probe = media.probe

    def replaced(file: Path) -> MediaInfo:
        found = probe(file)
        if file.name == "000.wav":
            kit.sound(file, seed=77)
        return found

    monkeypatch.setattr(media, "probe", replaced)
    report = db.ingest.bring_in([path])
    assert counts(report) == (1, 0, 0, 1)
    assert codes(report) == {"media-changed": 1}


def test_two_entries_that_are_one_recording(db: SpeakerDB, tmp_path: Path) -> None:
    kit.library(tmp_path, 2)
    db.ingest.bring_in([kit.manifest(tmp_path / "m.jsonl", [{"path": "media/000.wav", "turns": kit.TURNS}])])
    (known,) = db.recordings()
    given = [
        {"path": "media/000.wav", "turns": kit.TURNS},
        {"id": known.id, "path": "media/001.wav", "turns": kit.TURNS},
    ]
    kit.manifest(tmp_path / "m.jsonl", given)
    assert codes(db.ingest.bring_in([tmp_path / "m.jsonl"])) == {"duplicate-entry": 1}
    kit.manifest(tmp_path / "m.jsonl", given[::-1])
    report = db.ingest.bring_in([tmp_path / "m.jsonl"])  # the recording moves, and its old file is another one now
    assert counts(report)[::3] == (1, 0)
    assert [Path(r.path or "").name for r in db.recordings()] == ["001.wav", "000.wav"]


def test_an_id_of_another_library_takes_nobody_with_it(db: SpeakerDB, tmp_path: Path) -> None:
    path = kit.library(tmp_path, 3)
    db.ingest.bring_in([kit.manifest(tmp_path / "m.jsonl", kit.entries_of(path)[1:2])], library_name="tv")
    report = db.ingest.bring_in([path])
    assert counts(report) == (2, 0, 0, 1)
    assert codes(report) == {"invalid-input": 1}
    assert {r.id: r.library for r in db.recordings()} == {"r000": "default", "r001": "tv", "r002": "default"}


# What people said


def test_names_and_profiles_of_a_manifest(db: SpeakerDB, data: Path, tmp_path: Path) -> None:
    said = {"A": {"name": "Ann in the studio", "profile": "Ann"}, "B": {"profile": "Bob"}}
    path = kit.library(tmp_path, 3, speakers=said)
    report = db.ingest.bring_in([path])
    assert (report.named, report.profiles_made, report.kept) == (6, 2, 0)
    assert {(p.name, p.speakers) for p in db.profiles()} == {("Ann", 3), ("Bob", 3)}
    assert speaker(db, "r001").name == "Ann in the studio"
    assert sum(e["kind"] == "speaker-assigned" for e in db.events(limit=100)) == 6
    db.work()
    before = kit.everything(data)
    assert db.ingest.bring_in([path]).named == 0
    assert kit.everything(data) == before


def test_what_people_changed_since_is_kept(db: SpeakerDB, data: Path, tmp_path: Path) -> None:
    path = kit.library(tmp_path, 5, speakers={"A": {"name": "Ann", "profile": "Ann"}, "B": {"profile": "Bob"}})
    db.ingest.bring_in([path])
    db.work()
    ann, bob = (next(p.id for p in db.profiles() if p.name == name) for name in ("Ann", "Bob"))
    db.people.rename_speaker(speaker(db, "r000").id, "Anna")
    db.people.rename_speaker(speaker(db, "r001").id, None)
    db.people.assign(speaker(db, "r002").id, bob)
    db.people.assign(speaker(db, "r003").id, None)
    db.people.rename_profile(bob, "Robert")
    db.people.merge_profiles(ann, bob)
    db.work()
    before = kit.everything(data)
    report = db.ingest.bring_in([path])
    assert (report.unchanged, report.named, report.profiles_made) == (5, 0, 0)
    assert report.kept > 0
    assert kit.everything(data) == before


def test_a_name_that_was_merged_away_leads_to_where_it_went(db: SpeakerDB, tmp_path: Path) -> None:
    ann, anna = (db.people.create_profile(name).id for name in ("Ann", "Anna"))
    db.people.merge_profiles(ann, anna)
    path = kit.library(tmp_path, 2, speakers={"A": {"profile": "Ann"}})
    other = kit.entries_of(path)
    other[1]["speakers"] = {"A": {"profile": ann}}
    kit.manifest(path, other)
    assert db.ingest.bring_in([path]).profiles_made == 0
    assert {speaker(db, r).profile_id for r in ("r000", "r001")} == {anna}


def test_profiles_that_cannot_be_taken(db: SpeakerDB, tmp_path: Path) -> None:
    elsewhere = db.people.create_profile("Ann", library_name="tv").id
    path = kit.library(tmp_path, 2)
    given = kit.entries_of(path)
    given[0]["speakers"] = {"A": {"profile": elsewhere}}
    given[1]["speakers"] = {"A": {"profile": "prf_" + "0" * 20}}
    kit.manifest(path, given)
    report = db.ingest.bring_in([path])
    assert codes(report) == {"invalid-input": 1, "not-found": 1}
    assert db.recordings() == []
    assert [p.name for p in db.profiles()] == ["Ann"]


def test_voices_that_were_split_stay_split(db: SpeakerDB, data: Path, tmp_path: Path) -> None:
    turns = [{"start": n * 0.5, "end": n * 0.5 + 0.5, "speaker": "A"} for n in range(4)]
    kit.sound(tmp_path / "a.wav")
    path = kit.manifest(tmp_path / "m.jsonl", [{"id": "r", "path": "a.wav", "turns": turns}])
    db.ingest.bring_in([path])
    db.people.split(speaker(db, "r").id, Choice(turns="3-4"))
    db.work()
    before = kit.everything(data)
    assert counts(db.ingest.bring_in([path])) == (0, 0, 1, 0)
    assert kit.everything(data) == before
    kit.manifest(path, [{"id": "r", "path": "a.wav", "turns": turns[:3]}])
    assert counts(db.ingest.bring_in([path])) == (0, 1, 0, 0)


# Stopped, broken, killed


def test_a_run_that_is_stopped_is_continued(db: SpeakerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PART_RECORDINGS", 2)
    path = kit.library(tmp_path, 7)
    told: list[int] = []
    report = db.ingest.bring_in([path], on_event=lambda e: told.append(e.recordings), stop=lambda: len(told) >= 2)
    assert (report.stopped, counts(report)) == (True, (4, 0, 0, 0))
    assert told == [2, 4]
    assert counts(db.ingest.bring_in([path])) == (3, 0, 4, 0)


@pytest.mark.parametrize(("error", "writes"), [(DatabaseUnavailable, 3), (StorageFull, 1)])
def test_a_backend_error_takes_back_its_part_and_nothing_else(
    error: type[Exception], writes: int, db: SpeakerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "PART_RECORDINGS", 2)
    path = kit.library(tmp_path, 6)
    tried = 0
    write_turns = bulk.PartWriter._store

    def fails(self: Any, plan: Any, before: Any) -> Any:
        nonlocal tried
        if plan.row.id == "r003":
            tried += 1
            raise error("It is broken.")
        return write_turns(self, plan, before)

    monkeypatch.setattr(bulk.PartWriter, "_store", fails)
    with pytest.raises(error):
        db.ingest.bring_in([path])
    assert tried == writes
    assert [r.id for r in db.recordings()] == ["r000", "r001"]
    monkeypatch.undo()
    assert counts(db.ingest.bring_in([path])) == (4, 0, 2, 0)


def test_a_database_that_is_busy_once(db: SpeakerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kit.library(tmp_path, 3)
    write = bulk.Bulk._write
    calls: list[int] = []

    def busy_once(self: Any, part: Any) -> Any:
        calls.append(len(part))
        if len(calls) == 1:
            raise DatabaseUnavailable("It is locked.")
        return write(self, part)

    monkeypatch.setattr(bulk.Bulk, "_write", busy_once)
    assert counts(db.ingest.bring_in([path])) == (3, 0, 0, 0)
    assert calls == [3, 3]


KILLED = """
import os, signal, sys
from pathlib import Path
from speakerdb.ingest import bulk
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings
bulk.PART_RECORDINGS = 2
with SpeakerDB.open(fake_settings(Path(sys.argv[1])), executor=FakeExecutor()) as db:
    db.ingest.bring_in(
        [Path(sys.argv[2])],
        refused=Path(sys.argv[1]) / "refused.jsonl",
        on_event=lambda e: e.recordings < 4 or os.kill(os.getpid(), signal.SIGKILL),
    )
"""


def test_a_run_that_is_killed_is_continued(open_db: Open, data: Path, tmp_path: Path) -> None:
    path = kit.library(tmp_path / "lib", 7, speakers={"A": {"profile": "Ann"}})
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", KILLED, data, path], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    db = open_db()
    assert len(db.recordings()) == 4
    report = db.ingest.bring_in([path])
    assert counts(report) == (3, 0, 4, 0)
    assert (report.profiles_made, db.profiles()[0].speakers) == (0, 7)


def test_a_manifest_is_not_read_further_than_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kit.library(tmp_path, 1)
    path.write_bytes(path.read_bytes() * 50)
    entries_ = Sources([path], TurnsFiles(), "default").entries()
    first = next(entries_)
    assert isinstance(first, Given)
    entries_.close()  # type: ignore[attr-defined]


def test_parts_are_bounded_in_number_and_in_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [Given(tmp_path, lambda: ((), 0), weight=weight) for weight in (1, 1, 9, 1, 1, 1, 1)]
    monkeypatch.setattr(bulk, "PART_RECORDINGS", 3)
    monkeypatch.setattr(bulk, "PART_BYTES", 10)
    assert [len(part) for part in bulk._parts(given)] == [3, 3, 1]
    given[0] = Given(tmp_path, lambda: ((), 0), weight=10)
    assert [len(part) for part in bulk._parts(given)] == [1, 2, 3, 1]


def test_media_is_looked_at_in_threads_ahead_of_the_writer(
    db: SpeakerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "PART_RECORDINGS", 1)
    threads: set[int] = set()
    part = Looking.part

    def noted(self: Any, entries: Any, opened: Any) -> Any:
        threads.add(threading.get_ident())
        return part(self, entries, opened)

    monkeypatch.setattr(Looking, "part", noted)
    db.ingest.bring_in([kit.library(tmp_path, 8)])
    assert threading.get_ident() not in threads


def test_a_dry_run_counts_the_profiles_of_all_its_parts_once(
    db: SpeakerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "PART_RECORDINGS", 2)
    path = kit.library(tmp_path, 6)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for number, line in enumerate(lines):
        label = line["turns"][0]["speaker"]
        line |= {"library": f"lib {number % 2}", "speakers": {label: {"profile": "Ada"}}}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert db.ingest.bring_in([path], dry_run=True).profiles_made == 2
    assert db.ingest.bring_in([path]).profiles_made == 2


@pytest.mark.parametrize("how", ["dry run", "stopped", "full disk"])
def test_a_manifest_that_is_fed_is_not_replaced_by_a_run_that_did_not_bring_it_in(
    db: SpeakerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = kit.library(tmp_path, 3)
    given: list[Any] = [{"path": "gone.wav", "turns": kit.TURNS}, *kit.entries_of(path)]
    kit.manifest(path, given)
    before = path.read_bytes()
    monkeypatch.setattr(bulk, "PART_RECORDINGS", 2)
    if how == "dry run":
        report = db.ingest.bring_in([path], refused=path, dry_run=True)
        assert counts(report) == (3, 0, 0, 1)
    elif how == "stopped":
        asked: list[None] = []
        report = db.ingest.bring_in([path], refused=path, stop=lambda: bool(asked.append(None) or len(asked) > 1))
        assert (report.stopped, counts(report)) == (True, (1, 0, 0, 1))
    else:

        def full(*_: object) -> None:
            raise StorageFull("The disk is full.")

        monkeypatch.setattr(bulk.Bulk, "_event", full)
        with pytest.raises(StorageFull):
            db.ingest.bring_in([path], refused=path)
    assert path.read_bytes() == before
    beside = path.with_name(f"{path.stem}.refused.jsonl")
    assert [line["error"]["code"] for line in kit.entries_of(beside)] == ["media-missing"]
    if how != "full disk":
        assert report.refused_file == str(beside)


@pytest.mark.parametrize("place", ["folder", "pipe"])
def test_what_is_no_file_is_not_replaced_by_the_refused_ones(db: SpeakerDB, tmp_path: Path, place: str) -> None:
    path = kit.library(tmp_path, 1)
    out = tmp_path / f"{place}.jsonl"
    out.mkdir() if place == "folder" else os.mkfifo(out)
    with pytest.raises(InvalidInput, match="not a regular file"):
        db.ingest.bring_in([path], refused=out)
    assert db.recordings() == []


def test_a_turns_file_that_is_no_file_is_told_once_with_its_hint(
    db: SpeakerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit.sound(tmp_path / "a.wav")
    os.mkfifo(tmp_path / "pipe.rttm")
    (tmp_path / "long.rttm").write_text("SPEAKER a 1 0 1 <NA> <NA> A <NA> <NA>\n")
    monkeypatch.setattr(turns_files, "MAX_TURNS_FILE_BYTES", 9)
    kit.manifest(tmp_path / "m.jsonl", [{"path": "a.wav", "turns_file": n} for n in ("pipe.rttm", "long.rttm")])
    pipe, long = db.ingest.bring_in([tmp_path / "m.jsonl"]).sample
    assert pipe.message == f"The turns file {tmp_path / 'pipe.rttm'} is not a regular file."
    assert (long.code, long.hint) == ("invalid-turns", "Write one file of turns a recording.")


@pytest.mark.parametrize("name", ["refused.csv", "refused", "refused.txt"])
def test_a_name_under_which_the_refused_ones_could_not_be_added_again(db: SpeakerDB, tmp_path: Path, name: str) -> None:
    path = kit.library(tmp_path, 1)
    with pytest.raises(InvalidInput, match="JSON Lines") as caught:
        db.ingest.bring_in([path], refused=tmp_path / name)
    assert ".jsonl" in caught.value.hint
    assert db.recordings() == []
