"""Splitting a speaker: what a diarizer took for one voice is two. Whole turns move to a new speaker of the same recording.

The new speaker begins without a name and a profile: it is somebody else. All vectors of the recording are stale until it
is extracted again.
"""

from __future__ import annotations

from dataclasses import dataclass

from speakerdb.catalog import library, splits, undo, voices
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.library import SpeakerRow
from speakerdb.core import splitting
from speakerdb.core.turns import AWAITED
from speakerdb.errors import AlreadyExists, InvalidInput, NeedsTurns
from speakerdb.reports.people import SpeakerTurn, SplitReport
from speakerdb.types import Span


@dataclass(frozen=True, slots=True)
class Choice:
    """Which turns: their numbers (``3,5-9``), or all between two positions in seconds (None: the beginning, the end)."""

    turns: str | None = None
    start: float | None = None
    end: float | None = None

    def asked(self, label: str | None) -> list[object]:
        """What was asked for, as it is kept in the event."""
        return [self.turns, self.start, self.end, label]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a split would do."""

    speaker: SpeakerRow
    label: str
    moved: tuple[SpeakerTurn, ...]
    left: tuple[SpeakerTurn, ...]

    def report(self, made: str | None, queued: tuple[str, ...]) -> SplitReport:
        """For a person: `made` is the new speaker, None where there is none yet."""
        return SplitReport(
            source_id=self.speaker.id,
            recording_id=self.speaker.recording_id,
            speaker_id=made,
            label=self.label,
            turns=self.moved,
            seconds=_seconds(self.moved),
            turns_left=len(self.left),
            seconds_left=_seconds(self.left),
            queued=queued,
        )


def plan(tx: Transaction, speaker: SpeakerRow, choice: Choice, label: str | None) -> Plan:
    """Which turns move, and what the new speaker is called. `InvalidInput` for a choice that cannot be carried out."""
    row = library.find_recording(tx, speaker.recording_id)
    if row is not None and row.turns_digest == AWAITED:
        raise NeedsTurns(
            f"The recording {row.id!r} has other sound than its turns are of, and waits for new ones.",
            hint="Run `speakerdb work`, or give it its turns; then split.",
        )
    turns = voices.turns_of(tx, speaker.id)
    ranged = choice.start is not None or choice.end is not None
    if (choice.turns is not None) == ranged:
        raise InvalidInput(
            "Choose turns either by their numbers or by a stretch of time.",
            hint="For example `--turns 3,5-9`, or `--from 60 --to 90`.",
        )
    if choice.turns is not None:
        chosen = splitting.numbered(choice.turns, len(turns))
    else:
        chosen = splitting.between([Span(turn.start, turn.end) for turn in turns], choice.start, choice.end)
    splitting.part_of(chosen, len(turns))
    taken = library.speaker_ids(tx, speaker.recording_id)
    if label is None:
        label = splitting.free_label(speaker.label, taken)
    elif library.storable(label, "speaker") in taken:
        raise InvalidInput(
            f"The recording has a speaker {label!r} already ({taken[label]}).", hint="Give another `--label`, or none."
        )
    numbers = frozenset(chosen)
    return Plan(
        speaker,
        label,
        tuple(turn for turn in turns if turn.number in numbers),
        tuple(turn for turn in turns if turn.number not in numbers),
    )


def carry_out(tx: Transaction, plan: Plan, now: int, speaker_id: str | None = None) -> tuple[str, str, tuple[str, ...]]:
    """The new speaker's id, the digest of the recording's turns, and the generations it was queued for."""
    places = splits.ordinals(tx, plan.speaker.id)
    made = splits.insert_speaker(tx, plan.speaker.recording_id, plan.label, now, speaker_id)
    splits.move_turns(tx, plan.speaker.recording_id, [places[turn.number - 1] for turn in plan.moved], made)
    return made, *splits.turns_changed(tx, plan.speaker.recording_id, now)


def again(
    tx: Transaction, speaker: SpeakerRow, choice: Choice, label: str | None, made: str, queued: tuple[str, ...]
) -> SplitReport | None:
    """What a split answered that made the speaker `made` before, where it was asked the same; None where there is no such
    speaker. `AlreadyExists` where it is another one."""
    row = library.speakers_by_id(tx, [made]).get(made)
    if row is None:
        return None
    asked = undo.split_that_made(tx, speaker.id, made)
    if asked is None or asked != choice.asked(label):
        raise AlreadyExists(f"The speaker {made!r} is there already, and was not made by this split.")
    both = sorted((turn.start, turn.end, whose) for whose in (speaker.id, made) for turn in voices.turns_of(tx, whose))
    numbered = [(SpeakerTurn(n, start, end), whose) for n, (start, end, whose) in enumerate(both, start=1)]
    moved, left = (tuple(turn for turn, whose in numbered if whose == one) for one in (made, speaker.id))
    return Plan(speaker, row.label, moved, left).report(made, queued)


def _seconds(turns: tuple[SpeakerTurn, ...]) -> float:
    return sum(turn.end - turn.start for turn in turns)
