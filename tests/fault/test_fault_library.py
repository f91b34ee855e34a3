"""States, settings, databases and indices that are not as they should be: what each verb says, and the way back."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from fault_kit import CommandLine, copy_database, everything, make_command_line, rows
from synthetic_voices import make_library, make_recording, write_settings

V5 = """
[generations.v5]
family = "spectral"
model = "spectral-b"
dimension = 50
"""


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """A library of three recordings, extracted in v3; voice 1 is talk00/B and talk01/A."""
    made = make_library(tmp_path / "media", 3, seconds=1.5)
    config = write_settings(tmp_path / "speakerdb.toml", batch=16)
    config.write_text(config.read_text() + V5)
    line = make_command_line(tmp_path, monkeypatch, capsys)
    line.ok("add", *(m.path for m in made), "--turns", tmp_path / "media" / "all.rttm", "--now")
    return line


def speaker(cli: CommandLine, recording: str, label: str) -> str:
    ((found,),) = rows(
        cli.data,
        "SELECT s.id FROM speakers s JOIN recordings r ON r.id = s.recording_id WHERE r.path LIKE ? AND s.label = ?",
        f"%/{recording}.wav",
        label,
    )
    return str(found)


def best(cli: CommandLine) -> str:
    answer = cli.ok("match", "--speaker", speaker(cli, "talk00", "B"))
    return f"{Path(answer['matches'][0]['recording_path']).stem}/{answer['matches'][0]['label']}"


# States of a migration


def test_verbs_in_a_state_that_forbids_them(cli: CommandLine) -> None:
    def refused(code: str, exit_code: int, *args: str) -> dict[str, object]:
        return cli.refused("migrate", *args, code=code, exit_code=exit_code)

    assert cli.ok("migrate", "status") is None
    for args in (["finalize", "--yes"], ["rollback", "--yes"], ["rollback", "--now", "--yes"], ["retire", "--yes"],
                 ["cancel", "--yes"], ["pause"], ["resume"], ["waive", "--why", "x", "--code", "media-missing"],
                 ["finalize"], ["rollback"]):  # fmt: skip
        refused("no-migration", 5, *args)

    cli.ok("migrate", "start", "--to", "v4", "--detach")
    with cli.open() as db, pytest.raises(Exception, match="v3 to v4 is running") as second:
        db.start_migration("v4")
    assert second.value.code == "migration-active"  # type: ignore[attr-defined]
    refused("migration-active", 5, "start", "--to", "v5", "--detach")
    too_early = refused("gate-failed", 10, "finalize", "--yes")
    assert "speakerdb work" in str(too_early["hint"])
    checks = {c["name"]: c["verdict"] for c in too_early["details"]["report"]["checks"]}  # type: ignore[index]
    assert checks["coverage"] == "fail"
    refused("illegal-transition", 5, "rollback", "--yes")
    refused("illegal-transition", 5, "retire", "--yes")
    refused("not-confirmed", 12, "finalize")
    refused("not-confirmed", 12, "cancel")
    refused("invalid-input", 4, "waive", "--why", " ", "--code", "media-missing")
    assert cli.ok("status")["serving"] == "v3"

    cli.ok("work")
    cli.ok("migrate", "finalize", "--yes")
    refused("illegal-transition", 5, "finalize", "--yes")
    refused("illegal-transition", 5, "cancel", "--yes")
    refused("migration-active", 5, "start", "--to", "v5", "--detach")
    refused("conflict", 5, "start", "--to", "v4", "--detach")
    cli.ok("migrate", "rollback", "--yes")
    refused("no-migration", 5, "rollback", "--yes")
    refused("no-migration", 5, "finalize", "--yes")
    assert cli.ok("status")["serving"] == "v3"


def test_finalize_is_refused_over_a_failure_until_a_person_waives_it(cli: CommandLine) -> None:
    made = make_recording(cli.folder / "media", "gone", [("A", 1, 2.0)])
    cli.ok("add", made.path, "--turns", made.path.with_suffix(".rttm"), "--now")
    made.path.unlink()
    started = cli("migrate", "start", "--to", "v4")
    assert started.exit_code == 6
    refused = cli.refused("migrate", "finalize", "--yes", code="gate-failed", exit_code=10)
    assert "waive" in refused["hint"]
    assert cli.ok("migrate", "waive", "--why", "deleted on purpose", "--code", "media-missing") == {"waived": 1}
    assert cli.ok("migrate", "finalize", "--yes")["serving"] == "v4"
    assert any(e["why"] == "deleted on purpose" for e in cli.ok("events"))


# Settings


@pytest.mark.parametrize(
    "text",
    [
        "serving = ",
        "\0\0",
        'serving = "v9"',
        'workers = "many"',
        "workers = -1",
        'device = "tpu"',
        '[generations.v4]\nmodel = "x"\nnonsense = 1',
        '[generations.v9]\nmodel = "x"',
        'generations = "v4"',
    ],
)
def test_settings_that_cannot_be_used(text: str, cli: CommandLine) -> None:
    (cli.folder / "speakerdb.toml").write_text(text)
    cli.refused("status", code="configuration", exit_code=2)


def test_settings_that_are_no_text(cli: CommandLine) -> None:
    (cli.folder / "speakerdb.toml").write_bytes(b"\xff\xfe\x00serving")
    cli.refused("status", code="configuration", exit_code=2)


def test_a_generation_that_changed_under_the_library(cli: CommandLine) -> None:
    write_settings(cli.folder / "speakerdb.toml", replace=("dimension = 64", "dimension = 65"))
    error = cli.refused("work", code="generation-changed", exit_code=2)
    assert "new name" in error["hint"]


def test_a_generation_that_is_not_defined_any_more(cli: CommandLine) -> None:
    cli.ok("migrate", "start", "--to", "v5", "--detach")
    write_settings(cli.folder / "speakerdb.toml")
    error = cli.refused("status", code="configuration", exit_code=2)
    assert "generations.v5" in error["hint"]


# The catalog


def test_a_database_of_a_newer_schema(cli: CommandLine) -> None:
    rows(cli.data, "UPDATE alembic_version SET version_num = '9999'")
    for args in (["status"], ["work"], ["db", "upgrade"], ["migrate", "start", "--to", "v4"]):
        cli.refused(*args, code="schema-newer", exit_code=2)


def test_a_file_that_is_no_database(cli: CommandLine) -> None:
    for leftover in cli.data.glob("catalog.db*"):
        leftover.unlink()
    (cli.data / "catalog.db").write_bytes(b"This is not a database. " * 400)
    before = (cli.data / "catalog.db").read_bytes()
    for args in (["status"], ["work"], ["db", "upgrade"]):
        ran = cli(*args)
        assert (ran.error["code"], ran.exit_code) == ("database-unavailable", 8), ran
    assert (cli.data / "catalog.db").read_bytes() == before


def test_a_database_of_something_else(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEAKERDB_DATABASE_URL", "oracle://localhost/x")
    cli.refused("status", code="configuration", exit_code=2)
    monkeypatch.setenv("SPEAKERDB_DATABASE_URL", "not an address")
    cli.refused("status", code="configuration", exit_code=2)


def test_a_catalog_restored_from_an_older_copy(cli: CommandLine) -> None:
    """The index is ahead: what it holds and SQL does not is never an answer, and new work is written above it."""
    copy_database(cli.data / "catalog.db", cli.folder / "older.db")
    later = make_recording(cli.folder / "media", "later", [("A", 1, 2.0), ("B", 2, 2.0)])
    cli.ok("add", later.path, "--turns", later.path.with_suffix(".rttm"), "--now")
    renamed = speaker(cli, "talk01", "A")
    ann = cli.ok("profiles", "create", "Ann")["id"]
    cli.ok("speakers", "assign", renamed, ann)
    cli.ok("work")
    copy_database(cli.folder / "older.db", cli.data / "catalog.db")
    answer = cli.ok("match", "--speaker", speaker(cli, "talk00", "B"))
    assert all("later" not in m["recording_path"] and m["profile_id"] is None for m in answer["matches"])
    # The same recording comes again, under other ids; and the one whose document is ahead is written again.
    cli.ok("add", later.path, "--turns", later.path.with_suffix(".rttm"), "--now")
    ben = cli.ok("profiles", "create", "Ben")["id"]
    cli.ok("speakers", "assign", renamed, ben)
    cli.ok("work")
    found = cli.ok("match", "--speaker", speaker(cli, "talk00", "B"), "--kind", "profile")
    assert [m["name"] for m in found["matches"]] == ["Ben"]
    # Documents that no row knows are named by the gate, should the generation ever be a target.
    cli.ok("index", "rebuild", "v3")
    assert best(cli) in ("talk01/A", "later/A")


# The index


def test_an_index_that_is_lost(cli: CommandLine) -> None:
    assert best(cli) == "talk01/A"
    for leftover in cli.data.glob("index.db*"):
        leftover.unlink()
    # Deleted files that nobody made again are made again empty; only the documents are missing then.
    status = cli("status")
    assert status.exit_code == 0
    assert "speakerdb index rebuild v3" in [problem["command"] for problem in status.json["problems"]]
    who = speaker(cli, "talk00", "B")
    for args in (
        ["match", "--speaker", who],
        ["migrate", "start", "--to", "v4"],
        ["migrate", "start", "--to", "v4", "--dry-run"],
    ):
        error = cli.refused(*args, code="alias-missing", exit_code=5)
        assert "speakerdb index rebuild v3" in error["hint"]
    # SQL goes on: what is new is extracted, and only its document has to wait.
    made = make_recording(cli.folder / "media", "new", [("A", 1, 2.0)])
    cli.ok("add", made.path, "--turns", made.path.with_suffix(".rttm"))
    worked = cli("work")
    assert (worked.error["code"], worked.exit_code) == ("index-missing", 8)
    assert "speakerdb index rebuild" in worked.error["hint"]
    assert cli.ok("index", "rebuild", "v3")["documents"] == 7
    assert cli.ok("status")["problems"] == []
    assert best(cli) in ("talk01/A", "new/A")
    assert cli.ok("work")["stopped"] == "drained"
    assert cli.ok("migrate", "start", "--to", "v4")["work"]["recordings_done"] == 4


def test_an_index_that_is_damaged(cli: CommandLine) -> None:
    path = cli.data / "index.db"
    copy_database(path, path.with_name("copy.db"))
    for leftover in cli.data.glob("index.db*"):
        leftover.unlink()
    data = bytearray(path.with_name("copy.db").read_bytes())
    data[:4096] = b"\xff" * 4096
    path.write_bytes(data)
    for args in (["status"], ["match", "--speaker", speaker(cli, "talk00", "B")], ["work"], ["index", "rebuild", "v3"]):
        ran = cli(*args)
        assert (ran.error["code"], ran.exit_code) == ("index-unavailable", 8), ran
        assert "Move the file away" in ran.error["hint"]
    path.rename(path.with_name("damaged.db"))
    cli.ok("index", "rebuild", "v3")
    assert best(cli) == "talk01/A"


def test_an_index_with_damaged_pages(cli: CommandLine) -> None:
    """The header is whole, the documents are not: whatever reads them says so, and nothing else happens."""
    path = cli.data / "index.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'documents_1'").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    data = bytearray(path.read_bytes())
    data[(root - 1) * size : root * size] = b"\xee" * size
    path.write_bytes(data)
    for args in (["match", "--speaker", speaker(cli, "talk00", "B")], ["index", "rebuild", "v3"]):
        ran = cli(*args)
        assert (ran.error["code"], ran.exit_code) == ("index-unavailable", 8), ran
        assert "Move the file away" in ran.error["hint"]


def test_an_index_restored_from_an_older_copy(cli: CommandLine) -> None:
    """SQL believes that everything is indexed. The gate that compares both does not, and a rebuild mends it."""
    cli.ok("migrate", "start", "--to", "v4")
    copy_database(cli.data / "index.db", cli.folder / "older.db")
    made = make_recording(cli.folder / "media", "later", [("A", 1, 2.0), ("B", 2, 2.0)])
    cli.ok("add", made.path, "--turns", made.path.with_suffix(".rttm"), "--now")
    cli.ok("remove", "--yes", rows(cli.data, "SELECT id FROM recordings WHERE path LIKE '%talk02%'")[0][0])
    cli.ok("work")
    copy_database(cli.folder / "older.db", cli.data / "index.db")
    assert cli.ok("work")["documents_written"] == 0, "nothing is known to be wrong"
    error = cli.refused("migrate", "finalize", "--yes", code="gate-failed", exit_code=10)
    assert "speakerdb index rebuild v4" in error["hint"]
    (check,) = [c for c in error["details"]["report"]["checks"] if c["name"] == "equality"]
    assert "2 missing" in check["value"]
    assert cli.ok("index", "rebuild", "v4")["documents"] == 8, "six speakers and two tombstones"
    cli.ok("migrate", "finalize", "--yes")
    # The source has the same hole, and nobody rolls back into it.
    cli.refused("migrate", "rollback", "--yes", code="gate-failed", exit_code=10)
    cli.ok("index", "rebuild", "v3")
    assert cli.ok("migrate", "rollback", "--yes")["serving"] == "v3"
    assert best(cli) in ("talk01/A", "later/A")


def test_an_alias_that_somebody_moved(cli: CommandLine) -> None:
    cli.ok("migrate", "start", "--to", "v4")
    rows(cli.data, "DELETE FROM aliases WHERE alias = 'speakers'", file="index.db")
    error = cli.refused("match", "--speaker", speaker(cli, "talk00", "B"), code="alias-missing", exit_code=5)
    assert "speakerdb index rebuild v3" in error["hint"]
    cli.refused("migrate", "finalize", "--yes", code="alias-missing", exit_code=5)
    rows(cli.data, "INSERT INTO aliases SELECT 'speakers', id FROM indices WHERE name = 'speakers_v4'", file="index.db")
    cli.refused("migrate", "finalize", "--yes", code="alias-moved", exit_code=5)
    rows(cli.data, "DELETE FROM aliases WHERE alias = 'speakers'", file="index.db")
    cli.ok("index", "rebuild", "v3")
    assert cli.ok("migrate", "finalize", "--yes")["serving"] == "v4"


# Read-only


def test_a_database_that_can_only_be_read(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened read-only by its address, which works for every user."""
    cli.ok("status")
    url = f"sqlite:///file:{cli.data / 'catalog.db'}?mode=ro&uri=true"
    monkeypatch.setenv("SPEAKERDB_DATABASE_URL", url)
    assert best(cli) == "talk01/A", "questions are still answered"
    media = cli.folder / "media"
    for args in (
        ["add", str(make_recording(media, "n", [("A", 1, 2.0)]).path), "--turns", str(media / "n.rttm")],
        ["work"],
        ["profiles", "create", "Ann"],
        ["migrate", "start", "--to", "v4"],
    ):
        cli.refused(*args, code="database-read-only", exit_code=8)


