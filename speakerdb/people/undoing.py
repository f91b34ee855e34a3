"""Taking changes of names and people back, the last one first.

An inverse is planned before anything is written: it says what it does, or raises `CannotUndo` with the reason. The rule is
that taking back must restore exactly what the change replaced; where somebody changed the same thing since, a person decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from speakerdb.catalog import library, people, splits, undo, vectors
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.people import ProfileRow
from speakerdb.catalog.undo import Event
from speakerdb.errors import CannotUndo, InvalidInput, NotFound
from speakerdb.reports.people import UndoReport
from speakerdb.types import Kind


@dataclass(frozen=True, slots=True)
class Inverse:
    """What takes an event back: a sentence for a person, and the effect, which takes the time in microseconds."""

    says: str
    effect: Callable[[int], None]


def choose(tx: Transaction, event_id: int | None) -> Event:
    """The event that is to be taken back: the last that stands, or the one of this id."""
    if event_id is None:
        last = undo.last_standing(tx, _INVERSES)
        if last is None:
            raise CannotUndo("There is no change of names or people that could be taken back.")
        return last
    found = undo.find(tx, event_id)
    if found is None:
        raise NotFound(f"There is no event {event_id}.", hint="List them with `speakerdb events`.")
    if found.kind not in _INVERSES:
        raise InvalidInput(
            f"Event {found.id} ({found.kind}) is not a change of names or people.",
            hint=f"What can be taken back: {', '.join(sorted(_INVERSES))}.",
        )
    if by := undo.undone_by(tx, found.id):
        raise CannotUndo(f"Event {found.id} ({found.kind}) was taken back already, by event {by}.")
    return found


def plan(tx: Transaction, event: Event) -> Inverse:
    """How an event is taken back. `CannotUndo` where that would not restore what it replaced."""
    return _INVERSES[event.kind](tx, event)


def report(event: Event, inverse: Inverse, *, undone: bool) -> UndoReport:
    """For a person."""
    return UndoReport(
        undone, event.id, event.kind, event.at, event.who, event.why, event.entity_id, event.data, inverse.says
    )


def _refused(event: Event, reason: str) -> CannotUndo:
    return CannotUndo(
        f"Event {event.id} ({event.kind} of {event.entity_id}) cannot be taken back: {reason}.",
        hint="See `speakerdb events`. An earlier change that nothing stands in the way of can be taken back by its id:"
        " `speakerdb undo --event ID`.",
        event=event.id,
        kind=event.kind,
    )


def _speaker(tx: Transaction, event: Event) -> library.SpeakerRow:
    assert event.entity_id is not None
    found = library.speakers_by_id(tx, [event.entity_id])
    if not found:
        raise _refused(event, "the speaker is gone; its recording was changed or removed")
    (row,) = found.values()
    return row


def _profile(tx: Transaction, event: Event, profile_id: str) -> ProfileRow:
    """A profile that lives."""
    row = people.find(tx, profile_id)
    if row is None:
        raise _refused(event, f"the profile {profile_id} is gone")
    if row.merged_into is not None:
        raise _refused(event, f"the profile {row.name!r} ({row.id}) was merged into {row.merged_into} since")
    return row


def _free(tx: Transaction, event: Event, library_id: str, name: str) -> None:
    other = people.named(tx, library_id, name)
    if other is not None:
        raise _refused(event, f"another profile has the name {name!r} now ({other.id})")


def _speaker_renamed(tx: Transaction, event: Event) -> Inverse:
    row, old, new = _speaker(tx, event), event.data["old"], event.data["new"]
    if row.name != new:
        raise _refused(event, f"the speaker's name is {_quoted(row.name)} now, and was {_quoted(new)} after it")
    return Inverse(
        f"The name of {row.id} becomes {_quoted(old)} again (it is {_quoted(new)}).",
        lambda _: library.set_speaker(tx, row.id, name=old),
    )


def _speaker_assigned(tx: Transaction, event: Event) -> Inverse:
    row, old, new = _speaker(tx, event), event.data["old"], event.data["new"]
    if row.profile_id != new:
        raise _refused(event, f"the speaker is in {row.profile_id or 'no profile'} now; it was moved again")
    back = None if old is None else _profile(tx, event, old)

    def effect(now: int) -> None:
        library.set_speaker(tx, row.id, profile_id=old)
        vectors.raise_versions(tx, [row.id], now)
        people.mark_dirty(tx, [each for each in (old, new) if each is not None], now)

    to = "no profile" if back is None else f"the profile {back.name!r} ({back.id})"
    return Inverse(f"The speaker {row.id} goes back to {to}.", effect)


def _speaker_split(tx: Transaction, event: Event) -> Inverse:
    row = _speaker(tx, event)
    recording = library.find_recording(tx, row.recording_id)
    made = library.speakers_by_id(tx, [event.data["new"]]).get(event.data["new"])
    if recording is None or made is None or recording.turns_digest != event.data["digest"]:
        raise _refused(event, f"the turns of the recording {row.recording_id} were changed since")
    if made.name is not None or made.profile_id is not None:
        raise _refused(event, f"the new speaker {made.id} was named or assigned since")
    places = splits.ordinals(tx, made.id)

    def effect(now: int) -> None:
        splits.move_turns(tx, row.recording_id, places, row.id)
        vectors.mark_deleted(tx, [made.id], now)
        library.delete_speakers(tx, [made.id])
        splits.turns_changed(tx, row.recording_id, now)

    turns = "1 turn" if len(places) == 1 else f"{len(places):,} turns"
    return Inverse(
        f"The speaker {made.label!r} ({made.id}) goes; what it says ({turns}, {made.speech_seconds:.1f} s) "
        f"belongs to {row.label!r} ({row.id}) again.",
        effect,
    )


def _profile_created(tx: Transaction, event: Event) -> Inverse:
    assert event.entity_id is not None
    row = _profile(tx, event, event.entity_id)
    if row.name != event.data["name"]:
        raise _refused(event, f"its name is {row.name!r} now, and was {event.data['name']!r} after it")
    if used := people.in_use(tx, row.id):
        raise _refused(event, f"the profile {row.name!r} {used}")

    def effect(now: int) -> None:
        vectors.mark_deleted(tx, [row.id], now)
        people.delete(tx, row.id)

    return Inverse(f"The profile {row.name!r} ({row.id}) goes; nothing uses it.", effect)


def _profile_deleted(tx: Transaction, event: Event) -> Inverse:
    assert event.entity_id is not None
    profile, home, name = event.entity_id, event.data["library"], event.data["name"]
    if people.find(tx, profile) is not None:
        raise _refused(event, f"another profile was made with the id {profile} since")
    _free(tx, event, home, name)
    if library.of_another_kind(tx, [profile], Kind.PROFILE):
        raise _refused(event, f"a speaker has the id {profile} now")

    def effect(now: int) -> None:
        people.restore(tx, profile, home, name, now)

    return Inverse(f"The profile {name!r} ({profile}) is there again.", effect)


def _profile_renamed(tx: Transaction, event: Event) -> Inverse:
    assert event.entity_id is not None
    row, old, new = _profile(tx, event, event.entity_id), event.data["old"], event.data["new"]
    if row.name != new:
        raise _refused(event, f"its name is {row.name!r} now, and was {new!r} after it")
    _free(tx, event, row.library_id, old)
    return Inverse(
        f"The profile {row.id} is named {old!r} again (it is {new!r}).", lambda _: people.set_name(tx, row.id, old)
    )


def _profiles_merged(tx: Transaction, event: Event) -> Inverse:
    assert event.entity_id is not None
    source, into, moved = event.entity_id, event.data["into"], event.data["speakers"]
    if not isinstance(moved, list):
        raise _refused(event, "an older version of speakerdb recorded it without its speakers")
    row, forwarded = people.find(tx, source), event.data["forwarded"]
    if row is None or row.merged_into != into:
        raise _refused(event, f"the profile {source} does not lead to {into} any more; it was merged again")
    target = _profile(tx, event, into)
    _free(tx, event, row.library_id, row.name)
    now_in = people.members_of(tx, moved)
    if others := [speaker for speaker, profile in now_in.items() if profile != into]:
        raise _refused(
            event, f"{len(others):,} of the {len(moved):,} speakers that moved were moved again, {others[0]} among them"
        )

    def effect(now: int) -> None:
        living = list(now_in)
        people.unmerge(tx, source, into, living, forwarded, now)
        vectors.raise_versions(tx, living, now)

    gone = len(moved) - len(now_in)
    return Inverse(
        f"The profile {row.name!r} ({source}) lives again, with {len(now_in):,} speakers that go back from {target.name!r}"
        f" ({into})" + (f"; {gone:,} that went with their recordings stay gone." if gone else "."),
        effect,
    )


def _quoted(name: str | None) -> str:
    return "nothing" if name is None else repr(name)


_INVERSES: Mapping[str, Callable[[Transaction, Event], Inverse]] = {
    "speaker-renamed": _speaker_renamed,
    "speaker-assigned": _speaker_assigned,
    "speaker-split": _speaker_split,
    "profile-created": _profile_created,
    "profile-deleted": _profile_deleted,
    "profile-renamed": _profile_renamed,
    "profiles-merged": _profiles_merged,
}
