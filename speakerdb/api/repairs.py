"""Repairs: what would be mended, mending it, what was mended, and what could not be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Query, Request
from pydantic import Field, model_validator

from speakerdb.api.callers import require
from speakerdb.api.parts import (
    ACCEPTED,
    Cursor,
    Given,
    Library,
    LibraryName,
    Limit,
    OperationId,
    Page,
    Said,
    Text,
    Wait,
    at_length,
    because,
    known_generation,
    page_of,
    place_of,
)
from speakerdb.api.route import Routes
from speakerdb.catalog.journal import actor
from speakerdb.core.texts import MAX_ID_LENGTH
from speakerdb.reports.access import Role
from speakerdb.reports.recordings import Part
from speakerdb.reports.repairing import QuarantineView, RepairPlan, RepairReport, RepairStatus, RunView

routes = Routes("repairs")

Item = TypeVar("Item")
READER, OPERATOR, ADMIN = Role.READER, Role.OPERATOR, Role.ADMIN
GenerationName = Annotated[Text, Field(min_length=1, max_length=MAX_ID_LENGTH)]
OfGeneration = Annotated[str | None, Query(max_length=MAX_ID_LENGTH, description="Only of this generation.")]
Code = Annotated[Text, Field(min_length=1, max_length=100)]
DocumentId = Annotated[Text, Field(min_length=1, max_length=MAX_ID_LENGTH)]


class RepairLook(Given):
    """What is compared: a generation, or every live one; what belongs to a library; with `vectors` every vector."""

    generation: GenerationName | None = None
    library: LibraryName | None = None
    vectors: bool = False


class Repair(RepairLook):
    """What is mended. `force` overrules brakes, and needs a reason and the role admin."""

    force: Annotated[list[Literal["deletions", "restored", "empty"]], Field(max_length=3)] = Field(default_factory=list)
    why: Annotated[Text | None, Field(max_length=2000, description="Kept in the events.")] = None

    @model_validator(mode="after")
    def _reason(self) -> Repair:
        if self.force and not (self.why or "").strip():
            raise ValueError("to overrule a brake needs a reason: give why")
        return self


class Documents(Said):
    """Which documents in quarantine are meant: by id, by code, or all."""

    generation: GenerationName | None = None
    code: Code | None = None
    ids: Annotated[list[DocumentId] | None, Field(min_length=1, max_length=10_000)] = None
    all: bool = False

    @model_validator(mode="after")
    def _chosen(self) -> Documents:
        if self.ids is None and self.code is None and not self.all:
            raise ValueError("say which: ids, code or all")
        return self


class WaivedDocuments(Documents):
    """Which documents may stay as they are, and why."""

    why: Annotated[Text, Field(min_length=1, max_length=2000, description="Kept in the events.")]


class DocumentCount(Given):
    """How many documents."""

    documents: int


@routes.post("/repairs/plan", OPERATOR, "repair run", response_model=RepairPlan, responses=ACCEPTED)
async def plan_repair(
    given: RepairLook, request: Request, db: Library, wait: Wait = 30, operation: OperationId = None
) -> Any:
    """What a repair would do now. Changes nothing."""
    known_generation(db, given.generation)

    def run() -> RepairPlan:
        return db.repairer.plan(generation=given.generation, library=given.library, vectors=given.vectors)

    return await at_length(request, "repair plan", given.model_dump(), run, wait=wait, operation_id=operation)


@routes.post("/repairs", OPERATOR, "repair run", response_model=RepairReport, responses=ACCEPTED)
async def run_repair(
    given: Repair, request: Request, db: Library, wait: Wait = 30, operation: OperationId = None
) -> Any:
    """Compare the database with each live index, and mend what differs. A repair that a brake stops is refused as a whole
    (409); to overrule a brake needs the role admin."""
    known_generation(db, given.generation)
    if given.force:
        require(request.state.caller, ADMIN)

    def run() -> RepairReport:
        with because(given.why):
            return db.repairer.run(
                generation=given.generation, library=given.library, vectors=given.vectors, force=given.force,
                why=actor().why,
            )  # fmt: skip

    return await at_length(request, "repair run", given.model_dump(), run, wait=wait, operation_id=operation)


@routes.get("/repairs", READER, "repair history", response_model=Page[RunView])
def list_repairs(
    db: Library, generation: OfGeneration = None, limit: Limit = 100, cursor: Cursor = None
) -> Page[RunView]:
    """What repairs found and did, the newest first. Of those in a row that found nothing the newest is kept."""
    place = place_of(cursor, "repairs", int)
    return page_of(
        _part(
            lambda most: db.repairer.history(limit=most, generation=generation),
            lambda run: (run.id,),
            lambda key: place is None or key < place,
            limit,
        ),
        "repairs",
    )


@routes.get("/repairs/status", READER, "repair status", response_model=RepairStatus)
def show_repair_status(db: Library) -> RepairStatus:
    """When each live index was last compared, how far the comparison of all vectors is, and what is not mended."""
    return db.repairer.status()


@routes.get("/repairs/quarantine", READER, "repair quarantine list", response_model=Page[QuarantineView])
def list_quarantine(
    db: Library,
    generation: OfGeneration = None,
    code: Annotated[str | None, Query(max_length=100)] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[QuarantineView]:
    """Documents that could not be mended, why, and when they are tried again; the oldest first."""
    place = place_of(cursor, "quarantine", int, str, str)
    return page_of(
        _part(
            lambda most: db.repairer.quarantine(generation=generation, code=code, limit=most),
            lambda one: (one.first_at, one.id, one.generation),
            lambda key: place is None or key > place,
            limit,
        ),
        "quarantine",
    )


@routes.post("/repairs/quarantine/retry", OPERATOR, "repair quarantine retry", response_model=DocumentCount)
def retry_quarantined(given: Documents, db: Library) -> DocumentCount:
    """Try documents again with the next repair, without waiting for their time; waived ones too."""
    with because(given.why):
        count = db.repairer.retry_quarantined(
            generation=given.generation, code=given.code, ids=given.ids, why=given.why
        )
    return DocumentCount(documents=count)


@routes.post("/repairs/quarantine/waive", OPERATOR, "repair quarantine waive", response_model=DocumentCount)
def waive_quarantined(given: WaivedDocuments, db: Library) -> DocumentCount:
    """Let documents be as they are: no repair tries them again."""
    count = db.repairer.waive_quarantined(why=given.why, generation=given.generation, code=given.code, ids=given.ids)
    return DocumentCount(documents=count)


def _part(
    read: Callable[[int], list[Item]],
    key: Callable[[Item], tuple[Any, ...]],
    behind: Callable[[tuple[Any, ...]], bool],
    limit: int,
) -> Part[Item]:
    """A page of a list that is only read from its beginning: as much of it as the page needs."""
    most = limit + 1
    while True:
        read_now = read(most)
        found = [each for each in read_now if behind(key(each))]
        if len(found) > limit or len(read_now) < most:
            break
        most *= 4
    return Part(tuple(found[:limit]), key(found[limit - 1]) if len(found) > limit else None)
