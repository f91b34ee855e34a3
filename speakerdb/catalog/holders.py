"""Who holds a lease, and whether that process still lives.

A holder is `host/token`. While it lives it keeps an operating-system lock on a file named after its token; the system lets
go of it however the process ends, so another process of the same machine need not wait for the lease to expire.
On another machine, or where the file is not there, only the expiry counts.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
import uuid
from pathlib import Path
from typing import IO

# It goes on while the machine is suspended, as Linux's CLOCK_MONOTONIC does not. Where there is none, that one is the best.
_OWN_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_OURS: set[str] = set()
"""This process's own names. A number of a process says nothing: two containers may share the folder and the number."""


def own_seconds() -> float:
    """Seconds by this machine's own clock, which nobody sets."""
    return time.clock_gettime(_OWN_CLOCK)


def others(folder: Path) -> list[str]:
    """Names of the living processes of this machine that have the library open, other than those of this process."""
    alive = []
    for path in sorted(folder.glob("*.lock")):
        if path.stem in _OURS:
            continue
        try:
            _lock_for_a_moment(path, fcntl.LOCK_EX)
        except FileNotFoundError:
            continue
        except OSError:
            alive.append(path.stem)
    return alive


def _lock_for_a_moment(path: Path, how: int) -> None:
    """Only a file whose holder has ended can be locked. `OSError` for one that lives, `FileNotFoundError` without a file."""
    with path.open("rb") as file:
        fcntl.flock(file, how | fcntl.LOCK_NB)


class Holder:
    """This process as a holder of leases."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self.name = f"{socket.gethostname()}/{os.getpid()}-{uuid.uuid4().hex[:12]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path(self.name).open("wb")
            fcntl.flock(self._file, fcntl.LOCK_EX)  # whoever only looks holds it for a moment
            _OURS.add(self._path(self.name).stem)
        except OSError:
            # A read-only folder: others wait for the expiry instead, which is the rule between machines anyway.
            self._file = None

    def is_dead(self, other: str) -> bool:
        """True only if `other` certainly does not live any more. What it left is cleared away: ask once, then act on it."""
        if not self._has_ended(other, fcntl.LOCK_EX):
            return False
        self._path(other).unlink(missing_ok=True)
        return True

    def has_ended(self, other: str) -> bool:
        """The same for whoever only wants to see: it leaves everything as it is."""
        return self._has_ended(other, fcntl.LOCK_SH)

    def _has_ended(self, other: str, how: int) -> bool:
        host, _, _ = other.partition("/")
        if host != socket.gethostname() or other == self.name:
            return False
        try:
            _lock_for_a_moment(self._path(other), how)
        except OSError:
            return False  # locked: it lives; absent: nobody can tell
        return True

    def close(self) -> None:
        """Let go of the lock."""
        if self._file is not None:
            self._path(self.name).unlink(missing_ok=True)
            _OURS.discard(self._path(self.name).stem)
            self._file.close()
            self._file = None

    def _path(self, name: str) -> Path:
        return self._folder / f"{name.rpartition('/')[2]}.lock"
