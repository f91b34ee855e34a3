"""Turns that change their speaker inside one recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa

from speakerdb.catalog import journal, library, people, work
from speakerdb.catalog.database import Transaction, parts
from speakerdb.catalog.schema import speakers, turns
from speakerdb.core.turns import turns_digest
from speakerdb.types import Kind


def ordinals(tx: Transaction, speaker: str) -> list[int]:
    """The places of a speaker's turns among those of its recording, ascending."""
    return list(tx.scalars(sa.select(turns.c.ordinal).where(turns.c.speaker_id == speaker).order_by(turns.c.ordinal)))


def insert_speaker(tx: Transaction, recording: str, label: str, now: int, speaker_id: str | None = None) -> str:
    """A new speaker without turns; its id, which is made up unless given. `AlreadyExists` for one that is a profile's."""
    if speaker_id is not None:
        library.refuse_of_another_kind(tx, speaker_id, Kind.SPEAKER)
    made = speaker_id or library.new_id("spk")
    row = {"id": made, "recording_id": recording, "label": label, "speech_seconds": 0.0, "created_at": now}
    tx.execute(sa.insert(speakers), [row])
    return made


def move_turns(tx: Transaction, recording: str, places: Sequence[int], to: str) -> None:
    """Give turns of a recording, by their places, to another of its speakers."""
    for part in parts(places):
        chosen = turns.c.ordinal.in_(part)
        tx.execute(sa.update(turns).where(turns.c.recording_id == recording, chosen).values(speaker_id=to))


def turns_changed(tx: Transaction, recording: str, now: int) -> tuple[str, tuple[str, ...]]:
    """What follows when turns of a recording have other speakers: seconds, digest and content version of the recording,
    dirty profiles, and work for every live generation.

    The new digest, and the generations.
    """
    ((row, listed),) = library.snapshot(tx, [recording]).values()
    labels = {speaker: label for label, speaker in library.speaker_ids(tx, recording).items()}
    seconds = dict.fromkeys(labels, 0.0)
    for turn in listed:
        seconds[turn.speaker] += turn.end - turn.start
    for speaker, length in seconds.items():
        library.set_speaker(tx, speaker, speech_seconds=length)
    digest = turns_digest([replace(turn, speaker=labels[turn.speaker]) for turn in listed])
    library.update_recording(tx, replace(row, turns_digest=digest, content_version=row.content_version + 1), now)
    people.mark_dirty(tx, people.of_recordings(tx, [recording]), now)
    queued = journal.live_generations(tx)
    work.enqueue(tx, recording, queued, "changed", now)
    return digest, queued
