"""Live settings: rows in SQL that every process follows within seconds, each change an event with who and why."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from speakerdb.catalog import journal
from speakerdb.catalog import live as rows
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.library import library_id
from speakerdb.core import preference, quiet
from speakerdb.errors import InvalidInput
from speakerdb.reports.live import Halt, LiveSetting, LiveSettings
from speakerdb.reports.seeing import Problem

CACHE_SECONDS = 2.0
MOST_AT_ONCE = 256
NAMES = ("paused", "concurrency", "quiet_hours", "preference")
BY_LIBRARY = ("preference",)
"""Those that may be set for one library."""
_ON, _OFF = ("on", "true", "yes", "1"), ("off", "false", "no", "0")


class Live:
    """Reads and writes live settings."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        generations: Collection[str],
        who: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._generations = generations
        self._who = who
        self._clock = clock
        self._cached: tuple[float, LiveSettings] | None = None

    def get(self, tx: Transaction | None = None, *, fresh: bool = False) -> LiveSettings:
        """What is set now; an answer may be two seconds old unless `fresh`. Who is in a transaction gives it: another one beside
        it would take a second connection, and as many at once as there are connections would wait for each other."""
        cached, at = self._cached, self._clock()
        if not fresh and cached is not None and at - cached[0] < CACHE_SECONDS:
            return cached[1]
        if tx is not None:
            found = _read(rows.rows(tx))
        else:
            with self._catalog.read() as own:
                found = _read(rows.rows(own))
        self._cached = (at, found)
        return found

    def set(self, name: str, value: str, *, library: str | None = None, why: str | None = None) -> LiveSettings:
        """Set one, for a library (by name) or for all. `InvalidInput` for a name or a value that means nothing; a pause
        needs no reason, and shows one that is given."""
        written = self._meant(_known(name, library), value)
        if name == "paused" and written == "off":
            return self.clear(name, why=why)
        return self._write(name, library, written, why)

    def clear(self, name: str, *, library: str | None = None, why: str | None = None) -> LiveSettings:
        """It has its ordinary meaning again. Fine where it was not set."""
        return self._write(_known(name, library), library, None, why)

    def halt(self, now: datetime | None = None, *, tx: Transaction | None = None) -> Halt | None:
        """Why nothing is to be extracted now (`now` is an aware time, the present unless given); None where nothing says so."""
        settings = self.get(tx)
        if settings.paused:
            reason = settings.pause_reason or "no reason was given"
            return Halt(
                "extraction-paused", f"Extraction is paused: {reason}.", "speakerdb live clear paused", endless=True
            )
        if settings.quiet_hours is not None:
            hours = quiet.parse(settings.quiet_hours)
            try:
                zone = _zone(hours.zone)
            except InvalidInput as error:
                # Another machine knew it. Who cannot tell whether it is quiet keeps quiet, and does everything else.
                message = f"{error.message} Quiet hours go by it, so nothing is extracted here."
                return Halt("quiet-hours", message, "speakerdb live clear quiet_hours", endless=True)
            local = (now or datetime.now(UTC)).astimezone(zone)
            until = hours.until(60 * local.hour + local.minute)
            if until is not None:
                message = f"These are quiet hours, until {quiet.clock(until)} {hours.zone}."
                return Halt("quiet-hours", message, "speakerdb live clear quiet_hours")
        return None

    def problems(self) -> list[Problem]:
        """For `status`: a pause that was forgotten. Quiet hours end by themselves, unless this machine cannot tell them."""
        self.get(fresh=True)
        halt = self.halt()
        return [] if halt is None or not halt.endless else [Problem(halt.reason, "warning", halt.message, halt.command)]

    def _write(self, name: str, library: str | None, value: str | None, why: str | None) -> LiveSettings:
        with self._catalog.job() as tx:
            home = "" if library is None else library_id(tx, library)
            before = rows.value_of(tx, name, home)
            now = self._catalog.now()
            if value is None:
                rows.clear(tx, name, home)
            else:
                behalf = journal.actor()
                rows.write(tx, name, home, value, behalf.who or self._who, why or behalf.why, now)
            if value is not None or before is not None:
                journal.record(
                    tx, "setting-changed", self._who, now, why=why, name=name, library=library, old=before, new=value
                )
        return self.get(fresh=True)

    def _meant(self, name: str, value: str) -> str:
        """The one way to write a value."""
        if name == "paused":
            word = value.strip().lower()
            if word not in _ON + _OFF:
                raise InvalidInput(f"`paused` is on or off, not {value!r}.")
            return "on" if word in _ON else "off"
        if name == "concurrency":
            digits = value.strip()
            if not (digits.isdecimal() and len(digits) < 5 and 1 <= int(digits) <= MOST_AT_ONCE):
                raise InvalidInput(
                    f"`concurrency` is how many recordings are extracted at once: 1 to {MOST_AT_ONCE}.",
                    hint="To extract none, set `paused`.",
                )
            return str(int(digits))
        if name == "quiet_hours":
            hours = quiet.parse(value)
            _zone(hours.zone)
            return hours.text
        preferred = preference.parse(value)
        if unknown := [each for each in preferred.names if each not in self._generations]:
            raise InvalidInput(
                f"There is no generation {unknown[0]!r}.", hint=f"Known: {', '.join(sorted(self._generations))}."
            )
        return preferred.text


def _known(name: str, library: str | None) -> str:
    if name not in NAMES:
        raise InvalidInput(f"There is no live setting {name!r}.", hint=f"There are: {', '.join(NAMES)}.")
    if library is not None and name not in BY_LIBRARY:
        raise InvalidInput(f"`{name}` is for all libraries.", hint="Leave `--library` out.")
    return name


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError) as error:
        raise InvalidInput(
            f"There is no time zone {name!r} on this machine.",
            hint="Name one like Europe/Berlin, or leave it out for UTC.",
        ) from error


def _read(found: list[rows.LiveRow]) -> LiveSettings:
    one = {row.name: row for row in found if not row.library}
    paused, at_once, hours = (one.get(name) for name in ("paused", "concurrency", "quiet_hours"))
    return LiveSettings(
        paused=paused is not None and paused.value == "on",
        pause_reason=None if paused is None else paused.why,
        concurrency=None if at_once is None else int(at_once.value),
        quiet_hours=None if hours is None else hours.value,
        preference={row.library: row.value for row in found if row.name == "preference"},
        rows=tuple(
            LiveSetting(
                row.name,
                row.library_name or row.library or None,
                row.value,
                row.who,
                row.why,
                row.updated_at,
                row.library,
            )
            for row in found
        ),
    )
