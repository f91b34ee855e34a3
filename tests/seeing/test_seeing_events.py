"""The audit trail: filtered, followed, exported."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from seeing_kit import Clock, CommandLine, add

from speakerdb.catalog import journal
from speakerdb.cli import status as door
from speakerdb.overview import EVENTS_A_PART
from speakerdb.reports.seeing import EventFilter
from speakerdb.service import SpeakerDB

Open = Callable[..., SpeakerDB]
KEYS = {"id", "at", "kind", "who", "source", "why", "migration", "entity", "data"}


def record(db: SpeakerDB, kind: str, *, who: str = "me", entity: str | None = None, at: int | None = None) -> None:
    with db.catalog.job() as tx:
        journal.record(tx, kind, who, at or db.catalog.now(), entity_id=entity)


def ids(events: Any) -> list[int]:
    return [event["id"] for event in events]


def test_every_filter_and_all_of_them(db: SpeakerDB) -> None:
    add(db, "a")
    db.work()
    db.start_migration("v4", force=True)
    record(db, "speaker-renamed", who="Ada", entity="spk_1", at=1_000)
    record(db, "speaker-renamed", who="Bob", entity="spk_2", at=2_000)
    found = db.overview.events
    (added,) = found(EventFilter(entity="a"))
    assert added["kind"] == "recording-added"
    assert {event["kind"] for event in found(EventFilter(kinds=("speaker-renamed", "recording-added")))} == {
        "speaker-renamed", "recording-added"
    }  # fmt: skip
    assert [event["entity"] for event in found(EventFilter(who="Ada"))] == ["spk_1"]
    assert [event["who"] for event in found(EventFilter(since=2_000, until=2_001))] == ["Bob"]
    assert found(EventFilter(since=1_000, until=1_000)) == []
    assert [event["kind"] for event in found(EventFilter(migration=1))] == ["migration-started"]
    assert found(EventFilter(who="Ada", kinds=("recording-added",))) == []
    assert [event["who"] for event in found(EventFilter(kinds=("speaker-renamed",)), limit=1)] == ["Bob"]
    assert all(set(event) == KEYS for event in found())
    assert ids(found()) == sorted(ids(found()), reverse=True)


def test_all_events_come_once_and_in_order_however_many(db: SpeakerDB) -> None:
    with db.catalog.job() as tx:
        for number in range(2 * EVENTS_A_PART + 7):
            journal.record(tx, "speaker-renamed", "me", number, entity_id=f"e{number}")
    found = list(db.overview.all_events())
    assert ids(found) == list(range(1, 2 * EVENTS_A_PART + 8))
    assert ids(db.overview.all_events(after=2 * EVENTS_A_PART)) == list(
        range(2 * EVENTS_A_PART + 1, 2 * EVENTS_A_PART + 8)
    )


def test_a_shortened_id_stands_for_the_only_one_there_is(db: SpeakerDB) -> None:
    record(db, "speaker-renamed", entity="spk_aaaa0000000000000001")
    record(db, "speaker-renamed", entity="spk_aaab0000000000000001")
    assert db.overview.entity("spk_aaaa") == "spk_aaaa0000000000000001"
    assert db.overview.entity("spk_aaa") == "spk_aaa"
    assert db.overview.entity("%") == "%"


def test_a_follower_sees_what_comes_and_nothing_twice(db: SpeakerDB) -> None:
    record(db, "speaker-renamed", entity="before")
    steps: Iterator[Callable[[], None]] = iter(
        [
            lambda: record(db, "speaker-renamed", entity="one"),
            lambda: record(db, "profile-renamed", entity="not asked for"),
            lambda: (record(db, "speaker-renamed", entity="two"), record(db, "speaker-renamed", entity="three"))[0],
        ]
    )
    ended: list[bool] = []

    def pause() -> None:
        step = next(steps, None)
        if step is None:
            ended.append(True)
        else:
            step()

    where = EventFilter(kinds=("speaker-renamed",))
    after = db.overview.last_event()
    found = list(door.followed(db, where, after, lambda: bool(ended), pause))
    assert [event["entity"] for event in found] == ["one", "two", "three"]


def test_following_from_the_door_until_it_is_stopped(
    cli: CommandLine, open_db: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON Lines, each as soon as it comes; Ctrl-C is the ordinary end."""
    db = open_db()
    record(db, "speaker-renamed", entity="old")
    rounds: list[int] = []

    def pause() -> None:
        rounds.append(1)
        if len(rounds) == 1:
            record(db, "speaker-renamed", entity="new")
        else:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(door, "_pause", pause)
    assert threading.current_thread() is threading.main_thread()
    ran = cli("events", "--follow", "--json")
    assert ran.exit_code == 0
    (line,) = ran.out.splitlines()
    assert json.loads(line)["entity"] == "new"
    rounds[:] = [1]
    ran = cli("events", "--follow", "--since", "1h")
    assert ran.exit_code == 0
    assert [word in ran.out for word in ("old", "new", "speaker-renamed")] == [True, True, True]
    rounds[:] = [1]
    monkeypatch.setattr(door, "_pause", lambda: signal.raise_signal(signal.SIGTERM))
    assert cli("events", "--follow").exit_code == 128 + signal.SIGTERM


