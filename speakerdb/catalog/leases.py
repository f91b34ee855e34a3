"""Leases save work; versions give safety. Also the write fence, which a finalize raises for seconds.

A lease row holds who may work and an epoch that only grows. The first statement of every job transaction touches the row;
a plain SELECT of the epoch would protect nothing. Touching renews. Each of acquiring, renewing, giving back, taking over
and breaking is one conditional statement, by the database's clock.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from speakerdb.catalog.database import Transaction, lease_lost
from speakerdb.catalog.schema import fences, leases

LIBRARY_FENCE = "library"
NOISE = 1_000_000
"""Microseconds by which two processes may read the database's clock differently, or it is corrected, without being set."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work: `name`, who holds it, and the epoch under which it was taken.

    `seconds` is for how long it stands without renewal; `ends_at` is the instant after which it is not renewed any more (by
    the database's clock), None where nothing but its holder ends it.
    """

    name: str
    holder: str
    epoch: int
    seconds: float
    ends_at: int | None = None


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """A lease as it stands in SQL."""

    name: str
    holder: str | None
    epoch: int
    acquired_at: int | None
    expires_at: int | None
    length: int | None
    """Microseconds from a renewal to the expiry; None where nobody holds it."""

    def stands(self, now: int, length: int) -> bool:
        """Whether it is held and has not expired. `length` is for one that was taken before lengths were kept.

        An expiry further ahead than the lease's own length means that the clock was moved back, and counts as expired.
        """
        if self.holder is None or self.expires_at is None:
            return False
        own = length if self.length is None else self.length
        return now < self.expires_at <= now + own + NOISE


_touch = (
    sa.update(leases)
    .where(leases.c.name == sa.bindparam("lease_name"), leases.c.epoch == sa.bindparam("lease_epoch"))
    .where(leases.c.holder.is_not(None))
    .values(epoch=leases.c.epoch, expires_at=sa.bindparam("until"))
)


def touch(tx: Transaction, lease: Lease, now: int) -> None:
    """Renew, and lock the row for this transaction. `LeaseLost` if somebody else has it, or its run is over."""
    if lease.ends_at is not None and now >= lease.ends_at:
        raise lease_lost(lease.name, over=True)
    until = now + int(lease.seconds * 1e6)
    if lease.ends_at is not None:
        until = min(until, lease.ends_at)
    result = tx.execute(_touch, {"lease_name": lease.name, "lease_epoch": lease.epoch, "until": until})
    if result.rowcount != 1:
        raise lease_lost(lease.name)


def find(tx: Transaction, name: str) -> LeaseRow | None:
    """The row of one lease."""
    row = tx.execute(sa.select(leases).where(leases.c.name == name)).one_or_none()
    return None if row is None else LeaseRow(*row)


def acquire(
    tx: Transaction,
    name: str,
    holder: str,
    now: int,
    seconds: float,
    *,
    dead: str | None = None,
    limit: float | None = None,
) -> Lease | None:
    """Take the lease if it is free, expired, or held by `dead` (a holder known not to live); None if it is held.

    One conditional statement; the epoch grows. An expiry further ahead than the lease's own length means that the clock was
    moved back, and counts as expired. With `limit` it is not renewed beyond so many seconds from now.
    """
    tx.execute(_ensure(leases, name=name, epoch=0))
    length = int(seconds * 1e6)
    ends_at = None if limit is None else now + int(limit * 1e6)
    free = sa.or_(
        leases.c.holder.is_(None),
        leases.c.expires_at <= now,
        leases.c.expires_at > now + sa.func.coalesce(leases.c.length, length) + NOISE,
        leases.c.holder == (dead or ""),
    )
    until = now + length if ends_at is None else min(now + length, ends_at)
    row = tx.execute(
        sa.update(leases)
        .where(leases.c.name == name, free)
        .values(holder=holder, epoch=leases.c.epoch + 1, acquired_at=now, expires_at=until, length=length)
        .returning(leases.c.epoch)
    ).one_or_none()
    return None if row is None else Lease(name, holder, row.epoch, seconds, ends_at)


_FREE = {"holder": None, "expires_at": None, "length": None}


def release(tx: Transaction, lease: Lease) -> None:
    """Give the lease back. Fine where it is lost already."""
    tx.execute(sa.update(leases).where(leases.c.name == lease.name, leases.c.epoch == lease.epoch).values(**_FREE))


def take_away(tx: Transaction, name: str, epoch: int) -> None:
    """Free a lease that is held under this epoch, whoever holds it: its holder commits nothing more."""
    held = (leases.c.name == name) & (leases.c.epoch == epoch)
    tx.execute(sa.update(leases).where(held).values(epoch=leases.c.epoch + 1, **_FREE))


def all_leases(tx: Transaction) -> list[LeaseRow]:
    """Every lease that was ever taken."""
    return [LeaseRow(*row) for row in tx.execute(sa.select(leases).order_by(leases.c.name))]


# The write fence: one row. Writers of the library look at it; a finalize raises it.

_fence = sa.select(fences.c.holder, fences.c.expires_at).where(fences.c.name == LIBRARY_FENCE)


def fenced(tx: Transaction, now: int, longest: float) -> bool:
    """Whether writers of the library must wait. Keeps the fence from rising until this transaction ends.

    An expiry that is more than `longest` seconds ahead means that the clock was moved back, and counts as expired.
    """
    row = tx.execute(_fence).one_or_none()
    return row is not None and row.holder is not None and now < row.expires_at <= now + int(longest * 1e6)


def exclude_writers(tx: Transaction) -> None:
    """Wait for the library's writers in flight, and keep new ones out until this transaction ends."""
    tx.execute(_ensure(fences, name=LIBRARY_FENCE))
    tx.execute(sa.update(fences).where(fences.c.name == LIBRARY_FENCE).values(holder=fences.c.holder))


def raise_fence(tx: Transaction, holder: str, now: int, seconds: float) -> bool:
    """Make the library's writers wait for at most `seconds`. False if somebody else's fence stands."""
    exclude_writers(tx)
    length = int(seconds * 1e6)
    free = sa.or_(
        fences.c.holder.is_(None),
        fences.c.holder == holder,
        fences.c.expires_at <= now,
        fences.c.expires_at > now + 2 * length,
    )
    result = tx.execute(
        sa.update(fences).where(fences.c.name == LIBRARY_FENCE, free).values(holder=holder, expires_at=now + length)
    )
    return result.rowcount == 1


def fence_stands(tx: Transaction, holder: str, now: int) -> bool:
    """Whether the fence is still this holder's and has not expired. Locks the row."""
    result = tx.execute(
        sa.update(fences)
        .where(fences.c.name == LIBRARY_FENCE, fences.c.holder == holder, fences.c.expires_at > now)
        .values(holder=fences.c.holder)
    )
    return result.rowcount == 1


def lift_fence(tx: Transaction, holder: str | None = None) -> None:
    """Let writers go on. None lifts anybody's fence (whoever resolves an unfinished swap)."""
    statement = sa.update(fences).where(fences.c.name == LIBRARY_FENCE).values(holder=None, expires_at=None)
    tx.execute(statement if holder is None else statement.where(fences.c.holder == holder))


def _ensure(table: sa.Table, **row: object) -> sa.Insert:
    """Insert unless there. Written as INSERT … SELECT … WHERE NOT EXISTS, which both databases know."""
    columns = list(row)
    exists = sa.select(table.c.name).where(table.c.name == row["name"]).exists()
    values = sa.select(*[sa.literal(v).label(k) for k, v in row.items()]).where(~exists)
    return sa.insert(table).from_select(columns, values)
