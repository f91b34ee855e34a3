"""Which generation answers, where an operator prefers another than the alias names. Decisions only; the alias is not touched.

A preference is written ``v3`` (only that one answers: the way back in an emergency), ``v3/v4`` (that one, and v4 for what it
lacks), ``auto:v4`` or ``auto:v4/v3`` (v4 where both sides have it, else v3, else whatever has it), or ``auto`` (as the alias
says). The old product's three switches say the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from speakerdb.errors import InvalidInput

AUTO = "auto"
_WRITTEN = re.compile(r"(?:(?P<auto>auto)(?::(?P<first>[^:/\s]+))?|(?P<fixed>[^:/\s]+))(?:/(?P<fallback>[^:/\s]+))?")
_EXAMPLES = "Write v3, v3/v4, auto, auto:v4 or auto:v4/v3."


@dataclass(frozen=True, slots=True)
class Preference:
    """What an operator prefers. `fixed`: nothing but `generation`, and `fallback` where it is given, answers."""

    generation: str | None
    """None: what the alias names."""
    fallback: str | None = None
    fixed: bool = False

    @property
    def text(self) -> str:
        """The one way to write it."""
        first = AUTO if self.generation is None else self.generation if self.fixed else f"{AUTO}:{self.generation}"
        return first if self.fallback is None else f"{first}/{self.fallback}"

    @property
    def names(self) -> tuple[str, ...]:
        """The generations it names."""
        return tuple(name for name in (self.generation, self.fallback) if name is not None)


@dataclass(frozen=True, slots=True)
class Plan:
    """Where to look for an answer, in this order.

    `checked`: the first is not complete. Its answer counts only where the second, its fallback, knows nobody near whom the
    first lacks. `obeyed`: whether the preference is followed; `reason` says why not, or what it does.
    """

    order: tuple[str, ...]
    checked: bool = False
    obeyed: bool = True
    reason: str = ""


def parse(text: str) -> Preference:
    """A preference as it is written. `InvalidInput` for anything else."""
    found = _WRITTEN.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(f"{text!r} is not a preference.", hint=_EXAMPLES)
    given = Preference(found["fixed"] or found["first"], found["fallback"], fixed=found["fixed"] is not None)
    return _checked(given, text)


def from_switches(mode: str | None, version: str | None, fallback: str | None) -> Preference | None:
    """The old product's MODE, VERSION and FALLBACK; None where none is set. `InvalidInput` where they contradict.

    A mode other than ``auto`` is a fixed generation; a version without a mode too: it was the way back in an emergency.
    """
    mode, version, fallback = (None if each is None else each.strip() or None for each in (mode, version, fallback))
    if mode is not None and mode.lower() == AUTO:
        mode = AUTO
    if (mode, version, fallback) == (None, None, None):
        return None
    if mode not in (None, AUTO) and version not in (None, mode):
        raise InvalidInput(
            f"The mode is {mode} and the version {version}: only one can be the one.", hint="Unset one of the two."
        )
    fixed = mode not in (None, AUTO) or (mode is None and version is not None)
    given = Preference(version if mode in (None, AUTO) else mode, fallback, fixed)
    return _checked(given, given.text)


def _checked(given: Preference, text: str) -> Preference:
    if given.generation is not None and given.generation == given.fallback:
        raise InvalidInput(f"In {text!r} a generation is its own fallback.", hint=_EXAMPLES)
    if given.generation is None and given.fallback is not None:
        raise InvalidInput(f"{text!r} names a fallback, and nothing that it is for.", hint=_EXAMPLES)
    return given


def decide(preference: Preference | None, serving: str, live: Collection[str], complete: Callable[[str], bool]) -> Plan:
    """Where to look. `serving` is what the alias names, `live` what has an index that is kept current; `complete` is asked
    about the preferred generation only where it matters."""
    ordinary = _first(serving, live)
    if preference is None or preference.generation is None:
        return Plan(ordinary)
    wanted, fallback = preference.generation, preference.fallback
    if fallback is not None and fallback not in live:
        fallback = None
    then = () if fallback is None else (fallback,)
    rest = () if preference.fixed else ordinary
    if wanted not in live:
        reason = f"{wanted} has no index that is kept current"
        if fallback is None:
            return Plan(ordinary, obeyed=False, reason=f"{reason}: the alias decides.")
        return Plan(_unique((fallback, *rest)), obeyed=False, reason=f"{reason}: its fallback {fallback} answers.")
    order = _unique((wanted, *then, *rest))
    if wanted == serving:
        return Plan(order, reason=f"{wanted} is what the alias names: it makes no difference now.")
    if complete(wanted):
        return Plan(order, reason=f"{wanted} answers, and the alias names {serving}.")
    if fallback is None:
        reason = f"{wanted} is not complete, and is used only with a fallback: the alias decides."
        return Plan(ordinary, obeyed=False, reason=reason)
    reason = f"{wanted} is not complete: it answers where both sides have it, and {fallback} elsewhere."
    return Plan(order, checked=True, reason=reason)


def _first(serving: str, live: Collection[str]) -> tuple[str, ...]:
    return _unique((serving, *sorted(live)))


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
