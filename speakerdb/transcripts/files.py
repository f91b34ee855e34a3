"""The text of a transcript's file."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import MappingProxyType

from speakerdb.errors import InvalidTranscript

MAX_TRANSCRIPT_BYTES = 64 * 1024**2
"""Of a file with a transcript: some hundred hours of speech."""
SUFFIX_OF_TYPE = MappingProxyType(
    {"application/json": ".json", "text/vtt": ".vtt", "application/x-subrip": ".srt", "text/srt": ".srt"}
)
"""How a transcript is written, by the media type that it is sent as; anything else is told by its content."""


def text_of(data: bytes) -> str:
    """The text of a transcript's file: UTF-8, with or without a mark in front, or UTF-16 with one. `InvalidTranscript`."""
    if len(data) > MAX_TRANSCRIPT_BYTES:
        raise InvalidTranscript(f"The transcript has more than {MAX_TRANSCRIPT_BYTES:,} bytes.", hint="Is it one?")
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidTranscript(
            f"The transcript is not text in UTF-8: byte {error.start} cannot be read.", hint="Save it as UTF-8."
        ) from None


def read_text(path: Path) -> str:
    """The text of a file. `InvalidTranscript` where it cannot be read, is no file, or is too large."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidTranscript(f"The transcript {path} is not a regular file.", hint="Give a file.")
            data = file.read(MAX_TRANSCRIPT_BYTES + 1)
    except (OSError, ValueError) as error:  # a zero byte in the name
        if isinstance(error, InvalidTranscript):
            raise
        raise InvalidTranscript(f"The transcript {path} cannot be read: {error}.", hint="Look at the file.") from error
    return text_of(data)
