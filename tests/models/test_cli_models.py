"""`speakerdb models …` as a person types it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from speakerdb.cli.main import main

DATA = b"a checkpoint"
SHA = hashlib.sha256(DATA).hexdigest()
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """v4's model lies in a folder; v3 needs none. Nothing may be asked for."""
    given = tmp_path / "given"
    given.mkdir()
    (given / "pytorch_model.bin").write_bytes(DATA)
    monkeypatch.setenv("SPEAKERDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SPEAKERDB_GENERATIONS__V3__FAMILY", "spectral")
    monkeypatch.setenv("SPEAKERDB_GENERATIONS__V3__MODEL", "spectral-a")
    monkeypatch.setenv("SPEAKERDB_GENERATIONS__V4__SHA256", SHA)
    monkeypatch.setenv("SPEAKERDB_GENERATIONS__V4__SOURCES", json.dumps([str(given), "cache", "hub"]))
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return call


def document(run: Run, *arguments: str) -> tuple[int, Any]:
    code, out, _ = run(*arguments, "--json")
    return code, json.loads(out)


def test_the_way_to_a_machine_without_network(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, packed = document(run, "models", "pack", "models.tar")
    assert (code, packed["models"][0]["sha256"]) == (0, SHA)
    monkeypatch.setenv("SPEAKERDB_DATA_DIR", str(tmp_path / "there"))
    monkeypatch.setenv("SPEAKERDB_GENERATIONS__V4__SOURCES", '["cache", "hub"]')
    monkeypatch.setenv("SPEAKERDB_MODELS__OFFLINE", "true")
    code, installed = document(run, "models", "install", "models.tar")
    assert (code, installed["models"][0]["new"]) == (0, True)
    code, verified = document(run, "models", "verify", "--generation", "v4")
    assert code == 0
    assert [p["verdict"] for p in verified["models"][0]["places"]] == ["good", "missing"]
    code, listed = document(run, "models", "list")
    assert (code, listed["offline"], listed["kept"][0]["generations"]) == (0, True, ["v4"])


def test_text_names_what_is_next(run: Run) -> None:
    assert "speakerdb models install models.zip" in run("models", "pack", "models.zip")[1]
    code, out, _ = run("models", "install", "models.zip")
    assert (code, "installed" in out, "doctor --no-network" in out) == (0, True, True)
    assert "good" in run("models", "verify")[1]


def test_damage_is_an_exit_status(run: Run, tmp_path: Path) -> None:
    run("models", "pack", "m.tar")
    run("models", "install", "m.tar")
    kept = tmp_path / "data" / "models" / SHA / "pytorch_model.bin"
    kept.write_bytes(b"damaged")
    assert document(run, "models", "verify")[0] == 7
    code, report = document(run, "models", "verify", "--repair")
    assert (code, report["repaired"]) == (0, ["v4: store"])
    assert kept.read_bytes() == DATA


def test_a_named_generation_that_is_nowhere_is_an_exit_status(run: Run, tmp_path: Path) -> None:
    (tmp_path / "given" / "pytorch_model.bin").unlink()
    assert run("models", "verify")[0] == 0
    assert run("models", "verify", "-g", "v4")[0] == 7


def test_a_refused_fetch_is_in_the_document_and_in_the_exit_status(run: Run) -> None:
    """HF_HUB_OFFLINE is set for all tests."""
    code, report = document(run, "models", "fetch")
    assert code == 7
    assert {m["generation"]: m["code"] for m in report["models"]} == {"v3": None, "v4": "model-offline"}
    assert "next: " in run("models", "fetch")[1]


def test_clear_asks(run: Run, tmp_path: Path) -> None:
    assert run("models", "clear")[0] == 0, "nothing to remove, nothing to ask"
    run("models", "pack", "m.tar")
    run("models", "install", "m.tar")
    assert run("models", "clear")[0] == 12
    code, planned = document(run, "models", "clear", "--dry-run")
    assert (code, len(planned["removed"])) == (0, 1)
    assert (tmp_path / "data" / "models" / SHA).is_dir()
    assert run("models", "clear", "--yes")[0] == 0
    assert not (tmp_path / "data" / "models" / SHA).exists()


def test_errors_are_errors(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("models", "install", "nothing", "--json")
    assert (code, json.loads(out)["error"]["code"]) == (3, "not-found")
    (tmp_path / "text").write_text("hello")
    assert json.loads(run("models", "install", "text", "--json")[1])["error"]["code"] == "invalid-bundle"
    assert run("models", "fetch", "-g", "v9")[0] == 2
