"""What was given, one recording after the other: files, folders that are walked, manifests that are read line by line."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from speakerdb.core import manifest
from speakerdb.core.manifest import Line, ManifestLine
from speakerdb.core.turn_forms import SUFFIXES, ParsedTurns
from speakerdb.core.turns import turns_of_items
from speakerdb.diarizers.asked import NOTHING_ASKED, Asked
from speakerdb.errors import InvalidManifest, MediaMissing, MediaUnreadable, NeedsTurns, SpeakerDBError
from speakerdb.ingest.entries import Given, Refused, Said
from speakerdb.ingest.turns_files import TurnsFiles
from speakerdb.types import Turn

_ENDINGS = (
    "3g2 3gp aac ac3 aif aifc aiff amr ape asf au avi caf dts eac3 f4v flac flv m2ts m4a m4b m4v mka mkv mov mp2 mp3 mp4 "
    "mpeg mpg mts mxf oga ogg ogv opus ra rm spx tta ts vob voc w64 wav weba webm wma wmv wv"
)
MEDIA_SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())
"""Endings of the files that a walked folder is searched for. A file that is named itself may have any ending."""

Entry: TypeAlias = Given | Refused


def is_manifest(path: Path) -> bool:
    """Whether a path is read as a manifest, by its ending."""
    return path.suffix.lower() in manifest.SUFFIXES


class Sources:
    """Everything that one run was given. `left_out` counts files of folders that are neither recordings nor turns, by why."""

    def __init__(self, paths: Sequence[Path], turns: TurnsFiles, library: str, asked: Asked | None = None) -> None:
        """`asked`: what a diarizer is told where a recording comes without turns; None: such a recording is refused."""
        self._paths = paths
        self._asked = asked
        self._turns = turns
        self._library = library
        self.left_out = {"hidden": 0, "link": 0, "other": 0}

    def entries(self) -> Iterator[Entry]:
        """What was given, in its order; folders sorted by name. Nothing is read that is not asked for yet."""
        for path in self._paths:
            if is_manifest(path) and not path.is_dir():
                yield from self._manifest(path)
            elif path.is_dir():
                yield from self._folder(path)
            else:
                yield self._file(path, None, clear=True)

    # Files and folders

    def _file(self, path: Path, root: Path | None, *, clear: bool) -> Entry:
        relative = None if root is None else path.relative_to(root)
        raw: dict[str, Any] = {"path": os.path.abspath(path), "library": self._library}
        alone = root is None and len(self._paths) == 1
        weight = 0
        if self._turns.place is None or self._turns.place.is_dir():
            try:
                found = self._turns.find(path, relative=relative, clear=clear)
            except SpeakerDBError as error:
                return self._without_turns(path, raw, error)
            if found is None and self._asked is not None:
                return Given(path, None, library=self._library, where=str(path), raw=raw, asked=self._asked)
            if found is None:
                return self._without_turns(path, raw, NeedsTurns(f"{path.name} came without turns."))
            raw["turns_file"] = os.path.abspath(found)
            weight = _size(found)
            return self._given(path, raw, lambda: self._turns.read(found, path.stem), weight)
        return self._given(path, raw, lambda: self._turns.of(path, alone=alone), weight)

    def _given(self, path: Path, raw: dict[str, Any], read: Callable[[], ParsedTurns], weight: int) -> Given:
        def turns() -> tuple[Sequence[Turn], int]:
            parsed = read()
            return parsed.recordings[""], parsed.skipped

        return Given(path, turns, library=self._library, where=str(path), raw=raw, weight=weight)

    def _without_turns(self, path: Path, raw: dict[str, Any], error: SpeakerDBError) -> Refused:
        if not os.path.lexists(path):
            error = MediaMissing(f"{path} does not exist.", path=str(path))
        return Refused(str(path), raw, error)

    def _folder(self, root: Path) -> Iterator[Entry]:
        twice = self._stems_that_repeat(root) if self._turns.place is not None else frozenset[str]()
        real = root.resolve()
        empty = True
        for found in self._walk(root, real, self.left_out):
            empty = False
            yield found if isinstance(found, Refused) else self._file(found, root, clear=found.stem not in twice)
        if empty:
            error = MediaUnreadable(
                f"The folder {root} holds no media file.", hint="Give a folder of audio or video files.", path=str(root)
            )
            yield Refused(str(root), {"path": os.path.abspath(root), "library": self._library}, error)

    def _stems_that_repeat(self, root: Path) -> frozenset[str]:
        """Names that two files of the tree have: turns cannot be told apart by them."""
        seen: set[str] = set()
        twice: set[str] = set()
        for found in self._walk(root, root.resolve(), dict.fromkeys(self.left_out, 0)):
            if isinstance(found, Path):
                (twice if found.stem in seen else seen).add(found.stem)
        return frozenset(twice)

    def _walk(self, folder: Path, root: Path, left_out: dict[str, int]) -> Iterator[Path | Refused]:
        """Media files of a tree, each folder's sorted by name."""
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            refusal = MediaUnreadable(f"The folder {folder} cannot be read: {error.strerror}.", path=str(folder))
            yield Refused(str(folder), {"path": os.path.abspath(folder)}, refusal)
            return
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                left_out["hidden"] += 1
            elif entry.is_dir(follow_symlinks=False):
                yield from self._walk(path, root, left_out)
            elif path.suffix.lower() not in MEDIA_SUFFIXES:
                left_out["other"] += path.suffix.lower() not in SUFFIXES
            elif entry.is_symlink() and not _leads_inside(path, root):
                left_out["link"] += 1
            else:
                yield path

    # Manifests

    def _manifest(self, path: Path) -> Iterator[Entry]:
        found = 0
        try:
            with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
                _check_text_file(path, file.fileno())
                read = manifest.read_csv if path.suffix.lower() == ".csv" else manifest.read_json_lines
                for line in read(_lines(file)):
                    found += 1
                    yield self._line(path, line)
        except SpeakerDBError as error:
            yield Refused(str(path), {}, error)
            return
        except (FileNotFoundError, NotADirectoryError):
            yield Refused(str(path), {}, InvalidManifest(f"There is no manifest {path}.", hint="Check the path."))
            return
        except (OSError, ValueError) as error:
            yield Refused(str(path), {}, InvalidManifest(f"The manifest {path} cannot be read: {error}."))
            return
        if not found:
            yield Refused(str(path), {}, InvalidManifest(f"The manifest {path} holds no entry."))

    def _line(self, path: Path, line: ManifestLine | manifest.Refusal) -> Entry:
        where = f"{path}, line {line.line}"
        folder = Path(os.path.abspath(path.parent))
        raw = dict(line.given)
        for key in ("path", "turns_file"):
            if isinstance(raw.get(key), str):
                raw[key] = str(folder / raw[key])
        if isinstance(line, manifest.Refusal):
            return Refused(where, raw, line.error)
        entry = line.entry
        media = folder / entry.path
        said = {label: Said(one.name, one.profile) for label, one in (entry.speakers or {}).items()}
        weight = 40 * len(entry.turns or ())
        if entry.turns_file is not None:
            weight = _size(folder / entry.turns_file)

        if entry.turns is None and entry.turns_file is None and self._awaits(media):
            return Given(
                media, None, entry.id, entry.library or self._library, said, line.recorded_at, None, where, raw, 0,
                self._asked or NOTHING_ASKED,
            )  # fmt: skip

        def turns() -> tuple[Sequence[Turn], int]:
            if entry.turns is not None:
                if not entry.turns:
                    raise NeedsTurns("The list of turns is empty.")
                return turns_of_items(entry.turns, what="Turn"), 0
            if entry.turns_file is not None:
                names = [media.stem] if entry.id is None else [entry.id, media.stem]
                parsed = self._turns.read(folder / entry.turns_file, *names)
            else:
                relative = None if Path(entry.path).is_absolute() else Path(entry.path)
                parsed = self._turns.of(media, relative=relative)
            return parsed.recordings[""], parsed.skipped

        return Given(
            media, turns, entry.id, entry.library or self._library, said, line.recorded_at, None, where, raw, weight
        )  # fmt: skip

    def _awaits(self, media: Path) -> bool:
        """Whether no turns lie beside a file, and a diarizer is to find them."""
        if self._asked is None or self._turns.place is not None:
            return False
        try:
            return self._turns.find(media) is None
        except SpeakerDBError:
            return False  # it has some, and something is wrong with them


