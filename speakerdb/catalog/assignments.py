"""Sets of assignments: a recording's turns with their speakers, kept before they are replaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import sqlalchemy as sa

from speakerdb.catalog import diarizations, intake, library
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.diarizations import packed, unpacked
from speakerdb.catalog.schema import assignment_sets
from speakerdb.core.turns import turns_digest
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
    """Who spoke when, and who they were said to be. Turns have speaker ids; `exclusive` is there where a diarizer made it."""

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
    exclusive: tuple[Turn, ...] | None
    diarizer: str | None


def remember(
    tx: Transaction, recording_id: str, replaced_by: ReplacedBy, who: str, now: int, *, why: str | None = None
) -> None:
    """Keep a recording's assignments as they are now. Nothing where it has no turns."""
    ((row, turns),) = library.snapshot(tx, [recording_id]).values()
    if not turns:
        return
    voices = intake.voices(tx, [recording_id])[recording_id]
    label_of = {one.id: label for label, one in voices.items()}
    known = diarizations.find(tx, recording_id)
    current = known is not None and known.content_version == row.content_version
    document = {
        "content_version": row.content_version,
        "turns_digest": turns_digest([replace(turn, speaker=label_of[turn.speaker]) for turn in turns]),
        "speakers": [[one.id, label, one.name, one.profile_id] for label, one in voices.items()],
        "turns": _rows(turns),
        "exclusive": _rows(known.exclusive) if known is not None and current else None,
        "diarizer": known.diarizer if known is not None and current else None,
    }
    values = {
        "recording_id": recording_id, "at": now, "who": who, "why": why, "replaced_by": replaced_by,
        "document": packed(document),
    }  # fmt: skip
    tx.execute(sa.insert(assignment_sets), [values])
    newest = (
        sa.select(assignment_sets.c.id)
        .where(assignment_sets.c.recording_id == recording_id)
        .order_by(assignment_sets.c.id.desc())
        .limit(KEPT)
    )
    kept = list(tx.scalars(newest))
    old = (assignment_sets.c.recording_id == recording_id) & assignment_sets.c.id.not_in(kept)
    tx.execute(sa.delete(assignment_sets).where(old))


def sets_of(tx: Transaction, recording_id: str) -> list[AssignmentSet]:
    """What a recording's assignments were, the newest first."""
    query = sa.select(assignment_sets).where(assignment_sets.c.recording_id == recording_id)
    return [_set_of(row) for row in tx.execute(query.order_by(assignment_sets.c.id.desc()))]


def _set_of(row: sa.Row[tuple[object, ...]]) -> AssignmentSet:
    document = unpacked(row.document)
    exclusive = document["exclusive"]
    return AssignmentSet(
        row.id, row.recording_id, row.at, row.who, row.why, row.replaced_by, document["content_version"],
        document["turns_digest"], tuple(SpeakerThen(*each) for each in document["speakers"]), _turns(document["turns"]),
        None if exclusive is None else _turns(exclusive), document["diarizer"],
    )  # fmt: skip


def _rows(turns: Sequence[Turn]) -> list[list[float | str]]:
    return [[turn.start, turn.end, turn.speaker] for turn in turns]


def _turns(rows: Sequence[Sequence[float | str]]) -> tuple[Turn, ...]:
    return tuple(Turn(float(start), float(end), str(speaker)) for start, end, speaker in rows)
