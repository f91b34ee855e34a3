"""A process whose settings do not define a generation that another process has begun to move to: it answers and works on,
and says what it lacks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from speakerdb.errors import ConfigurationError
from speakerdb.service import SpeakerDB
from tests.preference.conftest import add

Open = Callable[..., SpeakerDB]


def test_a_move_to_a_generation_that_is_not_defined_here_stops_nothing_else(open_db: Open) -> None:
    here, there = open_db(), open_db(dimensions={"v3": 24, "v4": 16, "v5": 20})
    (voice, _), _ = add(there, "a"), add(there, "b")
    there.work()
    there.start_migration("v5", force=True)

    found = here.match(speaker=voice)
    assert (found.generation, found.path) == ("v3", "serving")
    assert len(found.matches) == 2
    there.live.set("preference", "v5")
    assert here.match(speaker=voice).generation == "v3"
    with pytest.raises(ConfigurationError, match="'v5', which is not defined"):
        here.match(speaker=voice, generation="v5")

    (new, _) = add(here, "c")
    done = here.work()
    assert (done.recordings_done, done.stopped) == (1, "waiting")
    assert "[generations.v5]" in done.unavailable["v5"]
    assert here.match(speaker=new).generation == "v3"
    assert there.progress("v5").recordings_queued == 3
    with pytest.raises(ConfigurationError, match="'v5', which is not defined"):
        here.status()

    assert there.work().recordings_failed == 0
    assert there.progress("v5").recordings_done == 3
