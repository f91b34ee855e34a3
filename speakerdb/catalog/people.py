"""Rows of profiles: one person across recordings.

Every change of a profile's members raises `members_version` in the same transaction; an embedding of the profile that was
pooled from an older one is dirty, and the projector pools it again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from speakerdb.catalog import library
from speakerdb.catalog.database import Transaction, parts
from speakerdb.catalog.library import SpeakerRow, new_id, storable
from speakerdb.catalog.schema import embeddings, generations, libraries, profiles, recordings, speakers
from speakerdb.core.names import folded
from speakerdb.errors import InvalidInput, NotFound
from speakerdb.reports import ProfileView
from speakerdb.types import Kind

_FETCHED = 5000
"""Rows that are held at once."""


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """A profile as it stands in SQL."""

    id: str
    library_id: str
    name: str
    merged_into: str | None
    members_version: int


_columns = (profiles.c.id, profiles.c.library_id, profiles.c.name, profiles.c.merged_into, profiles.c.members_version)


def find(tx: Transaction, profile_id: str) -> ProfileRow | None:
    """A profile by id, merged ones too."""
    query = sa.select(*_columns).where(profiles.c.id == profile_id)
    row = tx.execute(query).one_or_none()
    return None if row is None else ProfileRow(*row)


def by_id(tx: Transaction, ids: Sequence[str]) -> dict[str, ProfileRow]:
    """Living profiles by id."""
    living = sa.select(*_columns).where(profiles.c.merged_into.is_(None))
    return {
        row.id: ProfileRow(*row) for part in parts(ids) for row in tx.execute(living.where(profiles.c.id.in_(part)))
    }


def find_speaker(tx: Transaction, given: str) -> SpeakerRow:
    """A speaker by id or the beginning of one. `NotFound` if there is none."""
    found = library.resolve_id(tx, speakers, given, "speaker")
    return library.speakers_by_id(tx, [found])[found]


def find_profile(tx: Transaction, given: str) -> ProfileRow:
    """A living profile by id or the beginning of one; the id of a merged one leads to where it went."""
    row = find(tx, library.resolve_id(tx, profiles, given, "profile"))
    if row is not None and row.merged_into is not None:
        row = find(tx, row.merged_into)
    if row is None:
        raise NotFound(f"There is no profile {given!r}.", hint="List them with `speakerdb profiles list`.")
    return row


def named(tx: Transaction, library_id: str, name: str) -> ProfileRow | None:
    """The living profile of a name in a library."""
    query = sa.select(*_columns).where(
        profiles.c.library_id == library_id, profiles.c.name == name, profiles.c.merged_into.is_(None)
    )
    row = tx.execute(query).one_or_none()
    return None if row is None else ProfileRow(*row)


def named_alike(tx: Transaction, library_id: str, name: str) -> str | None:
    """A living profile's name that differs only in case, width or in how its accents are written."""
    query = sa.select(profiles.c.name).where(profiles.c.library_id == library_id, profiles.c.merged_into.is_(None))
    wanted = folded(name)
    return next((found for found in tx.scalars(query.order_by(profiles.c.name)) if folded(found) == wanted), None)


def insert(tx: Transaction, library: str, name: str, now: int, profile_id: str | None = None) -> str:
    """A new profile; its id, which is made up unless given."""
    made = profile_id or new_id("prf")
    _free(tx, library, name)
    restore(tx, made, library, name, now)
    return made


def restore(tx: Transaction, profile_id: str, home: str, name: str, now: int) -> None:
    """A profile of this id, without members. `AlreadyExists` where it is a speaker's."""
    library.refuse_of_another_kind(tx, profile_id, Kind.PROFILE)
    row = {"id": profile_id, "library_id": home, "name": name, "members_version": now, "created_at": now}
    tx.execute(sa.insert(profiles), [row])


