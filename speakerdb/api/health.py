"""Liveness, readiness, metrics, and the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

import anyio
from fastapi import Request, Response

from speakerdb import __version__, metrics
from speakerdb.api.house import house_of
from speakerdb.api.parts import Given
from speakerdb.api.problems import Refusal
from speakerdb.api.route import Routes
from speakerdb.errors import SpeakerDBError
from speakerdb.reports.access import Role
from speakerdb.types import SERVING_ALIAS

PATIENCE_SECONDS = 1.0
"""For so long readiness waits for the database to say who asks: it may be the one that does not answer."""

routes = Routes("health")
outside = Routes("health", scraped=True)
"""What does not stand under /v1."""


class Alive(Given):
    """The process answers."""

    status: Literal["alive"] = "alive"
    version: str


class Ready(Given):
    """Whether questions can be answered here. `reasons` are told to whoever may ask questions."""

    status: Literal["ready", "not-ready"]
    reasons: list[str]


@routes.get("/health", None, response_model=Alive)
async def show_health() -> Alive:
    """Liveness: the process answers. It looks at nothing; restart it where this fails."""
    return Alive(version=__version__)


@routes.get("/ready", None, response_model=Ready, responses={503: {"model": Ready, "description": "Send nobody here."}})
async def show_readiness(request: Request, response: Response) -> Ready:
    """Readiness: the database and the index answer. Where not, send questions to another replica, and restart nothing."""
    house = house_of(request)
    if house.service is not None:
        ready, reasons = house.service.ready()
    else:
        ready, reasons = await house.call(_look, house.db)
    if reasons:
        try:
            with anyio.fail_after(PATIENCE_SECONDS):
                await house.caller(request, abandon=True)
        except (Refusal, SpeakerDBError, TimeoutError):
            reasons = []
    response.status_code = 200 if ready else 503
    return Ready(status="ready" if ready else "not-ready", reasons=reasons)


@outside.get(
    "/metrics", Role.READER, response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus's text format."}},
)  # fmt: skip
async def show_metrics(request: Request) -> Response:
    """Metrics for Prometheus. They name no person, no file and no path of a request."""
    house = house_of(request)
    text = await house.call(metrics.render, house.db, turns=house.scrapes)
    return Response(text, media_type=metrics.CONTENT_TYPE)


@routes.get("/openapi.json", None, response_model=dict[str, Any])
async def show_openapi(request: Request) -> Any:
    """This API as an OpenAPI document."""
    return request.app.openapi()


def _look(db: Any) -> tuple[bool, list[str]]:
    """Whether the database and the index answer, asked now."""
    try:
        db.serving.resolve(fresh=True)
        db.index.ping(SERVING_ALIAS)
        db.serving.live()
    except SpeakerDBError as error:
        return False, [f"{error.code}: {error.message}"]
    return True, []
