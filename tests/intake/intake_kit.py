"""Small libraries of real WAV files with turns and manifests, and what a database holds of them."""

from __future__ import annotations

import json
import sqlite3
import wave
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

SECONDS = 2.0
TURNS = [{"start": 0.0, "end": 1.0, "speaker": "A"}, {"start": 1.0, "end": 2.0, "speaker": "B"}]
RTTM = "SPEAKER {0} 1 0.0 1.0 <NA> <NA> A <NA> <NA>\nSPEAKER {0} 1 1.0 1.0 <NA> <NA> B <NA> <NA>\n"


def sound(path: Path, seed: int = 0, seconds: float = SECONDS) -> Path:
    """A short WAV file, unlike those of other seeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).integers(110, 145, int(8000 * seconds), dtype=np.uint8)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(samples.tobytes())
    return path


def with_turns(path: Path, seed: int = 0) -> Path:
    """A WAV file with an RTTM beside it."""
    sound(path, seed)
    path.with_suffix(".rttm").write_text(RTTM.format("whatever"))
    return path


def manifest(path: Path, entries: Iterable[dict[str, Any] | str]) -> Path:
    """A manifest in JSON Lines; a text is a line as it is."""
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def library(folder: Path, count: int, **more: Any) -> Path:
    """So many recordings and a manifest of them."""
    entries = []
    for n in range(count):
        sound(folder / "media" / f"{n:03}.wav", seed=n + 1)
        entries.append({"id": f"r{n:03}", "path": f"media/{n:03}.wav", "turns": TURNS} | more)
    return manifest(folder / "library.jsonl", entries)


def rows(data: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Rows of the catalog, read without the product."""
    connection = sqlite3.connect(data / "catalog.db")
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


def everything(data: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of the catalog and of the index, by file and table."""
    found = {}
    for file in ("catalog.db", "index.db"):
        connection = sqlite3.connect(data / file)
        try:
            tables = [t for (t,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                if table != "leases":
                    found[f"{file}/{table}"] = sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)  # noqa: S608
        finally:
            connection.close()
    return found


def entries_of(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a manifest."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
