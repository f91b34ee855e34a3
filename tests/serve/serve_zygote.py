"""Starts `speakerdb` as a process of its own without importing everything each time: it forks, and the child is the command
line. Reads one JSON object a line from standard input and answers each with one.

`play` says what takes the place of models in the child:

- `fake`: every recording is extracted at once;
- `gate`: the same, but a recording waits, in a thread that nothing can end, for the file `open` beside the library; a file
  `begun-RECORDING` says that it was begun;
- `shut`: the library is not opened, in a thread that nothing can end, before the file `open` is there; a file `opening`
  says that it was begun;
- `worker`: in a spawned worker process, which waits in the same way; a file `worker-PID` says that it was begun.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speakerdb.models.registry import LoadedModel
from speakerdb.types import Generation


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
    from speakerdb.index.opensearch import adapter
    from speakerdb.scheduler import Service

    del alembic, apscheduler, uvicorn, speakerdb, postgresql, adapter, Service
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            pid, status = os.waitpid(job["wait"], os.WNOHANG)
            answer: dict[str, Any] = {"exit": os.waitstatus_to_exitcode(status) if pid else None}
        else:
            child = os.fork()
            if child == 0:
                _become(job)
                sys.exit(command_line(job["args"]))
            answer = {"pid": child}
        print(json.dumps(answer), flush=True)


def _become(job: dict[str, Any]) -> None:
    os.setsid()
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["env"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    out, err = (os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) for name in ("out", "err"))
    for number, opened in enumerate((nothing, out, err)):
        os.dup2(opened, number)
        os.close(opened)
    _play(job["play"], Path(job["folder"]))


@dataclass(frozen=True)
class Waits:
    """A model that a worker waits for."""

    folder: Path

    def __call__(self, generation: Generation) -> LoadedModel:
        """Waits for the file, then fails: what is tested ends it before."""
        (self.folder / f"worker-{os.getpid()}").touch()
        wait_for_gate(self.folder)
        raise AssertionError("nobody was to go on")


def wait_for_gate(folder: Path) -> None:
    """Until the file `open` is there."""
    while not (folder / "open").exists():
        time.sleep(0.02)


def _play(play: str, folder: Path) -> None:
    from speakerdb.cli import session
    from speakerdb.executors import Executor, make_executor
    from speakerdb.extraction.extract import Extracted, Task
    from speakerdb.service import SpeakerDB
    from speakerdb.settings import Settings
    from speakerdb.testing.factories import FakeExecutor, fake_extract

    def gated(task: Task) -> Extracted:
        (folder / f"begun-{task.recording_id}").touch()
        wait_for_gate(folder)
        return fake_extract(task)

    class Resting(FakeExecutor):
        """Tells that it was told to rest."""

        def restart(self) -> str:
            (folder / "rested").touch()
            return super().restart()

    def open_service(settings: Settings, *, start: bool = True) -> SpeakerDB:
        executor: Executor
        load = None
        if play == "shut":
            (folder / "opening").touch()
            wait_for_gate(folder)
        if play == "worker":
            executor, load = make_executor("process"), Waits(folder)
        else:
            executor = Resting(gated if play == "gate" else fake_extract)
        return SpeakerDB.open(settings, executor=executor, load_embedder=load, start=start)

    session.open_service = open_service


if __name__ == "__main__":
    main()
