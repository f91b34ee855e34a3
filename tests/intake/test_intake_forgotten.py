"""`remove` leaves nothing behind but tombstones and one event without names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import intake_kit as kit
import pytest

from speakerdb.catalog import journal
from speakerdb.errors import NotFound
from speakerdb.people.naming import Choice
from speakerdb.service import SpeakerDB
from speakerdb.types import Turn

NAMES = ("Xaver Unmistakable", "Yolanda Unmistakable", "Lost Unmistakable", "Unmistakable said so")


def cells(data: Path) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for table, rows in kit.everything(data).items():
        for row in rows:
            yield table, row


def holding(data: Path, *wanted: str | bytes) -> dict[str, list[tuple[Any, ...]]]:
    """The rows that hold one of these texts or vectors, by table."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for table, row in cells(data):
        for cell in row:
            if any(type(cell) is type(each) and each in cell for each in wanted):
                found.setdefault(table, []).append(row)
                break
    return found


def test_nothing_is_left(db: SpeakerDB, data: Path, tmp_path: Path) -> None:
    turns = [{"start": n * 0.5, "end": n * 0.5 + 0.5, "speaker": "ABAC"[n]} for n in range(4)]
    path = tmp_path / "m.jsonl"
    kit.sound(tmp_path / "a.wav")
    kit.manifest(path, [{"id": "goes", "path": "a.wav", "turns": turns, "speakers": {"A": {"name": NAMES[0]}}}])
    kit.library(tmp_path / "stays", 2)
    db.ingest.bring_in([path, tmp_path / "stays" / "library.jsonl"])
    ids = {s.label: s.id for s in db.speakers(recording="goes")}
    db.people.rename_speaker(ids["B"], NAMES[1], why=NAMES[3])
    db.people.rename_speaker(ids["C"], NAMES[2])
    db.people.rename_speaker(ids["C"], None)
    db.people.split(ids["A"], Choice(turns="2"), label="Unmistakable label")
    db.work()
    kit.manifest(path, [{"id": "goes", "path": "a.wav", "turns": turns[:2]}])  # C is lost, with its name
    db.ingest.bring_in([path])
    db.work()
    speakers = {s.id for s in db.speakers(recording="goes")} | set(ids.values())
    of_it = "entity_id IN (SELECT id FROM speakers WHERE recording_id = 'goes')"
    vectors = [v for (v,) in kit.rows(data, f"SELECT vector FROM embeddings WHERE vector IS NOT NULL AND {of_it}")]  # noqa: S608
    assert holding(data, *NAMES).keys() >= {"catalog.db/events", "catalog.db/speakers"}

    assert db.ingest.remove("goes")[0] == "goes"
    db.work()
    assert holding(data, *NAMES, "Unmistakable", str(tmp_path / "a.wav"), *vectors) == {}
    left = holding(data, "goes", *speakers)
    assert left.keys() <= {"catalog.db/events", "catalog.db/projections", "index.db/documents"}
    (event,) = left["catalog.db/events"]
    assert "recording-removed" in event
    assert any(isinstance(cell, str) and cell.startswith("{") and json.loads(cell) == {"speakers": 2} for cell in event)
    assert {r.id for r in db.recordings()} == {"r000", "r001"}
    assert sum(e["kind"] == "recording-added" for e in db.events(limit=100)) == 2


def test_tombstones_hold_no_vector(db: SpeakerDB, tmp_path: Path) -> None:
    db.ingest.bring_in([kit.library(tmp_path, 1)])
    db.work()
    ids = [s.id for s in db.speakers(recording="r000")]
    db.remove("r000")
    db.work()
    held = db.index.fetch("speakers_v3", ids)
    assert all(document.deleted and document.vector is None for document in held.values())


def test_an_event_of_a_migration_stays(db: SpeakerDB, tmp_path: Path) -> None:
    """Who let a recording be missing is part of the migration's story."""
    db.ingest.bring_in([kit.library(tmp_path, 2)])
    db.start_migration("v4", force=True)
    with db.catalog.job() as tx:
        tx.exec_driver_sql(
            "UPDATE work_items SET state = 'failed', error_code = 'media-missing' WHERE recording_id = 'r000'"
        )
    db.waive(why="It is gone.", recording="r000")
    waived = [e for e in db.events(limit=100) if e["entity"] == "r000" and e["migration"] is not None]
    db.remove("r000")
    kept = [e for e in db.events(limit=100) if e["entity"] == "r000"]
    assert [e["id"] for e in kept if e["migration"] is not None] == [e["id"] for e in waived]
    assert kept[0]["kind"] == "recording-removed"


