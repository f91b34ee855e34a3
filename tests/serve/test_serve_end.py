"""The end of `speakerdb serve` is kept whatever a request waits for, and what it cuts off is told so."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import threading
import time
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from speakerdb.api.door import Door
from speakerdb.cli import live, serve
from speakerdb.scheduler import STOP_SECONDS


class Counted:
    """Stands for the metrics."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def observe(self, method: str, _route: str, status: int, _seconds: float) -> None:
        self.seen.append((method, status))


def test_a_request_that_is_left_behind_keeps_no_process(caplog: pytest.LogCaptureFixture) -> None:
    there = set(threading.enumerate())
    assert serve._threads_end(there, time.monotonic())
    free = threading.Event()
    thread = threading.Thread(target=free.wait, name="waits for a database")
    thread.start()
    long_ago = time.monotonic() - STOP_SECONDS
    assert not serve._threads_end(there, long_ago)
    assert "request-left-behind" in caplog.text
    assert serve._threads_end(there | {thread}, long_ago)  # what was there before is nobody's
    free.set()
    assert serve._threads_end(there, time.monotonic())


@pytest.mark.parametrize("begun", [False, True])
def test_a_request_that_the_server_ends_is_told_so(begun: bool) -> None:
    sent: list[Message] = []
    counted = Counted()

    async def hangs(_scope: Scope, _receive: Receive, send: Send) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def ended() -> None:
        scope = {"type": "http", "method": "POST", "path": "/v1/profiles", "headers": [], "query_string": b""}
        task = asyncio.create_task(Door(hangs, counted)(scope, receive, send))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await task

    if begun:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(ended())
        assert counted.seen == [("POST", 200)]
        return
    asyncio.run(ended())
    problem = json.loads(sent[1]["body"])
    assert (sent[0]["status"], problem["code"]) == (503, "stopping")
    assert dict(sent[0]["headers"])[b"retry-after"] == b"1"
    assert counted.seen == [("POST", 503)]


def test_a_socket_that_was_refused_is_no_error_of_the_server() -> None:
    def record(text: str) -> logging.LogRecord:
        return logging.LogRecord("uvicorn.error", logging.ERROR, __file__, 1, text, None, None)

    assert not serve._is_news(record("ASGI callable returned without completing handshake."))
    assert serve._is_news(record("Exception in ASGI application"))


@pytest.mark.parametrize("handled", [serve._Ending().signals, live.StopSignals])
def test_who_was_started_to_outlive_its_terminal_does(handled: Any) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handled():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with handled():
            assert callable(signal.getsignal(signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, before)