def _leads_inside(link: Path, root: Path) -> bool:
    """Whether a link leads to a file of the tree that the walk does not find by itself (as git-annex keeps them)."""
    try:
        target = link.resolve()
    except (OSError, RuntimeError):
        return False
    if not target.is_relative_to(root):
        return False
    relative = target.relative_to(root)
    hidden = any(part.startswith(".") for part in relative.parts)
    return hidden or target.suffix.lower() not in MEDIA_SUFFIXES


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0


def _check_text_file(path: Path, descriptor: int) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise InvalidManifest(f"The manifest {path} is not a regular file.", hint="Give a file of JSON Lines or CSV.")
    if b"\0" in os.pread(descriptor, 4096, 0):
        raise InvalidManifest(
            f"The manifest {path} is binary, or text in UTF-16.", hint="Save it as UTF-8 (JSON Lines or CSV)."
        )


def _lines(file: Any) -> Iterator[Line]:
    """Lines with their numbers, decoded; one that is too long is passed over without being held."""
    number = 0
    while data := file.readline(manifest.MAX_LINE_BYTES + 1):
        number += 1
        if len(data) > manifest.MAX_LINE_BYTES:
            while data and not data.endswith(b"\n"):
                data = file.readline(1 << 20)
            yield (
                number,
                InvalidManifest(
                    f"Line {number} is longer than {manifest.MAX_LINE_BYTES:,} bytes.",
                    hint="Put its turns into a file of their own, and name it in turns_file.",
                    line=number,
                ),
            )
            continue
        try:
            yield number, data.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            yield number, InvalidManifest(f"Line {number} is not UTF-8: {error.reason}.", line=number)


def refused_line(raw: Mapping[str, Any], error: SpeakerDBError, where: str) -> dict[str, Any]:
    """The entry that a refused one becomes in the file that can be corrected and fed again."""
    told: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint, "where": where}
    entry = {key: value for key, value in raw.items() if key != "text"}
    if "text" in raw:  # it could not be understood: it is kept to be read, not to be fed
        told["text"] = raw["text"]
    return entry | {manifest.IGNORED: told}
