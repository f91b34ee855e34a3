"""How a recording's turns were found by a diarizer, and the turns of which no two overlap."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from speakerdb.catalog import library
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.schema import diarizations
from speakerdb.core.exclusive import exclusive
from speakerdb.types import Turn


@dataclass(frozen=True, slots=True)
class DiarizationRow:
    """What found the turns that a recording had at `content_version`. `exclusive` has speaker ids."""

    recording_id: str
    content_version: int
    diarizer: str
    options: Mapping[str, Any]
    notices: tuple[str, ...]
    exclusive: tuple[Turn, ...]
    made_at: int


def write(tx: Transaction, row: DiarizationRow) -> None:
    """Remember it in the place of the one before."""
    tx.execute(sa.delete(diarizations).where(diarizations.c.recording_id == row.recording_id))
    values = {
        "recording_id": row.recording_id,
        "content_version": row.content_version,
        "diarizer": row.diarizer,
        "options": json.dumps(row.options),
        "notices": json.dumps(row.notices),
        "exclusive": packed([[turn.start, turn.end, turn.speaker] for turn in row.exclusive]),
        "made_at": row.made_at,
    }
    tx.execute(sa.insert(diarizations), [values])


def find(tx: Transaction, recording_id: str) -> DiarizationRow | None:
    """What found the turns of a recording, whether or not they are still its turns; None where it was no diarizer of ours."""
    row = tx.execute(sa.select(diarizations).where(diarizations.c.recording_id == recording_id)).one_or_none()
    if row is None:
        return None
    turns = tuple(Turn(*each) for each in unpacked(row.exclusive))
    return DiarizationRow(
        row.recording_id, row.content_version, row.diarizer, json.loads(row.options), tuple(json.loads(row.notices)),
        turns, row.made_at,
    )  # fmt: skip


def exclusive_turns(tx: Transaction, recording_id: str) -> tuple[Turn, ...]:
    """The turns of a recording of which no two overlap, with speaker ids: the diarizer's where its turns are still the
    recording's, else made from the turns. () where there is no such recording."""
    found = library.snapshot(tx, [recording_id])
    if not found:
        return ()
    row, turns = found[recording_id]
    known = find(tx, recording_id)
    if known is not None and known.content_version == row.content_version:
        return known.exclusive
    return exclusive(turns)


def packed(value: Sequence[Any] | Mapping[str, Any]) -> bytes:
    """Compressed JSON."""
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode())


def unpacked(data: bytes) -> Any:
    """What `packed` made it from."""
    return json.loads(zlib.decompress(data))
