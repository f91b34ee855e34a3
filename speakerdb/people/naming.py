"""Speakers and profiles, as a person names them. Every change is one transaction with its event, and can be taken back."""

from __future__ import annotations

from speakerdb.catalog import journal, library, listing, people, schema, vectors, voices
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.library import SpeakerRow
from speakerdb.catalog.listing import Place
from speakerdb.catalog.people import ProfileRow, find_profile, find_speaker
from speakerdb.core.texts import MAX_ID_LENGTH, flaw
from speakerdb.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from speakerdb.people import splitting, undoing
from speakerdb.people.splitting import Choice
from speakerdb.reports import ProfileView, SpeakerView
from speakerdb.reports.people import SplitReport, UndoReport
from speakerdb.reports.recordings import Part

MAX_WHY_LENGTH = 2000


class People:
    """Speakers and profiles, as a person names them. `why` is kept in the event of the change."""

    def __init__(self, catalog: Catalog, *, who: str) -> None:
        self._catalog = catalog
        self._who = who

    # Speakers

    def speakers(
        self,
        *,
        recording: str | None = None,
        profile: str | None = None,
        library_name: str | None = None,
        unnamed: bool = False,
        name: str | None = None,
        limit: int | None = None,
    ) -> list[SpeakerView]:
        """Speakers of a recording, a profile, a library, or all.

        `unnamed`: those with neither a name nor a profile. `name`: those whose name or profile's name holds this text.
        """
        with self._catalog.read() as tx:
            ids = list(
                people.speaker_ids(
                    tx,
                    recording=None
                    if recording is None
                    else library.resolve_id(tx, schema.recordings, recording, "recording"),
                    profile=None if profile is None else find_profile(tx, profile).id,
                    library=None if library_name is None else library.library_id(tx, library_name),
                    unnamed=unnamed,
                    name=name,
                    limit=limit,
                )
            )
            rows = library.speakers_by_id(tx, ids)
            return voices.speaker_views(tx, [rows[each] for each in ids])

    def speakers_page(
        self,
        *,
        recording: str | None = None,
        profile: str | None = None,
        library_name: str | None = None,
        unnamed: bool = False,
        name: str | None = None,
        after: Place | None = None,
        limit: int,
    ) -> Part[SpeakerView]:
        """The same a page at a time."""
        with self._catalog.read() as tx:
            behind = None if after is None else listing.after(listing.SPEAKERS, after)
            recording = None if recording is None else library.resolve_id(tx, schema.recordings, recording, "recording")
            ids = list(
                people.speaker_ids(
                    tx, recording=recording, profile=None if profile is None else find_profile(tx, profile).id,
                    library=None if library_name is None else library.library_id(tx, library_name),
                    unnamed=unnamed, name=name, limit=limit + 1, behind=behind,
                )
            )  # fmt: skip
            more, ids = len(ids) > limit, ids[:limit]
            rows = library.speakers_by_id(tx, ids)
            place = listing.place_of_speaker(tx, ids[-1]) if more else None
            return Part(tuple(voices.speaker_views(tx, [rows[each] for each in ids])), place)

    def speaker(self, given: str) -> SpeakerView:
        """One speaker, by id or the beginning of one."""
        with self._catalog.read() as tx:
            return _view(tx, find_speaker(tx, given).id)

    def rename_speaker(self, given: str, name: str | None, *, why: str | None = None) -> SpeakerView:
        """Give a speaker a name, or take it away."""
        why = checked_why(why)
        with self._catalog.change() as tx:
            row = find_speaker(tx, given)
            new = library.storable(name, "speaker") if name else None
            if new != row.name:
                library.set_speaker(tx, row.id, name=new)
                self._record(tx, "speaker-renamed", row.id, why, old=row.name, new=new)
            return _view(tx, row.id)

    def assign(self, given: str, profile: str | None, *, why: str | None = None) -> SpeakerView:
        """Say whose voice a speaker is; None takes it back. Both profiles are pooled again, the document's filter changes."""
        why = checked_why(why)
        with self._catalog.change() as tx:
            row = find_speaker(tx, given)
            self._assign(tx, row, None if profile is None else find_profile(tx, profile), why)
            return _view(tx, row.id)

    def assign_by_name(self, given: str, name: str, *, create: bool = False, why: str | None = None) -> SpeakerView:
        """Say whose voice a speaker is, by the person's name in its library; with `create`, who is not there is made.

        `NotFound` for a name that no profile has; its hint names one that differs in case only.
        """
        why = checked_why(why)
        with self._catalog.change() as tx:
            row = find_speaker(tx, given)
            wanted = people.named(tx, row.library_id, library.storable(name, "profile"))
            if wanted is None:
                alike = people.named_alike(tx, row.library_id, name)
                if not create:
                    raise NotFound(
                        f"There is no profile named {name!r} in the speaker's library.",
                        hint="Give `--create` to make it."
                        if alike is None
                        else f"There is one named {alike!r}. Give that name, or `--create` to make another one.",
                    )
                wanted = self._create(tx, row.library_id, name, why)
            self._assign(tx, row, wanted, why)
            return _view(tx, row.id)

    def split(
        self,
        given: str,
        choice: Choice,
        *,
        label: str | None = None,
        speaker_id: str | None = None,
        why: str | None = None,
        dry_run: bool = False,
    ) -> SplitReport:
        """Turns of a speaker become a new speaker of the same recording, which is extracted again. See `splitting`.

        `InvalidInput` where all turns or none were chosen, a cut lies inside a turn, or the label is taken. With an id of
        the caller's for the new speaker it may be repeated; `AlreadyExists` where the id is another one's.
        """
        why = checked_why(why)
        _check_id(speaker_id, "speaker")
        if dry_run:
            with self._catalog.read() as tx:
                plan = splitting.plan(tx, find_speaker(tx, given), choice, label)
                return plan.report(None, journal.live_generations(tx))
        with self._catalog.change() as tx:
            speaker = find_speaker(tx, given)
            if speaker_id is not None:
                before = splitting.again(tx, speaker, choice, label, speaker_id, journal.live_generations(tx))
                if before is not None:
                    return before
            plan = splitting.plan(tx, speaker, choice, label)
            made, digest, queued = splitting.carry_out(tx, plan, self._catalog.now(), speaker_id)
            self._record(
                tx, "speaker-split", plan.speaker.id, why,
                recording=plan.speaker.recording_id, new=made, label=plan.label, turns=len(plan.moved), digest=digest,
                asked=choice.asked(label),
            )  # fmt: skip
            return plan.report(made, queued)

    # Profiles

    def profiles(self, *, library_name: str | None = None) -> list[ProfileView]:
        """Living profiles by name."""
        with self._catalog.read() as tx:
            chosen = None if library_name is None else library.library_id(tx, library_name)
            return people.listed(tx, library=chosen)

    def profiles_page(
        self, *, library_name: str | None = None, after: Place | None = None, limit: int
    ) -> Part[ProfileView]:
        """The same a page at a time."""
        with self._catalog.read() as tx:
            chosen = None if library_name is None else library.library_id(tx, library_name)
            behind = None if after is None else listing.after(people.BY_NAME, after)
            views = people.listed(tx, library=chosen, behind=behind, limit=limit + 1)
        more, views = len(views) > limit, views[:limit]
        return Part(tuple(views), (views[-1].name, views[-1].id) if more else None)

    def profile(self, given: str) -> ProfileView:
        """One living profile, by id or the beginning of one."""
        with self._catalog.read() as tx:
            return people.listed(tx, profile=find_profile(tx, given).id)[0]

    def create_profile(self, name: str, *, library_name: str = "default", why: str | None = None) -> ProfileView:
        """A new person."""
        return self.make_profile(name, library_name=library_name, why=why)[0]

    def make_profile(
        self, name: str, *, library_name: str = "default", profile_id: str | None = None, why: str | None = None
    ) -> tuple[ProfileView, bool]:
        """A new person, and whether it is new. With an id of the caller's it may be repeated: the same again gives what is
        there; `AlreadyExists` where it has another name or library by now, or was merged."""
        why = checked_why(why)
        _check_id(profile_id, "profile")
        with self._catalog.change() as tx:
            if profile_id is not None and people.find(tx, profile_id) is not None:
                view = people.listed(tx, profile=profile_id)[0]
                if (view.name, view.library, view.merged_into) != (name, library_name, None):
                    raise AlreadyExists(
                        f"The profile {profile_id!r} is there already, and is not the one that was given."
                    )
                return view, False
            home = library.ensure_library(tx, library_name, self._catalog.now())
            return people.listed(tx, profile=self._create(tx, home, name, why, profile_id).id)[0], True

    def rename_profile(self, given: str, name: str, *, why: str | None = None) -> ProfileView:
        """Give a person another name."""
        why = checked_why(why)
        with self._catalog.change() as tx:
            row = find_profile(tx, given)
            if name != row.name:
                people.rename(tx, row, name)
                self._record(tx, "profile-renamed", row.id, why, old=row.name, new=name)
            return people.listed(tx, profile=row.id)[0]

    def merge_profiles(self, source: str, into: str, *, why: str | None = None) -> ProfileView:
        """Two profiles are one person: all members of `source` move, and its id forwards to `into` from now on."""
        why = checked_why(why)
        with self._catalog.change() as tx:
            one, other = find_profile(tx, source), find_profile(tx, into)
            if one.id == other.id:
                raise InvalidInput(
                    f"A profile cannot be merged into itself: both are {one.name!r} ({one.id}).",
                    hint="The id of a merged profile leads to the one it went into.",
                )
            if one.library_id != other.library_id:
                raise InvalidInput("Profiles of different libraries cannot be merged.")
            now = self._catalog.now()
            moved, forwarded = people.merge(tx, one.id, other.id, now)
            vectors.raise_versions(tx, moved, now)
            vectors.mark_deleted(tx, [one.id], now)
            self._record(
                tx, "profiles-merged", one.id, why, name=one.name, into=other.id, speakers=moved, forwarded=forwarded
            )
            return people.listed(tx, profile=other.id)[0]

    def delete_profile(self, given: str, *, why: str | None = None) -> ProfileView:
        """Remove a person that no speaker belongs to and no other profile was merged into; what it was.

        `Conflict` while it is in use.
        """
        why = checked_why(why)
        with self._catalog.change() as tx:
            row = find_profile(tx, given)
            if used := people.in_use(tx, row.id):
                raise Conflict(
                    f"The profile {row.name!r} ({row.id}) {used}, so it stays.",
                    hint="Merge it into another one with `speakerdb profiles merge`, or take its speakers out first.",
                )
            view = people.listed(tx, profile=row.id)[0]
            vectors.mark_deleted(tx, [row.id], self._catalog.now())
            people.delete(tx, row.id)
            self._record(tx, "profile-deleted", row.id, why, name=row.name, library=row.library_id)
            return view

    # Taking back

    def undo(self, event: int | None = None, *, why: str | None = None, dry_run: bool = False) -> UndoReport:
        """Take back the last change of this room that still stands, or the one of an event's id.

        `CannotUndo` where there is none, or where something has changed since that would be lost or could not be restored.
        """
        why = checked_why(why)
        if dry_run:
            with self._catalog.read() as tx:
                found = undoing.choose(tx, event)
                return undoing.report(found, undoing.plan(tx, found), undone=False)
        with self._catalog.change() as tx:
            found = undoing.choose(tx, event)
            inverse = undoing.plan(tx, found)
            inverse.effect(self._catalog.now())
            self._record(tx, "change-undone", found.entity_id, why, event=found.id, undone=found.kind)
            return undoing.report(found, inverse, undone=True)

    # Small parts

    def _assign(self, tx: Transaction, row: SpeakerRow, wanted: ProfileRow | None, why: str | None) -> None:
        if wanted is not None and wanted.library_id != row.library_id:
            raise InvalidInput("The profile belongs to another library than the speaker.")
        new = None if wanted is None else wanted.id
        if new != row.profile_id:
            now = self._catalog.now()
            library.set_speaker(tx, row.id, profile_id=new)
            vectors.raise_versions(tx, [row.id], now)
            people.mark_dirty(tx, [p for p in (row.profile_id, new) if p is not None], now)
            self._record(tx, "speaker-assigned", row.id, why, old=row.profile_id, new=new)

    def _create(
        self, tx: Transaction, home: str, name: str, why: str | None, profile_id: str | None = None
    ) -> ProfileRow:
        now = self._catalog.now()
        made = people.insert(tx, home, name, now, profile_id)
        self._record(tx, "profile-created", made, why, name=name)
        return ProfileRow(made, home, name, None, now)

    def _record(self, tx: Transaction, kind: str, entity: str | None, why: str | None, **data: object) -> None:
        journal.record(tx, kind, self._who, self._catalog.now(), migration_id=None, entity_id=entity, why=why, **data)


def _check_id(given: str | None, what: str) -> None:
    if given is not None and (found := flaw(given, MAX_ID_LENGTH)) is not None:
        raise InvalidInput(
            f"The id of a {what} {found}.", hint=f"Give it one of 1 to {MAX_ID_LENGTH} characters of text."
        )


def checked_why(why: str | None) -> str | None:
    """A reason that can be stored; a blank one is none. `InvalidInput` for one that is too long, or holds what no name does."""
    if why is None or not why.strip():
        return None
    if (found := flaw(why, MAX_WHY_LENGTH)) is not None:
        raise InvalidInput(f"The reason {found}.", hint="Say it in other words.")
    return why


def _view(tx: Transaction, speaker_id: str) -> SpeakerView:
    return voices.speaker_views(tx, [library.speakers_by_id(tx, [speaker_id])[speaker_id]])[0]
