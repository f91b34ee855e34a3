"""What every request has, whatever becomes of it: an id, headers that a browser obeys, a line in the log, and an end."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from dataclasses import dataclass
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from speakerdb.api.problems import Refusal, internal, response_of
from speakerdb.core.redaction import places
from speakerdb.metrics import Metrics

logger = logging.getLogger("speakerdb.api")

NOTE = "speakerdb.note"
SLASH = "\0"
"""Stands in a path for a slash that was sent as %2F: it belongs to an id. A NUL itself is refused."""
GONE = 499
"""What the log says of a request whose client left before the answer."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods that the log and the metrics name. A client may make up any other word: all of them are `other`."""
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


@dataclass(slots=True)
class Note:
    """What is to be said of a request in the log."""

    id: str
    method: str
    address: str = "-"
    token_id: str = "-"  # noqa: S105  no secret: its name
    code: str = "-"
    status: int = 0


class Door:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        note = Note(_request_id(scope), _method(scope))
        scope = {**scope, NOTE: note}
        if note.method == "HEAD":
            scope["method"] = "GET"  # the same answer; the server, whose scope says HEAD, sends no body
        begun = time.monotonic()

        async def answered(message: Message) -> None:
            if message["type"] == "websocket.accept":
                note.status = 101
            elif message["type"] in ("http.response.start", "websocket.http.response.start"):
                note.status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS, (b"x-request-id", note.id.encode())]
            await send(message)

        try:
            if (flaw := _flawed(scope)) is not None:
                await refuse(Refusal("bad-request", flaw), scope, receive, answered)
            else:
                _keep_slashes(scope)
                await self.app(scope, receive, answered)
        except asyncio.CancelledError:
            if note.status:
                raise
            await refuse(Refusal("stopping"), scope, receive, answered)  # only a server that ends cancels a request
        except Exception as error:
            if note.status:
                raise  # the answer had begun: the server cuts it off
            _log_unexpected(note, scope, error)
            await refuse(error, scope, receive, answered)
        finally:
            self._tell(note, scope, time.monotonic() - begun)

    def _tell(self, note: Note, scope: Scope, seconds: float) -> None:
        _log(note, scope, seconds)
        self._metrics.observe(note.method, _route(scope), note.status or GONE, seconds)


async def refuse(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the problem of an error."""
    note: Note = scope[NOTE]
    response = response_of(error, note.id)
    note.code = getattr(error, "code", internal().code)
    if scope["type"] == "websocket":
        # Before it is accepted, a refusal is an HTTP answer.
        await send(
            {"type": "websocket.http.response.start", "status": response.status_code, "headers": response.raw_headers}
        )
        await send({"type": "websocket.http.response.body", "body": bytes(response.body)})
        return
    await response(scope, receive, send)


def note_of(scope: Scope) -> Note:
    """What is to be said of this request."""
    note: Note = scope[NOTE]
    return note


def log_unexpected(scope: Scope, error: Exception) -> None:
    """Where in our own code an error arose that nobody foresaw. Its text may hold anything, so it is not written."""
    _log_unexpected(scope[NOTE], scope, error)


def _log_unexpected(note: Note, scope: Scope, error: Exception) -> None:
    logger.error(
        "unexpected-error request=%s route=%s error=%s at=%s",
        note.id,
        _route(scope),
        type(error).__name__,
        places(error),
    )


def _log(note: Note, scope: Scope, seconds: float) -> None:
    logger.info(
        "request-ended request=%s method=%s route=%s status=%d code=%s seconds=%.3f client=%s token=%s",
        note.id, note.method, _route(scope), note.status or GONE, note.code, seconds, note.address,
        note.token_id,
    )  # fmt: skip


def _route(scope: Scope) -> str:
    """The route's template: a path as it was asked for may hold what is a person's."""
    return str(getattr(scope.get("route"), "path", "-"))


def _method(scope: Scope) -> str:
    if scope["type"] == "websocket":
        return "WS"
    return str(scope["method"]) if scope["method"] in METHODS else "other"


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
    return given if _ID.fullmatch(given) else secrets.token_hex(8)


def _flawed(scope: Scope) -> str | None:
    """What makes an address unreadable; None where nothing does."""
    if b"%00" in scope.get("query_string", b"") or "\0" in scope["path"]:
        return "The address holds a NUL."
    return None


def _keep_slashes(scope: Scope) -> None:
    raw: bytes = scope.get("raw_path") or b""
    if b"%2f" in raw.lower():
        segments = raw.partition(b"?")[0].decode("ascii", "replace").split("/")
        scope["path"] = "/".join(unquote(segment).replace("/", SLASH) for segment in segments)
