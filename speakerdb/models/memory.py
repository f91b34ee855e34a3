"""How much memory a model takes, how much is free, and giving some back."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from speakerdb.models.hub import HUB, STORE
from speakerdb.models.processor import may_have_gpu
from speakerdb.models.sources import locate
from speakerdb.models.store import ModelStore
from speakerdb.types import ModelSpec

TIMES_ITS_FILE = 6
"""Memory that a checkpoint takes, as a multiple of its file. Loading one in half precision added 4.7 and 5.1 times its file
(measured on the CPU with both stand-ins, in full precision once loaded); one in full precision takes half as much."""
WORKING_BYTES = 256 * 1024**2
"""What embedding takes beside the weights: a segment of 6 s needed 65 MB on the CPU. Batches on CUDA that are too large for
what is left go on with the CPU."""
UNKNOWN_FILE_BYTES = 100 * 1000**2
"""For a checkpoint that is still at the hub. The published ones have 18 and 27 MB."""

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def needed_bytes(spec: ModelSpec, folder: Path | None = None) -> int:
    """An estimate of what loading a model takes, without loading it or asking the hub; 0 for one without weights."""
    if spec.family == "spectral":
        return 0
    store = None if folder is None else ModelStore(folder)
    for source in ((STORE,) if store is not None else ()) + spec.sources:
        found = None if source == HUB else locate(spec, source, store=store, offline=True)
        if isinstance(found, Path):
            try:
                return found.stat().st_size * TIMES_ITS_FILE + WORKING_BYTES
            except OSError:  # it is gone already: loading it says so
                continue
    return UNKNOWN_FILE_BYTES * TIMES_ITS_FILE + WORKING_BYTES


def free_bytes(device: str) -> int | None:
    """Memory that is free where a model on `device` (auto, cpu, cuda or cuda:N) lies; None where nobody knows.

    A model on CUDA has a copy in main memory too, so the smaller of the two counts.
    """
    on_gpu = device != "cpu" and (device != "auto" or may_have_gpu())  # looking costs the import of torch
    known = [free for free in (_main_memory(), free_on_gpu(device) if on_gpu else None) if free is not None]
    return min(known, default=None)


def give_back() -> None:
    """Let go of what is not used any more."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _main_memory() -> int | None:
    """What the kernel could give without swapping, and what is left under the limits of our control groups."""
    free = []
    if found := re.search(r"^MemAvailable: *(\d+) kB", _text(_MEMINFO), re.MULTILINE):
        free.append(int(found[1]) * 1024)
    for folder in _control_groups():
        limit, used = _text(folder / "memory.max").strip(), _text(folder / "memory.current").strip()
        if limit.isdecimal() and used.isdecimal():
            # Pages of files that were read count as used, but are given up first.
            cached = re.search(r"^inactive_file (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
            free.append(max(0, int(limit) - int(used) + (int(cached[1]) if cached else 0)))
    return min(free, default=None)


def _control_groups() -> Iterator[Path]:
    """Ours and those above it, version 2."""
    own = re.search(r"^0::(/.*)$", _text(Path("/proc/self/cgroup")), re.MULTILINE)
    folder = _CGROUP / own[1].lstrip("/") if own else _CGROUP
    while folder.is_relative_to(_CGROUP):
        yield folder
        folder = folder.parent


def free_on_gpu(device: str) -> int | None:
    """Memory that is free on a CUDA device; None where there is none."""
    import torch

    if not torch.cuda.is_available():
        return None
    index = int(device.partition(":")[2] or 0)
    if index >= torch.cuda.device_count():
        return None
    free, _ = torch.cuda.mem_get_info(index)
    # What torch has taken from the device and does not use is as good as free.
    return int(free + torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
