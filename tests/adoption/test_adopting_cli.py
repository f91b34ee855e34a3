"""`speakerdb index import` and `adopt`, as a person types them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from speakerdb.cli import session
from speakerdb.cli.adopting import show_adoption
from speakerdb.cli.main import main
from speakerdb.reports.adopting import AdoptReport, ImportReport, RefusedDocuments
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices


@pytest.fixture
def lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A library whose catalog is gone; every verb opens it."""
    settings = fake_settings(tmp_path)
    with SpeakerDB.open(settings, executor=FakeExecutor()) as db:
        db.add(None, two_voices(), recording_id="one", waveform=silence(20))
        db.work()
    for file in tmp_path.glob("catalog.db*"):
        file.unlink()

    def opened(_: Settings, *, start: bool = True) -> SpeakerDB:
        return SpeakerDB.open(settings, executor=FakeExecutor(), start=start)

    monkeypatch.setattr(session, "open_service", opened)
    monkeypatch.setenv("SPEAKERDB_DATA_DIR", str(tmp_path))
    return settings


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_every_verb_says_what_is_the_matter(lost: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["status"], ["work"], ["speakers", "list"], ["index", "rebuild", "--all"]):
        code, _, told = run(capsys, *words)
        assert code == 9
        assert "error[safety-stop]" in told
        assert "speakerdb index import speakers_v3" in told
        assert "Traceback" not in told


def test_an_index_is_imported(lost: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "index", "import", "speakers", "--dry-run")
    assert (code, "2 would be imported" in out, "to be made: 1 recording, 2 speakers" in out) == (0, True, True)
    code, out, told = run(capsys, "index", "import", "speakers")
    assert (code, "--yes" in told) == (12, True)
    code, out, _ = run(capsys, "index", "import", "speakers", "--yes", "--json")
    report: dict[str, Any] = json.loads(out)
    assert code == 0
    assert (report["imported"], report["refused"], report["next"]) == (2, [], "speakerdb work")
    assert run(capsys, "work")[0] == 0
    code, out, _ = run(capsys, "status")
    assert (code, "foreign-vectors" in out, "2 foreign:speakers_v3" in out) == (0, True, True)
    code, out, _ = run(capsys, "explain", "one")
    assert (code, "it has no file" in out) == (0, True)
    code, out, _ = run(capsys, "index", "import", "speakers", "--yes")
    assert (code, "2 there already" in out) == (0, True)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["import", "nothing", "--yes"], 8, "index-missing"),
        (["import", "speakers", "--yes", "--field", "vector"], 4, "NAME=FIELD"),
        (["import", "speakers", "--yes", "--field", "who=x"], 4, "There are: vector"),
        (["import", "speakers", "--yes", "--field", "vector=vector"], 4, "its fields are known"),
        (["import", "speakers", "--yes", "--fields", "/nowhere/map.toml"], 4, "cannot be read"),
        (["import", "speakers", "--yes", "--generation", "v4"], 7, "dimension-mismatch"),
        (["import", "speakers", "--yes", "--assume-seconds", "nan"], 4, "cannot be assumed"),
        (["import", "\x1b[31m", "--yes"], 8, "index-missing"),
        (["adopt", "--yes"], 5, "is an alias already"),
        (["adopt", "--give-up"], 5, "is an alias already"),
        (["adopt", "--yes", "--leave", "nothing"], 4, "Nothing is refused as"),
    ],
)
def test_what_cannot_be_done_is_said(
    lost: Settings, capsys: pytest.CaptureFixture[str], words: list[str], code: int, told: str
) -> None:
    found, _, printed = run(capsys, "index", *words)
    assert (found, told in printed) == (code, True), printed
    assert "\x1b" not in printed


def test_a_map_is_read_from_a_file(lost: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name, text in (("map.toml", 'vector = "v"'), ("map.json", '{"vector": "v"}')):
        (tmp_path / name).write_text(text, encoding="utf-8")
        code, _, told = run(capsys, "index", "import", "speakers", "--yes", "--fields", str(tmp_path / name))
        assert (code, "its fields are known" in told) == (4, True)


def test_a_legacy_index_in_a_file_cannot_be_taken_over(lost: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    lost.index_path.unlink()
    from speakerdb.index.embedded import EmbeddedIndex

    index = EmbeddedIndex(lost.index_path)
    index.create("speakers", 24, {"generation": "v3", "fingerprint": "another"})
    index.close()
    code, _, told = run(capsys, "status")
    assert (code, "speakerdb index adopt" in told) == (9, True)
    code, _, told = run(capsys, "index", "adopt", "--yes")
    assert (code, "opensearch.hosts" in told) == (2, True), told
    code, _, told = run(capsys, "status")
    assert (code, "--give-up" in told) == (9, False), told


def test_a_look_before_a_take_over_says_what_would_stop_it(capsys: pytest.CaptureFixture[str]) -> None:
    refused = (
        RefusedDocuments("no-vector", "has no vector", 2, ("a", "b")),
        RefusedDocuments("no-id", "has no id", 1, ("c",)),
    )
    taken = ImportReport(
        index="speakers", generation="v3", recipe="foreign:speakers", fields={}, dry_run=True, documents=3, imported=0,
        updated=0, present=0, kept=0, refused=refused, recordings=0, speakers=0, profiles=0, normalised=0,
        without_seconds=0, assumed_seconds=1.0, queued=0, live=False, next="speakerdb work", seconds=0.0,
    )  # fmt: skip
    show_adoption(
        Console(width=200), AdoptReport(taken, "speakers", None, done=False, forgotten=0, blocked=False, seconds=0.0)
    )
    out = capsys.readouterr().out
    assert "`--leave no-vector --leave no-id`" in out
    assert out.count("next: ") == 1
    show_adoption(
        Console(width=200),
        AdoptReport(
            replace(taken, refused=()), "speakers_v3", None, done=True, forgotten=0, blocked=False, seconds=0.0
        ),
    )
    out = capsys.readouterr().out
    assert "--leave" not in out
    assert out.count("next: ") == 1, "the queue was worked off by the take-over"
