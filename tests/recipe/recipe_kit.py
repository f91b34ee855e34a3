"""What the tests of recipes share: names for the voices, embedders that count, and a look at every row."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from synthetic_voices import MadeUp

from speakerdb.extraction import Loader
from speakerdb.models.port import Embedder
from speakerdb.models.registry import LoadedModel
from speakerdb.service import SpeakerDB
from speakerdb.types import FloatArray, Generation


def name_everybody(db: SpeakerDB, talks: Sequence[MadeUp]) -> None:
    """Each made-up voice is a person."""
    people = {number: db.create_profile(f"person {number}").id for number in range(3)}
    for talk in talks:
        for speaker in db.speakers(recording=talk.stem):
            db.assign(speaker.id, people[talk.voices[speaker.label]])


class Counting:
    """An embedder that remembers what it was given."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self.given: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def embed(self, segments: Sequence[FloatArray]) -> FloatArray:
        self.given += [len(segment) for segment in segments]
        return self._inner.embed(segments)


class CountingLoad:
    """Loads as always, with a counting embedder, and perhaps another checksum."""

    def __init__(self, checksum: str | None = None) -> None:
        self.embedder: Counting | None = None
        self._checksum = checksum

    def __call__(self, generation: Generation) -> LoadedModel:
        loaded = Loader("cpu")(generation)
        self.embedder = self.embedder or Counting(loaded.embedder)
        return replace(loaded, embedder=self.embedder, checksum=self._checksum or loaded.checksum)


def everything(data: Path) -> dict[str, Any]:
    """All rows of the catalog and of the index, by file and table; who works now is no part of it."""
    found: dict[str, Any] = {}
    for file in ("catalog.db", "index.db"):
        connection = sqlite3.connect(data / file)
        try:
            tables = [t for (t,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in sorted(tables):
                found[f"{file}/{table}"] = sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)  # noqa: S608
        finally:
            connection.close()
    return found
