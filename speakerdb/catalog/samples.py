"""What pictures are drawn from and recipes are tried with: streamed and counted here, so that nobody holds more than a
sample of a library."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from speakerdb.catalog.database import Transaction
from speakerdb.catalog.schema import embeddings, recordings, speakers, work_items
from speakerdb.catalog.work import LANE
from speakerdb.reports.recipes import Voice

STREAMED = 10_000
"""Rows that are fetched at once."""


def members_with_vectors(tx: Transaction, generation: str, library: str | None) -> Iterator[tuple[str, str]]:
    """Profile and speaker of every speaker that is in a profile and has a current vector in a generation, by profile, then
    speaker; streamed."""
    query = (
        sa.select(speakers.c.profile_id, speakers.c.id)
        .join(recordings, recordings.c.id == speakers.c.recording_id)
        .join(
            embeddings,
            sa.and_(embeddings.c.entity_id == speakers.c.id, embeddings.c.generation == generation),
        )
        .where(speakers.c.profile_id.is_not(None), embeddings.c.reason.is_(None))
        .where(embeddings.c.content_version == recordings.c.content_version)
        .order_by(speakers.c.profile_id, speakers.c.id)
    )
    if library is not None:
        query = query.where(recordings.c.library_id == library)
    for row in tx.execute(query.execution_options(yield_per=STREAMED)):
        yield row[0], row[1]


def outcomes_over_time(
    tx: Transaction, library: str | None, steps: int
) -> tuple[int, int, dict[tuple[str, str], list[tuple[int, int]]]]:
    """When recordings were last done, or failed, by generation and state (``done`` or ``failed``), in `steps` equal steps.

    The first and the last instant, and for each generation and state (step, how many) in ascending order. (0, 0, {})
    where nothing was done and nothing failed.
    """
    where: list[sa.ColumnElement[bool]] = [work_items.c.state.in_(("done", "failed"))]
    if library is not None:
        where.append(recordings.c.library_id == library)
    span = sa.select(sa.func.min(work_items.c.updated_at), sa.func.max(work_items.c.updated_at)).where(*where)
    step = (work_items.c.updated_at - sa.bindparam("begin")) // sa.bindparam("length")
    query = sa.select(LANE.label("lane"), work_items.c.state, step.label("step"), sa.func.count()).where(*where)
    if library is not None:
        joined = work_items.join(recordings, recordings.c.id == work_items.c.recording_id)
        span, query = span.select_from(joined), query.select_from(joined)
    first, last = tx.execute(span).one()
    if first is None:
        return 0, 0, {}
    length = (last - first) // steps + 1
    rows = tx.execute(
        query.group_by(sa.text("lane"), work_items.c.state, sa.text("step")).order_by(sa.text("step")),
        {"begin": first, "length": length},
    )
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for generation, state, number, count in rows:
        found.setdefault((generation, state), []).append((int(number), count))
    return first, last, found


def speech_seconds(tx: Transaction, library: str | None) -> Iterator[float]:
    """Seconds of speech of every speaker; streamed."""
    query = sa.select(speakers.c.speech_seconds)
    if library is not None:
        query = query.join(recordings, recordings.c.id == speakers.c.recording_id)
        query = query.where(recordings.c.library_id == library)
    for row in tx.execute(query.execution_options(yield_per=STREAMED)):
        yield row[0]


def voices_with_files(tx: Transaction, library: str | None, least_seconds: float) -> Iterator[Voice]:
    """Speakers with at least so much speech in recordings that have a file, profile by profile (those without one together),
    then by id; streamed."""
    query = (
        sa.select(speakers.c.id, speakers.c.recording_id, recordings.c.library_id, speakers.c.profile_id)
        .join(recordings, recordings.c.id == speakers.c.recording_id)
        .where(recordings.c.path.is_not(None), speakers.c.speech_seconds >= least_seconds)
        .order_by(speakers.c.profile_id, speakers.c.id)
    )
    if library is not None:
        query = query.where(recordings.c.library_id == library)
    for row in tx.execute(query.execution_options(yield_per=STREAMED)):
        yield Voice(*row)
