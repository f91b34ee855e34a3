"""Speakers: one voice in one recording. Names, profiles, splits, and taking changes of them back."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response
from pydantic import Field, model_validator

from speakerdb.api.parts import (
    LARGEST,
    Cursor,
    DryRun,
    GivenId,
    Id,
    IfMatch,
    Library,
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
from speakerdb.core.texts import MAX_ID_LENGTH, MAX_NAME_LENGTH
from speakerdb.people.splitting import Choice
from speakerdb.reports import SpeakerView
from speakerdb.reports.access import Role
from speakerdb.reports.people import SpeakerDetails, SplitReport, UndoReport

routes = Routes("speakers")

OPERATOR, READER = Role.OPERATOR, Role.READER
OfOne = Query(max_length=MAX_ID_LENGTH)


class SpeakerName(Said):
    """A speaker's name; null takes it away."""

    name: Name | None


class Assignment(Said):
    """Whose voice it is: a profile by id, or a person by name (`create`: made where nobody has it)."""

    profile: Annotated[Text | None, Field(min_length=1, max_length=MAX_ID_LENGTH)] = None
    name: Name | None = None
    create: bool = False

    @model_validator(mode="after")
    def _one_of_them(self) -> Assignment:
        if (self.profile is None) == (self.name is None):
            raise ValueError("give either profile or name")
        if self.create and self.name is None:
            raise ValueError("create goes with name")
        return self


class Split(Said):
    """Which turns become a new speaker: by number (`3,5-9`, as the speaker's own turns are counted), or by time."""

    id: GivenId = None
    turns: Annotated[Text | None, Field(min_length=1, max_length=100_000)] = None
    start: Annotated[float | None, Field(ge=0)] = None
    end: Annotated[float | None, Field(ge=0)] = None
    label: Name | None = None


class Undo(Said):
    """What is to be taken back: the change of this event, else the last one that stands."""

    event: Annotated[int | None, Field(ge=1, le=LARGEST)] = None


@routes.get("/speakers", READER, "speakers list", response_model=Page[SpeakerView])
def list_speakers(
    db: Library,
    recording: Annotated[str | None, OfOne] = None,
    profile: Annotated[str | None, OfOne] = None,
    library: OfLibrary = None,
    unnamed: Annotated[bool, Query(description="Only those with neither a name nor a profile.")] = False,
    name: Annotated[
        str | None,
        Query(max_length=MAX_NAME_LENGTH, description="Only those whose name, or profile's name, holds this."),
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[SpeakerView]:
    """Speakers in the order their recordings came, then by label, with what each live generation has of them."""
    part = db.people.speakers_page(
        recording=recording, profile=profile, library_name=library, unnamed=unnamed, name=name,
        after=place_of(cursor, "speakers", int, str, str), limit=limit,
    )  # fmt: skip
    return page_of(part, "speakers")


@routes.get("/speakers/{speaker}", READER, "speakers show", response_model=SpeakerDetails)
def show_speaker(speaker: Id, db: Library, response: Response, turns: Rows = 20) -> SpeakerDetails:
    """One speaker: the first of its turns, and its statistics in every live generation."""
    with tagged(response, db, versions.of_speaker, speaker):
        return db.voices.speaker(speaker, turns=turns)


@routes.put("/speakers/{speaker}/name", OPERATOR, "speakers rename", response_model=SpeakerView)
def rename_speaker(
    speaker: Id, given: SpeakerName, db: Library, response: Response, if_match_header: IfMatch = None
) -> SpeakerView:
    """Name a speaker, or take its name away."""
    tag = tagged(response, db, versions.of_speaker, speaker)
    with because(given.why), if_match(if_match_header, versions.of_speaker, speaker), tag:
        return db.people.rename_speaker(speaker, given.name)


@routes.put("/speakers/{speaker}/profile", OPERATOR, "speakers assign", response_model=SpeakerView)
def assign_speaker(
    speaker: Id, given: Assignment, db: Library, response: Response, if_match_header: IfMatch = None
) -> SpeakerView:
    """Say that a speaker is a person."""
    tag = tagged(response, db, versions.of_speaker, speaker)
    with because(given.why), if_match(if_match_header, versions.of_speaker, speaker), tag:
        if given.name is None:
            return db.people.assign(speaker, given.profile)
        return db.people.assign_by_name(speaker, given.name, create=given.create)


@routes.delete("/speakers/{speaker}/profile", OPERATOR, "speakers unassign", response_model=SpeakerView)
def unassign_speaker(speaker: Id, db: Library, response: Response, if_match_header: IfMatch = None) -> SpeakerView:
    """Take a speaker out of its profile."""
    tag = tagged(response, db, versions.of_speaker, speaker)
    with if_match(if_match_header, versions.of_speaker, speaker), tag:
        return db.people.assign(speaker, None)


@routes.post("/speakers/{speaker}/split", OPERATOR, "speakers split", response_model=SplitReport)
def split_speaker(
    speaker: Id, given: Split, db: Library, dry_run: DryRun = False, if_match_header: IfMatch = None
) -> SplitReport:
    """Make a new speaker of some of a speaker's turns: two people were taken for one. With an `id` for the new one it may
    be repeated."""
    choice = Choice(given.turns, given.start, given.end)
    with because(given.why), if_match(if_match_header, versions.of_speaker, speaker):
        return db.people.split(speaker, choice, label=given.label, speaker_id=given.id, dry_run=dry_run)


@routes.post("/undo", OPERATOR, "undo", response_model=UndoReport)
def undo(given: Undo, db: Library, dry_run: DryRun = False) -> UndoReport:
    """Take back the last change of names and people that still stands, or the one of an event."""
    with because(given.why):
        return db.people.undo(given.event, dry_run=dry_run)
