"""How sound flows to a network: decoded ahead of it in bounded portions, and one recording after the other through it."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from speakerdb.types import FloatArray

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Portion:
    """How much is decoded ahead and given to the network at once: at most so many segments, and so many seconds unless a
    single segment is longer. It bounds memory, however long a recording is and however many speakers it has."""

    segments: int
    seconds: float


ON_A_CPU = Portion(8, 48.0)
"""3 MB of sound. Segments pass one or two at a time, so more would only come later."""
ON_A_GPU = Portion(64, 384.0)
"""25 MB of sound. Several segments share a batch."""
FIRST_SEGMENTS = 2
"""The first portion is small, so that the network need not wait for it; each next one is twice as large."""


def portions(sounds: Iterable[FloatArray], sample_rate: int, most: Portion) -> Iterator[list[FloatArray]]:
    """Segments in portions that grow to `most`."""
    portion: list[FloatArray] = []
    samples, size = 0, min(FIRST_SEGMENTS, most.segments)
    for sound in sounds:
        if portion and samples + len(sound) > most.seconds * sample_rate:
            yield portion
            portion, samples = [], 0
        portion.append(sound)
        samples += len(sound)
        if len(portion) >= size:
            yield portion
            portion, samples, size = [], 0, min(2 * size, most.segments)
    if portion:
        yield portion


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made in a thread while the one before it is being used."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as thread:
        pending = thread.submit(next, items, end)
        while (item := pending.result()) is not end:
            pending = thread.submit(next, items, end)
            yield item  # type: ignore[misc]


@dataclass(slots=True)
class Decoded:
    """Sound that was decoded, and the time it took."""

    seconds: float = 0.0
    time: float = 0.0

    def counted(self, sounds: Iterator[FloatArray], sample_rate: int) -> Iterator[FloatArray]:
        """The same sounds, counted."""
        while True:
            begun = time.perf_counter()
            sound = next(sounds, None)
            self.time += time.perf_counter() - begun
            if sound is None:
                return
            self.seconds += len(sound) / sample_rate
            yield sound


class Line:
    """Lets one through at a time; of those who wait, the one with the lowest ticket, who came first.

    So a recording that was begun before is finished before, and is never kept waiting by those that came after it.
    """

    def __init__(self) -> None:
        self._tickets = itertools.count()
        self._changed = threading.Condition()
        self._waiting: list[int] = []
        self._busy = False

    def ticket(self) -> int:
        """A place behind all who have one."""
        return next(self._tickets)

    @contextmanager
    def turn(self, ticket: int) -> Iterator[None]:
        """Wait for one's turn, and have it in this block."""
        with self._changed:
            heapq.heappush(self._waiting, ticket)
            self._changed.wait_for(lambda: not self._busy and self._waiting[0] == ticket)
            heapq.heappop(self._waiting)
            self._busy = True
        try:
            yield
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()


class Stopwatch:
    """Counts the seconds in which at least one thread is in its block."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._seconds = 0.0
        self._since = 0.0

    def __enter__(self) -> None:
        with self._lock:
            self._settle()
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._settle()
            self._inside -= 1

    def take(self) -> float:
        """The seconds that were not taken before."""
        with self._lock:
            self._settle()
            taken, self._seconds = self._seconds, 0.0
            return taken

    def _settle(self) -> None:
        now = time.perf_counter()
        if self._inside:
            self._seconds += now - self._since
        self._since = now
