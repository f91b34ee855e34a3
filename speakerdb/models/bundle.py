"""A bundle of models for a machine without network: written and read as a folder, a .tar or a .zip.

A bundle holds `manifest.json`, `requirements.txt`, `README.txt` and `checkpoints/<sha256>/pytorch_model.bin`. Whoever
reads one trusts nothing in it: only these names, only plain files, each of the size and checksum the manifest states, and
nothing else. The checksums prove that nothing was damaged; who made it, only the pins of the settings can tell.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Protocol

from speakerdb.errors import InvalidBundle, InvalidInput, NotFound
from speakerdb.models.hub import CHECKPOINT_FILE
from speakerdb.models.store import MANIFEST, MAX_MANIFEST_BYTES, OnBytes, StoredModel, copy_hashed

FORMAT = "speakerdb-models"
VERSION = 1
MAX_FILE_BYTES = 2 * 1024**3
MAX_FILES = 256
REQUIREMENTS = "requirements.txt"
README = "README.txt"

_NAMES = re.compile(rf"{REQUIREMENTS}|{README}|checkpoints/[0-9a-f]{{64}}/{re.escape(CHECKPOINT_FILE)}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says of itself. `files` is every file but the manifest, with its checksum and size in bytes."""

    made_at: str
    made_with: Mapping[str, str]
    models: tuple[StoredModel, ...]
    files: Mapping[str, tuple[str, int]]

    def document(self) -> bytes:
        """As JSON."""
        value = {
            "format": FORMAT,
            "version": VERSION,
            "made_at": self.made_at,
            "made_with": dict(self.made_with),
            "models": [asdict(model) for model in self.models],
            "files": [{"path": p, "sha256": digest, "size": size} for p, (digest, size) in sorted(self.files.items())],
        }
        return (json.dumps(value, indent=2) + "\n").encode()

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """A manifest out of its JSON. `InvalidBundle` for anything that is not exactly one."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise InvalidBundle("The bundle's manifest is not JSON.") from error
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise InvalidBundle("The bundle's manifest is not one of speakerdb's models.")
        if value.get("version") != VERSION:
            raise InvalidBundle(
                "The bundle was made by another version of speakerdb.", hint="Install the version that made it."
            )
        made_with, models, files = value.get("made_with"), value.get("models"), value.get("files")
        if (
            not isinstance(value.get("made_at"), str)
            or not isinstance(made_with, dict)
            or not all(isinstance(v, str) and v.isprintable() and len(v) <= 100 for v in made_with.values())
            or not isinstance(models, list)
            or not isinstance(files, list)
            or not 0 < len(models) <= len(files) <= MAX_FILES
        ):
            raise InvalidBundle("The bundle's manifest lacks something, or holds something that it cannot.")
        found: dict[str, tuple[str, int]] = {}
        for file in files:
            name, digest, size = _file(file)
            if name in found:
                raise InvalidBundle(f"The manifest names {name} twice.")
            found[name] = (digest, size)
        manifest = cls(value["made_at"], made_with, tuple(map(StoredModel.parse, models)), found)
        named = [name_of(model.sha256) for model in manifest.models]
        if len(set(named)) != len(named) or set(named) != {n for n in found if n.startswith("checkpoints/")}:
            raise InvalidBundle("The models and the files of the manifest do not belong together.")
        if any(found[name_of(m.sha256)] != (m.sha256, m.size) for m in manifest.models):
            raise InvalidBundle("A model's checksum or size in the manifest is not that of its file.")
        return manifest


def name_of(sha256: str) -> str:
    """A checkpoint's name in a bundle."""
    return f"checkpoints/{sha256}/{CHECKPOINT_FILE}"


