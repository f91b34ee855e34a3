"""Rows of recordings, their turns and speakers."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from speakerdb.catalog.database import Row, Transaction, can_hold, parts
from speakerdb.catalog.schema import (
    embeddings,
    libraries,
    profiles,
    projections,
    recordings,
    speakers,
    turns,
    work_items,
)
from speakerdb.core.texts import MAX_NAME_LENGTH, flaw
from speakerdb.errors import AlreadyExists, InvalidInput, NotFound
from speakerdb.reports import RecordingView
from speakerdb.types import Fingerprint, Kind, Turn


@dataclass(frozen=True, slots=True)
class RecordingRow:
    """A recording as it stands in SQL."""

    id: str
    library_id: str
    path: str | None
    fingerprint: Fingerprint | None
    seconds: float | None
    turns_digest: str
    content_version: int
    recorded_at: int | None = None


@dataclass(frozen=True, slots=True)
class SpeakerRow:
    """A speaker as it stands in SQL, with its profile's name."""

    id: str
    recording_id: str
    library_id: str
    path: str | None
    label: str
    name: str | None
    profile_id: str | None
    profile_name: str | None
    speech_seconds: float
    content_version: int
    """Its recording's; an embedding of another one was made from other turns or other sound."""


def new_id(prefix: str) -> str:
    """A random id with a prefix that tells a person what it names: `rec_`, `spk_`, `prf_`, `lib_`."""
    return f"{prefix}_{uuid.uuid4().hex[:20]}"


def of_another_kind(tx: Transaction, ids: Sequence[str], kind: Kind) -> set[str]:
    """Those of the ids of speakers, or of profiles, that the other kind has, or had until lately: vectors and documents of
    both are known by their ids alone, so one would take the other's."""
    other = profiles if kind is Kind.SPEAKER else speakers
    documents = sa.select(projections.c.entity_id).where(projections.c.kind != kind.value)
    found: set[str] = set()
    for part in parts(list(ids)):
        found.update(tx.scalars(sa.select(other.c.id).where(other.c.id.in_(part))))
        found.update(tx.scalars(documents.where(projections.c.entity_id.in_(part))))
    return found


def refuse_of_another_kind(tx: Transaction, id: str, kind: Kind) -> None:
    """`AlreadyExists` for an id of a speaker that a profile has or had, and the other way round."""
    if of_another_kind(tx, [id], kind):
        other = Kind.PROFILE if kind is Kind.SPEAKER else Kind.SPEAKER
        raise AlreadyExists(f"The id {id!r} is, or was, a {other.value}'s: it cannot be a {kind.value}'s too.")


_MADE = re.compile(r"[a-z]{3}_[0-9a-f]{20}")
_SHORTENED = re.compile(r"[a-z]{3}_[0-9a-f]{1,19}")


def resolve_id(tx: Transaction, table: sa.Table, given: str, what: str) -> str:
    """The id that `given` names: an id, or a beginning that only one id has. `NotFound`, `InvalidInput` when ambiguous.

    Only ids that `new_id` made can be shortened: of a caller's own, "show1" is not short for "show10", and to remove it
    twice must not remove the other.
    """
    if can_hold(given) and tx.scalar(sa.select(table.c.id).where(table.c.id == given)) is not None:
        return given
    found: list[str] = []
    if _SHORTENED.fullmatch(given):
        # A range, because LIKE may not tell "A" from "a".
        query = sa.select(table.c.id).where(table.c.id >= given, table.c.id < given + "~").order_by(table.c.id)
        found = [each for each in tx.scalars(query) if _MADE.fullmatch(each)]
    if not found:
        raise NotFound(f"There is no {what} {given!r}.", hint=f"List them with `speakerdb {what}s list`.")
    if len(found) > 1:
        raise InvalidInput(f"{given!r} begins the ids of several {what}s.", hint="Give more of the id.")
    return found[0]


def library_id(tx: Transaction, name: str) -> str:
    """The id of a library by name. `NotFound` if there is none."""
    found = find_library(tx, name)
    if found is None:
        known = ", ".join(tx.scalars(sa.select(libraries.c.name).order_by(libraries.c.name))) or "none yet"
        raise NotFound(f"There is no library {name!r}.", hint=f"Known libraries: {known}.")
    return found


