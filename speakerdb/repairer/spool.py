"""What is to be done, in a file: a plan may be long, and memory is not."""

from __future__ import annotations

import errno
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import IO

from speakerdb.core.drift import Drift, Finding, Mend
from speakerdb.errors import StorageFull
from speakerdb.reports.repairing import DriftView
from speakerdb.types import Kind

SHOWN_EACH = 10
"""Differences of each class that are shown."""
IN_MEMORY = 4_000_000
"""Bytes until which a spool needs no file."""


class Spool:
    """Findings in the order in which they came, and what was learned; written once, read any number of times."""

    def __init__(self) -> None:
        self._findings = _file()
        self._learned = _file()
        self.found: Counter[str] = Counter()
        self.actions: Counter[str] = Counter()
        self.learned = 0
        self.deletions = 0
        self._shown: defaultdict[Drift, list[DriftView]] = defaultdict(list)

    def add(self, one: Finding) -> None:
        """Keep a finding."""
        self.found[one.drift.value] += 1
        self.actions[one.mend.value] += 1
        self.deletions += one.deletes
        if len(shown := self._shown[one.drift]) < SHOWN_EACH:
            shown.append(DriftView(one.id, one.drift.value, one.mend.value, one.stated, one.held, one.detail))
        row = (one.id, one.drift.value, one.mend.value, one.stated, one.held, one.kind.value, one.library, one.detail)
        _write(self._findings, row)

    def add_learned(self, row: tuple[str, int, int, int]) -> None:
        """Keep what SQL is to remember: id, version, bucket, digest."""
        self.learned += 1
        _write(self._learned, row)

    @property
    def sample(self) -> tuple[DriftView, ...]:
        """The first findings of each class."""
        return tuple(view for shown in self._shown.values() for view in shown)

    def findings(self, size: int) -> Iterator[list[Finding]]:
        """All findings, so many at a time."""
        for part in _parts(self._findings, size):
            yield [
                Finding(id, Drift(drift), Mend(mend), stated, held, Kind(kind), library, detail)
                for id, drift, mend, stated, held, kind, library, detail in map(json.loads, part)
            ]

    def to_learn(self, size: int) -> Iterator[list[tuple[str, int, int, int]]]:
        """All that was learned, so many at a time."""
        for part in _parts(self._learned, size):
            yield [tuple(json.loads(line)) for line in part]

    def close(self) -> None:
        """Let go of the files."""
        self._findings.close()
        self._learned.close()


def _file() -> IO[str]:
    return tempfile.SpooledTemporaryFile(IN_MEMORY, "w+", encoding="utf-8")


def _write(file: IO[str], row: tuple[object, ...]) -> None:
    try:
        file.write(json.dumps(row) + "\n")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = f"There is no room in {tempfile.gettempdir()} for what a repair has found; nothing was mended."
        raise StorageFull(message, hint="Free some room there, or set TMPDIR to another folder.") from error


def _parts(file: IO[str], size: int) -> Iterator[list[str]]:
    file.seek(0)
    while part := list(islice(file, size)):
        yield part
