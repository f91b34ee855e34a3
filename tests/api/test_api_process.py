"""The API in a process of its own, behind a real server: many at once, broken lines, slow ones, and its end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from api_kit import TURNS
from synthetic_voices import make_recording, write_settings
from websockets.sync.client import connect

from speakerdb.reports.access import Role
from speakerdb.service import SpeakerDB
from speakerdb.settings import load_settings

CLIENTS = 32
ASKED_BY_EACH = 15


@dataclass
class Served:
    """A process that answers."""

    port: int
    process: subprocess.Popen[str]
    folder: Path
    secret: str

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = self.connection()
        try:
            return self.on(connection, method, path, body, **headers)
        finally:
            connection.close()

    def on(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"} | headers
        connection.request(method, path, sent, given)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def memory(self) -> int:
        """Resident memory in KiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    media = folder / "media"
    media.mkdir()
    write_settings(folder / "speakerdb.toml", batch=16)
    environment = os.environ | {
        "SPEAKERDB_CONFIG": str(folder / "speakerdb.toml"),
        "SPEAKERDB_DATA_DIR": str(folder / "library"),
        "SPEAKERDB_MEDIA_ROOTS": str(media),
        "SPEAKERDB_API__BODY_SECONDS": "2",
        "SPEAKERDB_API__UPLOAD_MB": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            if name.startswith("SPEAKERDB_"):
                patch.setenv(name, value)
        with SpeakerDB.open(load_settings()) as db:
            for number in range(3):
                made = make_recording(media, f"talk{number}", [("A", number, 2.0), ("B", number + 1, 2.0)])
                db.add(made.path, made.turns, recording_id=f"talk{number}")
            db.work()
            secret = str(db.access.create("tester", Role.ADMIN).secret)
    command = [sys.executable, "-m", "speakerdb.cli.main", "serve", "--no-jobs", "--port", "0", "--log", "json"]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            url = next(told["url"] for line in process.stderr if "serve-began" in line for told in [_fields(line)])
            drain = threading.Thread(target=process.stderr.read, daemon=True)
            drain.start()
            server = Served(int(url.rpartition(":")[2]), process, folder, secret)
            _wait_until_it_answers(server)
            yield server
            _end(server)
        finally:
            process.kill()


def _end(server: Served) -> None:
    """It is told to end while somebody follows: the stream ends, and so does the process, by itself."""
    connection = server.connection()
    connection.request("GET", "/v1/migrations/current/events", headers={"Authorization": f"Bearer {server.secret}"})
    answer = connection.getresponse()
    assert answer.readline() == b"event: progress\n"
    server.process.send_signal(signal.SIGTERM)
    answer.read()
    connection.close()
    assert server.process.wait(30) == 128 + signal.SIGTERM


def _fields(line: str) -> dict[str, str]:
    told = json.loads(line)
    text = str(told.get("message") or told.get("event") or line)
    found = dict(part.split("=", 1) for part in text.split() if "=" in part)
    return found | {name: str(value) for name, value in told.items()}


def _wait_until_it_answers(server: Served) -> None:
    while True:
        try:
            assert server.ask("GET", "/v1/health")[0] == 200
        except ConnectionError:
            assert server.process.poll() is None
        else:
            return


def test_thirty_two_at_once_meet_no_error_and_memory_is_flat(served: Served) -> None:
    speakers = [each["id"] for each in served.ask("GET", "/v1/speakers")[1]["items"]]
    answers: list[int] = []

    def round_of_questions() -> None:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def ask(client: int) -> None:
        connection = served.connection()
        for number in range(ASKED_BY_EACH):
            body = {"speaker": speakers[(client + number) % len(speakers)], "k": 3}
            answers.append(served.on(connection, "POST", "/v1/matches", body)[0])
        connection.close()

    round_of_questions()
    before = served.memory()
    round_of_questions()
    assert set(answers) == {200}
    assert len(answers) == 2 * CLIENTS * ASKED_BY_EACH
    assert served.memory() < before + 32 * 1024


def test_an_upload_whose_line_breaks_leaves_nothing(served: Served) -> None:
    head = (
        f"PUT /v1/uploads/broken.wav HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {served.secret}\r\n"
        "Content-Length: 100000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as line:
        line.sendall(head.encode() + b"x" * 5000)
    uploads = served.folder / "library" / "uploads"
    while uploads.is_dir() and list(uploads.iterdir()):
        assert served.process.poll() is None
    assert served.ask("GET", "/v1/uploads")[1]["items"] == []


def test_a_slow_body_gets_its_answer_and_the_line_is_cut(served: Served) -> None:
    head = (
        f"POST /v1/profiles HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {served.secret}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    )
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as line:
        line.sendall(head.encode())
        told = b"".join(iter(lambda: line.recv(65536), b""))
    assert told.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"slow-body"' in told


def test_head_leaves_the_line_as_it_was(served: Served) -> None:
    connection = served.connection()
    for _ in range(2):
        connection.request("HEAD", "/v1/health")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"")
        assert int(answer.headers["content-length"]) > 0
        assert served.on(connection, "GET", "/v1/health")[0] == 200
    connection.close()


def test_garbage_on_the_line_hurts_nobody(served: Served) -> None:
    for garbage in (
        b"\x00" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 100_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
    ):
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as line:
            line.sendall(garbage)
            line.shutdown(socket.SHUT_WR)
            while line.recv(65536):
                pass
    assert served.ask("GET", "/v1/health")[0] == 200


def test_ids_with_slashes_and_percents_arrive_as_they_were_meant(served: Served) -> None:
    for given in ("2024/05/talk", "a%2Fb", "100 %", "../up", "ä/ö"):
        body = {
            "path": str(served.folder / "media" / "talk0.wav"),
            "id": given,
            "turns": TURNS,
            "library": quote(given),
        }
        assert served.ask("POST", "/v1/recordings", body)[0] == 201, given
        status, found = served.ask("GET", f"/v1/recordings/{quote(given, safe='')}")
        assert (status, found["id"]) == (200, given)
        assert served.ask("DELETE", f"/v1/recordings/{quote(given, safe='')}")[0] == 200


def test_progress_comes_by_both_ways(served: Served) -> None:
    connection = served.connection()
    connection.request("GET", "/v1/migrations/current/events", headers={"Authorization": f"Bearer {served.secret}"})
    answer = connection.getresponse()
    assert answer.getheader("Content-Type", "").startswith("text/event-stream")
    lines = [answer.readline() for _ in range(8)]  # two events: what comes after the first comes by itself
    assert [line for line in lines if line.startswith(b"event:")] == [b"event: progress\n"] * 2
    connection.close()
    headers = {"Authorization": f"Bearer {served.secret}"}
    with connect(f"ws://127.0.0.1:{served.port}/v1/migrations/current/socket", additional_headers=headers) as socket_:
        assert [json.loads(socket_.recv())["migration"] for _ in range(2)] == [None, None]
