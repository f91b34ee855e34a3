"""The schema: revisions and models agree, upgrades are safe, and invariants are refused by the database itself."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from speakerdb.catalog import journal, schema, trail, upgrade
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Database
from speakerdb.errors import DatabaseReadOnly, DatabaseUnavailable, SchemaNewer, SchemaOutdated
from tests.catalog.conftest import add, embed

NewUrl: TypeAlias = Callable[[], str]


def test_models_and_revisions_agree(kind: str, new_url: NewUrl) -> None:
    database = Database(new_url())
    upgrade.upgrade(database)
    with database.read() as tx:
        differences = compare_metadata(MigrationContext.configure(tx), schema.metadata)
        # Alembic compares neither CHECKs nor partial conditions: compare what the database itself says of them.
        stored = STATEMENTS[kind](tx)
    assert differences == []
    other = Database(new_url())
    with other.write() as tx:
        schema.metadata.create_all(tx)
    with other.read() as tx:
        assert STATEMENTS[kind](tx) == stored
    database.close()
    other.close()


def _statements(tx: sa.Connection) -> dict[str, tuple[str, list[str]]]:
    rows = tx.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'index') AND sql IS NOT NULL"
    )
    return {name: _parts(sql) for name, sql in rows if name not in ("alembic_version", "sqlite_sequence")}


def _definitions(tx: sa.Connection) -> set[tuple[object, ...]]:
    """Columns, constraints and indices as PostgreSQL tells them."""
    found = set()
    for query in (
        "SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, attcollation::regcollation,"
        " pg_get_expr(adbin, adrelid) FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
        " LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE relkind = 'r' AND attnum > 0",
        "SELECT relname, conname, pg_get_constraintdef(pg_constraint.oid) FROM pg_constraint"
        " JOIN pg_class ON pg_class.oid = conrelid WHERE true",
        "SELECT relname, pg_get_indexdef(pg_class.oid) FROM pg_class WHERE relkind = 'i'",
    ):
        mine = " AND relnamespace = current_schema()::regnamespace AND NOT starts_with(relname, 'alembic')"
        rows = tx.exec_driver_sql(query + mine).all()
        assert rows
        found |= {tuple(row) for row in rows}
    return found


STATEMENTS: dict[str, Callable[[sa.Connection], object]] = {}


def _parts(statement: str) -> tuple[str, list[str]]:
    """What stands around the outer brackets, and what stands in them in any order: a column that a later revision adds
    comes after the constraints."""
    text = " ".join(statement.split())
    first, last = text.index("("), text.rindex(")")
    depth, parts = 0, [""]
    for character in text[first + 1 : last]:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return f"{text[:first].strip()} ... {text[last + 1 :].strip()}", sorted(part.strip() for part in parts)


STATEMENTS |= {"sqlite": _statements, "postgresql": _definitions}


def test_texts_are_compared_by_code_point(kind: str, new_url: NewUrl) -> None:
    """In every text column of every revision, whatever the server's language is."""
    if kind == "sqlite":
        return  # as it does unless told otherwise
    database = Database(new_url())
    upgrade.upgrade(database)
    with database.read() as tx:
        others = tx.exec_driver_sql(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
            " AND data_type IN ('text', 'character varying') AND collation_name IS DISTINCT FROM 'C'"
        ).all()
    database.close()
    assert {row[0] for row in others} <= {"alembic_version"}


def test_a_database_of_the_first_revision_keeps_its_rows(new_url: NewUrl) -> None:
    database = Database(new_url())
    config = Config()
    config.set_main_option("script_location", str(upgrade.scripts()))
    with database.write() as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, "0001")
    with database.write() as tx:
        tx.exec_driver_sql("INSERT INTO libraries VALUES ('lib_1', 'default', 1)")
        tx.exec_driver_sql(
            "INSERT INTO recordings VALUES ('rec_1', 'lib_1', '/a.wav', NULL, NULL, 3.0, 'digest', 1, 1, 1)"
        )
        tx.exec_driver_sql("INSERT INTO events VALUES (1, 5, 'recording-added', 'ada', NULL, 'rec_1', '{}')")
    upgrade.ensure(database, auto_upgrade=True)
    with database.read() as tx:
        assert tx.exec_driver_sql("SELECT id, recorded_at FROM recordings").all() == [("rec_1", None)]
        (event,) = trail.latest_events(tx, 10)
        assert (event["kind"], event["who"], event["why"]) == ("recording-added", "ada", None)
    database.close()


def test_the_head_constant_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(upgrade.scripts()))
    assert ScriptDirectory.from_config(config).get_current_head() == upgrade.HEAD


