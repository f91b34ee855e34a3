"""`speakerdb serve`: the HTTP API and the jobs, until it is told to end."""

from __future__ import annotations

import contextvars
import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speakerdb import __version__
from speakerdb.cli.live import hangs_up_unheard
from speakerdb.cli.output import clean
from speakerdb.cli.session import JsonFlag, Session
from speakerdb.errors import ConfigurationError, InvalidInput, SpeakerDBError

if TYPE_CHECKING:
    import uvicorn

    from speakerdb.scheduler import Service
    from speakerdb.service import SpeakerDB

BACKLOG = 2048
DRAIN_SECONDS = 4
"""For so long requests that run may go on once it is told to end, or the opening of the library."""
KEEP_ALIVE_SECONDS = 15
LONGEST_DELAY_SECONDS = 15.0
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP")

logger = logging.getLogger("speakerdb.serve")
Say = Callable[[str], None]
"""Tells a person something."""


class LogFormat(StrEnum):
    """How a log line is written."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Ended:
    """How the service came to its end."""

    signal: str
    finished: bool
    """Whether everything was finished or given back in time."""
    seconds: float


def serve(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Address to listen on (`api.host`).")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, metavar="N", help="Port to listen on (`api.port`); 0: any.")
    ] = None,
    no_jobs: Annotated[
        bool, typer.Option("--no-jobs", help="Answer only: extract, repair and clean up nothing.")
    ] = False,
    no_api: Annotated[bool, typer.Option("--no-api", help="Work only: listen nowhere.")] = False,
    log: Annotated[LogFormat, typer.Option(help="How log lines are written to standard error.")] = LogFormat.TEXT,
    as_json: JsonFlag = False,
) -> None:
    """Run as a service: answer over HTTP, extract what is queued, keep every index current, repair, clean up.

    It runs until it is told to end (Ctrl-C or SIGTERM): within ten seconds it finishes what it does or gives it back.
    A second signal ends it at once, which loses nothing either.
    """
    session = Session.of(ctx, as_json)
    if no_jobs and no_api:
        raise InvalidInput("Without jobs and without the API nothing is left to do.", hint="Leave one of the two out.")
    from speakerdb.cli import logs

    logs.begin(as_json=log is LogFormat.JSON)
    # Lines for a person would stand between lines for a program, which say the same.
    say: Say = session.note if log is LogFormat.TEXT else lambda _text: None
    began = time.monotonic()
    ending = _Ending()
    with ending.signals():
        db = _opened(session, say, ending)
        if db is None:
            raise typer.Exit(ending.exit_code)
        with db:
            finished = _run(db, say, ending, jobs=not no_jobs, api=not no_api, host=host, port=port)
            if finished is None:
                raise SpeakerDBError("The server ended by itself.", hint="The lines of its log say why.")
            told = Ended(signal.Signals(ending.signum or 0).name, finished, round(time.monotonic() - began, 1))
            session.result(told, lambda _console, _told: None)
            if not finished:
                # A thread is in the middle of something that cannot be ended. The system takes locks and workers from a
                # process that is gone, so others go on at once.
                session.end_log(ending.exit_code)
                _leave(ending.exit_code)
    raise typer.Exit(ending.exit_code)


class _Ending:
    """Turns signals into the end of the service: the first drains, the second ends at once."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self.told_at = 0.0
        """When it was told to end; seconds of a clock that only goes forward."""
        self.service: Service | None = None
        self.server: uvicorn.Server | None = None

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as of any program that a signal ended."""
        return 128 + (self.signum or 0)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """In this block signals are ours."""
        before: dict[int, Any] = {}
        for name in SIGNALS:
            if (number := getattr(signal, name, None)) is not None and not hangs_up_unheard(number):
                before[number] = signal.signal(number, self._on_signal)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.signum is not None:
            _leave(128 + number)
        self.signum, self.told_at = number, time.monotonic()
        if self.service is not None:
            self.service.begin_stop()
        if self.server is not None:
            self.server.should_exit = True


def _leave(code: int) -> None:
    """End this process now. Its workers end with it, and so do its leases on this machine."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _opened(session: Session, say: Say, ending: _Ending) -> SpeakerDB | None:
    """The library, once its database and its index answer; None where it was told to end before. What does not go away by
    itself is raised."""
    delay = 1.0
    while ending.signum is None:
        try:
            db = session.open(by=lambda act: _heard(session, ending, act))
        except SpeakerDBError as error:
            if not error.transient:
                raise
            logger.warning("waits-to-start code=%s", error.code)
            say(f"{error.message} It is tried again in {delay:.0f} s.")
        else:
            if ending.signum is None:
                return db
            db.close()
        until = time.monotonic() + delay
        while ending.signum is None and time.monotonic() < until:
            time.sleep(0.1)
        delay = min(LONGEST_DELAY_SECONDS, 2 * delay)
    return None


