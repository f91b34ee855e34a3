"""A lease whose taking or giving back was not heard of: the process knows itself whether it works under it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction
from speakerdb.errors import DatabaseUnavailable, LeaseHeld


@contextmanager
def connection_lost_at_commit(catalog: Catalog, monkeypatch: pytest.MonkeyPatch, *, done: bool) -> Iterator[None]:
    """The next transaction is committed, or not, and nobody is told which."""
    write = catalog.database.write

    @contextmanager
    def lost() -> Iterator[Transaction]:
        with write() as tx:
            yield tx
            if not done:
                raise DatabaseUnavailable("lost before the commit")
        raise DatabaseUnavailable("lost after it")

    with monkeypatch.context() as patched:
        patched.setattr(catalog.database, "write", lost)
        yield


@pytest.mark.parametrize("done", [False, True])
def test_one_that_was_taken_unheard_is_taken_again(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    with connection_lost_at_commit(catalog, monkeypatch, done=done), pytest.raises(DatabaseUnavailable):
        catalog.acquire("work")
    lease = catalog.acquire("work")
    with pytest.raises(LeaseHeld):
        catalog.acquire("work")
    catalog.release(lease)


@pytest.mark.parametrize("done", [False, True])
def test_one_that_was_given_back_unheard_is_free(catalog: Catalog, monkeypatch: pytest.MonkeyPatch, done: bool) -> None:
    first = catalog.acquire("work")
    with connection_lost_at_commit(catalog, monkeypatch, done=done), pytest.raises(DatabaseUnavailable):
        catalog.release(first)
    second = catalog.acquire("work")
    assert second.epoch > first.epoch
    catalog.release(first)  # late, and not ours any more
    with pytest.raises(LeaseHeld):
        catalog.acquire("work")
