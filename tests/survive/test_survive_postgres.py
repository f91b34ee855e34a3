"""PostgreSQL goes away and comes back: between transactions, inside them, and with the answer to a COMMIT."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TypeAlias

import pytest
from survive_kit import Place, Told
from survive_proxies import TcpProxy, is_commit

from speakerdb.errors import BackendError, Conflict, DatabaseUnavailable, SpeakerDBError
from speakerdb.service import SpeakerDB
from speakerdb.testing.servers.postgres import PostgresServer

Ending: TypeAlias = Callable[[PostgresServer], None]
ENDINGS = {"stopped": PostgresServer.stop, "killed": PostgresServer.kill}
CUTS = (TcpProxy.CUT_BEFORE, TcpProxy.CUT_AFTER)


def says_what_to_do(error: SpeakerDBError) -> None:
    """The right class, and a next step that names the setting."""
    assert isinstance(error, DatabaseUnavailable)
    assert (error.code, error.exit_code, error.transient) == ("database-unavailable", 8, True)
    assert error.hint


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_server_that_is_restarted_between_transactions_is_found_again(
    on_own_postgres: Place, own_postgres: PostgresServer, told: Told, ending: str
) -> None:
    db = on_own_postgres.open()
    told.add(db, "one", "two", "three")
    db.work()
    told.remove(db, "two")
    told.settled(db)

    ENDINGS[ending](own_postgres)
    for verb in (lambda: told.add(db, "four"), db.work, db.status, lambda: db.match(speaker=told.has["one"][0])):
        with pytest.raises(DatabaseUnavailable) as caught:
            verb()
        says_what_to_do(caught.value)
        assert "database_url" in caught.value.hint
    own_postgres.start()

    told.settled(db)  # the pool that it had before the end
    told.add(db, "four", "five")
    told.settled(db)
    told.settled(on_own_postgres.open())


def add(db: SpeakerDB, told: Told) -> None:
    told.add(db, f"recording-{next(NUMBERS)}")


def work(db: SpeakerDB, _told: Told) -> None:
    db.work()


def finalize(db: SpeakerDB, _told: Told) -> None:
    db.finalize()


NUMBERS = count()
VERBS = {"add": add, "work": work, "finalize": finalize}


@pytest.mark.parametrize("verb", VERBS)
def test_a_server_that_is_killed_inside_a_transaction_leaves_nothing_half_done(
    on_own_postgres: Place, own_postgres: PostgresServer, before_postgres: TcpProxy, told: Told, verb: str
) -> None:
    db = on_own_postgres.open()
    told.add(db, "one", "two", "three")
    db.work()
    if verb == "finalize":
        db.start_migration("v4", force=True)
        db.work()
    if verb == "work":
        told.add(db, "four")
    left = {"add": 1, "work": 3, "finalize": 4}[verb]

    def plan(piece: bytes, said: bytes) -> str:
        nonlocal left
        left -= is_commit(piece, said)
        if left or not is_commit(piece, said):
            return TcpProxy.PASS
        own_postgres.kill()
        return TcpProxy.CUT_BEFORE

    before_postgres.plan = plan
    with pytest.raises(DatabaseUnavailable) as caught:
        VERBS[verb](db, told)
    says_what_to_do(caught.value)
    assert left <= 0, "it never came to that transaction"
    own_postgres.start()
    told.asked(db)
    told.settled(db)
    if verb == "finalize":
        migration = db.migration()
        assert migration is not None
        assert migration.state == "running", "nothing was announced yet"
        db.finalize()
        told.settled(db)


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("verb", VERBS)
def test_each_commit_whose_answer_does_not_come(
    on_own_postgres: Place, before_postgres: TcpProxy, told: Told, verb: str, how: str
) -> None:
    """With `cut-before` it was not committed, with `cut-after` it was; the application cannot know which."""
    db = on_own_postgres.open()
    told.add(db, "one", "two")
    db.work()
    if verb == "finalize":
        db.start_migration("v4", force=True)
        db.work()
    # Up to its fifth a finalize only measures; what is cut there says no more than the same in `work`.
    nth = first = 4 if verb == "finalize" else 0
    while True:
        nth += 1
        if verb == "work":
            told.add(db, f"recording-{nth}")
            told.remove(db, f"recording-{nth - 1}" if nth > 1 else "two")
        if verb == "finalize":
            _ready_to_finalize(db)
        cuts = before_postgres.cuts
        before_postgres.cut_commit(how, nth=nth)
        try:
            VERBS[verb](db, told)
        except (BackendError, Conflict) as error:
            if not isinstance(error, Conflict):
                says_what_to_do(error)
        before_postgres.calm()
        if before_postgres.cuts == cuts:
            break  # it came to its end before that many commits
        told.asked(db)
        told.settled(db)
    assert nth > first + 1
    told.settled(on_own_postgres.open())


def _ready_to_finalize(db: SpeakerDB) -> None:
    """Whatever became of the last one."""
    migration = db.migration()
    assert migration is not None
    if migration.state == "finalized":
        db.rollback()
        db.start_migration("v4", force=True)
        db.work()
