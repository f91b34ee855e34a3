"""Python, torch, CUDA, pyannote.audio, decoding, disk and clock.

torch and PyAV are imported by a program of its own with a time limit, so that one that crashes or hangs is a verdict.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import speakerdb
from speakerdb.models.machine import CUDA, PYANNOTE, STEPS, TORCH
from speakerdb.reports.mending import DoctorCheck
from speakerdb.settings import Settings

LIBRARY_SECONDS = 120.0
"""The first import after an installation compiles a great deal, and a machine may be busy."""
DECODE_SECONDS = 60.0
SKEW_SECONDS = 5.0
JUMP_SECONDS = 1.0
OLDEST, NEWEST = (3, 11), (3, 13)
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs", "fuse.rclone"}
)
REINSTALL = (
    "Install torch and torchaudio of one build, at the versions that speakerdb pins:"
    " `pip install --force-reinstall torch==2.11.0 torchaudio==2.11.0`."
)
_DECODE = """
import sys
from pathlib import Path
from speakerdb import media
print(len(media.decode_all(Path(sys.argv[1]), 16000, 1.0)))
"""


@dataclass(frozen=True, slots=True)
class Apart:
    """What a program of its own left: its output, and how it ended (``0``, ``status 1``, ``signal 11``, ``time limit``)."""

    out: str
    err: str
    end: str


def run_apart(arguments: Sequence[str], seconds: float) -> Apart:
    """Run Python with `arguments`, ended after `seconds`. It finds this very speakerdb, and asks no network."""
    package = str(Path(speakerdb.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    environment = os.environ | {
        "PYTHONPATH": path,
        "PYANNOTE_METRICS_ENABLED": "0",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    try:
        # -P: nothing in the working directory is imported instead.
        done = subprocess.run(  # noqa: S603 - our own interpreter and our own words
            [sys.executable, "-P", *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds,
            env=environment, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as expired:
        return Apart(_text(expired.stdout), _text(expired.stderr), f"was not done after {seconds:g} s")
    code = done.returncode
    end = "" if code == 0 else f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
    return Apart(_text(done.stdout), _text(done.stderr), end)


def check_python() -> Iterator[DoctorCheck]:
    """The interpreter's version."""
    here = sys.version_info[:2]
    found = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    fits = OLDEST <= here <= NEWEST
    mend = "" if fits else "Use Python 3.11, 3.12 or 3.13."
    yield DoctorCheck("python", "pass" if fits else "fail", found, mend)


def check_libraries(*, telemetry: bool, device: str) -> Iterator[DoctorCheck]:
    """torch, CUDA, torchaudio, pyannote.audio and its telemetry: each imported in a program of its own."""
    apart = run_apart(["-m", "speakerdb.models.machine"], LIBRARY_SECONDS)
    answers: dict[str, Mapping[str, Any]] = {}
    for line in apart.out.splitlines():
        found = json.loads(line)
        answers[found["step"]] = found
    died = next((step for step in STEPS if step not in answers), None) if apart.end else None
    for step in STEPS:
        answer = answers.get(step)
        if step == died:
            yield DoctorCheck(
                step, "fail", f"the program that imported it {apart.end}{_last(apart.err)}",
                f"{REINSTALL} If it stays so, try `python -X faulthandler -c 'import torch, torchaudio'`.",
            )  # fmt: skip
        elif answer is None:
            yield DoctorCheck(step, "skipped", "not reached")
        elif "error" in answer:
            yield DoctorCheck(step, "fail", f"{answer['error']}: {answer['message']}", _import_hint(step, answer))
        else:
            yield _library(step, answer, device)
    yield _telemetry(answers.get(PYANNOTE, {}), wanted=telemetry)


