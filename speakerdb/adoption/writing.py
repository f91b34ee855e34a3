"""One part of an import: what each document means for SQL, and writing it, in one transaction.

Everything is read first, for all documents of the part together; then each document is decided on; then all is written. A dry
run ends before that.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from speakerdb.catalog import adopting, intake, journal, library, people, vectors, work
from speakerdb.catalog.adopting import NO_TURNS
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.vectors import EmbeddingRow
from speakerdb.core.field_map import DOCUMENT_ID, MAX_VERSION, OURS, Arrival, FieldMap, Refusal
from speakerdb.types import Embedding, Generation, Kind

EXAMPLES = 5
_COUNTS = ("documents", "imported", "updated", "present", "kept", "recordings", "speakers", "profiles", "normalised",
           "without_seconds", "queued")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """What is the same for all parts of an import."""

    generation: Generation
    recipe: str
    map: FieldMap
    library: str
    """The name of the library of documents that say none."""
    known_only: bool
    assumed_seconds: float
    extract_again: bool
    dry_run: bool
    floor: int
    """No row gets a version that is not above this one."""

    @property
    def ours(self) -> bool:
        """The documents are speakerdb's own: their libraries and profiles are named by our ids."""
        return self.map is OURS


@dataclass(slots=True)
class Tally:
    """What was done with the documents so far, or would be."""

    counts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    would_make: set[int] = field(default_factory=set)
    """Hashes of the recordings and profiles that a dry run has counted: eight bytes each is what it keeps."""

    def refuse(self, refusal: Refusal) -> None:
        """Count a document that cannot be taken."""
        self.refused[refusal.reason] += 1
        shown = self.examples.setdefault(refusal.reason, [])
        if len(shown) < EXAMPLES:
            shown.append(f"{refusal.id} ({refusal.detail})" if refusal.detail else refusal.id)

    def add(self, other: Tally) -> None:
        """Count a part that was committed."""
        self.counts += other.counts
        self.refused += other.refused
        for reason, shown in other.examples.items():
            self.examples[reason] = (self.examples.get(reason, []) + shown)[:EXAMPLES]

    @property
    def changes(self) -> int:
        """Documents that SQL does not have as they are."""
        return self.counts["imported"] + self.counts["updated"]


@dataclass(slots=True)
class _Taken:
    """A document with the speaker or profile that it is of."""

    arrival: Arrival
    entity: str
    home: str
    content: int
    by_id: bool
    fresh: bool
    profile: str | None = None


