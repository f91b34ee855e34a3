"""What happens to a process at its points, drawn from a seed: it dies, it stops, or what it asked for is lost.

Points are before and after each commit and each write of the index, and before each statement of SQL. They are made by
wrapping, in a process of a test: the product knows nothing of them.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

from speakerdb.catalog.database import Database, Transaction
from speakerdb.errors import DatabaseUnavailable, IndexUnavailable
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.index.opensearch.adapter import OpenSearchIndex

Kind: TypeAlias = Literal["kill", "kill-elsewhere", "stop", "lose"]
"""`kill -9`; the same where nobody can see that it died, as on another machine; SIGSTOP; an error, before or after the deed."""
INDEX_CALLS = ("create", "drop", "update_aliases", "bulk", "purge")


@dataclass(frozen=True)
class Fate:
    """Something that happens at the `at`-th point from now whose name begins with `point`."""

    kind: Kind
    at: int
    point: str = ""


class Fates:
    """The fates of this process, one after another."""

    def __init__(self, drawn: Iterator[Fate], told: Path, locks: Path) -> None:
        """What happened is written into `told`, a line each, before it does. `locks` is where processes show that they live."""
        self._drawn = drawn
        self._told = told
        self._locks = locks
        self._lock = threading.Lock()
        self._next = next(drawn, None)
        self._passed = 0

    def install(self) -> None:
        """From now on this process has points."""
        write = Database.write
        point = self.point

        @contextmanager
        def watched(self: Database) -> Iterator[Transaction]:
            point("before begin", _no_database)
            with write(self) as tx:
                yield tx
                point("before commit", _no_database)
            point("after commit", _no_database)

        Database.write = watched  # type: ignore[method-assign]
        for index in (EmbeddedIndex, OpenSearchIndex):
            for name in INDEX_CALLS:
                setattr(index, name, self._between(name, getattr(index, name)))
        sa.event.listen(sa.Engine, "do_execute", self._statement)

    def _between(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **more: Any) -> Any:
            self.point(f"before {name}", _no_index)
            answer = call(*args, **more)
            self.point(f"after {name}", _no_index)
            return answer

        return watched

    def _statement(self, cursor: Any, _statement: str, _parameters: Any, _context: Any) -> None:
        self.point("statement", lambda: _cut(cursor))

    def point(self, name: str, lose: Callable[[], None]) -> None:
        """This process is at a point; what happens there, if anything."""
        with self._lock:
            fate = self._next
            if fate is None or not name.startswith(fate.point):
                return
            self._passed += 1
            if self._passed < fate.at:
                return
            self._next, self._passed = next(self._drawn, None), 0
        with self._told.open("a", encoding="utf-8") as file:
            file.write(f"{fate.kind} {name}\n")
        if fate.kind == "lose":
            lose()
            return
        if fate.kind == "kill-elsewhere":
            for lock in self._locks.glob(f"{os.getpid()}-*.lock"):
                lock.unlink(missing_ok=True)
        os.kill(os.getpid(), signal.SIGSTOP if fate.kind == "stop" else signal.SIGKILL)


COMMITS = ("", "before commit", "after commit")
POINTS = {
    "client": COMMITS,
    "service": (*COMMITS, "", "before bulk", "after bulk"),
    "operator": (*COMMITS, "before bulk", "after bulk", "before update_aliases", "after update_aliases"),
}
"""The points that a play has often enough to wait for one of them. A statement is passed far more often than all others."""


def by_seed(seed: str, play: str, *, longest: int) -> Iterator[Fate]:
    """Fates without end for one of a play, each within `longest` statements or a tenth of it of what is rarer."""
    chance = random.Random(seed)  # noqa: S311
    kinds: tuple[Kind, ...] = ("kill", "kill-elsewhere", "stop", "lose")
    while True:
        kind, point = chance.choices(kinds, (42, 8, 8, 42))[0], chance.choice(POINTS[play])
        # Who lost something goes on, so it may come sooner.
        most = longest // (10 if point else 1) // (4 if kind == "lose" else 1)
        yield Fate(kind, chance.randint(1, most), point)


def _no_database() -> None:
    raise DatabaseUnavailable("Injected fault: the database did not answer.")


def _no_index() -> None:
    raise IndexUnavailable("Injected fault: the index did not answer.")


def _cut(cursor: Any) -> None:
    """The connection is lost at this statement."""
    if isinstance(cursor, sqlite3.Cursor):
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR, "SQLITE_IOERR"
        raise error
    with suppress(OSError), socket.socket(fileno=os.dup(cursor.connection.fileno())) as connection:
        connection.shutdown(socket.SHUT_RDWR)  # the driver meets it by itself
