"""Migrations: what would happen, start, and everything that is done with the one that was started last."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Request, Response
from pydantic import Field, model_validator

from speakerdb.api.parts import (
    ACCEPTED,
    LARGEST,
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
from speakerdb.catalog.choosing import Part as First
from speakerdb.catalog.journal import actor
from speakerdb.core.texts import MAX_ID_LENGTH
from speakerdb.errors import MigrationActive, NotConfirmed, NotFound
from speakerdb.reports import GateReport, MigrationView, Preflight, SwapReport
from speakerdb.reports.access import Role
from speakerdb.reports.recordings import MigrationSummary
from speakerdb.service import SpeakerDB

routes = Routes("migrations")

READER, OPERATOR, ADMIN = Role.READER, Role.OPERATOR, Role.ADMIN

MOST_LISTED = 10_000
Generation = Annotated[Text, Field(min_length=1, max_length=MAX_ID_LENGTH)]
RecordingId = Annotated[Text, Field(min_length=1, max_length=4096)]
Recordings = Annotated[
    list[RecordingId] | None, Field(min_length=1, max_length=MOST_LISTED, description="Ids or paths of recordings.")
]


Rediarize = Annotated[bool, Field(description="Diarize recordings that have a file again first, and keep their names.")]


class Target(Given):
    """The generation to move to."""

    to: Generation
    rediarize: Rediarize = False


class Start(Said):
    """A new migration."""

    to: Generation
    force: Annotated[bool, Field(description="Start although the pre-flight does not pass.")] = False
    rediarize: Rediarize = False


class Chosen(Said):
    """Which failed recordings are meant; where several are given, all must hold."""

    code: Annotated[Text | None, Field(min_length=1, max_length=100, description="They failed with this code.")] = None
    library: LibraryName | None = None
    recordings: Recordings = None


class Waived(Chosen):
    """Which failed recordings may be missing, and why."""

    why: Annotated[Text, Field(min_length=1, max_length=2000, description="Kept in the events.")]

    @model_validator(mode="after")
    def _chosen(self) -> Waived:
        if all(each is None for each in (self.code, self.library, self.recordings)):
            raise ValueError("say which ones: code, library or recordings")
        return self


class Ahead(Given):
    """What goes first: exactly one of a share of the recordings (0 to 1), a library, and a list."""

    share: Annotated[float | None, Field(gt=0, le=1)] = None
    library: LibraryName | None = None
    recordings: Recordings = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Ahead:
        if sum(each is not None for each in (self.share, self.library, self.recordings)) != 1:
            raise ValueError("give one of share, library and recordings")
        return self


class RollBack(Said):
    """`now`: swap first, and report what the source lacks after."""

    now: bool = False
    accept_lag: Annotated[
        int, Field(ge=0, le=LARGEST, description="Speakers that the source may lack; else 409 (`not-confirmed`).")
    ] = 0


class Retire(Said):
    """`purge`: delete the source's vectors from SQL too."""

    purge: bool = False


class Count(Given):
    """How many recordings."""

    recordings: int


@routes.get("/migrations", READER, "migrate status", response_model=Page[MigrationSummary])
def list_migrations(db: Library, limit: Limit = 100, cursor: Cursor = None) -> Page[MigrationSummary]:
    """Every migration that was started, the newest first."""
    place = place_of(cursor, "migrations", int)
    return page_of(db.overview.migrations(before=None if place is None else place[0], limit=limit), "migrations")


@routes.post(
    "/migrations/preflight", OPERATOR, "migrate start", response_model=Preflight, responses=ACCEPTED
)  # fmt: skip
async def preflight(
    given: Target, request: Request, db: Library, wait: Wait = 30, operation: OperationId = None
) -> Any:
    """What starting would meet: loads both models and opens a sample of the files. Changes nothing."""
    known_generation(db, given.to)
    run = lambda: db.preflight(given.to, rediarize=given.rediarize)  # noqa: E731
    asked = (given.to, given.rediarize)
    return await at_length(request, "migrate preflight", asked, run, wait=wait, operation_id=operation)


@routes.post(
    "/migrations", OPERATOR, "migrate start", response_model=MigrationView, status_code=201,
    responses=ACCEPTED | {200: {"model": MigrationView, "description": "It runs already."}},
)  # fmt: skip
async def start_migration(
    given: Start, request: Request, response: Response, db: Library, wait: Wait = 30, operation: OperationId = None
) -> Any:
    """Make a pre-flight, and start where it passes. To a target that is being moved to already: what runs (200)."""
    known_generation(db, given.to)

    def running() -> MigrationView | None:
        found = db.migration()
        return found if found is not None and (found.target, found.state) == (given.to, "running") else None

    def run() -> tuple[MigrationView, bool]:
        if (found := running()) is not None:
            return found, False
        try:
            with because(given.why):
                return db.start_migration(given.to, force=given.force, rediarize=given.rediarize), True
        except MigrationActive:
            # A pre-flight takes minutes: another one who asked for the same may have been faster.
            if (found := running()) is None:
                raise
            return found, False

    asked = (given.to, given.force, given.rediarize)
    found = await at_length(request, "migrate start", asked, run, wait=wait, operation_id=operation)
    if isinstance(found, Response):
        return found
    view, new = found
    response.status_code = 201 if new else 200
    return view


