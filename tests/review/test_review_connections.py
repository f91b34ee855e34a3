"""No verb takes a second connection while it has one: as many at once as there are connections would wait for each other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from speakerdb.matcher import Scope
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SpeakerDB]:
    with SpeakerDB.open(fake_settings(tmp_path / "library"), executor=FakeExecutor()) as opened:
        for name in ("one", "two"):
            opened.add(None, two_voices(), recording_id=name, waveform=silence(20.0))
        opened.work()
        opened.live.set("preference", "v3")
        yield opened


@contextmanager
def at_once(db: SpeakerDB) -> Iterator[list[int]]:
    """How many connections one thread has had at once, each time that it took one."""
    held: dict[int, int] = {}
    found: list[int] = []
    engine = db.catalog.database._engine

    def taken(*_: Any) -> None:
        me = threading.get_ident()
        held[me] = held.get(me, 0) + 1
        found.append(held[me])

    def given_back(*_: Any) -> None:
        held[threading.get_ident()] -= 1

    sa.event.listen(engine, "checkout", taken)
    sa.event.listen(engine, "checkin", given_back)
    try:
        yield found
    finally:
        sa.event.remove(engine, "checkout", taken)
        sa.event.remove(engine, "checkin", given_back)


VERBS: dict[str, Callable[[SpeakerDB, str], Any]] = {
    "match": lambda db, speaker: db.match(speaker=speaker),
    "match in a library": lambda db, speaker: db.match(speaker=speaker, library="default"),
    "match many": lambda db, speaker: db.match_many([speaker]),
    "match a vector": lambda db, _: db.match(vector=[1.0] * 24),  # type: ignore[arg-type]
    "match profiles": lambda db, speaker: db.matcher.match(speaker=speaker, scope=Scope(3)),
    "status": lambda db, _: db.status(),
    "progress": lambda db, _: db.progress(),
    "migration": lambda db, _: db.overview.migration(),
    "leases": lambda db, _: db.leases(),
    "explain": lambda db, _: db.explain.about("one"),
    "repair status": lambda db, _: db.repairer.status(),
    "repair plan": lambda db, _: db.repairer.plan(),
    "preflight": lambda db, _: db.preflight("v4"),
    "recordings": lambda db, _: db.recordings(),
    "speakers": lambda db, _: db.speakers(),
    "profiles": lambda db, _: db.profiles(),
}


@pytest.mark.parametrize("verb", VERBS)
def test_one_at_a_time(db: SpeakerDB, verb: str) -> None:
    speaker = db.speakers(recording="one")[0].id
    db.serving.forget()
    db.live._cached = None
    with at_once(db) as found:
        VERBS[verb](db, speaker)
    assert found
    assert max(found) == 1
