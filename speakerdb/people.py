"""Names: speakers get names and people. What was named stays named through every migration; a name touches no index."""

from __future__ import annotations

from collections.abc import Sequence

from speakerdb.catalog import journal, library, people, schema, vectors
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.library import SpeakerRow
from speakerdb.catalog.people import ProfileRow
from speakerdb.errors import InvalidInput, NotFound
from speakerdb.reports import ProfileView, SpeakerView
from speakerdb.types import Unembeddable

PART = 5000


class People:
    """Speakers and profiles, as a person names them."""

    def __init__(self, catalog: Catalog, *, who: str) -> None:
        self._catalog = catalog
        self._who = who

    def speakers(
        self,
        *,
        recording: str | None = None,
        profile: str | None = None,
        library_name: str | None = None,
        limit: int | None = None,
    ) -> list[SpeakerView]:
        """Speakers of a recording, a profile, a library, or all."""
        with self._catalog.read() as tx:
            rows = library.list_speakers(
                tx,
                recording=None
                if recording is None
                else library.resolve_id(tx, schema.recordings, recording, "recording"),
                profile=None if profile is None else find_profile(tx, profile).id,
                library=None if library_name is None else library.library_id(tx, library_name),
                limit=limit,
            )
            return _views(tx, rows)

    def speaker(self, given: str) -> SpeakerView:
        """One speaker, by id or the beginning of one."""
        with self._catalog.read() as tx:
            return _view(tx, find_speaker(tx, given).id)

    def rename_speaker(self, given: str, name: str | None) -> SpeakerView:
        """Give a speaker a name, or take it away."""
        with self._catalog.change() as tx:
            row = find_speaker(tx, given)
            library.set_speaker(tx, row.id, name=library.storable(name, "speaker") if name else None)
            journal.record(
                tx, "speaker-renamed", self._who, self._catalog.now(), entity_id=row.id, old=row.name, new=name or None
            )
            return _view(tx, row.id)

    def assign(self, given: str, profile: str | None) -> SpeakerView:
        """Say whose voice a speaker is; None takes it back. Both profiles are pooled again, the document's filter changes."""
        with self._catalog.change() as tx:
            row = find_speaker(tx, given)
            # The recording's lock orders this with an extraction that is being committed.
            library.find_recording(tx, row.recording_id, lock=True)
            wanted = None if profile is None else find_profile(tx, profile)
            if wanted is not None and wanted.library_id != row.library_id:
                raise InvalidInput("The profile belongs to another library than the speaker.")
            new = None if wanted is None else wanted.id
            if new != row.profile_id:
                now = self._catalog.now()
                library.set_speaker(tx, row.id, profile_id=new)
                vectors.raise_versions(tx, [row.id], now)
                people.mark_dirty(tx, [p for p in (row.profile_id, new) if p is not None], now)
                journal.record(tx, "speaker-assigned", self._who, now, entity_id=row.id, old=row.profile_id, new=new)
            return _view(tx, row.id)

    def profiles(self, *, library_name: str | None = None) -> list[ProfileView]:
        """Living profiles by name."""
        with self._catalog.read() as tx:
            chosen = None if library_name is None else library.library_id(tx, library_name)
            return people.listed(tx, library=chosen)

    def create_profile(self, name: str, *, library_name: str = "default") -> ProfileView:
        """A new person."""
        with self._catalog.change() as tx:
            now = self._catalog.now()
            made = people.insert(tx, library.ensure_library(tx, library_name, now), name, now)
            journal.record(tx, "profile-created", self._who, now, entity_id=made, name=name)
            return people.listed(tx, profile=made)[0]

    def rename_profile(self, given: str, name: str) -> ProfileView:
        """Give a person another name."""
        with self._catalog.change() as tx:
            row = find_profile(tx, given)
            people.rename(tx, row, name)
            journal.record(
                tx, "profile-renamed", self._who, self._catalog.now(), entity_id=row.id, old=row.name, new=name
            )
            return people.listed(tx, profile=row.id)[0]

    def merge_profiles(self, source: str, into: str) -> ProfileView:
        """Two profiles are one person: all members of `source` move, and its id forwards to `into` from now on."""
        with self._catalog.change() as tx:
            one, other = find_profile(tx, source), find_profile(tx, into)
            if one.id == other.id:
                raise InvalidInput("A profile cannot be merged into itself.")
            if one.library_id != other.library_id:
                raise InvalidInput("Profiles of different libraries cannot be merged.")
            now = self._catalog.now()
            moved = people.merge(tx, one.id, other.id, now)
            vectors.raise_versions(tx, moved, now)
            vectors.mark_deleted(tx, [one.id], now)
            journal.record(tx, "profiles-merged", self._who, now, entity_id=one.id, into=other.id, speakers=len(moved))
            return people.listed(tx, profile=other.id)[0]


def find_speaker(tx: Transaction, given: str) -> SpeakerRow:
    """A speaker by id or the beginning of one. `NotFound` if there is none."""
    found = library.resolve_id(tx, schema.speakers, given, "speaker")
    return library.speakers_by_id(tx, [found])[found]


def find_profile(tx: Transaction, given: str) -> ProfileRow:
    """A living profile by id or the beginning of one; the id of a merged one leads to where it went."""
    row = people.find(tx, library.resolve_id(tx, schema.profiles, given, "profile"))
    if row is not None and row.merged_into is not None:
        row = people.find(tx, row.merged_into)
    if row is None:
        raise NotFound(f"There is no profile {given!r}.", hint="List them with `speakerdb profiles list`.")
    return row


def _view(tx: Transaction, speaker_id: str) -> SpeakerView:
    return _views(tx, [library.speakers_by_id(tx, [speaker_id])[speaker_id]])[0]


def _views(tx: Transaction, rows: Sequence[SpeakerRow]) -> list[SpeakerView]:
    """A part at a time: a statement holds only so many ids."""
    return [view for start in range(0, len(rows), PART) for view in _part(tx, rows[start : start + PART])]


def _part(tx: Transaction, rows: Sequence[SpeakerRow]) -> list[SpeakerView]:
    states: dict[str, dict[str, str]] = {row.id: {} for row in rows}
    for generation in journal.live_generations(tx):
        known = vectors.embeddings_of(tx, generation, list(states))
        for row in rows:
            entry = known.get(row.id)
            if entry is None:
                state = "waiting"
            elif entry.content_version != row.content_version:
                state = "stale"
            elif isinstance(entry.result, Unembeddable):
                state = entry.result.reason
            else:
                state = "embedded"
            states[row.id][generation] = state
    return [
        SpeakerView(r.id, r.recording_id, r.label, r.name, r.profile_id, r.profile_name, r.speech_seconds, states[r.id])
        for r in rows
    ]
