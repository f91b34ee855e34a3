"""The walk with vectors goes by shares; memory does not grow; and what is kept of it all."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import repair_kit as kit
from repair_kit import DAY, Damaged, done

from speakerdb.catalog import repairs
from speakerdb.errors import ConfigurationError, LeaseLost, NotFound
from speakerdb.testing.factories import fake_vector, silence, two_voices


def test_every_vector_is_looked_at_once_a_lap(make: Callable[..., Damaged]) -> None:
    library = make(7, repair={"walk_share": 5})
    library.damage(lambda documents: [replace(d, vector=fake_vector(f"hand {d.id}", 24)) for d in documents], "v3")
    mended = []
    for _ in range(5):
        assert library.db.repairer.status().generations[0].lap_ended_at is None
        mended.append(done(library.db.repairer.walk()).get("rewrite", 0))
    assert sum(mended) == 14
    assert max(mended) == 3
    health = library.db.repairer.status().generations[0]
    assert health.lap_ended_at is not None
    assert health.walked_to == ""
    library.mended()


def test_documents_beyond_the_last_row_are_part_of_the_last_share(make: Callable[..., Damaged]) -> None:
    library = make(2, repair={"walk_share": 2})
    library.damage(lambda documents: [*documents, replace(documents[0], id="zzz")])
    assert [done(library.db.repairer.walk()) for _ in range(2)] == [{}, {"bury": 1}]


def test_another_index_begins_a_lap(make: Callable[..., Damaged]) -> None:
    library = make(4, repair={"walk_share": 4})
    library.db.repairer.walk()
    assert library.db.repairer.status().generations[0].walked_to
    library.db.rebuild_index("v3")
    assert library.db.repairer.walk().generations[0].plan.compared == 2
    assert library.db.repairer.status().generations[0].walked_to == library.documents()[1].id


def test_an_interrupted_walk_is_walked_again(make: Callable[..., Damaged]) -> None:
    library = make(4, repair={"walk_share": 2})
    report = library.db.repairer.walk(stop=lambda: True)
    assert report.generations[0].state == "stopped"
    assert report.done == 0


def test_only_one_library(make: Callable[..., Damaged]) -> None:
    library = make(2)
    library.db.add(None, two_voices(), recording_id="elsewhere", waveform=silence(20), library="films")
    library.db.work()
    library.damage(lambda _: [])
    assert dict(library.plan(library="films").found) == {"missing": 2}
    assert done(library.db.repairer.run(library="films")) == {"rewrite": 2}
    assert dict(library.plan().found) == {"missing": 4}
    with pytest.raises(NotFound):
        library.plan(library="no such")
    with pytest.raises(ConfigurationError):
        library.db.repairer.plan(generation="v9")


def test_what_is_kept_of_runs(library: Damaged) -> None:
    repairer = library.db.repairer
    before = len(repairer.history())
    for _ in range(5):
        repairer.check()
    assert len(repairer.history()) == before, "a check that finds nothing leaves no row behind"
    library.damage(kit.halved)
    repairer.check()
    repairer.check()
    newest, mended, *_ = repairer.history()
    assert (mended.kind, dict(mended.found), dict(mended.done)) == ("check", {"missing": 3}, {"rewrite": 3})
    assert (newest.state, dict(newest.found)) == ("done", {})
    (event,) = [each for each in library.db.events(limit=5) if each["kind"] == "repair-done"]
    assert event["data"]["done"] == {"rewrite": 3}


def test_a_refusal_is_told_once(library: Damaged) -> None:
    library.damage(kit.strangers(11))
    for _ in range(3):
        with pytest.raises(kit_stop()):
            library.db.repairer.check()
    assert [event["kind"] for event in library.db.events(limit=9)].count("repair-refused") == 1


def kit_stop() -> type[Exception]:
    from speakerdb.errors import DeletionBrake

    return DeletionBrake


def test_a_run_ends_when_its_time_is_over(make: Callable[..., Damaged]) -> None:
    """The lease has a limit; who passes it does nothing more."""
    library = make(2)
    library.damage(lambda documents: documents[1:])
    clock = library.db.catalog._own_clock
    late = [0.0]
    library.db.catalog._own_clock = lambda: clock() + late[0]

    def sleeps(call: str, when: str) -> None:
        if (call, when) == ("marks", "after"):
            late[0] = 2 * 3600.0 + 1

    library.db.index.on_call(sleeps)  # type: ignore[attr-defined]
    with pytest.raises(LeaseLost):
        library.db.repairer.check()
    library.db.catalog._own_clock = clock
    library.db.index._callbacks.remove(sleeps)  # type: ignore[attr-defined]
    assert done(library.db.repairer.check()) == {"rewrite": 1}
    stopped = [run for run in library.db.repairer.history() if run.state == "stopped"]
    assert len(stopped) == 1


def test_memory_is_the_same_for_few_and_for_many(make: Callable[..., Damaged], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and documents in pages, findings in a file: six times as many of all take no more."""
    from speakerdb.repairer import comparing, spool

    monkeypatch.setattr(comparing, "PAGE", 100)
    monkeypatch.setattr(spool, "IN_MEMORY", 2000)
    peaks = []
    for count in (2000, 12_000):
        library = make(1)
        library.damage(kit.strangers(count))
        library.plan()
        gc.collect()
        gc.freeze()  # what is there already is not looked at again and again
        tracemalloc.start()
        plan = library.plan(on_progress=lambda _: gc.collect())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        gc.unfreeze()
        assert plan.found == {"orphaned": count}
        library.close()
    assert peaks[1] < 1.5 * peaks[0], peaks


def test_sums_of_sql_are_those_of_the_index(library: Damaged) -> None:
    library.db.remove("recording-0")
    library.db.work()
    with library.db.catalog.read() as tx:
        sums = repairs.sums(tx, "v3")
    held = library.index.digests(library.concrete())
    assert {bucket: (sums.documents[bucket], sums.digests[bucket]) for bucket in sums.documents} == {
        bucket: (each.documents, each.digest) for bucket, each in held.items()
    }
    assert (sums.rows, sums.live, sums.waiting, sums.unknown) == (6, 4, 0, 0)
    assert sums.newest == max(d.version for d in library.documents())
    assert np.all([bucket in range(256) for bucket in sums.documents])
    library.world.jump(DAY)
    library.add("waits")
    with library.db.catalog.holding("work") as lease:
        library.db.extraction.begin(lease)
        library.db.extraction.step(lease)
    assert library.plan(vectors=False).buckets == 0, "what waits is a lag, and no difference"
    assert library.plan(vectors=False).waiting == 2
