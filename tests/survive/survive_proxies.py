"""What stands between the application and a server, on loopback, and does to what passes what a test says."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias
from urllib.parse import urlsplit

PATIENCE = 60.0
"""Seconds after which what should have happened counts as hung. Nothing is measured with it."""
COMMIT = b"COMMIT\0"
"""The whole of a statement; a transaction that begins says READ COMMITTED."""
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"})


@dataclass(frozen=True)
class Answer:
    """What a client gets."""

    status: int
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


@dataclass
class Exchange:
    """One request, and the way to the server."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    server: str

    def forward(self) -> Answer:
        """Sends it to the server; the server's answer. `OSError` or `HTTPException` where none comes."""
        with self.sent() as connection:
            got = connection.getresponse()
            kept = {name.lower(): value for name, value in got.getheaders() if name.lower() not in HOP_BY_HOP}
            return Answer(got.status, got.read(), kept)

    def sent(self, *, share: float = 1.0) -> _Closing:
        """Sends this share of its body, and waits for nothing. Close it."""
        connection = http.client.HTTPConnection(urlsplit(self.server).netloc, timeout=PATIENCE)
        connection.putrequest(self.method, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in HOP_BY_HOP:
                connection.putheader(name, value)
        connection.putheader("content-length", str(len(self.body)))
        connection.endheaders()
        connection.send(self.body[: int(len(self.body) * share)])
        return _Closing(connection)


class _Closing:
    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection

    def __enter__(self) -> http.client.HTTPConnection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


Plan: TypeAlias = Callable[[Exchange], Answer | None]
"""What becomes of a request: the answer that its client gets; with None the connection is cut without one."""


def passes(exchange: Exchange) -> Answer | None:
    """As if nothing stood in between."""
    return exchange.forward()


class HttpProxy:
    """Stands before an OpenSearch. `plan` may be replaced at any time. With `tls` it speaks https to its clients."""

    def __init__(self, server: str, plan: Plan = passes, *, tls: ssl.SSLContext | None = None) -> None:
        self.plan = plan
        self.seen: list[str] = []
        """Method and path of every request that came."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                proxy.seen.append(f"{self.command} {self.path}")
                answer = None
                with suppress(OSError, http.client.HTTPException):
                    answer = proxy.plan(Exchange(self.command, self.path, dict(self.headers.items()), body, server))
                if answer is None:
                    self.close_connection = True
                    with suppress(OSError):
                        self.connection.shutdown(socket.SHUT_RDWR)
                    return
                with suppress(OSError):  # the client gave up
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(answer.body)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(answer.body)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _any

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        class Listener(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                """A client that goes away, or speaks another language than we do, is no news."""

            def finish_request(self, request: Any, address: Any) -> None:
                if tls is None:
                    super().finish_request(request, address)
                    return
                # Here, in the connection's own thread: a handshake may fail or never come.
                with tls.wrap_socket(request, server_side=True) as secured:
                    super().finish_request(secured, address)

        self._listener = Listener(("127.0.0.1", 0), Handler)
        self._port = self._listener.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._port}"
        threading.Thread(target=self._listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Nothing listens any more."""
        self._listener.shutdown()
        self._listener.server_close()


class Held:
    """A plan that keeps the first request that `chosen` says yes to and lets it go on later. Its client waits for an
    answer for so many seconds at most, then the connection is cut."""

    def __init__(self, chosen: Callable[[Exchange], bool], *, seconds: float = 0.0) -> None:
        self._chosen = chosen
        self._seconds = seconds
        self._kept: Exchange | None = None
        self._done = threading.Event()

    def __call__(self, exchange: Exchange) -> Answer | None:
        if self._kept is not None or not self._chosen(exchange):
            return exchange.forward()
        self._kept = exchange
        self._done.wait(self._seconds)
        return None

    @property
    def holds(self) -> bool:
        """Whether a request is held."""
        return self._kept is not None and not self._done.is_set()

    def let_go(self) -> Answer:
        """The request goes on to the server now; what the server says to it."""
        assert self._kept is not None, "nothing was held: the test does not test what it says"
        answer = self._kept.forward()
        self._done.set()
        return answer


def is_commit(piece: bytes, said: bytes) -> bool:
    """Whether a client asks for the commit of a transaction that writes."""
    return COMMIT in piece and b"pg_advisory_xact_lock" in said


class TcpProxy:
    """Stands before a PostgreSQL. For each piece that a client sends, `plan` says what becomes of it, given the piece and
    what this client had said since its last COMMIT."""

    PASS, CUT_BEFORE, CUT_AFTER = "pass", "cut-before", "cut-after"
    """Let it through; cut the connection and let it not through; let it through, and cut when the answer comes."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self.plan: Callable[[bytes, bytes], str] = lambda *_: self.PASS
        self.cuts = 0
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_commit(self, how: str, *, nth: int) -> None:
        """The `nth` COMMIT from now of a transaction that writes meets `how`; all else passes."""
        left = nth

        def plan(piece: bytes, said: bytes) -> str:
            nonlocal left
            left -= is_commit(piece, said)
            return how if left == 0 and is_commit(piece, said) else self.PASS

        self.plan = plan

    def calm(self) -> None:
        """Everything passes."""
        self.plan = lambda *_: self.PASS

    def cut_all(self) -> None:
        """Cuts every connection that is open."""
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Nothing listens any more, nothing is open."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            self._open |= {client, server}
            dead = threading.Event()
            for pump in (self._to_server, self._to_client):
                threading.Thread(target=pump, args=(client, server, dead), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, dead: threading.Event) -> None:
        said = b""
        with suppress(OSError):
            while piece := client.recv(1 << 16):
                what = self.plan(piece, said)
                said = b"" if COMMIT in piece else said + piece
                if what != self.PASS:
                    self.cuts += 1
                    dead.set()
                if what == self.CUT_BEFORE:
                    break
                server.sendall(piece)
                if what == self.CUT_AFTER:
                    return  # the answer cuts it
        self._cut(client, server)

    def _to_client(self, client: socket.socket, server: socket.socket, dead: threading.Event) -> None:
        with suppress(OSError):
            while piece := server.recv(1 << 16):
                if dead.is_set():
                    break
                client.sendall(piece)
        self._cut(client, server)

    def _cut(self, *both: socket.socket) -> None:
        for each in both:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
            self._open.discard(each)
