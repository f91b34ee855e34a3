"""A route: who may use it, what on the command line it stands for, and how large its body may be.

All of it stands in the OpenAPI document too (`x-role`, `x-verbs`, `x-body`). The order in a request: who asks, may they,
the body (bounded in size and time), a turn, the use case.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

import anyio
from fastapi import FastAPI, Request, Response
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from fastapi.params import Query
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from speakerdb.api import callers
from speakerdb.api.door import log_unexpected, note_of
from speakerdb.api.house import actor_of, house_of
from speakerdb.api.problems import ProblemDetails, Refusal, internal, of_error, response_of
from speakerdb.catalog.journal import acting
from speakerdb.errors import InvalidInput, SpeakerDBError
from speakerdb.people.naming import checked_why
from speakerdb.reports.access import Role

Body = Literal["none", "json", "turns", "transcript", "upload", "clip"]
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

SLOWEST = 16 * 1024
"""Bytes a second. A body that is longer than its time allows may take as long as this line takes for it."""
CHUNKED_READ = frozenset({"upload", "clip"})
"""Bodies that the route reads itself, piece by piece."""
BYTES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""For the OpenAPI document of such a route."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A route as its file declares it."""

    method: str
    path: str
    endpoint: Callable[..., Any]
    options: dict[str, Any]


