"""Answers "who is this voice?" across recordings, in one generation and by one path.

An answer comes from the generation that serves (or that an operator prefers) if the query has a vector there, else from
another live one that both sides have. Two generations are never compared as if they were one space. A hit is a candidate
until its SQL row says that it lives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from speakerdb.catalog import journal, library, people, vectors
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction, parts
from speakerdb.catalog.library import SpeakerRow
from speakerdb.catalog.people import ProfileRow
from speakerdb.core.decision import Candidate, decide
from speakerdb.errors import AliasMoved, ConfigurationError, IndexMissing, InvalidInput, NotEmbedded
from speakerdb.extraction.extract import embed_clip
from speakerdb.index.port import VectorIndex
from speakerdb.live import Preferences
from speakerdb.migrator.serving import Serving, ServingState
from speakerdb.models.registry import LoadedModel
from speakerdb.people import find_profile, find_speaker
from speakerdb.reports import Match, MatchResult
from speakerdb.types import Embedding, Filter, FloatArray, Generation, Hit, Kind, Unembeddable, Waveform

DEEPEST = 10_000
"""No engine gives more hits of a large index. What is not among so many is not looked for."""
DECIDING = 500
"""Among so many of one person nobody else is looked for: whoever is in thousands of recordings is asked for most, and each
time as deep would be slow."""
SPARE_HITS = 4
"""Hits asked for beyond k: the query itself, its recording's other voices, and what SQL does not know any more."""
CLIP_SECONDS = 120.0
PART = 1024

Path_: TypeAlias = Literal["serving", "preferred", "fallback"]
Place: TypeAlias = tuple[Generation, str, Path_]
"""A generation, its concrete index, and how an answer from there is called."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What may be an answer."""

    k: int = 10
    kind: Kind = Kind.SPEAKER
    library: str | None = None
    same_recording: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Query:
    """A vector in one generation, with what must not be an answer to it."""

    text: str
    generation: Generation
    index: str
    path: Path_
    vector: FloatArray
    seconds: float | None
    itself: frozenset[str] = frozenset()
    recording: str | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """Queries, and for some of them (by number) the same in the fallback of a preferred generation that is not complete."""

    queries: Sequence[_Query]
    again: Mapping[int, _Query] = field(default_factory=dict)


