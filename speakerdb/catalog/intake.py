"""What bringing in asks of SQL, for some hundred recordings at once, and what removing deletes besides the rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from speakerdb.catalog import library
from speakerdb.catalog.database import Transaction, parts
from speakerdb.catalog.library import RecordingRow
from speakerdb.catalog.schema import events, profiles, recordings, speakers, work_items
from speakerdb.catalog.work import LANE
from speakerdb.core.turns import DIARIZE, turns_digest
from speakerdb.types import Fingerprint


@dataclass(frozen=True, slots=True)
class Voice:
    """A speaker as bringing in sees it."""

    id: str
    name: str | None
    profile_id: str | None


_ids: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_paths: sa.BindParameter[Any] = sa.bindparam("paths", expanding=True)
_lengths = sa.select(recordings.c.media_size, recordings.c.media_digest, recordings.c.seconds).where(
    sa.or_(recordings.c.id.in_(_ids), recordings.c.path.in_(_paths)), recordings.c.media_size.is_not(None)
)
_known = sa.select(recordings).where(recordings.c.id.in_(_ids))
_at_paths = (
    sa.select(recordings.c.library_id, recordings.c.path, recordings.c.id)
    .where(recordings.c.path.in_(_paths))
    .order_by(recordings.c.created_at.desc(), recordings.c.id.desc())
)
_voices = sa.select(
    speakers.c.recording_id, speakers.c.label, speakers.c.id, speakers.c.name, speakers.c.profile_id
).where(speakers.c.recording_id.in_(_ids))
_stuck = sa.select(work_items.c.recording_id, LANE, work_items.c.state).where(
    work_items.c.recording_id.in_(_ids), work_items.c.state.in_(("failed", "waived"))
)

_asked = sa.select(work_items.c.recording_id, work_items.c.options).where(
    work_items.c.recording_id.in_(_ids), work_items.c.task == DIARIZE
)


def known_lengths(tx: Transaction, ids: Sequence[str], paths: Sequence[str]) -> dict[Fingerprint, float | None]:
    """How long the files are that the recordings of these ids or paths had, by fingerprint."""
    rows = tx.execute(_lengths, {"ids": list(ids), "paths": list(paths)})
    return {Fingerprint(row.media_size, row.media_digest): row.seconds for row in rows}


def known_recordings(tx: Transaction, ids: Sequence[str]) -> dict[str, RecordingRow]:
    """Those of the recordings that exist."""
    return {row.id: library.recording_row(row) for row in tx.execute(_known, {"ids": list(ids)})}


def ids_at(tx: Transaction, paths: Sequence[str]) -> dict[tuple[str, str], str]:
    """The recording of each path that has one, by library and path; the oldest where there are several."""
    return {(row.library_id, row.path): row.id for row in tx.execute(_at_paths, {"paths": list(paths)})}


def voices(tx: Transaction, ids: Sequence[str]) -> dict[str, dict[str, Voice]]:
    """The speakers of recordings, by label."""
    found: dict[str, dict[str, Voice]] = {id: {} for id in ids}
    for recording, label, speaker, name, profile in tx.execute(_voices, {"ids": list(ids)}):
        found[recording][label] = Voice(speaker, name, profile)
    return found


def stuck(tx: Transaction, ids: Sequence[str], *, waived: bool) -> dict[str, list[str]]:
    """The generations that recordings have failed in, by recording; with `waived`, also where that was let pass."""
    found: dict[str, list[str]] = {}
    for recording, generation, state in tx.execute(_stuck, {"ids": list(ids)}):
        if waived or state == "failed":
            found.setdefault(recording, []).append(generation)
    return found


def asked(tx: Transaction, ids: Sequence[str]) -> dict[str, str | None]:
    """What was asked of the diarization of recordings, as JSON, where one was queued, whatever came of it."""
    return {row.recording_id: row.options for row in tx.execute(_asked, {"ids": list(ids)})} if ids else {}


def touched(tx: Transaction, speaker_ids: Sequence[str]) -> set[tuple[str, str]]:
    """Which of the speakers were renamed or assigned before, whatever came of it: (speaker, kind of event)."""
    query = sa.select(events.c.entity_id, events.c.kind).where(
        events.c.entity_id.in_(speaker_ids), events.c.kind.in_(("speaker-renamed", "speaker-assigned"))
    )
    return {(row.entity_id, row.kind) for row in tx.execute(query)}


def forwarded(tx: Transaction, library_id: str, name: str) -> str | None:
    """Where the profile of this name went that was merged last; its own id, which leads there."""
    query = (
        sa.select(profiles.c.merged_into)
        .where(profiles.c.library_id == library_id, profiles.c.name == name, profiles.c.merged_into.is_not(None))
        .order_by(profiles.c.created_at.desc(), profiles.c.id)
        .limit(1)
    )
    return tx.scalar(query)


def digest_before_splits(tx: Transaction, recording_id: str, by_label: Mapping[str, Voice]) -> str | None:
    """The digest of a recording's turns as they were given, before people split speakers; None where nobody did."""
    labels = {voice.id: label for label, voice in by_label.items()}
    query = sa.select(events.c.entity_id, events.c.data).where(
        events.c.entity_id.in_(list(labels)), events.c.kind == "speaker-split"
    )
    # A new speaker's id is made once, so an event tells for ever whose turns it was made of.
    origin = {json.loads(row.data)["new"]: row.entity_id for row in tx.execute(query)}
    if not origin.keys() & labels.keys():
        return None

    def first(speaker: str) -> str:
        while speaker in origin:
            speaker = origin[speaker]
        return labels[speaker]

    ((_, listed),) = library.snapshot(tx, [recording_id]).values()
    return turns_digest([replace(turn, speaker=first(turn.speaker)) for turn in listed])


