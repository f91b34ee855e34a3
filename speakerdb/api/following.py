"""A migration's progress for who follows it: one reading for all followers, told at least every `EVERY` seconds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from time import monotonic
from typing import Any

import anyio

from speakerdb.api.problems import Refusal
from speakerdb.reports import MigrationView
from speakerdb.service import SpeakerDB

EVERY = 2.0
"""Seconds between two readings. (The promise is five.)"""


@dataclass(frozen=True, slots=True)
class Follow:
    """One thing that a follower is told. `migration` is None where there has been none."""

    migration: MigrationView | None
    at: int
    """Microseconds since the epoch in UTC, by the database's clock."""


class Following:
    """Reads the newest migration for all who follow it; nobody follows, nothing is read."""

    def __init__(
        self, db: SpeakerDB, call: Callable[..., Coroutine[Any, Any, Any]], stopping: Callable[[], bool]
    ) -> None:
        self._db = db
        self._call = call
        self._stopping = stopping
        self._lock = anyio.Lock()
        self._read_at = float("-inf")
        self._last: Follow | None = None
        self._followers = 0
        self._closed = False

    @property
    def _over(self) -> bool:
        return self._closed or self._stopping()

    def close(self) -> None:
        """Every stream ends at its next step."""
        self._closed = True

    async def steps(self) -> AsyncGenerator[Follow, None]:
        """What is to be told. `Refusal`: `busy` where too many follow, `stopping` once the service closes."""
        if self._followers >= self._db.settings.api.streams:
            raise Refusal("busy", "Too many follow already.", headers={"Retry-After": "10"})
        self._followers += 1
        try:
            while not self._over:
                yield await self.now()
                await self._pause()
            raise Refusal("stopping")
        finally:
            self._followers -= 1

    async def now(self) -> Follow:
        """The newest reading, made now where it is too old."""
        async with self._lock:
            if self._last is None or monotonic() - self._read_at >= EVERY / 2:
                self._last = await self._call(self._read)
                self._read_at = monotonic()
            return self._last

    def _read(self) -> Follow:
        return Follow(self._db.migration(), self._db.catalog.now())

    async def _pause(self) -> None:
        """In small steps, so that a service that ends is not kept."""
        until = monotonic() + EVERY
        while not self._over and (left := until - monotonic()) > 0:
            await anyio.sleep(min(left, 0.2))
