"""The command line in a subprocess, and what a library holds, read without the product's SQL."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import sqlalchemy as sa

from speakerdb.index.opening import open_index
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings, load_settings
from speakerdb.testing import invariants
from speakerdb.testing.backends import Backend, Saved

PATIENCE = 120.0
"""Seconds until a process that should have ended counts as hung. Nothing is measured with it."""


@dataclass
class Ran:
    """How one command ended. A negative exit code is the signal that killed it."""

    args: tuple[str, ...]
    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.out)
        except ValueError as error:
            raise AssertionError(f"{self.args} printed no JSON ({self.exit_code}): {self.out!r} {self.err}") from error

    @property
    def code(self) -> str | None:
        """The error code of its JSON answer."""
        error = self.json.get("error") if isinstance(self.json, dict) else None
        return error["code"] if error else None


class Zygote:
    """The process that forks a command line at a time; see `zygote.py`."""

    def __init__(self) -> None:
        env = dict(os.environ) | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", str(Path(__file__).with_name("zygote.py"))],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **job: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=PATIENCE)


@dataclass
class Command:
    """A command that runs, or has ended."""

    zygote: Zygote
    args: tuple[str, ...]
    pid: int
    out: Path
    err: Path
    exit_code: int | None = None

    @property
    def ended(self) -> bool:
        if self.exit_code is None:
            self.exit_code = self.zygote.ask(wait=self.pid)["exit"]
        return self.exit_code is not None

    def send(self, number: int) -> None:
        if not self.ended:
            os.kill(self.pid, number)

    def wait(self) -> Ran:
        try:
            wait_for(lambda: self.ended, lambda: f"{self.args} hangs: {self.err.read_text()}")
        finally:
            self.send(signal.SIGKILL)
        assert self.exit_code is not None
        return Ran(self.args, self.exit_code, self.out.read_text(), self.err.read_text())


@dataclass
class Shell:
    """Runs `speakerdb` on one library, each command in a process of its own."""

    zygote: Zygote
    folder: Path
    data: Path
    config: Path | None = None
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    more: dict[str, str] = field(default_factory=dict)
    _started: int = 0

    @property
    def settings(self) -> Settings:
        """As the commands read them."""
        with mock.patch.dict(os.environ, self.env()):
            return load_settings()

    def moved(self, backend: Backend, folder: Path, saved: Saved | None = None) -> Shell:
        """A shell on another library, which lies on `backend` and begins as one was saved; its folder is new."""
        data = folder / "data"
        data.mkdir(parents=True)
        return Shell(self.zygote, folder, data, self.config, more=self.more | variables(backend.make(data, saved)))

    def env(self) -> dict[str, str]:
        env = dict(os.environ) | {"SPEAKERDB_DATA_DIR": str(self.data), "SPEAKERDB_TEST_MARK": self.mark}
        env |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | self.more
        if self.config is not None:
            env["SPEAKERDB_CONFIG"] = str(self.config)
        return env

    def start(self, *args: object, points: Path | None = None, die_at: int | None = None) -> Command:
        self._started += 1
        out, err = (self.folder / f"{name}-{self._started}.txt" for name in ("out", "err"))
        words = tuple(map(str, args))
        answer = self.zygote.ask(
            args=words,
            folder=str(self.folder),
            env=self.env(),
            out=str(out),
            err=str(err),
            points=None if points is None else str(points),
            die_at=die_at,
        )
        return Command(self.zygote, words, answer["pid"], out, err)

    def __call__(self, *args: object, points: Path | None = None, die_at: int | None = None) -> Ran:
        return self.start(*args, points=points, die_at=die_at).wait()

    def ok(self, *args: object) -> Any:
        """The JSON answer of a command that must succeed."""
        ran = self(*args, "--json")
        assert ran.exit_code == 0, f"{args}: {ran.exit_code} {ran.out} {ran.err}"
        return ran.json

    def workers(self) -> list[str]:
        """Living worker processes of this library's commands (Linux): they were given the mark when they began."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                carries = f"SPEAKERDB_TEST_MARK={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if carries and state != "Z":
                found.append(command)
        return found

    def no_worker_left(self) -> None:
        """Fails if a worker does not end by itself."""
        wait_for(lambda: not self.workers(), lambda: f"left running: {self.workers()}")


def wait_for(happened: Callable[[], bool], otherwise: Callable[[], str] = lambda: "it did not happen") -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.02)


def variables(given: Mapping[str, Any]) -> dict[str, str]:
    """The settings that lead to a library on real servers, as a user gives them; none for one on files."""
    found = {}
    if "database_url" in given:
        found["SPEAKERDB_DATABASE_URL"] = given["database_url"]
    if "opensearch" in given:
        search = given["opensearch"]
        found["SPEAKERDB_OPENSEARCH__HOSTS"] = ",".join(search.hosts)
        found["SPEAKERDB_OPENSEARCH__PREFIX"] = search.prefix
        found["SPEAKERDB_OPENSEARCH__REPLICAS"] = str(search.replicas)
    return found


