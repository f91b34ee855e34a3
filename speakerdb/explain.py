"""Where one recording, speaker or profile stands in each generation, why, and what happens next. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from speakerdb import media
from speakerdb.catalog import activity, journal, library, people, schema, trail, vectors
from speakerdb.catalog.activity import ProjectionRow
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction, parts
from speakerdb.catalog.library import RecordingRow
from speakerdb.catalog.vectors import EmbeddingRow
from speakerdb.core import health
from speakerdb.core.commands import command
from speakerdb.core.reconcile import compare
from speakerdb.core.standing import Standing, first_to_do, place_of
from speakerdb.errors import (
    BackendError,
    InvalidInput,
    MediaError,
    MediaForbidden,
    MediaMissing,
    NotFound,
    SpeakerDBError,
)
from speakerdb.extraction.drain import LEASE_NAME as WORK_LEASE
from speakerdb.index.port import VectorIndex
from speakerdb.live import Live
from speakerdb.migrator import Serving
from speakerdb.reports.live import Halt
from speakerdb.reports.seeing import DocumentState, Explanation, FileSeen, LeaseView, Place, Waiting, WorkState
from speakerdb.types import SERVING_ALIAS, Document, Embedding, Generation, Unembeddable

EVENTS = 10
SPEAKERS_SHOWN = 50
PART = 1000
"""Ids a statement, and documents that are held at once."""

Kind = Literal["recording", "speaker", "profile", "removed"]
_TABLES = {"recording": schema.recordings, "speaker": schema.speakers, "profile": schema.profiles}


@dataclass(frozen=True, slots=True)
class _House:
    """What is the same for every place: read once. `faults` are what keeps a generation's model from loading."""

    generations: tuple[tuple[str, bool], ...]
    serving: str | None
    paused: frozenset[str]
    pause_reason: str | None
    fence_until: int | None
    faults: Mapping[str, tuple[str, str]]
    work: LeaseView | None
    halt: Halt | None = None

    @property
    def worked_on(self) -> bool:
        return self.work is not None and self.work.held


