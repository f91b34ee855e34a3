"""A checkpoint that is not pinned, corrupted, absent or of another dimension: named before anything begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_kit import CommandLine, make_command_line, rows
from synthetic_voices import make_library

from speakerdb.models.registry import STAND_INS

TOML = """
serving = "v3"
executor = "inline"
device = "cpu"
disk_floor_mb = 0
{more}

[generations.v3]
family = "spectral"
model = "spectral-a"
dimension = 64

[generations.v4]
model = "test/given"
dimension = {dimension}
sources = ["{source}"]
{pin}
"""
SUMS = {name: digest for digest, name in STAND_INS.items()}


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """A library of one recording, extracted in v3."""
    made = make_library(tmp_path / "media", 1, seconds=1.5)
    line = make_command_line(tmp_path, monkeypatch, capsys)
    configure(line, tmp_path / "none.bin")
    line.ok("add", made[0].path, "--turns", tmp_path / "media" / "all.rttm", "--now")
    return line


def configure(
    cli: CommandLine, source: Path, *, sha256: str | None = None, dimension: int = 256, more: str = ""
) -> None:
    pin = "" if sha256 is None else f'sha256 = "{sha256}"'
    (cli.folder / "speakerdb.toml").write_text(TOML.format(source=source, pin=pin, dimension=dimension, more=more))


def target_check(cli: CommandLine) -> str:
    """What the refused start says of the target's model; nothing was written."""
    error = cli.refused("migrate", "start", "--to", "v4", code="preflight-failed", exit_code=11)
    checks = {c["name"]: c for c in error["details"]["report"]["checks"]}
    assert checks["target model"]["verdict"] == "fail"
    assert checks["target model"]["hint"]
    assert {c["verdict"] for name, c in checks.items() if name != "target model"} == {"pass"}
    return str(checks["target model"]["value"])


def corrupted(source: Path, target: Path) -> Path:
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 0xFF
    target.write_bytes(data)
    return target


def test_absent_unpinned_and_corrupted(cli: CommandLine, standin_models: Path, tmp_path: Path) -> None:
    assert target_check(cli).startswith("model-unavailable")
    whole = standin_models / "standin-wespeaker-resnet34" / "pytorch_model.bin"
    configure(cli, whole)
    assert target_check(cli).startswith("checkpoint-untrusted")
    sha256 = SUMS["standin-wespeaker-resnet34"]
    configure(cli, corrupted(whole, tmp_path / "corrupted.bin"), sha256=sha256)
    assert target_check(cli).startswith("checkpoint-untrusted")
    cut = tmp_path / "cut.bin"
    cut.write_bytes(whole.read_bytes()[:1000])
    configure(cli, cut, sha256=sha256)
    assert target_check(cli).startswith("checkpoint-untrusted")

    # Begun against advice: the work waits, with the reason, and whatever else there is goes on.
    cli.ok("migrate", "start", "--to", "v4", "--force", "--yes", "--detach")
    ran = cli("work")
    assert (ran.error["code"], ran.exit_code) == ("checkpoint-untrusted", 7)
    assert ran.error["hint"]
    assert rows(cli.data, "SELECT state, attempts FROM work_items WHERE generation = 'v4'") == [("queued", 0)]
    cli.refused("migrate", "finalize", "--yes", code="gate-failed", exit_code=10)
    assert cli.ok("migrate", "cancel", "--yes")["state"] == "cancelled"
    assert cli.ok("status")["live"] == ["v3"]


@pytest.mark.models
def test_another_dimension_and_a_pickle_that_is_no_model(
    cli: CommandLine, standin_models: Path, tmp_path: Path
) -> None:
    other = standin_models / "standin-xvector-sincnet"
    configure(cli, other, sha256=SUMS["standin-xvector-sincnet"])
    assert target_check(cli).split(":")[0] in ("dimension-mismatch", "model-unavailable")
    whole = standin_models / "standin-wespeaker-resnet34"
    configure(cli, whole, sha256=SUMS["standin-wespeaker-resnet34"], dimension=192)
    assert target_check(cli).startswith("dimension-mismatch")
    cut = tmp_path / "cut.bin"
    cut.write_bytes((whole / "pytorch_model.bin").read_bytes()[:5000])
    configure(cli, cut, more="allow_unknown_checkpoints = true")
    assert target_check(cli).startswith("model-unavailable")


def test_another_checkpoint_under_the_same_generation(cli: CommandLine) -> None:
    """SQL remembers which checkpoint the vectors were made with; those of another one never come beside them."""
    rows(cli.data, "UPDATE generations SET checksum = 'another' WHERE name = 'v3'")
    made = make_library(cli.folder / "more", 2, seconds=1.5)[1]
    cli.ok("add", made.path, "--turns", cli.folder / "more" / "all.rttm")
    before = rows(cli.data, "SELECT * FROM embeddings")
    ran = cli("work")
    assert (ran.error["code"], ran.exit_code) == ("generation-changed", 2)
    assert rows(cli.data, "SELECT * FROM embeddings") == before
    assert rows(cli.data, "SELECT state FROM work_items WHERE state <> 'done'") == [("queued",)]
    cli.refused("match", "--clip", made.path, code="generation-changed", exit_code=2)
