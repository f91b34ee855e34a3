"""Deciding what is new, changed or the same, and writing it: one transaction for some recordings, a savepoint for each.

The id (or the path), the fingerprint and the digest of the turns decide. Everything about a recording is written together:
its turns, its speakers with what is said of them, the work items for every live generation, and the tombstones of voices
that are gone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from speakerdb.catalog import adopting, asking, intake, journal, library, people, vectors, work
from speakerdb.catalog.adopting import NO_TURNS
from speakerdb.catalog.database import Transaction, savepoint
from speakerdb.catalog.intake import Voice
from speakerdb.catalog.library import RecordingRow
from speakerdb.core.commands import command
from speakerdb.core.turns import AWAITED, DIARIZE
from speakerdb.diarizers.asked import Asked
from speakerdb.errors import DuplicateEntry, InvalidInput, NotFound, SpeakerDBError
from speakerdb.ingest.entries import Ready, Refused, Said
from speakerdb.reports import AddOutcome, AddReport

_PROFILE_ID = re.compile(r"prf_[0-9a-f]{20}")
TO_BE_MADE = ""
"""Stands for the id of a library or profile that a dry run would make."""


@dataclass(slots=True)
class Written:
    """What was done with one recording, or would be."""

    report: AddReport
    named: int = 0
    kept: int = 0
    profiles_made: int = 0
    retried: bool = False
    without_speaker: int = 0
    to_diarize: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done with one recording."""

    ready: Ready
    row: RecordingRow
    known: RecordingRow | None
    outcome: AddOutcome
    new_turns: bool

    @property
    def awaited(self) -> bool:
        """Whether a diarizer is to find its turns."""
        return self.ready.digest == AWAITED


