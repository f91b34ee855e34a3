"""Opening media files in a process of their own, because a broken one may crash or hang whoever decodes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path

from speakerdb import media
from speakerdb.errors import MediaUnreadable, SpeakerDBError
from speakerdb.executors import Executor
from speakerdb.types import MediaInfo

OPENED_TOGETHER = 16
"""Files that a process is given at once; where it does not come back, each is tried alone."""


class Opener:
    """Opens files in a process of its own, which is started with the first of them. Threads may share it."""

    def __init__(self, executor: Callable[[], Executor], timeout: float) -> None:
        self._make = executor
        self._timeout = timeout
        self._executor: Executor | None = None
        self._lock = threading.Lock()
        self._closed = False

    def open(self, paths: Sequence[Path]) -> Iterator[MediaInfo | SpeakerDBError]:
        """What opening each file tells, in order."""
        for at in range(0, len(paths), OPENED_TOGETHER):
            with self._lock:
                found = self._together(tuple(paths[at : at + OPENED_TOGETHER]))
            yield from found

    def close(self) -> None:
        """End the process, whatever it is at; nothing is opened any more."""
        self._closed = True
        if self._executor is not None:
            self._executor.close()

    def _together(self, paths: tuple[Path, ...]) -> list[MediaInfo | SpeakerDBError]:
        if self._closed:
            return [MediaUnreadable(f"{path} was not opened: the run is over.", path=str(path)) for path in paths]
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
