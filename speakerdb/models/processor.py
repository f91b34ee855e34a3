"""What of this machine decides which back end is fastest: its processor, the threads a model gets, and the versions."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

FEATURES = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_vnni",
    "avx_vnni",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
    "i8mm",
)
"""Those that decide how fast numbers of 32, 16 and 8 bits are multiplied."""
PACKAGES = ("torch", "openvino", "numpy")
GPU_DRIVERS = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/dxg", "/dev/kfd")
"""One of these is there where torch could use a GPU; looking is a matter of microseconds, importing torch one of seconds."""

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Machine:
    """Two machines that are equal here give the same answer to which back end is fastest."""

    processor: str
    features: tuple[str, ...]
    threads: int
    versions: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        """A name for a file."""
        return hashlib.blake2b(json.dumps(asdict(self), sort_keys=True).encode(), digest_size=8).hexdigest()

    def __str__(self) -> str:
        plural = "" if self.threads == 1 else "s"
        return f"{self.processor} ({', '.join(self.features) or 'no features known'}), {self.threads} thread{plural}"


def this_machine() -> Machine:
    """This one, with the threads that a model in this process gets."""
    return Machine(_processor(), _features(), threads(), _versions())


def threads() -> int:
    """OMP_NUM_THREADS where it is set, as it is in worker processes; else the cores that this process may run on."""
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if given.isdecimal() and int(given) > 0:
        return int(given)
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def multiplies_bf16() -> bool:
    """Whether the processor multiplies numbers of 16 bits by itself. Others convert each, which is slower than not to."""
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(_features())


def may_have_gpu() -> bool:
    """False only where torch certainly sees no GPU. Linux; elsewhere only torch knows."""
    return platform.system() != "Linux" or any(os.path.exists(path) for path in GPU_DRIVERS)


@lru_cache
def _cpuinfo() -> str:
    try:
        return _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _features() -> tuple[str, ...]:
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    there = set(found[1].split()) if found else set()
    return tuple(feature for feature in FEATURES if feature in there)


def _versions() -> tuple[tuple[str, str], ...]:
    found = []
    for name in PACKAGES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append((name, "not installed"))
    return tuple(found)
