"""How fast it goes and how long it takes: one rule, from the database and from a run's own events."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from speakerdb.cli.live import LineView
from speakerdb.core.pace import LEAST_SPREAD, SLICES, WINDOW_SECONDS, Meter, pace
from speakerdb.reports import Progress, WorkEvent

EVEN = [(2, 120.0)] * SLICES


def test_an_even_pace_gives_the_time_left_within_ten_percent() -> None:
    found = pace(EVEN, 600.0, left_recordings=50, left_audio=3000.0)
    assert found is not None
    assert (found.recordings, found.audio_seconds, found.speed, found.recordings_an_hour) == (20, 1200.0, 2.0, 120.0)
    assert found.left == pytest.approx((1500 / (1 + LEAST_SPREAD), 1500 * (1 + LEAST_SPREAD)))


def test_the_range_is_as_wide_as_the_slices_differ() -> None:
    uneven = [(4, 240.0), (0, 0.0)] * (SLICES // 2)
    found = pace(uneven, 600.0, left_recordings=50, left_audio=3000.0)
    assert found is not None
    assert found.left is not None
    # The relative standard deviation is 1, so the mean is known to within 2 / sqrt(10).
    spread = 1 + 2 / math.sqrt(10)
    assert found.left == pytest.approx((1500 / spread, 1500 * spread))


def test_lengths_that_are_not_known_are_counted_as_recordings() -> None:
    found = pace([(2, 0.0)] * SLICES, 600.0, left_recordings=10, left_audio=0.0)
    assert found is not None
    assert found.left == pytest.approx((300 / 1.1, 300 * 1.1))


@pytest.mark.parametrize("slices", [[(0, 0.0)] * SLICES, []])
def test_nothing_finished_says_nothing(slices: list[tuple[int, float]]) -> None:
    assert pace(slices, 600.0, left_recordings=5, left_audio=10.0) is None


def test_two_recordings_tell_a_speed_but_no_end() -> None:
    found = pace([(2, 40.0), *[(0, 0.0)] * 9], 100.0, left_recordings=5, left_audio=100.0)
    assert found is not None
    assert (found.speed, found.left) == (0.4, None)


def test_an_empty_queue_has_no_end_to_wait_for() -> None:
    found = pace(EVEN, 600.0, left_recordings=0, left_audio=0.0)
    assert found is not None
    assert found.left is None


@given(
    st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1e5)), min_size=SLICES, max_size=SLICES),
    st.floats(0.0, 1e6), st.integers(0, 10**6), st.floats(0, 1e9),
)  # fmt: skip
def test_a_range_is_finite_and_in_order(
    slices: list[tuple[int, float]], seconds: float, left: int, left_audio: float
) -> None:
    found = pace(slices, seconds, left_recordings=left, left_audio=left_audio)
    if found is not None and found.left is not None:
        low, high = found.left
        assert 0 <= low <= high < math.inf


def test_a_meter_measures_the_same() -> None:
    meter = Meter()
    for step in range(SLICES + 1):
        meter.add(60.0 * step, 2 * step, 120.0 * step)
    assert meter.pace(left_recordings=50, left_audio=3000.0) == pace(
        [(0, 0.0), *[(2, 120.0)] * 8, (4, 240.0)], 600.0, left_recordings=50, left_audio=3000.0
    )


def test_a_meter_forgets_what_is_older_than_the_window() -> None:
    meter = Meter()
    meter.add(0.0, 0, 0.0)
    meter.add(100.0, 1000, 1e6)  # a fast beginning
    for step in range(1, 21):
        meter.add(100.0 + 60.0 * step, 1000 + step, 1e6 + 60.0 * step)
    found = meter.pace(left_recordings=1, left_audio=1.0)
    assert found is not None
    assert found.seconds == WINDOW_SECONDS
    assert found.speed == pytest.approx(1.0)


def test_a_meter_begins_again_when_another_generation_is_counted() -> None:
    meter = Meter()
    meter.add(0.0, 0, 0.0)
    meter.add(10.0, 100, 1000.0)
    meter.add(20.0, 1, 10.0)
    assert meter.pace(left_recordings=5, left_audio=50.0) is None
    meter.add(30.0, 2, 20.0)
    found = meter.pace(left_recordings=5, left_audio=50.0)
    assert found is not None
    assert found.speed == pytest.approx(1.0)


def test_the_live_view_shows_that_pace() -> None:
    """After the first events, the mean of the run gives way to the pace of late, and its range."""
    stream = io.StringIO()
    counts = Progress("v4", 100, 0, 0, 0, 100, 6000.0, 0.0, 0, 0, 0, {})
    with LineView(Console(file=stream, width=200), interval=0.0) as view:
        for step in range(12):
            done = replace(counts, recordings_done=step, recordings_queued=100 - step, audio_seconds_done=60.0 * step)
            view(WorkEvent(done, (), 10.0 * step, 60.0 * step, (1.0, 2.0)))
    lines = stream.getvalue().splitlines()
    assert "left 0:00:01 to 0:00:02" in lines[0], "the run's own estimate, until something is known"
    # 89 recordings are left, and one took ten seconds.
    assert "6.0 x real time, 360 recordings an hour" in lines[-1]
    left = re.search(r"left (\d):(\d\d):(\d\d) to (\d):(\d\d):(\d\d)", lines[-1])
    assert left is not None
    numbers = [int(number) for number in left.groups()]
    low, high = (3600 * h + 60 * m + s for h, m, s in (numbers[:3], numbers[3:]))
    assert low < 890 < high <= 890 * 1.5