def _library(step: str, answer: Mapping[str, Any], device: str) -> DoctorCheck:
    if step == TORCH:
        build = f"built for CUDA {answer['built_for']}" if answer["built_for"] else "built for the CPU alone"
        return DoctorCheck(step, "pass", f"{answer['version']}, {build}")
    if step == CUDA:
        return _cuda(answer, device)
    pinned = _pinned(step)
    if pinned is not None and answer["version"].partition("+")[0] != pinned:
        return DoctorCheck(
            step, "warn", f"{answer['version']}; speakerdb was tested with {pinned}", f"`pip install {step}=={pinned}`"
        )
    return DoctorCheck(step, "pass", str(answer["version"]))


def _cuda(answer: Mapping[str, Any], device: str) -> DoctorCheck:
    if answer["available"]:
        return DoctorCheck(CUDA, "pass", ", ".join(answer["devices"]))
    said = "; ".join(answer["said"])
    asked = device.startswith("cuda")
    on_cpu = "without it models run on the CPU"
    if not answer["built_for"] and (answer["driver"] or asked):
        return DoctorCheck(
            CUDA, "warn", f"torch is built for the CPU alone; {on_cpu}",
            "Install torch and torchaudio of one CUDA build, or set `device` to cpu.",
        )  # fmt: skip
    if said:
        return DoctorCheck(
            CUDA, "warn", f"torch cannot use it: {said}",
            f"Update the driver, or install a torch and a torchaudio built for an older CUDA; {on_cpu}.",
        )  # fmt: skip
    if asked:
        return DoctorCheck(CUDA, "warn", f"`device` is {device}, and torch sees no such device; {on_cpu}",
            "See `nvidia-smi`, or set `device` to auto.")  # fmt: skip
    return DoctorCheck(CUDA, "pass", f"no device; {on_cpu}")


def _import_hint(step: str, answer: Mapping[str, Any]) -> str:
    if answer["error"] == "ModuleNotFoundError":
        return f"It, or what it needs, is not installed: `pip install speakerdb` again, or `pip install {step}`."
    if step == PYANNOTE:
        return "Mend torch and torchaudio first, if they failed too; else `pip install --force-reinstall pyannote.audio==4.0.7`."
    return f"The parts do not fit together (another CUDA build, or a library that is missing). {REINSTALL}"


def _telemetry(answer: Mapping[str, Any], *, wanted: bool) -> DoctorCheck:
    if wanted:
        return DoctorCheck(
            "telemetry", "warn", "pyannote.audio reports its use, as the setting says", "Set `telemetry` to false."
        )
    if "telemetry" not in answer:
        return DoctorCheck("telemetry", "skipped", "pyannote.audio was not imported")
    if answer["telemetry"]:
        return DoctorCheck(
            "telemetry", "fail", "pyannote.audio would report its use although it is switched off",
            "Set PYANNOTE_METRICS_ENABLED=0 and report this as a bug.",
        )  # fmt: skip
    return DoctorCheck("telemetry", "pass", "off")


def check_decoding() -> Iterator[DoctorCheck]:
    """Decodes a tiny WAV file of its own."""
    try:
        version = metadata.version("av")
    except metadata.PackageNotFoundError:
        yield DoctorCheck("decoding", "fail", "PyAV is not installed", "`pip install av`")
        return
    with tempfile.TemporaryDirectory(prefix="speakerdb-doctor-") as folder:
        path = Path(folder) / "tone.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(b"".join(struct.pack("<h", round(9000 * math.sin(i / 5))) for i in range(4000)))
        apart = run_apart(["-c", _DECODE, str(path)], DECODE_SECONDS)
    if apart.end or not 7900 <= int(apart.out.strip() or 0) <= 8100:
        yield DoctorCheck(
            "decoding", "fail", f"PyAV {version} could not decode a WAV file: it {apart.end or 'gave another length'}"
            f"{_last(apart.err)}", "`pip install --force-reinstall av`",
        )  # fmt: skip
    else:
        yield DoctorCheck("decoding", "pass", f"PyAV {version}; no FFmpeg of the system is needed")


