"""What the index's engine says of itself is in the status and in the doctor's answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from speakerdb.doctor.library import Facts, check_index
from speakerdb.errors import IndexUnavailable
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.reports import Status
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices

SENTENCE = "The index speakers_v3 is red: some of its documents are on no node that is there."


def test_status_and_doctor_tell_the_troubles_of_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = fake_settings(tmp_path / "data")
    with SpeakerDB.open(settings, executor=FakeExecutor()) as db:
        assert db.status().problems == ()
        monkeypatch.setattr(EmbeddedIndex, "troubles", lambda _: [SENTENCE])
        (problem,) = db.status().problems
        assert (problem.code, problem.severity, problem.message) == ("index-trouble", "warning", SENTENCE)
    found = [check for check in check_index(settings, Facts(live=("v3",))) if check.verdict != "pass"]
    assert [(check.name, check.verdict, check.found) for check in found] == [("index engine", "warn", SENTENCE)]


def test_an_engine_that_does_not_tell_is_a_problem_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(self: EmbeddedIndex) -> Sequence[str]:
        raise IndexUnavailable("GET /_cluster/settings: no permissions for cluster:monitor/state.")

    with SpeakerDB.open(fake_settings(tmp_path / "data"), executor=FakeExecutor()) as db:
        monkeypatch.setattr(EmbeddedIndex, "troubles", silent)
        (problem,) = db.status().problems
        assert problem.code == "index-unavailable"
        assert "cluster:monitor/state" in problem.message


def test_an_index_that_falls_silent_between_two_questions_hides_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of its questions the index leaves unanswered first, and from then on: the status is there."""
    with SpeakerDB.open(fake_settings(tmp_path / "data"), executor=FakeExecutor()) as db:
        db.add(None, two_voices(), recording_id="a", waveform=silence(20))
        db.work()
        db.start_migration("v4", force=True)
        left = [0]

        def until_silent(name: str) -> Callable[..., Any]:
            real = getattr(EmbeddedIndex, name)

            def asked(self: EmbeddedIndex, *given: Any, **more: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    raise IndexUnavailable("A shard is not there yet.")
                return real(self, *given, **more)

            return asked

        for name in ("indices", "aliases", "troubles"):
            monkeypatch.setattr(EmbeddedIndex, name, until_silent(name))
        for verb, questions in ((db.status, 4), (db.migration, 3)):
            for answered in range(100):
                left[0] = answered
                seen = verb()
                assert seen is not None
                if left[0] >= 0:
                    break
                if isinstance(seen, Status):
                    assert seen.recordings == 1
                    assert "index-unavailable" in {problem.code for problem in seen.problems}
            assert answered == questions
