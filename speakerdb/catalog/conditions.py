"""Conditions of a change: what must still be so, looked at in the transaction that writes. And what a change has made, looked
at in the same one.

Who read something and wants to change it as it was names what it read; between the two, others write. One process writes
at a time, so what a condition sees is what the change meets, and what is looked at when it is made is nobody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

from speakerdb.catalog.database import Transaction

Condition: TypeAlias = Callable[[Transaction], None]

_open: ContextVar[tuple[list[Condition], ...]] = ContextVar("speakerdb_conditions", default=())
_looks: ContextVar[tuple[Condition, ...]] = ContextVar("speakerdb_looks", default=())


@contextmanager
def only_if(condition: Condition) -> Iterator[None]:
    """The first change of the library in this block is made only if `condition` does not raise. Blocks may be nested."""
    before = _open.get()
    token = _open.set((*before, [condition]))
    try:
        yield
    finally:
        _open.reset(token)


def hold(tx: Transaction) -> None:
    """Called by the catalog at the beginning of a change: each condition that is open, once."""
    for waiting in _open.get():
        while waiting:
            waiting.pop()(tx)


@contextmanager
def looking(look: Condition) -> Iterator[None]:
    """What each change of the library in this block has made is looked at before others can change it again."""
    token = _looks.set((*_looks.get(), look))
    try:
        yield
    finally:
        _looks.reset(token)


def made(tx: Transaction) -> None:
    """Called by the catalog at the end of a change, before it is committed."""
    for look in _looks.get():
        look(tx)
