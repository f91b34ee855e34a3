"""`speakerdb diarize` and `diarize evaluate`: what is written, what is reported, and what a failure leaves behind."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diarize_kit import RATE, conversation, file_of

from speakerdb.cli.main import main
from speakerdb.core.transcript import writing
from speakerdb.core.turns import parse_rttm
from speakerdb.types import Turn

TURNS = [Turn(0.1, 1.5, "SPEAKER_01"), Turn(1.2, 1.9, "SPEAKER_00")]


class Desk:
    """A folder with a recording and its turns, and the command line in it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.out = folder / "out"

    def file(self, name: str = "talk") -> Path:
        (self.folder / f"{name}.rttm").write_text(writing.rttm(TURNS, "talk"))
        return file_of(self.folder / f"{name}.wav", conversation([(1, 2)]))

    def __call__(self, *args: object, verb: str = "diarize") -> tuple[int, Any, str]:
        """Exit status, the document (the text without --json), and what went to standard error."""
        words = [*verb.split(), *map(str, args)]
        if verb == "diarize":
            words += ["--output-dir", str(self.out)]
        status = main(words)
        out, err = self.capsys.readouterr()
        return status, json.loads(out) if "--json" in words else out, err

    def written(self) -> list[str]:
        return sorted(os.listdir(self.out)) if self.out.exists() else []


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("SPEAKERDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SPEAKERDB_EXECUTOR", "inline")  # processes are those of test_diarizer_elsewhere
    return Desk(tmp_path, capsys)


def test_every_form_is_written_as_it_should_be(desk: Desk) -> None:
    file = desk.file()
    status, report, _ = desk(file, "--turns", desk.folder, "--format", "rttm,json,srt,serialized", "--json")
    assert status == 0
    assert desk.written() == ["talk.json", "talk.rttm", "talk.serialized.json", "talk.srt"]
    exclusive = [Turn(0.1, 1.5, "SPEAKER_01"), Turn(1.5, 1.9, "SPEAKER_00")]
    assert (desk.out / "talk.rttm").read_text() == writing.rttm(TURNS, "talk")
    assert (desk.out / "talk.srt").read_text() == (
        "1\n00:00:00,100 --> 00:00:01,500\n[SPEAKER_01]\n\n2\n00:00:01,500 --> 00:00:01,900\n[SPEAKER_00]\n"
    )
    assert json.loads((desk.out / "talk.serialized.json").read_text()) == writing.serialized(TURNS, exclusive)
    two_stage = json.loads((desk.out / "talk.json").read_text())
    assert set(two_stage) == {"segments", "speakers", "diarization"}
    assert [(one["start"], one["speaker"], one["text"]) for one in two_stage["segments"]] == [
        ("0.100", "SPEAKER_01", ""), ("1.500", "SPEAKER_00", ""),
    ]  # fmt: skip
    (one,) = report["files"]
    assert one["overlap_seconds"] == pytest.approx(0.3)
    assert [each["speaker"] for each in one["speakers"]] == ["SPEAKER_01", "SPEAKER_00"]
    assert one["error"] is None
    assert not (desk.folder / "data").exists(), "no library is made"


def test_one_that_fails_stops_nobody_and_leaves_nothing(desk: Desk) -> None:
    good, other = desk.file("good"), desk.file("other")
    bad = desk.folder / "bad.mp3"
    bad.write_text("no sound")
    missing = desk.folder / "missing.wav"
    status, report, _ = desk(good, bad, missing, other, "--turns", desk.folder, "--json")
    assert status == 6
    assert [None if one["error"] is None else one["error"]["code"] for one in report["files"]] == [
        None, "media-unreadable", "media-missing", None,
    ]  # fmt: skip
    assert all(one["error"]["hint"] for one in report["files"] if one["error"])
    assert desk.written() == ["good.rttm", "other.rttm"]