class PartWriter:
    """Writes recordings in one transaction, from what it read once for all of them."""

    def __init__(
        self,
        tx: Transaction,
        who: str,
        now: int,
        *,
        single: bool = False,
        dry_run: bool = False,
        would_make: set[tuple[str, str]] | None = None,
    ) -> None:
        """`single`: a person named this one recording: names replace names, and what was waived is tried again.
        `would_make`: profiles that a dry run has counted already, by library and name."""
        self._tx = tx
        self._who = who
        self._now = now
        self._single = single
        self._dry_run = dry_run
        self._would_make = set() if would_make is None else would_make
        self._live = journal.live_generations(tx)
        self._libraries: dict[str, str] = {}
        self._profiles: dict[tuple[str, str], str] = {}
        self._dirty: dict[str, None] = {}
        """Profiles that got a member; they are marked once for all recordings."""
        self._taken: set[str] = set()
        """Recordings that were written."""

    def load(self, part: Sequence[Ready]) -> None:
        """Read what SQL knows of these recordings; the rows are locked."""
        at_paths = intake.ids_at(self._tx, [ready.path for ready in part if ready.path is not None])
        self._at_paths = at_paths
        ids = {ready.given.recording_id for ready in part if ready.given.recording_id is not None}
        ids |= set(at_paths.values())
        self._known = intake.known_recordings(self._tx, list(ids))
        self._voices = intake.voices(self._tx, list(self._known))
        self._stuck = intake.stuck(self._tx, list(self._known), waived=self._single)
        awaiting = [row.id for row in self._known.values() if row.turns_digest == AWAITED]
        self._asked = {id: Asked.from_json(said) for id, said in intake.asked(self._tx, awaiting).items()}

    def write_all(self, part: Sequence[Ready | Refused]) -> list[Written | Refused]:
        """Each recording alone: what is wrong with one is its own. A `BackendError` takes the whole transaction with it."""
        self.load([each for each in part if isinstance(each, Ready)])
        done: list[Written | Refused] = []
        for each in part:
            if isinstance(each, Refused):
                done.append(each)
                continue
            try:
                with nullcontext() if self._dry_run else savepoint(self._tx):
                    plan = self.decide(each)
                    written = self.carry_out(plan)
            except SpeakerDBError as error:
                if error.scope == "run":
                    raise
                self._libraries.clear()  # what was made inside the savepoint is gone
                self._profiles.clear()
                done.append(Refused(each.given.where, each.given.raw, error))
            else:
                self._taken.add(plan.row.id)
                self._now += 1  # so that recordings are listed in the order they came in
                done.append(written)
        self._mark_dirty()
        return done

    def write(self, ready: Ready) -> Written:
        """One recording, in the whole of the transaction. Raises `InvalidInput`, `NotFound`."""
        self.load([ready])
        return self.finish(self.decide(ready))

    def finish(self, plan: Plan) -> Written:
        """Carry the only plan of the transaction out."""
        written = self.carry_out(plan)
        self._mark_dirty()
        return written

    def decide(self, ready: Ready) -> Plan:
        """What is to be done. `InvalidInput` for an id of another library's recording, `DuplicateEntry` for one of this part."""
        given = ready.given
        home = self._library(given.library)
        if given.recording_id in self._taken:
            raise DuplicateEntry(f"An entry before this one is the recording {given.recording_id!r} too.")
        recording_id = given.recording_id or self._at_paths.get((home, ready.path or ""))
        if given.recording_id is None and recording_id in self._taken:
            recording_id = None  # an entry of this part has moved that recording to another file
        known = None if recording_id is None else self._known.get(recording_id)
        if known is not None and known.library_id != home:
            raise InvalidInput(f"The recording {known.id!r} belongs to another library.", hint="Choose another --id.")
        row = RecordingRow(
            recording_id or library.new_id("rec"), home, ready.path, ready.fingerprint, ready.seconds, ready.digest, 1,
            given.recorded_at,
        )  # fmt: skip
        if known is None:
            return Plan(ready, row, None, AddOutcome.ADDED, new_turns=True)
        # Sound given in memory has no fingerprint: it may be any sound, so it counts as changed.
        same_sound = ready.fingerprint is not None and ready.fingerprint == known.fingerprint
        if ready.digest == AWAITED:
            # Its turns and voices stay until a diarizer has listened to the other sound. What an index has told of has no
            # other sound, but the first one that anybody can listen to.
            other = not same_sound and known.turns_digest != NO_TURNS
            digest = AWAITED if other else known.turns_digest
            row = replace(row, turns_digest=digest, recorded_at=row.recorded_at or known.recorded_at)
            grown = known.content_version + other
            outcome = AddOutcome.UNCHANGED if same_sound else AddOutcome.CHANGED
            return Plan(ready, replace(row, content_version=grown), known, outcome, new_turns=False)
        new_turns = ready.digest != known.turns_digest
        if new_turns and ready.digest == intake.digest_before_splits(self._tx, known.id, self._voices[known.id]):
            new_turns = False  # the same turns as before: what people made of them since stays
            row = replace(row, turns_digest=known.turns_digest)
        outcome = AddOutcome.UNCHANGED if same_sound and not new_turns else AddOutcome.CHANGED
        imported = known.turns_digest == NO_TURNS
        if imported:
            self._refuse_lost_voices(known.id, ready)
        # A recording that only an index had told of gets its file and its turns; the vectors read from there are still of it.
        grown = known.content_version + (outcome is AddOutcome.CHANGED and not imported)
        if row.recorded_at is None:
            row = replace(row, recorded_at=known.recorded_at)
        return Plan(ready, replace(row, content_version=grown), known, outcome, new_turns)

    def carry_out(self, plan: Plan) -> Written:
        """Write it, or in a dry run only say what would be written."""
        turns = plan.ready.turns
        before = {} if plan.known is None else self._voices[plan.row.id]
        queued = () if plan.outcome is AddOutcome.UNCHANGED else self._to_queue(plan, before)
        if self._dry_run:
            ids = {turn.speaker: TO_BE_MADE for turn in turns} | {label: one.id for label, one in before.items()}
        else:
            ids = self._store(plan, before)
        awaited = plan.awaited and plan.outcome is not AddOutcome.UNCHANGED
        written = Written(AddReport(plan.row.id, plan.outcome, len(turns), ids, plan.ready.seconds, queued, awaited))
        written.to_diarize = awaited
        written.without_speaker = plan.ready.without_speaker
        self._say(plan, before, written)
        if plan.outcome is AddOutcome.UNCHANGED:
            # Whoever adds it again has mended what was wrong with it.
            for lane in self._stuck.get(plan.row.id, ()):
                if lane == DIARIZE:
                    continue
                written.retried = True
                if not self._dry_run:
                    work.retry(self._tx, self._now, work.Chosen(generation=lane, recordings=[plan.row.id]))
            self._ask_again(plan, written)
        return written

    def asked_otherwise(self, plan: Plan) -> bool:
        """Whether a recording that waits for its turns is to be diarized otherwise than the entry says."""
        stands, wanted = self._asked.get(plan.row.id), plan.ready.given.asked
        return (
            plan.awaited and stands is not None and (stands.hints, stands.channels) != (wanted.hints, wanted.channels)
        )

    def _ask_again(self, plan: Plan, written: Written) -> None:
        """Have a recording whose turns nobody knows yet diarized as the entry says now, where that failed, or was to be done
        otherwise. One that has turns is not diarized again because its file is given again."""
        if plan.row.turns_digest != AWAITED:
            return
        failed = DIARIZE in self._stuck.get(plan.row.id, ())
        stands, wanted = self._asked.get(plan.row.id), plan.ready.given.asked
        # A folder that is brought in again says nothing of numbers that a person gave for one of its files.
        asked = wanted if wanted.as_dict() or (failed and self._single) else stands or wanted
        if failed or (stands is not None and asked.as_dict() != stands.as_dict()):
            written.retried = failed
            written.to_diarize = True
            written.report = replace(written.report, to_diarize=True)
            if not self._dry_run:
                asking.ask_for_turns(self._tx, [plan.row.id], "new", self._now, asked.to_json())

    def _refuse_lost_voices(self, recording: str, ready: Ready) -> None:
        """`InvalidInput` where turns for an imported recording do not name all its voices: they, and what is known of them,
        would be gone."""
        lost = sorted(self._voices[recording].keys() - {turn.speaker for turn in ready.turns})
        if lost:
            raise InvalidInput(
                f"The recording {recording!r} was imported from an index, and its turns do not name its speakers"
                f" {', '.join(lost[:5])}.",
                hint=f"Give turns with these labels, or forget what was imported first: `{command('remove', recording)}`.",
            )

    def _to_queue(self, plan: Plan, before: Mapping[str, Voice]) -> tuple[str, ...]:
        """The live generations that do not know all of the recording's speakers as it will be. None, where nobody knows them."""
        if plan.awaited:
            return ()
        if (
            plan.known is None
            or plan.known.turns_digest != NO_TURNS
            or {t.speaker for t in plan.ready.turns} - before.keys()
        ):
            return self._live
        return tuple(name for name in self._live if not adopting.complete(self._tx, name, [plan.row.id]))

    def _store(self, plan: Plan, before: Mapping[str, Voice]) -> dict[str, str]:
        """Write the recording's row and turns, and queue it; speaker ids by label."""
        tx, now, row, known, turns = self._tx, self._now, plan.row, plan.known, plan.ready.turns
        queued = self._to_queue(plan, before)
        ids = {label: voice.id for label, voice in before.items()}
        gone: list[str] = []
        lost: list[dict[str, str | None]] = []
        if known is None:
            library.insert_recording(tx, row, now)
        elif row != known:
            library.update_recording(tx, row, now)
        if known is not None and plan.outcome is AddOutcome.CHANGED:
            people.mark_dirty(tx, people.of_recordings(tx, [row.id]), now)
        if plan.awaited and plan.outcome is not AddOutcome.UNCHANGED:
            reason: work.Reason = "new" if known is None else "changed"
            work.drop_open_of(tx, row.id)  # with the turns that it has, other sound is not worth extracting
            asking.ask_for_turns(tx, [row.id], reason, now, plan.ready.given.asked.to_json())
        if plan.new_turns and known is not None:
            asking.no_more_turns(tx, row.id)
        if plan.new_turns:
            ids, gone = library.write_turns(tx, row.id, turns, now, known=ids)
            lost = library.names_of(tx, gone) if gone else []
            vectors.mark_deleted(tx, gone, now)
            library.delete_speakers(tx, gone)
        if plan.outcome is AddOutcome.ADDED:
            work.enqueue(tx, row.id, queued, "new", now)
            journal.record(tx, "recording-added", self._who, now, entity_id=row.id, turns=len(turns))
        elif plan.outcome is AddOutcome.CHANGED:
            work.enqueue(tx, row.id, queued, "changed", now)
            journal.record(
                tx, "recording-changed", self._who, now, entity_id=row.id, turns=len(turns), lost=lost, gone=gone
            )
        elif known is not None and row.recorded_at != known.recorded_at:
            journal.record(
                tx, "recording-changed", self._who, now, entity_id=row.id, turns=len(turns), recorded_at=row.recorded_at
            )
        if known is not None and None not in (known.path, row.path) and row.path != known.path:
            journal.record(tx, "recording-relocated", self._who, now, entity_id=row.id, old=known.path, new=row.path)
        return ids

    # Names and profiles

    def _say(self, plan: Plan, before: Mapping[str, Voice], written: Written) -> None:
        """Give the speakers the names and profiles of the entry.

        A person's word stands above an entry's: an entry fills what is empty and was never touched, and replaces nothing.
        """
        said = plan.ready.given.said
        if not said:
            return
        stand = [before[label] for label in said if label in before]
        empty = [voice.id for voice in stand if voice.name is None or voice.profile_id is None]
        touched = intake.touched(self._tx, empty) if empty and not self._single else set[tuple[str, str]]()
        for label, word in said.items():
            voice = before.get(label)
            values: dict[str, str] = {}
            if word.name is not None and self._may(voice, "name", word.name, touched, written):
                values["name"] = library.storable(word.name, "speaker")
            if word.profile is not None:
                profile = self._profile_of(plan.row.library_id, word.profile, voice, touched, written)
                if profile is not None:
                    values["profile_id"] = profile
                    self._dirty[profile] = None
            if not values:
                continue
            written.named += 1
            if not self._dry_run:
                self._set(written.report.speakers[label], voice, values)

    def _may(
        self, voice: Voice | None, field: str, wanted: str, touched: set[tuple[str, str]], written: Written
    ) -> bool:
        """Whether a field of a speaker is to be set."""
        if voice is None:
            return True
        stands = voice.name if field == "name" else voice.profile_id
        if stands == wanted:
            return False
        if self._single:
            return True
        kind = "speaker-renamed" if field == "name" else "speaker-assigned"
        if stands is None and (voice.id, kind) not in touched:
            return True
        written.kept += 1
        return False

    def _profile_of(
        self, home: str, text: str, voice: Voice | None, touched: set[tuple[str, str]], written: Written
    ) -> str | None:
        """The profile that a speaker is to be put into; None where it stays as it is."""
        if (found := self._profiles.get((home, text))) is None:
            found = self._find_profile(home, text)
        if found is None and voice is not None and voice.profile_id is not None and not self._single:
            written.kept += 1
            return None
        if not self._may(voice, "profile", found or TO_BE_MADE, touched, written):
            return None
        if found is None:
            written.profiles_made += (home, text) not in self._would_make
            self._would_make.add((home, text))
            found = TO_BE_MADE if self._dry_run else self._make_profile(home, text)
        self._profiles[home, text] = found
        return found

    def _find_profile(self, home: str, text: str) -> str | None:
        """The living profile of a name in a library, or of an id; None where there is none of the name.

        A name that was merged away leads to where it went. Raises `NotFound`, `InvalidInput`.
        """
        if _PROFILE_ID.fullmatch(text):
            row = people.find(self._tx, text)
            if row is not None and row.merged_into is not None:
                row = people.find(self._tx, row.merged_into)
            if row is None:
                raise NotFound(f"There is no profile {text!r}.", hint="List them with `speakerdb profiles list`.")
            if row.library_id != home:
                raise InvalidInput("The profile belongs to another library than the recording.")
            return row.id
        library.storable(text, "profile")
        row = people.named(self._tx, home, text)
        return row.id if row is not None else intake.forwarded(self._tx, home, text)

    def _make_profile(self, home: str, name: str) -> str:
        made = people.insert(self._tx, home, name, self._now)
        journal.record(self._tx, "profile-created", self._who, self._now, entity_id=made, name=name)
        return made

    def _mark_dirty(self) -> None:
        if not self._dry_run:
            people.mark_dirty(self._tx, list(self._dirty), self._now)

    def _set(self, speaker: str, voice: Voice | None, values: Mapping[str, str]) -> None:
        tx, now = self._tx, self._now
        library.set_speaker(tx, speaker, **values)
        if voice is not None and "name" in values:
            journal.record(
                tx, "speaker-renamed", self._who, now, entity_id=speaker, old=voice.name, new=values["name"]
            )  # fmt: skip
        if "profile_id" in values:
            old = None if voice is None else voice.profile_id
            journal.record(
                tx, "speaker-assigned", self._who, now, entity_id=speaker, old=old, new=values["profile_id"]
            )  # fmt: skip
            if voice is not None:
                vectors.raise_versions(tx, [speaker], now)

    def _library(self, name: str) -> str:
        found = self._libraries.get(name)
        if found is None:
            if self._dry_run:
                found = library.find_library(self._tx, library.storable(name, "library")) or TO_BE_MADE + name
            else:
                found = library.ensure_library(self._tx, name, self._now)
            self._libraries[name] = found
        return found


def all_names(names: Mapping[str, str]) -> dict[str, Said]:
    """Names by label, as what is said of the voices."""
    return {label: Said(name) for label, name in names.items()}
