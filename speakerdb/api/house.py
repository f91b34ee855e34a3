"""What all routes share: the library, turns that are bounded in number and in time, and what runs longer than a request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import anyio
import anyio.to_thread
from starlette.requests import HTTPConnection

from speakerdb.api import callers
from speakerdb.api.callers import Caller
from speakerdb.api.door import note_of
from speakerdb.api.following import Following
from speakerdb.api.operations import Operations
from speakerdb.api.problems import Refusal
from speakerdb.api.scrapers import Remembered
from speakerdb.catalog.journal import Actor
from speakerdb.opener import Opener
from speakerdb.service import SpeakerDB
from speakerdb.settings import ApiSettings

T = TypeVar("T")

SCRAPES = 4
"""So many may read the metrics at once: a few of Prometheus, and a person."""


class Readiness(Protocol):
    """The service process, as far as the API asks it."""

    @property
    def stopping(self) -> bool:
        """Whether it was told to end."""
        ...

    def ready(self) -> tuple[bool, list[str]]:
        """Whether it can answer questions, and what stands in the way or needs a person."""
        ...


class Turns:
    """Turns of which there are so many at once. Those who wait for one are bounded too, in number and in time."""

    def __init__(self, number: int, settings: ApiSettings) -> None:
        self._free = anyio.Semaphore(number)
        self._settings = settings
        self.waiting = 0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """A turn. `Refusal` (`busy`) where too many wait already, or it takes too long."""
        if self.waiting >= self._settings.waiting:
            raise Refusal("busy")
        self.waiting += 1
        try:
            with anyio.fail_after(self._settings.waiting_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise Refusal("busy") from None
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            self._free.release()


class House:
    """One library behind HTTP."""

    def __init__(self, db: SpeakerDB, service: Readiness | None) -> None:
        self.db = db
        self.service = service
        self.settings = db.settings.api
        self.operations = Operations()
        self.following = Following(db, self.call, lambda: service is not None and service.stopping)
        self.opener: Opener = db.ingest.opener()
        self.turns = Turns(self.settings.threads, self.settings)
        self.models = Turns(1, self.settings)
        """One clip at a time: a model takes every core by itself."""
        self.scrapes = Turns(SCRAPES, self.settings)
        """Of the metrics alone: they are asked for when every other turn waits for what is away."""
        self.remembered = Remembered(db.access)

    def close(self) -> None:
        """Nothing is asked any more."""
        self.following.close()
        self.opener.close()

    async def call(
        self, function: Callable[..., T], *args: Any, abandon: bool = False, turns: Turns | None = None
    ) -> T:
        """Run what blocks in a thread, in a turn. The context (on whose behalf) goes with it. With `abandon` a timeout does
        not wait for the thread: its answer is nobody's then."""
        async with (turns or self.turns).one():
            return await anyio.to_thread.run_sync(function, *args, abandon_on_cancel=abandon)

    async def caller(self, connection: HTTPConnection, *, abandon: bool = False) -> Caller:
        """Who asks; and the log knows it."""
        return await self._told(connection, self.db.access, self.turns, abandon=abandon)

    async def scraper(self, connection: HTTPConnection) -> Caller:
        """Who asks for the metrics, also while the database says nothing."""
        return await self._told(connection, self.remembered, self.scrapes, abandon=False)

    async def _told(self, connection: HTTPConnection, access: callers.Tokens, turns: Turns, *, abandon: bool) -> Caller:
        note = note_of(connection.scope)
        note.address = callers.client_address(connection, self.settings.trusted_proxies)
        proxies, origins = self.settings.trusted_proxies, self.settings.cors_origins
        found = await self.call(
            callers.authenticate, access, connection, proxies, origins, abandon=abandon, turns=turns
        )
        note.token_id = found.token_id or "-"
        return found


def house_of(connection: HTTPConnection) -> House:
    """The library of a request."""
    house: House = connection.app.state.house
    return house


def actor_of(caller: Caller, why: str | None) -> Actor:
    """On whose behalf a request is worked on."""
    return Actor(caller.who, caller.source, why)
