"""What a person sees: the status, one thing explained, events, generations, operations."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from speakerdb.api.operations import OperationView
from speakerdb.api.parts import LARGEST, Cursor, Given, HouseOf, Id, Library, Limit, Page, page_of, place_of
from speakerdb.api.route import Routes
from speakerdb.core.texts import MAX_ID_LENGTH
from speakerdb.errors import InvalidInput, SpeakerDBError
from speakerdb.events import KINDS
from speakerdb.reports import Progress, Status
from speakerdb.reports.access import Role
from speakerdb.reports.recordings import Part
from speakerdb.reports.seeing import EventFilter, Explanation

routes = Routes("seeing")

READER = Role.READER
Instant = Annotated[int | None, Query(ge=0, le=LARGEST, description="Microseconds since the epoch in UTC.")]


class Event(Given):
    """One change of the library, as it stands in the audit trail."""

    id: int
    at: int
    kind: str
    who: str
    source: Annotated[str | None, Field(description="From where: `cli`, `api` with an address, `schedule`.")]
    why: str | None
    migration: int | None
    entity: str | None
    data: dict[str, Any]


class GenerationView(Given):
    """One generation that is defined: its model, its recipe, its operating point, and how it stands here."""

    name: str
    model: str
    dimension: int
    metric: str
    revision: str | None
    recipe: dict[str, Any]
    operating_point: dict[str, float]
    live: Annotated[bool, Field(description="New and changed recordings are extracted for it.")]
    serving: bool
    progress: Progress | None


@routes.get("/status", READER, "status", response_model=Status)
def show_status(db: Library) -> Status:
    """What serves, what runs, what waits and why, what is broken and the command that mends it."""
    return db.status()


@routes.get("/explain/{entity}", READER, "explain", response_model=Explanation)
def explain(entity: Id, db: Library) -> Explanation:
    """Everything that is known of a recording, a speaker or a profile, or of one that was removed."""
    return db.explain.about(entity)


@routes.get("/events", READER, "events", response_model=Page[Event])
def list_events(
    db: Library,
    kind: Annotated[list[str] | None, Query(max_length=len(KINDS), description="Only of these kinds.")] = None,
    entity: Annotated[str | None, Query(max_length=MAX_ID_LENGTH)] = None,
    who: Annotated[str | None, Query(max_length=1000)] = None,
    since: Instant = None,
    until: Instant = None,
    migration: Annotated[int | None, Query(ge=1, le=LARGEST)] = None,
    after: Annotated[int, Query(ge=0, le=LARGEST, description="Only behind the event of this id: to follow them.")] = 0,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[Event]:
    """The audit trail, the oldest first."""
    for each in set(kind or ()) - set(KINDS):
        near = difflib.get_close_matches(each, KINDS, n=3)
        raise InvalidInput(f"There is no kind of event {each!r}.", hint=f"Like it are: {', '.join(near) or 'none'}.")
    where = EventFilter(
        tuple(kind or ()), None if entity is None else db.overview.entity(entity), who, since, until, migration
    )
    place = place_of(cursor, "events", int)
    found = db.overview.events_after(after if place is None else max(after, place[0]), limit + 1, where)
    more, found = len(found) > limit, found[:limit]
    items = tuple(Event(**each) for each in found)
    return page_of(Part(items, (items[-1].id,) if more else None), "events")


@routes.get("/generations", READER, "status", response_model=list[GenerationView])
def list_generations(db: Library) -> list[GenerationView]:
    """Every generation that the settings define."""
    live = db.serving.live()
    serving = db.serving.resolve().generation.name
    return [
        GenerationView(
            name=one.name,
            model=one.model.id,
            dimension=one.dimension,
            metric=one.metric,
            revision=one.model.revision,
            recipe=dataclasses.asdict(one.recipe),
            operating_point=dataclasses.asdict(one.operating_point),
            live=one.name in live,
            serving=one.name == serving,
            progress=db.progress(one.name) if one.name in live else None,
        )
        for one in db.generations.values()
    ]


@routes.get("/operations/{operation}", READER, response_model=OperationView)
def show_operation(operation: Id, house: HouseOf) -> OperationView:
    """Something that took longer than its request waited: whether it runs, and its answer or its error."""
    return house.operations.find(operation).view()


@routes.get("/errors", READER, response_model=Mapping[str, int])
def list_codes() -> Mapping[str, int]:
    """Every code of an error of the library, with its HTTP status."""
    found: dict[str, int] = {}
    waiting: list[type[SpeakerDBError]] = [SpeakerDBError]
    while waiting:
        cls = waiting.pop()
        found[cls.code] = cls.http_status
        waiting.extend(cls.__subclasses__())
    return dict(sorted(found.items()))
