"""The command hook: a command of the operator's is run for events, for example to send a mail or to write to a chat.

At least once: how far it has come is a row in SQL that moves after the command has ended well, so an event is neither lost
by a crash nor by a service that was down. It may come twice; its number (`id`) tells. One process delivers at a time, under
the lease `hooks`. A command that fails or takes too long is tried again after delays that grow, and passed over after so many
attempts: then the next event's turn comes. Nothing else waits for it.
"""

from __future__ import annotations

import fnmatch
import json
import logging
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any, Protocol

from speakerdb.catalog import cleaning, trail
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.leases import Lease
from speakerdb.errors import HookFailed
from speakerdb.events import KINDS
from speakerdb.reports.seeing import EventFilter
from speakerdb.settings import HookSettings

LEASE_NAME = "hooks"
CURSOR = "hooks.on_event"
BATCH = 50
"""Events that one step delivers at most."""
FAR_BEHIND = 1000
"""From so many events that no command is run for, the row is moved past them."""
POLL_SECONDS = 0.05
SAID_CHARACTERS = 200
FOR_A_PERSON = (
    "migration-finalized",
    "migration-rolled-back",
    "migration-cancelled",
    "migration-retired",
    "rollback-ending",
    "index-ahead",
    "library-restored",
    "lease-broken",
    "repair-refused",
    "quarantined",
    "setting-changed",
)
"""The kinds that the command is run for unless the settings say others."""

logger = logging.getLogger("speakerdb.hooks")


class Counter(Protocol):
    """Who counts the runs."""

    def hook_ran(self, outcome: str) -> None:
        """``delivered``, ``failed``, or ``passed-over``."""


class Hooks:
    """Runs the command for events that have happened."""

    def __init__(self, catalog: Catalog, settings: HookSettings, counter: Counter) -> None:
        self._catalog = catalog
        self._settings = settings
        self._counter = counter
        self._where = EventFilter(kinds=kinds_of(settings))
        self._failed: tuple[int, int] = (0, 0)
        """The event that failed last, and how often."""

    @property
    def wanted(self) -> bool:
        """Whether a command is set."""
        return bool(self._settings.on_event)

    def deliver(self, *, stop: Callable[[], bool] = lambda: False) -> int:
        """Run the command for the events that wait, oldest first; for how many. Begins with those that come after it was
        first set. `LeaseHeld` while another process delivers, `HookFailed` where the command fails."""
        if not self.wanted or not self._waiting():
            return 0
        delivered = 0
        with self._catalog.holding(LEASE_NAME) as lease:
            for event in self._waiting():  # again: another process may have delivered some
                if stop():
                    break
                self._catalog.keep(lease)
                delivered += self._one(lease, event, stop)
        return delivered

    def _waiting(self) -> list[dict[str, Any]]:
        with self._catalog.read() as tx:
            at = cleaning.position(tx, CURSOR)
            newest = trail.newest_number(tx)
            found = [] if at is None else trail.events_after(tx, at, BATCH, self._where)
        if at is None or (not found and newest - at > FAR_BEHIND):
            with self._catalog.job() as tx:
                if cleaning.position(tx, CURSOR) == at:
                    cleaning.move_to(tx, CURSOR, newest, self._catalog.now())
        return found

    def _one(self, lease: Lease, event: dict[str, Any], stop: Callable[[], bool]) -> int:
        """Deliver one event. Where the attempts are used up it is passed over; until then the failure is raised."""
        number = event["id"]
        try:
            if not self._run(lease, event, stop):
                return 0
        except HookFailed:
            self._failed = (number, 1 + (self._failed[1] if self._failed[0] == number else 0))
            self._counter.hook_ran("failed")
            if self._failed[1] < self._settings.attempts:
                raise
            self._counter.hook_ran("passed-over")
            logger.warning("hook-passed-over number=%d kind=%s attempts=%d", number, event["kind"], self._failed[1])
            self._move(lease, number)
            return 0
        self._counter.hook_ran("delivered")
        self._move(lease, number)
        return 1

    def _move(self, lease: Lease, number: int) -> None:
        with self._catalog.job(lease) as tx:
            cleaning.move_to(tx, CURSOR, number, self._catalog.now())

    def _run(self, lease: Lease, event: dict[str, Any], stop: Callable[[], bool]) -> bool:
        """Run the command for one event; False where it was stopped, because this process is to end. The lease is renewed
        meanwhile: a command may take longer than it lasts."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
            given.write(json.dumps(event, ensure_ascii=False).encode() + b"\n")
            given.seek(0)
            try:
                process = subprocess.Popen(  # noqa: S603  the operator's own command, and no shell
                    self._settings.on_event, stdin=given, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
                )
            except OSError as error:
                raise HookFailed(
                    f"The command {self._settings.on_event[0]!r} cannot be started: {error.strerror}."
                ) from error
            until = time.monotonic() + self._settings.timeout_seconds
            try:
                while process.poll() is None:
                    if stop():
                        return False
                    if time.monotonic() >= until:
                        raise HookFailed(
                            f"The command took more than {self._settings.timeout_seconds:g} s and was ended."
                        )
                    self._catalog.keep(lease)
                    time.sleep(POLL_SECONDS)
            finally:
                _end(process)
            if process.returncode:
                said.seek(max(0, said.tell() - SAID_CHARACTERS))
                words = " ".join(said.read().decode(errors="replace").split())
                raise HookFailed(f"The command ended with exit status {process.returncode}. {words}".rstrip())
        return True


def kinds_of(settings: HookSettings) -> tuple[str, ...]:
    """The kinds of events that the command is run for."""
    if not settings.kinds:
        return FOR_A_PERSON
    return tuple(kind for kind in KINDS if any(fnmatch.fnmatchcase(kind, pattern) for pattern in settings.kinds))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command that still runs, with all that it started. One that has become another user (sudo) cannot be ended, and is
    not waited for either: it would keep every event, and the end of this process, as long as it hangs."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except PermissionError:
            logger.warning("hook-left-behind command_pid=%d", process.pid)
            return
        except ProcessLookupError:
            pass  # it has ended just now
        process.wait()
