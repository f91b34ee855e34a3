"""Rules for texts that people or other programs give: labels, names, ids, and what errors say."""

from __future__ import annotations

import unicodedata

MAX_ID_LENGTH = 200
MAX_NAME_LENGTH = 1000
"""Characters of a speaker's label or of a name."""

# Control characters (also tab and line ends), halves of UTF-16 pairs, line and paragraph separators. No name of a person
# has any; terminals, CSV files and databases each do something else with them. Joiners and direction marks are fine.
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})


def flaw(text: str, limit: int) -> str | None:
    """What is wrong with a text, as the end of a sentence ("the name …"); None where nothing is."""
    if not text or text.isspace():
        return "is empty"
    if len(text) > limit:
        return f"is {len(text):,} characters long; {limit:,} are allowed"
    if text.isprintable():
        return None
    for character in text:
        if unicodedata.category(character) in _REFUSED:
            return f"holds a character that cannot be stored (U+{ord(character):04X})"
    return None


def first_line(said: object) -> str:
    """The first line of what somebody else's error says; the name of its class where it says nothing."""
    return (str(said).splitlines() or [type(said).__name__])[0].strip()
