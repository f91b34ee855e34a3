"""The processes of one run, and what is done to them from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias

from speakerdb.settings import Settings
from speakerdb.testing.chaos.fates import Fate

Play: TypeAlias = Literal["service", "client", "far", "operator"]
"""A command line; who uses a library in its own process, or over HTTP; who migrates."""
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "PYTEST_FAMILY", "OMP_NUM_THREADS", "HF_HOME", "HF_HUB_OFFLINE")
_PATIENCE = 60.0
SERVE = ("serve", "--no-api", "--log", "json")


class Zygote:
    """The process that forks the others; see `zygote`."""

    def __init__(self) -> None:
        env = dict(os.environ) | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "speakerdb.testing.chaos.zygote"],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True,  # what ends the whole group must leave it the time to end what it has started
        )  # fmt: skip

    def ask(self, **job: object) -> Any:
        """Its answer to a job."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """It ends, and with it all that it started."""
        self._process.communicate(timeout=_PATIENCE)

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


@dataclass
class Process:
    """One that was started, and how it stood when it was looked at last: `runs`, `stopped`, or its exit code."""

    role: str
    name: str
    pid: int
    log: Path
    told: Path
    state: str | int = "runs"

    @property
    def ended(self) -> bool:
        """Whether it is gone."""
        return isinstance(self.state, int)

    def send(self, number: signal.Signals) -> None:
        """A signal, if it is still there."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def said(self) -> str:
        """What it has logged and printed."""
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    def fates(self) -> list[str]:
        """What its points have done to it: kind and point, each."""
        return self.told.read_text(encoding="utf-8").splitlines() if self.told.exists() else []


class Processes:
    """Starts them on one library."""

    def __init__(self, zygote: Zygote, folder: Path, settings: Settings, seed: str) -> None:
        self._zygote = zygote
        self._folder = folder
        self._env = variables(settings)
        self._seed = seed
        self.started: list[Process] = []
        self.clock = folder / "clock"
        self.set_clock(0)
        for name in ("logs", "fates"):
            (folder / name).mkdir()

    @property
    def history(self) -> Path:
        """Where actors write."""
        return self._folder / "history"

    def start(
        self,
        play: Play,
        role: str,
        *,
        fates: Sequence[Fate] | None = None,
        longest: int = 400,
        args: Sequence[str] = SERVE,
        ports: Sequence[int] = (),
    ) -> Process:
        """One more of a role. Its fates are drawn from the seed unless they are given; `longest` is how many points it passes
        at most before the next. `args` are the words of the command line that a service is, or another verb;
        `ports` are where services answer."""
        number = len(self.started)
        name = f"{role}-{number}"
        process = Process(role, name, 0, self._folder / "logs" / name, self._folder / "fates" / name)
        job: dict[str, object] = {
            "play": play, "args": list(args), "ports": list(ports), "name": name, "number": number,
            "seed": f"{self._seed}/{name}", "longest": longest, "folder": str(self._folder), "env": self._env,
            "log": str(process.log), "told": str(process.told), "clock": str(self.clock), "history": str(self.history),
        }  # fmt: skip
        if fates is not None:
            job["fates"] = [asdict(fate) for fate in fates]
        process.pid = self._zygote.ask(**job)
        self.started.append(process)
        return process

    def look(self) -> list[Process]:
        """Bring up to date how each stands; those whose standing has changed."""
        there = {process.pid: process for process in self.started if not process.ended}
        changed = []
        for pid, state in self._zygote.ask(poll=list(there)).items():
            process = there[int(pid)]
            if process.state != state:
                process.state = state
                changed.append(process)
        return changed

    def set_clock(self, seconds: float) -> None:
        """So far is the clock of every process from the right one."""
        text = f"{int(seconds * 1e6):32d}".encode()
        file = os.open(self.clock, os.O_WRONLY | os.O_CREAT, 0o644)
        os.pwrite(file, text, 0)
        os.close(file)


def variables(settings: Settings) -> Mapping[str, str]:
    """The settings as a process of a person's gets them."""
    schedule = settings.schedule
    found = {
        "SPEAKERDB_DATA_DIR": settings.data_dir, "SPEAKERDB_SERVING": settings.serving, "SPEAKERDB_EXECUTOR": "inline",
        "SPEAKERDB_DISK_FLOOR_MB": 0, "SPEAKERDB_LEASE_SECONDS": settings.lease_seconds,
        "SPEAKERDB_FENCE_SECONDS": settings.fence_seconds, "SPEAKERDB_BATCH_RECORDINGS": settings.batch_recordings,
        "SPEAKERDB_SCHEDULE__CHECK_MINUTES": schedule.check_minutes, "SPEAKERDB_SCHEDULE__WALK_HOURS": schedule.walk_hours,
        "SPEAKERDB_REPAIR__GRACE_SECONDS": settings.repair.grace_seconds,
    }  # fmt: skip
    for name, generation in settings.generations.items():
        for key in ("family", "model", "dimension"):
            found[f"SPEAKERDB_GENERATIONS__{name.upper()}__{key.upper()}"] = getattr(generation, key)
    if settings.database_url is not None:
        found["SPEAKERDB_DATABASE_URL"] = settings.database_url
    search = settings.opensearch
    if search.hosts:
        found |= {
            "SPEAKERDB_OPENSEARCH__HOSTS": ",".join(search.hosts), "SPEAKERDB_OPENSEARCH__PREFIX": search.prefix,
            "SPEAKERDB_OPENSEARCH__REPLICAS": search.replicas,
        }  # fmt: skip
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {name: str(value) for name, value in found.items()}