def _file(value: Any) -> tuple[str, str, int]:
    if not isinstance(value, dict) or set(value) != {"path", "sha256", "size"}:
        raise InvalidBundle("A file in the manifest does not have the fields it must have.")
    name, digest, size = value["path"], value["sha256"], value["size"]
    if not isinstance(name, str) or _NAMES.fullmatch(name) is None:
        raise InvalidBundle(f"The manifest names the file {name!r}, which no bundle has.")
    if not isinstance(digest, str) or _SHA256.fullmatch(digest) is None or type(size) is not int:
        raise InvalidBundle(f"The manifest has no checksum or no size for {name}.")
    if not 0 <= size <= MAX_FILE_BYTES:
        raise InvalidBundle(f"{name} would have {size} bytes; a checkpoint has at most {MAX_FILE_BYTES}.")
    return name, digest, size


# Writing


def write(out: Path, manifest: Manifest, small: Mapping[str, bytes], checkpoints: Mapping[str, bytes]) -> int:
    """Write a bundle: a .tar, a .zip, or else a folder. Its size in bytes. `InvalidInput` where `out` exists.

    It is written beside its place and renamed, so that half a bundle never looks like one.
    """
    if out.is_symlink() or out.exists():
        raise InvalidInput(f"{out} exists already.", hint="Give a name that is not taken, or remove it first.")
    contents = {MANIFEST: manifest.document(), **small, **{name_of(sha): data for sha, data in checkpoints.items()}}
    part = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        match out.suffix.lower():
            case ".tar":
                with tarfile.open(part, "w") as tar:
                    for name, data in contents.items():
                        info = tarfile.TarInfo(name)
                        info.size, info.mode = len(data), 0o644
                        tar.addfile(info, BytesIO(data))
            case ".zip":
                with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
                    for name, data in contents.items():
                        archive.writestr(zipfile.ZipInfo(name), data)
            case _:
                for name, data in contents.items():
                    (part / name).parent.mkdir(parents=True, exist_ok=True)
                    (part / name).write_bytes(data)
        os.rename(part, out)
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
    return sum(map(len, contents.values()))


@lru_cache
def requirements(root: str = "speakerdb") -> tuple[str, ...]:
    """``name==version`` of a package and of all it needs, as they are installed here, sorted."""
    found: dict[str, str] = {}
    waiting = [root]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # of another platform, or an extra that nobody asked for
        found[name] = f"{name}=={distribution.version}"
        for line in distribution.requires or ():
            needed, _, marker = line.partition(";")
            if "extra" not in marker and (match := re.match(r"[A-Za-z0-9._-]+", needed.strip())):
                waiting.append(match.group())
    return tuple(sorted(found.values()))


# Reading