class PartImport:
    """Decides and writes one part."""

    def __init__(self, tx: Transaction, plan: Plan, now: int, tally: Tally) -> None:
        """`tally` is of all parts before this one; a dry run reads and grows its `would_make`."""
        self._tx = tx
        self._plan = plan
        self._now = now
        self._would_make = tally.would_make
        self.tally = Tally()
        self._libraries: dict[str, str] = {}
        self._profiles: dict[tuple[str, str], str | None] = {}
        self._new_recordings: dict[str, str] = {}
        self._new_speakers: dict[str, dict[str, object]] = {}
        self._dirty: dict[str, None] = {}

    def run(self, part: Iterable[Arrival | Refusal]) -> Tally:
        """All documents of the part."""
        arrivals = []
        for one in part:
            self.tally.counts["documents"] += 1
            if isinstance(one, Refusal):
                self.tally.refuse(one)
            else:
                arrivals.append(one)
        if arrivals:
            self._now = max(self._now, self._plan.floor + 1, max(one.version for one in arrivals) + 1)
            self._load(arrivals)
            self._finish([taken for one in arrivals if (taken := self._resolve(one)) is not None])
        return self.tally

    # Whose it is

    def _load(self, arrivals: Sequence[Arrival]) -> None:
        tx, ids = self._tx, [one.id for one in arrivals]
        self._removed = adopting.removed(tx, ids)
        self._speakers = library.speakers_by_id(tx, ids)
        self._known_profiles = adopting.profiles_by_id(tx, ids)
        wanted = {one.recording for one in arrivals if one.recording}
        wanted |= {row.recording_id for row in self._speakers.values()}
        self._recordings = adopting.recordings_by_id(tx, sorted(wanted))
        self._gone = adopting.told_removed(tx, sorted(wanted - self._recordings.keys()), "recording-removed")
        self._voices = {
            id: {label: voice.id for label, voice in found.items()}
            for id, found in intake.voices(tx, list(self._recordings)).items()
        }
        self._seen: set[str] = set()

    def _resolve(self, one: Arrival) -> _Taken | None:
        found = self._profile(one) if one.kind is Kind.PROFILE else self._speaker(one)
        if isinstance(found, Refusal):
            self.tally.refuse(found)
            return None
        self._seen.add(found.entity)
        return found

    def _speaker(self, one: Arrival) -> _Taken | Refusal:
        if one.id in self._removed or one.recording in self._gone:
            return Refusal(one.id, "removed")
        if one.id in self._known_profiles:
            return Refusal(one.id, "id-taken", "a profile")
        known = self._speakers.get(one.id)
        if known is not None and known.recording_id != one.recording:
            return Refusal(one.id, "id-taken", f"a speaker of {known.recording_id}")
        home = self._home(one)
        row = self._recordings.get(one.recording)
        if row is None and self._plan.known_only:
            return Refusal(one.id, "unknown-recording", one.recording)
        stands = self._new_recordings.get(one.recording) if row is None else row.library_id
        if home is not None and stands not in (None, home):
            return Refusal(one.id, "other-library", one.recording)
        home = stands or home or self._library(self._plan.library)
        entity, label = one.id, ""
        if known is None:
            label = one.label or one.id
            standing = self._voices.setdefault(one.recording, {}).get(label)
            if one.id in self._new_speakers:
                return Refusal(one.id, "duplicate-id")
            if row is not None and row.turns_digest != NO_TURNS:
                if standing is None:
                    return Refusal(one.id, "unknown-speaker", f"{label} in {one.recording}")
                entity = standing
            elif standing is not None:
                return Refusal(one.id, "label-taken", f"{label} in {one.recording}")
        if entity in self._seen:
            return Refusal(one.id, "duplicate-id")
        profile = self._profile_of(home, one)
        if isinstance(profile, Refusal):
            return profile
        fresh = known is None and entity == one.id and (row is None or row.turns_digest == NO_TURNS)
        if fresh:
            self._make_speaker(one, label, profile)
        if row is None and one.recording not in self._new_recordings:
            self._new_recordings[one.recording] = home
            self._count_made("recordings", one.recording)
        content = 1 if row is None else row.content_version
        return _Taken(one, entity, home, content, by_id=entity == one.id, fresh=fresh, profile=profile)

    def _profile(self, one: Arrival) -> _Taken | Refusal:
        home = self._home(one) or self._library(self._plan.library)
        found = self._profile_of(home, one)
        if isinstance(found, Refusal):
            return found
        if found is None:
            return Refusal(one.id, "removed")
        if found in self._seen:
            return Refusal(one.id, "duplicate-id")
        return _Taken(one, found, home, 0, by_id=True, fresh=False)

    def _make_speaker(self, one: Arrival, label: str, profile: str | None) -> None:
        self._voices[one.recording][label] = one.id
        self._new_speakers[one.id] = {
            "id": one.id, "recording_id": one.recording, "label": label, "name": one.name, "profile_id": profile,
            "speech_seconds": one.seconds or self._plan.assumed_seconds,
        }  # fmt: skip
        self.tally.counts["speakers"] += 1

    def _count_made(self, what: str, key: str) -> None:
        """Something that SQL lacks; a dry run meets it again in later parts."""
        if self._plan.dry_run:
            mark = hash((what, key))
            if mark in self._would_make:
                return
            self._would_make.add(mark)
        self.tally.counts[what] += 1

    def _home(self, one: Arrival) -> str | None:
        """The library that the document names; None where it names none."""
        if one.library is None:
            return None
        if not self._plan.ours:
            return self._library(one.library)
        if one.library not in self._libraries:
            self._libraries[one.library] = one.library
            if not self._plan.dry_run and not adopting.known_libraries(self._tx, [one.library]):
                # Its name went with the catalog; its id is a name that nobody else has.
                adopting.insert_library(self._tx, one.library, one.library, self._now)
        return one.library

    def _library(self, name: str) -> str:
        if name not in self._libraries:
            found = library.find_library(self._tx, name)
            if found is None:
                found = f"new {name}" if self._plan.dry_run else library.ensure_library(self._tx, name, self._now)
            self._libraries[name] = found
        return self._libraries[name]

    def _profile_of(self, home: str, one: Arrival) -> str | Refusal | None:
        """The profile that a document names, made where there is none; None where it names none, or a removed one."""
        if one.profile is None:
            return None
        key = (home, one.profile)
        if key not in self._profiles:
            found = self._find_profile(home, one)
            if isinstance(found, Refusal):
                return found
            self._profiles[key] = found
        return self._profiles[key]

    def _find_profile(self, home: str, one: Arrival) -> str | Refusal | None:
        tx, text = self._tx, one.profile or ""
        id = text if self._plan.ours else made_id("prf", home, text)
        known = adopting.profiles_by_id(tx, [id])
        if known:
            current, stands = known[id]
            return current if stands == home else Refusal(one.id, "other-library", f"the profile {text}")
        if adopting.removed(tx, [id]) or adopting.told_removed(tx, [id], "profile-deleted"):
            return None
        if not self._plan.ours and (row := people.named(tx, home, text)) is not None:
            return row.id
        if library.speakers_by_id(tx, [id]) or id in self._new_speakers:
            return Refusal(one.id, "id-taken", "a speaker")
        self._count_made("profiles", id)
        if not self._plan.dry_run:
            name = one.profile_name or text
            if people.named(tx, home, name) is not None:
                name = f"{name} ({text})"
            adopting.insert_profile(tx, id, home, name, self._now)
            self._dirty[id] = None
        return id

    # What is to be written

    def _finish(self, taken: Sequence[_Taken]) -> None:
        plan, tx, counts = self._plan, self._tx, self.tally.counts
        stored = vectors.embeddings_of(tx, plan.generation.name, [one.entity for one in taken])
        pooled = adopting.with_members(tx, [one.entity for one in taken if one.arrival.kind is Kind.PROFILE])
        filling = self._fillings(taken)
        rows: list[_Taken] = []
        for one in taken:
            outcome = self._outcome(one, stored.get(one.entity), one.entity in pooled)
            if outcome == "present" and one.entity in filling:
                outcome = "updated"
            elif outcome in ("imported", "updated"):
                rows.append(one)
            if outcome == "duplicate":
                self.tally.refuse(Refusal(one.arrival.id, "duplicate-id"))
                continue
            counts[outcome] += 1
        for one in rows:
            counts["normalised"] += not one.arrival.was_unit
            counts["without_seconds"] += one.arrival.seconds is None and one.arrival.kind is Kind.SPEAKER
        if not plan.dry_run:
            self._store(taken, rows, filling)

    def _outcome(self, one: _Taken, row: EmbeddingRow | None, pooled: bool) -> str:
        if pooled:
            return "present"  # a profile that has members is pooled from them
        person = one.arrival.kind is Kind.PROFILE
        if row is None or (person and not isinstance(row.result, Embedding)):
            return "imported"
        if isinstance(row.result, Embedding) and np.array_equal(row.result.vector, one.arrival.vector):
            return "present"
        if row.recipe != self._plan.recipe:
            return "kept"
        if not person and (not one.by_id or self._plan.map.id != DOCUMENT_ID):
            return "duplicate"  # two documents of one speaker would take turns for ever
        return "updated"

    def _fillings(self, taken: Sequence[_Taken]) -> dict[str, dict[str, str]]:
        """Names and profiles of speakers that SQL had already: what is empty is filled, and what came from the index
        follows it; never over a person's word."""
        found: dict[str, dict[str, str]] = {}
        for one in taken:
            known = self._speakers.get(one.entity)
            if known is None or one.arrival.kind is Kind.PROFILE:
                continue
            follows = self._recordings[known.recording_id].turns_digest == NO_TURNS
            wanted = {"name": one.arrival.name, "profile_id": one.profile}
            for key, value in wanted.items():
                stands = getattr(known, key)
                if value is not None and value != stands and (stands is None or follows):
                    found.setdefault(one.entity, {})[key] = value
        said = intake.touched(self._tx, list(found)) if found else set()
        events = {"name": "speaker-renamed", "profile_id": "speaker-assigned"}
        left = {id: {k: v for k, v in each.items() if (id, events[k]) not in said} for id, each in found.items()}
        return {id: each for id, each in left.items() if each}

    def _store(self, taken: Sequence[_Taken], rows: Sequence[_Taken], filling: dict[str, dict[str, str]]) -> None:
        plan, tx, now = self._plan, self._tx, self._now
        name = plan.generation.name
        if self._new_recordings:
            adopting.insert_recordings(tx, self._new_recordings, now)
            others = [each for each in journal.live_generations(tx) if each != name]
            for id in self._new_recordings:
                work.enqueue(tx, id, others, "new", now)
        if self._new_speakers:
            adopting.insert_speakers(tx, list(self._new_speakers.values()), now)
        for id, values in filling.items():
            library.set_speaker(tx, id, **values)
            if "profile_id" in values and (old := self._speakers[id].profile_id) is not None:
                self._dirty[old] = None
        vectors.raise_versions(tx, filling, now)
        written = {one.entity for one in rows}
        self._dirty |= {one.profile: None for one in taken if one.profile is not None and one.entity in written}
        self._dirty |= {values["profile_id"]: None for values in filling.values() if "profile_id" in values}
        people.mark_dirty(tx, list(self._dirty), now)
        members = {
            one.entity: row.members_version
            for one in rows
            if one.arrival.kind is Kind.PROFILE and (row := people.find(tx, one.entity)) is not None
        }
        vectors.write_embeddings(
            tx, name, [self._row(one, members) for one in rows], {one.entity: one.home for one in rows}, now
        )
        self._queue({one.arrival.recording for one in taken if one.arrival.kind is Kind.SPEAKER})

    def _row(self, one: _Taken, members: dict[str, int]) -> EmbeddingRow:
        seconds = one.arrival.seconds or self._plan.assumed_seconds
        # Its segments are not known: as one of them it keeps its weight where it is pooled with others.
        known = Embedding(one.arrival.vector, seconds, 1, 1.0, None)
        content = members.get(one.entity, one.content)
        return EmbeddingRow(one.entity, one.arrival.kind, known, self._plan.recipe, content)

    def _queue(self, recordings: set[str]) -> None:
        """What is whole needs no extraction; or is extracted again, where that was asked for and there are turns."""
        plan, tx = self._plan, self._tx
        whole = adopting.complete(tx, plan.generation.name, sorted(recordings))
        again = [
            id for id in whole
            if plan.extract_again and (row := self._recordings.get(id)) is not None and row.turns_digest != NO_TURNS
        ]  # fmt: skip
        for id in again:
            work.enqueue(tx, id, [plan.generation.name], "repair", self._now)
        self.tally.counts["queued"] += len(again)
        adopting.finish(tx, plan.generation.name, {i: v for i, v in whole.items() if i not in set(again)}, self._now)


def made_id(prefix: str, *texts: str) -> str:
    """An id that looks like ours and is the same whenever it is made of the same texts."""
    return f"{prefix}_{hashlib.blake2b(repr(texts).encode(), digest_size=10).hexdigest()}"


def version_floor(newest: int) -> int:
    """What the versions of new rows must be above; a version that nothing can be above of is left to the refusals."""
    return newest if newest <= MAX_VERSION else 0
