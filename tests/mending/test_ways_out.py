"""Whatever was done to aliases and indices, or brought back from a backup: `status` names commands that lead out of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from speakerdb.backup import restore_library
from speakerdb.catalog import copies
from speakerdb.catalog.database import Database
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.migrator.layout import mark_of
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices
from speakerdb.testing.faults import Fault, FaultQueue, FaultyIndex, SimulatedCrash
from speakerdb.testing.invariants import check
from speakerdb.testing.machine_world import Clock
from speakerdb.types import SERVING_ALIAS, AliasAction

WRITE = "speakers_v3_write"


def fill(db: SpeakerDB, *names: str) -> None:
    for name in names:
        db.add(None, two_voices(), recording_id=name, waveform=silence(20))
    db.work()


def obey(db: SpeakerDB, command: str) -> None:
    """What the command line does."""
    _, *words = command.split()
    if words == ["work"]:
        db.work()
        return
    assert words[:2] == ["index", "rebuild"], command
    names = db.serving.live() if "--all" in words else (words[2],)
    disagreement = db.serving.disagreement()
    asked = "--all" in words or "--serve" in words
    serve = asked and disagreement is not None and disagreement.stated in names
    for name in names:
        db.rebuild_index(name, serve=serve)


def settled(db: SpeakerDB) -> None:
    """All invariants hold, nothing waits, and there is no index but those of what is live."""
    view = check(db)
    for (name, entity), row in view.projections.items():
        assert name not in view.live or row.version == row.indexed_version, f"{entity} waits in {name}"
    ours = [info.metadata["generation"] for info in db.index.indices().values() if info.metadata]
    assert sorted(ours) == sorted(view.live)


# Aliases that somebody moved


def move(db: SpeakerDB, alias: str, *names: str) -> None:
    there = [AliasAction.remove(alias, name) for name in db.index.aliases().get(alias, ())]
    db.index.update_aliases([*there, *(AliasAction.add(alias, name) for name in names)])
    db.serving.forget()


def made(db: SpeakerDB, name: str, generation: str | None) -> str:
    found = db.generations.get(generation or "")
    if name not in db.index.indices():
        db.index.create(name, found.dimension if found else 16, mark_of(found) if found else {})
    return name


def old(db: SpeakerDB) -> str:
    return made(db, "speakers_v3.old", "v3")


def kept(db: SpeakerDB) -> str:
    return db.serving.index_of(db.generations["v3"])


MOVES: dict[str, Callable[[SpeakerDB], None]] = {
    "serving-removed": lambda db: move(db, SERVING_ALIAS),
    "serving-on-an-old-one": lambda db: move(db, SERVING_ALIAS, old(db)),
    "serving-on-two": lambda db: move(db, SERVING_ALIAS, made(db, "speakers_v4", "v4"), kept(db)),
    "serving-on-another's": lambda db: move(db, SERVING_ALIAS, made(db, "mine", None)),
    "write-removed": lambda db: move(db, WRITE),
    "write-on-an-old-one": lambda db: move(db, WRITE, old(db)),
    "write-on-two": lambda db: move(db, WRITE, old(db), kept(db)),
    "write-on-v4": lambda db: move(db, WRITE, made(db, "speakers_v4", "v4")),
    "write-on-another's": lambda db: move(db, WRITE, made(db, "mine", None)),
    "both-on-an-old-one": lambda db: (move(db, WRITE, old(db)), move(db, SERVING_ALIAS, old(db)))[0],
    "dropped": lambda db: db.index.drop(kept(db)),
}


@pytest.mark.parametrize("state", ["rebuilt", "finalized"])
@pytest.mark.parametrize("moved", MOVES)
def test_an_alias_that_was_moved_by_hand(tmp_path: Path, state: str, moved: str) -> None:
    settings = fake_settings(tmp_path)
    with SpeakerDB.open(settings, executor=FakeExecutor()) as db:
        fill(db, "one", "two")
        db.rebuild_index("v3")
        if state == "finalized":
            db.start_migration("v4", force=True)
            db.work()
            db.finalize()
        MOVES[moved](db)
    with SpeakerDB.open(settings, executor=FakeExecutor()) as db:
        assert db.status().problems
        for _ in range(3):
            if problems := db.status().problems:
                obey(db, problems[0].command)
        assert not db.status().problems
        fill(db, "late")
        settled(db)
        assert len(db.match(speaker=db.speakers()[0].id, k=20).matches) == 4


# Backups of each state of a migration on a library in each other state


class Past:
    """One library through two migrations, kept in each state that they have."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._settings = fake_settings(folder / "origin")
        self._clock = Clock()
        self._count = 0
        self.states: dict[str, Path] = {}
        self._go("none")
        self._go("running", lambda db: db.start_migration("v4", force=True))
        self._go("finalizing", crash=Fault.CRASH_BEFORE, verb="finalize")
        self._go("finalized", crash=Fault.CRASH_AFTER, verb="finalize")
        self._go("rolling-back", crash=Fault.CRASH_AFTER, verb="rollback")
        self._go("rolled-back")
        self._go("retired", lambda db: (db.start_migration("v4", force=True), db.work(), db.finalize(), db.retire()))
        self._go("the-way-back", lambda db: (db.start_migration("v3", force=True), db.work(), db.finalize()))

    def open(self, settings: Settings, index: FaultyIndex | None = None) -> SpeakerDB:
        return SpeakerDB.open(settings, index=index, executor=FakeExecutor(), clock=self._clock)

    def _go(
        self, name: str, act: Callable[[SpeakerDB], object] | None = None, *, crash: Fault | None = None, verb: str = ""
    ) -> None:
        """To the next state; the library changes on the way, so that each holds something else."""
        with self.open(self._settings) as db:
            self._count += 1
            db.migrator.recover_if_needed()
            fill(db, f"r{self._count}", f"s{self._count}")
            if self._count > 1:
                db.remove(f"s{self._count - 1}")
            db.work()
            if act is not None:
                act(db)
                db.work()
        if crash is not None:
            faults = FaultQueue()
            faults.next("update_aliases", Fault.PASS, crash)  # the token, then the swap
            with (
                self.open(self._settings, FaultyIndex(EmbeddedIndex(self._settings.index_path), faults)) as db,
                pytest.raises(SimulatedCrash),
            ):
                getattr(db, verb)()
            self._clock.now += 61_000_000
        folder = self._folder / name
        folder.mkdir()
        for file in (*self._settings.data_dir.glob("catalog.db*"), *self._settings.data_dir.glob("index.db*")):
            shutil.copy(file, folder)
        with closing(Database(self._settings.catalog_url)) as database:
            copies.copy_out(database, folder / "backup")
        self.states[name] = folder

    def restored(self, folder: Path, backup: str, library: str) -> Settings:
        """A library in one state, into which a backup of another one was put."""
        settings = fake_settings(folder)
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        for file in self.states[library].glob("*.db*"):
            shutil.copy(file, settings.data_dir)
        restore_library(settings, self.states[backup] / "backup")
        return settings


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    return Past(tmp_path_factory.mktemp("past"))


STATES = ["none", "running", "finalizing", "finalized", "rolling-back", "rolled-back", "retired", "the-way-back"]


@pytest.mark.parametrize("backup", STATES)
def test_a_backup_of_each_state_on_a_library_in_each_other(past: Past, backup: str, tmp_path: Path) -> None:
    assert list(past.states) == STATES
    for library in STATES[STATES.index(backup) % 3 :: 3]:
        settings = past.restored(tmp_path / library, backup, library)
        with past.open(settings) as db:
            assert "speakerdb index rebuild --all" in [problem.command for problem in db.status().problems]
            obey(db, "speakerdb index rebuild --all")
        with past.open(settings) as db:
            db.work()
            assert not db.status().problems, (backup, library)
            settled(db)
            assert db.match(speaker=db.speakers()[0].id).matches
            migration = db.migration()
            if migration is not None and migration.state in ("running", "finalized"):
                end = db.finalize if migration.state == "running" else db.rollback
                end()
            else:
                db.start_migration("v4" if db.status().serving == "v3" else "v3", force=True)
                db.work()
                db.finalize()
            check(db)