def _heard(session: Session, ending: _Ending, act: Callable[[], SpeakerDB]) -> SpeakerDB:
    """Open the library in a thread of its own, so that a signal is heard while a server does not answer. What is not opened
    soon after it is left: this process ends, as it would when it is killed."""
    done: Future[SpeakerDB] = Future()

    def run() -> None:
        try:
            done.set_result(act())
        except BaseException as error:  # noqa: BLE001  raised where it is waited for
            done.set_exception(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="speakerdb-opening", daemon=True)
    thread.start()
    while thread.is_alive() and (ending.signum is None or time.monotonic() < ending.told_at + DRAIN_SECONDS):
        thread.join(0.1)
    if not done.done():
        logger.warning("opening-left-behind")
        session.end_log(ending.exit_code)
        _leave(ending.exit_code)
    return done.result()


def _run(
    db: SpeakerDB, say: Say, ending: _Ending, *, jobs: bool, api: bool, host: str | None, port: int | None
) -> bool | None:
    """Serve until it is told to end; whether all ended in time, None where nobody told it to."""
    from speakerdb.scheduler import Service

    there = set(threading.enumerate())
    service = Service(db, jobs=jobs)
    listener = _listen(db, say, host, port) if api else None
    ending.service = service
    if ending.signum is not None:
        service.begin_stop()
    _introduce(db, say, jobs=jobs, listener=listener)
    service.start()
    try:
        if listener is None:
            while ending.signum is None:
                time.sleep(0.1)
        else:
            _answer(db, service, listener, ending)
        return None if ending.signum is None else service.stop() and _threads_end(there, ending.told_at)
    finally:
        service.stop()


def _threads_end(there: set[threading.Thread], told_at: float) -> bool:
    """Whether every thread that was begun since has ended in time. A request that waits for a database goes on in its thread
    when its client has long been sent away, and would keep the process."""
    from speakerdb.scheduler import STOP_SECONDS

    until = told_at + STOP_SECONDS
    for thread in set(threading.enumerate()) - there:
        if not thread.daemon:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                logger.warning("request-left-behind thread=%s", thread.name)
                return False
    return True


def _is_news(record: logging.LogRecord) -> bool:
    """Not what uvicorn says of each WebSocket that was refused: that is a request, and has its line in the log."""
    return record.getMessage() != "ASGI callable returned without completing handshake."


def _answer(db: SpeakerDB, service: Service, listener: socket.socket, ending: _Ending) -> None:
    """Answer requests until it is told to end; those that run by then are answered."""
    import uvicorn

    from speakerdb.api.app import create_app

    class Server(uvicorn.Server):
        """Its signals are ours."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    config = uvicorn.Config(
        create_app(db, service=service), log_config=None, access_log=False, server_header=False, proxy_headers=False,
        ws="websockets-sansio", timeout_graceful_shutdown=DRAIN_SECONDS, timeout_keep_alive=KEEP_ALIVE_SECONDS,
        backlog=BACKLOG,
    )  # fmt: skip
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    ending.server = server = Server(config)
    server.should_exit = ending.signum is not None
    try:
        server.run(sockets=[listener])
    except SystemExit as error:
        raise SpeakerDBError("The HTTP server did not start.", hint="The lines of its log say why.") from error


def _listen(db: SpeakerDB, say: Say, host: str | None, port: int | None) -> socket.socket:
    """The socket that it listens on. Without tokens nobody but this machine may ask."""
    from speakerdb.access import is_loopback

    wanted = host or db.settings.api.host
    if not is_loopback(wanted) and not db.access.any_tokens():
        say(
            f"There is no token, so it listens on this machine only and not on {wanted}. "
            "Make one with `speakerdb token create`, and start it again."
        )
        logger.warning("loopback-only asked=%s", wanted)
        wanted = "::1" if ":" in wanted else "127.0.0.1"
    number = db.settings.api.port if port is None else port
    try:
        family = socket.getaddrinfo(wanted, number, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((wanted, number), family=family, backlog=BACKLOG)
        # What it accepts inherits this. asyncio sets it only where a socket says that it is TCP, which this one does not;
        # without it the end of an answer waits 40 ms for the other side's acknowledgement of its beginning.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise ConfigurationError(
            f"It cannot listen on {wanted}, port {number}: {error.strerror}.",
            hint="Another process has the port: end it, or give another one with --port." if taken
            else "Give an address of this machine with --host.",
        ) from error  # fmt: skip
    return listener


def _introduce(db: SpeakerDB, say: Say, *, jobs: bool, listener: socket.socket | None) -> None:
    """What it does and where it listens."""
    where, shown = "-", "nowhere: it only works"
    if listener is not None:
        address, number = listener.getsockname()[:2]
        where = f"http://[{address}]:{number}" if ":" in address else f"http://{address}:{number}"
        shown = f"{where}/v1"
        if not db.access.any_tokens():
            shown += " (no token: for everybody on this machine, and for nobody else)"
    logger.info("serve-began pid=%d version=%s jobs=%s url=%s", os.getpid(), __version__, jobs, where)
    does = "extracts, keeps indices current, repairs and cleans up" if jobs else "only answers"
    say(f"speakerdb {__version__} on {clean(db.catalog.database.url)}: {does}. Stop it with Ctrl-C.")
    say(f"It listens on {shown}." if listener is not None else f"It listens {shown}.")
