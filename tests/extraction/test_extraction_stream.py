"""The way of sound to the network: bounded, first come first served, and measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from speakerdb.extraction import stream
from speakerdb.extraction.stream import Decoded, Line, Portion, Stopwatch, ahead, portions
from speakerdb.types import FloatArray

RATE = 100


def sounds(*seconds: float) -> Iterator[FloatArray]:
    return (np.zeros(round(each * RATE), dtype=np.float32) for each in seconds)


def lengths(given: Iterator[list[FloatArray]]) -> list[list[float]]:
    return [[len(sound) / RATE for sound in portion] for portion in given]


def test_portions_grow_from_a_small_one_and_are_bounded_in_number_and_seconds() -> None:
    assert list(map(len, lengths(portions(sounds(*[3.0] * 40), RATE, Portion(8, 48.0))))) == [2, 4, 8, 8, 8, 8, 2]
    assert lengths(portions(sounds(3, 3, 40, 5, 4, 30, 30), RATE, Portion(8, 48.0))) == [
        [3, 3], [40, 5], [4, 30], [30]
    ]  # fmt: skip
    assert lengths(portions(sounds(100, 1, 1), RATE, Portion(8, 48.0))) == [[100], [1, 1]], "longer than all by itself"
    assert lengths(portions(sounds(), RATE, Portion(8, 48.0))) == []
    assert lengths(portions(sounds(1, 1), RATE, Portion(1, 48.0))) == [[1], [1]]


def test_the_first_portion_is_there_before_more_is_decoded() -> None:
    made = 0

    def one_by_one() -> Iterator[FloatArray]:
        nonlocal made
        for sound in sounds(*[1.0] * 9):
            made += 1
            yield sound

    found = portions(one_by_one(), RATE, Portion(8, 48.0))
    assert len(next(found)) == made == 2


def test_no_more_than_one_portion_is_ahead_of_the_one_in_use() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for n in range(50):
            made.append(n)
            yield n

    for n in ahead(numbers()):
        assert len(made) <= n + 2
    assert len(made) == 50
    with pytest.raises(ZeroDivisionError):
        list(ahead(1 // n for n in (1, 0)))


def test_what_is_decoded_is_counted() -> None:
    decoded = Decoded()
    assert [len(sound) for sound in decoded.counted(sounds(2, 3.5), RATE)] == [200, 350]
    assert decoded.seconds == 5.5
    assert decoded.time > 0


def test_of_those_who_wait_the_one_who_came_first_is_next() -> None:
    """Their tickets count, not when they come to the gate."""
    line, order = Line(), []
    first, *others = (line.ticket() for _ in range(5))

    def pass_through(ticket: int) -> None:
        with line.turn(ticket):
            order.append(ticket)

    threads = []
    with line.turn(first):
        for ticket in reversed(others):
            threads.append(threading.Thread(target=pass_through, args=(ticket,)))
            threads[-1].start()
            until = time.monotonic() + 30
            while len(line._waiting) < len(threads) and time.monotonic() < until:
                time.sleep(0.001)
        assert order == []
    for thread in threads:
        thread.join(30)
    assert order == others
    with pytest.raises(ZeroDivisionError), line.turn(line.ticket()):
        raise ZeroDivisionError
    pass_through(line.ticket())  # it is free again


def test_time_in_which_several_are_busy_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(stream.time, "perf_counter", lambda: now)
    watch = Stopwatch()
    now = 5.0
    with watch:
        now = 7.0
        with watch:
            now = 8.0
        assert watch.take() == 3.0
        now = 8.5
    now = 100.0
    assert watch.take() == 0.5
    assert watch.take() == 0.0
