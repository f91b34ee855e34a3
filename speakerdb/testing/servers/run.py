"""One run and its folder: what the processes of a test run share of their servers."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, TypeVar

from speakerdb.testing.servers import supervisor

T = TypeVar("T")


class NoServer(RuntimeError):
    """A server that cannot be had here; the message says why and what would bring it."""


class Run:
    """The servers of one run: a folder, gone at the end with everything in it, even after `kill -9` of the run.

    The process that began the run keeps it alive. Others (workers of pytest-xdist) join it by its folder.
    """

    def __init__(self, folder: Path, alive: TextIO | None = None) -> None:
        self.folder = folder
        self._alive = alive

    @classmethod
    def begin(cls) -> Run:
        """A new run, of this process."""
        folder = Path(tempfile.mkdtemp(prefix="speakerdb-servers-", dir=_reachable_temporary_folder()))
        # Servers of root's run as another user. They must reach their own folders, and need not see what else is here.
        folder.chmod(0o711)
        alive = (folder / supervisor.ALIVE).open("w")
        fcntl.lockf(alive, fcntl.LOCK_EX)
        return cls(folder, alive)

    @classmethod
    def at(cls, folder: str) -> Run:
        """The run that another process began."""
        return cls(Path(folder))

    def end(self) -> None:
        """Ends all servers of the run and removes the folder. For the process that began it."""
        if self._alive is None:
            return
        supervisor.end(self.folder)
        self._alive.close()
        self._alive = None

    def once(self, name: str, start: Callable[[], T]) -> T:
        """Calls `start` under the lock of this name. Where it had no server, nobody in the run tries again."""
        failed = self.folder / f"{name}.failed"
        with self.locked(name):
            if failed.exists():
                raise NoServer(failed.read_text())
            try:
                return start()
            except NoServer as error:
                failed.write_text(str(error))
                raise

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Waits until no other process of the run holds the lock of this name."""
        with (self.folder / f"{name}.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def supervise(self) -> None:
        """Makes sure that the supervisor of the run is there; before the first server starts."""
        started = self.folder / "supervised"
        with self.locked("supervisor"):
            if not started.exists():
                # By its path and with nothing of our environment: no mark of a test, no settings, no other packages.
                program = [sys.executable, "-I", "-S", supervisor.__file__, str(self.folder)]
                nothing = subprocess.DEVNULL
                subprocess.run(
                    program, check=True, env=environment(), cwd="/", stdin=nothing, stdout=nothing, stderr=nothing
                )
                started.touch()

    def new_folder(self, name: str) -> Path:
        """A fresh folder in the run's that belongs to the user as whom servers run."""
        folder = self.folder / name
        folder.mkdir()
        give_away(folder)
        return folder

    def reachable(self, folder: Path, probe: str, *beside: str) -> Path:
        """The folder itself, or a copy of it in the run's where servers run as a user who cannot reach it.

        `probe` is a program in it; `beside` are the names of its siblings that are copied along.
        """
        if _may_run(folder / probe):
            return folder
        parent = self.folder / f"{folder.parent.name}-copy"
        with self.locked("copy"):
            for name in (*beside, folder.name):
                if not (parent / name).exists():
                    shutil.copytree(folder.parent / name, parent / f"{name}.part", symlinks=True)
                    open_to_all(parent)
                    (parent / f"{name}.part").rename(parent / name)
        return parent / folder.name


def environment(**more: str) -> dict[str, str]:
    """The environment of a server: nothing of ours but the search path."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", **more}


def unprivileged() -> int | None:
    """The number of the user as whom servers run: `None` for our own, another where we are root, whom they refuse."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return 65534


def give_away(path: Path) -> None:
    """Makes the servers' user the owner of a file or folder."""
    user = unprivileged()
    if user is not None:
        os.chown(path, user, user)


def _may_run(program: Path) -> bool:
    if unprivileged() is None:
        return True
    program = program.resolve()
    return bool(program.stat().st_mode & stat.S_IXOTH) and _reachable(program.parent)


def _reachable(folder: Path) -> bool:
    return all(place.stat().st_mode & stat.S_IXOTH for place in (folder, *folder.parents))


def _reachable_temporary_folder() -> str:
    chosen = Path(tempfile.gettempdir()).resolve()
    if unprivileged() is None or _reachable(chosen):
        return str(chosen)
    for other in ("/tmp", "/var/tmp"):  # noqa: S108
        if Path(other).is_dir() and _reachable(Path(other)):
            return other
    raise NoServer(f"servers of root run as another user, who cannot reach {chosen}: set TMPDIR to a folder he can")


def open_to_all(folder: Path) -> None:
    """Lets every user read what lies in a folder and run its programs."""
    for place in (folder, *folder.rglob("*")):
        if not place.is_symlink():
            mode = place.stat().st_mode
            place.chmod(mode | 0o055 if place.is_dir() or mode & stat.S_IXUSR else mode | 0o044)
