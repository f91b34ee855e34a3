"""Opening files without waiting for them, and their errors as ours."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av.error

from speakerdb.errors import MediaMissing, MediaUnreadable

_UNREADABLE_HINT = "Check that the file plays in an ordinary player; put a sound copy in its place, or remove it."
_LOCAL_HINT = "Only local files can be added; download the media first."


def open_regular(path: Path) -> io.FileIO:
    """The file, opened without waiting: a named pipe in its place is refused and never waited for."""
    check_regular(path, os.stat(path).st_mode)
    file = io.FileIO(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    try:
        check_regular(path, os.fstat(file.fileno()).st_mode)
    except BaseException:
        file.close()
        raise
    # PyAV wants a name that is text in UTF-8, which a path need not be. FFmpeg looks at its ending only.
    file.name = "media" + path.suffix.encode("ascii", "ignore").decode()
    return file


def check_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise MediaUnreadable(f"{path} is not a regular file.", hint="Give an audio or video file.", path=str(path))


def read_exactly(file: io.FileIO, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := file.read(count - len(data))):
        data += more
    return data


def unreadable(path: Path, why: str) -> MediaUnreadable:
    return MediaUnreadable(f"{path} cannot be read: {why}.", hint=_UNREADABLE_HINT, path=str(path))


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Errors of the operating system and of FFmpeg become ours, once, here."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = _LOCAL_HINT if "://" in str(path) or ":/" in str(path) else None
        raise MediaMissing(f"{path} does not exist.", hint=hint, path=str(path)) from error
    except (av.error.FFmpegError, OSError) as error:
        raise unreadable(path, (error.strerror or str(error)).rstrip(".")) from error
