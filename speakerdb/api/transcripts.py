"""Transcripts: what was said in a recording, kept as it was given and shown with the speakers of now; words counted."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request, Response
from pydantic import Field, model_validator

from speakerdb.api.parts import (
    ACCEPTED,
    Cursor,
    Given,
    Id,
    IfMatch,
    Library,
    LibraryName,
    Limit,
    OfLibrary,
    OperationId,
    Page,
    Text,
    Wait,
    at_length,
    because,
    if_match,
    page_of,
    place_of,
    tagged,
)
from speakerdb.api.route import Routes
from speakerdb.catalog import transcripts as kept
from speakerdb.core.texts import MAX_ID_LENGTH
from speakerdb.people.naming import MAX_WHY_LENGTH
from speakerdb.reports.access import Role
from speakerdb.reports.transcripts import TranscriptRemoved, TranscriptReport, TranscriptView, WordsReport
from speakerdb.transcripts import LONGEST_PHRASE, MOST_FILLERS, SUFFIX_OF_TYPE, Whose, text_of

routes = Routes("transcripts")

OPERATOR, READER = Role.OPERATOR, Role.READER
TYPES = {"srt": "application/x-subrip", "vtt": "text/vtt", "text": "text/plain"}

WRITTEN: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "As it was asked for.",
        "content": {kind: {"schema": {"type": "string"}} for kind in TYPES.values()},
    }
}
SENT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"description": "Of WhisperX, faster-whisper or WhisperLive."}},
            "text/vtt": {"schema": {"type": "string"}},
            "application/x-subrip": {"schema": {"type": "string"}},
        },
    }
}
"""For the OpenAPI document: the body is the transcriber's file, as it is."""

EntityId = Annotated[Text | None, Field(min_length=1, max_length=MAX_ID_LENGTH)]


class WordsAsked(Given):
    """Whose words are counted: at most one of the three; all where none is given."""

    speaker: EntityId = None
    profile: EntityId = None
    library: LibraryName | None = None
    top: Annotated[int, Field(ge=1, le=1000)] = 20
    phrases: Annotated[int | None, Field(ge=2, le=LONGEST_PHRASE, description="Phrases of so many words too.")] = None
    fillers: Annotated[
        list[Annotated[Text, Field(min_length=1, max_length=200)]] | None,
        Field(max_length=MOST_FILLERS, description="What counts as a filler, instead of the English ones."),
    ] = None

    @model_validator(mode="after")
    def _one_at_most(self) -> WordsAsked:
        if sum(each is not None for each in (self.speaker, self.profile, self.library)) > 1:
            raise ValueError("give at most one of speaker, profile and library")
        return self


async def _body(request: Request) -> bytes:
    return await request.body()


@routes.put(
    "/recordings/{recording}/transcript", OPERATOR, "label", body="transcript", response_model=TranscriptReport,
    openapi_extra=SENT,
)  # fmt: skip
def keep_transcript(
    recording: Id,
    request: Request,
    db: Library,
    response: Response,
    sent: Annotated[bytes, Depends(_body)],
    keep: Annotated[bool, Query(description="`false`: only say whose words they are; nothing is kept.")] = True,
    why: Annotated[str | None, Query(max_length=MAX_WHY_LENGTH)] = None,
    if_match_header: IfMatch = None,
) -> TranscriptReport:
    """Give a recording its transcript: the file of a transcriber is the body, as it is. The same again changes nothing."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    with tagged(response, db, kept.version, recording):
        shown = db.transcripts.label(recording, text_of(sent), SUFFIX_OF_TYPE.get(kind, ""))
        if keep:
            with because(why), if_match(if_match_header, kept.version, recording):
                shown = db.transcripts.keep(shown)
        return shown.report


@routes.get(
    "/recordings/{recording}/transcript", READER, "transcripts show", response_model=dict[str, Any], responses=WRITTEN
)
def show_transcript(
    recording: Id,
    db: Library,
    form: Annotated[Literal["json", "srt", "vtt", "text"], Query(description="How it is written.")] = "json",
    words: Annotated[bool, Query(description="JSON: each word with its time and its speaker too.")] = False,
) -> Any:
    """A recording's transcript with the speakers, names and turns of now. Its `ETag` stands for what was given."""
    answer = Response(media_type=TYPES.get(form, "application/json"))
    with tagged(answer, db, kept.version, recording):
        answer.body = answer.render(db.transcripts.show(recording).written(form, words=words))
    answer.headers["Content-Length"] = str(len(answer.body))
    return answer


@routes.delete("/recordings/{recording}/transcript", OPERATOR, "transcripts remove", response_model=TranscriptRemoved)
def remove_transcript(
    recording: Id,
    db: Library,
    why: Annotated[str | None, Query(max_length=MAX_WHY_LENGTH)] = None,
    if_match_header: IfMatch = None,
) -> TranscriptRemoved:
    """Forget what was said in a recording. The recording stays."""
    with because(why), if_match(if_match_header, kept.version, recording):
        return db.transcripts.remove(recording)


@routes.get("/transcripts", READER, "transcripts list", response_model=Page[TranscriptView])
def list_transcripts(
    db: Library, library: OfLibrary = None, limit: Limit = 100, cursor: Cursor = None
) -> Page[TranscriptView]:
    """The recordings of a library, or of all, that have a transcript, by id."""
    place = place_of(cursor, "transcripts", str)
    part = db.transcripts.page(library_name=library, after="" if place is None else place[0], limit=limit)
    return page_of(part, "transcripts")


@routes.post("/transcripts/words", READER, "transcripts words", response_model=WordsReport, responses=ACCEPTED)
async def count_words(
    given: WordsAsked, request: Request, db: Library, wait: Wait = 30, operation: OperationId = None
) -> Any:
    """Count words where there are transcripts: the most frequent ones, phrases, fillers, and words a minute."""

    def run() -> WordsReport:
        whose = Whose(given.speaker, given.profile, given.library)
        return db.transcripts.words(whose, top=given.top, phrase_length=given.phrases, fillers=given.fillers)

    return await at_length(request, "transcripts words", given.model_dump(), run, wait=wait, operation_id=operation)
