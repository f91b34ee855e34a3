"""Errors as `application/problem+json`: of our error tree, of what was given, of the door itself, and of what nobody foresaw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from speakerdb.errors import InvalidInput, SpeakerDBError
from speakerdb.reports import as_json

MEDIA_TYPE = "application/problem+json"
MOST_FLAWS = 20
"""What was wrong with a body is told up to here."""


@dataclass(frozen=True, slots=True)
class Own:
    """A code of the API alone: nothing in the library raises it."""

    status: int
    title: str
    hint: str


OWN: Mapping[str, Own] = {
    "bad-request": Own(400, "The request cannot be read.", "Mend its address or its body, and send it again."),
    "unauthenticated": Own(
        401,
        "No token was given, or it is unknown, expired or revoked.",
        "Send `Authorization: Bearer SECRET`; a secret is made with `speakerdb token create`.",
    ),
    "forbidden": Own(
        403, "The token's role does not allow this.", "Ask with a token of the role that `details` names."
    ),
    "loopback-only": Own(
        403,
        "While there is no token, only programs on the same machine are served, and only by a loopback name.",
        "Make a token with `speakerdb token create`, or ask for 127.0.0.1 from the machine itself, without a proxy.",
    ),
    "foreign-origin": Own(
        403, "A web page of another origin asks.", "Name its origin in the setting `api.cors_origins`, if it may."
    ),
    "no-such-route": Own(404, "There is no such address.", "The addresses are listed in /v1/openapi.json."),
    "method-not-allowed": Own(
        405, "The address does not know this method.", "The header `Allow` names those that it knows."
    ),
    "slow-body": Own(408, "The body did not come in time.", "Send it again over a faster line."),
    "too-large": Own(413, "The body is larger than it may be.", "The limits are settings: `api.body_mb` and its like."),
    "internal": Own(
        500, "A bug in speakerdb.", "Report it with the request's id; its line in the log says where it arose."
    ),
    "stopping": Own(
        503,
        "The server ends before it could answer.",
        "Ask again. What was asked may have been done, or not: with an id of your own it is safe to repeat.",
    ),
    "busy": Own(503, "Too many requests at once.", "Wait as long as the header `Retry-After` says, and ask again."),
}


class ProblemDetails(BaseModel):
    """What went wrong (RFC 9457). Decide by `code`, never by text."""

    type: str = Field(description="`urn:speakerdb:error:` and the code.")
    title: str = Field(description="What the code means, the same each time.")
    status: int
    detail: str = Field(description="What went wrong this time.")
    code: str = Field(description="The same word as on the command line and in SQL.")
    hint: str = Field(description="What to do next.")
    details: dict[str, Any] = Field(description="Data for machines.")
    instance: str = Field(description="The request's id, as in the header `X-Request-Id` and in the log.")


class Refusal(Exception):
    """The door, or a route, refuses with a code of its own."""

    def __init__(
        self, code: str, detail: str | None = None, headers: Mapping[str, str] | None = None, **details: Any
    ) -> None:
        own = OWN[code]
        super().__init__(detail or own.title)
        self.code = code
        self.status = own.status
        self.detail = detail or own.title
        self.headers = dict(headers or {})
        self.details = details


def of_error(error: Exception) -> ProblemDetails | None:
    """The problem of an error, without the request's id; None for one that nobody foresaw."""
    if isinstance(error, SpeakerDBError):
        title = " ".join((type(error).__doc__ or "").partition("\n\n")[0].split())
        return _problem(error.code, title, error.http_status, error.message, error.hint, error.details)
    if isinstance(error, Refusal):
        own = OWN[error.code]
        return _problem(error.code, own.title, own.status, error.detail, own.hint, error.details)
    if isinstance(error, RequestValidationError):
        flaws = [_flaw(each) for each in error.errors()[:MOST_FLAWS]]
        first = (
            f"{'.'.join(map(str, flaws[0]['where']))}: {flaws[0]['what']}" if flaws else "What was given is malformed."
        )
        invalid = InvalidInput(first, errors=flaws)
        return of_error(invalid)
    if isinstance(error, HTTPException):
        code = {404: "no-such-route", 405: "method-not-allowed", 413: "too-large"}.get(error.status_code, "bad-request")
        return of_error(Refusal(code))
    return None


def internal() -> ProblemDetails:
    """The problem of an error that nobody foresaw: nothing of it is told."""
    own = OWN["internal"]
    return _problem("internal", own.title, own.status, own.title, own.hint, {})


def response_of(error: Exception, request_id: str) -> Response:
    """The answer to an error."""
    problem = of_error(error) or internal()
    headers = dict(getattr(error, "headers", None) or {})
    if problem.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="speakerdb"'
    if problem.status == 503:
        headers.setdefault("Retry-After", "1")
    return Response(
        orjson.dumps(problem.model_dump() | {"instance": request_id}, default=str),
        problem.status,
        headers,
        MEDIA_TYPE,
    )


def _problem(code: str, title: str, status: int, detail: str, hint: str, details: Mapping[str, Any]) -> ProblemDetails:
    return ProblemDetails(
        type=f"urn:speakerdb:error:{code}", title=title, status=status, detail=_text(detail), code=code, hint=_text(hint),
        details=_plain(as_json(dict(details))), instance="",
    )  # fmt: skip


def _flaw(found: Mapping[str, Any]) -> dict[str, Any]:
    """One thing that is wrong with what was given. The value itself is not repeated: it may be anything, and large."""
    where = [_text(str(each))[:200] for each in found.get("loc", ())]
    return {"where": where, "what": _text(str(found.get("msg", "")))[:500], "kind": str(found.get("type", ""))}


def _text(text: str) -> str:
    """A text that can be sent."""
    return text.encode("utf-8", "replace").decode()


def _plain(value: Any) -> Any:
    """Details as data that can be sent: what is no plain data is told as text."""
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {_text(str(key)): _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence):
        return [_plain(each) for each in value]
    return _text(str(value))
