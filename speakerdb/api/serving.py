"""What serves and who works: the alias, indices, leases, and live settings."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import Field

from speakerdb.api.parts import (
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
)
from speakerdb.api.route import Routes
from speakerdb.core.texts import MAX_NAME_LENGTH
from speakerdb.errors import InvalidInput
from speakerdb.reports.access import Role
from speakerdb.reports.live import LiveSettings, Name
from speakerdb.reports.rebuilding import RebuildReport
from speakerdb.reports.seeing import LeaseView

routes = Routes("serving")

Accepted: dict[int | str, dict[str, Any]] = {202: {"description": "It goes on; ask the address in `Location`."}}


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
    "/indices/{generation}/rebuild", Role.ADMIN, "index rebuild", response_model=RebuildReport, responses=Accepted
)
async def rebuild_index(
    generation: Id, given: Rebuild, request: Request, db: Library, wait: Wait = 30, operation: OperationId = None
) -> Any:
    """Build an index again from the vectors in SQL. The new one is made beside the old, and takes its place in one step."""
    if generation not in db.generations:
        raise InvalidInput(
            f"There is no generation {generation!r}.", hint=f"Known are: {', '.join(sorted(db.generations))}."
        )

    def run() -> RebuildReport:
        with because(given.why):
            return db.rebuild_index(generation, serve=given.serve)

    asked = (generation, given.serve)
    return await at_length(request, "index rebuild", asked, run, wait=wait, operation_id=operation)
