"""Looking at one recording's file: by the fingerprint of its ends, and by opening it.

Files are opened in a process of their own, because a broken one may crash or hang whoever decodes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from speakerdb import media
from speakerdb.catalog.files import FileRow
from speakerdb.core.turns import END_TOLERANCE_SECONDS
from speakerdb.errors import MediaChanged, MediaForbidden, MediaMissing, MediaUnreadable, SpeakerDBError
from speakerdb.executors import Executor
from speakerdb.reports.files import FileFinding, FileState
from speakerdb.types import Fingerprint, MediaInfo

OPENED_TOGETHER = 16
"""Files that a process is given at once; where it does not come back, each is tried alone."""


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


class Opener:
    """Opens files in a process of its own, which is started with the first of them."""

    def __init__(self, executor: Callable[[], Executor], timeout: float) -> None:
        self._make = executor
        self._timeout = timeout
        self._executor: Executor | None = None

    def open(self, paths: Sequence[Path]) -> Iterator[MediaInfo | SpeakerDBError]:
        """What opening each file tells, in order."""
        for at in range(0, len(paths), OPENED_TOGETHER):
            yield from self._together(tuple(paths[at : at + OPENED_TOGETHER]))

    def close(self) -> None:
        """End the process."""
        if self._executor is not None:
            self._executor.close()

    def _together(self, paths: tuple[Path, ...]) -> list[MediaInfo | SpeakerDBError]:
        if self._executor is None:
            self._executor = self._make()
        try:
            return self._executor.submit(open_files, paths).result(timeout=self._timeout)
        except (BrokenExecutor, TimeoutError) as error:
            late = isinstance(error, TimeoutError)
            how = self._executor.restart()
        if len(paths) > 1:
            return [one for path in paths for one in self._together((path,))]
        why = (
            f"opening it took more than {self._timeout:g} s" if late else f"the process that opened it {how or 'died'}"
        )
        return [MediaUnreadable(f"{paths[0]} cannot be read: {why}.", path=str(paths[0]))]


def open_files(paths: Sequence[Path]) -> list[MediaInfo | SpeakerDBError]:
    """What each file is, after decoding its first frame, or why it cannot be read. Runs in any process."""
    found: list[MediaInfo | SpeakerDBError] = []
    for path in paths:
        try:
            found.append(media.probe(path))
        except SpeakerDBError as error:
            found.append(error)
        except Exception as error:  # noqa: BLE001  whatever a decoder raises is this file's, and the others go on
            found.append(MediaUnreadable(f"{path} cannot be read: {type(error).__name__}: {error}.", path=str(path)))
    return found


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
