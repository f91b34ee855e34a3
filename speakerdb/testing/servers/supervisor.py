"""Ends the servers of a run whose process is gone, however it went, and removes their data.

A run is a folder and a process that holds the lock on the file `alive` in it. The lock is of the kind that belongs to
one process and that the kernel lifts when that process ends, by SIGKILL too; no child inherits it. The supervisor waits
for that lock, so it needs no polling and cannot mistake another process with the same number for the run.

This file is also run as a program, by its path: it uses the standard library only.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ALIVE = "alive"
# Every server has an argument with this word and its own folder, by which it is found and by nothing else.
MARK = "speakerdb.server="
PATIENCE = 10.0  # seconds in which a PostgreSQL that was told to end at once should have ended
IPC_RMID = 0


@dataclass(frozen=True, slots=True)
class Process:
    """One living process: its number, its parent's, and its command line."""

    pid: int
    parent: int
    argv: Sequence[str]

    def serves(self, folder: Path) -> bool:
        """Whether it is a server whose folder is this one or lies in it."""
        words = (word.partition(MARK)[2] for word in self.argv if MARK in word)
        return any(word == str(folder) or word.startswith(f"{folder}/") for word in words)


def processes() -> Iterator[Process]:
    """The processes of this machine that have not ended; one that ended and was not collected yet is left out."""
    if Path("/proc/self/stat").exists():
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended while we looked
                # The name in brackets may hold anything; what follows the last bracket is state and parent.
                state, parent = (entry / "stat").read_bytes().rpartition(b")")[2].split()[:2]
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if state not in (b"Z", b"X"):
                    yield Process(int(entry.name), int(parent), words)
        return
    ps = ["/bin/ps", "-axww", "-o", "pid=,ppid=,stat=,args="]
    listing = subprocess.run(ps, capture_output=True, text=True, check=True)
    for line in listing.stdout.splitlines():
        pid, above, code, *words = line.split()
        if not code.startswith("Z"):
            yield Process(int(pid), int(above), words)


def servers_of(folder: Path) -> list[Process]:
    """The living servers whose folder is this one or lies in it."""
    return [process for process in processes() if process.serves(folder)]


def send(pid: int, number: signal.Signals) -> None:
    """Sends a signal to a process that may have ended in the meantime."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def end(folder: Path) -> None:
    """Ends every server in this folder and removes it. Their data is not wanted any more, so nobody waits for it.

    PostgreSQL is told to end at once, which still gives its shared memory back; what does not listen is killed.
    """
    killed_from = time.monotonic() + PATIENCE
    while left := servers_of(folder):
        late = time.monotonic() > killed_from
        for server in left:
            listens = Path(server.argv[0]).name == "postgres" and not late
            send(server.pid, signal.SIGQUIT if listens else signal.SIGKILL)
            send(server.pid, signal.SIGCONT)  # a paused one hears SIGQUIT only when it goes on
        time.sleep(0.05)
    for pidfile in folder.glob("*/data/postmaster.pid"):
        forget_shared_memory(pidfile)
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)  # a child of a killed PostgreSQL may write a last file


def forget_shared_memory(pidfile: Path) -> None:
    """Gives back the segment that a killed PostgreSQL left, which nothing else would until the machine restarts."""
    with suppress(OSError, IndexError, ValueError):
        segment = int(pidfile.read_text().splitlines()[6].split()[1])
        ctypes.CDLL(None).shmctl(ctypes.c_int(segment), IPC_RMID, None)


def main(folder: Path) -> None:
    """Goes into the background, waits until the run is gone, and ends what it left."""
    if os.fork():
        return
    os.setsid()
    with (folder / ALIVE).open("r+") as alive:
        fcntl.lockf(alive, fcntl.LOCK_EX)
        end(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
