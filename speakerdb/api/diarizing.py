"""Diarizing again: queued, or looked at first; what stood there before, and bringing it back."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Request, Response
from pydantic import Field

from speakerdb.api.parts import (
    ACCEPTED,
    LARGEST,
    DryRun,
    Id,
    IfMatch,
    Library,
    LibraryName,
    OperationId,
    Page,
    Said,
    Wait,
    at_length,
    because,
    if_match,
    tagged,
)
from speakerdb.api.recordings import AskedOfDiarizer
from speakerdb.api.route import Routes
from speakerdb.catalog import versions
from speakerdb.diarizers.asked import Asked
from speakerdb.reports.access import Role
from speakerdb.reports.rediarizing import AssignmentsKept, AssignmentView, RediarizePlan, RediarizeQueued, RevertReport

routes = Routes("diarizing")

OPERATOR, READER = Role.OPERATOR, Role.READER


class Again(AskedOfDiarizer, Said):
    """What is known of the speakers, and who may go."""

    accept_lost: Annotated[
        bool, Field(description="Named speakers whose place nobody takes may go; else the recording stays as it is.")
    ] = False

    def to_ask(self) -> Asked:
        """The same, as use cases take it. `InvalidInput` for numbers that contradict each other."""
        said = self.asked()
        return Asked(said.hints, said.channels, self.accept_lost)


class LibraryAgain(Again):
    """The same of a library."""

    library: LibraryName


class LibraryKept(Said):
    """What stays as it is."""

    library: LibraryName


class Revert(Said):
    """Which set comes back, and whose names stand."""

    to: Annotated[int | None, Field(ge=1, le=LARGEST, description="The set's number; the newest, unless given.")] = None
    names: Annotated[
        Literal["now", "then"],
        Field(description="`now`: who is there still keeps name and profile. `then`: those come back too."),
    ] = "now"
    accept_lost: Annotated[bool, Field(description="Named speakers who were not there then may go.")] = False


@routes.post("/diarizations", OPERATOR, "rediarize", response_model=RediarizeQueued)
def diarize_library(given: LibraryAgain, db: Library) -> RediarizeQueued:
    """Queue everything of a library that has a file to be diarized again."""
    with because(given.why):
        return db.rediarizing.queue_library(given.library, given.to_ask())


@routes.post("/recordings/{recording}/diarize", OPERATOR, "rediarize", response_model=RediarizeQueued)
def diarize_again(recording: Id, given: Again, db: Library, if_match_header: IfMatch = None) -> RediarizeQueued:
    """Queue a recording to be diarized again. Whoever was there keeps id, label, name and profile."""
    with because(given.why), if_match(if_match_header, versions.of_recording, recording):
        return db.rediarizing.queue([recording], given.to_ask())


@routes.post(
    "/recordings/{recording}/diarize/plan", OPERATOR, "rediarize", response_model=RediarizePlan, responses=ACCEPTED
)  # fmt: skip
async def plan_diarization(
    recording: Id, given: Again, request: Request, db: Library, wait: Wait = 30, operation: OperationId = None
) -> Any:
    """Diarize a recording now, and say what storing that would change. Nothing is written."""
    asked = given.to_ask()

    def run() -> RediarizePlan:
        (found,) = db.rediarizing.chosen([recording])
        return db.rediarizing.look(found, asked)

    said = (recording, given.model_dump(exclude={"why"}))
    return await at_length(request, "rediarize", said, run, wait=wait, operation_id=operation)


@routes.post("/assignments/keep", OPERATOR, "assignments keep", response_model=AssignmentsKept)
def keep_library(given: LibraryKept, db: Library) -> AssignmentsKept:
    """Leave everything of a library as it is: that it failed to be diarized again, or is yet to be, is forgotten."""
    with because(given.why):
        return db.rediarizing.keep(library_name=given.library)


@routes.post(
    "/recordings/{recording}/assignments/keep", OPERATOR, "assignments keep", response_model=AssignmentsKept
)  # fmt: skip
def keep_assignments(recording: Id, given: Said, db: Library, if_match_header: IfMatch = None) -> AssignmentsKept:
    """Leave a recording as it is: that it failed to be diarized again, or is yet to be, is forgotten."""
    with because(given.why), if_match(if_match_header, versions.of_recording, recording):
        return db.rediarizing.keep([recording])


@routes.get("/recordings/{recording}/assignments", READER, "assignments list", response_model=Page[AssignmentView])
def list_assignments(recording: Id, db: Library) -> Page[AssignmentView]:
    """What a recording's turns and speakers were before they were replaced, the newest first. A handful is kept."""
    return Page(items=list(db.rediarizing.sets(recording)), next=None)


@routes.post(
    "/recordings/{recording}/assignments/revert", OPERATOR, "assignments revert", response_model=RevertReport
)  # fmt: skip
def revert_assignments(
    recording: Id,
    given: Revert,
    db: Library,
    response: Response,
    dry_run: DryRun = False,
    if_match_header: IfMatch = None,
) -> RevertReport:
    """Bring a set of assignments back; what stands now is kept as one too."""
    tag = tagged(response, db, versions.of_recording, recording)
    with because(given.why), if_match(if_match_header, versions.of_recording, recording), tag:
        return db.rediarizing.revert(
            recording, to=given.to, names=given.names, accept_lost=given.accept_lost, dry_run=dry_run
        )