class Matcher:
    """Finds voices."""

    def __init__(
        self,
        catalog: Catalog,
        index: VectorIndex,
        generations: Mapping[str, Generation],
        serving: Serving,
        load: Callable[[Generation], LoadedModel],
        preferences: Preferences,
        *,
        media_roots: Sequence[Path] = (),
    ) -> None:
        self._catalog = catalog
        self._index = index
        self._generations = generations
        self._serving = serving
        self._load = load
        self._preferences = preferences
        self._media_roots = media_roots

    def match(
        self,
        *,
        speaker: str | None = None,
        profile: str | None = None,
        clip: Path | Waveform | None = None,
        vector: FloatArray | None = None,
        generation: str | None = None,
        scope: Scope | None = None,
    ) -> MatchResult:
        """Who is this? Exactly one of `speaker`, `profile`, `clip` and `vector` is the query.

        `NotFound`; `NotEmbedded` when the query has no vector in any live generation, never an empty list.
        """
        given = [q for q in (speaker, profile, clip, vector) if q is not None]
        if len(given) != 1:
            raise InvalidInput("A match takes one of a speaker, a profile, a clip or a vector.")
        asked = scope or Scope()

        def queries() -> _Asked:
            state = self._serving.resolve()  # before there is a transaction: the index may be slow
            with self._catalog.read() as tx:
                places, checked = self._places(tx, state, generation, asked.library)
                if speaker is not None:
                    return self._twice(tx, places, _speakers(tx, [speaker]), checked=checked)
                if profile is not None:
                    return self._twice(tx, places, [find_profile(tx, profile)], checked=checked)
            # What has no row is asked in one generation: in the one that lacks nobody.
            place = places[1] if checked else places[0]
            if clip is not None:
                return _Asked([self._clip(place, clip)])
            assert vector is not None
            return _Asked([_bare(place, vector)])

        return self._ask(queries, asked)[0]

    def match_many(self, speakers: Sequence[str], *, scope: Scope | None = None) -> list[MatchResult]:
        """One answer for each of many speakers, searched together: in one call an index for each `PART` of them."""

        asked = scope or Scope()

        def queries(part: Sequence[str]) -> _Asked:
            state = self._serving.resolve()
            with self._catalog.read() as tx:
                places, checked = self._places(tx, state, None, asked.library)
                return self._twice(tx, places, _speakers(tx, part), checked=checked)

        return [answer for part in parts(speakers, PART) for answer in self._ask(partial(queries, part), asked)]

    def _ask(self, queries: Callable[[], _Asked], scope: Scope) -> list[MatchResult]:
        if scope.k < 1:
            raise InvalidInput("A match gives at least one answer.", hint="Choose k of 1 or more.")
        try:
            return self._answered(queries(), scope)
        except IndexMissing:
            # The index may have gone with its generation since the alias was looked at: look again, once.
            self._serving.forget()
            return self._answered(queries(), scope)

    def _answered(self, asked: _Asked, scope: Scope) -> list[MatchResult]:
        """Answer; where a preferred generation is not complete, only if it has everybody near whom its fallback knows."""
        answers = self._answer(asked.queries, scope)
        if asked.again:
            others = dict(zip(asked.again, self._answer(list(asked.again.values()), scope), strict=True))
            for number, other in others.items():
                near = {match.id for match in other.matches}
                with self._catalog.read() as tx:
                    known = _alive(tx, asked.queries[number].generation, scope.kind, near)
                if not near <= known.keys():
                    answers[number] = other
        return answers

    def _places(
        self, tx: Transaction, state: ServingState, asked: str | None, about: str | None
    ) -> tuple[list[Place], bool]:
        """Where to look, in order: what serves or is preferred (for the library `about`), then other live generations; or only
        what was `asked` for. And whether the first is not complete, and its answers are checked against the second's."""
        live = journal.live_generations(tx)
        if state.generation.name not in live:
            state = self._serving.resolve(fresh=True)  # it may have been rolled back this second
        serving = state.generation
        if serving.name not in live:
            raise AliasMoved(
                f"The alias names {state.index}, and this database keeps no index of {serving.name} current.",
                hint="See `speakerdb status` for what disagrees and the command that mends it.",
            )
        if asked is not None:
            if asked not in live:
                raise ConfigurationError(
                    f"Generation {asked!r} has no index that is kept current.",
                    hint=f"Live generations: {', '.join(live)}.",
                )
            if asked == serving.name:
                return [(serving, state.index, "serving")], False
            return [(self._generations[asked], state.indices[asked], "fallback")], False
        # Another process may have begun to move to a generation that this one's settings do not define.
        live = tuple(name for name in live if name in self._generations)
        home = "" if about is None else library.library_id(tx, about)
        wanted = self._preferences.of(home, tx)
        plan = self._preferences.plan(tx, serving.name, live, library=home)
        places: list[Place] = []
        for name in plan.order:
            if name == serving.name:
                places.append((serving, state.index, "serving"))
            else:
                path: Path_ = "preferred" if wanted is not None and name == wanted.generation else "fallback"
                places.append((self._generations[name], state.indices[name], path))
        return places, plan.checked

    def _twice(
        self, tx: Transaction, places: Sequence[Place], rows: Sequence[SpeakerRow | ProfileRow], *, checked: bool
    ) -> _Asked:
        """The queries of stored voices, and with `checked` those that go to the first place in the second one too."""
        queries = self._stored(tx, places, rows)
        if not checked:
            return _Asked(queries)
        numbers = [n for n, query in enumerate(queries) if query.index == places[0][1]]
        found, _ = self._found(tx, places[1:2], [rows[n] for n in numbers])
        return _Asked(queries, {n: found[rows[n].id] for n in numbers if rows[n].id in found})

    def _stored(
        self, tx: Transaction, places: Sequence[Place], rows: Sequence[SpeakerRow | ProfileRow]
    ) -> list[_Query]:
        found, reasons = self._found(tx, places, rows)
        for row in rows:
            if row.id not in found:
                raise _not_embedded(row, reasons.get(row.id))
        return [found[row.id] for row in rows]

    def _found(
        self, tx: Transaction, places: Sequence[Place], rows: Sequence[SpeakerRow | ProfileRow]
    ) -> tuple[dict[str, _Query], dict[str, str]]:
        """The query of each voice in the first place that has it, and why voices cannot be embedded at all; by id."""
        found: dict[str, _Query] = {}
        reasons: dict[str, str] = {}
        for place in places:
            generation = place[0]
            missing = {row.id: row for row in rows if row.id not in found}
            if not missing:
                break
            persons = [row.id for row in missing.values() if isinstance(row, ProfileRow)]
            emptied = people.emptied(tx, generation.name, persons)
            for key, entry in vectors.embeddings_of(tx, generation.name, list(missing)).items():
                row = missing[key]
                if key in emptied:
                    continue  # of voices that were removed, or are somebody else's
                if isinstance(row, SpeakerRow) and entry.content_version != row.content_version:
                    continue  # of other turns or other sound: it may be another person's voice
                if isinstance(entry.result, Unembeddable):
                    reasons.setdefault(key, entry.result.reason)
                    continue
                found[key] = _query(place, row, entry.result)
        return found, reasons

    def _clip(self, place: Place, clip: Path | Waveform) -> _Query:
        generation, index, path = place
        result, checksum = embed_clip(
            clip, self._load, generation, media_roots=self._media_roots, limit_seconds=CLIP_SECONDS
        )
        with self._catalog.read() as tx:
            journal.check_checksum(tx, generation.name, checksum)  # another model's vectors are another space
        text = "waveform" if isinstance(clip, Waveform) else str(clip)
        return _Query(text, generation, index, path, result.vector, result.seconds)

    def _answer(self, queries: Sequence[_Query], scope: Scope) -> list[MatchResult]:
        """Search each index once for all queries that go there, then keep what SQL says lives.

        Where too many hits fall away (the query itself, its recording, voices that are gone), it looks deeper; so it does
        where all are of one person: whether another one is near decides, however few answers are wanted.
        """
        homes = None
        if scope.library is not None:
            with self._catalog.read() as tx:
                homes = (library.library_id(tx, scope.library),)
        where = Filter(kinds=(scope.kind,), library_ids=homes)
        results: dict[int, MatchResult] = {}
        open_queries = list(range(len(queries)))
        depth = scope.k + SPARE_HITS
        while open_queries:
            for index in {queries[n].index for n in open_queries}:
                chosen = [n for n in open_queries if queries[n].index == index]
                matrix = np.stack([queries[n].vector for n in chosen])
                hits = self._index.search(index, matrix, depth, where)
                with self._catalog.read() as tx:
                    known = _alive(tx, queries[chosen[0]].generation, scope.kind, {h.id for each in hits for h in each})
                for number, each in zip(chosen, hits, strict=True):
                    kept = _kept(queries[number], each, known, scope)
                    if _enough(queries[number], kept, scope.k) or len(each) < depth or depth >= DEEPEST:
                        results[number] = _result(queries[number], kept, scope)
            open_queries = [n for n in open_queries if n not in results]
            depth = max(scope.k, min(4 * depth, DEEPEST))
        return [results[n] for n in range(len(queries))]


