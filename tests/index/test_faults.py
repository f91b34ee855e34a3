"""The wrapper that injects faults does what its words say, and is invisible without a plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from speakerdb.errors import IndexUnavailable
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.index.port import VectorIndex
from speakerdb.testing.faults import Fault, FaultQueue, FaultyIndex, SimulatedCrash
from speakerdb.testing.index_contract import IndexContract
from speakerdb.testing.index_oracle import DIMENSION, document, vectors
from speakerdb.types import AliasAction


@pytest.fixture
def faults() -> FaultQueue:
    return FaultQueue()


@pytest.fixture
def index(tmp_path: Path, faults: FaultQueue) -> Iterator[FaultyIndex]:
    inner = EmbeddedIndex(tmp_path / "index.db")
    inner.create("a", DIMENSION, {})
    inner.create("b", DIMENSION, {})
    inner.update_aliases([AliasAction.add("w", "a")])
    yield FaultyIndex(inner, faults)
    inner.close()


class TestFaultyWithoutFaults(IndexContract):
    @pytest.fixture
    def index(self, tmp_path: Path) -> Iterator[VectorIndex]:
        index = FaultyIndex(EmbeddedIndex(tmp_path / "index.db"), FaultQueue())
        yield index
        index.close()


BATCH = [document("x"), document("y"), document("z")]


@pytest.mark.parametrize(
    ("fault", "error", "done"),
    [
        (Fault.LOSE_REQUEST, IndexUnavailable, set()),
        (Fault.LOSE_ACK, IndexUnavailable, {"x", "y", "z"}),
        (Fault.PART, IndexUnavailable, {"x"}),
        (Fault.CRASH_BEFORE, SimulatedCrash, set()),
        (Fault.CRASH_AFTER, SimulatedCrash, {"x", "y", "z"}),
    ],
)
def test_what_was_done(
    index: FaultyIndex, faults: FaultQueue, fault: Fault, error: type[BaseException], done: set[str]
) -> None:
    faults.next("bulk", Fault.PASS, fault)
    index.bulk("w", [])
    with pytest.raises(error):
        index.bulk("w", BATCH)
    assert set(index.fetch("a", ["x", "y", "z"])) == done
    assert faults.waiting == 0
    index.bulk("w", BATCH)
    assert set(index.fetch("a", ["x", "y", "z"])) == {"x", "y", "z"}


def test_a_scan_breaks_off(index: FaultyIndex, faults: FaultQueue) -> None:
    index.bulk("w", BATCH)
    faults.next("scan", Fault.PART)
    scan = index.scan("a")
    assert next(scan).id == "x"
    with pytest.raises(IndexUnavailable):
        next(scan)
    assert len(list(index.scan("a"))) == 3


def test_a_held_alias_change_arrives_late(index: FaultyIndex, faults: FaultQueue) -> None:
    faults.next("update_aliases", Fault.HOLD, Fault.HOLD)
    for _ in range(2):
        with pytest.raises(IndexUnavailable):
            index.update_aliases([AliasAction.remove("w", "a"), AliasAction.add("w", "b")])
    assert index.held == 2
    assert index.aliases() == {"w": ("a",)}
    assert index.deliver_late()
    assert index.aliases() == {"w": ("b",)}
    assert not index.deliver_late()
    assert index.aliases() == {"w": ("b",)}
    assert index.held == 0


def test_the_same_plan_holds_for_a_fresh_handle(index: FaultyIndex, faults: FaultQueue) -> None:
    seen: list[tuple[str, str]] = []
    index.on_call(lambda call, when: seen.append((call, when)))
    other = index.reopened()
    faults.next("search", Fault.LOSE_REQUEST)
    with pytest.raises(IndexUnavailable):
        other.search("a", vectors(1), 1)
    other.indices()
    other.close()
    assert seen == [(call, when) for call in ("reopened", "indices") for when in ("before", "after")]


def test_a_callback_may_crash(index: FaultyIndex) -> None:
    def crash(call: str, when: str) -> None:
        if (call, when) == ("drop", "after"):
            raise SimulatedCrash

    index.on_call(crash)
    with pytest.raises(SimulatedCrash):
        index.drop("b")
    assert set(index.indices()) == {"a"}


@pytest.mark.parametrize(("call", "fault"), [("fetch", Fault.PART), ("bulk", Fault.HOLD), ("write", Fault.LOSE_ACK)])
def test_a_plan_that_cannot_happen_is_refused(faults: FaultQueue, call: str, fault: Fault) -> None:
    with pytest.raises(ValueError, match="cannot happen"):
        faults.next(call, fault)
