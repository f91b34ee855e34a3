"""A server process that does not belong to whoever started it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from speakerdb.testing.servers import supervisor
from speakerdb.testing.servers.run import NoServer, Run, environment, unprivileged

# Below what Linux and macOS give to outgoing connections, so that a server that was stopped finds its port again.
PORTS = range(20_000, 32_000)
START_SECONDS = 240.0  # 10 on an idle machine
STOP_SECONDS = 60.0
SHELL = "/bin/sh"


class Server(ABC):
    """A server in a folder of a run. All that is known of it lies there, so any process of the run may handle it."""

    title: str
    stop_signal = signal.SIGTERM

    def __init__(self, run: Run, name: str) -> None:
        self.run = run
        self.name = name
        self.folder = run.folder / name

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it answers and is healthy."""

    @property
    def log(self) -> Path:
        """The file into which it writes what it has to say."""
        return self.folder / "log"

    @property
    def known(self) -> dict[str, Any]:
        """What was laid down when the server was made: its ports, for example."""
        found: dict[str, Any] = json.loads((self.folder / "server.json").read_text())
        return found

    @property
    def mark(self) -> str:
        """The word in its command line by which the supervisor finds it."""
        return f"{supervisor.MARK}{self.folder}"

    @property
    def pid(self) -> int | None:
        """Number of the server's process; `None` while it does not run."""
        found = supervisor.servers_of(self.folder)
        return next((process.pid for process in found if process.argv[0] != SHELL), None)

    def start(self) -> None:
        """Starts it and waits until it is healthy; nothing where it runs already. `NoServer` with the end of its log."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Starts it and does not wait."""
        if self.pid is not None:
            return
        self.run.supervise()
        user = unprivileged()
        # The first shell leaves at once, so that the server is not our child and any process of the run may see it
        # end. The second stays and collects it: PostgreSQL does not start again while its number is still in use.
        launched = [SHELL, "-c", '( "$@" & wait ) </dev/null >>"$0" 2>&1 &', str(self.log), *self.command()]
        try:
            subprocess.run(
                launched,
                check=True,
                cwd=self.folder,
                env=environment(HOME=str(self.folder), TMPDIR=str(self.folder / "tmp")),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise NoServer(f"{self.title} did not start: {error}") from error

    def wait_until_ready(self) -> None:
        """Waits until it is healthy. `NoServer` with the end of its log where it ends or takes too long."""
        late = time.monotonic() + START_SECONDS
        while not self.ready():
            if not supervisor.servers_of(self.folder):  # nor the shell that starts it
                raise NoServer(f"{self.title} ended while it started.\n{self.log_tail()}")
            if time.monotonic() > late:
                raise NoServer(f"{self.title} was not healthy within {START_SECONDS:.0f} s.\n{self.log_tail()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends it in good order and waits for that; the data stays."""
        self.resume()
        self._end(self.stop_signal, self.family()[:1])

    def kill(self) -> None:
        """`kill -9` of it and its children, as when the power fails; the data stays as it is."""
        self._end(signal.SIGKILL, self.family())

    def pause(self) -> None:
        """It stops answering, and its connections stay open."""
        for pid in self.family():
            supervisor.send(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Goes on after `pause`."""
        for pid in self.family():
            supervisor.send(pid, signal.SIGCONT)

    def discard(self) -> None:
        """Ends it and removes its data."""
        supervisor.end(self.folder)

    def log_tail(self, lines: int = 40) -> str:
        """The last lines that it wrote."""
        if not self.log.exists():
            return "(it wrote no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def family(self) -> list[int]:
        """Numbers of its process and of that process's children, itself first."""
        own = self.pid
        return [] if own is None else [own, *(p.pid for p in supervisor.processes() if p.parent == own)]

    def _end(self, number: signal.Signals, family: list[int]) -> None:
        for pid in family:
            supervisor.send(pid, number)
        late = time.monotonic() + STOP_SECONDS
        while not self._has_ended(family):
            if time.monotonic() > late:
                raise TimeoutError(f"{self.title} did not end within {STOP_SECONDS:.0f} s of {number.name}")
            time.sleep(0.02)

    @staticmethod
    def _has_ended(family: list[int]) -> bool:
        if family and _exists(family[0]):
            return False
        return not set(family) & {process.pid for process in supervisor.processes()}


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Ports of loopback on which nothing listens now."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(PORTS)  # noqa: S311 - two runs should rarely choose the same
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def lay_down(folder: Path, **known: Any) -> None:
    """Writes what `Server.known` reads; whoever finds it finds all of it."""
    part = folder / "server.part"
    part.write_text(json.dumps(known))
    part.chmod(0o600)
    os.replace(part, folder / "server.json")


def made_once(run: Run, name: str, make: Callable[[Path], None]) -> None:
    """Lets `make` fill the folder of a server, unless that was done; a half made one is made again."""
    folder = run.folder / name
    if (folder / "server.json").exists():
        return
    if folder.exists():
        supervisor.end(folder)
        shutil.rmtree(folder, ignore_errors=True)
    make(run.new_folder(name))