def in_use(tx: Transaction, profile_id: str) -> str | None:
    """What keeps a profile from being deleted, as a sentence's end; None where nothing does."""
    if tx.scalar(sa.select(speakers.c.id).where(speakers.c.profile_id == profile_id).limit(1)) is not None:
        return "has speakers"
    if tx.scalar(sa.select(profiles.c.id).where(profiles.c.merged_into == profile_id).limit(1)) is not None:
        return "is where other profiles were merged into"
    return None


def delete(tx: Transaction, profile_id: str) -> None:
    """Remove a profile that nothing uses (its projections must be marked deleted first)."""
    tx.execute(sa.delete(profiles).where(profiles.c.id == profile_id))


def rename(tx: Transaction, row: ProfileRow, name: str) -> None:
    """Give a profile another name. A name touches no index."""
    if name != row.name:
        _free(tx, row.library_id, name)
        set_name(tx, row.id, name)


def set_name(tx: Transaction, profile_id: str, name: str) -> None:
    """A name that was looked at already."""
    tx.execute(sa.update(profiles).where(profiles.c.id == profile_id).values(name=name))


def merge(tx: Transaction, source: str, into: str, now: int) -> tuple[list[str], list[str]]:
    """Move all members of one profile to another and leave a forwarding entry.

    The speakers that moved, and the profiles that had been merged into `source` before and lead to `into` now.
    """
    moved = list(tx.scalars(sa.select(speakers.c.id).where(speakers.c.profile_id == source).order_by(speakers.c.id)))
    forwarded = merged_into(tx, source)
    tx.execute(sa.update(speakers).where(speakers.c.profile_id == source).values(profile_id=into))
    tx.execute(sa.update(profiles).where(profiles.c.merged_into == source).values(merged_into=into))
    tx.execute(sa.update(profiles).where(profiles.c.id == source).values(merged_into=into))
    mark_dirty(tx, [into], now)
    return moved, forwarded


def merged_into(tx: Transaction, profile_id: str, limit: int | None = None) -> list[str]:
    """The profiles whose ids lead to this one."""
    query = sa.select(profiles.c.id).where(profiles.c.merged_into == profile_id).order_by(profiles.c.id).limit(limit)
    return list(tx.scalars(query))


def members_of(tx: Transaction, ids: Sequence[str]) -> dict[str, str | None]:
    """Of the speakers that exist: which profile each belongs to."""
    query = sa.select(speakers.c.id, speakers.c.profile_id)
    found: dict[str, str | None] = {}
    for part in parts(ids):
        found |= {row.id: row.profile_id for row in tx.execute(query.where(speakers.c.id.in_(part)))}
    return found


def unmerge(
    tx: Transaction, source: str, into: str, members: Sequence[str], forwarded: Sequence[str], now: int
) -> None:
    """Take a merge back: `source` lives again with these members, and these profiles lead to it again."""
    tx.execute(sa.update(profiles).where(profiles.c.id == source).values(merged_into=None))
    for part in parts(forwarded):
        back = sa.update(profiles).where(profiles.c.id.in_(part), profiles.c.merged_into == into)
        tx.execute(back.values(merged_into=source))
    for part in parts(members):
        moved = sa.update(speakers).where(speakers.c.id.in_(part), speakers.c.profile_id == into)
        tx.execute(moved.values(profile_id=source))
    mark_dirty(tx, [source, into], now)


def mark_dirty(tx: Transaction, ids: Sequence[str], now: int) -> None:
    """The members of these profiles, or their embeddings, changed.

    In a generation that is not live nobody would pool them again, and a voice that was removed would stay in them: what it
    has of them goes. It is pooled from the members when the generation is moved to again.
    """
    if ids:
        old = profiles.c.members_version
        raised = sa.case((old + 1 > now, old + 1), else_=sa.literal(now, sa.BigInteger))
        tx.execute(sa.update(profiles).where(profiles.c.id.in_(ids)).values(members_version=raised))
        resting = sa.select(generations.c.name).where(generations.c.live.is_(False))
        tx.execute(sa.delete(embeddings).where(embeddings.c.entity_id.in_(ids), embeddings.c.generation.in_(resting)))


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
    return list(tx.scalars(_dirty(generation, profiles.c.id).order_by(profiles.c.id).limit(limit)))


