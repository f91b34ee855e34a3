"""Libraries of real, tiny files whose embeddings are made up: what is looked at here are the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from speakerdb.reports.files import FileChange, FileFinding
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings
from speakerdb.types import Turn
from tests.synthetic_voices import voice, write_wav

SECONDS = 2.0


@dataclass
class Shelf:
    """A library, its media folder and the executor that answers for it."""

    folder: Path
    db: SpeakerDB
    executor: FakeExecutor

    @property
    def media(self) -> Path:
        return self.folder / "media"

    def write(self, name: str, *, number: int = 1, seconds: float = SECONDS) -> Path:
        """A file of one voice in the media folder; another number is other sound of the same length."""
        path = self.folder / "media" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_wav(path, voice(number, seconds))

    def add(self, *names: str, library: str = "default") -> None:
        """Recordings that are called after their files, each with two speakers."""
        for name in names:
            path = self.write(name, number=sum(name.encode()))
            turns = [Turn(0, SECONDS / 2, "A"), Turn(SECONDS / 2, SECONDS, "B")]
            self.db.add(path, turns, recording_id=name, library=library)

    def found(self, **how: object) -> dict[str, FileFinding]:
        """What a check finds, by recording."""
        findings: list[FileFinding] = []
        self.db.files.check(on_finding=findings.append, **how)  # type: ignore[arg-type]
        return {finding.recording_id: finding for finding in findings}

    def paths(self) -> dict[str, str]:
        """Where each recording's file lies, below the library's folder."""
        return {
            view.id: str(Path(view.path).relative_to(self.folder))
            for view in self.db.recordings()
            if view.path is not None
        }

    def items(self) -> dict[tuple[str, str], tuple[str, str | None]]:
        """State and error code of every work item, by recording and generation."""
        with self.db.catalog.read() as tx:
            sql = "SELECT recording_id, generation, state, error_code FROM work_items"
            return {(row[0], row[1]): (row[2], row[3]) for row in tx.exec_driver_sql(sql)}

    def sql(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """One statement, as nobody else would run it."""
        with self.db.catalog.job() as tx:
            done = tx.exec_driver_sql(statement, values)
            return [tuple(row) for row in done] if done.returns_rows else []


class Changes(list[FileChange]):
    """What came of each recording, by id."""

    def codes(self) -> dict[str, str | None]:
        return {change.recording_id: change.code or change.outcome.value for change in self}


@pytest.fixture
def open_shelf(tmp_path: Path) -> Iterator[Callable[..., Shelf]]:
    opened: list[SpeakerDB] = []

    def make(**more: object) -> Shelf:
        executor = FakeExecutor()
        opened.append(SpeakerDB.open(fake_settings(tmp_path / "data", **more), executor=executor))
        return Shelf(tmp_path, opened[-1], executor)

    yield make
    for db in opened:
        db.close()


@pytest.fixture
def shelf(open_shelf: Callable[..., Shelf]) -> Shelf:
    return open_shelf()
