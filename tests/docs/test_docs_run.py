"""Every block of the pages is run as a reader would run it, without network and without real models."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from speakerdb.core.turns import parse_json_turns
from speakerdb.settings import Settings
from tests.audio_files import write
from tests.docs.pages import LANGUAGES, NOT_RUN, Block, Page, pages

RATE = 16_000
# Nothing in a page may depend on these: they put models without weights in the place of the published ones.
STAND_INS = {
    "SPEAKERDB_GENERATIONS__V3__FAMILY": "spectral",
    "SPEAKERDB_GENERATIONS__V3__MODEL": "spectral-a",
    "SPEAKERDB_GENERATIONS__V4__FAMILY": "spectral",
    "SPEAKERDB_GENERATIONS__V4__MODEL": "spectral-b",
    "SPEAKERDB_DISK_FLOOR_MB": "0",
    # Without weights there is nothing to load and nothing that could hang: a process less for each command.
    "SPEAKERDB_EXECUTOR": "inline",
}


def _voice(pitch: float, seconds: float, seed: int) -> np.ndarray:
    """Harmonics below 3.5 kHz with some noise: two pitches are two voices, and MP3 keeps all of it."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE)) / RATE
    harmonics = range(1, int(3500 / pitch))
    tone = sum(np.sin(2 * np.pi * pitch * k * times + rng.uniform(0, 6)) / k for k in harmonics)
    spectrum = np.fft.rfft(rng.standard_normal(times.size))
    spectrum[np.fft.rfftfreq(times.size, 1 / RATE) > 3500] = 0
    sound = tone + 0.3 * np.fft.irfft(spectrum, times.size)
    return 0.5 * sound / np.abs(sound).max()


def _recording(folder: Path, name: str, parts: list[tuple[str, float, float]]) -> None:
    at, lines, sounds = 0.0, [], []
    stem, _, ending = name.partition(".")
    for seed, (label, pitch, seconds) in enumerate(parts):
        sounds.append(_voice(pitch, seconds, seed))
        lines.append(f"SPEAKER {stem} 1 {at:.2f} {seconds:.2f} <NA> <NA> {label} <NA> <NA>\n")
        at += seconds
    codec, kind = ("libmp3lame", "fltp") if ending == "mp3" else ("pcm_s16le", "s16")
    write(folder / name, np.concatenate(sounds), RATE, codec=codec, sample_format=kind)
    (folder / f"{stem}.rttm").write_text("".join(lines), encoding="utf-8")


@pytest.fixture
def reader(tmp_path: Path, standin_models: Path) -> Path:
    """The folder of somebody who follows a page: two recordings with turns, a clip, a checkpoint."""
    low, high, third = 110.0, 200.0, 150.0
    _recording(tmp_path, "interview.mp3", [("SPEAKER_00", low, 8), ("SPEAKER_01", high, 8), ("SPEAKER_00", low, 7)])
    _recording(tmp_path, "panel.mp3", [("SPEAKER_00", high, 8), ("SPEAKER_01", low, 8), ("SPEAKER_02", third, 7)])
    write(tmp_path / "voice.wav", _voice(low, 8, 3), RATE, codec="pcm_s16le")
    mine = tmp_path / "checkpoints" / "mine"
    mine.mkdir(parents=True)
    shutil.copy(standin_models / "standin-wespeaker-resnet34" / "pytorch_model.bin", mine)
    return tmp_path


def _run(page: Page, folder: Path) -> dict[int, str]:
    """Run a page's blocks in one shell, and give what each printed, by line. Fails at the first that fails."""
    script = ["set -euo pipefail"]
    for block in page.runnable():
        printed = folder / f"printed-{block.line}"
        script.append(f"echo {block.line} >{folder / 'reached'}")
        if block.info == "bash":
            script.append(f"{{\n{block.code}}} >{printed} 2>&1 </dev/null")
        else:
            (folder / f"example_{block.line}.py").write_text(block.code, encoding="utf-8")
            script.append(f"env -u SPEAKERDB_EXECUTOR python example_{block.line}.py >{printed} 2>&1 </dev/null")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SPEAKERDB_")},
        **STAND_INS,
        "HOME": str(folder),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]),
    }
    environment.pop("XDG_DATA_HOME", None)
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    if done.returncode:
        line = (folder / "reached").read_text().strip()
        printed = (folder / f"printed-{line}").read_text(encoding="utf-8")
        pytest.fail(f"{page.name}, block at line {line}: exit status {done.returncode}\n{printed}{done.stderr}")
    return {b.line: (folder / f"printed-{b.line}").read_text(encoding="utf-8") for b in page.runnable()}


def _missing(shown: str, printed: str) -> str | None:
    """The first piece of a shown output that was not printed. Pieces end at line ends and at an ellipsis.

    The pieces of one line must stand in one printed line, in order; runs of spaces count as one.
    """
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    for line in shown.splitlines():
        pieces = [re.escape(" ".join(piece.split())) for piece in line.split("…") if piece.strip()]
        pattern = re.compile(".*".join(pieces))
        if not any(pattern.search(each) for each in lines):
            return line
    return None


RUN = [page for page in pages() if page.runnable()]


def _loads_a_model(page: Page) -> bool:
    return "checkpoints/mine" in page.text


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, id=p.name, marks=[pytest.mark.models] if _loads_a_model(p) else []) for p in RUN],
)
def test_the_blocks_of_a_page_run_and_print_what_it_shows(page: Page, reader: Path) -> None:
    printed = _run(page, reader)
    last = ""
    for block in page.blocks():
        if block.line in printed:
            last = printed[block.line]
        elif block.info == "text output":
            missing = _missing(block.code, last)
            assert missing is None, f"{page.name}, line {block.line}: {missing!r} was not printed, but:\n{last}"


def test_the_pages_that_a_new_user_reads_are_run() -> None:
    assert {"README.md", "docs/quickstart.md"} <= {page.name for page in RUN}


def test_a_shown_line_that_is_not_printed_is_found() -> None:
    assert _missing("a … c", "x\na   b c\n") is None
    assert _missing("a … c", "x\nc b a\n") == "a … c"
    assert _missing("x\ny", "x\n") == "y"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_block_is_of_a_known_kind(page: Page) -> None:
    blocks = list(page.blocks())
    assert page.text.count("```") == 2 * len(blocks), "a block is not closed, or indented: it would not be run"
    assert {block.info for block in blocks} <= LANGUAGES
    assert page.text.count(NOT_RUN) == sum(block.not_run is not None for block in blocks), "a reason without a block"
    assert all(len(block.not_run) > 10 for block in blocks if block.not_run is not None), "say why it is not run"


def _blocks(kind: str) -> list[object]:
    return [
        pytest.param(block, id=f"{page.name}:{block.line}")
        for page in pages()
        for block in page.blocks()
        if block.info == kind
    ]


@pytest.mark.parametrize("block", _blocks("toml"))
def test_settings_that_are_shown_can_be_used(block: Block) -> None:
    given = tomllib.loads(block.code)
    assert set(given) <= set(Settings.model_fields)
    assert Settings(**given).known_generations()


@pytest.mark.parametrize("block", _blocks("json"))
def test_turns_that_are_shown_can_be_read(block: Block) -> None:
    json.loads(block.code)
    assert parse_json_turns(block.code)
