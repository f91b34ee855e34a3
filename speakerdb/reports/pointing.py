"""What the alias names, and what a person who set it by hand is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from speakerdb.reports import Check


@dataclass(frozen=True, slots=True)
class AliasView:
    """The alias that says what serves, and what else is known of that."""

    alias: str
    indices: tuple[str, ...]
    """The concrete indices it names; it must be one."""
    generation: str | None
    """The generation that is recognised by it; None where it names none or several, or an index that no generation knows."""
    stated: str | None
    """The generation that should serve by what SQL knows; None where only the alias can tell."""
    current: Mapping[str, str]
    """For every live generation the concrete index that is kept current."""
    intention: str | None
    """``finalizing`` or ``rolling_back`` while a swap is announced and not decided."""
    problem: str | None
    """What is wrong with it, in a sentence."""


@dataclass(frozen=True, slots=True)
class AliasReport:
    """What setting the alias by hand did."""

    generation: str
    index: str
    left: tuple[str, ...]
    """What it named before."""
    moved: bool
    """Whether it named anything else before."""
    check: Check | None
    """The comparison of the index with SQL; None where it was not made, because the alias was there already."""