def test_a_database_of_a_newer_schema_is_refused(catalog: Catalog) -> None:
    with catalog.job() as tx:
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaNewer):
        catalog.prepare(auto_upgrade=True)
    with pytest.raises(SchemaNewer):
        catalog.prepare(auto_upgrade=False)


def test_an_outdated_database_waits_for_a_person_where_told_so(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "HEAD", "9999")
    with pytest.raises(SchemaOutdated):
        catalog.prepare(auto_upgrade=False)


def _upgrade(url: str, results: "multiprocessing.Queue[str]") -> None:
    database = Database(url)
    results.put(upgrade.upgrade(database))
    database.close()


def test_two_processes_upgrade_at_once(new_url: NewUrl) -> None:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[str] = context.Queue()
    url = new_url()
    started = [context.Process(target=_upgrade, args=(url, results)) for _ in range(3)]
    for process in started:
        process.start()
    assert [results.get(timeout=60) for _ in started] == [upgrade.HEAD] * 3
    for process in started:
        process.join()
        assert process.exitcode == 0
    results.close()
    results.join_thread()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE projections SET indexed_version = version + 1",
        "UPDATE projections SET version = 0",
        "UPDATE embeddings SET reason = 'both'",
        "UPDATE embeddings SET vector = NULL",
        'UPDATE turns SET "end" = "start"',
        "UPDATE work_items SET state = 'failed', error_code = NULL",
        "UPDATE work_items SET state = 'taken', taken_epoch = NULL",
        "UPDATE work_items SET state = 'waived'",
        "UPDATE speakers SET profile_id = 'nobody'",
        "UPDATE recordings SET content_version = 0",
        "INSERT INTO work_items (recording_id, task, generation, reason, priority, state, attempts, updated_at)"
        " VALUES ('r', 'extract', 'v3', 'new', 0, 'queued', 0, 0)",
        "INSERT INTO work_items (recording_id, task, generation, reason, priority, state, attempts, updated_at)"
        " VALUES ('r', 'diarize', 'v4', 'new', 0, 'queued', 0, 0)",
        "INSERT INTO work_items (recording_id, task, reason, priority, state, attempts, updated_at)"
        " VALUES ('r', 'diarize', 'new', 0, 'queued', 0, 0), ('r', 'diarize', 'new', 0, 'queued', 0, 0)",
        "INSERT INTO migrations (alias, source, target, state, paused, started_at)"
        " VALUES ('speakers', 'v3', 'v4', 'running', false, 0), ('speakers', 'v4', 'v3', 'running', false, 0)",
        "INSERT INTO migrations (alias, source, target, state, paused, started_at) VALUES ('a', 'v3', 'v3', 'running', false, 0)",
        "INSERT INTO migrations (alias, source, target, state, paused, started_at)"
        " VALUES ('a', 'v3', 'v4', 'finalizing', false, 0)",
        "UPDATE events SET who = 'somebody else'",
    ],
)
def test_the_schema_refuses(catalog: Catalog, statement: str) -> None:
    ids = add(catalog, "r")
    embed(catalog, ids["SPEAKER_00"])
    with catalog.job() as tx:
        journal.record(tx, "migration-started", "me", 1)
    with pytest.raises(sa.exc.IntegrityError), catalog.job() as tx:
        tx.exec_driver_sql(statement)


def test_writes_are_durable_and_foreign_keys_are_on(tmp_path: Path) -> None:
    catalog = Database(f"sqlite:///{tmp_path / 'c.db'}")
    with catalog.read() as tx:
        pragmas = {
            p: tx.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("journal_mode", "synchronous", "foreign_keys")
        }
    catalog.close()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_driver_errors_are_translated_by_class(tmp_path: Path) -> None:
    writable = Database(f"sqlite:///{tmp_path / 'c.db'}")
    upgrade.upgrade(writable)
    with writable.read() as tx:
        tx.exec_driver_sql("PRAGMA query_only = ON")
        with pytest.raises(DatabaseReadOnly):
            tx.exec_driver_sql("DELETE FROM events")
    writable.close()
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"this is no database, whatever its name says" * 100)
    database = Database(f"sqlite:///{garbage}")
    with pytest.raises(DatabaseUnavailable), database.read() as tx:
        tx.exec_driver_sql("SELECT 1")
    database.close()


def test_messages_hold_no_parameters(catalog: Catalog) -> None:
    add(catalog, "r")
    with pytest.raises(sa.exc.IntegrityError) as caught, catalog.job() as tx:
        tx.execute(sa.update(schema.speakers).values(profile_id="a-persons-secret"))
    # PostgreSQL quotes the row in its error's second line, and a log holds the causes too.
    error: BaseException | None = caught.value
    while error is not None:
        assert "a-persons-secret" not in str(error) + repr(error)
        error = error.__cause__ or error.__context__