READ_ONLY = """
import os, sys, logging.handlers
from speakerdb.cli.main import main
import speakerdb.service, speakerdb.catalog.upgrade, speakerdb.index.embedded, speakerdb.models.spectral
import alembic.command, alembic.config
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
code = main(sys.argv[1:])
sys.stdout.flush()
os._exit(code)
"""


def test_a_folder_that_can_only_be_read(cli: CommandLine) -> None:
    """As another user than root, to whom permissions mean nothing."""
    who = speaker(cli, "talk00", "B")
    for folder in (cli.folder, *cli.folder.parents):
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)
    (cli.data / "locks").mkdir(exist_ok=True)
    before = everything(cli.data)
    places = (cli.data, cli.data / "locks", *cli.data.glob("*.db*"))
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        for args, code, exit_code in (
            (["work"], "database-read-only", 8),
            (["profiles", "create", "Ann"], "database-read-only", 8),
            (["match", "--speaker", who], "database-read-only", 8),
        ):
            ran = subprocess.run(
                [sys.executable, "-c", READ_ONLY, *args, "--json"], capture_output=True, text=True, cwd=cli.folder
            )
            assert ran.returncode == exit_code, (args, ran.stdout)
            assert f'"code": "{code}"' in ran.stdout
            assert '"hint": ""' not in ran.stdout
        new = subprocess.run(
            [sys.executable, "-c", READ_ONLY, "--data-dir", str(cli.data / "deeper"), "status", "--json"],
            capture_output=True, text=True, cwd=cli.folder,
        )  # fmt: skip
        assert (new.returncode, '"code": "configuration"' in new.stdout) == (2, True), new
        assert "SPEAKERDB_DATA_DIR" in new.stdout
    finally:
        for path in places:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert everything(cli.data) == before
