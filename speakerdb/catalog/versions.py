"""Short texts that stand for what a person can change of a thing: another text, another state.

The text of a recording names its numbers; of speakers and profiles, which have no number of their own, it is a hash.
"""

from __future__ import annotations

import hashlib
import json

import sqlalchemy as sa

from speakerdb.catalog import library, people
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.schema import recordings


def of_recording(tx: Transaction, recording_id: str) -> str:
    """The version of a recording: its turns, its file, when it was made. `NotFound`."""
    found = library.resolve_id(tx, recordings, recording_id, "recording")
    query = sa.select(recordings.c.content_version, recordings.c.updated_at).where(recordings.c.id == found)
    return of_numbers(*tx.execute(query).one())


def of_numbers(content_version: int, updated_at: int) -> str:
    """The version of a recording that was read with its numbers."""
    return f"{content_version}-{updated_at}"


def of_speaker(tx: Transaction, given: str) -> str:
    """The version of a speaker: its name, its profile, its recording's content. `NotFound`."""
    row = people.find_speaker(tx, given)
    return _hashed(row.id, row.name, row.profile_id, row.content_version)


def of_profile(tx: Transaction, given: str) -> str:
    """The version of a profile: its name, its members and their voices. The id of one that was merged leads to where it went,
    as everywhere. `NotFound`."""
    row = people.find_profile(tx, given)
    return _hashed(row.id, row.name, row.members_version)


def _hashed(*values: object) -> str:
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=12).hexdigest()