_WITH_GONE = ("recording-changed", "recording-diarized", "assignments-reverted")
"""Kinds of events that name speakers who are not there any more."""


_ABOUT_RECORDINGS = ("recording-", "transcript-", "media-", "diarization-", "assignments-")
_ABOUT_SPEAKERS = ("speaker-",)


def forget_events(tx: Transaction, recording_id: str) -> None:
    """Delete what was told of a recording and of its speakers, also of those whose label went before: names stand there.

    What belongs to a migration (who waived it, and why) stays, and so does the newest of all, which says that it was removed:
    numbers only grow, and whoever follows the events by number misses none. The speakers still exist.
    """
    newest = tx.scalar(sa.select(sa.func.max(events.c.id))) or 0
    of_recording = sa.select(events.c.data).where(events.c.entity_id == recording_id, events.c.kind.in_(_WITH_GONE))
    gone = [speaker for data in tx.scalars(of_recording) for speaker in json.loads(data).get("gone", ())]
    _forget(tx, [recording_id], _ABOUT_RECORDINGS, newest)
    fresh = [*gone, *library.speaker_ids(tx, recording_id).values()]
    forgotten = set(fresh)
    while fresh:
        made: set[str] = set()  # by splitting one of these: an undo removes a speaker without an event of its own
        for part in parts(fresh):
            split = sa.select(events.c.data).where(events.c.entity_id.in_(part), events.c.kind == "speaker-split")
            made.update(json.loads(data)["new"] for data in tx.scalars(split))
            _forget(tx, part, _ABOUT_SPEAKERS, newest)
        fresh = sorted(made - forgotten)
        forgotten |= made


def _forget(tx: Transaction, ids: Sequence[str], about: tuple[str, ...], newest: int) -> None:
    """By what the kinds begin with, too: a number of another application's may be a recording's, a speaker's and a profile's,
    and a generation may have the same name. Of what was taken back, what it was says what it was about."""
    own = sa.or_(*(events.c.kind.startswith(each, autoescape=True) for each in about))
    told = sa.and_(events.c.entity_id.in_(ids), events.c.migration_id.is_(None), events.c.id < newest)
    undone = sa.select(events.c.id, events.c.data).where(told, events.c.kind == "change-undone")
    numbers = [id for id, data in tx.execute(undone) if json.loads(data)["undone"].startswith(about)]
    tx.execute(sa.delete(events).where(told, own))
    for part in parts(numbers):
        tx.execute(sa.delete(events).where(events.c.id.in_(part)))
