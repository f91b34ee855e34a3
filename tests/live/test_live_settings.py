"""Live settings: what may be set, that every process hears it, and that each change is in the trail."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfoNotFoundError

import pytest

from speakerdb.catalog import journal
from speakerdb.catalog.journal import Actor
from speakerdb.errors import InvalidInput, NotFound
from speakerdb.live import Live, live
from speakerdb.live.live import CACHE_SECONDS
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import silence, two_voices


def changes(db: SpeakerDB) -> list[tuple[object, ...]]:
    return [
        (event["who"], event["why"], *(event["data"][key] for key in ("name", "library", "old", "new")))
        for event in reversed(db.events())
        if event["kind"] == "setting-changed"
    ]


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("paused", "yes", "on"), ("paused", "ON", "on"), ("concurrency", "04", "4"),
        ("quiet_hours", "22:00-6:00 Europe/Berlin", "22:00-06:00 Europe/Berlin"), ("preference", "v4/v3", "v4/v3"),
    ],
)  # fmt: skip
def test_a_value_has_one_way_to_be_written(db: SpeakerDB, name: str, given: str, kept: str) -> None:
    (row,) = db.live.set(name, given, why="so").rows
    assert (row.name, row.value, row.who, row.why, row.library) == (name, kept, db.who, "so", None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("paused", "maybe"), ("concurrency", "0"), ("concurrency", "many"), ("concurrency", "257"),
        ("concurrency", "9" * 5000), ("quiet_hours", "always"),
        ("quiet_hours", "22:00-06:00 Atlantis/Poseidonis"), ("quiet_hours", "22:00-06:00 ../../etc"), ("preference", "v9"),
        ("preference", "v4/v9"), ("preference", "v4/v4"), ("colour", "red"), ("paused", ""),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused_and_changes_nothing(db: SpeakerDB, name: str, value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        db.live.set(name, value)
    assert caught.value.hint
    assert db.live.get().rows == ()
    assert changes(db) == []


def test_each_change_is_in_the_trail(db: SpeakerDB) -> None:
    db.live.set("concurrency", "2", why="the film is cut")
    with journal.acting(Actor("ada", "api 127.0.0.1")):
        db.live.set("concurrency", "3")
        assert db.live.get().rows[0].who == "ada"
    db.live.clear("concurrency", why="done")
    db.live.clear("concurrency")  # nothing to do, nothing to tell
    db.live.set("paused", "off")
    assert changes(db) == [
        (db.who, "the film is cut", "concurrency", None, None, "2"),
        ("ada", None, "concurrency", None, "2", "3"),
        (db.who, "done", "concurrency", None, "3", None),
    ]


def test_only_a_preference_may_be_a_librarys(db: SpeakerDB) -> None:
    db.add(None, two_voices(), recording_id="r", library="tv", waveform=silence(20))
    with pytest.raises(InvalidInput, match="all libraries"):
        db.live.set("paused", "on", library="tv")
    with pytest.raises(NotFound):
        db.live.set("preference", "v4", library="radio")
    found = db.live.set("preference", "v4", library="tv")
    assert [row.library for row in found.rows] == ["tv"]
    assert list(found.preference.values()) == ["v4"]
    assert "" not in found.preference


def test_another_process_hears_it_within_seconds(db: SpeakerDB, open_db: Callable[..., SpeakerDB]) -> None:
    at = [100.0]
    elsewhere = Live(open_db().catalog, generations=db.generations, who="other", clock=lambda: at[0])
    assert not elsewhere.get().paused
    db.live.set("paused", "on", why="the disk is full")
    assert not elsewhere.get().paused, "it is not asked each time"
    at[0] += CACHE_SECONDS
    assert (elsewhere.get().paused, elsewhere.get().pause_reason) == (True, "the disk is full")
    elsewhere.clear("paused")
    assert not elsewhere.get().paused, "one's own change is seen at once"


@pytest.mark.parametrize(
    ("at", "quiet"),
    [("2026-07-01T19:59", False), ("2026-07-01T20:00", True), ("2026-07-02T03:59", True), ("2026-07-02T04:00", False),
     ("2026-12-01T20:59", False), ("2026-12-01T21:00", True)],
)  # fmt: skip
def test_quiet_hours_are_those_of_their_zone(db: SpeakerDB, at: str, quiet: bool) -> None:
    """In Berlin it is two hours later in summer, one in winter."""
    db.live.set("quiet_hours", "22:00-06:00 Europe/Berlin")
    halt = db.live.halt(datetime.fromisoformat(at).replace(tzinfo=UTC))
    assert (halt is not None) == quiet
    if halt is not None:
        assert (halt.reason, halt.command) == ("quiet-hours", "speakerdb live clear quiet_hours")
        assert "until 06:00 Europe/Berlin" in halt.message


def test_a_machine_that_does_not_know_the_zone_of_quiet_hours_keeps_quiet_and_goes_on(
    db: SpeakerDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.live.set("quiet_hours", "22:00-06:00 Europe/Berlin")  # on a machine that knows it

    def unknown(name: str) -> None:
        raise ZoneInfoNotFoundError(name)

    monkeypatch.setattr(live, "ZoneInfo", unknown)
    db.add(None, two_voices(), recording_id="r", waveform=silence(20))
    assert db.work().stopped == "halted"
    (problem,) = (one for one in db.status().problems if one.code == "quiet-hours")
    assert "Europe/Berlin" in problem.message
    assert db.migration() is None
    assert db.explain.about("r")
    db.live.clear("quiet_hours")
    assert db.work().recordings_done == 1