class Explain:
    """Answers "what is with this one?"."""

    def __init__(
        self,
        catalog: Catalog,
        index: VectorIndex,
        generations: Mapping[str, Generation],
        serving: Serving,
        live: Live,
        *,
        media_roots: Sequence[Path],
    ) -> None:
        self._live = live
        self._catalog = catalog
        self._index = index
        self._generations = generations
        self._serving = serving
        self._media_roots = media_roots

    def about(self, given: str) -> Explanation:
        """Everything about what `given` names: an id, the beginning of one, or the path of a recording's file.

        `NotFound` where nothing of this library ever had this id; `InvalidInput` where it names more than one thing.
        """
        serving = self._serving_now()
        with self._catalog.read() as tx:
            kind, found = _find(tx, given)
            house = self._house(tx, serving)
            if kind == "recording":
                return self._recording(tx, house, found)
            if kind == "speaker":
                return self._speaker(tx, house, found)
            if kind == "profile":
                return self._profile(tx, house, found)
            return self._removed(tx, house, found)

    # The four things there are

    def _recording(self, tx: Transaction, house: _House, found: str) -> Explanation:
        row = library.find_recording(tx, found)
        assert row is not None
        turns, speakers = activity.recording_counts(tx, found)
        file = self._file(row)
        items = activity.work_of(tx, found)
        labels = {id: label for label, id in library.speaker_ids(tx, found).items()}
        ids = sorted(labels)
        shown: dict[str, dict[str, str]] = {each: {} for each in ids[:SPEAKERS_SHOWN]}
        places = []
        for name, live in house.generations:
            states: Counter[str] = Counter()
            documents: Counter[str] = Counter()
            for part in parts(ids, PART):
                known = vectors.embeddings_of(tx, name, part)
                for each in part:
                    state = _speaker_state(known.get(each), row.content_version)
                    states[state] += 1
                    if each in shown:
                        shown[each][name] = state
                documents.update(_waiting_or(one) for one in self._documents(tx, name, part).values())
            work = items.get(name)
            done = work is not None and work.done_version == row.content_version and work.state == "done"
            reasons = states.keys() - {"embedded", "stale", "waiting"}
            standing = Standing(
                name, live, name == house.serving, found,
                known=bool(states.keys() - {"waiting"}), current=done,
                unembeddable=", ".join(sorted(reasons)) if done and reasons and not states["embedded"] else None,
                work=work, waiting=_why(house, name, work), worked_on=house.worked_on, file=file,
                documents=dict(documents), speakers=dict(states),
            )  # fmt: skip
            places.append(place_of(standing))
        names = library.speakers_by_id(tx, list(shown))
        voices = [
            {"id": each, "label": labels[each], "name": names[each].name, "generations": shown[each]} for each in shown
        ]
        facts = {
            "library": library.library_name(tx, row.library_id), "path": row.path, "seconds": row.seconds,
            "turns": turns, "speakers": speakers, "content_version": row.content_version,
        }  # fmt: skip
        return self._told(tx, "recording", found, facts, places, file=file, speakers=voices)

    def _speaker(self, tx: Transaction, house: _House, found: str) -> Explanation:
        row = library.speakers_by_id(tx, [found])[found]
        recording = library.find_recording(tx, row.recording_id)
        assert recording is not None
        file = self._file(recording)
        items = activity.work_of(tx, row.recording_id)
        places = []
        for name, live in house.generations:
            entry = vectors.embeddings_of(tx, name, [found]).get(found)
            work = items.get(name)
            standing = Standing(
                name, live, name == house.serving, row.recording_id,
                known=entry is not None,
                current=entry is not None and entry.content_version == row.content_version,
                work=work, waiting=_why(house, name, work), worked_on=house.worked_on, file=file,
                document=self._documents(tx, name, [found]).get(found), **_numbers(entry),
            )  # fmt: skip
            places.append(place_of(standing))
        facts = {
            "name": row.name, "label": row.label, "recording": row.recording_id, "path": row.path,
            "profile": row.profile_id, "profile_name": row.profile_name, "speech_seconds": row.speech_seconds,
            "library": library.library_name(tx, row.library_id),
        }  # fmt: skip
        return self._told(tx, "speaker", found, facts, places, file=file, also=[row.recording_id])

    def _profile(self, tx: Transaction, house: _House, found: str) -> Explanation:
        row = people.find(tx, found)
        assert row is not None
        places = []
        for name, live in house.generations:
            entry = vectors.embeddings_of(tx, name, [found]).get(found)
            standing = Standing(
                name, live, name == house.serving, None,
                known=entry is not None,
                current=entry is not None and entry.content_version == row.members_version,
                work=None, waiting=None, worked_on=house.worked_on, file=None,
                document=self._documents(tx, name, [found]).get(found), **_numbers(entry),
            )  # fmt: skip
            places.append(place_of(standing))
        facts = {
            "name": row.name, "library": library.library_name(tx, row.library_id),
            "speakers": activity.member_count(tx, found), "merged_into": row.merged_into,
        }  # fmt: skip
        if row.merged_into is not None:
            then = f"It was merged: its speakers belong to {row.merged_into}, and its id leads there."
            told = self._told(tx, "profile", found, facts, [])
            return replace(told, next=then, command=command("explain", row.merged_into))
        return self._told(tx, "profile", found, facts, places)

    def _removed(self, tx: Transaction, house: _House, found: str) -> Explanation:
        rows = activity.projections_of(tx, [found])
        places = []
        live = dict(house.generations)
        for each in rows:
            document = self._documents(tx, each.generation, [found]).get(found)
            waits = each.version > each.indexed_version and live.get(each.generation, False)
            then = "Its tombstone is to be written to the index." if waits else "Nothing: it is gone."
            places.append(
                Place(
                    each.generation, live.get(each.generation, False), each.generation == house.serving, "absent",
                    "it was removed", then, health.WORK if waits and not house.worked_on else "", document=document,
                )
            )  # fmt: skip
        facts = {"was": rows[0].kind if rows else None}
        events = trail.events_about(tx, [found], EVENTS)
        naming = [one for one in trail.events_naming(tx, found, EVENTS) if one["id"] not in {e["id"] for e in events}]
        told = sorted([*events, *naming], key=lambda one: -int(one["id"]))[:EVENTS]
        then, command = first_to_do(places)
        return Explanation(
            found, "removed", facts, None, tuple(places), (), tuple(told),
            then or "Nothing: it is gone, and this is what is still known.", command,
        )  # fmt: skip

    # Small parts

    def _told(
        self,
        tx: Transaction,
        kind: Literal["recording", "speaker", "profile"],
        found: str,
        facts: Mapping[str, Any],
        places: Sequence[Place],
        *,
        file: FileSeen | None = None,
        speakers: Sequence[Mapping[str, Any]] = (),
        also: Sequence[str] = (),
    ) -> Explanation:
        then, command = first_to_do(places)
        events = trail.events_about(tx, [found, *also], EVENTS)
        return Explanation(found, kind, facts, file, tuple(places), tuple(speakers), tuple(events), then, command)

    def _house(self, tx: Transaction, serving: str | None) -> _House:
        now = self._catalog.now()
        active = journal.active(tx, SERVING_ALIAS)
        leases = {one.name: one for one in activity.lease_views(tx, self._catalog, now)}
        return _House(
            generations=tuple(activity.registered(tx)),
            serving=serving,
            paused=frozenset(journal.paused_targets(tx)),
            pause_reason=None if active is None else active.pause_reason,
            fence_until=activity.fence_until(tx, now),
            faults={
                name: (code, text)
                for name, code, text in activity.faults_in_queue(tx)
                if code in health.MODEL_FAULTS
            },
            work=leases.get(WORK_LEASE),
            halt=self._live.halt(tx=tx),
        )  # fmt: skip

    def _serving_now(self) -> str | None:
        try:
            return self._serving.resolve(fresh=True).generation.name
        except SpeakerDBError:
            return None  # `status` says why

    def _documents(self, tx: Transaction, generation: str, ids: Sequence[str]) -> dict[str, DocumentState]:
        """What SQL says of these documents, and what the index holds of them."""
        rows = {row.entity_id: row for row in activity.projections_of(tx, ids, generation)}
        if not rows:
            return {}
        expected = {document.id: document for document in vectors.expected_by_id(tx, generation, list(rows))}
        held, absent = self._held(generation, list(rows))
        return {key: _document(row, expected[key], held.get(key), absent) for key, row in rows.items()}

    def _held(
        self, generation: str, ids: Sequence[str]
    ) -> tuple[Mapping[str, Document], Literal["no-index", "unknown"] | None]:
        definition = self._generations.get(generation)
        if definition is None:
            return {}, "unknown"
        try:
            name = self._serving.index_of(definition)
            if name not in self._index.indices(()):
                return {}, "no-index"
            return self._index.fetch(name, ids), None
        except BackendError:
            return {}, "unknown"  # `status` says what is wrong with the index

    def _file(self, row: RecordingRow) -> FileSeen:
        """The recording's file as it is now: there, and the same as it was?"""
        if row.path is None:
            return FileSeen(
                None, "in-memory", "it has no file: its sound was given in memory, or it was read from an index"
            )
        try:
            path = media.check_allowed(Path(row.path), self._media_roots)
            same = row.fingerprint is None or media.fingerprint(path) == row.fingerprint
        except MediaMissing as error:
            return FileSeen(row.path, "missing", error.message)
        except MediaForbidden as error:
            return FileSeen(row.path, "forbidden", error.message)
        except MediaError as error:
            return FileSeen(row.path, "unreadable", error.message)
        if not same:
            return FileSeen(row.path, "changed", "size or fingerprint is not what it was")
        return FileSeen(row.path, "there", "the same as when it was added")


