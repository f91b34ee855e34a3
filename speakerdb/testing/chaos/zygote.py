"""Starts the processes of a run without importing everything each time: it forks, and the child is a service or a client.

Reads one JSON object a line from standard input and answers each with one. When that ends, it ends all that it started.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speakerdb.service import SpeakerDB
    from speakerdb.testing.history import Actor


def main() -> None:
    import alembic.command
    import alembic.config
    import apscheduler.executors.pool
    import apscheduler.jobstores.memory
    import apscheduler.schedulers.background
    import uvicorn

    import speakerdb.api.app
    from speakerdb.catalog import postgresql
    from speakerdb.cli.main import main as command_line
    from speakerdb.scheduler import Service
    from speakerdb.testing.chaos import clients, fates

    del alembic, apscheduler, uvicorn, speakerdb, postgresql, clients, fates, Service
    started: set[int] = set()
    for line in sys.stdin:
        job = json.loads(line)
        if "poll" in job:
            answer: Any = {str(pid): _state(pid) for pid in job["poll"]}
            started -= {int(pid) for pid, state in answer.items() if isinstance(state, int)}
        else:
            child = os.fork()
            if child == 0:
                _become(job)
                sys.exit(command_line(job["args"]) if job["play"] == "service" else _use(job))
            started.add(child)
            answer = child
        print(json.dumps(answer), flush=True)
    for pid in started:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _state(pid: int) -> str | int:
    """`runs`, `stopped`, or its exit code; below 0 is the signal that ended it."""
    found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
    if not found:
        with suppress(OSError, IndexError):  # where there is a /proc it knows of a stop that was told already
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                return "stopped"
        return "runs"
    return "stopped" if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)


def _become(job: dict[str, Any]) -> None:
    os.setsid()
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["env"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number, opened in enumerate((nothing, log, log)):
        os.dup2(opened, number)
    os.close(nothing)
    os.close(log)
    _play(job)


def _play(job: dict[str, Any]) -> None:
    """What takes the place of models, of the clock, and of good fortune."""
    from speakerdb.cli import session
    from speakerdb.service import SpeakerDB
    from speakerdb.settings import Settings
    from speakerdb.testing.chaos.fates import Fate, Fates, by_seed
    from speakerdb.testing.factories import FakeExecutor

    offset = os.open(job["clock"], os.O_RDONLY)

    def clock() -> int:
        return time.time_ns() // 1000 + int(os.pread(offset, 32, 0))

    def opened(settings: Settings, *, start: bool = True) -> SpeakerDB:
        return SpeakerDB.open(settings, executor=FakeExecutor(), clock=clock, start=start)

    session.open_service = opened
    if "fates" in job:
        given = iter([Fate(**each) for each in job["fates"]])
    elif job["play"] == "far":  # it has no points: what happens to it happens to the services it asks
        given = iter([])
    else:
        given = by_seed(job["seed"], job["play"], longest=job["longest"])
    Fates(given, Path(job["told"]), Path(job["env"]["SPEAKERDB_DATA_DIR"]) / "locks").install()


def _use(job: dict[str, Any]) -> int:
    """A client or an operator, until it is killed."""
    from speakerdb.testing.chaos.clients import PAUSE_SECONDS, Client, Operator
    from speakerdb.testing.chaos.far import Far
    from speakerdb.testing.history import Actor

    chance = random.Random(job["seed"])  # noqa: S311
    history, name, number = Path(job["history"]), job["name"], job["number"]
    user: Client | Operator
    if job["play"] == "far":
        user = Client(Far(job["ports"], chance), Actor(history, name, lasting=True), chance, number)
    else:
        actor = Actor(history, name)
        # An operator comes to a library whose alias went with its index too.
        db = _open(actor, start=job["play"] == "client")
        user = Client(db, actor, chance, number) if job["play"] == "client" else Operator(db, actor, chance)
    while True:
        user.step()
        time.sleep(chance.random() * PAUSE_SECONDS)


def _open(actor: Actor, *, start: bool) -> SpeakerDB:
    """The library, as soon as it can be opened."""
    from speakerdb.cli import session
    from speakerdb.settings import load_settings
    from speakerdb.testing.chaos.clients import PAUSE_SECONDS

    opened: list[SpeakerDB] = []
    while not opened:
        actor.ask("open", lambda: opened.append(session.open_service(load_settings(), start=start)))
        time.sleep(PAUSE_SECONDS)
    return opened[0]


if __name__ == "__main__":
    main()