def test_nothing_half_written_is_left(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full at the second form: the first one does not appear either, and what was there stays."""
    file = desk.file()
    desk.out.mkdir()
    (desk.out / "talk.rttm").write_text("from before")
    synced: list[int] = []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, report, _ = desk(file, "--turns", desk.folder, "--format", "rttm,srt", "--json")
    assert status == 8 or report["error"]["code"] in ("storage-full", "io")
    assert desk.written() == ["talk.rttm"]
    assert (desk.out / "talk.rttm").read_text() == "from before"


def test_as_text_it_says_what_was_found_and_what_took_how_long(desk: Desk) -> None:
    status, text, _ = desk(desk.file(), "--turns", desk.folder, "--timing")
    assert status == 0
    assert "2 speakers, 2 turns, 0.3 s with two or more" in text
    assert "reading turns" in text
    assert "1 file done, 0 failed" in text


def test_a_folder_is_its_media_files(desk: Desk) -> None:
    desk.file("a"), desk.file("b")
    status, report, _ = desk(desk.folder, "--turns", desk.folder, "--json")
    assert (status, [Path(one["file"]).name for one in report["files"]]) == (0, ["a.wav", "b.wav"])


@pytest.mark.parametrize(
    ("given", "code", "status"),
    [
        (["--format", "rttm,docx"], "invalid-input", 4),
        (["--format", ""], "invalid-input", 4),
        (["--num-speakers", "0"], "invalid-input", 4),
        (["--min-speakers", "3", "--max-speakers", "2"], "invalid-input", 4),
        (["--pipeline", "no/such/folder"], "model-unavailable", 7),
        (["--pipeline", "pyannote/speaker-diarization-precision-2"], "diarizer-refused", 2),
        (["--pipeline", ""], "configuration", 2),
        (["--device", "tpu"], "configuration", 2),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(
    desk: Desk, given: list[str], code: str, status: int
) -> None:
    got, report, _ = desk(desk.file(), *given, "--json")
    assert (report["error"]["code"], got) == (code, status)
    assert report["error"]["hint"]
    assert desk.written() == []


def test_two_files_of_one_name_are_refused(desk: Desk) -> None:
    (desk.folder / "more").mkdir()
    other = file_of(desk.folder / "more" / "talk.wav", conversation([(1, 1)]))
    status, report, _ = desk(desk.file(), other, "--turns", desk.folder, "--json")
    assert (report["error"]["code"], status) == ("duplicate-entry", 4)


def test_a_name_with_spaces_is_told_in_rttm(desk: Desk) -> None:
    status, report, _ = desk(desk.file("my talk"), "--turns", desk.folder / "my talk.rttm", "--json")
    assert status == 0
    assert list(parse_rttm((desk.out / "my talk.rttm").read_text())) == ["my_talk"]
    assert any("my_talk" in notice for notice in report["files"][0]["notices"])


def test_media_outside_of_the_allowed_folders_is_not_opened(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEAKERDB_MEDIA_ROOTS", str(desk.folder / "elsewhere"))
    status, report, _ = desk(desk.file(), "--turns", desk.folder, "--json")
    assert (report["files"][0]["error"]["code"], status) == ("media-forbidden", 6)


def test_channels_as_speakers(desk: Desk) -> None:
    left, right = conversation([(1, 2), (0, 2)]), conversation([(0, 2), (2, 2)])
    call = file_of(desk.folder / "call.wav", np.stack([left, right]), "stereo")
    status, report, _ = desk(call, "--channels", "as-speakers", "--json")
    assert status == 0
    assert report["diarizer"] == "channels as speakers"
    turns = parse_rttm((desk.out / "call.rttm").read_text())["call"]
    assert [turn.speaker for turn in turns] == ["SPEAKER_00", "SPEAKER_01"]


@pytest.mark.models
def test_the_pipeline_of_a_folder(
    desk: Desk, pipeline_folder: Path, pins: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEAKERDB_DIARIZER__SHA256", json.dumps(pins))
    monkeypatch.setenv("SPEAKERDB_DIARIZER__SEGMENTATION_STEP", "0.5")
    monkeypatch.setenv("SPEAKERDB_DIARIZER__BACKEND", "torch")
    file = file_of(desk.folder / "clip.wav", conversation([(1, 3)]))
    quiet = file_of(desk.folder / "quiet.wav", np.zeros(RATE, np.float32))
    status, report, err = desk(
        file, quiet, "--pipeline", pipeline_folder, "--artifacts", desk.folder / "kept", "--device", "cpu", "--json"
    )
    assert (status, err) == (0, "")
    assert report["diarizer"].startswith("standin-diarization on cpu (one pass a chunk")
    clip, silence = report["files"]
    assert clip["speakers"]
    assert {"decoding", "segmentation", "embeddings", "clustering"} <= set(clip["timing"])
    assert (silence["turns"], silence["notices"]) == (0, ["nobody talks in it"])
    assert (desk.out / "quiet.rttm").read_text() == ""
    with np.load(desk.folder / "kept" / "clip.segmentation.npz") as kept:
        assert kept["values"].shape[2] == 3
        assert float(kept["step"]) == 5.0
    assert (desk.folder / "kept" / "clip.embeddings.npz").exists()


@pytest.mark.models
def test_a_pipeline_that_nobody_pinned_says_what_to_write(
    desk: Desk, pipeline_folder: Path, pins: tuple[str, ...]
) -> None:
    status, report, _ = desk(desk.file(), "--pipeline", pipeline_folder, "--json")
    assert (report["error"]["code"], status) == ("checkpoint-untrusted", 7)
    assert all(pin in report["error"]["hint"] for pin in pins)


# evaluate


def _rttm(folder: Path, name: str, turns: dict[str, list[Turn]]) -> Path:
    path = folder / f"{name}.rttm"
    path.write_text("".join(writing.rttm(each, recording) for recording, each in turns.items()))
    return path


def test_evaluate_prints_the_rate_with_its_parts(desk: Desk) -> None:
    reference = _rttm(desk.folder, "ref", {"a": [Turn(0, 10, "x")], "b": [Turn(0, 10, "y")]})
    hypothesis = _rttm(desk.folder, "hyp", {"a": [Turn(0, 9, "1")], "b": [Turn(0, 11, "2")]})
    status, report, _ = desk(reference, hypothesis, "--json", verb="diarize evaluate")
    assert status == 0
    assert report["error_rate"] == pytest.approx(0.1)
    assert (report["missed"], report["false_alarm"], report["confusion"]) == pytest.approx((1, 1, 0))
    status, text, _ = desk(reference, hypothesis, "--collar", "0.5", "--skip-overlap", verb="diarize evaluate")
    assert status == 0
    assert "half on either side" in text
    assert "overlapped speech is left out" in text
    assert "all" in text


def test_evaluate_takes_any_file_of_turns(desk: Desk) -> None:
    reference = _rttm(desk.folder, "ref", {"a": [Turn(0, 2, "x"), Turn(2, 4, "y")]})
    (desk.folder / "hyp.json").write_text(json.dumps(writing.serialized([Turn(0, 2, "1"), Turn(2, 4, "2")], [])))
    status, report, _ = desk(reference, desk.folder / "hyp.json", "--json", verb="diarize evaluate")
    assert (status, report["error_rate"]) == (0, 0.0)


def test_evaluate_says_where_the_only_recordings_have_other_names(desk: Desk) -> None:
    reference = _rttm(desk.folder, "ref", {"a": [Turn(0, 2, "x")]})
    hypothesis = _rttm(desk.folder, "hyp", {"b": [Turn(0, 2, "1")]})
    status, report, _ = desk(reference, hypothesis, "--json", verb="diarize evaluate")
    assert (status, report["error_rate"], report["compared_with"]) == (0, 0.0, "b")
    assert "a is compared with b" in desk(reference, hypothesis, verb="diarize evaluate")[1]
    assert "is compared with" not in desk(reference, reference, verb="diarize evaluate")[1]


def test_evaluate_refuses_what_is_no_turns(desk: Desk) -> None:
    reference = _rttm(desk.folder, "ref", {"a": [Turn(0, 2, "x")]})
    (desk.folder / "bad.rttm").write_text("SPEAKER a 1\n")
    for hypothesis, code in ((desk.folder / "bad.rttm", "invalid-turns"), (desk.folder / "none.rttm", "invalid-turns")):
        status, report, _ = desk(reference, hypothesis, "--json", verb="diarize evaluate")
        assert (report["error"]["code"], status) == (code, 4)
    status, report, _ = desk(
        reference,
        _rttm(desk.folder, "o", {"b": [Turn(0, 1, "x")], "c": [Turn(0, 1, "x")]}),
        "--json",
        verb="diarize evaluate",
    )
    assert (report["error"]["code"], status) == ("invalid-input", 4)
