"""A reader who follows a page: the folder they sit in, and the run of the page's blocks in one shell.

Without network and without real models: two generations of the spectral stand-in take the places of v3 and v4.
A page that begins with a library says so to the tests in a comment that no reader sees: `<!-- stage: NAME -->`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from tests.audio_files import write
from tests.docs.pages import Page

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
    # What is fastest here is measured once for each folder of models, and every page has a folder of its own.
    "SPEAKERDB_EXTRACTOR__BACKEND": "torch",
    "SPEAKERDB_DIARIZER__BACKEND": "torch",
}
_FILL = "for name in interview panel; do speakerdb add $name.mp3 --turns $name.rttm --id $name; done; speakerdb work"
STAGES = {
    # A library that serves v3, or v4, with two recordings that are extracted; one in the middle of a migration; one after it.
    "v3": f"SPEAKERDB_SERVING=v3; export SPEAKERDB_SERVING; {_FILL}; unset SPEAKERDB_SERVING",
    "v4": _FILL,
}
STAGES["migrating"] = f"{STAGES['v3']}; speakerdb migrate start --to v4"
STAGES["migrated"] = f"{STAGES['migrating']}; speakerdb migrate finalize --yes"
# A library in files, in front of two servers that hold nothing.
STAGES["servers"] = STAGES["v4"]
STAGE = re.compile(r"^<!-- stage: (\w+) -->$", re.MULTILINE)


@dataclass(frozen=True)
class Servers:
    """What stands in the place of the servers that a page names: its blocks are run against these.

    `databases` take the places of `DATABASES`, in that order; all are empty, and of one server.
    """

    databases: tuple[str, ...]
    opensearch: str
    prefix: str

    DATABASES = ("speakerdb@db-1.example.org/speakerdb", "speakerdb@db-1.example.org/restored")
    HOSTS = "https://search-1.example.org:9200,https://search-2.example.org:9200"

    def put_into(self, code: str) -> str:
        """A block with the addresses of these."""
        for shown, url in zip(self.DATABASES, map(sa.make_url, self.databases), strict=True):
            ours = url._replace(password=None).render_as_string().partition("://")[2]
            code = code.replace(shown, ours)
        return code.replace(self.HOSTS, self.opensearch)

    def environment(self) -> dict[str, str]:
        """What a reader has set besides: the password, and a prefix, because others use the cluster too."""
        password = sa.make_url(self.databases[0]).password
        return {
            "SPEAKERDB_OPENSEARCH__PREFIX": self.prefix,
            **({} if password is None else {"PGPASSWORD": str(password)}),
        }


def voice(pitch: float, seconds: float, seed: int) -> np.ndarray:
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
        sounds.append(voice(pitch, seconds, seed))
        lines.append(f"SPEAKER {stem} 1 {at:.2f} {seconds:.2f} <NA> <NA> {label} <NA> <NA>\n")
        at += seconds
    codec, kind = ("libmp3lame", "fltp") if ending == "mp3" else ("pcm_s16le", "s16")
    write(folder / name, np.concatenate(sounds), RATE, codec=codec, sample_format=kind)
    (folder / f"{stem}.rttm").write_text("".join(lines), encoding="utf-8")


def furnish(folder: Path, standin_models: Path) -> None:
    """What a reader has: two recordings with turns, a clip, a checkpoint, a diarization pipeline in a folder."""
    low, high, third = 110.0, 200.0, 150.0
    _recording(folder, "interview.mp3", [("SPEAKER_00", low, 8), ("SPEAKER_01", high, 8), ("SPEAKER_00", low, 7)])
    _recording(folder, "panel.mp3", [("SPEAKER_00", high, 8), ("SPEAKER_01", low, 8), ("SPEAKER_02", third, 7)])
    write(folder / "voice.wav", voice(low, 8, 3), RATE, codec="pcm_s16le")
    mine = folder / "checkpoints" / "mine"
    mine.mkdir(parents=True)
    shutil.copy(standin_models / "standin-wespeaker-resnet34" / "pytorch_model.bin", mine)
    pipeline, standin = folder / "pipelines" / "community-1", standin_models / "standin-diarization"
    pipeline.mkdir(parents=True)
    for name in ("segmentation", "plda"):
        (pipeline / name).symlink_to(standin / name)
    (pipeline / "embedding").symlink_to(standin_models / "standin-wespeaker-resnet34")
    config = (standin / "config.yaml").read_text(encoding="utf-8")
    config = config.replace("$model/../standin-wespeaker-resnet34", "$model/embedding")
    # Fewer chunks than the stand-in's own: the commands are the point here.
    config = config.replace("segmentation_step: 0.2", "segmentation_step: 0.5")
    (pipeline / "config.yaml").write_text(config, encoding="utf-8")


def stage(page: Page) -> str | None:
    """The name of the library that a page begins with; None for a page that begins with nothing."""
    found = STAGE.search(page.text)
    return found[1] if found else None


class Desk:
    """The one folder where pages are read, with what each begins with.

    A library knows its recordings by their full paths. So each stage is made once, here, and copied back for the next page.
    """

    def __init__(self, folder: Path, standin_models: Path, programs: tuple[Path, ...]) -> None:
        self._folder = folder / "reader"
        self._kept = folder / "kept"
        self._standin_models = standin_models
        self._programs = programs

    def laid(self, named: str | None) -> Path:
        """The folder with the library of that stage, and nothing else than a reader has."""
        shutil.rmtree(self._folder, ignore_errors=True)
        kept = self._kept / (named or "nothing")
        if not kept.exists():
            self._folder.mkdir(parents=True)
            furnish(self._folder, self._standin_models)
            if named:
                prepare(named, self._folder, programs=self._programs)
            shutil.copytree(self._folder, kept, symlinks=True)
        else:
            shutil.copytree(kept, self._folder, symlinks=True)
        return self._folder


def prepare(named: str, folder: Path, *, programs: tuple[Path, ...] = (), servers: Servers | None = None) -> None:
    """Make the library of a stage, in a folder that is furnished."""
    done = _shell(["set -euo pipefail", STAGES[named]], folder, programs, servers)
    assert done.returncode == 0, f"stage {named}: {done.stdout}{done.stderr}"


def follow(
    page: Page,
    folder: Path,
    *,
    programs: tuple[Path, ...] = (),
    before: str | None = None,
    servers: Servers | None = None,
) -> dict[int, str]:
    """Run a page's blocks in a folder with what it begins with, and give what each printed, by line. Fails at the first
    that fails.

    `programs` are folders in front of the shell's path, before the one of this environment. With `before` only the blocks
    above the heading of that text. `servers` take the places of those that the page names.
    """
    end = len(page.text) if before is None else page.text.index(f"\n## {before}\n")
    blocks = [block for block in page.runnable() if block.line <= page.text.count("\n", 0, end)]
    script = ["set -euo pipefail"]
    for block in blocks:
        printed = folder / f"printed-{block.line}"
        code = block.code if servers is None else servers.put_into(block.code)
        script.append(f"echo {block.line} >{folder / 'reached'}")
        if block.info == "bash":
            script.append(f"{{\n{code}}} >{printed} 2>&1 </dev/null")
        else:
            (folder / f"example_{block.line}.py").write_text(code, encoding="utf-8")
            script.append(f"env -u SPEAKERDB_EXECUTOR python example_{block.line}.py >{printed} 2>&1 </dev/null")
    done = _shell(script, folder, programs, servers)
    if done.returncode:
        line = (folder / "reached").read_text().strip()
        printed = (folder / f"printed-{line}").read_text(encoding="utf-8")
        pytest.fail(f"{page.name}, block at line {line}: exit status {done.returncode}\n{printed}{done.stderr}")
    return {b.line: (folder / f"printed-{b.line}").read_text(encoding="utf-8") for b in blocks}


def _shell(
    script: list[str], folder: Path, programs: tuple[Path, ...], servers: Servers | None
) -> subprocess.CompletedProcess[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SPEAKERDB_")},
        **STAND_INS,
        **({} if servers is None else servers.environment()),
        "HOME": str(folder),
        "PATH": os.pathsep.join(
            [*map(str, programs), str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]
        ),
    }
    environment.pop("XDG_DATA_HOME", None)
    return subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
