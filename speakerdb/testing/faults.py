"""Faults at the border of the vector index, made by wrapping it: the product has no branch for them.

faults = FaultQueue()
index = FaultyIndex(inner, faults)
faults.next("bulk", Fault.PASS, Fault.LOSE_ACK)   # the second bulk write is done, and its answer is lost
faults.next("update_aliases", Fault.HOLD)         # times out; index.deliver_late() lets it arrive
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, TypeAlias, TypeVar

from speakerdb.core.digests import BucketDigest, Mark
from speakerdb.errors import Conflict, IndexMissing, IndexUnavailable
from speakerdb.index.port import VectorIndex
from speakerdb.types import AliasAction, Document, Filter, FloatArray, Hit, IndexInfo, WriteResult

T = TypeVar("T")
_ANY = Filter()


class SimulatedCrash(BaseException):
    """The process dies here. Not an `Exception`, so that no handler of the product goes on after it."""


class Fault(Enum):
    """What happens to one call."""

    PASS = "pass"  # noqa: S105
    """Nothing: the call is done and answered."""
    LOSE_REQUEST = "lose-request"
    """`IndexUnavailable`, and nothing was done."""
    LOSE_ACK = "lose-ack"
    """It was done, then `IndexUnavailable`."""
    PART = "part"
    """Of a bulk write or a purge the first half is done, of a scan (whole, or of marks) the first document comes; then
    `IndexUnavailable`."""
    HOLD = "hold"
    """`IndexUnavailable` as at a timeout; the alias change is kept and arrives with `deliver_late`."""
    CRASH_BEFORE = "crash-before"
    """`SimulatedCrash`, and nothing was done."""
    CRASH_AFTER = "crash-after"
    """It was done, then `SimulatedCrash`."""


_ONLY_FOR = {Fault.PART: ("bulk", "purge", "scan", "marks"), Fault.HOLD: ("update_aliases",)}

When = Literal["before", "after"]
Plan: TypeAlias = Callable[[str, tuple[Any, ...]], Fault]
"""Given the name of a method of the port and its arguments, says what happens to this call."""


class FaultQueue:
    """A plan that a test fills: for each method the faults of its next calls, in order; after them all is well."""

    def __init__(self) -> None:
        self._queues: defaultdict[str, deque[Fault]] = defaultdict(deque)

    def next(self, call: str, *faults: Fault) -> None:
        """Queue what happens to the next calls of the method `call`."""
        for fault in faults:
            if call not in _ONLY_FOR.get(fault, (call,)) or not hasattr(VectorIndex, call):
                raise ValueError(f"{fault} cannot happen to {call}")
            self._queues[call].append(fault)

    @property
    def waiting(self) -> int:
        """Faults that no call has met yet. A test that ends with some did not test what it says."""
        return sum(len(queue) for queue in self._queues.values())

    def __call__(self, call: str, arguments: tuple[Any, ...]) -> Fault:  # noqa: ARG002
        queue = self._queues[call]
        return queue.popleft() if queue else Fault.PASS


class FaultyIndex:
    """A `VectorIndex` around another one, to whose calls happen what the plan says."""

    def __init__(self, inner: VectorIndex, plan: Plan) -> None:
        self.inner = inner
        self._plan = plan
        self._callbacks: list[Callable[[str, When], None]] = []
        self._held: deque[Sequence[AliasAction]] = deque()

    def on_call(self, callback: Callable[[str, When], None]) -> None:
        """Have `callback` called with the method's name before and after each call that reaches the inner index.

        What it raises goes through to the caller, so every such place can be made a crash point.
        """
        self._callbacks.append(callback)

    @property
    def held(self) -> int:
        """Alias changes that are still under way."""
        return len(self._held)

    def deliver_late(self) -> bool:
        """Let the oldest held alias change arrive now. Whether it succeeded; what it did is seen in `aliases`."""
        actions = self._held.popleft()
        try:
            self.inner.update_aliases(actions)
        except (Conflict, IndexMissing):
            return False
        return True

    def _call(
        self, call: str, act: Callable[[], T], arguments: tuple[Any, ...], part: Callable[[], T] | None = None
    ) -> T:
        fault = self._plan(call, arguments)
        if fault is Fault.CRASH_BEFORE:
            raise SimulatedCrash(f"before {call}")
        if fault is Fault.HOLD:
            self._held.append(tuple(arguments[0]))
        if fault in (Fault.LOSE_REQUEST, Fault.HOLD):
            raise IndexUnavailable(f"Injected fault: no answer to {call}.")
        self._tell(call, "before")
        result = part() if fault is Fault.PART and part is not None else act()
        self._tell(call, "after")
        if fault is Fault.CRASH_AFTER:
            raise SimulatedCrash(f"after {call}")
        if fault is Fault.LOSE_ACK or (fault is Fault.PART and call not in ("scan", "marks")):
            raise IndexUnavailable(f"Injected fault: the answer to {call} was lost.")
        return result

    def _tell(self, call: str, when: When) -> None:
        for callback in self._callbacks:
            callback(call, when)

    def create(self, name: str, dimension: int, metadata: Mapping[str, Any]) -> None:
        self._call("create", lambda: self.inner.create(name, dimension, metadata), (name, dimension, metadata))

    def drop(self, name: str, *, token: str | None = None) -> None:
        self._call("drop", lambda: self.inner.drop(name, token=token), (name,))

    def indices(self, counted: Collection[str] | None = None) -> Mapping[str, IndexInfo]:
        return self._call("indices", lambda: self.inner.indices(counted), (counted,))

    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        return self._call("aliases", self.inner.aliases, ())

    def update_aliases(self, actions: Sequence[AliasAction]) -> None:
        self._call("update_aliases", lambda: self.inner.update_aliases(actions), (actions,))

    def bulk(self, write_alias: str, documents: Sequence[Document]) -> Sequence[WriteResult]:
        first = documents[: len(documents) // 2]
        return self._call(
            "bulk",
            lambda: self.inner.bulk(write_alias, documents),
            (write_alias, documents),
            part=lambda: self.inner.bulk(write_alias, first),
        )

    def fetch(self, index: str, ids: Sequence[str]) -> Mapping[str, Document]:
        return self._call("fetch", lambda: self.inner.fetch(index, ids), (index, ids))

    def scan(
        self, index: str, *, after: str | None = None, buckets: Collection[int] | None = None
    ) -> Iterator[Document]:
        return self._call(
            "scan",
            lambda: self.inner.scan(index, after=after, buckets=buckets),
            (index, after),
            part=lambda: _broken_off(self.inner.scan(index, after=after, buckets=buckets)),
        )

    def marks(self, index: str, *, buckets: Collection[int] | None = None) -> Iterator[Mark]:
        return self._call(
            "marks",
            lambda: self.inner.marks(index, buckets=buckets),
            (index,),
            part=lambda: _broken_off(self.inner.marks(index, buckets=buckets)),
        )

    def purge(self, index: str, tombstones: Sequence[tuple[str, int]]) -> int:
        first = tombstones[: len(tombstones) // 2]
        return self._call(
            "purge",
            lambda: self.inner.purge(index, tombstones),
            (index, tombstones),
            part=lambda: self.inner.purge(index, first),
        )

    def search(self, index: str, queries: FloatArray, k: int, where: Filter = _ANY) -> Sequence[Sequence[Hit]]:
        return self._call("search", lambda: self.inner.search(index, queries, k, where), (index, queries, k, where))

    def ping(self, index: str) -> None:
        self._call("ping", lambda: self.inner.ping(index), (index,))

    def refresh(self, index: str) -> None:
        self._call("refresh", lambda: self.inner.refresh(index), (index,))

    def tune(self, name: str, *, loading: bool) -> None:
        self._call("tune", lambda: self.inner.tune(name, loading=loading), (name, loading))

    def digests(self, index: str) -> Mapping[int, BucketDigest]:
        return self._call("digests", lambda: self.inner.digests(index), (index,))

    def troubles(self) -> Sequence[str]:
        return self._call("troubles", self.inner.troubles, ())

    def reopened(self) -> FaultyIndex:
        """A fresh handle under the same plan and callbacks. What is held stays with this one."""
        other = FaultyIndex(self._call("reopened", self.inner.reopened, ()), self._plan)
        other._callbacks = self._callbacks
        return other

    def close(self) -> None:
        self.inner.close()


def _broken_off(documents: Iterator[T]) -> Iterator[T]:
    for document in documents:
        yield document
        break
    raise IndexUnavailable("Injected fault: the scan broke off.")
