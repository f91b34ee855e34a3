"""What serves and who works: the alias, indices, leases, and live settings."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import Field

from speakerdb.api.parts import (
    ACCEPTED,
    LARGEST,
    Given,
    Id,
    Library,
    LibraryName,
    OperationId,
    Said,
    Text,
    Wait,
    at_length,
    because,
    known_generation,
)
from speakerdb.api.route import Routes
from speakerdb.core.texts import MAX_ID_LENGTH, MAX_NAME_LENGTH
from speakerdb.reports.access import Role
from speakerdb.reports.live import LiveSettings, Name
from speakerdb.reports.pointing import AliasReport, AliasView
from speakerdb.reports.rebuilding import RebuildReport
from speakerdb.reports.seeing import LeaseView

routes = Routes("serving")


class Rebuild(Said):
    """`serve`: let the alias name it where SQL says that it serves and the alias names another generation's index."""

    serve: bool = False


class Break(Given):
    """Why a lease is taken away; with `epoch`, only while it is still the one that was looked at."""

    why: Annotated[Text, Field(min_length=1, max_length=2000)]
    epoch: Annotated[int | None, Field(ge=0, le=LARGEST)] = None


class Setting(Said):
    """What a live setting is to be."""

    value: Annotated[Text, Field(min_length=1, max_length=1000)]
    library: LibraryName | None = None


class PointAlias(Given):
    """The live generation whose index the alias is to name, and why."""

    generation: Annotated[Text, Field(min_length=1, max_length=MAX_ID_LENGTH)]
    why: Annotated[Text, Field(min_length=1, max_length=2000)]
    force: Annotated[bool, Field(description="Although the index does not equal the database.")] = False


@routes.get("/alias", Role.READER, "alias show", response_model=AliasView)
def show_alias(db: Library) -> AliasView:
    """What the alias names, and whether that is what the database says."""
    return db.alias()


@routes.put("/alias", Role.ADMIN, "alias set", response_model=AliasReport, responses=ACCEPTED)
async def set_alias(
    given: PointAlias, request: Request, db: Library, wait: Wait = 30, operation: OperationId = None
) -> Any:
    """Let the alias name the index of a live generation: for when somebody has moved it, and for emergencies. It is compared
    with the database first (409 `gate-failed`)."""
    known_generation(db, given.generation)

    def run() -> AliasReport:
        return db.set_alias(given.generation, why=given.why, force=given.force)

    return await at_length(request, "alias set", given.model_dump(), run, wait=wait, operation_id=operation)


@routes.get("/leases", Role.READER, "lease list", response_model=list[LeaseView])
def list_leases(db: Library) -> list[LeaseView]:
    """Every lease, which process holds it, and whether that one still lives as far as can be known from here."""
    return list(db.overview.leases())


@routes.post("/leases/{lease}/break", Role.ADMIN, "lease break", response_model=LeaseView)
def break_lease(lease: Id, given: Break, db: Library) -> LeaseView:
    """Take a lease away from whoever holds it. Its holder, if it lives, commits nothing more and stops."""
    return db.break_lease(lease, why=given.why, epoch=given.epoch)


@routes.get("/live", Role.READER, "live show", response_model=LiveSettings)
def show_live_settings(db: Library) -> LiveSettings:
    """What is set, who set it and why."""
    return db.live.get(fresh=True)


@routes.put("/live/{name}", Role.ADMIN, "live set", response_model=LiveSettings)
def set_live_setting(name: Name, given: Setting, db: Library) -> LiveSettings:
    """Set one. Every process that works with the library follows it within seconds."""
    with because(given.why):
        return db.live.set(name, given.value, library=given.library)


@routes.delete("/live/{name}", Role.ADMIN, "live clear", response_model=LiveSettings)
def clear_live_setting(
    name: Name,
    db: Library,
    library: Annotated[str | None, Query(min_length=1, max_length=MAX_NAME_LENGTH)] = None,
    why: Annotated[str | None, Query(max_length=2000)] = None,
) -> LiveSettings:
    """Give one its ordinary meaning again."""
    with because(why):
        return db.live.clear(name, library=library)


@routes.post(
    "/indices/{generation}/rebuild", Role.ADMIN, "index rebuild", response_model=RebuildReport, responses=ACCEPTED
)
async def rebuild_index(
    generation: Id, given: Rebuild, request: Request, db: Library, wait: Wait = 30, operation: OperationId = None
) -> Any:
    """Build an index again from the vectors in SQL. The new one is made beside the old, and takes its place in one step."""
    known_generation(db, generation)

    def run() -> RebuildReport:
        with because(given.why):
            return db.rebuild_index(generation, serve=given.serve)

    asked = (generation, given.serve)
    return await at_length(request, "index rebuild", asked, run, wait=wait, operation_id=operation)