_Known = Mapping[str, tuple[SpeakerRow | ProfileRow, float]]
_Kept = tuple[Hit, SpeakerRow | ProfileRow, float]


def _alive(tx: Transaction, generation: Generation, kind: Kind, ids: set[str]) -> _Known:
    """The entities that live and have a vector in this generation, with the seconds of speech behind it."""
    if kind is Kind.SPEAKER:
        return library.searchable_speakers(tx, generation.name, ids)
    seconds = vectors.speech_behind(tx, generation.name, list(ids))
    emptied = people.emptied(tx, generation.name, list(seconds))
    return {key: (row, seconds[key]) for key, row in people.by_id(tx, list(seconds)).items() if key not in emptied}


def _speakers(tx: Transaction, given: Sequence[str]) -> list[SpeakerRow]:
    """The speakers of these ids, which may be shortened."""
    rows = library.speakers_by_id(tx, given)
    return [rows[each] if each in rows else find_speaker(tx, each) for each in given]


def _kept(query: _Query, hits: Sequence[Hit], known: _Known, scope: Scope) -> list[_Kept]:
    """The hits that may be answers, best first."""
    kept: list[_Kept] = []
    for hit in hits:
        if hit.id not in known or hit.id in query.itself:
            continue
        row, seconds = known[hit.id]
        own = isinstance(row, SpeakerRow) and row.recording_id == query.recording
        if not own or scope.same_recording:
            kept.append((hit, row, seconds))
    return kept


