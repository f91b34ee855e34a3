"""Matches: who is this voice? By speaker, profile, vector or clip; or many speakers at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import Query, Request, Response
from pydantic import Field, model_validator

from speakerdb.api.house import House, house_of
from speakerdb.api.parts import Given, Library, LibraryName, Text
from speakerdb.api.route import BYTES, Routes
from speakerdb.api.uploads import Received, received
from speakerdb.core.texts import MAX_ID_LENGTH, MAX_NAME_LENGTH
from speakerdb.errors import InvalidInput, MediaError, SpeakerDBError
from speakerdb.reports import MatchResult
from speakerdb.reports.access import Role
from speakerdb.service import SpeakerDB
from speakerdb.types import Kind

routes = Routes("matches")

MOST_ANSWERS = 1000
MOST_AT_ONCE = 1000
MOST_ANSWERS_AT_ONCE = 50_000
"""Of all speakers of a request together: they are held in memory until they are sent."""
MOST_NUMBERS = 65_536

EntityId = Annotated[Text | None, Field(min_length=1, max_length=MAX_ID_LENGTH)]
Answers = Annotated[int, Field(ge=1, le=MOST_ANSWERS, description="How many answers at most.")]


class Question(Given):
    """Who is this? Exactly one of `speaker`, `profile` and `vector`."""

    speaker: EntityId = None
    profile: EntityId = None
    vector: Annotated[
        list[float] | None,
        Field(
            min_length=1,
            max_length=MOST_NUMBERS,
            description="Of the generation that answers; its length need not be 1.",
        ),
    ] = None
    k: Answers = 10
    kind: Kind = Kind.SPEAKER
    library: LibraryName | None = None
    generation: EntityId = None
    same_recording: bool = False

    @model_validator(mode="after")
    def _one_thing(self) -> Question:
        if sum(each is not None for each in (self.speaker, self.profile, self.vector)) != 1:
            raise ValueError("ask about exactly one of speaker, profile and vector")
        return self


class Questions(Given):
    """Who are these? One answer each, in their order."""

    speakers: Annotated[
        list[Annotated[Text, Field(min_length=1, max_length=MAX_ID_LENGTH)]],
        Field(min_length=1, max_length=MOST_AT_ONCE),
    ]
    k: Answers = 10
    kind: Kind = Kind.SPEAKER
    library: LibraryName | None = None
    same_recording: bool = False

    @model_validator(mode="after")
    def _not_too_many(self) -> Questions:
        if len(self.speakers) * self.k > MOST_ANSWERS_AT_ONCE:
            raise ValueError(f"at most {MOST_ANSWERS_AT_ONCE:,} answers in all: ask for fewer speakers, or a smaller k")
        return self


@routes.post("/matches", Role.READER, "match", response_model=MatchResult)
def match(given: Question, db: Library) -> Any:
    """Rank the voices most like a speaker, a profile or a vector."""
    vector = None if given.vector is None else _vector(given.vector)
    found = db.match(
        speaker=given.speaker,
        profile=given.profile,
        vector=vector,
        k=given.k,
        kind=given.kind,
        generation=live_generation(db, given.generation),
        library=given.library,
        same_recording=given.same_recording,
    )
    return _told(found)


@routes.post("/matches/many", Role.READER, "match", response_model=list[MatchResult])
def match_many(given: Questions, db: Library) -> Any:
    """One answer for each of many speakers, searched together."""
    found = db.match_many(
        given.speakers, k=given.k, kind=given.kind, library=given.library, same_recording=given.same_recording
    )
    return _told(found)


@routes.post(
    "/matches/clip", Role.READER, "match", body="clip", response_model=MatchResult,
    openapi_extra=BYTES,
)  # fmt: skip
async def match_clip(
    request: Request,
    k: Annotated[int, Query(ge=1, le=MOST_ANSWERS)] = 10,
    kind: Kind = Kind.SPEAKER,
    library: Annotated[str | None, Query(min_length=1, max_length=MAX_NAME_LENGTH)] = None,
    generation: Annotated[str | None, Query(min_length=1, max_length=MAX_ID_LENGTH)] = None,
) -> Any:
    """Rank the voices most like the one in an audio file: its bytes are the body. It is not kept."""
    house = house_of(request)
    async with received(request, house.settings.clip_mb) as file, house.models.one():
        return await house.call(_match_clip, house, file, k, kind, library, generation)


def _told(found: object) -> Response:
    """What the matcher made, as it is: it is ours, so it is not looked at once more, and not in another thread."""
    return Response(orjson.dumps(found), media_type="application/json")


def live_generation(db: SpeakerDB, name: str | None) -> str | None:
    """The name of a live generation, as it was given. `InvalidInput` for another one."""
    if name is not None and name not in (live := db.serving.live()):
        raise InvalidInput(f"There is no live generation {name!r}.", hint=f"Live are: {', '.join(live)}.")
    return name


def _match_clip(
    house: House, file: Received, k: int, kind: Kind, library: str | None, generation: str | None
) -> MatchResult:
    name = live_generation(house.db, generation)
    try:
        # A broken file may crash or hang whoever decodes it, so a process of its own tries it first.
        for found in house.opener.open([file.path]):
            if isinstance(found, SpeakerDBError):
                raise found
        answer = house.db.match(clip=file.path, k=k, kind=kind, library=library, generation=name)
    except MediaError as error:
        # Where it lies for now is nobody's business.
        raise type(error)(error.message.replace(str(file.path), "The clip"), hint=error.hint) from error
    return replace(answer, query="clip")


def _vector(given: list[float]) -> Any:
    with np.errstate(over="ignore"):  # what becomes infinite is refused by the matcher
        return np.asarray(given, dtype=np.float32)