def check_disk(settings: Settings) -> Iterator[DoctorCheck]:
    """Room where the data folder is, or would be; and whether it is a local disk, where that is cheaply known."""
    folder = settings.data_dir
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free, floor = shutil.disk_usage(there).free, settings.disk_floor_mb * 1_000_000
    found = f"{free / 1e6:,.0f} MB free (the floor is {floor / 1e6:,.0f} MB) in {there}"
    if free < floor:
        yield DoctorCheck("disk", "fail", found, "Make room on this disk, or lower the setting disk_floor_mb.")
    else:
        yield DoctorCheck("disk", "pass", found)
    kind = file_system(there)
    if kind is None:
        yield DoctorCheck("file system", "skipped", "this system does not say what kind it is")
    elif kind in NETWORK_FILE_SYSTEMS:
        yield DoctorCheck(
            "file system", "warn", f"a network file system ({kind}) holds {there}",
            "Put the data folder on a local disk: SQLite's locks are not safe over a network.",
        )  # fmt: skip
    else:
        yield DoctorCheck("file system", "pass", kind)


def file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """The kind of file system that a path lies on, by the table of mounts; None where there is no such table."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    whole = path.resolve()
    found: tuple[int, str] | None = None
    for line in lines:
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        point = parts[1].replace("\\040", " ")
        # The last of equal mount points hides the ones before it.
        if whole.is_relative_to(point) and (found is None or len(point) >= found[0]):
            found = (len(point), parts[2])
    return None if found is None else found[1]


class Clock:
    """Watches the clock from when it is made until `check`: versions and leases are made of it."""

    def __init__(self) -> None:
        self._wall, self._steady = time.time(), time.monotonic()

    def check(self, folder: Path, newest: int, now: int | None = None) -> Iterator[DoctorCheck]:
        """Whether the clock ran evenly meanwhile, agrees with the file system's, and is not behind the database's
        latest version (microseconds; 0 for none). `now` is the database's time where it is a server's."""
        drift = (time.time() - self._wall) - (time.monotonic() - self._steady)
        skew = _file_skew(folder)
        ahead = newest / 1e6 - (time.time() if now is None else now / 1e6)
        mend = "Let the system keep its time (NTP), and give it a moment."
        if ahead > SKEW_SECONDS:
            yield DoctorCheck(
                "clock", "warn", f"the database has versions {ahead:,.0f} s in the future: the clock was set back, or is wrong",
                f"{mend} Nothing is lost: versions go on from the highest; events and leases have wrong times.",
            )  # fmt: skip
        elif abs(drift) > JUMP_SECONDS:
            yield DoctorCheck("clock", "warn", f"it jumped by {drift:+.1f} s while this was looked at", mend)
        elif skew is not None and abs(skew) > SKEW_SECONDS:
            yield DoctorCheck(
                "clock", "warn", f"the file system's clock is {skew:+.1f} s beside this machine's",
                "Set both clocks by one server (NTP).",
            )  # fmt: skip
        else:
            yield DoctorCheck("clock", "pass", "runs evenly, and no version is in the future")


def _file_skew(folder: Path) -> float | None:
    """Seconds by which the file system's clock is ahead; None where nothing can be written there."""
    if not folder.is_dir():
        return None
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
            now = time.time()
            return os.fstat(file.fileno()).st_mtime - now
    except OSError:
        return None


def _pinned(name: str) -> str | None:
    """The version that speakerdb requires exactly, as its own metadata says."""
    try:
        needed = metadata.requires("speakerdb") or []
    except metadata.PackageNotFoundError:
        return None
    for line in needed:
        found, _, version = line.partition("==")
        if re.sub(r"[-_.]+", "-", found.strip()).lower() == name.replace(".", "-"):
            return version.partition(";")[0].strip() or None
    return None


def _text(raw: bytes | str | None) -> str:
    return raw.decode(errors="replace") if isinstance(raw, bytes) else raw or ""


def _last(err: str) -> str:
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    return f" ({lines[-1][:300]})" if lines else ""
