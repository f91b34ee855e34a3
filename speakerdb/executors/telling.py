"""How a task says how far it is, to whoever gave it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_listening = threading.local()


def tell(value: Any) -> None:
    """Called inside a task, in the thread it was begun in. Nothing, where nobody listens."""
    send: Callable[[Any], None] | None = getattr(_listening, "send", None)
    if send is not None:
        send(value)


@contextmanager
def told(send: Callable[[Any], None] | None) -> Iterator[None]:
    """What this thread tells in this block goes to `send`."""
    before = getattr(_listening, "send", None)
    _listening.send = send
    try:
        yield
    finally:
        _listening.send = before
