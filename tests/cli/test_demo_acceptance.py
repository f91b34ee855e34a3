"""The whole demo in a process of its own, as `make demo` runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.acceptance
@pytest.mark.models
def test_the_demo_does_the_main_job_and_writes_only_into_its_folder(tmp_path: Path, standin_models: Path) -> None:
    home, work, temporary = tmp_path / "home", tmp_path / "work", tmp_path / "tmp"
    for folder in (home, work, temporary):
        folder.mkdir()
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "HF_", "TORCH"))},
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SPEAKERDB_DATA_DIR": str(tmp_path / "the-users-own-library"),
        "SPEAKERDB_SERVING": "v4",
    }
    command = [sys.executable, "-m", "speakerdb.cli.main", "demo", "--dir", "demo", "--models", str(standin_models)]
    ran = subprocess.run(
        [*command, "--device", "cpu", "--json"], cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    story = json.loads(ran.stdout)

    assert [(s["moment"], s["generation"]) for s in story["scores"]] == [
        ("before the migration", "v3"),
        ("during the migration", "v3"),
        ("after the swap", "v4"),
        ("after the roll-back", "v3"),
        ("at the end", "v4"),
    ]
    before, during, after, back, end = story["scores"]
    # One voice of nine is right by chance; these models are small, but they are not guessing.
    assert all(s["speakers"] == story["speakers"] == 20 and s["matched"] >= 8 for s in story["scores"])
    assert before["matched"] == during["matched"] == back["matched"]
    assert after["matched"] == end["matched"]
    assert story["reused"] == story["speakers"]
    assert story["names_kept"]
    assert story["stand_ins"] == ["v3", "v4"]
    assert all("STAND-IN" in model for model in story["models"].values())
    for gates in story["gates"].values():
        assert {c["verdict"] for c in gates["checks"]} == {"pass"}
    assert "decision:" in ran.stderr

    assert sorted(p.name for p in work.iterdir()) == ["demo"]
    assert not list(home.rglob("*"))
    assert not (tmp_path / "the-users-own-library").exists()
    assert not [p for p in temporary.rglob("*") if p.is_file()]
