"""A server on loopback that answers what a test says, and keeps what it was asked."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from speakerdb.errors import SpeakerDBError
from speakerdb.index.opensearch.adapter import OpenSearchIndex
from speakerdb.settings import OpenSearchSettings


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What is said to one request. `cut` bytes of the body at most are sent; None closes the connection unsaid."""

    status: int | None = 200
    body: Any = field(default_factory=dict)
    kind: str = "application/json"
    cut: int | None = None
    hang: bool = False

    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def error(status: int, kind: str, reason: str = "why", **more: Any) -> Answer:
    """An error answer of OpenSearch."""
    told = {"type": kind, "reason": reason, **more}
    return Answer(status, {"error": {"root_cause": [told], **told}, "status": status})


GREETING = Answer(200, {"version": {"distribution": "opensearch", "number": "3.6.0"}})


class Scripted:
    """Answers in turn, the last one again and again; the question what it is, with `greeting`."""

    def __init__(self, *answers: Answer | Callable[[Asked], Answer], greeting: Answer = GREETING) -> None:
        self.greeting = greeting
        self.asked: list[Asked] = []
        self.answers = list(answers)
        self.url = ""
        self.released = threading.Event()

    def next(self, asked: Asked) -> Answer:
        if asked.path == "/":
            return self.greeting
        self.asked.append(asked)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return found(asked) if callable(found) else found


@contextmanager
def serving(
    *answers: Answer | Callable[[Asked], Answer], tls: ssl.SSLContext | None = None, greeting: Answer = GREETING
) -> Iterator[Scripted]:
    """A server for the length of a `with`; behind TLS with a server's context."""
    script = Scripted(*answers, greeting=greeting)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or the second answer of a connection is 40 ms late

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            given = script.next(Asked(self.command, self.path, headers, body))
            if given.hang:
                script.released.wait(30)
            if given.status is None or given.hang:
                self.close_connection = True
                return
            data = given.encoded()
            self.send_response(given.status)
            self.send_header("content-type", given.kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: given.cut])
            self.close_connection = given.cut is not None

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def handle(self) -> None:
            with suppress(ssl.SSLError, ConnectionError):  # a client that does not trust us hangs up
                super().handle()

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    script.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}"
    try:
        yield script
    finally:
        script.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def opened(script: Scripted, **more: Any) -> OpenSearchIndex:
    options = {"prefix": "p-", "timeout_seconds": 5.0, "retry_seconds": 5.0} | more
    return OpenSearchIndex(OpenSearchSettings(hosts=(script.url,), **options))


def raised(call: Callable[[OpenSearchIndex], object], *answers: Any, **more: Any) -> tuple[SpeakerDBError, Scripted]:
    """The error of a call that is answered so, and what was asked."""
    with serving(*answers) as script:
        index = opened(script, **more)
        with pytest.raises(SpeakerDBError) as found:
            call(index)
        index.close()
    assert type(found.value.__cause__) is not None
    return found.value, script
