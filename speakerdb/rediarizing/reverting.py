"""Bringing earlier assignments back: planned before anything is written, and refused where a person must decide.

Turns, speakers and labels come back as they were. A speaker that is there still keeps the name and the profile that it has
now, unless those of then are asked for: a person may have said something since. One that comes back has what was last said of
it. What stands now becomes a set itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from speakerdb.catalog import assignments, intake, library, people
from speakerdb.catalog.adopting import NO_TURNS
from speakerdb.catalog.assignments import AssignmentSet, SpeakerThen
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.intake import Voice
from speakerdb.catalog.library import RecordingRow
from speakerdb.core.commands import command
from speakerdb.core.turns import AWAITED, END_TOLERANCE_SECONDS
from speakerdb.errors import InvalidInput, NamesUnmapped, NeedsTurns, NotFound
from speakerdb.reports.rediarizing import KnownSpeaker, RevertedSpeaker, RevertReport
from speakerdb.types import Kind

Names: TypeAlias = Literal["now", "then"]


@dataclass(frozen=True, slots=True)
class Revert:
    """What a revert will do. `speakers` are those of the set in its order, as they will be; `was_id` has the ids of those that
    had another one."""

    row: RecordingRow
    then: AssignmentSet
    speakers: tuple[SpeakerThen, ...]
    there: frozenset[str]
    """Ids of the speakers that the recording has now."""
    was_id: Mapping[str, str]
    gone: Mapping[str, Voice]
    """Who goes, by label."""
    turns_change: bool
    names_change: bool
    notices: tuple[str, ...]

    @property
    def unmapped(self) -> NamesUnmapped | None:
        """Why it is refused, where nobody accepts that named speakers go."""
        named = {label: one for label, one in self.gone.items() if one.name is not None or one.profile_id is not None}
        if not named:
            return None
        return NamesUnmapped(
            f"The set {self.then.id} of the recording {self.row.id!r} has not got {', '.join(sorted(named))}, who have"
            " names; it stays as it is.",
            hint="Look with `--dry-run`; where they may go, give `--accept-lost`. What stands now is kept as a set, too.",
            speakers=[one.id for one in named.values()],
        )

    def report(
        self, tx: Transaction, *, done: bool, kept_as: int | None = None, queued: Sequence[str] = ()
    ) -> RevertReport:
        """For a person."""
        used = [*(one.profile_id for one in self.speakers), *(one.profile_id for one in self.gone.values())]
        profiles = people.by_id(tx, [each for each in used if each is not None])

        def known(id: str, label: str, name: str | None, profile: str | None) -> KnownSpeaker:
            row = None if profile is None else profiles.get(profile)
            return KnownSpeaker(id, label, name, profile, None if row is None else row.name)

        return RevertReport(
            recording_id=self.row.id,
            number=self.then.id,
            done=done,
            changed=self.turns_change or self.names_change,
            kept_as=kept_as,
            turns=len(self.then.turns),
            speakers=tuple(
                RevertedSpeaker(
                    known(one.id, one.label, one.name, one.profile_id),
                    "there" if one.id in self.there else "gone",
                    self.was_id.get(one.id),
                )
                for one in self.speakers
            ),
            gone=tuple(known(one.id, label, one.name, one.profile_id) for label, one in sorted(self.gone.items())),
            refused=self.unmapped is not None,
            queued=tuple(queued),
            notices=self.notices,
        )


def plan(tx: Transaction, recording_id: str, number: int | None, names: Names) -> Revert:
    """How the set of this number, or the newest, comes back. `NotFound` where there is none; `NeedsTurns`, `InvalidInput` where
    it cannot."""
    ((row, turns),) = library.snapshot(tx, [recording_id]).values()
    sets = assignments.sets_of(tx, recording_id)
    then = _chosen(row, sets, number)
    _refuse_unfitting(row, then)
    voices = intake.voices(tx, [recording_id])[recording_id]
    label_now = {one.id: label for label, one in voices.items()}
    current = {one.id: one for one in voices.values()}
    ids = [one.id for one in then.speakers]
    elsewhere = library.of_another_kind(tx, ids, Kind.SPEAKER) | {
        id for id, found in library.speakers_by_id(tx, ids).items() if found.recording_id != recording_id
    }
    notices: list[str] = []
    speakers: list[SpeakerThen] = []
    was_id: dict[str, str] = {}
    for one in then.speakers:
        name, profile = _said(one, current.get(one.id), sets, names)
        followed = None if profile is None else _living(tx, profile)
        if profile is not None and followed is None:
            notices.append(f"{one.label}: its profile {profile} is gone; it comes back without one.")
        elif followed != profile:
            notices.append(f"{one.label}: its profile {profile} was merged into {followed} since.")
        if one.id in current and names == "now" and (name, profile) != (one.name, one.profile_id):
            notices.append(f"{one.label}: keeps the name and the profile that it has now; it had others then.")
        id = one.id
        if id in elsewhere:
            id = library.new_id("spk")
            was_id[id] = one.id
            notices.append(f"{one.label}: its id {one.id} is another's now, so it has a new one.")
        speakers.append(replace(one, id=id, name=name, profile_id=followed))
    if then.sound != (None if row.fingerprint is None else row.fingerprint.digest):
        notices.append("The recording's file is not the one that these turns were made from.")
    back = {one.id for one in speakers}
    gone = {label: one for label, one in voices.items() if one.id not in back}
    as_it_is = [(turn.start, turn.end, turn.speaker) for turn in turns]
    labels = {one.id: one.label for one in speakers}
    turns_change = as_it_is != [(turn.start, turn.end, turn.speaker) for turn in then.turns] or labels != label_now
    names_change = any(
        (one.name, one.profile_id) != (current[one.id].name, current[one.id].profile_id)
        for one in speakers
        if one.id in current
    )
    return Revert(
        row, then, tuple(speakers), frozenset(current), was_id, gone, turns_change, names_change, tuple(notices)
    )


def _chosen(row: RecordingRow, sets: Sequence[AssignmentSet], number: int | None) -> AssignmentSet:
    if not sets:
        raise NotFound(
            f"Nothing of the recording {row.id!r} was replaced, so nothing can come back.",
            hint="A set is kept whenever a recording is diarized again.",
        )
    if number is None:
        return sets[0]
    found = next((one for one in sets if one.id == number), None)
    if found is None:
        raise NotFound(
            f"The recording {row.id!r} has no set {number} of assignments.",
            hint=f"It has: {', '.join(str(one.id) for one in sets)}. See `{command('assignments list', row.id)}`.",
        )
    return found


def _refuse_unfitting(row: RecordingRow, then: AssignmentSet) -> None:
    if row.turns_digest == AWAITED:
        raise NeedsTurns(
            f"The recording {row.id!r} has other sound than before and waits to be diarized.",
            hint="Run `speakerdb work` first.",
        )
    if then.turns_digest == NO_TURNS:
        raise InvalidInput(
            f"In the set {then.id} the recording {row.id!r} had vectors that were read from an index, and no turns: those"
            " vectors are not there any more.",
            hint="Import the index again; `speakerdb assignments list` shows who the speakers were.",
        )
    if row.seconds is not None and any(turn.end > row.seconds + END_TOLERANCE_SECONDS for turn in then.turns):
        raise InvalidInput(
            f"Turns of the set {then.id} lie beyond the end of the recording {row.id!r}, whose file was changed since.",
            hint="Diarize it again: `speakerdb rediarize`.",
        )


def _said(
    one: SpeakerThen, now: Voice | None, sets: Sequence[AssignmentSet], names: Names
) -> tuple[str | None, str | None]:
    """The name and the profile that a speaker will have: of then, or what was last said of it."""
    if names == "then":
        return one.name, one.profile_id
    if now is not None:
        return now.name, now.profile_id
    last = next(each for known in sets for each in known.speakers if each.id == one.id)
    return last.name, last.profile_id


def _living(tx: Transaction, profile: str) -> str | None:
    """The profile, or where it was merged into; None where it is gone."""
    row = people.find(tx, profile)
    if row is None or row.merged_into is None:
        return None if row is None else row.id
    return row.merged_into
