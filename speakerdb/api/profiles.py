"""Profiles: one person across recordings."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response
from pydantic import Field

from speakerdb.api.parts import (
    Cursor,
    GivenId,
    Id,
    IfMatch,
    Library,
    LibraryName,
    Limit,
    Name,
    OfLibrary,
    Page,
    Rows,
    Said,
    Text,
    because,
    if_match,
    page_of,
    place_of,
    tagged,
)
from speakerdb.api.route import Routes
from speakerdb.catalog import versions
from speakerdb.catalog.library import new_id
from speakerdb.core.texts import MAX_ID_LENGTH
from speakerdb.reports import ProfileView
from speakerdb.reports.access import Role
from speakerdb.reports.people import ProfileDetails

routes = Routes("profiles")

OPERATOR, READER = Role.OPERATOR, Role.READER


class NewProfile(Said):
    """A new person."""

    id: GivenId = None
    name: Name
    library: LibraryName = "default"


class ProfileName(Said):
    """A person's other name."""

    name: Name


class Merge(Said):
    """The profile that stays; the id of the other one leads there from now on."""

    into: Annotated[Text, Field(min_length=1, max_length=MAX_ID_LENGTH)]


@routes.post("/profiles", OPERATOR, "profiles create", response_model=ProfileView, status_code=201)
def create_profile(given: NewProfile, db: Library, response: Response) -> ProfileView:
    """Create a profile. With an id the same again gives what is there (200); 409 where it is another one by now."""
    made = given.id or new_id("prf")
    with because(given.why), tagged(response, db, versions.of_profile, made, new=True):
        found, new = db.people.make_profile(given.name, library_name=given.library, profile_id=made)
    response.status_code = 201 if new else 200
    return found


@routes.get("/profiles", READER, "profiles list", response_model=Page[ProfileView])
def list_profiles(
    db: Library, library: OfLibrary = None, limit: Limit = 100, cursor: Cursor = None
) -> Page[ProfileView]:
    """Profiles by name."""
    place = place_of(cursor, "profiles", str, str)
    return page_of(db.people.profiles_page(library_name=library, after=place, limit=limit), "profiles")


@routes.get("/profiles/{profile}", READER, "profiles show", response_model=ProfileDetails)
def show_profile(
    profile: Id,
    db: Library,
    response: Response,
    rows: Rows = 20,
) -> ProfileDetails:
    """One profile: how well its speakers fit together, who does not fit, and where the person appears."""
    with tagged(response, db, versions.of_profile, profile):
        return db.voices.profile(profile, rows=rows)


@routes.put("/profiles/{profile}/name", OPERATOR, "profiles rename", response_model=ProfileView)
def rename_profile(
    profile: Id, given: ProfileName, db: Library, response: Response, if_match_header: IfMatch = None
) -> ProfileView:
    """Rename a profile."""
    tag = tagged(response, db, versions.of_profile, profile)
    with because(given.why), if_match(if_match_header, versions.of_profile, profile), tag:
        return db.people.rename_profile(profile, given.name)


@routes.post("/profiles/{profile}/merge", OPERATOR, "profiles merge", response_model=ProfileView)
def merge_profile(
    profile: Id, given: Merge, db: Library, response: Response, if_match_header: IfMatch = None
) -> ProfileView:
    """Say that two profiles are one person; what stays. `/v1/undo` takes it back."""
    tag = tagged(response, db, versions.of_profile, profile)
    with because(given.why), if_match(if_match_header, versions.of_profile, profile), tag:
        return db.people.merge_profiles(profile, given.into)


@routes.delete("/profiles/{profile}", OPERATOR, "profiles delete", response_model=ProfileView)
def delete_profile(
    profile: Id,
    db: Library,
    why: Annotated[str | None, Query(max_length=2000)] = None,
    if_match_header: IfMatch = None,
) -> ProfileView:
    """Delete a profile that no speaker belongs to; what it was. `/v1/undo` takes it back."""
    with because(why), if_match(if_match_header, versions.of_profile, profile):
        return db.people.delete_profile(profile)
