"""What the voices of one recording are called in a transcript. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Voice:
    """A speaker of a recording. `name` is what people call it: its profile's name, else its own; None where nobody said."""

    id: str
    label: str
    name: str | None


def told_apart(voices: Iterable[Voice]) -> dict[str, str]:
    """What each voice is called, by id: its name, else its label; no two alike.

    Where two have one name, both are called by name and label: who reads must see that they are two.
    """
    ordered = sorted(voices, key=lambda voice: voice.label)
    wanted = Counter(voice.name or voice.label for voice in ordered)
    found: dict[str, str] = {}
    used: set[str] = set()
    # Those whose call is theirs alone keep it, whatever the others are called then.
    for voice in sorted(ordered, key=lambda voice: wanted[voice.name or voice.label] > 1):
        call = voice.name or voice.label
        if wanted[call] > 1 and voice.name is not None:
            call = f"{voice.name} ({voice.label})"
        text, number = call, 1
        while text in used:
            number += 1
            text = f"{call} #{number}"
        used.add(text)
        found[voice.id] = text
    return found
