"""Quiet hours: parts of the day in which nothing is extracted, such as ``22:00-06:00 Europe/Berlin``. No clock is read here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from speakerdb.errors import InvalidInput

DAY = 24 * 60
_STRETCH = r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})"
_WRITTEN = re.compile(rf"(?P<hours>{_STRETCH}(?:\s*,\s*{_STRETCH})*)(?:\s+(?P<zone>[^\s,]+))?")
_EXAMPLE = "For example 22:00-06:00, or 08:00-12:00, 13:00-18:00 Europe/Berlin."


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Stretches of the day in minutes since midnight, each from its begin to before its end; one may pass midnight.

    `zone` is the name of the time zone whose clock counts.
    """

    stretches: tuple[tuple[int, int], ...]
    zone: str = "UTC"

    @property
    def text(self) -> str:
        """The one way to write it."""
        hours = ", ".join(f"{clock(begin)}-{clock(end)}" for begin, end in self.stretches)
        return f"{hours} {self.zone}"

    def until(self, minute: int) -> int | None:
        """The minute of the day at which quiet ends, if it is quiet at `minute` (0 to 1439); None where it is not.

        Stretches that follow upon each other are one. Where they fill the whole day, it is the end of the one that is on.
        """
        at: int | None = None
        for _ in range(len(self.stretches)):
            end = next((end % DAY for begin, end in self.stretches if _within(minute, begin, end)), None)
            if end is None:
                break
            at = minute = end
        return at


def parse(text: str) -> QuietHours:
    """Quiet hours as a person writes them; the zone is UTC unless one is named. `InvalidInput` for anything else."""
    found = _WRITTEN.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(f"{text!r} are no hours of a day.", hint=_EXAMPLE)
    parts = re.findall(_STRETCH, found["hours"])
    return QuietHours(tuple(_stretch(*map(int, part)) for part in parts), found["zone"] or "UTC")


def clock(minute: int) -> str:
    """``06:00`` of a minute of the day."""
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _stretch(hour: int, minute: int, end_hour: int, end_minute: int) -> tuple[int, int]:
    begin, end = 60 * hour + minute, 60 * end_hour + end_minute
    if max(minute, end_minute) > 59 or begin >= DAY or end > DAY or begin == end:
        raise InvalidInput(f"{clock(begin)}-{clock(end)} is no part of a day.", hint=_EXAMPLE)
    return begin, end


def _within(minute: int, begin: int, end: int) -> bool:
    return begin <= minute < end if begin < end else minute >= begin or minute < end
