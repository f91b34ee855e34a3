"""What is known of a voice and of a person: how well voices fit together, in each live generation, and where they appear.

Reads only. Statistics are computed from the vectors in SQL that are of current content, not from an index, in memory that
does not grow with the vectors (see `speakerdb.core.statistics`).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from speakerdb.catalog import journal, library, people, vectors, voices
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction
from speakerdb.core import statistics
from speakerdb.core.statistics import Gathered
from speakerdb.reports import ProfileView, SpeakerView
from speakerdb.reports.people import (
    Member,
    Outlier,
    ProfileDetails,
    ProfileStatistics,
    SpeakerDetails,
    SpeakerStatistics,
)
from speakerdb.types import Embedding, Generation

SHOWN = 20
"""Rows of each list, unless more are asked for."""


@dataclass(frozen=True, slots=True)
class _Fit:
    """How the members of a profile fit together in one generation."""

    gathered: Gathered
    mean: float | None
    lowest: float | None
    limit: float | None
    outliers: int
    least: tuple[Outlier, ...]
    known: Mapping[str, float | None]
    """Similarities of those that were asked for and have a current vector; None where there is nothing to compare with."""


class Voices:
    """Statistics of speakers and profiles."""

    def __init__(self, catalog: Catalog, generations: Mapping[str, Generation]) -> None:
        self._catalog = catalog
        self._generations = generations

    def speaker(self, given: str, *, turns: int = SHOWN) -> SpeakerDetails:
        """A speaker with the first of its turns, and its statistics in every live generation. `NotFound`."""
        with self._catalog.read() as tx:
            row = people.find_speaker(tx, given)
            (view,) = voices.speaker_views(tx, [row])
            return SpeakerDetails(
                **_fields(view, SpeakerView),
                library=library.library_name(tx, row.library_id),
                recording_path=row.path,
                turns_total=voices.count_turns(tx, row.id),
                turns=tuple(voices.turns_of(tx, row.id, turns)),
                statistics=tuple(self._speaker(tx, name, view) for name in journal.live_generations(tx)),
            )

    def profile(self, given: str, *, rows: int = SHOWN) -> ProfileDetails:
        """A person with statistics in every live generation, members and appearances, at most `rows` of each. `NotFound`."""
        with self._catalog.read() as tx:
            found = people.find_profile(tx, given)
            view = people.listed(tx, profile=found.id)[0]
            shown = voices.members(tx, found.id, rows)
            fits = {name: self._fit(tx, name, found.id, shown, rows) for name in journal.live_generations(tx)}
            seconds, recordings = voices.speech_of(tx, found.id)
            return ProfileDetails(
                **_fields(view, ProfileView),
                speech_seconds=seconds,
                recordings=recordings,
                statistics=tuple(
                    _profile_statistics(tx, name, found.id, found.library_id, view.speakers, fit)
                    for name, fit in fits.items()
                ),
                members=_members(tx, shown, fits),
                appearances=tuple(voices.appearances(tx, found.id, rows)),
                merged=tuple(people.merged_into(tx, found.id, rows)),
            )

    def _speaker(self, tx: Transaction, generation: str, view: SpeakerView) -> SpeakerStatistics:
        state = view.generations[generation]
        entry = vectors.embeddings_of(tx, generation, [view.id]).get(view.id)
        if state != "embedded" or entry is None or not isinstance(entry.result, Embedding):
            return SpeakerStatistics(generation, state)
        fit = None if view.profile_id is None else self._fit(tx, generation, view.profile_id, [view.id], 0)
        similarity = None if fit is None else fit.known.get(view.id)
        limit = None if fit is None else fit.limit
        return SpeakerStatistics(
            generation=generation,
            state=state,
            seconds=entry.result.seconds,
            segments=entry.result.segments,
            resultant=entry.result.resultant,
            agreement=entry.result.agreement,
            similarity=similarity,
            limit=limit,
            outlier=None if similarity is None or limit is None else similarity < limit,
        )

    def _fit(self, tx: Transaction, generation: str, profile: str, wanted: Collection[str], rows: int) -> _Fit | None:
        """Two passes over the members' vectors. None where no member has a current one."""
        gathered = statistics.gather(voices.member_parts(tx, generation, profile))
        if gathered is None:
            return None
        each: list[statistics.Numbers] = []
        known: dict[str, float | None] = {}
        least: list[tuple[float, str]] = []
        ids = frozenset(wanted)
        for part in voices.member_parts(tx, generation, profile):
            found = statistics.similarities(part, gathered)
            each.append(found)
            known |= {
                speaker: float(value) if math.isfinite(value) else None
                for speaker, value in zip(part.ids, found, strict=True)
                if speaker in ids
            }
            worst = np.argsort(found, kind="stable")[:rows]  # NaN comes last
            least += [(float(found[n]), part.ids[n]) for n in worst if math.isfinite(found[n])]
            least = heapq.nsmallest(rows, least)
        every = np.concatenate(each)
        finite = every[np.isfinite(every)]
        limit = statistics.outlier_limit(every, self._generations[generation].operating_point)
        return _Fit(
            gathered=gathered,
            mean=float(finite.mean()) if finite.size else None,
            lowest=float(finite.min()) if finite.size else None,
            limit=limit,
            outliers=0 if limit is None else int((finite < limit).sum()),
            least=tuple(Outlier(speaker, value) for value, speaker in least if limit is not None and value < limit),
            known=known,
        )


def _profile_statistics(
    tx: Transaction, generation: str, profile: str, home: str, members: int, fit: _Fit | None
) -> ProfileStatistics:
    if fit is None:
        return ProfileStatistics(generation, members, 0, 0.0, None, None, None, None, 0, (), None)
    centroid = fit.gathered.centroid
    return ProfileStatistics(
        generation=generation,
        members=members,
        embedded=fit.gathered.members,
        seconds=fit.gathered.seconds,
        mean_similarity=fit.mean,
        lowest_similarity=fit.lowest,
        spread=fit.gathered.spread,
        limit=fit.limit,
        outliers=fit.outliers,
        least_similar=fit.least,
        nearest=None if centroid is None else voices.nearest_profile(tx, generation, home, centroid, but=profile),
    )


def _members(tx: Transaction, shown: list[str], fits: Mapping[str, _Fit | None]) -> tuple[Member, ...]:
    rows = library.speakers_by_id(tx, shown)
    found = []
    for speaker in shown:
        row, similarities, outlier_in = rows[speaker], {}, []
        for generation, fit in fits.items():
            similarity = None if fit is None else fit.known.get(speaker)
            if fit is None or similarity is None:
                continue
            similarities[generation] = similarity
            if fit.limit is not None and similarity < fit.limit:
                outlier_in.append(generation)
        found.append(
            Member(
                row.id,
                row.recording_id,
                row.path,
                row.label,
                row.name,
                row.speech_seconds,
                similarities,
                tuple(outlier_in),
            )
        )
    return tuple(found)


def _fields(view: SpeakerView | ProfileView, kind: type[SpeakerView] | type[ProfileView]) -> dict[str, Any]:
    """The fields of a view, to be given to the details that extend it."""
    return {field.name: getattr(view, field.name) for field in fields(kind)}
