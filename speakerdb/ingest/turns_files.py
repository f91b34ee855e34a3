"""Turns of a media file: where they are looked for, and how a file with turns is read."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

from speakerdb.core.turn_forms import SUFFIXES, ParsedTurns, parse_turns
from speakerdb.errors import InvalidTurns, NeedsTurns

MAX_TURNS_FILE_BYTES = 256 * 1024 * 1024
RTTM, JSON = SUFFIXES[:2]


class TurnsFiles:
    """Where turns are: in one file, in a folder, or (None) beside each media file. Threads may share it."""

    def __init__(self, place: Path | None = None) -> None:
        """`InvalidTurns` when there is no such place; `InvalidTurns` and `NeedsTurns` for an RTTM that cannot be read."""
        self.place = place
        self._lock = threading.Lock()
        self._kept: dict[Path, tuple[tuple[int, int], ParsedTurns]] = {}
        self._file: ParsedTurns | None = None
        if place is None:
            return
        if not place.exists():
            raise InvalidTurns(
                f"There is no turns file {place}.",
                hint="Give `--turns` a file (RTTM, JSON, WebVTT, SRT), or a folder of them.",
            )
        # What may hold many recordings is read once, at the start.
        if not place.is_dir() and place.suffix.lower() not in SUFFIXES[1:]:
            self._file = parse_turns(read_text(place), place.suffix)

    def of(self, file: Path, *, alone: bool = False, relative: Path | None = None, clear: bool = True) -> ParsedTurns:
        """The turns of a media file, as the only recording of the answer.

        `alone`: it is the only file that was given. `relative`: its path in the folder that was given. `clear`: no other
        file that was given has its name. Raises `NeedsTurns`, `InvalidTurns`.
        """
        place = self.place
        if place is None or place.is_dir():
            found = self.find(file, relative=relative, clear=clear)
            if found is None:
                raise NeedsTurns(f"{file.name} came without turns.")
            return self.read(found, file.stem)
        parsed = self._file
        if parsed is not None and "" not in parsed.recordings:
            return _chosen(place, parsed, (file.stem,), alone=alone)
        if not alone:
            kind = "a JSON list" if place.suffix.lower() == JSON else "a file of turns"
            raise InvalidTurns(
                f"{place.name} is {kind}, which holds one recording.",
                hint="Add the files one at a time, or give a folder with one file of turns a recording.",
            )
        return parsed or self.read(place, file.stem)

    def find(self, file: Path, *, relative: Path | None = None, clear: bool = True) -> Path | None:
        """The file with the turns of a media file, in the folder or beside it. None where none lies beside it; `NeedsTurns`
        where the folder has none. Raises `InvalidTurns`."""
        place = self.place
        if place is None or not place.is_dir():
            return self._only([file.with_name(file.stem)], file)
        stems = [] if relative is None else [(place / relative).with_name(file.stem)]
        if place / file.stem not in stems and (clear or not stems):
            stems.append(place / file.stem)
        return self._only(stems, file)

    def _only(self, stems: list[Path], file: Path) -> Path | None:
        for stem in stems:
            for rank in ((RTTM, JSON), SUFFIXES[2:]):
                # A diarizer's own file before subtitles, which often lie beside a video for other reasons.
                found = [path for suffix in rank if (path := Path(f"{stem}{suffix}")).is_file()]
                if len(found) > 1:
                    raise InvalidTurns(
                        f"The folder {stem.parent} has both {found[0].name} and {found[1].name}.",
                        hint="Remove one of them.",
                    )
                if found:
                    return found[0]
        if self.place is None:
            return None
        raise NeedsTurns(f"The folder {self.place} has neither {file.stem}{RTTM} nor {file.stem}{JSON}.")

    def read(self, path: Path, *names: str) -> ParsedTurns:
        """The turns of one recording in a file: the one of the first of these names that is there, or the only one."""
        with self._lock:  # one RTTM of a whole library is read once, not once for each of its recordings
            try:
                about = path.stat()
                mark = (about.st_mtime_ns, about.st_size)
            except (OSError, ValueError):
                mark = None
            held = self._kept.get(path)
            if held is not None and held[0] == mark:
                return _chosen(path, held[1], names, alone=True)
        parsed = parse_turns(read_text(path), path.suffix)
        if len(parsed.recordings) > 1 and mark is not None:
            with self._lock:
                self._kept = {path: (mark, parsed)}
        return _chosen(path, parsed, names, alone=True)


def _chosen(path: Path, parsed: ParsedTurns, names: tuple[str, ...], *, alone: bool) -> ParsedTurns:
    try:
        turns = parsed.of(*names, only=alone)
    except InvalidTurns as error:
        raise InvalidTurns(f"{path.name}: {error.message}", hint=error.hint) from error
    return ParsedTurns({"": turns}, parsed.skipped)


def read_text(path: Path) -> str:
    """The text of a file of turns. `InvalidTurns` where it cannot be read, or is too large."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise InvalidTurns(f"The turns file {path} is not a regular file.")
            if about.st_size > MAX_TURNS_FILE_BYTES:
                raise InvalidTurns(
                    f"The turns file {path} has {about.st_size:,} bytes; {MAX_TURNS_FILE_BYTES:,} are allowed.",
                    hint="Write one file of turns a recording.",
                )
            return file.read().decode("utf-8-sig")
    except (OSError, ValueError) as error:  # UnicodeDecodeError, and a zero byte in the name
        if isinstance(error, InvalidTurns):
            raise
        raise InvalidTurns(f"The turns file {path} cannot be read: {error}.") from error