class _Opened(Protocol):
    """A bundle that was opened: plain files by name, with their sizes as the container states them."""

    sizes: Mapping[str, int]

    def read(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """One file."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[Manifest, _Opened]]:
    """A bundle whose names, kinds and sizes were checked; its contents were not. `InvalidBundle`, `NotFound`."""
    if not path.exists():
        raise NotFound(f"There is no {path}.", hint="Give the folder, .tar or .zip that `speakerdb models pack` made.")
    try:
        if path.is_dir():
            bundle: _Opened = _Folder(path)
            yield _checked(bundle), bundle
        elif not path.is_file():
            raise InvalidBundle(f"{path} is neither a file nor a folder.")
        elif _begins_as_zip(path):
            with zipfile.ZipFile(path) as archive:
                bundle = _Zip(archive)
                yield _checked(bundle), bundle
        else:
            with tarfile.open(path, "r:") as tar:
                bundle = _Tar(tar)
                yield _checked(bundle), bundle
    # All that the standard library raises over an archive that is damaged, or made to hurt.
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError) as error:
        raise InvalidBundle(f"{path} is not a bundle, or is damaged ({type(error).__name__}).") from error


def take(bundle: _Opened, name: str, expected: tuple[str, int], target: IO[bytes] | None, on_bytes: OnBytes) -> None:
    """Copy one file out of a bundle. `InvalidBundle` unless it has the checksum and size that the manifest states."""
    with bundle.read(name) as source:
        found = copy_hashed(source, target, limit=expected[1], on_bytes=on_bytes)
    if found != expected:
        raise InvalidBundle(f"{name} in the bundle is damaged: its checksum is not the one of the manifest.")


def _checked(bundle: _Opened) -> Manifest:
    size = bundle.sizes.get(MANIFEST)
    if size is None:
        raise InvalidBundle(f"There is no {MANIFEST} in it: this is not a bundle of models.")
    if size > MAX_MANIFEST_BYTES:
        raise InvalidBundle("The bundle's manifest is too large.")
    with bundle.read(MANIFEST) as file:
        manifest = Manifest.parse(file.read(MAX_MANIFEST_BYTES + 1))
    there = set(bundle.sizes) - {MANIFEST}
    if extra := sorted(there - set(manifest.files)):
        raise InvalidBundle(f"The bundle holds {extra[0]!r}, which its manifest does not name.")
    if missing := sorted(set(manifest.files) - there):
        raise InvalidBundle(f"The bundle lacks {missing[0]}.")
    if wrong := [name for name, (_, size) in manifest.files.items() if bundle.sizes[name] != size]:
        raise InvalidBundle(f"{wrong[0]} in the bundle does not have the size that the manifest states.")
    return manifest


def _accept(sizes: dict[str, int], name: str, size: int, *, plain: bool) -> None:
    """Take a name into the list. A name that could lead anywhere but into the bundle is refused, whatever it is."""
    if not plain:
        raise InvalidBundle(f"The bundle holds {name!r}, which is not a plain file.")
    if name != MANIFEST and _NAMES.fullmatch(name) is None:
        raise InvalidBundle(f"The bundle holds {name!r}, which no bundle has.")
    if name in sizes:
        raise InvalidBundle(f"The bundle holds {name!r} twice.")
    if len(sizes) > MAX_FILES:
        raise InvalidBundle("The bundle holds too many files.")
    sizes[name] = size


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        sizes: dict[str, int] = {}
        for where, folders, files in os.walk(folder):
            for name in (*folders, *files):
                path = Path(where) / name
                status = path.lstat()
                if name in files or not stat.S_ISDIR(status.st_mode):
                    plain = stat.S_ISREG(status.st_mode)
                    _accept(sizes, path.relative_to(folder).as_posix(), status.st_size, plain=plain)
        self.sizes: Mapping[str, int] = sizes

    @contextlib.contextmanager
    def read(self, name: str) -> Iterator[IO[bytes]]:
        # Not through a link that took the file's place after we looked.
        with os.fdopen(os.open(self._folder / name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            yield file


class _Tar:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        sizes: dict[str, int] = {}
        self._members: dict[str, tarfile.TarInfo] = {}
        for count, member in enumerate(tar):
            if count > 4 * MAX_FILES:
                raise InvalidBundle("The bundle holds too many files.")
            name = member.name.removeprefix("./")
            if member.isdir() and not _leaves(name):
                continue  # folders come into being with their files
            _accept(sizes, name, member.size, plain=member.isreg() and not member.issparse())
            self._members[name] = member
        self.sizes: Mapping[str, int] = sizes

    @contextlib.contextmanager
    def read(self, name: str) -> Iterator[IO[bytes]]:
        file = self._tar.extractfile(self._members[name])
        assert file is not None, "a plain file"
        with file:
            yield file


class _Zip:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        sizes: dict[str, int] = {}
        self._members: dict[str, zipfile.ZipInfo] = {}
        members: Sequence[zipfile.ZipInfo] = archive.infolist()
        for member in members[: 4 * MAX_FILES]:
            name = member.filename.removeprefix("./")
            if name.endswith("/") and not _leaves(name):
                continue
            kind = stat.S_IFMT(member.external_attr >> 16)
            _accept(sizes, name, member.file_size, plain=kind in (0, stat.S_IFREG) and not member.flag_bits & 1)
            self._members[name] = member
        if len(members) > 4 * MAX_FILES:
            raise InvalidBundle("The bundle holds too many files.")
        self.sizes: Mapping[str, int] = sizes

    @contextlib.contextmanager
    def read(self, name: str) -> Iterator[IO[bytes]]:
        with self._archive.open(self._members[name]) as file:
            yield file


def _leaves(name: str) -> bool:
    """Whether a folder's name leads out of the bundle."""
    return name.startswith("/") or "\\" in name or ".." in name.split("/")


def _begins_as_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"