@routes.get("/migrations/current", READER, "migrate status", response_model=MigrationView)
def show_migration(db: Library) -> MigrationView:
    """Where the migration stands that was started last, and what to do next."""
    return _newest(db)


@routes.post("/migrations/current/pause", OPERATOR, "migrate pause", response_model=MigrationView)
def pause_migration(given: Said, db: Library) -> MigrationView:
    """Leave what is queued for the target in the queue."""
    with because(given.why):
        return db.pause(actor().why or "")


@routes.post("/migrations/current/resume", OPERATOR, "migrate resume", response_model=MigrationView)
def resume_migration(given: Said, db: Library) -> MigrationView:
    """Let a paused migration go on."""
    with because(given.why):
        return db.resume()


@routes.post("/migrations/current/first", OPERATOR, "migrate start", response_model=Count)
def put_first(given: Ahead, db: Library) -> Count:
    """Let a part of what is queued go before the rest."""
    listed = None if given.recordings is None else tuple(given.recordings)
    return Count(recordings=db.migrator.first(First(given.share, given.library, listed)))


@routes.post("/migrations/current/retry", OPERATOR, "migrate retry", response_model=Count)
def retry_failed(given: Chosen, db: Library) -> Count:
    """Queue failed recordings of every live generation again: all of them, or those that are chosen."""
    count = db.retry(code=given.code, library=given.library, listed=given.recordings, why=given.why)
    return Count(recordings=count)


@routes.post("/migrations/current/waive", OPERATOR, "migrate waive", response_model=Count)
def waive_failed(given: Waived, db: Library) -> Count:
    """Let failed recordings be missing from the target, on a person's word."""
    count = db.waive(why=given.why, code=given.code, library=given.library, listed=given.recordings)
    return Count(recordings=count)


@routes.post("/migrations/current/cancel", ADMIN, "migrate cancel", response_model=MigrationView)
def cancel_migration(given: Said, db: Library) -> MigrationView:
    """End a migration that was not finalized. Embeddings are kept, and a new start uses them."""
    with because(given.why):
        return db.cancel()


@routes.post("/migrations/current/check", OPERATOR, "migrate finalize", response_model=GateReport, responses=ACCEPTED)
async def check_gates(request: Request, db: Library, wait: Wait = 30, operation: OperationId = None) -> Any:
    """Measure the gates, and swap nothing."""
    return await at_length(request, "migrate check", None, db.check_gates, wait=wait, operation_id=operation)


@routes.post("/migrations/current/finalize", ADMIN, "migrate finalize", response_model=SwapReport, responses=ACCEPTED)
async def finalize_migration(
    given: Said, request: Request, db: Library, wait: Wait = 30, operation: OperationId = None
) -> Any:
    """Prove the target, and let it serve. 409 `gate-failed` names what is not proven; then nothing changed."""

    def run() -> SwapReport:
        with because(given.why):
            return db.finalize()

    return await at_length(request, "migrate finalize", None, run, wait=wait, operation_id=operation)


@routes.post("/migrations/current/rollback", ADMIN, "migrate rollback", response_model=SwapReport, responses=ACCEPTED)
async def roll_back_migration(
    given: RollBack,
    request: Request,
    db: Library,
    wait: Wait = 30,
    operation: OperationId = None,
) -> Any:
    """Let the source serve again. Where it lacks speakers, `accept_lag` says that this is known."""

    def run() -> SwapReport:
        view = _newest(db)
        if view.state == "finalized" and view.source_lag > given.accept_lag:
            raise NotConfirmed(
                f"{view.source} lacks {view.source_lag:,} speakers, which could not be found after a roll-back.",
                hint=f"Let `accept_lag` be {view.source_lag} or more, or wait until the source has them.",
                source_lag=view.source_lag,
            )
        with because(given.why):
            return db.rollback(now=given.now)

    asked = (given.now, given.accept_lag)
    return await at_length(request, "migrate rollback", asked, run, wait=wait, operation_id=operation)


@routes.post("/migrations/current/retire", ADMIN, "migrate retire", response_model=MigrationView)
def retire_source(given: Retire, db: Library) -> MigrationView:
    """End the roll-back period: the source's index is dropped. There is no roll-back after that."""
    with because(given.why):
        return db.retire(purge=given.purge)


def _newest(db: SpeakerDB) -> MigrationView:
    found = db.migration()
    if found is None:
        raise NotFound("There has been no migration.", hint="Start one: POST /v1/migrations.")
    return found
