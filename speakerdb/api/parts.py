"""Small parts that many routes use: the library, ids, texts, pages, versions, and verbs that take long."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Annotated, Any, Generic, TypeVar

import anyio
from fastapi import Depends, Header, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from starlette.responses import JSONResponse

from speakerdb.api.callers import Caller
from speakerdb.api.door import SLASH, log_unexpected
from speakerdb.api.house import House, house_of
from speakerdb.api.operations import Operation, OperationView
from speakerdb.catalog.conditions import looking, only_if
from speakerdb.catalog.database import Transaction, can_hold
from speakerdb.catalog.journal import Actor, acting, actor
from speakerdb.core.texts import MAX_ID_LENGTH, MAX_NAME_LENGTH
from speakerdb.errors import InvalidInput, VersionConflict
from speakerdb.people.naming import MAX_WHY_LENGTH, checked_why
from speakerdb.reports import as_json
from speakerdb.reports.recordings import Part
from speakerdb.service import SpeakerDB

Item = TypeVar("Item")
MOST_ON_A_PAGE = 500
MOST_SECONDS_WAITED = 60
LARGEST = 2**63 - 1
"""A database counts no further."""


async def _house(request: Request) -> House:
    return house_of(request)


async def _library(request: Request) -> SpeakerDB:
    return house_of(request).db


async def _caller(request: Request) -> Caller:
    found: Caller = request.state.caller
    return found


HouseOf = Annotated[House, Depends(_house)]
Library = Annotated[SpeakerDB, Depends(_library)]
CallerOf = Annotated[Caller, Depends(_caller)]


def _whole(given: str) -> str:
    """An id as it was meant: a slash in it was sent as %2F."""
    return given.replace(SLASH, "/")


def _storable(given: str) -> str:
    if not can_hold(given):
        raise ValueError("a text holds a character that cannot be stored")
    return given


Text = Annotated[str, AfterValidator(_storable)]
Id = Annotated[
    str,
    Path(
        min_length=1,
        max_length=MAX_ID_LENGTH,
        description="An id; one that speakerdb made may be shortened. A slash in it is sent as %2F.",
    ),
    AfterValidator(_whole),
]
GivenId = Annotated[
    Text | None,
    Field(
        min_length=1,
        max_length=MAX_ID_LENGTH,
        description="An id of your choice, which makes the request safe to repeat.",
    ),
]
Name = Annotated[Text, Field(min_length=1, max_length=MAX_NAME_LENGTH)]
LibraryName = Annotated[Text, Field(min_length=1, max_length=MAX_NAME_LENGTH, description="A library's name.")]
OfLibrary = Annotated[str | None, Query(max_length=MAX_NAME_LENGTH, description="Only of this library.")]
Limit = Annotated[int, Query(ge=1, le=MOST_ON_A_PAGE, description="How many at most.")]
Rows = Annotated[int, Query(ge=0, le=1000, description="At most so many rows of each list.")]
Cursor = Annotated[str | None, Query(max_length=4000, description="`next` of the page before.")]
DryRun = Annotated[bool, Query(description="Only say what would happen.")]
IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=1000,
        description="Change it only while it has this `ETag`; else 412 (`version-conflict`).",
    ),
]


class Given(BaseModel):
    """What a request brings. What is not known is refused: it may be a spelling mistake of what is."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _only_text_that_can_be_kept(cls, given: Any) -> Any:
        if isinstance(given, dict) and not all(can_hold(name) for name in given if isinstance(name, str)):
            raise ValueError("a name holds a character that cannot be stored")
        return given


class Said(Given):
    """Something that is done, and why."""

    why: Annotated[
        Text | None, Field(max_length=MAX_WHY_LENGTH, description="Why; kept in the events. `X-Why` says it too.")
    ] = None


@contextmanager
def because(why: str | None) -> Iterator[None]:
    """In this block the events have this reason, where one was given."""
    said = checked_why(why)
    now = actor()
    with acting(now if said is None else Actor(now.who, now.source, said)):
        yield


# Pages


class Page(BaseModel, Generic[Item]):
    """A part of a list."""

    items: list[Item]
    next: Annotated[str | None, Field(description="Give it as `cursor` for what comes next; null on the last page.")]


