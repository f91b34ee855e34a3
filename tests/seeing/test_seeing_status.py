"""One screen: what serves, what runs, why it waits, what is broken and the command that mends it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from seeing_kit import Clock, CommandLine, Failing, add, parses

from speakerdb.catalog import leases, schema
from speakerdb.cli.screens import show_status
from speakerdb.core import health
from speakerdb.core.health import Facts, GenerationFacts, MigrationFacts
from speakerdb.core.lifecycle import State
from speakerdb.errors import MediaMissing, MediaUnreadable, ModelOffline
from speakerdb.extraction.drain import LEASE_NAME
from speakerdb.reports import Status
from speakerdb.reports.seeing import ErrorGroup, LeaseView, Problem
from speakerdb.service import SpeakerDB
from speakerdb.types import AliasAction

Open = Callable[..., SpeakerDB]


def codes(status: Status) -> dict[str, str]:
    """Codes of the problems with their commands."""
    return {problem.code: problem.command for problem in status.problems}


@pytest.fixture(autouse=True)
def _no_old_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYANNOTE_CACHE", raising=False)


# The library


def test_a_library_where_all_is_well_has_no_problem(db: SpeakerDB) -> None:
    add(db, "a")
    db.work()
    status = db.status()
    assert status.problems == ()
    assert status.waiting == ()
    assert (status.serving, status.index) == ("v3", "speakers_v3")
    assert [lease.state for lease in status.leases if lease.name == LEASE_NAME] == ["free"]


def test_a_queue_that_nobody_works_on_says_so(db: SpeakerDB) -> None:
    add(db, "a")
    (wait,) = db.status().waiting
    assert (wait.generation, wait.recordings, wait.reason, wait.command) == ("v3", 1, "nobody-works", "speakerdb work")
    assert codes(db.status()) == {"nobody-works": "speakerdb work"}


def test_while_somebody_works_it_shows_who_and_on_what_and_how_fast(open_db: Open, clock: Clock) -> None:
    """Seen from another process than the one that works, in the middle of a batch."""
    db, other = open_db(clock=clock, lease_seconds=1e6), open_db(clock=clock, lease_seconds=1e6)
    for number in range(3):
        add(db, f"before{number}")
    db.work()  # what an earlier run did says nothing of this one's pace
    clock.forward(100.0)
    for number in range(40):
        add(db, f"r{number:02}")
    seen: list[Status] = []

    def stop() -> bool:
        clock.forward(10.0)
        with other.catalog.read() as tx:
            items = schema.work_items
            taken = set(tx.scalars(sa.select(items.c.recording_id).where(items.c.state == "taken")))
        seen.append(other.status())
        assert {one.recording_id for one in seen[-1].current} == taken
        return False

    db.work(stop=stop)
    during = [status for status in seen if status.current]
    assert during
    one = during[-1]
    (lease,) = [lease for lease in one.leases if lease.name == LEASE_NAME]
    assert lease.state == "held"
    assert lease.holder == db.catalog.holder.name
    assert (lease.since or 0) < clock.at
    assert {(each.generation, each.turns, each.speakers) for each in one.current} == {("v3", 2, 2)}
    assert {each.recording_id for each in one.current} <= {f"r{number:02}" for number in range(40)}
    (wait,) = one.waiting
    assert (wait.reason, wait.command) == ("working", "")
    pace = one.pace["v3"]
    assert pace.recordings == one.progress["v3"].recordings_done - 3
    assert pace.audio_seconds == 20.0 * pace.recordings
    assert pace.speed == pytest.approx(pace.audio_seconds / pace.seconds)
    assert pace.left is not None
    assert one.problems == ()
    after = other.status()
    assert (after.current, dict(after.pace), after.waiting) == ((), {}, ())


def test_a_worker_that_is_gone_is_told_from_one_that_works(open_db: Open) -> None:
    dead, db = open_db(), open_db()
    add(db, "a")
    with dead.catalog.database.write() as tx:
        leases.acquire(tx, LEASE_NAME, dead.catalog.holder.name, dead.catalog.now(), 60.0)
    assert db.status().waiting[0].reason == "working"
    assert codes(db.status()) == {}
    (locked,) = (db.settings.data_dir / "locks").glob(f"{dead.catalog.holder.name.rpartition('/')[2]}*")
    dead.catalog.holder.close()
    locked.touch()  # as the system leaves it when the process is killed
    for _ in range(2):  # looking changes nothing: whoever works next may still see that the holder is dead
        (wait,) = db.status().waiting
        assert (wait.reason, wait.command) == ("holder-gone", "speakerdb work")
        assert codes(db.status()) == {"holder-gone": "speakerdb work"}
    assert db.work().recordings_done == 1


def test_a_worker_that_was_not_heard_of_for_too_long_does_not_work(open_db: Open, clock: Clock) -> None:
    db, other = open_db(clock=clock), open_db(clock=clock)
    add(db, "a")
    with other.catalog.database.write() as tx:
        leases.acquire(tx, LEASE_NAME, "elsewhere/77-abc", clock(), 60.0)
    (lease,) = [lease for lease in db.status().leases if lease.name == LEASE_NAME]
    assert (lease.state, lease.host, lease.pid) == ("held", "elsewhere", 77)
    clock.forward(61)
    (lease,) = [lease for lease in db.status().leases if lease.name == LEASE_NAME]
    assert lease.state == "expired"
    assert db.status().waiting[0].reason == "nobody-works"


def test_a_paused_migration_says_why_it_waits(db: SpeakerDB) -> None:
    add(db, "a")
    db.work()
    db.start_migration("v4", force=True)
    db.pause("backups until four")
    add(db, "b")
    by_reason = {(wait.generation, wait.reason): wait for wait in db.status().waiting}
    assert by_reason["v4", "paused"].recordings == 1
    assert "backups until four" in by_reason["v4", "paused"].message
    assert by_reason["v4", "paused"].command == "speakerdb migrate resume"
    assert by_reason["v4", "nobody-works"].recordings == 1, "what is new goes on"
    assert codes(db.status())["migration-paused"] == "speakerdb migrate resume"


def test_a_finalize_that_holds_the_fence_is_why_it_waits(db: SpeakerDB) -> None:
    add(db, "a")
    with db.catalog.database.write() as tx:
        assert leases.raise_fence(tx, "somebody", db.catalog.now(), 30.0)
    assert [(wait.reason, wait.command) for wait in db.status().waiting] == [("writes-fenced", "")]


def test_failures_are_grouped_by_code_with_a_sample_and_a_command(db: SpeakerDB, answer: Failing) -> None:
    for number in range(5):
        add(db, f"r{number}")
    answer.errors = {f"r{number}": MediaMissing(f"r{number}.wav is gone") for number in (1, 3)}
    answer.errors["r2"] = MediaUnreadable("r2 is not audio")
    db.work()
    problems = {problem.code: problem for problem in db.status().problems}
    assert problems["media-missing"].count == 2
    assert problems["media-missing"].severity == "error"
    assert "r1.wav is gone" in problems["media-missing"].message
    assert problems["media-missing"].command == "speakerdb media check"
    assert problems["media-unreadable"].command == "speakerdb migrate retry --code media-unreadable"
    assert db.retry(code="media-unreadable") == 1


def test_a_model_that_cannot_be_loaded_is_why_it_waits(db: SpeakerDB) -> None:
    """As soon as the queue holds the error of a run, its words are shown."""
    add(db, "a")
    with db.catalog.job() as tx:
        tx.execute(sa.update(schema.work_items).values(error_code=ModelOffline.code, error_message="no v3 here"))
    (wait,) = db.status().waiting
    assert (wait.reason, wait.command) == ("model-unavailable", "speakerdb doctor")
    assert "no v3 here" in wait.message
    assert codes(db.status()) == {"model-unavailable": "speakerdb doctor"}


def test_an_index_that_is_missing(db: SpeakerDB) -> None:
    add(db, "a")
    db.work()
    db.index.drop("speakers_v3")
    status = db.status()
    assert status.serving == "?"
    assert codes(status) == {
        "alias-missing": "speakerdb index rebuild v3", "index-missing": "speakerdb index rebuild v3"
    }  # fmt: skip
    db.rebuild_index("v3")
    assert db.status().problems == ()


def test_an_alias_that_names_what_nobody_defined(db: SpeakerDB) -> None:
    db.index.create("stranger", 8, {"generation": "x"})
    db.index.update_aliases([AliasAction.remove("speakers", "speakers_v3"), AliasAction.add("speakers", "stranger")])
    (problem,) = db.status().problems
    assert (problem.code, problem.severity) == ("configuration", "error")
    assert "stranger" in problem.message


def test_an_alias_that_disagrees_with_the_database(db: SpeakerDB) -> None:
    add(db, "a")
    db.work()
    db.start_migration("v4", force=True)
    db.index.update_aliases([AliasAction.remove("speakers", "speakers_v3"), AliasAction.add("speakers", "speakers_v4")])
    problem = next(problem for problem in db.status().problems if problem.code == "alias-disagrees")
    assert problem.command == "speakerdb index rebuild v3 --serve"
    assert db.status().serving == "v4"
    db.rebuild_index("v3", serve=True)
    assert db.status().serving == "v3"


def test_what_waits_to_be_pooled_or_written_is_said(db: SpeakerDB) -> None:
    speakers = add(db, "a").speakers
    person = db.create_profile("Ann").id
    db.work()
    db.assign(speakers["SPEAKER_00"], person)
    assert codes(db.status()) == {"profiles-waiting": "speakerdb work", "documents-waiting": "speakerdb work"}
    db.work()
    assert db.status().problems == ()


def test_documents_that_the_index_refused(db: SpeakerDB) -> None:
    add(db, "a")
    db.work()
    table = schema.projections
    with db.catalog.job() as tx:
        tx.execute(sa.update(table).values(version=table.c.version + 1))
        tx.execute(sa.update(table).values(rejected_version=table.c.version, rejection="wrong shape"))
    (problem,) = db.status().problems
    assert (problem.code, problem.count) == ("items-rejected", 2)
    assert "wrong shape" in problem.message
    assert problem.command == "speakerdb index rebuild v3"
    with db.catalog.job() as tx:
        tx.execute(sa.update(table).values(version=table.c.version + 1))
    assert codes(db.status()) == {"documents-waiting": "speakerdb work"}, "it is sent again"


def test_a_roll_back_period_that_is_over_and_a_source_that_lacks(open_db: Open, clock: Clock, answer: Failing) -> None:
    db = open_db(clock=clock, rollback_days=1.0)
    add(db, "a")
    db.work()
    db.start_migration("v4", force=True)
    db.work()
    db.finalize()
    assert db.status().problems == ()
    items = schema.work_items
    with db.catalog.job() as tx:  # queued to be extracted again: what it has it still has
        tx.execute(sa.update(items).where(items.c.generation == "v3").values(state="queued", attempts=0))
    assert "source-lag" not in codes(db.status())
    db.work()
    answer.errors["b"] = MediaUnreadable("broken")
    add(db, "b")
    db.work()
    with db.catalog.job() as tx:  # the target got it, the source did not
        tx.execute(sa.update(items).where(items.c.generation == "v4").values(state="queued", attempts=0))
    answer.errors.clear()
    db.work()
    status = db.status()
    lag = next(problem for problem in status.problems if problem.code == "source-lag")
    assert (lag.count, lag.generation, lag.command) == (2, "v3", "speakerdb migrate retry")
    assert status.migration is not None
    assert status.migration.source_lag == 2
    clock.forward(86_400 * 1.01)
    assert codes(db.status())["rollback-over"] == "speakerdb migrate retire"


def test_an_old_cache_variable_and_a_full_disk(open_db: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYANNOTE_CACHE", "/somewhere")
    found = codes(open_db(disk_floor_mb=10**9).status())
    assert found == {"disk-low": "speakerdb doctor", "old-cache": "unset PYANNOTE_CACHE"}


def test_another_room_may_add_problems(db: SpeakerDB) -> None:
    db.overview.watch(lambda: [Problem("strange", "error", "something is strange", "speakerdb doctor")])
    assert codes(db.status())["strange"] == "speakerdb doctor"


# The rules


FACTS = Facts(0, "v3", "v3", (), None, None, None, None, 10**12, 0, None)
GENERATION = GenerationFacts("v4", "speakers_v4", True, 0, 0, 0, 0, 0, 0, None, None, ())


def test_an_intention_is_a_problem_only_while_nobody_is_at_it() -> None:
    migration = MigrationFacts("v3", "v4", State.FINALIZING, False, None, None, 0)
    facts = replace(FACTS, migration=migration, stated=None)
    assert [problem.code for problem in health.problems(facts, ())] == ["swap-unfinished"]
    held = LeaseView("migration", "held", "h/1-a", "h", 1, 0, 1, 1)
    assert health.problems(replace(facts, migrating=held), ()) == ()


def test_errors_come_first_and_every_command_exists() -> None:
    """Every problem that can be found, at once."""
    group = ErrorGroup("v4", "worker-died", 2, "r", None, "died", 3, 0, health.retry_command("worker-died"))
    missing = replace(group, code="media-missing")
    one = replace(
        GENERATION, index_there=False, queued=5, held_back=2, dirty_profiles=1, documents_waiting=3, rejected=1,
        rejection="no", errors=(group, missing),
    )  # fmt: skip
    other = replace(GENERATION, name="v3", documents_waiting=2, queued=1, model_fault=("model-offline", "no"))
    paused = MigrationFacts("v3", "v4", State.RUNNING, True, None, None, 4)
    over = MigrationFacts("v3", "v4", State.FINALIZED, False, None, -1, 0)
    intention = MigrationFacts("v3", "v4", State.ROLLING_BACK, False, None, None, 0)
    found: dict[str, Problem] = {}
    for migration in (paused, over, intention):
        facts = replace(
            FACTS, stated="v4", generations=(one, other), migration=migration, disk_free=1, disk_floor=2, old_cache="/x",
            left_over={"speakers_v4": "v4"},
        )  # fmt: skip
        problems = health.problems(facts, health.waiting(facts))
        severities = [problem.severity for problem in problems]
        assert severities == sorted(severities, key=lambda severity: severity != "error")
        found |= {problem.code: problem for problem in problems}
    assert set(found) == {
        "alias-disagrees", "nobody-works", "model-unavailable", "migration-paused", "rollback-over", "swap-unfinished",
        "source-lag", "disk-low", "old-cache", "index-missing", "items-rejected", "worker-died", "media-missing",
        "profiles-waiting", "documents-waiting", "index-left-over",
    }  # fmt: skip
    for problem in found.values():
        assert parses(problem.command), problem
    assert parses(group.retry)


# The door


def test_the_screen_and_the_document_say_the_same(
    cli: CommandLine, open_db: Open, answer: Failing, tmp_path: Path
) -> None:
    db = open_db()
    for number in range(3):
        add(db, f"r{number}")
    answer.errors["r1"] = MediaMissing("r1.wav\x1b[2J is gone")
    db.work()
    db.start_migration("v4", force=True)
    screen = cli("status")
    assert screen.exit_code == 0
    for part in (
        "serving           v3 (speakers_v3)", "3 recordings, 6 speakers", "error[media-missing]",
        "next: speakerdb media check", "waiting v4: 3 recordings in the queue. Nobody works on the queue.",
        "migration 1: v3 to v4, running",
    ):  # fmt: skip
        assert part in screen.out, screen.out
    assert "\x1b" not in screen.out
    found = cli("status", "--json").json
    assert set(found) == {
        "serving", "index", "live", "libraries", "recordings", "speakers", "profiles", "progress", "migration",
        "leases", "problems", "data_dir", "database", "current", "pace", "waiting", "preferences",
        "backends",
    }  # fmt: skip
    assert set(found["problems"][0]) == {"code", "severity", "message", "command", "count", "generation"}
    assert set(found["waiting"][0]) == {"generation", "recordings", "reason", "message", "command"}
    assert set(found["leases"][0]) == {"name", "state", "holder", "host", "pid", "since", "expires_at", "epoch"}


def test_a_database_of_a_newer_version_is_said_with_its_code(cli: CommandLine, open_db: Open, tmp_path: Path) -> None:
    from speakerdb.catalog.database import Database

    open_db().close()
    database = Database(f"sqlite:///{tmp_path / 'data' / 'catalog.db'}")
    with database.write() as tx:
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    ran = cli("status", "--json")
    assert (ran.json["error"]["code"], ran.exit_code) == ("schema-newer", 2)
    assert ran.json["error"]["hint"]


def shown(status: Status) -> str:
    import io

    from speakerdb.cli.output import console_for

    stream = io.StringIO()
    show_status(console_for(stream), status)
    return stream.getvalue()


def test_a_lease_is_read_as_a_sentence(db: SpeakerDB) -> None:
    held = LeaseView("work", "held", "box/12-ab", "box", 12, 1_750_000_000_000_000, 1_750_000_060_000_000, 3)
    status = db.status()
    assert "work: process 12 on box works on the queue since 2025-06-15" in shown(replace(status, leases=(held,)))
    gone = shown(replace(status, leases=(replace(held, state="gone"),)))
    assert "is gone; whoever comes next takes over" in gone
    assert "not been heard of since" in shown(replace(status, leases=(replace(held, state="expired"),)))


def test_migrate_status_from_outside(open_db: Open, clock: Clock, answer: Failing, cli: CommandLine) -> None:
    """Recordings, audio, what is worked on, pace, errors by code with a sample and the command for them."""
    db, other = open_db(clock=clock, lease_seconds=1e6), open_db(clock=clock, lease_seconds=1e6)
    for number in range(30):
        add(db, f"r{number:02}")
    db.work()
    answer.errors = {"r01": MediaMissing("gone"), "r02": MediaMissing("gone too")}
    db.start_migration("v4", force=True)
    views: list[Any] = []

    def stop() -> bool:
        clock.forward(5.0)
        views.append(other.migration())
        return False

    db.work(stop=stop)
    during = [view for view in views if view.current and view.pace is not None]
    assert during
    assert {one.generation for one in during[-1].current} == {"v4"}
    assert during[-1].pace.left is not None
    assert [wait.reason for wait in during[-1].waiting] == ["working"]
    (group,) = other.migration().errors  # type: ignore[union-attr]
    assert (group.code, group.count, group.recording_id, group.message, group.attempts) == (
        "media-missing", 2, "r01", "gone", 1
    )  # fmt: skip
    assert group.retry == "speakerdb migrate retry --code media-missing"
    text = cli("migrate", "status").out
    assert "again: speakerdb migrate retry --code media-missing" in text
    document = cli("migrate", "status", "--json").json
    assert document["errors"][0]["count"] == 2
    assert (document["current"], document["pace"]) == ([], None)
    json.dumps(document)