def query(of: Path | Shell, sql: str) -> list[tuple[Any, ...]]:
    """Rows of the catalog, in a data folder or wherever a shell's library has it, read on a connection of our own."""
    url = of.more.get("SPEAKERDB_DATABASE_URL") if isinstance(of, Shell) else None
    if url is not None:
        with sa.create_engine(url, poolclass=sa.NullPool).connect() as reading:
            return [tuple(row) for row in reading.execute(sa.text(sql))]
    data = of.data if isinstance(of, Shell) else of
    connection = sqlite3.connect(data / "catalog.db", timeout=30)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def held(of: Path | Shell, lease: str) -> bool:
    """Whether some process holds a lease (as far as the row says)."""
    try:
        return bool(query(of, f"SELECT 1 FROM leases WHERE name = '{lease}' AND holder IS NOT NULL"))  # noqa: S608
    except sqlite3.OperationalError:
        return False  # there is no such file or table yet


def plain(name: str) -> str:
    """A concrete index as it was first called: one that was built again beside it has the rebuild's number at its end."""
    return name.partition(".r")[0]


def contents(of: Path | Shell) -> dict[str, Any]:
    """What the library holds, by names instead of made-up ids, so that two libraries of one input can be compared.

    The statistics and vectors, names, states of work and migrations, and the documents of every index.
    """
    entity = {
        row[0]: f"{Path(row[1]).name if row[1] else row[2]}/{row[3]}"
        for row in query(
            of, "SELECT s.id, r.path, r.id, s.label FROM speakers s JOIN recordings r ON r.id = s.recording_id"
        )
    }
    entity |= {row[0]: f"profile {row[1]}" for row in query(of, "SELECT id, name FROM profiles")}
    recording = {
        row[0]: Path(row[1]).name if row[1] else row[0] for row in query(of, "SELECT id, path FROM recordings")
    }
    found: dict[str, Any] = {
        "recordings": sorted(
            (recording[r[0]], *r[1:])
            for r in query(of, "SELECT id, media_size, media_digest, seconds, turns_digest, content_version FROM recordings")
        ),
        "turns": sorted(
            (entity[r[0]], *r[1:]) for r in query(of, 'SELECT speaker_id, "start", "end" FROM turns')
        ),
        "speakers": sorted(
            (entity[r[0]], r[1] or "", entity.get(r[2], ""), r[3])
            for r in query(of, "SELECT id, name, profile_id, speech_seconds FROM speakers")
        ),
        "embeddings": sorted(
            (r[0], entity[r[1]], *r[2:])
            for r in query(
                of,
                "SELECT generation, entity_id, kind, vector, reason, seconds, segments, resultant, agreement, recipe"
                " FROM embeddings",
            )
        ),
        "work": sorted(
            (recording[r[0]], *r[1:])
            for r in query(of, "SELECT recording_id, generation, state, done_version, error_code FROM work_items")
        ),
        "migrations": query(of, "SELECT source, target, state, paused FROM migrations ORDER BY id"),
        "live": query(of, "SELECT name FROM generations WHERE live ORDER BY name"),
        "waiting": query(of, "SELECT count(*) FROM projections WHERE version <> indexed_version"),
    }  # fmt: skip
    versions = {(g, e): v for g, e, v in query(of, "SELECT generation, entity_id, version FROM projections")}
    settings = of.settings if isinstance(of, Shell) else Settings(data_dir=of)
    with closing(open_index(settings)) as index:
        found["aliases"] = {alias: tuple(map(plain, names)) for alias, names in index.aliases().items()}
        names = list(index.indices())
        assert len({plain(name) for name in names}) == len(names), "a rebuild left an index behind"
        found["documents"] = {
            plain(name): sorted(
                (entity[d.id], d.kind.value, recording.get(d.recording_id or ""), entity.get(d.profile_id or ""),
                 None if d.vector is None else d.vector.tobytes())
                for d in index.scan(name)
            )
            for name in names
        }  # fmt: skip
        for name in names:
            for document in index.scan(name):
                generation = plain(name).removeprefix("speakers_")
                assert document.version == versions[generation, document.id], (name, document.id)
    return found


def assert_equal(one: dict[str, Any], other: dict[str, Any], *, without: Sequence[str] = ()) -> None:
    """Part by part, so that a failure names the part."""
    for part in one.keys() | other.keys():
        if part not in without:
            assert one[part] == other[part], part


def integrity(of: Path | Shell) -> None:
    """The files are whole, and so are the foreign keys. A server looks after both itself."""
    if isinstance(of, Shell) and "SPEAKERDB_DATABASE_URL" in of.more:
        return
    assert query(of, "PRAGMA integrity_check") == [("ok",)]
    assert query(of, "PRAGMA foreign_key_check") == []


def prove(shell: Shell) -> None:
    """Every invariant of the library."""
    with SpeakerDB.open(shell.settings) as db:
        invariants.check(db)
