"""What cannot be mended is left alone for a while, with a reason, and is tried again later each time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import repair_kit as kit
from repair_kit import DAY, Damaged, done

from speakerdb.core.drift import LONGEST_DELAY, delay
from speakerdb.errors import InvalidInput
from speakerdb.testing.faults import FaultyIndex
from speakerdb.types import Document, WriteOutcome, WriteResult


class Stubborn:
    """Bulk writes that refuse a document, or take it and forget it."""

    def __init__(self, library: Damaged, id: str, *, silently: bool = False) -> None:
        faulty = library.db.index
        assert isinstance(faulty, FaultyIndex)
        self.inner, self.id, self.silently, self.on = faulty.inner, id, silently, True
        self.sent = 0
        faulty.inner = self  # type: ignore[assignment]

    def bulk(self, alias: str, documents: list[Document]) -> list[WriteResult]:
        if not self.on:
            return list(self.inner.bulk(alias, documents))
        self.sent += sum(d.id == self.id for d in documents)
        rest = iter(self.inner.bulk(alias, [d for d in documents if d.id != self.id]))
        refused = WriteOutcome.WRITTEN if self.silently else WriteOutcome.REJECTED
        return [WriteResult(d.id, refused, "no room for it") if d.id == self.id else next(rest) for d in documents]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.mark.parametrize("silently", [False, True], ids=["refused", "forgotten"])
def test_it_is_tried_again_later_each_time(library: Damaged, silently: bool) -> None:
    gone = library.documents()[0].id
    library.damage(lambda documents: documents[1:])
    stubborn = Stubborn(library, gone, silently=silently)
    repairer = library.db.repairer
    for attempts in range(1, 5):
        report = repairer.check()
        assert report.generations[0].quarantined == 1
        (entry,) = repairer.quarantine()
        assert (entry.id, entry.attempts) == (gone, attempts)
        assert entry.code == ("not-mended" if silently else "items-rejected")
        waits = delay(attempts)
        assert entry.next_at - entry.last_at == waits * 1e6
        assert stubborn.sent == attempts
        library.world.jump(waits - 2)
        assert repairer.check().done == 0
        assert stubborn.sent == attempts, "not before its time"
        library.world.jump(4)
    assert "quarantined" in {problem.code for problem in library.db.status().problems}
    stubborn.on = False
    library.world.jump(3600)
    assert done(repairer.check()) == {"rewrite": 1}
    assert repairer.quarantine() == []
    library.mended()


def test_a_clock_that_is_moved_back_does_not_keep_it_there(library: Damaged) -> None:
    """It was tried by a clock that was a year ahead: it is not left alone for that year."""
    library.damage(lambda documents: documents[1:])
    stubborn = Stubborn(library, library.plan().sample[0].id)
    library.world.jump(365 * DAY)
    library.db.repairer.check()
    library.world.jump(-364 * DAY)
    library.db.repairer.check()
    (entry,) = library.db.repairer.quarantine()
    assert (entry.attempts, entry.next_at - entry.last_at) == (2, delay(2) * 1e6)
    library.db.repairer.check()
    assert stubborn.sent == 2, "its delay is as long as ever"
    stubborn.on = False
    library.world.jump(3600)
    assert done(library.db.repairer.check()) == {"rewrite": 1}
    library.mended()


def test_delays_grow_from_a_minute_to_a_day() -> None:
    assert [delay(attempts) for attempts in (1, 2, 3, 11, 12, 1000)] == [
        60,
        120,
        240,
        61_440,
        LONGEST_DELAY,
        LONGEST_DELAY,
    ]


def test_a_person_retries_and_waives(library: Damaged) -> None:
    gone = library.documents()[0].id
    library.damage(lambda documents: documents[1:])
    stubborn = Stubborn(library, gone)
    repairer = library.db.repairer
    repairer.check()
    with pytest.raises(InvalidInput):
        repairer.waive_quarantined(why=" ", ids=[gone])
    assert repairer.waive_quarantined(why="it is to stay so", code="items-rejected") == 1
    assert not {problem.code for problem in library.db.status().problems}, "the status is silent about it"
    library.world.jump(100_000)
    repairer.check()
    assert stubborn.sent == 1
    stubborn.on = False
    assert repairer.retry_quarantined(ids=[gone], why="there is room") == 1
    assert done(repairer.check()) == {"rewrite": 1}
    assert repairer.quarantine() == []
    kinds = [event["kind"] for event in library.db.events(limit=8)]
    assert {"quarantined", "quarantine-waived", "quarantine-retried", "repair-done"} <= set(kinds)


def test_what_was_waived_and_then_removed_does_not_stay_in_the_index(library: Damaged) -> None:
    """The index refuses its tombstone, too, as a cluster that is full does; then there is room."""
    voice = library.documents()[0]
    library.damage(kit.aged)
    stubborn = Stubborn(library, voice.id)
    repairer = library.db.repairer
    repairer.check()
    repairer.waive_quarantined(why="it may stay as it is", ids=[voice.id])
    assert voice.recording_id is not None
    library.db.remove(voice.recording_id)
    library.db.work()
    assert not library.index.fetch(library.concrete(), [voice.id])[voice.id].deleted
    stubborn.on = False
    library.world.jump(DAY)
    repairer.check()
    assert library.index.fetch(library.concrete(), [voice.id])[voice.id].deleted
    assert repairer.quarantine() == []
    library.mended()


def test_what_came_right_by_itself_leaves_the_quarantine(library: Damaged) -> None:
    gone = library.documents()[0].id
    library.damage(lambda documents: documents[1:])
    stubborn = Stubborn(library, gone)
    library.db.repairer.check()
    stubborn.on = False
    library.db.rename_speaker(gone, "heard")
    library.db.assign(gone, library.db.create_profile("Ada").id)
    library.db.work()
    library.db.repairer.check()
    assert library.db.repairer.quarantine() == []
    library.mended()


def test_more_than_one_batch_in_quarantine(make: Callable[..., Damaged]) -> None:
    library = make(1)
    library.sql("UPDATE projections SET rejected_version = version, rejection = 'no', indexed_version = 0")
    library.lay([])
    report = library.db.repairer.run(vectors=True)
    assert report.generations[0].quarantined == 2
    assert library.db.repairer.run(vectors=True).generations[0].plan.quarantined == 2


def test_a_version_that_nothing_can_be_above_of(library: Damaged) -> None:
    """It cannot be mended by writing, and must keep nobody from the rest; a rebuild leaves it behind."""
    highest = 2**63 - 1
    library.damage(lambda documents: [replace(documents[0], version=highest), *documents[2:]])
    report = library.db.repairer.check()
    assert (done(report), report.generations[0].quarantined) == ({"rewrite": 1}, 1)
    (entry,) = library.db.repairer.quarantine()
    assert "rebuild" in entry.message
    library.db.assign(entry.id, library.db.create_profile("Ada").id)
    library.db.work()
    library.db.rebuild_index("v3")
    library.world.monitor.damaged("v3")
    library.world.jump(100_000)
    library.db.repairer.check()
    assert library.db.repairer.quarantine() == []
    library.mended()


def test_what_is_waived_keeps_nothing_else_waiting(library: Damaged, monkeypatch: pytest.MonkeyPatch) -> None:
    from speakerdb.repairer import comparing

    monkeypatch.setattr(comparing, "QUARANTINED", 1)
    first, second = (d.id for d in library.documents()[:2])
    library.damage(lambda documents: documents[1:])
    stubborn = Stubborn(library, first)
    library.db.repairer.check()
    library.db.repairer.waive_quarantined(why="let it be", ids=[first])
    stubborn.id = second
    library.damage(lambda documents: [d for d in documents if d.id != second])
    library.db.repairer.check()
    stubborn.on = False
    library.world.jump(61)
    assert done(library.db.repairer.check()) == {"rewrite": 1}
    assert [entry.id for entry in library.db.repairer.quarantine()] == [first]
