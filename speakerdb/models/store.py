"""The folder of models that speakerdb keeps itself: one folder a checkpoint, named by its SHA-256, with a manifest.

A checkpoint comes in whole or not at all: it is written beside its place and renamed into it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

from speakerdb.errors import ConfigurationError, InvalidBundle
from speakerdb.models.hub import CHECKPOINT_FILE
from speakerdb.types import ModelSpec

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20
BLOCK = 1 << 20
OnBytes = Callable[[int], None]
"""Told how many more bytes were copied or hashed."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_STAGING = ".incoming-"


@dataclass(frozen=True, slots=True)
class StoredModel:
    """What a manifest says of one checkpoint. `size` is in bytes; `licence` is a name (``MIT``), None if not known."""

    id: str
    revision: str | None
    subfolder: str | None
    file: str
    sha256: str
    size: int
    architecture: str | None
    dimension: int
    licence: str | None

    @classmethod
    def of(cls, spec: ModelSpec, sha256: str, size: int, licence: str | None) -> StoredModel:
        """The entry of a generation's checkpoint."""
        return cls(
            spec.id, spec.revision, spec.subfolder, CHECKPOINT_FILE, sha256, size, spec.architecture, spec.dimension,
            licence,
        )  # fmt: skip

    @classmethod
    def parse(cls, value: Any) -> StoredModel:
        """An entry out of JSON. `InvalidBundle` for anything that is not exactly one."""
        if not isinstance(value, dict) or set(value) != {f.name for f in fields(cls)}:
            raise InvalidBundle("A model in the manifest does not have the fields it must have.")
        text = [value[name] for name in ("id", "file", "sha256")]
        optional = [value[name] for name in ("revision", "subfolder", "architecture", "licence")]
        numbers = [value[name] for name in ("size", "dimension")]
        if (
            not all(isinstance(v, str) and v.isprintable() and 0 < len(v) <= 300 for v in text)
            or not all(v is None or (isinstance(v, str) and v.isprintable() and len(v) <= 300) for v in optional)
            or not all(type(v) is int and v > 0 for v in numbers)
            or _SHA256.fullmatch(value["sha256"]) is None
            or value["file"] != CHECKPOINT_FILE
        ):
            raise InvalidBundle("A model in the manifest has a field that cannot be what it says.")
        return cls(**value)

    def describes(self, spec: ModelSpec) -> bool:
        """Whether this is the model, and the revision of it, that a generation names."""
        return (self.id, self.revision, self.subfolder) == (spec.id, spec.revision, spec.subfolder)


class ModelStore:
    """The models of a folder, which need not exist before something is put there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha256: str) -> Path:
        """Where a checkpoint lies, or would."""
        return self.folder / sha256 / CHECKPOINT_FILE

    def find(self, spec: ModelSpec) -> Path | None:
        """The file kept for a generation's model: by its pinned checksum, else by id and revision. Its content is not
        looked at."""
        if spec.sha256 is not None:
            path = self.path(spec.sha256)
            return path if path.is_file() else None
        for model in self.models():
            if model.describes(spec) and self.path(model.sha256).is_file():
                return self.path(model.sha256)
        return None

    def models(self) -> list[StoredModel]:
        """The models whose manifest can be read."""
        found: list[StoredModel] = []
        for name in self.folders():
            try:
                found.append(self._manifest(name))
            except (InvalidBundle, OSError, ValueError):
                continue  # `unreadable` tells of it
        return found

    def unreadable(self) -> list[str]:
        """Names of folders whose manifest cannot be read, or is another checkpoint's."""
        readable = {model.sha256 for model in self.models()}
        return [name for name in self.folders() if name not in readable]

    def folders(self) -> list[str]:
        """The checksums that have a folder, sorted."""
        try:
            return sorted(entry.name for entry in os.scandir(self.folder) if _SHA256.fullmatch(entry.name))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _manifest(self, name: str) -> StoredModel:
        path = self.folder / name / MANIFEST
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise InvalidBundle(f"{path} is too large for a manifest.")
        model = StoredModel.parse(json.loads(path.read_text(encoding="utf-8")))
        if model.sha256 != name:
            raise InvalidBundle(f"{path} is the manifest of another checkpoint.")
        return model

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder on the store's own disk, removed at the end with whatever is still in it."""
        folder = self.folder / f"{_STAGING}{uuid.uuid4().hex}"
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise ConfigurationError(
                f"The folder of models {self.folder} cannot be written: {error.strerror}.",
                hint="Make it writable, or set `models.folder` (SPEAKERDB_MODELS__FOLDER) to another.",
            ) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def put(self, data: bytes, model: StoredModel) -> bool:
        """Keep a checkpoint whose checksum is `model.sha256`. False where it was there already, whole."""
        with self.staging() as staging:
            folder = staging / model.sha256
            folder.mkdir()
            with (folder / CHECKPOINT_FILE).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            return self.move_in(folder, model)

    def move_in(self, folder: Path, model: StoredModel) -> bool:
        """Put a folder that holds a checkpoint, already compared with `model.sha256`, in its place. False where the
        same checkpoint was there already, whole."""
        (folder / MANIFEST).write_text(json.dumps(asdict(model), indent=2) + "\n", encoding="utf-8")
        place = self.folder / model.sha256
        if place.is_dir() and self.is_whole(model.sha256):
            return False
        if place.is_symlink() or place.exists():
            # Damaged: it steps aside first, because a folder cannot be renamed onto one that is not empty.
            os.rename(place, folder.parent / f"damaged-{model.sha256}")
        os.rename(folder, place)
        return True

    def is_whole(self, sha256: str, *, on_bytes: OnBytes | None = None) -> bool:
        """Whether a kept checkpoint still has the checksum it is named by, and its manifest can be read."""
        try:
            with self.path(sha256).open("rb") as file:
                digest, _ = copy_hashed(file, None, limit=None, on_bytes=on_bytes)
            self._manifest(sha256)
        except (OSError, ValueError, InvalidBundle):
            return False
        return digest == sha256

    def remove(self, sha256: str) -> int:
        """Remove a checkpoint; bytes that this frees."""
        place = self.folder / sha256
        size = sum(path.lstat().st_size for path in place.rglob("*") if not path.is_dir())
        with self.staging() as staging:
            os.rename(place, staging / sha256)
        return size


def copy_hashed(
    source: IO[bytes], target: IO[bytes] | None, *, limit: int | None, on_bytes: OnBytes | None = None
) -> tuple[str, int]:
    """SHA-256 and length of everything in `source`, copied to `target` on the way, in constant memory.

    `InvalidBundle` as soon as it is longer than `limit` bytes.
    """
    digest, length = hashlib.sha256(), 0
    while block := source.read(BLOCK):
        length += len(block)
        if limit is not None and length > limit:
            raise InvalidBundle(f"A file of the bundle is longer than the {limit} bytes that it says.")
        digest.update(block)
        if target is not None:
            target.write(block)
        if on_bytes is not None:
            on_bytes(len(block))
    return digest.hexdigest(), length