def storable(name: str, what: str) -> str:
    """The name as it is. `InvalidInput` for one that is empty, too long, or holds what no name does (control characters)."""
    if (found := flaw(name, MAX_NAME_LENGTH)) is not None:
        raise InvalidInput(f"The name of the {what} {found}.", hint="Give it another one.")
    return name


def library_name(tx: Transaction, library_id: str) -> str:
    """The name of a library by id."""
    return str(tx.execute(sa.select(libraries.c.name).where(libraries.c.id == library_id)).scalar_one())


def find_library(tx: Transaction, name: str) -> str | None:
    """The id of a library by name; None where there is none."""
    if not can_hold(name):
        return None
    return tx.scalar(sa.select(libraries.c.id).where(libraries.c.name == name))


def ensure_library(tx: Transaction, name: str, now: int) -> str:
    """The id of a library, made where it does not exist."""
    storable(name, "library")
    if (found := find_library(tx, name)) is not None:
        return found
    made = new_id("lib")
    tx.execute(sa.insert(libraries).values(id=made, name=name, created_at=now))
    return made


_recording = sa.select(recordings).where(recordings.c.id == sa.bindparam("recording_id"))


def find_recording(tx: Transaction, recording_id: str) -> RecordingRow | None:
    """A recording by id."""
    row = tx.execute(_recording, {"recording_id": recording_id}).one_or_none()
    return None if row is None else recording_row(row)


def insert_recording(tx: Transaction, row: RecordingRow, now: int) -> None:
    """A new recording."""
    tx.execute(sa.insert(recordings), [_values(row) | {"created_at": now, "updated_at": now}])


def update_recording(tx: Transaction, row: RecordingRow, now: int) -> None:
    """Write a recording's fields again; `content_version` only ever grows."""
    tx.execute(
        sa.update(recordings)
        .where(recordings.c.id == row.id, recordings.c.content_version <= row.content_version)
        .values(_values(row) | {"updated_at": now})
    )


def delete_recording(tx: Transaction, recording_id: str) -> None:
    """Remove a recording with its turns, speakers and work items (their projections must be marked deleted first)."""
    tx.execute(sa.delete(work_items).where(work_items.c.recording_id == recording_id))
    tx.execute(sa.delete(turns).where(turns.c.recording_id == recording_id))
    tx.execute(sa.delete(speakers).where(speakers.c.recording_id == recording_id))
    tx.execute(sa.delete(recordings).where(recordings.c.id == recording_id))


def speaker_ids(tx: Transaction, recording_id: str) -> dict[str, str]:
    """Speaker ids of a recording by label."""
    rows = tx.execute(sa.select(speakers.c.label, speakers.c.id).where(speakers.c.recording_id == recording_id))
    return {row.label: row.id for row in rows}


_insert_speakers = sa.insert(speakers)
_insert_turns = sa.insert(turns)
_TURNS_A_STATEMENT = 10_000
_update_speech = (
    sa.update(speakers).where(speakers.c.id == sa.bindparam("speaker")).values(speech_seconds=sa.bindparam("seconds"))
)