def page_of(part: Part[Item], kind: str) -> Page[Item]:
    """A page, with a cursor that only a list of this kind takes."""
    if part.place is None:
        return Page(items=list(part.items), next=None)
    text = json.dumps([kind, *part.place], separators=(",", ":"))
    return Page(items=list(part.items), next=base64.urlsafe_b64encode(text.encode()).decode().rstrip("="))


def place_of(cursor: str | None, kind: str, *types: type) -> tuple[Any, ...] | None:
    """The place that a cursor names. `InvalidInput` for one that this list did not give."""
    if cursor is None:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
        name, *place = found
        right = name == kind and len(place) == len(types)
        right = right and all(type(each) is wanted for each, wanted in zip(place, types, strict=True))
    except (ValueError, TypeError, RecursionError):
        right = False
    if not right or any(isinstance(each, str) and not can_hold(each) for each in place):
        raise InvalidInput("The cursor was not given by this list.", hint="Give `next` of the page before, as it is.")
    if any(isinstance(each, int) and abs(each) > LARGEST for each in place):
        raise InvalidInput("The cursor was not given by this list.")
    return tuple(place)


# Versions


@contextmanager
def tagged(
    response: Response, db: SpeakerDB, version: Callable[[Transaction, str], str], entity: str, *, new: bool = False
) -> Iterator[None]:
    """A block that sends the version of a thing as its `ETag`: as it was before it is read here, or as a change here leaves it.

    Never a later one: what somebody else writes meanwhile is not in the answer, and must not be changed unseen. With `new`
    the thing may be made here.
    """

    def tag(tx: Transaction) -> None:
        response.headers["ETag"] = f'"{version(tx, entity)}"'

    if not new:
        with db.catalog.read() as tx:
            tag(tx)
    with looking(tag):
        yield


def if_match(given: str | None, version: Callable[[Transaction, str], str], entity: str) -> Any:
    """A block whose first change is made only while the thing has one of the versions that `If-Match` names."""
    if given is None or given.strip() == "*":
        return nullcontext()
    wanted = {tag.strip() for tag in given.split(",")}

    def check(tx: Transaction) -> None:
        now = f'"{version(tx, entity)}"'
        if now not in wanted:
            raise VersionConflict(f"{entity} has changed since it was read; nothing was written.", version=now)

    return only_if(check)


# What takes long

Wait = Annotated[
    float,
    Query(
        ge=0, le=MOST_SECONDS_WAITED,
        description="Seconds to wait for the end. What takes longer goes on, and is answered with 202 and its address.",
    ),
]  # fmt: skip
OperationId = Annotated[
    str | None,
    Query(
        min_length=1, max_length=MAX_ID_LENGTH, pattern=r"^[A-Za-z0-9._-]+$",
        description="An id of your choice for the operation, which makes the request safe to repeat.",
    ),
]  # fmt: skip


ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"model": OperationView, "description": "It goes on; ask the address in `Location`."}
}
"""For the OpenAPI document of a route that takes long."""


def known_generation(db: SpeakerDB, name: str | None) -> None:
    """`InvalidInput` for the name of a generation that is not defined."""
    if name is not None and name not in db.generations:
        raise InvalidInput(f"There is no generation {name!r}.", hint=f"Known are: {', '.join(sorted(db.generations))}.")


async def at_length(
    request: Request, verb: str, asked: object, run: Callable[[], Any], *, wait: float, operation_id: str | None
) -> Any:
    """Run it as an operation. Its answer, or raised its error, where it ends within `wait` seconds; else 202."""
    house = house_of(request)
    caller: Caller = request.state.caller
    one = house.operations.begin(
        verb, asked, run, who=caller.who, operation_id=operation_id, on_bug=lambda error: log_unexpected(request.scope, error)
    )  # fmt: skip
    with anyio.move_on_after(wait):
        await one.done.wait()
    return answer_of(one)


def answer_of(one: Operation) -> Any:
    """What came of an operation, or 202."""
    if one.ended_at is None:
        headers = {"Location": f"/v1/operations/{one.id}", "Retry-After": "2"}
        return JSONResponse(as_json(one.view()), 202, headers)
    if one.error is not None:
        raise one.error
    return one.result
