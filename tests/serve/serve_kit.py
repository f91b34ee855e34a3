"""Real service processes on one library, and what is asked of them from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from speakerdb.catalog import leases, schema
from speakerdb.catalog.database import Transaction
from speakerdb.service import SpeakerDB
from speakerdb.settings import OpenSearchSettings, Settings
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices

PATIENCE = 60.0
"""A hang is ended after so long; nothing asserts how long anything takes."""
Log = dict[str, Any]


def wait_for(happened: Callable[[], Any], what: str) -> Any:
    """Wait until it is so, and give what it answered. Fails where it never is."""
    late = time.monotonic() + PATIENCE
    while not (found := happened()):
        assert time.monotonic() < late, f"{what} did not happen"
        time.sleep(0.02)
    return found


class Zygote:
    """The process that forks services; see `serve_zygote.py`."""

    def __init__(self) -> None:
        env = dict(os.environ) | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", str(Path(__file__).with_name("serve_zygote.py"))],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, **job: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=PATIENCE)


@dataclass
class Process:
    """A service that runs."""

    zygote: Zygote
    pid: int
    out: Path
    err: Path
    exit_code: int | None = None

    def lines(self) -> list[Log]:
        """What it logged, a JSON object a line; the last one may be half-written."""
        text = self.err.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n") and line[0] == "{"]

    def logged(self, event: str, **fields: object) -> Log | None:
        """The first line of an event with these fields."""
        return next((each for each in self.lines() if each["event"] == event and fields.items() <= each.items()), None)

    def until(self, event: str, **fields: object) -> Log:
        """Wait for it."""
        found: Log = wait_for(lambda: self.logged(event, **fields) or self._died(event), f"{event} {fields}")
        return found

    def _died(self, event: str) -> None:
        assert self.poll() is None, f"it ended ({self.exit_code}) before {event}: {self.err.read_text()}"

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def poll(self) -> int | None:
        """Its exit code once it has ended; below 0 is the signal that ended it."""
        if self.exit_code is None:
            self.exit_code = self.zygote.ask(wait=self.pid)["exit"]
        return self.exit_code

    def ended(self) -> int:
        """Wait for its end."""
        wait_for(lambda: self.poll() is not None, f"the end of {self.pid}: {self.err.read_text()}")
        assert self.exit_code is not None
        return self.exit_code

    def stop(self) -> int:
        """Tell it to end, and wait until it has."""
        self.send(signal.SIGTERM)
        return self.ended()

    def get(self, path: str) -> tuple[int, str]:
        """Ask its API."""
        url = self.until("serve-began")["url"]
        try:
            with urllib.request.urlopen(f"{url}{path}", timeout=PATIENCE) as answer:  # noqa: S310  our own
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@dataclass
class Place:
    """A library, its settings as variables, and the services that were started on it."""

    folder: Path
    zygote: Zygote
    more: dict[str, Any] = field(default_factory=dict)
    started: list[Process] = field(default_factory=list)
    opened: list[SpeakerDB] = field(default_factory=list)

    def settings(self, data: str = "data") -> Settings:
        return fake_settings(self.folder / data, **self.more)

    def open(self) -> SpeakerDB:
        """The same library in this process."""
        db = SpeakerDB.open(self.settings(), executor=FakeExecutor())
        self.opened.append(db)
        return db

    def start(self, *args: str, play: str = "fake", data: str = "data", **env: str) -> Process:
        """Start a service; by itself it listens nowhere. `data` is its folder: another one is as another machine's."""
        number = len(self.started)
        out, err = self.folder / f"out-{number}", self.folder / f"err-{number}"
        err.touch()
        given = args if args else ("--no-api",)
        answer = self.zygote.ask(
            args=["serve", *given, "--log", "json"], play=play, folder=str(self.folder), out=str(out), err=str(err),
            env=self._env(data) | env,
        )  # fmt: skip
        self.started.append(Process(self.zygote, answer["pid"], out, err))
        return self.started[-1]

    def _env(self, data: str) -> dict[str, str]:
        settings = self.settings(data)
        found = {
            "SPEAKERDB_DATA_DIR": str(settings.data_dir), "SPEAKERDB_SERVING": settings.serving,
            "SPEAKERDB_DISK_FLOOR_MB": "0", "SPEAKERDB_LEASE_SECONDS": str(settings.lease_seconds),
        }  # fmt: skip
        for name, generation in settings.generations.items():
            for key in ("family", "model", "dimension"):
                found[f"SPEAKERDB_GENERATIONS__{name.upper()}__{key.upper()}"] = str(getattr(generation, key))
        if settings.database_url is not None:
            found["SPEAKERDB_DATABASE_URL"] = settings.database_url
        search: OpenSearchSettings = settings.opensearch
        if search.hosts:
            found |= {
                "SPEAKERDB_OPENSEARCH__HOSTS": ",".join(search.hosts),
                "SPEAKERDB_OPENSEARCH__PREFIX": search.prefix,
                "SPEAKERDB_OPENSEARCH__REPLICAS": "0",
            }
        kept = ("PATH", "HOME", "LANG", "PYTEST_FAMILY", "OMP_NUM_THREADS", "HF_HOME", "HF_HUB_OFFLINE")
        return {name: os.environ[name] for name in kept if name in os.environ} | found

    def go_on(self) -> None:
        """Recordings that wait may go on."""
        (self.folder / "open").touch()

    def begun(self) -> set[str]:
        """Recordings that somebody has begun."""
        return {path.name.removeprefix("begun-") for path in self.folder.glob("begun-*")}

    def close(self) -> None:
        """End what runs, whatever became of the test."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.ended()
        for db in self.opened:
            db.close()


def add(db: SpeakerDB, *names: str) -> None:
    """Recordings of two voices each. Their sound is in a file that nobody opens: what extracts them is a fake."""
    for name in names:
        db.add(None, two_voices(), recording_id=name, waveform=silence(20))


def states(db: SpeakerDB) -> dict[str, tuple[str, int]]:
    """State and attempts of the work item of each recording."""
    with db.catalog.read() as tx:
        return _states(tx)


def _states(tx: Transaction) -> dict[str, tuple[str, int]]:
    table = schema.work_items
    rows = tx.execute(sa.select(table.c.recording_id, table.c.state, table.c.attempts)).all()
    return {row.recording_id: (row.state, row.attempts) for row in rows}


def drained(db: SpeakerDB) -> bool:
    """Whether everything is done and written."""
    table = schema.projections
    with db.catalog.read() as tx:  # both at one moment
        waits = tx.scalar(sa.select(sa.func.count()).where(table.c.version > table.c.indexed_version))
        found = _states(tx)
    return waits == 0 and all(state == "done" for state, _ in found.values())


def holder(db: SpeakerDB, name: str = "work") -> int | None:
    """The process id of who holds a lease."""
    with db.catalog.read() as tx:
        row = leases.find(tx, name)
    return None if row is None or row.holder is None else int(row.holder.rpartition("/")[2].partition("-")[0])
