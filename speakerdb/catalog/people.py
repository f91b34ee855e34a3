"""Rows of profiles: one person across recordings.

Every change of a profile's members raises `members_version` in the same transaction; an embedding of the profile that was
pooled from an older one is dirty, and the projector pools it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from speakerdb.catalog.database import Transaction
from speakerdb.catalog.library import new_id, storable
from speakerdb.catalog.schema import embeddings, libraries, profiles, speakers
from speakerdb.errors import InvalidInput
from speakerdb.reports import ProfileView


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """A profile as it stands in SQL."""

    id: str
    library_id: str
    name: str
    merged_into: str | None
    members_version: int


_columns = (profiles.c.id, profiles.c.library_id, profiles.c.name, profiles.c.merged_into, profiles.c.members_version)


def find(tx: Transaction, profile_id: str, *, lock: bool = False) -> ProfileRow | None:
    """A profile by id, merged ones too."""
    query = sa.select(*_columns).where(profiles.c.id == profile_id)
    row = tx.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else ProfileRow(*row)


def by_id(tx: Transaction, ids: Sequence[str]) -> dict[str, ProfileRow]:
    """Living profiles by id."""
    query = sa.select(*_columns).where(profiles.c.id.in_(ids), profiles.c.merged_into.is_(None))
    return {row.id: ProfileRow(*row) for row in tx.execute(query)}


def insert(tx: Transaction, library: str, name: str, now: int) -> str:
    """A new profile; its id."""
    made = new_id("prf")
    _free(tx, library, name)
    tx.execute(sa.insert(profiles).values(id=made, library_id=library, name=name, members_version=now, created_at=now))
    return made


def rename(tx: Transaction, row: ProfileRow, name: str) -> None:
    """Give a profile another name. A name touches no index."""
    if name != row.name:
        _free(tx, row.library_id, name)
        tx.execute(sa.update(profiles).where(profiles.c.id == row.id).values(name=name))


def merge(tx: Transaction, source: str, into: str, now: int) -> list[str]:
    """Move all members of one profile to another and leave a forwarding entry; the speakers that moved."""
    moved = list(tx.scalars(sa.select(speakers.c.id).where(speakers.c.profile_id == source)))
    tx.execute(sa.update(speakers).where(speakers.c.profile_id == source).values(profile_id=into))
    tx.execute(sa.update(profiles).where(profiles.c.merged_into == source).values(merged_into=into))
    tx.execute(sa.update(profiles).where(profiles.c.id == source).values(merged_into=into))
    mark_dirty(tx, [into], now)
    return moved


def mark_dirty(tx: Transaction, ids: Sequence[str], now: int) -> None:
    """The members of these profiles, or their embeddings, changed."""
    if ids:
        old = profiles.c.members_version
        raised = sa.case((old + 1 > now, old + 1), else_=sa.literal(now, sa.BigInteger))
        tx.execute(sa.update(profiles).where(profiles.c.id.in_(ids)).values(members_version=raised))


_profiles_of = (
    sa.select(speakers.c.profile_id)
    .where(speakers.c.recording_id.in_(sa.bindparam("ids", expanding=True)), speakers.c.profile_id.is_not(None))
    .distinct()
)


def of_recordings(tx: Transaction, recording_ids: Sequence[str]) -> list[str]:
    """The profiles that have members in these recordings."""
    return [p for p in tx.scalars(_profiles_of, {"ids": list(recording_ids)}) if p is not None]


def dirty(tx: Transaction, generation: str, limit: int | None = None) -> list[str]:
    """Living profiles whose embedding in a generation is missing or was pooled from other members."""
    query = (
        sa.select(profiles.c.id)
        .outerjoin(embeddings, sa.and_(embeddings.c.entity_id == profiles.c.id, embeddings.c.generation == generation))
        .where(profiles.c.merged_into.is_(None))
        .where(sa.or_(embeddings.c.entity_id.is_(None), embeddings.c.content_version != profiles.c.members_version))
        .order_by(profiles.c.id)
        .limit(limit)
    )
    return list(tx.scalars(query))


def listed(tx: Transaction, *, library: str | None = None, profile: str | None = None) -> list[ProfileView]:
    """Living profiles with their member counts, by name; a profile that is asked for by id is shown merged or not."""
    members = sa.select(sa.func.count()).where(speakers.c.profile_id == profiles.c.id).scalar_subquery()
    query = (
        sa.select(profiles.c.id, libraries.c.name, profiles.c.name, members, profiles.c.merged_into)
        .join(libraries, libraries.c.id == profiles.c.library_id)
        .order_by(profiles.c.name, profiles.c.id)
    )
    if profile is not None:
        query = query.where(profiles.c.id == profile)
    else:
        query = query.where(profiles.c.merged_into.is_(None))
    if library is not None:
        query = query.where(profiles.c.library_id == library)
    return [ProfileView(*row) for row in tx.execute(query)]


def _free(tx: Transaction, library: str, name: str) -> None:
    storable(name, "profile")
    taken = sa.select(profiles.c.id).where(
        profiles.c.library_id == library, profiles.c.name == name, profiles.c.merged_into.is_(None)
    )
    if tx.scalar(taken) is not None:
        raise InvalidInput(
            f"There is a profile named {name!r} in this library already.",
            hint="Take another name, or merge the two with `speakerdb profiles merge`.",
        )
