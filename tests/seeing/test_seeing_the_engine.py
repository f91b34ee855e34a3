"""What the index's engine says of itself is in the status and in the doctor's answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from speakerdb.doctor.library import Facts, check_index
from speakerdb.errors import IndexUnavailable
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings

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