def dirty_count(tx: Transaction, generation: str) -> int:
    """How many profiles wait to be pooled in a generation."""
    return tx.scalar(_dirty(generation, sa.func.count())) or 0


def _dirty(generation: str, what: sa.ColumnElement[Any]) -> sa.Select[Any]:
    pooled = sa.and_(embeddings.c.entity_id == profiles.c.id, embeddings.c.generation == generation)
    return (
        sa.select(what)
        .select_from(profiles.outerjoin(embeddings, pooled))
        .where(profiles.c.merged_into.is_(None))
        .where(sa.or_(embeddings.c.entity_id.is_(None), embeddings.c.content_version != profiles.c.members_version))
    )


def emptied(tx: Transaction, generation: str, ids: Sequence[str]) -> set[str]:
    """Those of the profiles that a generation pooled from voices of which none is theirs any more. One that was imported
    without members is none of them: nothing of it has gone."""
    member = sa.select(speakers.c.id).where(speakers.c.profile_id == profiles.c.id)
    pooled = sa.and_(embeddings.c.entity_id == profiles.c.id, embeddings.c.generation == generation)
    query = (
        sa.select(profiles.c.id)
        .select_from(profiles.join(embeddings, pooled))
        .where(embeddings.c.content_version != profiles.c.members_version, ~member.exists())
    )
    return {id for part in parts(ids) for id in tx.scalars(query.where(profiles.c.id.in_(part)))}


BY_NAME = (profiles.c.name, profiles.c.id)


def listed(
    tx: Transaction,
    *,
    library: str | None = None,
    profile: str | None = None,
    behind: sa.ColumnElement[bool] | None = None,
    limit: int | None = None,
) -> list[ProfileView]:
    """Living profiles with their member counts, by name, those `behind` a place; a profile that is asked for by id is shown
    merged or not."""
    members = sa.select(sa.func.count()).where(speakers.c.profile_id == profiles.c.id).scalar_subquery()
    query = (
        sa.select(profiles.c.id, libraries.c.name, profiles.c.name, members, profiles.c.merged_into)
        .join(libraries, libraries.c.id == profiles.c.library_id)
        .order_by(*BY_NAME)
        .limit(limit)
    )
    if behind is not None:
        query = query.where(behind)
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


def speaker_ids(
    tx: Transaction,
    *,
    recording: str | None = None,
    profile: str | None = None,
    library: str | None = None,
    unnamed: bool = False,
    name: str | None = None,
    limit: int | None = None,
    behind: sa.ColumnElement[bool] | None = None,
) -> Iterator[str]:
    """Speakers of a recording, a profile or a library (by id), in the order their recordings came, then by label; those
    `behind` a place.

    `unnamed`: those that have neither a name nor a profile. `name`: those whose name, or whose profile's name, holds this
    text, whatever its case.
    """
    query = (
        sa.select(speakers.c.id, speakers.c.name, profiles.c.name)
        .join(recordings, recordings.c.id == speakers.c.recording_id)
        .outerjoin(profiles, profiles.c.id == speakers.c.profile_id)
        .order_by(recordings.c.created_at, speakers.c.recording_id, speakers.c.label)
    )
    if behind is not None:
        query = query.where(behind)
    if recording is not None:
        query = query.where(speakers.c.recording_id == recording)
    if profile is not None:
        query = query.where(speakers.c.profile_id == profile)
    if library is not None:
        query = query.where(recordings.c.library_id == library)
    if unnamed:
        query = query.where(speakers.c.name.is_(None), speakers.c.profile_id.is_(None))
    if name is None:
        query = query.limit(limit)
    else:
        query = query.where(sa.or_(speakers.c.name.is_not(None), speakers.c.profile_id.is_not(None)))
    wanted = None if name is None else folded(name)
    found = (
        speaker
        for speaker, *names in tx.execute(query.execution_options(yield_per=_FETCHED))
        if wanted is None or any(wanted in folded(each) for each in names if each is not None)
    )
    return itertools.islice(found, limit)
