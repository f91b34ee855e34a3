"""The database is gone at each statement in turn: of a repair, of work, and (one in four, unless thorough) of a finalize and a
roll-back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import pytest
import repair_kit as kit
import sqlalchemy as sa
from repair_kit import Damaged

from speakerdb.errors import BackendError
from speakerdb.testing.backends import Backend
from speakerdb.testing.chaos.fates import _cut

# SQLAlchemy leaves the cursor of a connection that it has given up to the driver.
pytestmark = pytest.mark.filterwarnings("ignore:<psycopg.ServerCursor:ResourceWarning")
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"


class Lost:
    """Loses the connection at one statement, once."""

    def __init__(self) -> None:
        self.left: int | None = None

    def __call__(self, cursor: Any, _statement: str, _parameters: Any, _context: Any) -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left == 0:
            self.left = None
            _cut(cursor)


@pytest.fixture
def lost() -> Iterator[Lost]:
    made = Lost()
    sa.event.listen(sa.Engine, "do_execute", made)
    sa.event.listen(sa.Engine, "do_executemany", made)
    yield made
    sa.event.remove(sa.Engine, "do_execute", made)
    sa.event.remove(sa.Engine, "do_executemany", made)


@contextmanager
def losing(lost: Lost, at: int) -> Iterator[Callable[[], bool]]:
    """Within, the `at`-th statement finds no database. Gives whether it came so far."""
    lost.left = at
    passed: list[bool] = []
    with suppress(BackendError):
        yield lambda: passed[0]
    passed.append(lost.left is None)
    lost.left = None


def each(backend: Backend, step: int = 1) -> Iterator[int]:
    """The places to lose it at, without end; on servers, where a statement is a journey, few of them."""
    return count(1, 1 if THOROUGH else 29 if backend.delayed else step)


def test_of_a_repair(make: Callable[..., Damaged], backend: Backend, lost: Lost) -> None:
    library = make(2, backend=backend)
    library.unwatched()
    for at in each(backend):
        speaker = library.db.speakers()[0].id
        library.sql("DELETE FROM embeddings WHERE entity_id = ?", speaker)
        library.damage(lambda documents: kit.strangers(1, f"stranger-{at}")(documents[:-1]))  # noqa: B023
        library.world.jump(kit.DAY)
        with losing(lost, at) as happened:
            library.db.repairer.run(vectors=True)
        library.db.repairer.run(vectors=True)
        plan = library.plan()
        assert (plan.empty, plan.waiting) == (True, 0), (at, plan)
        if not happened():
            break
    assert at > 30
    library.mended()


def test_of_work(make: Callable[..., Damaged], backend: Backend, lost: Lost) -> None:
    library = make(1, backend=backend)
    for at in each(backend):
        library.add(f"at {at}")
        with losing(lost, at) as happened:
            library.db.work()
        library.world.heal()
        if not happened():
            break
    assert at > 20


def test_of_a_finalize_and_a_roll_back(make: Callable[..., Damaged], backend: Backend, lost: Lost) -> None:
    library = make(1, backend=backend)
    db = library.db
    finalized = rolled_back = False
    for at in each(backend, 4):
        db.start_migration("v4", force=True)
        db.work()
        with losing(lost, at) as happened:
            db.finalize()
        finalized = not happened()
        library.world.heal()
        migration = db.migration()
        assert migration is not None
        if migration.state == "running":
            db.finalize()
        with losing(lost, at) as happened:
            db.rollback()
        rolled_back = not happened()
        library.world.heal()
        migration = db.migration()
        assert migration is not None
        if migration.state == "finalized":
            db.rollback()
        assert db.serving.resolve(fresh=True).generation.name == "v3"
        if finalized and rolled_back:
            break
    assert at > 40
