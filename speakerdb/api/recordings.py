"""Recordings: added by path below the media roots or from an upload, their turns, changed, removed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from fastapi import Query, Response
from pydantic import Field, model_validator

from speakerdb.api import uploads
from speakerdb.api.parts import (
    LARGEST,
    Cursor,
    DryRun,
    Given,
    GivenId,
    HouseOf,
    Id,
    IfMatch,
    Library,
    LibraryName,
    Limit,
    Name,
    OfLibrary,
    Page,
    Said,
    Text,
    because,
    if_match,
    page_of,
    place_of,
    tagged,
)
from speakerdb.api.route import Routes
from speakerdb.catalog import versions
from speakerdb.core.turns import turns_of_items
from speakerdb.diarizers.asked import Asked, Channels
from speakerdb.diarizers.port import MOST_SPEAKERS, Hints
from speakerdb.errors import InvalidInput, MediaForbidden, NeedsTurns
from speakerdb.ingest import Given as Entry
from speakerdb.ingest import Said as SaidOfVoice
from speakerdb.reports import RecordingView
from speakerdb.reports.access import Role
from speakerdb.reports.recordings import RecordingDetails, RecordingTurn
from speakerdb.service import SpeakerDB
from speakerdb.types import Turn

routes = Routes("recordings")

OPERATOR, READER = Role.OPERATOR, Role.READER


class GivenTurn(Given):
    """A stretch in which one speaker talks; seconds."""

    start: Annotated[float, Field(ge=0)]
    end: Annotated[float, Field(gt=0)]
    speaker: Name


class SaidOfSpeaker(Given):
    """What is said of a voice."""

    name: Name | None = None
    profile: Annotated[Name | None, Field(description="A profile's name, or its id.")] = None


Turns = Annotated[list[GivenTurn], Field(min_length=1)]
Speakers = Annotated[int | None, Field(ge=1, le=MOST_SPEAKERS, strict=True)]
RecordedAt = Annotated[
    int | None, Field(ge=-LARGEST, le=LARGEST, description="When it was made: microseconds since the epoch in UTC.")
]
FilePath = Annotated[
    Text | None, Field(min_length=1, max_length=4096, description="A file of the server, below a media root.")
]
Upload = Annotated[Text | None, Field(min_length=1, max_length=200, description="The name of an uploaded file.")]


class AskedOfDiarizer(Given):
    """What is known of the speakers of a recording that is to be diarized."""

    num_speakers: Speakers = None
    min_speakers: Speakers = None
    max_speakers: Speakers = None
    channels: Annotated[
        Channels, Field(description="`as-speakers`: each channel is one speaker, as in a call of two channels.")
    ] = "mix"

    def asked(self) -> Asked:
        """The same, as use cases take it. `InvalidInput` for numbers that contradict each other."""
        return Asked(Hints(self.num_speakers, self.min_speakers, self.max_speakers), self.channels)


class NewRecording(Said):
    """A recording with its turns. Exactly one of `path` and `upload` names its file."""

    id: GivenId = None
    path: FilePath = None
    upload: Upload = None
    library: LibraryName = "default"
    turns: Annotated[
        Turns | None, Field(description="Who talks when. Left out, the recording is queued to be diarized.")
    ] = None
    diarize: Annotated[AskedOfDiarizer | None, Field(description="What the diarizer is told, without turns.")] = None
    speakers: Annotated[
        dict[str, SaidOfSpeaker], Field(default_factory=dict, description="By the label that the turns name them with.")
    ]
    recorded_at: RecordedAt = None

    @model_validator(mode="after")
    def _one_file(self) -> NewRecording:
        if (self.path is None) == (self.upload is None):
            raise ValueError("give either path or upload")
        if self.turns is not None and self.diarize is not None:
            raise ValueError("give either turns or diarize")
        return self


class ChangedRecording(Said):
    """What is to change; what is left out stays."""

    path: FilePath = None
    upload: Upload = None
    turns: Turns | None = None
    recorded_at: RecordedAt = None

    @model_validator(mode="after")
    def _something(self) -> ChangedRecording:
        if self.path is not None and self.upload is not None:
            raise ValueError("give either path or upload")
        if all(each is None for each in (self.path, self.upload, self.turns, self.recorded_at)):
            raise ValueError("give at least one of path, upload, turns and recorded_at")
        return self


class NewTurns(Said):
    """All turns of a recording."""

    turns: Turns


class Removed(Given):
    """What was removed, or would be."""

    removed: bool
    id: str
    speakers: int
    upload_removed: bool
    """Its file was an uploaded one that no other recording has, so it went too."""


@routes.post("/recordings", OPERATOR, "add", body="turns", response_model=RecordingDetails, status_code=201)
def add_recording(given: NewRecording, house: HouseOf, response: Response) -> RecordingDetails:
    """Add a recording. The same again gives what is there (200); 409 where the id, or the file, has other content."""
    entry = Entry(
        _file(house.db, given.path, given.upload),
        _read(house.db, given.turns),
        given.id,
        given.library,
        {label: SaidOfVoice(said.name, said.profile) for label, said in given.speakers.items()},
        given.recorded_at,
        where="the request",
        asked=Asked() if given.diarize is None else given.diarize.asked(),
    )
    with because(given.why), uploads.still_there(house.db, given.upload):
        found, new = house.db.ingest.create(entry, house.opener)
    response.status_code = 201 if new else 200
    return _tagged(response, found)


@routes.get("/recordings", READER, "recordings list", response_model=Page[RecordingView])
def list_recordings(
    db: Library, library: OfLibrary = None, limit: Limit = 100, cursor: Cursor = None
) -> Page[RecordingView]:
    """The recordings of a library, or of all, in the order they came."""
    place = place_of(cursor, "recordings", int, str)
    return page_of(db.ingest.page(library_name=library, after=place, limit=limit), "recordings")


@routes.get("/recordings/{recording}", READER, "recordings list", response_model=RecordingDetails)
def show_recording(recording: Id, db: Library, response: Response) -> RecordingDetails:
    """One recording. Its `ETag` stands for its file, its turns and when it was made."""
    return _tagged(response, db.ingest.recording(recording))


@routes.patch("/recordings/{recording}", OPERATOR, "add", body="turns", response_model=RecordingDetails)
def change_recording(
    recording: Id, given: ChangedRecording, house: HouseOf, response: Response, if_match_header: IfMatch = None
) -> RecordingDetails:
    """Give a recording another file, other turns, or the time it was made. It is extracted again where its voices change."""
    db = house.db
    named = given.path is not None or given.upload is not None
    there = uploads.still_there(db, given.upload)
    with because(given.why), there, if_match(if_match_header, versions.of_recording, recording):
        found = db.ingest.edit(
            recording,
            house.opener,
            turns=None if given.turns is None else _turns(given.turns),
            path=_file(db, given.path, given.upload) if named else None,
            recorded_at=given.recorded_at,
        )
    return _tagged(response, found)


@routes.get("/recordings/{recording}/turns", READER, "speakers show", response_model=Page[RecordingTurn])
def list_turns(
    recording: Id, db: Library, response: Response, limit: Limit = 500, cursor: Cursor = None
) -> Page[RecordingTurn]:
    """Who talks when, in the order of the turns."""
    place = place_of(cursor, "turns", int)
    with tagged(response, db, versions.of_recording, recording):
        return page_of(db.ingest.turns(recording, after=-1 if place is None else place[0], limit=limit), "turns")


@routes.put("/recordings/{recording}/turns", OPERATOR, "add", body="turns", response_model=RecordingDetails)
def replace_turns(
    recording: Id, given: NewTurns, house: HouseOf, response: Response, if_match_header: IfMatch = None
) -> RecordingDetails:
    """Replace all turns. Speakers whose label stays keep their names and profiles."""
    with because(given.why), if_match(if_match_header, versions.of_recording, recording):
        found = house.db.ingest.edit(recording, house.opener, turns=_turns(given.turns))
    return _tagged(response, found)


@routes.delete("/recordings/{recording}", OPERATOR, "remove", response_model=Removed)
def remove_recording(
    recording: Id,
    db: Library,
    dry_run: DryRun = False,
    why: Annotated[str | None, Query(max_length=2000)] = None,
    if_match_header: IfMatch = None,
) -> Removed:
    """Forget a recording with its voices and the events about it. Its file stays, unless it was uploaded."""
    found = db.ingest.recording(recording)
    if dry_run:
        upload = uploads.name_of(db, found.path)
        return Removed(removed=False, id=found.id, speakers=found.speakers, upload_removed=upload is not None)
    with because(why), if_match(if_match_header, versions.of_recording, found.id):
        gone = db.remove(found.id)
    return Removed(removed=True, id=found.id, speakers=found.speakers, upload_removed=gone)


def _tagged(response: Response, found: RecordingDetails) -> RecordingDetails:
    """The same, with its version as `ETag`: the one of what was read, and not of what somebody has written since."""
    response.headers["ETag"] = f'"{versions.of_numbers(found.content_version, found.updated_at)}"'
    return found


def _read(db: SpeakerDB, given: list[GivenTurn] | None) -> Callable[[], tuple[tuple[Turn, ...], int]] | None:
    """The turns that were given; None where a diarizer is to find them. `NeedsTurns` where it may not."""
    if given is not None:
        return lambda: (_turns(given), 0)
    if not db.settings.diarizer.on_add:
        raise NeedsTurns("The recording came without turns.", hint="Give its turns, or set `diarizer.on_add`.")
    return None


def _turns(given: list[GivenTurn]) -> tuple[Turn, ...]:
    return turns_of_items([turn.model_dump() for turn in given], what="Turn")


def _file(db: SpeakerDB, path: str | None, upload: str | None) -> Path:
    """The file that a request names. `MediaForbidden` for a path where no media roots are set: over HTTP, not every file
    of the machine may be asked for."""
    if upload is not None:
        return uploads.path_of(db, upload)
    assert path is not None
    if not db.settings.media_roots:
        raise MediaForbidden(
            "Over HTTP a file is named by its path only below a media root, and none is set.",
            hint="Set `media_roots`, or upload the file.",
        )
    if not Path(path).is_absolute():
        raise InvalidInput("The path of a file is given in full.", hint="It begins at the root of the server's files.")
    return Path(path)
