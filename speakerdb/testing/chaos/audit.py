"""Triggers of a test's database that keep, commit by commit, under which epoch something was written and what went back.

They stand in the database and see every transaction, whoever makes it. `history_check` judges what they kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from speakerdb.errors import WorkerDied
from speakerdb.testing.history import Commit

TABLE = "chaos_commits"


@dataclass(frozen=True)
class _Rule:
    """`what` is kept of rows of `table` at `event` (an INSERT, UPDATE or DELETE) where `when` holds."""

    what: str
    table: str
    event: str
    when: str
    subject: str
    claimed: str
    lease: str | None = None
    """The lease under which this is done; with None `epoch` is what there is now, and it was never to happen."""
    epoch: str = "NULL"


# Who comes after one that died gives up what it had taken, and says so: under an epoch of its own, which the row does not tell.
# It does that before it takes anything, and with all that was left: once something is taken under the newest epoch, a row of an
# older one is given up by somebody who is stale. Before, a stale one writes what the newest is about to.
_DIED = f"NEW.error_code = '{WorkerDied.code}'"
_COMES_AFTER = (
    "NEW.error_message ="
    " COALESCE(OLD.error_message || ' ', '') || 'Attempt ' || OLD.attempts || ': the whole process died.'"
)
_BEGUN = f"SELECT 1 FROM {TABLE} WHERE what = 'taken' AND claimed = (SELECT epoch FROM leases WHERE name = 'work')"  # noqa: S608
_ITEM = "NEW.recording_id || '/' || COALESCE(NEW.generation, NEW.task)"
_RULES = (
    _Rule("taken", "work_items", "UPDATE", "NEW.state = 'taken'", _ITEM, "NEW.taken_epoch", lease="work"),
    _Rule(
        "extracted", "work_items", "UPDATE",
        f"OLD.state = 'taken' AND (NEW.state = 'done' OR (NEW.state = 'failed' AND NOT ({_DIED})))",
        _ITEM, "OLD.taken_epoch", lease="work",
    ),
    _Rule(
        "given-up", "work_items", "UPDATE", f"OLD.state = 'taken' AND NEW.state = 'failed' AND {_DIED}", _ITEM,
        f"CASE WHEN {_COMES_AFTER} AND NOT EXISTS ({_BEGUN}) THEN NULL ELSE OLD.taken_epoch END", lease="work",
    ),
    _Rule(
        "swap-announced", "migrations", "UPDATE", "NEW.swap_token IS NOT NULL AND OLD.swap_token IS NULL",
        "NEW.swap_token", "NULL", lease="migration",
    ),
    _Rule(
        "moved-on", "migrations", "UPDATE", "NEW.state <> OLD.state", "NEW.id || ' ' || NEW.state", "NULL", lease="migration",
    ),
    _Rule("started", "migrations", "INSERT", "1 = 1", "NEW.target", "NULL", lease="migration"),
    _Rule(
        "repaired", "repair_runs", "UPDATE", "NEW.state = 'done' AND OLD.state = 'running'", "NEW.generation", "NEW.epoch",
        lease="repair",
    ),
    _Rule(
        "version-back", "projections", "UPDATE", "NEW.version < OLD.version", "NEW.generation || '/' || NEW.entity_id",
        "OLD.version", epoch="NEW.version",
    ),
    _Rule(
        "indexed-version-back", "projections", "UPDATE", "NEW.indexed_version < OLD.indexed_version",
        "NEW.generation || '/' || NEW.entity_id", "OLD.indexed_version", epoch="NEW.indexed_version",
    ),
    _Rule(
        "projection-vanished", "projections", "DELETE", "NOT OLD.deleted", "OLD.generation || '/' || OLD.entity_id",
        "OLD.version",
    ),
    _Rule(
        "content-version-back", "recordings", "UPDATE", "NEW.content_version < OLD.content_version", "NEW.id",
        "OLD.content_version", epoch="NEW.content_version",
    ),
    _Rule(
        "members-version-back", "profiles", "UPDATE", "NEW.members_version < OLD.members_version", "NEW.id",
        "OLD.members_version", epoch="NEW.members_version",
    ),
    _Rule("epoch-back", "leases", "UPDATE", "NEW.epoch < OLD.epoch", "NEW.name", "OLD.epoch", epoch="NEW.epoch"),
    _Rule("lease-vanished", "leases", "DELETE", "1 = 1", "OLD.name", "OLD.epoch"),
)  # fmt: skip


def install(url: str) -> None:
    """From now on everything is kept. The schema stands already."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as tx:
        number = "INTEGER PRIMARY KEY" if tx.dialect.name == "sqlite" else "BIGSERIAL PRIMARY KEY"
        tx.exec_driver_sql(
            f"CREATE TABLE {TABLE} (id {number}, what TEXT NOT NULL, subject TEXT NOT NULL, claimed BIGINT, epoch BIGINT,"
            " holder TEXT)"
        )
        for rule in _RULES:
            for statement in _statements(rule, tx.dialect.name):
                tx.exec_driver_sql(statement)
    engine.dispose()


def _statements(rule: _Rule, dialect: str) -> list[str]:
    name = _name(rule)
    epoch, holder = rule.epoch, "NULL"
    if rule.lease is not None:
        epoch, holder = (f"(SELECT {column} FROM leases WHERE name = '{rule.lease}')" for column in ("epoch", "holder"))  # noqa: S608
    insert = (
        f"INSERT INTO {TABLE} (what, subject, claimed, epoch, holder)"  # noqa: S608  all of it stands above
        f" VALUES ('{rule.what}', {rule.subject}, {rule.claimed}, {epoch}, {holder});"
    )
    if dialect == "sqlite":
        return [f"CREATE TRIGGER {name} AFTER {rule.event} ON {rule.table} WHEN {rule.when} BEGIN {insert} END"]
    return [
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {insert} RETURN NULL; END $$",
        f"CREATE TRIGGER {name} AFTER {rule.event} ON {rule.table} FOR EACH ROW WHEN ({rule.when})"
        f" EXECUTE FUNCTION {name}()",
    ]


def uninstall(url: str) -> None:
    """As it was before."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as tx:
        for rule in _RULES:
            name = _name(rule)
            tx.exec_driver_sql(
                f"DROP TRIGGER {name}" if tx.dialect.name == "sqlite" else f"DROP FUNCTION {name} CASCADE"
            )
        tx.exec_driver_sql(f"DROP TABLE {TABLE}")
    engine.dispose()


def _name(rule: _Rule) -> str:
    return f"chaos_{rule.what.replace('-', '_')}"


def commits(url: str) -> list[Commit]:
    """What was kept, in the order of the commits."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as tx:
        rows = tx.exec_driver_sql(f"SELECT what, subject, claimed, epoch, holder FROM {TABLE} ORDER BY id").all()  # noqa: S608
    engine.dispose()
    return [_commit(*row) for row in rows]


def _commit(what: str, subject: str, claimed: int | None, epoch: int | None, holder: str | None) -> Commit:
    if what == "swap-announced":  # its token ends with the epoch of who announced it
        claimed = int(subject.rpartition("-")[2])
    return Commit(what, subject, claimed, epoch, holder)
