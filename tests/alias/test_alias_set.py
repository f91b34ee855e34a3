"""The alias, shown and set by a person: proven, under the lease and a token, and told in the trail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from speakerdb.catalog import vectors
from speakerdb.errors import (
    AliasMoved,
    ConfigurationError,
    GateFailed,
    IllegalTransition,
    IndexMissing,
    IndexUnavailable,
    InvalidInput,
    LeaseHeld,
    LeaseLost,
)
from speakerdb.migrator.swap import TOKEN_PREFIX
from speakerdb.service import SpeakerDB
from speakerdb.testing.invariants import check
from speakerdb.types import SERVING_ALIAS, AliasAction, Document, Kind
from tests.alias.conftest import add


def point(db: SpeakerDB, *names: str) -> None:
    """Somebody moves the alias by hand."""
    before = db.index.aliases().get(SERVING_ALIAS, ())
    db.index.update_aliases(
        [AliasAction.remove(SERVING_ALIAS, name) for name in before]
        + [AliasAction.add(SERVING_ALIAS, name) for name in names]
    )
    db.serving.forget()


def named(db: SpeakerDB) -> tuple[str, ...]:
    return db.index.aliases().get(SERVING_ALIAS, ())


def told(db: SpeakerDB) -> list[dict[str, Any]]:
    return [event for event in db.events() if event["kind"].startswith("alias-")]


def tokens(db: SpeakerDB) -> list[str]:
    return [alias for alias in db.index.aliases() if alias.startswith(TOKEN_PREFIX)]


def test_it_shows_what_serves_and_what_the_database_says(migrating: SpeakerDB) -> None:
    view = migrating.alias()
    assert (view.indices, view.generation, view.stated, view.problem, view.intention) == (
        ("speakers_v3",), "v3", "v3", None, None,
    )  # fmt: skip
    assert view.current == {"v3": "speakers_v3", "v4": "speakers_v4"}
    point(migrating, "speakers_v4")
    view = migrating.alias()
    assert (view.generation, view.stated) == ("v4", "v3")
    assert view.problem is not None
    assert "v3 serves" in view.problem
    for names in ((), ("speakers_v3", "speakers_v4")):
        point(migrating, *names)
        view = migrating.alias()
        assert (view.indices, view.generation) == (names, None)
        assert view.problem is not None


@pytest.mark.parametrize("names", [(), ("speakers_v4",), ("speakers_v3", "speakers_v4")])
def test_it_goes_back_to_where_it_belongs_from_anywhere(migrating: SpeakerDB, names: tuple[str, ...]) -> None:
    point(migrating, *names)
    report = migrating.set_alias("v3", why="moved by mistake")
    assert (report.index, report.left, report.moved) == ("speakers_v3", names, True)
    assert report.check is not None
    assert report.check.verdict == "pass"
    assert named(migrating) == ("speakers_v3",)
    check(migrating)
    (event,) = told(migrating)
    assert (event["kind"], event["entity"], event["why"]) == ("alias-set", "v3", "moved by mistake")
    assert event["data"] == {"index": "speakers_v3", "left": list(names), "forced": False}
    assert [p for p in migrating.status().problems if p.severity == "error"] == []
    assert migrating.finalize().serving == "v4", "the migration goes on as if nothing had been"


def test_an_emergency_is_told_by_the_status_until_it_is_over(migrating: SpeakerDB) -> None:
    migrating.set_alias("v4", why="v3 misbehaves")
    assert migrating.match(speaker=migrating.speakers()[0].id).generation == "v4"
    assert "alias-disagrees" in {p.code for p in migrating.status().problems}
    with pytest.raises(AliasMoved):
        migrating.finalize()
    migrating.set_alias("v3", why="over")
    migrating.finalize()


def test_what_it_names_already_is_left_alone(migrating: SpeakerDB) -> None:
    report = migrating.set_alias("v3", why="to be sure")
    assert (report.moved, report.check) == (False, None)
    assert told(migrating) == []


def test_an_index_that_does_not_equal_sql_needs_force(migrating: SpeakerDB) -> None:
    rogue = Document("spk_rogue", 1, "0" * 32, Kind.SPEAKER, "lib", "rec", None, None)
    migrating.index.bulk("speakers_v4_write", [rogue])
    with migrating.catalog.job() as tx:  # one that SQL believes to be there
        vectors.raise_versions(tx, [migrating.speakers()[0].id], migrating.catalog.now())
        tx.exec_driver_sql("UPDATE projections SET indexed_version = version WHERE generation = 'v4'")
    with pytest.raises(GateFailed) as caught:
        migrating.set_alias("v4", why="try")
    assert "--force" in caught.value.hint
    assert (named(migrating), told(migrating)) == (("speakers_v3",), [])
    report = migrating.set_alias("v4", why="v3 is worse", force=True)
    assert report.check is not None
    assert report.check.verdict == "fail"
    assert named(migrating) == ("speakers_v4",)
    assert told(migrating)[0]["data"]["forced"] is True


def test_what_waits_is_written_before_it_is_compared(migrating: SpeakerDB) -> None:
    migrating.remove("a")
    report = migrating.set_alias("v4", why="now")
    assert report.check is not None
    assert (report.check.verdict, report.check.value) == ("pass", "4 documents equal")


@pytest.mark.parametrize(
    ("generation", "why", "error"),
    [("v9", "x", ConfigurationError), ("v3", " ", InvalidInput)],
)
def test_what_is_asked_wrongly(migrating: SpeakerDB, generation: str, why: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        migrating.set_alias(generation, why=why)


def test_only_what_is_kept_current_may_serve(open_db: Callable[..., SpeakerDB], finalized: SpeakerDB) -> None:
    finalized.retire()
    with pytest.raises(IndexMissing, match="kept current"):
        finalized.set_alias("v3", why="back")
    finalized.index.drop("speakers_v4")
    with pytest.raises(IndexMissing, match="missing"):
        finalized.set_alias("v4", why="there")
    assert told(finalized) == []


def test_while_another_process_moves_it_it_is_left_alone(
    open_db: Callable[..., SpeakerDB], migrating: SpeakerDB
) -> None:
    other = open_db()
    with other.catalog.holding("migration"), pytest.raises(LeaseHeld):
        migrating.set_alias("v4", why="now")


# A swap that is announced


def announce(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalize whose process dies after it has written its intention, and before it could send the swap."""
    with monkeypatch.context() as patched:
        patched.setattr(db.migrator._outcome, "_perform", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            db.finalize()
    assert db.alias().intention == "finalizing"


@pytest.mark.parametrize("wanted", ["v3", "v4"])
def test_one_that_can_be_decided_is_decided_first(
    migrating: SpeakerDB, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    announce(migrating, monkeypatch)
    report = migrating.set_alias(wanted, why="sort it out")
    assert report.moved == (wanted == "v4")
    view = migrating.migration()
    assert view is not None
    assert view.state == "running", "the swap never happened, whatever the alias names now"
    assert (named(migrating), tokens(migrating)) == ((f"speakers_{wanted}",), [])


@pytest.mark.parametrize(("wanted", "state"), [("v3", "running"), ("v4", "finalized")])
def test_one_that_cannot_be_decided_is_decided_by_where_it_is_forced_to(
    migrating: SpeakerDB, monkeypatch: pytest.MonkeyPatch, wanted: str, state: str
) -> None:
    """The alias names a third index: no command of a migration gets on, and a person must say."""
    announce(migrating, monkeypatch)
    migrating.index.create("somebody_elses", 16, {"made": "by hand"})
    point(migrating, "somebody_elses")
    with pytest.raises(IllegalTransition) as caught:
        migrating.set_alias(wanted, why="sort it out")
    assert "--force" in caught.value.hint
    assert named(migrating) == ("somebody_elses",)
    migrating.set_alias(wanted, why="sort it out", force=True)
    view = migrating.migration()
    assert view is not None
    assert (view.state, view.serving, tokens(migrating)) == (state, wanted, [])
    migrating.index.drop("somebody_elses")
    check(migrating)


def test_an_index_that_is_to_go_and_serves_by_hand_is_left_by_it(finalized: SpeakerDB) -> None:
    """A retire that died before it dropped the source's index, on which somebody then put the alias."""
    drop = finalized.migrator._outcome.drop_left_over
    finalized.migrator._outcome.drop_left_over = lambda _: None  # type: ignore[method-assign]
    finalized.retire()
    finalized.migrator._outcome.drop_left_over = drop  # type: ignore[method-assign]
    point(finalized, "speakers_v3")
    assert finalized.set_alias("v4", why="v3 has gone").moved
    assert "speakers_v3" not in finalized.index.indices()
    check(finalized)


# The answer does not come, or comes late


@pytest.mark.parametrize("happened", [True, False])
def test_an_answer_that_does_not_come_is_decided_by_the_alias(
    migrating: SpeakerDB, monkeypatch: pytest.MonkeyPatch, happened: bool
) -> None:
    request = migrating.index.update_aliases

    def lost(actions: Any) -> None:
        swaps = any(action.alias == SERVING_ALIAS for action in actions)
        if not swaps or happened:
            request(actions)
        if swaps:
            raise IndexUnavailable("The answer did not come.")

    monkeypatch.setattr(migrating.index, "update_aliases", lost)
    if happened:
        assert migrating.set_alias("v4", why="now").moved
    else:
        with pytest.raises(IndexUnavailable):
            migrating.set_alias("v4", why="now")
    monkeypatch.undo()
    assert (named(migrating), tokens(migrating)) == (("speakers_v4" if happened else "speakers_v3",), [])
    kinds = [event["kind"] for event in reversed(told(migrating))]
    assert kinds == (["alias-set"] if happened else ["alias-set", "alias-not-set"])


def test_a_late_request_moves_nothing(migrating: SpeakerDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process was stopped before it sent it; another has taken the lease, and the tokens away."""
    late: list[Any] = []
    request = migrating.index.update_aliases

    def stopped(actions: Any) -> None:
        if any(action.alias == SERVING_ALIAS for action in actions):
            late.append(actions)
            migrating.catalog.break_lease("migration", "another", why="it hangs")
            raise IndexUnavailable("It was stopped here.")
        request(actions)

    monkeypatch.setattr(migrating.index, "update_aliases", stopped)
    with pytest.raises(LeaseLost):
        migrating.set_alias("v4", why="now")
    monkeypatch.undo()
    migrating.set_alias("v3", why="the next one looks")
    with pytest.raises(AliasMoved):
        migrating.index.update_aliases(late[0])
    assert (named(migrating), tokens(migrating)) == (("speakers_v3",), [])


def test_it_is_no_way_around_the_library(migrating: SpeakerDB) -> None:
    """New recordings go to both generations wherever the alias stands."""
    migrating.set_alias("v4", why="try")
    add(migrating, "c")
    migrating.work()
    assert all(set(s.generations.values()) == {"embedded"} for s in migrating.speakers())
    migrating.set_alias("v3", why="back")
    check(migrating)
