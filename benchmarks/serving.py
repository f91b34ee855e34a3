"""The HTTP API in a process of its own: what it adds to a match, and how it stands thirty-two clients at once.

Both sides of the first comparison ask the same library about the same speakers in turns: `db.match` in this process, and
`POST /v1/matches` over a connection that stays open.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.libraries import GENERATION, add_embedded, null_executor, settings, voices
from benchmarks.report import Row, median, row, say
from speakerdb.reports.access import Role
from speakerdb.service import SpeakerDB

GOAL_ADDED_MS = 5.0
GOAL_MEMORY = 1.1
K = 10
CLIENTS = 32


@dataclass(frozen=True, slots=True)
class ServingSizes:
    """How much is measured."""

    speakers: int
    rounds: int
    asked_by_each: int


@dataclass(slots=True)
class Server:
    """A process that answers, and the secret that opens it."""

    process: subprocess.Popen[str]
    port: int
    secret: str

    def connection(self) -> http.client.HTTPConnection:
        """A connection that stays open."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def match(self, connection: http.client.HTTPConnection, speaker: str) -> int:
        """Ask about a speaker; the answer's status."""
        body = json.dumps({"speaker": speaker, "k": K})
        headers = {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/matches", body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def processor_seconds(self) -> float:
        """What it has used of the processor so far; 0 where the system does not say."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Its resident memory in MiB; 0 where the system does not say."""
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except OSError:
            return 0.0
        return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024


def serving(folder: Path, sizes: ServingSizes) -> list[Row]:
    """One library, one process that serves it."""
    made = voices(sizes.speakers)
    with SpeakerDB.open(settings(folder), executor=null_executor()) as db:
        ids = add_embedded(db, made)
        secret = str(db.access.create("bench", Role.READER).secret)
        with _served(folder, secret) as server:
            return [*_added(db, server, ids, sizes.rounds), *_at_once(server, ids, sizes.asked_by_each)]


def _added(db: SpeakerDB, server: Server, ids: Sequence[str], rounds: int) -> list[Row]:
    """In turns, so that a busy machine disturbs both."""
    direct, over = [], []
    connection = server.connection()
    for speaker in ids[:3]:  # both have read the vectors
        db.match(speaker=speaker, k=K)
        assert server.match(connection, speaker) == 200
    used, here = server.processor_seconds(), 0.0
    for number in np.random.default_rng(3).integers(len(ids), size=rounds).tolist():
        begun, clock = time.perf_counter(), time.process_time()
        db.match(speaker=ids[number], k=K)
        here += time.process_time() - clock
        between = time.perf_counter()
        assert server.match(connection, ids[number]) == 200
        direct.append(between - begun)
        over.append(time.perf_counter() - between)
    connection.close()
    there = (server.processor_seconds() - used) / rounds * 1e3
    ours, theirs = median(over) * 1e3, median(direct) * 1e3
    say(f"match over HTTP at {len(ids)}: {ours:.2f} ms; db.match: {theirs:.2f} ms")
    return [
        row(f"match over HTTP at {len(ids):,} speakers, median", ours, "ms"),
        row(f"db.match beside it, at {len(ids):,}", theirs, "ms"),
        row(f"the API adds to a match at {len(ids):,}, median", ours - theirs, "ms", at_most=GOAL_ADDED_MS),
        row(f"the same at {len(ids):,} by the processor's clock", there - here / rounds * 1e3, "ms"),
    ]


def _at_once(server: Server, ids: Sequence[str], asked_by_each: int) -> list[Row]:
    """All clients ask as fast as they can; once to warm up, once that counts."""
    _clients(server, ids, asked_by_each)
    before = server.memory()
    statuses, seconds, taken = _clients(server, ids, asked_by_each)
    errors = sum(status != 200 for status in statuses)
    grown = server.memory() / before if before else 1.0
    say(f"{CLIENTS} clients: {len(statuses) / taken:.0f} a second, {errors} errors, memory x {grown:.2f}")
    name = f"{CLIENTS} clients over HTTP at {len(ids):,}"
    return [
        row(f"{name}: matches a second", len(statuses) / taken, "1/s"),
        row(f"{name}: median of an answer", median(seconds) * 1e3, "ms"),
        row(f"{name}: slowest answer", max(seconds) * 1e3, "ms"),
        row(f"{name}: errors among {len(statuses):,}", errors, "", at_most=0),
        row(f"{name}: memory after over before", grown, "ratio", at_most=GOAL_MEMORY),
    ]


def _clients(server: Server, ids: Sequence[str], asked_by_each: int) -> tuple[list[int], list[float], float]:
    """Statuses, seconds of each answer, and seconds of all of it."""
    statuses: list[int] = []
    seconds: list[float] = []

    def ask(client: int) -> None:
        connection = server.connection()
        for number in range(asked_by_each):
            begun = time.perf_counter()
            statuses.append(server.match(connection, ids[(client * asked_by_each + number) % len(ids)]))
            seconds.append(time.perf_counter() - begun)
        connection.close()

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(CLIENTS)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses, seconds, time.perf_counter() - begun


@contextmanager
def _served(folder: Path, secret: str) -> Iterator[Server]:
    environment = os.environ | {
        "SPEAKERDB_DATA_DIR": str(folder),
        "SPEAKERDB_SERVING": GENERATION,
        "SPEAKERDB_EXECUTOR": "inline",
        "SPEAKERDB_DISK_FLOOR_MB": "0",
    }
    command = [sys.executable, "-m", "speakerdb.cli.main", "serve", "--no-jobs", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if "serve-began" in line)
            drained = threading.Thread(target=process.stderr.read, daemon=True)
            drained.start()
            port = int(line.partition("url=")[2].split()[0].rpartition(":")[2])
            server = Server(process, port, secret)
            _wait(server)
            yield server
        finally:
            process.terminate()
            process.wait(60)


def _wait(server: Server) -> None:
    """Until it answers."""
    while server.process.poll() is None:
        connection = server.connection()
        try:
            connection.request("GET", "/v1/health")
            connection.getresponse().read()
        except ConnectionError:
            time.sleep(0.05)
        else:
            return
        finally:
            connection.close()
    raise RuntimeError("the server ended before it answered")
