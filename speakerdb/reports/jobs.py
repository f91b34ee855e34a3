"""The jobs of the service, as a person and a health check see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

JobState = Literal["waiting", "running", "standby", "held-back", "failing"]


@dataclass(frozen=True, slots=True)
class JobView:
    """One job of one process. Instants are microseconds since the epoch by this machine's clock."""

    name: str
    state: JobState
    """``standby``: another process does it. ``held-back``: somebody paused it, or it is quiet hours. ``failing``: the last
    run met an error, and it is tried again by itself."""
    every_seconds: float
    runs: int
    failures: int
    last_started: int | None
    last_succeeded: int | None
    code: str | None = None
    """Of the error that the last run met."""
    message: str | None = None
    failing_since: int | None = None
    retry_seconds: float | None = None
    """Seconds until it is tried again."""