def _enough(query: _Query, kept: Sequence[_Kept], k: int) -> bool:
    """Whether there are k answers, and another person among the hits, or none who could still be within the margin of one
    that is good enough to accept."""
    if len(kept) < k:
        return False
    point = query.generation.operating_point
    first, *others = map(_candidate, kept)
    if first.score < point.accept or first.score - kept[-1][0].score >= point.margin:
        return True
    return len(kept) >= DECIDING or any(other.person != first.person for other in others)


def _candidate(kept: _Kept) -> Candidate:
    hit, row, seconds = kept
    return Candidate((row.profile_id if isinstance(row, SpeakerRow) else None) or hit.id, hit.score, seconds)


def _result(query: _Query, kept: Sequence[_Kept], scope: Scope) -> MatchResult:
    """The k best of what was kept, and a decision by all of it."""
    generation = query.generation
    decision = decide(
        [_candidate(each) for each in kept],
        generation.operating_point,
        query_seconds=query.seconds,
        confident_seconds=generation.recipe.confident_seconds,
    )
    return MatchResult(
        query=query.text,
        generation=generation.name,
        index=query.index,
        path=query.path,
        decision=decision.verdict,
        reason=decision.reason,
        margin=decision.margin,
        speech_seconds=query.seconds,
        matches=tuple(_match(rank, scope.kind, *each) for rank, each in enumerate(kept[: scope.k], start=1)),
    )


def _match(rank: int, kind: Kind, hit: Hit, row: SpeakerRow | ProfileRow, seconds: float) -> Match:
    if isinstance(row, ProfileRow):
        return Match(rank, kind.value, hit.id, hit.score, row.name, row.id, row.name, None, None, None, seconds)
    return Match(
        rank, kind.value, hit.id, hit.score, row.name, row.profile_id, row.profile_name, row.recording_id, row.path,
        row.label, seconds,
    )  # fmt: skip


def _query(place: Place, row: SpeakerRow | ProfileRow, found: Embedding) -> _Query:
    recording, itself = None, {row.id}
    if isinstance(row, SpeakerRow):
        recording = row.recording_id
        if row.profile_id is not None:
            itself.add(row.profile_id)  # it was pooled from this voice, which must not confirm itself
    generation, index, path = place
    return _Query(row.id, generation, index, path, found.vector, found.seconds, frozenset(itself), recording)


def _bare(place: Place, vector: FloatArray) -> _Query:
    generation, index, path = place
    try:
        with np.errstate(over="ignore"):  # what becomes infinite is refused below
            given = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidInput("A query vector is a list of numbers.") from error
    if given.shape != (generation.dimension,):
        raise InvalidInput(
            f"A vector of generation {generation.name!r} has {generation.dimension} numbers, not {given.size}.",
            hint="Name the generation it was made with by --generation.",
        )
    norm = float(np.linalg.norm(given))
    if not np.isfinite(norm) or norm == 0.0:
        raise InvalidInput("A query vector must be finite and not zero.")
    return _Query("vector", generation, index, path, given / np.float32(norm), None)


def _not_embedded(row: SpeakerRow | ProfileRow, reason: str | None) -> NotEmbedded:
    if reason is not None:
        return NotEmbedded(
            f"{row.id} cannot be searched: {reason}.", hint="It needs more clean speech; see its turns.", reason=reason
        )
    return NotEmbedded(f"{row.id} is not embedded yet, or has changed since it was.")
