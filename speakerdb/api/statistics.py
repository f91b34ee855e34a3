"""How people talk and how their voices sound: overlaps and statistics."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from pydantic import Field

from speakerdb.api.door import SLASH
from speakerdb.api.parts import Cursor, Id, Library, Limit, Page, Rows, page_of, place_of
from speakerdb.api.route import Routes
from speakerdb.core.texts import MAX_NAME_LENGTH
from speakerdb.reports.access import Role
from speakerdb.reports.recordings import Part
from speakerdb.reports.statistics import LibraryTalk, OverlapView, ProfileTalk, RecordingOverlaps, SpeakerTalk

routes = Routes("statistics")

READER = Role.READER
LeastSeconds = Annotated[
    float, Query(ge=0, le=1e6, allow_inf_nan=False, description="Only those that are at least so long.")
]


class Overlaps(Page[OverlapView]):
    """A page of the overlaps of a recording, or of those in which a speaker talks."""

    recording_id: str
    stored: Annotated[
        bool,
        Field(
            description="False: they were made from the turns, because nothing is measured of the recording as it is now."
        ),
    ]
    total: int
    total_seconds: float


@routes.get("/recordings/{recording}/overlaps", READER, "overlaps list", response_model=Overlaps)
def overlaps_of_recording(
    recording: Id, db: Library, least_seconds: LeastSeconds = 0.0, limit: Limit = 100, cursor: Cursor = None
) -> Overlaps:
    """Where two or more talk in a recording, in the order of time."""
    (after,) = place_of(cursor, "overlaps", int) or (-1,)
    found = db.statistics.overlaps(recording=recording, least_seconds=least_seconds, after=after, limit=limit + 1)
    return _page(found, limit)


@routes.get("/speakers/{speaker}/overlaps", READER, "overlaps list", response_model=Overlaps)
def overlaps_of_speaker(
    speaker: Id, db: Library, least_seconds: LeastSeconds = 0.0, limit: Limit = 100, cursor: Cursor = None
) -> Overlaps:
    """The overlaps in which a speaker talks, in the order of time."""
    (after,) = place_of(cursor, "overlaps", int) or (-1,)
    found = db.statistics.overlaps(speaker=speaker, least_seconds=least_seconds, after=after, limit=limit + 1)
    return _page(found, limit)


@routes.get("/speakers/{speaker}/statistics", READER, "statistics speaker", response_model=SpeakerTalk)
def speaker_statistics(speaker: Id, db: Library) -> SpeakerTalk:
    """How one speaker talks in its recording, and how its voice sounds."""
    return db.statistics.speaker(speaker)


@routes.get("/profiles/{profile}/statistics", READER, "statistics profile", response_model=ProfileTalk)
def profile_statistics(profile: Id, db: Library, rows: Rows = 20) -> ProfileTalk:
    """How one person talks in all recordings, by month, and how the voice changed."""
    return db.statistics.profile(profile, rows=rows)


@routes.get("/libraries/{library}/statistics", READER, "statistics library", response_model=LibraryTalk)
def library_statistics(
    library: Annotated[str, Path(min_length=1, max_length=MAX_NAME_LENGTH, description="The library's name.")],
    db: Library,
    rows: Rows = 20,
) -> LibraryTalk:
    """How a library talks: totals, how much of it is overlap, and the people who talk most."""
    return db.statistics.library(library.replace(SLASH, "/"), rows=rows)


def _page(found: RecordingOverlaps, limit: int) -> Overlaps:
    """One more than was asked for was read: whether there is a next page."""
    items = found.overlaps[:limit]
    more = len(found.overlaps) > limit
    page = page_of(Part(items, (items[-1].number,) if more else None), "overlaps")
    return Overlaps(
        items=page.items, next=page.next, recording_id=found.recording_id, stored=found.stored, total=found.total,
        total_seconds=found.total_seconds,
    )  # fmt: skip
