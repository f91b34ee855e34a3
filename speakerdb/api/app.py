"""The application: every route, the door around them, and the OpenAPI document."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import Match

from speakerdb import __version__, metrics
from speakerdb.api import (
    diarizing,
    health,
    keys,
    matches,
    media,
    migrations,
    profiles,
    progress,
    recordings,
    repairs,
    seeing,
    serving,
    speakers,
    statistics,
    transcripts,
    uploads,
)
from speakerdb.api.door import Door, note_of
from speakerdb.api.house import House, Readiness
from speakerdb.api.problems import MEDIA_TYPE, of_error, response_of
from speakerdb.api.route import Routes
from speakerdb.service import SpeakerDB

PREFIX = "/v1"
NOUNS: tuple[Routes, ...] = (
    recordings.routes, diarizing.routes, uploads.routes, speakers.routes, profiles.routes, transcripts.routes,
    statistics.routes, matches.routes, migrations.routes, progress.routes, repairs.routes, serving.routes, media.routes,
    seeing.routes, keys.routes, health.routes,
)  # fmt: skip
SPARE_THREADS = 16
"""Beside those of the turns."""

_ABOUT = """The voices of a media library over HTTP.

Send `Authorization: Bearer SECRET` with a token's secret. Every error is `application/problem+json` with a `code`. Lists
come in pages: give `next` as `cursor`. What was read has an `ETag`; give it as `If-Match` to change it only while it is so."""


def create_app(db: SpeakerDB, *, service: Readiness | None = None) -> FastAPI:
    """The HTTP API of an open library; the caller closes the library. With the service process, `/v1/ready` asks it."""
    house = House(db, service)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = max(limiter.total_tokens, house.settings.threads + SPARE_THREADS)
        uploads.clear_partial(house)
        yield
        house.close()

    app = FastAPI(
        title="speakerdb",
        version=__version__,
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        middleware=_middleware(db),
    )
    app.state.house = house
    for noun in NOUNS:
        noun.add_to(app, PREFIX)
    health.outside.add_to(app, "")
    progress.add_socket(app)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _refused)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _middleware(db: SpeakerDB) -> list[Middleware]:
    found = [Middleware(Door, metrics=metrics.of(db))]
    if origins := db.settings.api.cors_origins:
        found.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(origins),
                allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
                allow_headers=["Authorization", "Content-Type", "If-Match", "X-Why", "X-Request-Id"],
                expose_headers=["ETag", "Location", "Retry-After", "X-Request-Id"],
            )
        )
    return found


async def _refused(request: Request, error: Exception) -> Response:
    """What no route answered: an address or a method that is not there."""
    note = note_of(request.scope)
    problem = of_error(error)
    note.code = "-" if problem is None else problem.code
    answer = response_of(error, note.id)
    if answer.status_code == 405:
        answer.headers["Allow"] = ", ".join(sorted(_allowed(request)))
    return answer


def _allowed(request: Request) -> set[str]:
    """The methods of an address: each is a route of its own."""
    found: set[str] = set()
    for route in request.app.router.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found | {"HEAD"} if "GET" in found else found


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The document, made once: with the security scheme, and errors in their own media type."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    document = FastAPI.openapi(app)
    document["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "A secret that `speakerdb token create` printed."}
    }
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["security"] = [] if operation["x-role"] == "anyone" else [{"token": []}]
            operation["responses"].pop("422", None)
            errors = operation["responses"]["default"]
            errors["content"] = {MEDIA_TYPE: errors["content"]["application/json"]}
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    app.openapi_schema = document
    return document
