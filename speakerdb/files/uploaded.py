"""Uploaded files: they belong to the library, and each goes with the last recording that has it."""

from __future__ import annotations

import re
from pathlib import Path

from speakerdb.catalog import journal, listing
from speakerdb.catalog.catalog import Catalog

NAME = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$"
_NAME = re.compile(NAME)


def is_name(name: str) -> bool:
    """Whether an uploaded file may have this name: one word, with no path in it."""
    return _NAME.fullmatch(name) is not None


def name_of(folder: Path, path: str | None) -> str | None:
    """The name of an uploaded file by its path; None for a file of elsewhere."""
    if path is None:
        return None
    file = Path(path)
    return file.name if file.parent == folder.resolve() and is_name(file.name) else None


def remove_unused(catalog: Catalog, folder: Path, name: str, who: str, *, told: bool = False) -> bool:
    """Remove an uploaded file unless a recording has it; whether it was removed. With `told` it has an event of its own."""
    path = folder.resolve() / name
    with catalog.job() as tx:
        if listing.uses_path(tx, str(path)):
            return False
        if told and path.exists():
            journal.record(tx, "upload-removed", who, catalog.now(), size=path.stat().st_size)
        path.unlink(missing_ok=True)
    return True
