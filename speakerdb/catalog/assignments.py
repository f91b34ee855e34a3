"""Sets of assignments: a recording's turns with their speakers, kept before they are replaced, and brought back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import sqlalchemy as sa

from speakerdb.catalog import asking, diarizations, intake, journal, library, people, splits, vectors, work
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.diarizations import DiarizationRow, packed, unpacked
from speakerdb.catalog.library import RecordingRow
from speakerdb.catalog.schema import assignment_sets
from speakerdb.core.turns import AWAITED, NOBODY, turns_digest
from speakerdb.types import Turn

ReplacedBy = Literal["rediarized", "reverted"]
KEPT = 10
"""Sets of one recording; the oldest goes."""


@dataclass(frozen=True, slots=True)
class SpeakerThen:
    """A speaker as it was."""

    id: str
    label: str
    name: str | None
    profile_id: str | None


@dataclass(frozen=True, slots=True)
class AssignmentSet:
    """Who spoke when, and who they were said to be. Turns have speaker ids; `found` is there where a diarizer found them, and
    has the `content_version` of then."""

    id: int
    recording_id: str
    at: int
    who: str
    why: str | None
    replaced_by: ReplacedBy
    content_version: int
    turns_digest: str
    speakers: tuple[SpeakerThen, ...]
    turns: tuple[Turn, ...]
    sound: str | None
    """The digest of the recording's file."""
    found: DiarizationRow | None


def remember(
    tx: Transaction, recording_id: str, replaced_by: ReplacedBy, who: str, now: int, *, why: str | None = None
) -> int | None:
    """Keep a recording's assignments as they are now; their number. None where nobody knows yet who speaks."""
    ((row, turns),) = library.snapshot(tx, [recording_id]).values()
    voices = intake.voices(tx, [recording_id])[recording_id]
    if row.turns_digest == AWAITED and not turns:
        return None
    label_of = {one.id: label for label, one in voices.items()}
    known = diarizations.find(tx, recording_id)
    current = known is not None and known.content_version == row.content_version
    digest = row.turns_digest
    if turns:
        digest = turns_digest([replace(turn, speaker=label_of[turn.speaker]) for turn in turns])
    document = {
        "content_version": row.content_version,
        "turns_digest": digest,
        "speakers": [[one.id, label, one.name, one.profile_id] for label, one in sorted(voices.items())],
        "turns": _rows(turns),
        "sound": None if row.fingerprint is None else row.fingerprint.digest,
        "found": asdict(known) | {"exclusive": _rows(known.exclusive)} if known is not None and current else None,
    }
    values = {
        "recording_id": recording_id, "at": now, "who": who, "why": why, "replaced_by": replaced_by,
        "document": packed(document),
    }  # fmt: skip
    made = tx.execute(sa.insert(assignment_sets).values(values).returning(assignment_sets.c.id)).scalar_one()
    newest = (
        sa.select(assignment_sets.c.id)
        .where(assignment_sets.c.recording_id == recording_id)
        .order_by(assignment_sets.c.id.desc())
        .limit(KEPT)
    )
    kept = list(tx.scalars(newest))
    old = (assignment_sets.c.recording_id == recording_id) & assignment_sets.c.id.not_in(kept)
    tx.execute(sa.delete(assignment_sets).where(old))
    return int(made)


def sets_of(tx: Transaction, recording_id: str) -> list[AssignmentSet]:
    """What a recording's assignments were, the newest first."""
    query = sa.select(assignment_sets).where(assignment_sets.c.recording_id == recording_id)
    return [_set_of(row) for row in tx.execute(query.order_by(assignment_sets.c.id.desc()))]


def bring_back(
    tx: Transaction, row: RecordingRow, then: AssignmentSet, speakers: Sequence[SpeakerThen], now: int
) -> tuple[str, ...]:
    """Give a recording (as it stands in SQL) the turns of a set, with these speakers; the generations it was queued for.

    `speakers` are those of the set in its order, each with the id, name and profile that it is to have. Whoever else the
    recording has goes. All of it is to be extracted again, and profiles are to be pooled again.
    """
    people.mark_dirty(tx, people.of_recordings(tx, [row.id]), now)
    there = library.speaker_ids(tx, row.id)
    staying = {one.id for one in speakers} & set(there.values())
    gone = [id for id in there.values() if id not in staying]
    vectors.mark_deleted(tx, gone, now)
    library.delete_speakers(tx, gone)
    for id in sorted(staying):  # two may have each other's label: no label is used twice on the way
        library.set_speaker(tx, id, label=library.new_id("was"))
    for one in speakers:
        if one.id not in staying:
            splits.insert_speaker(tx, row.id, one.label, now, one.id)
        library.set_speaker(tx, one.id, label=one.label, name=one.name, profile_id=one.profile_id)
    id_of = {was.id: one.id for was, one in zip(then.speakers, speakers, strict=True)}
    label_of = {was.id: was.label for was in then.speakers}
    turns = [replace(turn, speaker=label_of[turn.speaker]) for turn in then.turns]
    library.write_turns(tx, row.id, turns, now, known={one.label: one.id for one in speakers})
    version = row.content_version + 1
    digest = then.turns_digest if turns else NOBODY
    library.update_recording(tx, replace(row, turns_digest=digest, content_version=version), now)
    if then.found is not None:
        floor = tuple(replace(turn, speaker=id_of[turn.speaker]) for turn in then.found.exclusive)
        diarizations.write(tx, replace(then.found, content_version=version, exclusive=floor))
    people.mark_dirty(tx, people.of_recordings(tx, [row.id]), now)
    # A person has said what the turns are; whatever else was asked for would replace them at once.
    asking.no_more_turns(tx, row.id)
    queued = journal.live_generations(tx) if turns else ()
    work.enqueue(tx, row.id, queued, "changed", now)
    if not turns:
        work.drop_open_of(tx, row.id)
    return queued


def _set_of(row: sa.Row[Any]) -> AssignmentSet:
    document = unpacked(row.document)
    found = document["found"]
    if found is not None:
        listed = {"notices": tuple(found["notices"]), "exclusive": _turns(found["exclusive"])}
        found = DiarizationRow(**found | listed)
    return AssignmentSet(
        row.id, row.recording_id, row.at, row.who, row.why, row.replaced_by, document["content_version"],
        document["turns_digest"], tuple(SpeakerThen(*each) for each in document["speakers"]), _turns(document["turns"]),
        document["sound"], found,
    )  # fmt: skip


def _rows(turns: Sequence[Turn]) -> list[list[float | str]]:
    return [[turn.start, turn.end, turn.speaker] for turn in turns]


def _turns(rows: Sequence[Sequence[float | str]]) -> tuple[Turn, ...]:
    return tuple(Turn(float(start), float(end), str(speaker)) for start, end, speaker in rows)