def test_a_recording_that_is_not_there(db: SpeakerDB, data: Path) -> None:
    before = kit.everything(data)
    with pytest.raises(NotFound):
        db.remove("nobody")
    assert kit.everything(data) == before


def test_names_given_alone_are_events_where_they_change_something(db: SpeakerDB, tmp_path: Path) -> None:
    file = kit.sound(tmp_path / "a.wav")
    turns = (Turn(0, 1, "A"), Turn(1, 2, "B"))
    db.add(file, turns, names={"A": "Ann"})
    db.add(file, turns, names={"A": "Anna"})
    db.add(file, turns, names={"A": "Anna"})
    renamed = [e["data"] for e in db.events() if e["kind"] == "speaker-renamed"]
    assert renamed == [{"old": "Ann", "new": "Anna"}]


def test_a_speaker_that_a_split_made_and_an_undo_removed_is_forgotten_too(
    db: SpeakerDB, data: Path, tmp_path: Path
) -> None:
    turns = [{"start": n * 0.5, "end": n * 0.5 + 0.5, "speaker": "A"} for n in range(4)]
    kit.sound(tmp_path / "a.wav")
    kit.manifest(tmp_path / "m.jsonl", [{"id": "goes", "path": "a.wav", "turns": turns}])
    db.ingest.bring_in([tmp_path / "m.jsonl"])
    (first,) = db.speakers(recording="goes")
    made = db.people.split(first.id, Choice(turns="1-2")).speaker_id
    assert made is not None
    second = db.people.split(made, Choice(turns="1")).speaker_id
    assert second is not None
    for speaker in (made, second):
        db.people.rename_speaker(speaker, NAMES[0])
        db.people.undo(why=NAMES[3])
    db.people.undo()  # the second split
    db.people.undo()  # the first
    assert [s.id for s in db.speakers(recording="goes")] == [first.id]
    db.remove("goes")
    assert holding(data, "Unmistakable", *NAMES, made, second).keys() <= {"catalog.db/projections"}
    assert [e["kind"] for e in db.events(limit=100) if e.get("entity") in (made, second)] == []


def test_what_only_has_the_same_name_keeps_what_was_told_of_it(db: SpeakerDB, tmp_path: Path) -> None:
    """A recording by a generation's name, and one whose id is that of another's speaker, as in what other applications number."""
    kit.sound(tmp_path / "a.wav")
    turns = [Turn(0.0, 2.0, "A")]
    speaker = dict(db.add(tmp_path / "a.wav", turns, recording_id="stays").speakers)["A"]
    db.people.rename_speaker(speaker, "Ada")
    profile = db.create_profile("Eve").id
    db.rename_profile(profile, "Eva")
    db.people.undo()
    with db.catalog.job() as tx:
        journal.record(tx, "index-ahead", "me", db.catalog.now(), entity_id="v3", newest=1)
    for name in ("v3", speaker, profile):
        db.add(tmp_path / "a.wav", turns, recording_id=name)
        db.remove(name)
    with db.catalog.read() as tx:
        assert journal.restored_since_rebuild(tx, "v3"), "the brake of a restored database stays on"
    told = {(event["kind"], event["entity"]) for event in db.events(limit=100)}
    assert told >= {("speaker-renamed", speaker), ("profile-renamed", profile), ("change-undone", profile)}
    assert not {name for kind, name in told if kind == "recording-added"} - {"stays"}
    (renamed,) = [event["id"] for event in db.events(limit=100) if event["kind"] == "speaker-renamed"]
    db.people.undo(renamed)
    assert db.speaker(speaker).name is None
    db.remove("stays")
    assert not {kind for kind, name in told_of(db, speaker)} - {"recording-removed"}


def told_of(db: SpeakerDB, entity: str) -> list[tuple[str, str]]:
    return [(event["kind"], event["entity"]) for event in db.events(limit=100) if event["entity"] == entity]
