"""The generation that an operator prefers: by the settings or live, for one library or for all. Loud wherever it shows."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from speakerdb.catalog import live as rows
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction
from speakerdb.core import preference
from speakerdb.core.commands import option
from speakerdb.core.preference import Plan, Preference
from speakerdb.errors import ConfigurationError, InvalidInput, SpeakerDBError
from speakerdb.live.live import CACHE_SECONDS, Live
from speakerdb.reports.live import PreferenceView
from speakerdb.reports.seeing import Problem

logger = logging.getLogger(__name__)
_MEND = "Mend PYANNOTE_MODE, PYANNOTE_VERSION and PYANNOTE_FALLBACK, or the settings `preference`."
COUNTING_SHARE = 0.05
"""Looking whether a generation is complete takes at most this share of the time, however large the library."""

Serving = Callable[[], tuple[str, Sequence[str]]]
"""What the alias names, and the live generations."""


class Preferences:
    """Decides where answers come from."""

    def __init__(
        self,
        catalog: Catalog,
        live: Live,
        given: Preference | None,
        *,
        serving: Serving,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`given` is what the settings of this process say."""
        self._catalog = catalog
        self._live = live
        self._given = given
        self._serving = serving
        self._clock = clock
        self._complete: dict[str, tuple[float, bool]] = {}
        """By generation: until when it is known, and the answer."""
        self._told: dict[str, tuple[str, bool]] = {}

    def of(self, library: str = "", tx: Transaction | None = None) -> Preference | None:
        """What is preferred for a library (by id): what is set live for it, else live for all, else what the settings say."""
        live = self._live.get(tx).preference
        text = live.get(library, live.get(""))
        return self._given if text is None else preference.parse(text)

    def plan(self, tx: Transaction, serving: str, live: Sequence[str], *, library: str = "") -> Plan:
        """Where to look for an answer to a question about a library (by id), or about all."""
        wanted = self.of(library, tx)
        found = preference.decide(wanted, serving, live, lambda name: self._is_complete(tx, name))
        self._tell(library, wanted, found)
        return found

    def views(self) -> tuple[PreferenceView, ...]:
        """Every preference that stands, and what becomes of it. `auto` alone is none."""
        return tuple(self._views())

    def problems(self) -> list[Problem]:
        """For `status`: a preference is never silent."""
        return [_problem(view) for view in self._views()]

    def _views(self) -> Iterator[PreferenceView]:
        homes = {row.library_id: row.library for row in self._live.get(fresh=True).rows if row.name == "preference"}
        try:
            serving, live = self._serving()
        except SpeakerDBError:  # `status` says itself what is wrong with the alias
            serving, live = "", ()
        for library in dict.fromkeys(["", *homes]):
            wanted = self.of(library)
            if wanted is None or wanted.generation is None:
                continue
            where = homes.get(library)
            back = "speakerdb live clear preference" + ("" if where is None else option("--library", where))
            found, complete = None, None
            if serving:
                with self._catalog.read() as tx:
                    found = self.plan(tx, serving, live, library=library)
                complete = self._complete[wanted.generation][1] if wanted.generation in self._complete else None
            yield PreferenceView(
                library=where,
                text=wanted.text,
                source="live" if library in homes else "settings",
                serving=serving or None,
                answers=() if found is None else found.order,
                obeyed=found is not None and found.obeyed,
                complete=complete,
                reason="Nobody knows now what the alias names." if found is None else found.reason,
                command=back if library in homes else "unset PYANNOTE_MODE PYANNOTE_VERSION PYANNOTE_FALLBACK",
            )

    def _is_complete(self, tx: Transaction, generation: str) -> bool:
        begun = self._clock()
        if generation in self._complete and begun < self._complete[generation][0]:
            return self._complete[generation][1]
        found = rows.is_complete(tx, generation)
        now = self._clock()
        self._complete[generation] = now + max(CACHE_SECONDS, (now - begun) / COUNTING_SHARE), found
        return found

    def _tell(self, library: str, wanted: Preference | None, found: Plan) -> None:
        """Into the log, once in this process and whenever it changes."""
        if wanted is None or wanted.generation is None:
            if self._told.pop(library, None) is not None:
                logger.warning("preference-ended library=%s", library or "all")
            return
        now = (wanted.text, found.obeyed)
        if self._told.get(library) != now:
            self._told[library] = now
            logger.warning(
                "preference-stands preference=%s library=%s obeyed=%s", wanted.text, library or "all", found.obeyed
            )


def _problem(view: PreferenceView) -> Problem:
    where = "" if view.library is None else f" for the library {view.library}"
    by = "A live setting" if view.source == "live" else "The settings of this process (PYANNOTE_… or `preference`)"
    generation = preference.parse(view.text).generation
    return Problem(
        "preference",
        "warning" if view.obeyed else "error",
        f"{by} prefer{'s' if view.source == 'live' else ''} {view.text}{where}: {view.reason}",
        view.command,
        generation=generation,
    )


def preferred(mode: str | None, version: str | None, fallback: str | None, known: Collection[str]) -> Preference | None:
    """What the settings prefer. `ConfigurationError` where they contradict each other, or name a generation that is not known."""
    try:
        found = preference.from_switches(mode, version, fallback)
    except InvalidInput as error:
        raise ConfigurationError(
            f"The preference of a generation cannot be used: {error.message}", hint=_MEND
        ) from error
    for name in () if found is None else found.names:
        if name not in known:
            raise ConfigurationError(
                f"The settings prefer the unknown generation {name!r}.",
                hint=f"Known: {', '.join(sorted(known))}. {_MEND}",
            )
    return found
