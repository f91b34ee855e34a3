"""The catalog's door: transactions that obey the lease and the fence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from speakerdb.catalog import conditions, journal, leases, upgrade
from speakerdb.catalog.database import (
    FENCE_POLL_SECONDS,
    WRITER_IDLE_SECONDS,
    Database,
    Transaction,
    lease_lost,
)
from speakerdb.catalog.holders import Holder, own_seconds
from speakerdb.catalog.leases import Lease, LeaseRow
from speakerdb.errors import BackendError, Conflict, InvalidInput, LeaseHeld, NotFound, WritesFenced

LONGEST_FENCE = 60.0
"""Seconds. No fence is set to stand longer than this, or than a writer's patience where that is more."""
RENEW_SHARE = 1 / 3
"""Of a lease's length; who works longer than that without a transaction renews it."""
STOP_SHARE = 0.9
"""Of a lease's length: whoever could not renew for so long stops. The rest is for what is on its way by then, and for the
difference between two clocks."""


@dataclass(slots=True)
class _Held:
    """What this process knows of a lease that somebody in it works under, by its own clock."""

    epoch: int
    renewed: float
    ends: float | None


class Catalog:
    """SQL, as the use cases see it. Every row function takes a transaction that was opened here."""

    def __init__(
        self,
        url: str,
        *,
        locks: Path,
        lease_seconds: float = 60.0,
        fence_patience: float = 60.0,
        clock: Callable[[], int] | None = None,
        own_clock: Callable[[], float] = own_seconds,
    ) -> None:
        """`clock` takes the place of the database's, `own_clock` that of this machine's which never jumps."""
        idle = min(WRITER_IDLE_SECONDS, lease_seconds / 3)
        self.database = Database(url, clock=clock, writer_idle=idle)
        self.holder = Holder(locks)
        self.lease_seconds = lease_seconds
        self._fence_patience = fence_patience
        self._taking = threading.Lock()
        self._own_clock = own_clock
        self._held: dict[str, _Held] = {}

    def prepare(self, *, auto_upgrade: bool) -> None:
        """Bring the schema to this version, or raise `SchemaNewer` or `SchemaOutdated`."""
        upgrade.ensure(self.database, auto_upgrade=auto_upgrade)

    def now(self) -> int:
        """Microseconds since the epoch, by the database's clock."""
        return self.database.now()

    def read(self) -> AbstractContextManager[Transaction]:
        """A transaction that sees one point in time."""
        return self.database.read()

    @contextmanager
    def job(self, lease: Lease | None = None) -> Iterator[Transaction]:
        """A transaction that writes what follows from the library (acknowledgements, states, pooled profiles).

        With a lease, its first statement touches the row: `LeaseLost` if somebody else has it.
        """
        with self.database.write() as tx:
            begun = self._own_clock()
            if lease is not None:
                self._refuse_over(lease)
                leases.touch(tx, lease, self.now())
            yield tx
        if lease is not None and (held := self._held.get(lease.name)) is not None and held.epoch == lease.epoch:
            held.renewed = max(held.renewed, begun)

    @contextmanager
    def change(self, lease: Lease | None = None) -> Iterator[Transaction]:
        """A transaction that changes the library. Waits while a finalize holds the write fence; `WritesFenced` in the end.

        The wait is outside of any transaction, so that the one that raised the fence can go on.
        """
        deadline = time.monotonic() + self._fence_patience
        while True:
            with self.job(lease) as tx:
                if not leases.fenced(tx, self.now(), max(self._fence_patience, LONGEST_FENCE)):
                    conditions.hold(tx)
                    yield tx
                    conditions.made(tx)
                    return
            if time.monotonic() >= deadline:
                raise WritesFenced(
                    f"A finalize has held the write fence for more than {self._fence_patience:g} s.",
                    hint="Try again; the fence expires by itself.",
                )
            time.sleep(FENCE_POLL_SECONDS)

    def acquire(self, name: str, *, limit: float | None = None) -> Lease:
        """Take a lease, for at most `limit` seconds whatever happens. `LeaseHeld` while another live process, or another
        thread of this one, has it."""
        with self._taking:
            with self.database.write() as tx:
                begun = self._own_clock()
                row = leases.find(tx, name)
                dead = row.holder if row is not None and self._is_over(row) else None
                lease = leases.acquire(
                    tx, name, self.holder.name, self.now(), self.lease_seconds, dead=dead, limit=limit
                )
            if lease is not None:
                self._held[name] = _Held(lease.epoch, begun, None if limit is None else begun + limit)
        if lease is None:
            assert row is not None
            raise LeaseHeld(
                f"Another process ({row.holder}) holds the lease {name!r}.",
                hint="Let it finish, or stop it; then run this again.",
                lease=name,
                holder=row.holder,
            )
        return lease

    def _is_over(self, row: LeaseRow) -> bool:
        """Whether nobody works under a lease any more, though its row says so. It may be our own: the connection was lost
        when it was taken or given back, and what came of that was not heard."""
        if row.holder == self.holder.name:
            held = self._held.get(row.name)
            return held is None or held.epoch != row.epoch
        return row.holder is not None and self.holder.is_dead(row.holder)

    def renew(self, lease: Lease) -> None:
        """Hold the lease for its full length from now on. `LeaseLost` if somebody else has it."""
        with self.job(lease):
            pass

    def keep(self, lease: Lease) -> None:
        """Go on working under a lease: called between two steps, and before each effect that is not in a transaction.

        Renews it where a third of its length has passed since that was done last; until then it costs nothing. While the
        database does not answer the work goes on, but not for longer than the lease certainly stands: `LeaseLost` then, as
        where somebody else has it. A clock that counts a suspended machine's time decides, so who slept stops.
        """
        self._refuse_over(lease)
        if self._unrenewed(lease) < RENEW_SHARE * lease.seconds:
            return
        try:
            self.renew(lease)
        except BackendError as error:
            if self._unrenewed(lease) >= STOP_SHARE * lease.seconds:
                raise lease_lost(lease.name, unsure=True) from error

    def left(self, lease: Lease) -> float | None:
        """Seconds until a lease reaches its limit; None for one that has none."""
        held = self._held.get(lease.name)
        return None if held is None or held.ends is None else held.ends - self._own_clock()

    def _unrenewed(self, lease: Lease) -> float:
        """Seconds since the lease was renewed last, by this machine's own clock. `LeaseLost` where it was given back."""
        held = self._held.get(lease.name)
        if held is None or held.epoch != lease.epoch:
            raise lease_lost(lease.name)
        return self._own_clock() - held.renewed

    def _refuse_over(self, lease: Lease) -> None:
        held = self._held.get(lease.name)
        if held is not None and held.epoch == lease.epoch and held.ends is not None and self._own_clock() >= held.ends:
            raise lease_lost(lease.name, over=True)

    def release(self, lease: Lease) -> None:
        """Give a lease back."""
        try:
            with self.database.write() as tx:
                leases.release(tx, lease)
        finally:
            if (held := self._held.get(lease.name)) is not None and held.epoch == lease.epoch:
                del self._held[lease.name]

    @contextmanager
    def holding(self, name: str, *, limit: float | None = None) -> Iterator[Lease]:
        """Take a lease for the length of a block, which may use it for `limit` seconds at most."""
        lease = self.acquire(name, limit=limit)
        try:
            yield lease
        except (Exception, KeyboardInterrupt):
            self.release(lease)
            raise
        self.release(lease)

    def break_lease(self, name: str, who: str, *, why: str, epoch: int | None = None) -> LeaseRow:
        """Take a lease away from whoever holds it (under `epoch`, if given), on a person's word, kept in the events; the row as
        it was.

        Its holder commits nothing more, and stops when it next looks. What it has sent to an index by then is decided as
        after a crash. `NotFound` for a lease that was never taken, `Conflict` where nobody holds it.
        """
        if not why.strip():
            raise InvalidInput("A lease is not broken without a reason.", hint="Say it with --why.")
        with self.job() as tx:
            row = leases.find(tx, name)
            if row is None:
                known = ", ".join(one.name for one in leases.all_leases(tx))
                raise NotFound(f"There is no lease {name!r}.", hint=f"There are: {known or 'none yet'}.")
            if row.holder is None or (epoch is not None and row.epoch != epoch):
                found = "Nobody holds" if row.holder is None else f"By now {row.holder} holds"
                raise Conflict(f"{found} the lease {name!r}.", hint="See `speakerdb lease list`.")
            leases.take_away(tx, name, row.epoch)
            journal.record(
                tx, "lease-broken", who, self.now(), entity_id=name, why=why, holder=row.holder, epoch=row.epoch
            )
        return row

    def close(self) -> None:
        """Close connections and let go of the holder's lock."""
        self.database.close()
        self.holder.close()
