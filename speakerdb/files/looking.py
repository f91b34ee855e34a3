"""Looking at one recording's file: by the fingerprint of its ends, and by opening it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from speakerdb import media
from speakerdb.catalog.files import FileRow
from speakerdb.core.turns import END_TOLERANCE_SECONDS
from speakerdb.errors import MediaChanged, MediaForbidden, MediaMissing, SpeakerDBError
from speakerdb.opener import Opener
from speakerdb.reports.files import FileFinding, FileState
from speakerdb.types import Fingerprint, MediaInfo


@dataclass(frozen=True, slots=True)
class Looked:
    """A recording's file as it was found. `path` is set where there is one to open, `error` where it cannot be used."""

    row: FileRow
    finding: FileFinding
    path: Path | None = None
    fingerprint: Fingerprint | None = None
    info: MediaInfo | None = None
    error: SpeakerDBError | None = None


def look(row: FileRow, media_roots: Sequence[Path]) -> Looked:
    """The file at a recording's path, by the fingerprint of its ends."""
    if row.path is None:
        return Looked(row, _finding(row, FileState.IN_MEMORY))
    try:
        real = media.check_allowed(Path(row.path), media_roots)
        found = media.fingerprint(real)
    except SpeakerDBError as error:
        return Looked(row, _refusal(row, error), error=error)
    if found == row.fingerprint:
        return Looked(row, _finding(row, FileState.OK), real, found)
    told = "It is not the file its turns were made from."
    return Looked(row, _finding(row, FileState.CHANGED, MediaChanged.code, told), real, found)


def look_deeper(looked: Sequence[Looked], opener: Opener) -> Iterator[Looked]:
    """The same, where the files that are there have also been opened."""
    opened = iter(opener.open([one.path for one in looked if one.path is not None]))
    for one in looked:
        yield one if one.path is None else _deeper(one, next(opened))


def _finding(row: FileRow, state: FileState, code: str | None = None, detail: str = "") -> FileFinding:
    return FileFinding(row.recording_id, row.library, row.path, state, code, detail)


def _refusal(row: FileRow, error: SpeakerDBError) -> FileFinding:
    states: dict[type[SpeakerDBError], FileState] = {
        MediaMissing: FileState.MISSING, MediaChanged: FileState.CHANGED, MediaForbidden: FileState.FORBIDDEN,
    }  # fmt: skip
    return _finding(row, states.get(type(error), FileState.UNREADABLE), error.code, error.message)


def _deeper(one: Looked, opened: MediaInfo | SpeakerDBError) -> Looked:
    """What opening a file adds to what was known."""
    if isinstance(opened, SpeakerDBError):
        return replace(one, finding=_refusal(one.row, opened), error=opened)
    found, before, now = one.finding, one.row.seconds, opened.seconds
    if before is not None and now is not None and abs(before - now) > END_TOLERANCE_SECONDS:
        told = f"It is {now:.1f} s long; {before:.1f} s are on record."
        if found.state is FileState.OK:
            found = replace(found, state=FileState.OTHER_LENGTH)
        found = replace(found, detail=f"{found.detail} {told}".strip())
    return replace(one, finding=found, info=opened)
