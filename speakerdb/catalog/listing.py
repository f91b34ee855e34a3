"""Lists that are read a page at a time: each page begins after a place, which the page before gave.

A place is what the list is ordered by, so that what comes and goes between two pages neither repeats nor hides anything else.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import sqlalchemy as sa

from speakerdb.catalog import diarizations
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.schema import migrations, recordings, speakers, turns
from speakerdb.reports import RecordingView
from speakerdb.reports.recordings import MigrationSummary, RecordingDetails, RecordingTurn
from speakerdb.reports.rediarizing import FoundBy

Place: TypeAlias = tuple[Any, ...]


def after(columns: tuple[sa.ColumnElement[Any], ...], place: Place) -> sa.ColumnElement[bool]:
    """What comes behind a place in the order of these columns."""
    return sa.tuple_(*columns) > sa.tuple_(*[sa.literal(v, c.type) for v, c in zip(place, columns, strict=True)])


RECORDINGS = (recordings.c.created_at, recordings.c.id)
SPEAKERS = (recordings.c.created_at, speakers.c.recording_id, speakers.c.label)


def place_of_recording(tx: Transaction, recording_id: str) -> Place:
    """Where a recording stands in the list of recordings."""
    return tuple(tx.execute(sa.select(*RECORDINGS).where(recordings.c.id == recording_id)).one())


def place_of_speaker(tx: Transaction, speaker_id: str) -> Place:
    """Where a speaker stands in the list of speakers."""
    query = sa.select(*SPEAKERS).join(recordings, recordings.c.id == speakers.c.recording_id)
    return tuple(tx.execute(query.where(speakers.c.id == speaker_id)).one())


def details(tx: Transaction, view: RecordingView) -> RecordingDetails:
    """A recording with what a list leaves out. It exists."""
    query = sa.select(
        recordings.c.recorded_at, recordings.c.created_at, recordings.c.updated_at, recordings.c.media_size
    ).where(recordings.c.id == view.id)
    row = tx.execute(query).one()
    labels = sa.select(speakers.c.label, speakers.c.id).where(speakers.c.recording_id == view.id)
    known = diarizations.find(tx, view.id)
    found_by = None
    if known is not None and known.content_version == view.content_version:
        found_by = FoundBy(known.diarizer, known.made_at, known.options, known.notices)
    return RecordingDetails(
        view.id, view.library, view.path, view.seconds, view.turns, view.speakers, view.content_version,
        row.recorded_at, row.created_at, row.updated_at, row.media_size,
        {each.label: each.id for each in tx.execute(labels.order_by(speakers.c.label))}, found_by,
    )  # fmt: skip


def turns_of(tx: Transaction, recording_id: str, after_ordinal: int, limit: int | None) -> list[RecordingTurn]:
    """The turns of a recording in their order, those behind one of them."""
    query = (
        sa.select(turns.c.ordinal, turns.c.start, turns.c.end, speakers.c.label, turns.c.speaker_id)
        .join(speakers, speakers.c.id == turns.c.speaker_id)
        .where(turns.c.recording_id == recording_id, turns.c.ordinal > after_ordinal)
        .order_by(turns.c.ordinal)
        .limit(limit)
    )
    return [RecordingTurn(*row) for row in tx.execute(query)]


def migrations_before(tx: Transaction, alias: str, before: int | None, limit: int) -> list[MigrationSummary]:
    """Migrations of an alias, the newest first."""
    query = sa.select(migrations).where(migrations.c.alias == alias).order_by(migrations.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(migrations.c.id < before)
    return [
        MigrationSummary(
            row.id, row.source, row.target, row.state, row.paused, row.started_at, row.finalized_at,
            row.rollback_until, row.ended_at,
        )
        for row in tx.execute(query)
    ]  # fmt: skip


def uses_path(tx: Transaction, path: str) -> bool:
    """Whether a recording has this file."""
    return tx.scalar(sa.select(recordings.c.id).where(recordings.c.path == path).limit(1)) is not None
