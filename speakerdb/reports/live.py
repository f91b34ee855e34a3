"""Live settings as a person sees them: what every process follows within seconds, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Name = Literal["paused", "concurrency", "quiet_hours", "preference"]


@dataclass(frozen=True, slots=True)
class LiveSetting:
    """One setting, with who set it and why. `library` is a name; None means all."""

    name: str
    library: str | None
    value: str
    who: str
    why: str | None
    updated_at: int
    library_id: str = ""
    """"" for all."""


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """What is set. What is not has its ordinary meaning: nothing is paused, `workers` at once, no quiet hours, the alias says."""

    paused: bool = False
    pause_reason: str | None = None
    concurrency: int | None = None
    """How many recordings are extracted at once."""
    quiet_hours: str | None = None
    preference: Mapping[str, str] = field(default_factory=dict)
    """By a library's id, "" for all."""
    rows: tuple[LiveSetting, ...] = ()


@dataclass(frozen=True, slots=True)
class Halt:
    """Why nothing is extracted now, and the command that ends it."""

    reason: Literal["extraction-paused", "quiet-hours"]
    message: str
    command: str
    endless: bool = False
    """It does not end by itself."""


@dataclass(frozen=True, slots=True)
class PreferenceView:
    """An operator's preference of the generation that answers, and what becomes of it."""

    library: str | None
    """The name of the library it is for; None for all."""
    text: str
    source: Literal["settings", "live"]
    serving: str | None
    """What the alias names; None where it does not say."""
    answers: tuple[str, ...]
    """The generations that answer, in order."""
    obeyed: bool
    complete: bool | None
    """Whether the preferred generation has what the others have; None where it was not asked."""
    reason: str
    command: str
    """What takes it back."""