@dataclass(slots=True)
class Routes:
    """The routes of one noun."""

    noun: str
    declared: list[Declared] = field(default_factory=list)
    scraped: bool = False
    """They answer while all else waits: they have turns of their own, and who asks is remembered."""

    def get(self, path: str, role: Role | None, *verbs: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        """A route that only reads. `verbs` are the commands that it stands for."""
        return self._declare("GET", path, role, verbs, "none", options)

    def post(
        self, path: str, role: Role, *verbs: str, body: Body = "json", **options: Any
    ) -> Callable[[Endpoint], Endpoint]:
        """A route that makes, or does."""
        return self._declare("POST", path, role, verbs, body, options)

    def put(
        self, path: str, role: Role, *verbs: str, body: Body = "json", **options: Any
    ) -> Callable[[Endpoint], Endpoint]:
        """A route that replaces."""
        return self._declare("PUT", path, role, verbs, body, options)

    def patch(
        self, path: str, role: Role, *verbs: str, body: Body = "json", **options: Any
    ) -> Callable[[Endpoint], Endpoint]:
        """A route that changes what is given and leaves the rest."""
        return self._declare("PATCH", path, role, verbs, body, options)

    def delete(self, path: str, role: Role, *verbs: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        """A route that removes."""
        return self._declare("DELETE", path, role, verbs, "none", options)

    def _declare(
        self, method: str, path: str, role: Role | None, verbs: Sequence[str], body: Body, options: dict[str, Any]
    ) -> Callable[[Endpoint], Endpoint]:
        extra = {"x-role": "anyone" if role is None else role.value, "x-verbs": list(verbs), "x-body": body}

        def declare(endpoint: Endpoint) -> Endpoint:
            given = {"openapi_extra": extra | options.pop("openapi_extra", {})} | options
            self.declared.append(Declared(method, path, endpoint, given))
            return endpoint

        return declare

    def add_to(self, app: FastAPI, prefix: str) -> None:
        """Register all of them."""
        for each in self.declared:
            responses: dict[int | str, dict[str, Any]] = {
                "default": {"model": ProblemDetails, "description": "What went wrong."}
            }
            if each.options.get("status_code") == 201:
                again = {"model": each.options["response_model"], "description": "It is there already, exactly so."}
                responses[200] = again
            app.router.add_api_route(
                prefix + each.path,
                each.endpoint,
                methods=[each.method],
                tags=[self.noun],
                operation_id=each.endpoint.__name__,
                route_class_override=Scraped if self.scraped else Route,
                responses=responses | each.options.get("responses", {}),
                **{name: value for name, value in each.options.items() if name != "responses"},
            )


class Route(APIRoute):
    """Lets a request through to its use case, and answers its errors."""

    scraped: ClassVar[bool] = False

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        extra = self.openapi_extra or {}
        role = None if extra["x-role"] == "anyone" else Role(extra["x-role"])
        body: Body = extra["x-body"]
        blocks = not inspect.iscoroutinefunction(self.endpoint)
        given = get_flat_params(self.dependant)
        known = frozenset(each.alias for each in given if isinstance(each.field_info, Query))

        async def guarded(request: Request) -> Response:
            try:
                return await _enter(request, handle, role, body, known, blocks=blocks, scraped=self.scraped)
            except ClientDisconnect:
                return Response(status_code=400)  # nobody is there to read it
            except (SpeakerDBError, Refusal, RequestValidationError, HTTPException) as error:
                problem = of_error(error)
                note_of(request.scope).code = "-" if problem is None else problem.code
                return response_of(error, note_of(request.scope).id)
            except Exception as error:  # noqa: BLE001 - the last door: nothing of it is told, and the log says where it arose
                log_unexpected(request.scope, error)
                note_of(request.scope).code = internal().code
                return response_of(error, note_of(request.scope).id)

        return guarded


class Scraped(Route):
    """A route of `Routes.scraped`."""

    scraped = True


async def _enter(
    request: Request,
    handle: Callable[[Request], Coroutine[Any, Any, Response]],
    role: Role | None,
    body: Body,
    known: frozenset[str],
    *,
    blocks: bool,
    scraped: bool,
) -> Response:
    if role is None:
        return await handle(request)
    house = house_of(request)
    caller = await (house.scraper(request) if scraped else house.caller(request))
    callers.require(caller, role)
    request.state.caller = caller
    _check_query(request, known)
    _check_type(request, body)
    with acting(actor_of(caller, _why(request))):
        if body in CHUNKED_READ:
            return await handle(request)
        if body != "none":
            limit = house.settings.turns_mb if body in ("turns", "transcript") else house.settings.body_mb
            pieces = [piece async for piece in bounded(request, limit)]
            request._body = b"".join(pieces)  # where Starlette keeps a body that was read
        if not blocks:
            return await handle(request)  # it takes its turns itself
        async with house.turns.one():
            return await handle(request)


async def bounded(request: Request, megabytes: float) -> AsyncIterator[bytes]:
    """The pieces of a body. `Refusal` where it is too large (`too-large`), or does not come in time (`slow-body`)."""
    limit = int(megabytes * 1_000_000)
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > limit:
        raise _too_large(limit)
    seconds = house_of(request).settings.body_seconds
    begun = anyio.current_time()
    stream = request.stream()
    received = 0
    while True:
        allowed = begun + seconds + received / SLOWEST - anyio.current_time()
        try:
            with anyio.fail_after(max(0.0, min(seconds, allowed))):
                piece = await anext(stream, None)
        except TimeoutError:
            raise Refusal("slow-body", headers={"Connection": "close"}) from None
        if piece is None:
            return
        received += len(piece)
        if received > limit:
            raise _too_large(limit)
        if piece:
            yield piece


def _check_query(request: Request, known: frozenset[str]) -> None:
    """`InvalidInput` for a parameter that the route does not know: a misspelt `dry_run` must not remove anything."""
    for name in request.query_params:
        if name not in known:
            there = f"It knows: {', '.join(sorted(known))}." if known else "It knows none."
            raise InvalidInput(f"This address knows no parameter {name!r}.", hint=there)


def _check_type(request: Request, body: Body) -> None:
    """`InvalidInput` for a body that is sent as something else than what is read from it."""
    sent = request.headers.get("content-type", "").partition(";")[0].strip()
    if (body in CHUNKED_READ or body == "transcript") and sent.startswith("multipart/"):
        raise InvalidInput("A form was sent, and the file's bytes are wanted.", hint="Let the file itself be the body.")
    if body in ("json", "turns") and sent and not sent.endswith(("/json", "+json")):
        raise InvalidInput(
            f"The body is sent as {sent!r}, and JSON is wanted.", hint="Send it with Content-Type: application/json."
        )


def _too_large(limit: int) -> Refusal:
    return Refusal(
        "too-large", f"The body may have at most {limit:,} bytes.", headers={"Connection": "close"}, limit=limit
    )


def _why(request: Request) -> str | None:
    """What the header `X-Why` says, in UTF-8. `InvalidInput` for what cannot be kept."""
    given = request.headers.get("x-why")
    if given is None:
        return None
    return checked_why(given.encode("latin-1").decode("utf-8", "replace"))
