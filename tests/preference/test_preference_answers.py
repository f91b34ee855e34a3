"""Which generation answers under a preference: in the middle of a migration, after it, for new voices, for one library."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakerdb.core import preference as decisions
from speakerdb.errors import NotEmbedded
from speakerdb.live import preferences as module
from speakerdb.reports import MatchResult
from speakerdb.service import SpeakerDB
from speakerdb.settings import PreferenceSettings
from tests.preference.conftest import add

Open = Callable[..., SpeakerDB]


def path(result: MatchResult) -> tuple[str, str]:
    return result.generation, result.path


@pytest.fixture
def halfway(open_db: Open) -> Callable[..., SpeakerDB]:
    """Three recordings in v3, the first of them in v4 too; v3 serves."""

    def make(**more: Any) -> SpeakerDB:
        db = open_db(**more)
        if not db.recordings():
            for name in "abc":
                add(db, name)
            db.work()
            db.start_migration("v4", force=True)
            db.work(limit=1)
        return db

    return make


def speakers(db: SpeakerDB, name: str) -> list[str]:
    return sorted(speaker.id for speaker in db.speakers(recording=name))


def recording_in_both(db: SpeakerDB) -> str:
    return next(r.id for r in db.recordings() if all("v4" in s.generations and s.generations["v4"] == "embedded"
                                                    for s in db.speakers(recording=r.id)))  # fmt: skip


def test_without_one_the_alias_decides(halfway: Callable[..., SpeakerDB]) -> None:
    db = halfway()
    assert all(path(db.match(speaker=s.id)) == ("v3", "serving") for s in db.speakers())
    assert (db.status().preferences, [p for p in db.status().problems if p.code == "preference"]) == ((), [])


def test_one_that_is_not_complete_is_not_used_without_a_fallback(halfway: Callable[..., SpeakerDB]) -> None:
    for text in ("v4", "auto:v4"):
        db = halfway()
        db.live.set("preference", text)
        assert all(path(db.match(speaker=s.id)) == ("v3", "serving") for s in db.speakers())
        (problem,) = (p for p in db.status().problems if p.code == "preference")
        assert problem.severity == "error"
        assert "not complete" in problem.message
        assert problem.command == "speakerdb live clear preference"


def test_it_answers_where_both_sides_have_it_and_its_fallback_elsewhere(halfway: Callable[..., SpeakerDB]) -> None:
    """Of six voices v4 has two, of one recording. Their neighbours are in v3 only, so v4 cannot say who is near."""
    db = halfway()
    db.live.set("preference", "auto:v4/v3")
    both = recording_in_both(db)
    asked = speakers(db, both)[0]
    assert path(db.match(speaker=asked)) == ("v3", "serving"), "v4 lacks those who are near"
    inside = db.match(speaker=asked, same_recording=True, k=1)
    others = {s.id for s in db.speakers() if s.recording_id != both}
    near = db.match(speaker=asked, same_recording=True, k=1, generation="v3").matches[0].id
    assert path(inside) == (("v3", "serving") if near in others else ("v4", "preferred"))
    for voice in others:
        assert path(db.match(speaker=voice)) == ("v3", "serving")
    db.work()
    db.preferences._complete.clear()
    for voice in db.speakers():
        assert path(db.match(speaker=voice.id)) == ("v4", "preferred")
    assert {path(each) for each in db.match_many([s.id for s in db.speakers()])} == {("v4", "preferred")}
    (view,) = db.status().preferences
    assert (view.text, view.answers, view.obeyed, view.complete) == ("auto:v4/v3", ("v4", "v3"), True, True)
    assert db.serving.resolve(fresh=True).generation.name == "v3", "the alias is not touched"


def test_an_answer_of_an_incomplete_one_is_right_whenever_it_is_given(halfway: Callable[..., SpeakerDB]) -> None:
    """Nobody whom the fallback finds is missing in it."""
    db = halfway()
    db.live.set("preference", "auto:v4/v3")
    for voice in db.speakers():
        for k in (1, 3):
            for same in (False, True):
                found = db.match(speaker=voice.id, k=k, same_recording=same)
                plain = db.match(speaker=voice.id, k=k, same_recording=same, generation="v3")
                if found.generation == "v4":
                    assert {m.id for m in plain.matches} <= {
                        s.id for s in db.speakers() if s.generations.get("v4") == "embedded"
                    }
                else:
                    assert [m.id for m in found.matches] == [m.id for m in plain.matches]


def test_a_vector_without_a_row_is_asked_in_the_generation_that_lacks_nobody(halfway: Callable[..., SpeakerDB]) -> None:
    db = halfway()
    db.live.set("preference", "auto:v4/v3")
    assert db.match(vector=np.ones(24, np.float32)).generation == "v3"
    db.work()
    db.preferences._complete.clear()
    assert db.match(vector=np.ones(16, np.float32)).generation == "v4"
    assert db.match(vector=np.ones(24, np.float32), generation="v3").generation == "v3", (
        "what is asked for by name is given"
    )


@pytest.fixture
def finalized(open_db: Open) -> Callable[..., SpeakerDB]:
    """v4 serves, and v3 is kept current."""

    def make(**more: Any) -> SpeakerDB:
        db = open_db(**more)
        if not db.recordings():
            for name in "ab":
                add(db, name)
            db.work()
            db.start_migration("v4", force=True)
            db.work()
            db.finalize()
        return db

    return make


def test_a_fixed_one_is_the_way_back_and_nothing_is_missing_when_it_is_taken_back(
    finalized: Callable[..., SpeakerDB], monkeypatch: pytest.MonkeyPatch
) -> None:
    finalized()
    db = finalized(preference=PreferenceSettings(version="v3"))
    assert {path(db.match(speaker=s.id)) for s in db.speakers()} == {("v3", "preferred")}
    new = add(db, "new")
    with pytest.raises(NotEmbedded):
        db.match(speaker=new[0])
    db.work()
    assert {path(db.match(speaker=each)) for each in new} == {("v3", "preferred")}
    (problem,) = (p for p in db.status().problems if p.code == "preference")
    assert (problem.severity, problem.generation) == ("warning", "v3")
    assert problem.command == "unset PYANNOTE_MODE PYANNOTE_VERSION PYANNOTE_FALLBACK"
    assert "the alias names v4" in problem.message
    back = finalized()
    assert {path(back.match(speaker=s.id)) for s in back.speakers()} == {("v4", "serving")}
    assert back.migration() is not None
    assert back.migration().source_lag == 0  # type: ignore[union-attr]


def test_what_is_new_and_in_the_queue_does_not_take_a_fixed_one_away(finalized: Callable[..., SpeakerDB]) -> None:
    """Each recording that comes in would otherwise switch the answers of all others for a moment."""
    db = finalized()
    db.live.set("preference", "v3")
    old = speakers(db, "a")
    new = add(db, "new")
    with db.catalog.holding("work") as lease:  # v4 has it, and v3 not yet
        db.extraction.step(lease, without=("v3",))
    assert path(db.match(speaker=old[0])) == ("v3", "preferred")
    with pytest.raises(NotEmbedded):
        db.match(speaker=new[0])
    assert path(db.match(speaker=new[0], generation="v4")) == ("v4", "serving")
    db.live.set("preference", "v3/v4")
    assert path(db.match(speaker=new[0])) == ("v4", "serving"), "its fallback may"


def test_for_one_library_only(finalized: Callable[..., SpeakerDB]) -> None:
    db = finalized()
    tv = add(db, "tv", library="tv")
    db.work()
    db.live.set("preference", "v3", library="tv", why="the editors compare")
    assert path(db.match(speaker=tv[0], library="tv")) == ("v3", "preferred")
    assert path(db.match(speaker=tv[0], library="default")) == ("v4", "serving")
    assert path(db.match(speaker=tv[0])) == ("v4", "serving"), "it is asked about all of them"
    db.live.set("preference", "v3")
    db.live.set("preference", "auto", library="tv")
    assert path(db.match(speaker=tv[0], library="tv")) == ("v4", "serving")
    assert path(db.match(speaker=tv[0])) == ("v3", "preferred")
    views = db.preferences.views()
    assert [(view.library, view.text) for view in views] == [(None, "v3")], "auto prefers nothing"
    db.live.set("preference", "v3/v4", library="tv")
    problems = [p.command for p in db.preferences.problems()]
    assert problems == ["speakerdb live clear preference", "speakerdb live clear preference --library tv"]


@pytest.mark.parametrize("name", ["it's; $(tv)", "-tv"])
def test_how_it_is_taken_back_names_the_library_as_one_word(finalized: Callable[..., SpeakerDB], name: str) -> None:
    db = finalized()
    add(db, "tv", library=name)
    db.live.set("preference", "v3", library=name)
    (problem,) = db.preferences.problems()
    assert name in [word.removeprefix("--library=") for word in shlex.split(problem.command)]


def test_a_live_one_is_stronger_than_the_environments(finalized: Callable[..., SpeakerDB]) -> None:
    finalized()
    db = finalized(preference=PreferenceSettings(version="v3"))
    voice = speakers(db, "a")[0]
    db.live.set("preference", "auto")
    assert path(db.match(speaker=voice)) == ("v4", "serving")
    assert db.preferences.views() == ()
    db.live.clear("preference")
    assert path(db.match(speaker=voice)) == ("v3", "preferred")


def test_one_whose_index_is_gone_is_loud_and_the_alias_answers(finalized: Callable[..., SpeakerDB]) -> None:
    db = finalized()
    db.live.set("preference", "v3")
    db.retire()
    assert path(db.match(speaker=speakers(db, "a")[0])) == ("v4", "serving")
    (problem,) = db.preferences.problems()
    assert problem.severity == "error"
    assert "no index" in problem.message


def test_it_is_in_the_log_once_and_whenever_it_changes(
    finalized: Callable[..., SpeakerDB], caplog: pytest.LogCaptureFixture
) -> None:
    db = finalized()
    voice = speakers(db, "a")[0]
    with caplog.at_level(logging.WARNING, logger="speakerdb.live.preferences"):
        for text in ("v3", "v3/v4", None):
            if text is None:
                db.live.clear("preference")
            else:
                db.live.set("preference", text)
            for _ in range(3):
                db.match(speaker=voice)
    assert [record.getMessage() for record in caplog.records] == [
        "preference-stands preference=v3 library=all obeyed=True",
        "preference-stands preference=v3/v4 library=all obeyed=True",
        "preference-ended library=all",
    ]


def test_status_shows_it_although_nobody_knows_what_serves(finalized: Callable[..., SpeakerDB]) -> None:
    from speakerdb.types import SERVING_ALIAS, AliasAction

    db = finalized()
    db.live.set("preference", "v3")
    db.index.update_aliases([AliasAction.remove(SERVING_ALIAS, db.serving.resolve(fresh=True).index)])
    db.serving.forget()
    (view,) = db.status().preferences
    assert (view.serving, view.answers, view.obeyed) == (None, (), False)


def test_no_generation_is_named_in_the_code() -> None:
    for file in (decisions.__file__, module.__file__):
        code = [line.partition("#")[0] for line in Path(file).read_text(encoding="utf-8").splitlines()]
        assert not [line for line in code if '"v3"' in line or '"v4"' in line]