def write_turns(
    tx: Transaction, recording_id: str, new: Sequence[Turn], now: int, *, known: Mapping[str, str] | None = None
) -> tuple[dict[str, str], list[str]]:
    """Replace a recording's turns. `known` are its speakers by label, where the caller has read them.

    Labels that stay keep their speaker (with its name and profile). Returns speaker ids by label, and
    the ids of speakers whose label is gone: the caller marks their projections deleted, then calls `delete_speakers`.
    """
    if known is None:
        known = speaker_ids(tx, recording_id)
    seconds: dict[str, float] = {}
    for turn in new:
        seconds[turn.speaker] = seconds.get(turn.speaker, 0.0) + (turn.end - turn.start)
    ids = {label: known.get(label) or new_id("spk") for label in seconds}
    if known:
        tx.execute(sa.delete(turns).where(turns.c.recording_id == recording_id))
    added = [
        {"id": ids[k], "recording_id": recording_id, "label": k, "speech_seconds": s, "created_at": now}
        for k, s in seconds.items()
        if k not in known
    ]
    kept = [{"speaker": ids[k], "seconds": s} for k, s in seconds.items() if k in known]
    if added:
        tx.execute(_insert_speakers, added)
    if kept:
        tx.execute(_update_speech, kept)
    for begun in range(0, len(new), _TURNS_A_STATEMENT):
        tx.execute(
            _insert_turns,
            [
                {
                    "recording_id": recording_id,
                    "ordinal": i,
                    "start": t.start,
                    "end": t.end,
                    "speaker_id": ids[t.speaker],
                }
                for i, t in enumerate(new[begun : begun + _TURNS_A_STATEMENT], start=begun)
            ],
        )
    return ids, [speaker for label, speaker in known.items() if label not in ids]


def names_of(tx: Transaction, ids: Sequence[str]) -> list[dict[str, str | None]]:
    """What people had said of these speakers: label, name and profile of those that have any."""
    rows = tx.execute(_speakers_by_id, {"ids": list(ids)}).all()
    said = [{"label": row.label, "name": row.name, "profile": row.profile_id} for row in rows]
    return [each for each in said if each["name"] or each["profile"]]


def delete_speakers(tx: Transaction, ids: Sequence[str]) -> None:
    """Remove speakers (their projections must be marked deleted first)."""
    if ids:
        tx.execute(sa.delete(turns).where(turns.c.speaker_id.in_(ids)))
        tx.execute(sa.delete(speakers).where(speakers.c.id.in_(ids)))


