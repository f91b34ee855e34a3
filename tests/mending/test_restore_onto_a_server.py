"""A library in a file comes onto a server: `restore` into an empty database there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from speakerdb.backup import back_up, restore_library
from speakerdb.catalog import moving
from speakerdb.catalog.database import Database
from speakerdb.catalog.schema import events, fences, leases, metadata
from speakerdb.errors import DatabaseUnavailable, InvalidInput
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices
from speakerdb.testing.invariants import check
from speakerdb.testing.servers.postgres import Databases


def opened(settings: Settings) -> SpeakerDB:
    return SpeakerDB.open(settings, executor=FakeExecutor())


@pytest.fixture
def on_file(tmp_path: Path) -> Settings:
    return fake_settings(tmp_path / "data", who="ada")


@pytest.fixture
def on_server(on_file: Settings, postgres: Databases) -> Settings:
    """The same library, with a database on a server that is empty."""
    return on_file.model_copy(update={"database_url": postgres.new_database()})


@pytest.fixture
def saved(on_file: Settings, tmp_path: Path) -> Path:
    """A backup with recordings, profiles, one of them merged into one that comes after it, and a removed recording."""
    file = tmp_path / "backup.db"
    with opened(on_file) as db:
        for name in ("one", "two", "gone"):
            db.add(None, two_voices(), recording_id=name, waveform=silence(20))
        db.work()
        db.remove("gone")
        first, second = sorted(db.people.create_profile(name).id for name in ("Ada", "Bob"))
        db.people.assign(db.speakers()[0].id, first)
        db.people.merge_profiles(first, second)
        db.work()
        back_up(db.catalog, file, who=db.who)
    return file


def content(url: str) -> dict[str, list[dict[str, Any]]]:
    """All rows by table, but what a restoration changes: who holds leases, and its own event."""
    database = Database(url)
    try:
        with database.read() as tx:
            found = {
                table.name: sorted((dict(row._mapping) for row in tx.execute(sa.select(table))), key=repr)
                for table in metadata.sorted_tables
                if table not in (leases, fences)
            }
    finally:
        database.close()
    found["events"] = [each for each in found["events"] if each["kind"] not in ("library-restored", "index-ahead")]
    return found


def test_everything_comes_along_and_the_library_goes_on_there(on_server: Settings, saved: Path) -> None:
    report = restore_library(on_server, saved, why="it has outgrown the file")
    assert (report.recordings, report.profiles, report.kept) == (2, 1, None)
    before = content(f"sqlite:///{saved}")
    assert content(on_server.catalog_url) == before
    assert any(each["merged_into"] for each in before["profiles"])
    with opened(on_server) as db:
        assert db.serving.to_rebuild() == ["v3"], "the index may be of another time than the file"
        db.rebuild_index("v3")
        db.add(None, two_voices(), recording_id="three", waveform=silence(20))
        db.work()
        view = check(db)
        assert {view.speakers[key].recording_id for key in view.documents["v3"] if key in view.speakers} == {
            "one",
            "two",
            "three",
        }
        (restored,) = (each for each in db.overview.events() if each["kind"] == "library-restored")
        assert (restored["who"], restored["why"]) == ("ada", "it has outgrown the file")


def test_a_database_that_was_opened_and_never_used_is_taken_for_empty(on_server: Settings, saved: Path) -> None:
    opened(on_server.model_copy(update={"data_dir": on_server.data_dir / "elsewhere"})).close()
    restore_library(on_server, saved)
    assert content(on_server.catalog_url) == content(f"sqlite:///{saved}")


def test_a_library_that_is_there_is_not_written_over(on_server: Settings, saved: Path) -> None:
    with opened(on_server.model_copy(update={"data_dir": on_server.data_dir / "elsewhere"})) as db:
        db.add(None, two_voices(), recording_id="mine", waveform=silence(20))
    before = content(on_server.catalog_url)
    with pytest.raises(InvalidInput, match="holds a library already"):
        restore_library(on_server, saved)
    assert content(on_server.catalog_url) == before


def test_one_that_broke_off_left_nothing_and_can_be_run_again(
    on_server: Settings, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise DatabaseUnavailable("The connection to the database server was lost.")

    with monkeypatch.context() as broken:
        broken.setattr(moving, "_point", lost)
        with pytest.raises(DatabaseUnavailable):
            restore_library(on_server, saved)
    assert not any(content(on_server.catalog_url).values())
    assert not list(on_server.data_dir.glob("*.restoring*"))
    restore_library(on_server, saved)
    assert content(on_server.catalog_url)["events"]


def test_numbers_of_new_rows_go_on(on_server: Settings, saved: Path) -> None:
    restore_library(on_server, saved)
    database = Database(on_server.catalog_url)
    with database.write() as tx:
        highest = tx.scalar(sa.select(sa.func.max(events.c.id)))
        tx.execute(sa.insert(events).values(at=1, kind="index-rebuilt", who="ada", data="{}"))
        assert tx.scalar(sa.select(sa.func.max(events.c.id))) == highest + 1
    database.close()
