"""Random damage against an oracle of plain dicts: what is found is what differs, and afterwards nothing does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from repair_kit import Damaged, done

from speakerdb.testing import damage
from speakerdb.testing.backends import FILES, Backend, Saved
from speakerdb.testing.invariants import check
from speakerdb.types import Document

HARM = st.tuples(st.sampled_from(sorted(damage.HARMS)), st.integers(0, 7))
_SAVED: dict[int, tuple[Saved, int]] = {}


@contextmanager
def library(backend: Backend) -> Iterator[Damaged]:
    """Three recordings, one of them removed, one speaker in a profile."""
    if id(backend) not in _SAVED:
        made = Damaged(3, backend)
        made.db.assign(made.db.speakers()[0].id, made.db.create_profile("Ada").id)
        made.db.remove("recording-1")
        made.db.work()
        _SAVED[id(backend)] = made.saved()
        made.close()
    found = Damaged(0, backend, as_it_was=_SAVED[id(backend)], repair={"max_deletions": 1000})
    try:
        yield found
    finally:
        found.close()


def difference(was: Document | None, now: Document | None) -> str | None:
    """What a person would say who saw both; `was` is what SQL says."""
    if was is None:
        return None if now is None else ("tombstone" if now.vector is None else "orphaned")
    if now is None:
        return "missing"
    if now.version != was.version:
        return "ahead" if now.version > was.version else "stale"
    if now.vector is not None and abs(float(np.linalg.norm(now.vector)) - 1) > 0.01:
        return "malformed"
    if now.content_hash != was.content_hash or (now.vector is None) != (was.vector is None):
        return "stale"
    if (now.library_id, now.recording_id, now.profile_id) != (was.library_id, was.recording_id, was.profile_id):
        return "filters"
    same = was.vector is None or (now.vector is not None and bool((now.vector == was.vector).all()))
    return None if same else "vector"


@settings(max_examples=40)
@given(harms=st.lists(HARM, max_size=8), strangers=st.integers(0, 3))
def test_what_is_found_is_what_differs(harms: list[tuple[str, int]], strangers: int) -> None:
    run(FILES, harms, strangers)


def test_on_servers(servers_backend: Backend) -> None:
    for name in damage.HARMS:
        run(servers_backend, [(name, 0), ("gone", 3), (name, 5)], 2)


def run(backend: Backend, harms: list[tuple[str, int]], strangers: int) -> None:
    with library(backend) as found:
        before = {d.id: d for d in found.documents()}
        found.lay(damage.harmed(list(before.values()), harms, strangers=strangers))
        after = {d.id: d for d in found.documents()}
        expected = Counter(
            name for id in {*before, *after} if (name := difference(before.get(id), after.get(id))) is not None
        )
        plan = found.plan(force=["restored"])
        assert dict(plan.found) == dict(expected)
        assert {d.id for d in found.documents()} == set(after), "a plan changes nothing"
        report = found.db.repairer.run(vectors=True, force=["restored"], why="at random")
        assert sum(done(report).values()) == sum(expected.values())
        found.mended(check(found.db))
        for id, d in ((d.id, d) for d in found.documents()):
            was = before.get(id)
            if was is None or was.vector is None:
                assert d.vector is None, f"{id} came to life"
                continue
            assert d.vector is not None, f"{id} was lost"
            assert (d.vector == was.vector).all()
            assert d.content_hash == was.content_hash
