"""A roll-back loses nothing, across restarts and replicas; and where the source lags it says so and asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from speakerdb.cli import session
from speakerdb.cli.main import main
from speakerdb.errors import MediaMissing, NotFound
from speakerdb.extraction.extract import Extracted, Task
from speakerdb.reports import SourceLag
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_extract
from speakerdb.testing.invariants import check
from tests.alias.conftest import add


def lag(db: SpeakerDB) -> SourceLag:
    view = db.migration()
    assert view is not None
    assert view.lag is not None
    return view.lag


def test_restarts_and_replicas_lose_nothing(open_db: Callable[..., SpeakerDB], finalized: SpeakerDB) -> None:
    one, two = finalized, open_db()
    add(one, "c")
    one.work()
    gone = sorted(s.id for s in two.speakers(recording="a"))
    two.remove("a")
    add(two, "d")
    assert (lag(one).recordings_queued, lag(one).documents_waiting) == (1, 2), "both see the same"
    assert lag(one) == lag(two)
    one.close()  # as if it had died: what it had not written is the next one's
    two.work()
    two.close()
    three = open_db()
    assert lag(three) == SourceLag("v3", 0, 0, 0, 0)
    assert not lag(three).any
    report = three.rollback()
    assert (report.serving, report.source_lag) == ("v3", 0)
    assert sorted({s.recording_id for s in three.speakers()}) == ["b", "c", "d"]
    for voice in three.speakers():
        assert three.match(speaker=voice.id).generation == "v3"
    for voice in gone:
        with pytest.raises(NotFound):
            three.match(speaker=voice)
    check(three)


def test_the_lag_says_what_is_missing_and_why(finalized: SpeakerDB, executor: FakeExecutor) -> None:
    def broken(task: Task) -> Extracted:
        if task.generation.name == "v3" and task.recording_id == "c":
            raise MediaMissing("It went in between.")
        return fake_extract(task)

    executor.answer = broken
    add(finalized, "c")
    finalized.work()
    add(finalized, "d")
    found = lag(finalized)
    assert (found.generation, found.speakers, found.recordings_queued, found.recordings_failed) == ("v3", 2, 1, 1)
    assert dict(found.errors) == {"media-missing": 1}
    assert found.any
    executor.answer = fake_extract
    finalized.retry()
    finalized.work()
    assert not lag(finalized).any


def test_after_it_is_retired_there_is_none(finalized: SpeakerDB) -> None:
    finalized.retire()
    view = finalized.migration()
    assert view is not None
    assert (view.lag, view.source_lag) == (None, 0)


@pytest.fixture
def cli(
    finalized: SpeakerDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setattr(session, "open_service", lambda *_, **__: _Kept(finalized))

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["--data-dir", str(tmp_path / "data"), *words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


class _Kept:
    """The library, which a command does not close."""

    def __init__(self, db: SpeakerDB) -> None:
        self._db = db

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def __enter__(self) -> SpeakerDB:
        return self._db

    def __exit__(self, *_: object) -> None:
        return None


@pytest.fixture
def lagging(finalized: SpeakerDB, executor: FakeExecutor) -> SpeakerDB:
    """v3 lacks the voices of one recording that failed."""

    def broken(task: Task) -> Extracted:
        if task.generation.name == "v3":
            raise MediaMissing("It went in between.")
        return fake_extract(task)

    executor.answer = broken
    add(finalized, "c")
    finalized.work()
    finalized.remove("a")
    return finalized


def test_a_roll_back_with_a_lag_says_what_would_be_missing_and_asks(
    lagging: SpeakerDB, cli: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, _ = cli("migrate", "status")
    assert code == 0
    assert "2 speakers; 2 documents to be written to its index; recordings failed: 1 (media-missing 1)" in out
    code, out, err = cli("migrate", "rollback", "--json")
    assert (code, json.loads(out)["error"]["code"]) == (12, "not-confirmed")
    assert "v3 is behind: 2 speakers" in err
    assert "Nobody finds 2 speakers until v3 has them too: `speakerdb work` after `speakerdb migrate retry`" in err
    assert lagging.serving.resolve(fresh=True).generation.name == "v4"
    code, out, err = cli("migrate", "rollback", "--yes")
    assert code == 0
    assert "v3 is behind" in err, "it is said also where nobody asks"
    assert "The source lacks 2 speakers." in out
    assert lagging.serving.resolve(fresh=True).generation.name == "v3"


def test_without_a_lag_it_only_asks(finalized: SpeakerDB, cli: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = cli("migrate", "rollback")
    assert code == 12
    assert "behind" not in err


def test_at_once_says_that_documents_come_later(lagging: SpeakerDB, cli: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = cli("migrate", "rollback", "--now", "--yes")
    assert code == 0
    assert "Documents are written after the alias has moved." in err
