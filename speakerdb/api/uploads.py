"""Uploaded files: streamed into a folder of the data directory, under a name that the caller chooses.

A file takes its name when all of it is on the disk, so whoever finds it finds the whole. A name is one word: no path comes
in with it. The same file again is fine; another one under the name is refused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any

from fastapi import Path as PathParameter
from fastapi import Request, Response

from speakerdb.api.house import House, house_of
from speakerdb.api.parts import Cursor, HouseOf, Library, Limit, Page, page_of, place_of
from speakerdb.api.route import BYTES, Routes, bounded
from speakerdb.catalog import journal, listing
from speakerdb.catalog.conditions import only_if
from speakerdb.catalog.database import Transaction
from speakerdb.errors import AlreadyExists, Conflict, InvalidInput, NotFound, StorageFull
from speakerdb.files import uploaded
from speakerdb.files.uploaded import NAME, is_name
from speakerdb.reports.access import Role
from speakerdb.reports.recordings import Part
from speakerdb.service import SpeakerDB

routes = Routes("uploads")

PARTIAL = ".partial-"
STALE_SECONDS = 24 * 3600

FileName = Annotated[
    str, PathParameter(pattern=NAME, description="A file name of your choice: letters, digits, `.`, `_`, `-`.")
]


@dataclass(frozen=True, slots=True)
class UploadView:
    """An uploaded file. Name it as `upload` of a recording."""

    name: str
    size: int
    sha256: str | None
    """Of what was sent; None in lists."""
    used: bool
    """Whether a recording has it."""


@dataclass(frozen=True, slots=True)
class Received:
    """What came in: where it lies for now, its size and its SHA-256."""

    path: Path
    size: int
    sha256: str


@routes.put(
    "/uploads/{name}", Role.OPERATOR, "add", body="upload", response_model=UploadView, status_code=201,
    openapi_extra=BYTES,
)  # fmt: skip
async def upload(name: FileName, request: Request, response: Response) -> Any:
    """Send a file: its bytes are the body. The same again is fine (200); 409 for another file under the name."""
    house = house_of(request)
    async with received(request, house.settings.upload_mb) as file:
        new = await house.call(_keep, house.db, file, name)
    response.status_code = 201 if new else 200
    return UploadView(name, file.size, file.sha256, await house.call(_used, house.db, name))


@routes.get("/uploads", Role.READER, response_model=Page[UploadView])
def list_uploads(db: Library, limit: Limit = 100, cursor: Cursor = None) -> Page[UploadView]:
    """The uploaded files by name. Those that no recording has may be removed."""
    place = place_of(cursor, "uploads", str)
    folder = db.settings.uploads_folder
    names = sorted(each.name for each in folder.iterdir() if is_name(each.name)) if folder.is_dir() else []
    behind = [name for name in names if place is None or name > place[0]]
    views = tuple(view for name in behind[:limit] if (view := _view(db, folder / name)) is not None)
    return page_of(Part(views, (behind[limit - 1],) if len(behind) > limit else None), "uploads")


@routes.delete("/uploads/{name}", Role.OPERATOR, response_model=UploadView)
def remove_upload(name: FileName, house: HouseOf) -> UploadView:
    """Remove an uploaded file that no recording has."""
    db = house.db
    try:
        size = _size(path_of(db, name))
    except FileNotFoundError:  # somebody else was faster
        raise _not_sent(name) from None
    if not remove_unused(db, name, told=True):
        raise Conflict(
            f"A recording has the uploaded file {name!r}.", hint="Remove the recording; its file goes with it."
        )
    return UploadView(name, size, None, used=False)


@asynccontextmanager
async def received(request: Request, megabytes: float) -> AsyncIterator[Received]:
    """The body in a file that is gone after the block, unless it was moved. Memory holds one piece at a time.

    `Refusal` for a body that is too large or too slow, `StorageFull`, `InvalidInput` for an empty one.
    """
    house = house_of(request)
    folder = house.db.settings.uploads_folder
    file = await house.call(_begin, folder, house.db.settings.disk_floor_mb, request.headers.get("content-length"))
    path = Path(file.name)
    digest = hashlib.sha256()
    size = 0
    try:
        try:
            async for piece in bounded(request, megabytes):
                digest.update(piece)
                size += len(piece)
                await house.call(_write, file, piece)
        finally:
            file.close()
        if size == 0:
            raise InvalidInput("The body is empty: send the file's bytes.")
        yield Received(path, size, digest.hexdigest())
    finally:
        path.unlink(missing_ok=True)


def path_of(db: SpeakerDB, name: str) -> Path:
    """Where an uploaded file lies. `NotFound`."""
    path = db.settings.uploads_folder / name
    if not is_name(name) or not path.is_file():
        raise _not_sent(name)
    return path


def _not_sent(name: str) -> NotFound:
    return NotFound(f"There is no uploaded file {name!r}.", hint="Send it first: PUT /v1/uploads/NAME.")


def name_of(db: SpeakerDB, path: str | None) -> str | None:
    """The name of an uploaded file by its path; None for a file of elsewhere."""
    return uploaded.name_of(db.settings.uploads_folder, path)


def still_there(db: SpeakerDB, name: str | None) -> AbstractContextManager[None]:
    """A block whose first change is made only while the uploaded file is there: `NotFound` where it was removed meanwhile."""

    def check(_tx: Transaction) -> None:
        path_of(db, str(name))

    return nullcontext() if name is None else only_if(check)


def remove_unused(db: SpeakerDB, name: str, *, told: bool = False) -> bool:
    """Remove an uploaded file unless a recording has it; whether it was removed. With `told` it has an event of its own."""
    return uploaded.remove_unused(db.catalog, db.settings.uploads_folder, name, db.who, told=told)


def clear_partial(house: House) -> None:
    """Remove what a process left that died while it received."""
    folder = house.db.settings.uploads_folder
    if folder.is_dir():
        now = house.db.catalog.now() / 1e6
        for each in folder.glob(f"{PARTIAL}*"):
            if now - each.stat().st_mtime > STALE_SECONDS:
                each.unlink(missing_ok=True)


def _begin(folder: Path, floor_mb: int, told: str | None) -> IO[bytes]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    wanted = int(told) if told is not None and told.isdecimal() else 0
    if shutil.disk_usage(folder).free - wanted < floor_mb * 1_000_000:
        raise StorageFull("There is no room for this file.", hint="Free some room on the server's disk.")
    return tempfile.NamedTemporaryFile("wb", dir=folder, prefix=PARTIAL, delete=False)


def _write(file: IO[bytes], piece: bytes) -> None:
    try:
        file.write(piece)
        file.flush()  # here a full disk is told as one, and not when the file is closed
    except OSError as error:
        raise StorageFull("The file could not be written.", hint="Free some room on the server's disk.") from error


def _keep(db: SpeakerDB, file: Received, name: str) -> bool:
    """Give what came in its name; False where the same file has it already."""
    wanted = db.settings.uploads_folder / name
    _sync(file.path)
    while True:
        try:
            _link(db, file, wanted)
        except FileExistsError:
            try:
                same = _size(wanted) == file.size and _sha256(wanted) == file.sha256
            except FileNotFoundError:
                continue  # it was removed meanwhile
            if not same:
                raise AlreadyExists(f"There is another uploaded file {name!r} already.") from None
            return False
        return True


def _link(db: SpeakerDB, file: Received, wanted: Path) -> None:
    """The file has its name, and its event. Where the event cannot be written it has neither: who sends it again has both."""
    with db.catalog.job() as tx:
        os.link(file.path, wanted)  # unlike a rename, it takes no other file's place
        try:
            _sync(wanted.parent)
            journal.record(tx, "file-uploaded", db.who, db.catalog.now(), size=file.size, sha256=file.sha256)
        except BaseException:
            wanted.unlink(missing_ok=True)  # nobody has it yet: whoever wants it waits for this transaction
            raise


def _sync(path: Path) -> None:
    """What was acknowledged is on the disk: a file's bytes, and in a folder its name."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _view(db: SpeakerDB, path: Path) -> UploadView | None:
    """One of a list; None where it was removed meanwhile."""
    try:
        return UploadView(path.name, _size(path), None, _used(db, path.name))
    except FileNotFoundError:
        return None


def _used(db: SpeakerDB, name: str) -> bool:
    path = (db.settings.uploads_folder.resolve()) / name
    with db.catalog.read() as tx:
        return listing.uses_path(tx, str(path))


def _size(path: Path) -> int:
    return path.stat().st_size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