def test_an_export_is_json_lines_oldest_first(cli: CommandLine, open_db: Open, tmp_path: Path) -> None:
    db = open_db()
    for name in ("a", "b", "c"):
        add(db, name)
    file = tmp_path / "events.jsonl"
    ran = cli("events", "--export", file, "--json")
    assert ran.json == {"events": 3, "file": str(file)}
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["entity"] for line in lines] == ["a", "b", "c"]
    assert all(set(line) == KEYS for line in lines)
    assert cli("events", "--export", "-", "--entity", "b").out == file.read_text().splitlines()[1] + "\n"
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []
    assert cli("events", "--export", file, "--kind", "profile-created").exit_code == 0
    assert file.read_text() == ""


def test_an_export_that_fails_leaves_the_old_file(
    cli: CommandLine, open_db: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(open_db(), "a")
    file = tmp_path / "events.jsonl"
    file.write_text("old")

    def broken(_event: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(door, "_line", broken)
    ran = cli("events", "--export", file, "--json")
    assert ran.json["error"]["code"] == "storage-full"
    assert file.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "events.jsonl"]


def test_the_table_shows_who_about_what_and_why(cli: CommandLine, open_db: Open) -> None:
    db = open_db()
    with db.catalog.job() as tx:
        journal.record(tx, "speaker-renamed", "Ada\x1b[2J", 1, entity_id="spk_1", why="a typo", old="x", new="y")
    ran = cli("events")
    assert ran.out.splitlines()[0].split() == ["id", "at", "kind", "who", "migration", "entity", "why", "data"]
    for part in ("spk_1", "a typo", '"new": "y"'):
        assert part in ran.out
    assert "\x1b" not in ran.out
    assert cli("events", "--json").json[0]["why"] == "a typo"


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--kind", "recording-ad"], "recording-added"),
        (["--kind", "zzz"], "There are"),
        (["--since", "yesterday"], "2h"),
        (["--until", "3x"], "2h"),
        (["--since", "9" * 400 + "d"], "2h"),
        (["--since", "99999-01-01"], "2h"),
        (["--who", "\udcff"], "plain text"),
        (["--entity", "a\0b"], "plain text"),
        (["--follow", "--export", "-"], "Follow"),
        (["--export", "/nowhere/at/all/x.jsonl"], "Make it first"),
    ],
)
def test_what_cannot_be_asked_is_said(cli: CommandLine, options: list[str], hint: str) -> None:
    ran = cli("events", *options, "--json")
    assert (ran.exit_code, ran.json["error"]["code"]) == (4, "invalid-input")
    assert hint in ran.json["error"]["hint"]


def test_times_are_utc_unless_they_say_otherwise() -> None:
    assert door._instant("1970-01-01T00:00:01", 0.0) == 1_000_000
    assert door._instant("1970-01-01T01:00:01+01:00", 0.0) == 1_000_000
    assert door._instant("1970-01-02", 0.0) == 86_400_000_000
    assert door._instant("2h", 7201.0) == 1_000_000
    assert door._instant("1.5m", 90.0) == 0


def test_ages_reach_the_events(cli: CommandLine, open_db: Open, clock: Clock) -> None:
    """The database's clock stands in 2025: nothing is a day old, everything is a century old."""
    add(open_db(clock=clock), "a")
    assert cli("events", "--since", "1d", "--json").json == []
    assert len(cli("events", "--since", "5000w", "--json").json) == 1
    assert len(cli("events", "--until", "2025-12-31", "--json").json) == 1
