"""The catalog's door: transactions that obey the lease and the fence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from speakerdb.catalog import leases, upgrade
from speakerdb.catalog.database import FENCE_POLL_SECONDS, Database, Transaction
from speakerdb.catalog.holders import Holder
from speakerdb.catalog.leases import Lease, LeaseRow
from speakerdb.errors import LeaseHeld, WritesFenced

LONGEST_FENCE = 60.0
"""Seconds. No fence is set to stand longer than this, or than a writer's patience where that is more."""


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
    ) -> None:
        self.database = Database(url, clock=clock)
        self.holder = Holder(locks)
        self.lease_seconds = lease_seconds
        self._fence_patience = fence_patience
        self._taking = threading.Lock()
        self._held: dict[str, int] = {}
        """The epochs of the leases that somebody in this process works under, by what it knows itself."""

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
            if lease is not None:
                leases.touch(tx, lease, self.now())
            yield tx

    @contextmanager
    def change(self, lease: Lease | None = None) -> Iterator[Transaction]:
        """A transaction that changes the library. Waits while a finalize holds the write fence; `WritesFenced` in the end.

        The wait is outside of any transaction, so that the one that raised the fence can go on.
        """
        deadline = time.monotonic() + self._fence_patience
        while True:
            with self.job(lease) as tx:
                if not leases.fenced(tx, self.now(), max(self._fence_patience, LONGEST_FENCE)):
                    yield tx
                    return
            if time.monotonic() >= deadline:
                raise WritesFenced(
                    f"A finalize has held the write fence for more than {self._fence_patience:g} s.",
                    hint="Try again; the fence expires by itself.",
                )
            time.sleep(FENCE_POLL_SECONDS)

    def acquire(self, name: str) -> Lease:
        """Take a lease. `LeaseHeld` while another live process, or another thread of this one, has it."""
        with self._taking:
            with self.database.write() as tx:
                row = leases.find(tx, name)
                dead = row.holder if row is not None and self._is_over(row) else None
                lease = leases.acquire(tx, name, self.holder.name, self.now(), self.lease_seconds, dead=dead)
            if lease is not None:
                self._held[name] = lease.epoch
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
            return self._held.get(row.name) != row.epoch
        return row.holder is not None and self.holder.is_dead(row.holder)

    def renew(self, lease: Lease) -> None:
        """Hold the lease for its full length from now on. `LeaseLost` if somebody else has it."""
        with self.job(lease):
            pass

    def release(self, lease: Lease) -> None:
        """Give a lease back."""
        try:
            with self.database.write() as tx:
                leases.release(tx, lease)
        finally:
            if self._held.get(lease.name) == lease.epoch:
                del self._held[lease.name]

    @contextmanager
    def holding(self, name: str) -> Iterator[Lease]:
        """Take a lease for the length of a block."""
        lease = self.acquire(name)
        try:
            yield lease
        except (Exception, KeyboardInterrupt):
            self.release(lease)
            raise
        self.release(lease)

    def close(self) -> None:
        """Close connections and let go of the holder's lock."""
        self.database.close()
        self.holder.close()
