"""Starts `speakerdb` as a process of its own for each command, without importing everything each time.

It imports the program once and forks; the child is the command line and nothing else. Reads one JSON object a line from
standard input and answers each with one. A job may ask that the process be killed (SIGKILL, as by `kill -9`) at one of
its points: before and after each commit, and before and after each write of the index.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def main() -> None:
    import alembic.command
    import alembic.config

    from speakerdb.catalog import postgresql
    from speakerdb.cli.main import main as command_line
    from speakerdb.index.opensearch import adapter

    del alembic, postgresql, adapter
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
    os.setsid()  # a process group of its own, as a shell gives it, so that Ctrl-C can be sent to all of it
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["env"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    out, err = (os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) for name in ("out", "err"))
    for number, opened in enumerate((nothing, out, err)):
        os.dup2(opened, number)
        os.close(opened)
    if job.get("points"):
        _install(job["points"], job.get("die_at"))


def _install(record: str, die_at: int | None) -> None:
    """Count the points into the file `record`, one line each; die at the one of this number."""
    from speakerdb.catalog.database import Database
    from speakerdb.index.embedded import EmbeddedIndex
    from speakerdb.index.opensearch.adapter import OpenSearchIndex

    names = open(record, "a", buffering=1)  # noqa: SIM115
    seen = 0

    def point(name: str) -> None:
        nonlocal seen
        names.write(f"{name}\n")
        if seen == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    write = Database.write

    @contextmanager
    def watched(self: Database) -> Iterator[Any]:
        with write(self) as tx:
            yield tx
            point("before commit")
        point("after commit")

    Database.write = watched  # type: ignore[method-assign]
    for index in (EmbeddedIndex, OpenSearchIndex):
        for name in ("create", "drop", "update_aliases", "bulk"):
            setattr(index, name, _between(name, getattr(index, name), point))


def _between(name: str, call: Any, point: Any) -> Any:
    def watched(*args: Any, **more: Any) -> Any:
        point(f"before {name}")
        answer = call(*args, **more)
        point(f"after {name}")
        return answer

    return watched


if __name__ == "__main__":
    main()