_turns_of = (
    sa.select(turns.c.recording_id, turns.c.start, turns.c.end, turns.c.speaker_id)
    .where(turns.c.recording_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(turns.c.recording_id, turns.c.ordinal)
)
_recordings_of = sa.select(recordings).where(recordings.c.id.in_(sa.bindparam("ids", expanding=True)))


def recordings_of(tx: Transaction, ids: Sequence[str]) -> dict[str, RecordingRow]:
    """Recordings that exist, by id; at most as many as one statement holds."""
    return {row.id: recording_row(row) for row in tx.execute(_recordings_of, {"ids": list(ids)})}


def snapshot(tx: Transaction, ids: Sequence[str]) -> dict[str, tuple[RecordingRow, tuple[Turn, ...]]]:
    """Recordings with their turns, where each turn's speaker is the speaker's id. Absent ids are left out."""
    found = {key: (row, list[Turn]()) for key, row in recordings_of(tx, ids).items()}
    for recording_id, start, end, speaker in tx.execute(_turns_of, {"ids": list(found)}).all():
        found[recording_id][1].append(Turn(start, end, speaker))
    return {key: (row, tuple(listed)) for key, (row, listed) in found.items()}


_speaker_columns: sa.Select[Any] = (
    sa.select(
        speakers.c.id,
        speakers.c.recording_id,
        recordings.c.library_id,
        recordings.c.path,
        speakers.c.label,
        speakers.c.name,
        speakers.c.profile_id,
        profiles.c.name.label("profile_name"),
        speakers.c.speech_seconds,
        recordings.c.content_version,
    )
    .join(recordings, recordings.c.id == speakers.c.recording_id)
    .outerjoin(profiles, profiles.c.id == speakers.c.profile_id)
)
_speakers_by_id = _speaker_columns.where(speakers.c.id.in_(sa.bindparam("ids", expanding=True)))


def speakers_by_id(tx: Transaction, ids: Iterable[str]) -> dict[str, SpeakerRow]:
    """Speakers that exist, by id."""
    return {
        row[0]: SpeakerRow(*row)
        for part in parts(list(ids))
        for row in tx.execute(_speakers_by_id, {"ids": part}).all()
    }


_searchable = (
    _speaker_columns.add_columns(embeddings.c.seconds)
    .join(embeddings, embeddings.c.entity_id == speakers.c.id)
    .where(embeddings.c.generation == sa.bindparam("in_generation"), embeddings.c.reason.is_(None))
    .where(embeddings.c.content_version == recordings.c.content_version)
    .where(speakers.c.id.in_(sa.bindparam("ids", expanding=True)))
)


def searchable_speakers(tx: Transaction, generation: str, ids: Iterable[str]) -> dict[str, tuple[SpeakerRow, float]]:
    """Those of the speakers that exist and have a vector of their recording as it is now in a generation, with the seconds
    of speech it was pooled from."""
    return {
        row[0]: (SpeakerRow(*row[:-1]), row[-1])
        for part in parts(list(ids))
        for row in tx.execute(_searchable, {"in_generation": generation, "ids": part}).all()
    }


def list_recordings(
    tx: Transaction,
    *,
    library: str | None = None,
    limit: int | None = None,
    recording: str | None = None,
    behind: sa.ColumnElement[bool] | None = None,
) -> list[RecordingView]:
    """Recordings with library name and counts of turns and speakers: of a library, only one, or those `behind` a place."""
    turn_count = sa.select(sa.func.count()).where(turns.c.recording_id == recordings.c.id).scalar_subquery()
    speaker_count = sa.select(sa.func.count()).where(speakers.c.recording_id == recordings.c.id).scalar_subquery()
    query = (
        sa.select(
            recordings.c.id,
            libraries.c.name.label("library"),
            recordings.c.path,
            recordings.c.seconds,
            turn_count.label("turns"),
            speaker_count.label("speakers"),
            recordings.c.content_version,
        )
        .join(libraries, libraries.c.id == recordings.c.library_id)
        .order_by(recordings.c.created_at, recordings.c.id)
        .limit(limit)
    )
    if library is not None:
        query = query.where(recordings.c.library_id == library)
    if recording is not None:
        query = query.where(recordings.c.id == recording)
    if behind is not None:
        query = query.where(behind)
    return [RecordingView(**row._mapping) for row in tx.execute(query)]


def counts(tx: Transaction) -> Mapping[str, int]:
    """How many libraries, recordings, speakers and living profiles there are."""
    return {
        "libraries": tx.scalar(sa.select(sa.func.count()).select_from(libraries)) or 0,
        "recordings": tx.scalar(sa.select(sa.func.count()).select_from(recordings)) or 0,
        "speakers": tx.scalar(sa.select(sa.func.count()).select_from(speakers)) or 0,
        "profiles": tx.scalar(sa.select(sa.func.count()).where(profiles.c.merged_into.is_(None))) or 0,
    }


def set_speaker(tx: Transaction, speaker_id: str, **values: object) -> None:
    """Set a speaker's name or profile."""
    tx.execute(sa.update(speakers).where(speakers.c.id == speaker_id).values(**values))


def recording_row(row: Row) -> RecordingRow:
    """A recording from a row of its table."""
    print_ = None if row.media_size is None else Fingerprint(row.media_size, row.media_digest)
    return RecordingRow(
        row.id, row.library_id, row.path, print_, row.seconds, row.turns_digest, row.content_version, row.recorded_at
    )


def _values(row: RecordingRow) -> dict[str, object]:
    return {
        "id": row.id,
        "library_id": row.library_id,
        "path": row.path,
        "media_size": None if row.fingerprint is None else row.fingerprint.size,
        "media_digest": None if row.fingerprint is None else row.fingerprint.digest,
        "seconds": row.seconds,
        "turns_digest": row.turns_digest,
        "content_version": row.content_version,
        "recorded_at": row.recorded_at,
    }


@dataclass(frozen=True, slots=True)
class MediaFile:
    """Where a recording's sound lies and what it looked like."""

    recording_id: str
    path: str | None
    fingerprint: Fingerprint | None


def media_files(tx: Transaction) -> list[MediaFile]:
    """Every recording's media file."""
    query = sa.select(recordings.c.id, recordings.c.path, recordings.c.media_size, recordings.c.media_digest)
    return [
        MediaFile(row.id, row.path, None if row.media_size is None else Fingerprint(row.media_size, row.media_digest))
        for row in tx.execute(query)
    ]
