"""The installed program as it is started from a shell, and the real model classes through worker processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from acceptance_kit import PATIENCE

from speakerdb.cli.demo_library import build_library
from speakerdb.models.registry import STAND_INS

pytestmark = pytest.mark.acceptance

STAND_IN_TOML = """
serving = "v3"
disk_floor_mb = 0
executor = "process"
device = "cpu"

[generations.v3]
model = "speakerdb/standin-xvector-sincnet"
sha256 = "{x}"
sources = ["{folder}/standin-xvector-sincnet"]

[generations.v4]
model = "speakerdb/standin-wespeaker-resnet34"
sha256 = "{w}"
sources = ["{folder}/standin-wespeaker-resnet34"]
"""


def program(data: Path, *args: object, command: tuple[str, ...] = (sys.executable, "-m", "speakerdb.cli.main")) -> Any:
    env = dict(os.environ) | {"SPEAKERDB_DATA_DIR": str(data), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [*command, *map(str, args), "--json"],
        cwd=data.parent,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, f"{args}: {ran.returncode} {ran.stdout} {ran.stderr}"
    return json.loads(ran.stdout)


def test_the_data_folder_alone_is_enough(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("speakerdb")
    status = program(tmp_path / "data", "status", command=(str(script),))
    assert (status["serving"], status["recordings"]) == ("v4", 0)
    assert program(tmp_path / "data", "status") == status


@pytest.mark.models
def test_real_model_classes_in_worker_processes_from_v3_to_v4(tmp_path: Path, standin_models: Path) -> None:
    sums = {name: digest for digest, name in STAND_INS.items()}
    text = STAND_IN_TOML.format(
        folder=standin_models, x=sums["standin-xvector-sincnet"], w=sums["standin-wespeaker-resnet34"]
    )
    (tmp_path / "speakerdb.toml").write_text(text)
    (media := tmp_path / "media").mkdir()
    made = build_library(media, speeds=(1.0,))
    data = tmp_path / "data"
    for recording in made:
        turns = [{"start": t.start, "end": t.end, "speaker": t.speaker} for t in recording.turns]
        recording.path.with_suffix(".json").write_text(json.dumps(turns))
    added = program(data, "add", *(r.path for r in made), "--turns", media, "--now")
    assert (added["work"]["recordings_done"], added["work"]["speakers_embedded"]) == (2, 4)
    assert "standin" in added["work"]["models"]["v3"]

    started = program(data, "migrate", "start", "--to", "v4")
    assert started["preflight"]["source_model_loads"]
    assert started["work"]["recordings_done"] == 2
    assert "STAND-IN" in started["work"]["models"]["v4"]
    swapped = program(data, "migrate", "finalize", "--yes")
    assert (swapped["serving"], swapped["source_lag"]) == ("v4", 0)

    one, other = (row["report"]["speakers"] for row in added["recordings"])
    answer = program(data, "match", "--speaker", next(iter(one.values())))
    assert (answer["generation"], answer["path"]) == ("v4", "serving")
    assert {match["id"] for match in answer["matches"]} == set(other.values())
    assert all(-1.0 <= match["score"] <= 1.0 for match in answer["matches"])