def _find(tx: Transaction, given: str) -> tuple[Kind, str]:
    """What an id, the beginning of one, or a path names."""
    missing = NotFound(
        f"Nothing in this library is or was called {given!r}.",
        hint="Give an id (`speakerdb recordings list`, `speakerdb speakers list`, `speakerdb profiles list`), the "
        "beginning of one, or the path of a recording's file.",
    )
    if not given.isprintable():
        raise missing
    for kind, table in _TABLES.items():
        try:
            return kind, library.resolve_id(tx, table, given, kind)  # type: ignore[return-value]
        except NotFound:
            continue
    named = activity.recordings_of_path(tx, str(_resolved(given)))
    if len(named) > 1:
        raise InvalidInput(
            f"{given!r} is the file of several recordings: {', '.join(named[:5])}.", hint="Give one of these ids."
        )
    if named:
        return "recording", named[0]
    gone = {*activity.remembered(tx, given), *trail.entities(tx, given)}
    if len(gone) > 1:
        raise InvalidInput(f"{given!r} begins the ids of several things that are gone.", hint="Give more of the id.")
    if gone:
        return "removed", gone.pop()
    if activity.projections_of(tx, [given]) or trail.events_about(tx, [given], 1):
        return "removed", given
    raise missing


def _resolved(given: str) -> Path:
    try:
        return Path(given).resolve()
    except (OSError, RuntimeError):  # a loop of links
        return Path(given)


def _why(house: _House, generation: str, work: WorkState | None) -> Waiting | None:
    """Why a work item is in the queue; None where it is not."""
    if work is None or work.state != "queued":
        return None
    held_back = int(work.reason == "migration" and generation in house.paused)
    found = health.why_waiting(
        generation, 1, held_back,
        pause_reason=house.pause_reason, fence_until=house.fence_until, model_fault=house.faults.get(generation),
        work=house.work, halt=house.halt,
    )  # fmt: skip
    return next(found, None)


def _speaker_state(entry: EmbeddingRow | None, content_version: int) -> str:
    """In the words of `speakers list`."""
    if entry is None:
        return "waiting"
    if entry.content_version != content_version:
        return "stale"
    return entry.result.reason if isinstance(entry.result, Unembeddable) else "embedded"


def _numbers(entry: EmbeddingRow | None) -> dict[str, Any]:
    if entry is None:
        return {"unembeddable": None}
    if not isinstance(entry.result, Embedding):
        return {"unembeddable": entry.result.reason, "seconds": entry.result.seconds}
    found = entry.result
    return {
        "unembeddable": None, "seconds": found.seconds, "segments": found.segments, "agreement": found.agreement,
    }  # fmt: skip


def _document(
    row: ProjectionRow, want: Document, have: Document | None, absent: Literal["no-index", "unknown"] | None
) -> DocumentState:
    state: Any
    if absent is not None:
        state = absent
    elif have is None:
        state = "equal" if want.deleted else "missing"
    else:
        difference = compare(want, have)
        state = "equal" if difference is None else difference.value
    return DocumentState(
        row.version, row.indexed_version, row.deleted, row.rejection, state, None if have is None else have.version
    )


def _waiting_or(document: DocumentState) -> str:
    """The state of one of many documents, where one that was refused or waits is told from one that is wrong."""
    if document.rejection is not None:
        return "rejected"
    return "waiting" if document.version > document.indexed_version else document.state
