"""Every verb of people on a real library: text for people, one document with --json, errors with the next step."""

from __future__ import annotations

import json
from typing import Any

import pytest

from speakerdb.cli import session
from speakerdb.service import SpeakerDB
from tests.lent_library import Shell
from tests.people.conftest import add


@pytest.fixture
def ids(db: SpeakerDB) -> dict[str, str]:
    found = dict(add(db, "one", 8.0, 5.0, 7.0).speakers)
    db.work()
    return found


def test_the_story_of_a_day(shell: Shell, db: SpeakerDB, ids: dict[str, str]) -> None:
    a, b = ids["A"], ids["B"]
    assert [s["id"] for s in shell.json("speakers", "list", "--unnamed")] == [a, b]
    assigned = shell.json("speakers", "assign", a, "--name", "Ada Byron", "--create", "--why", "I know her")
    assert assigned["profile_name"] == "Ada Byron"
    assert shell.json("speakers", "list", "--name", "byron")[0]["id"] == a
    ada = assigned["profile_id"]
    shown = shell.json("profiles", "show", ada)
    assert (shown["name"], shown["speakers"], shown["members"][0]["speaker_id"]) == ("Ada Byron", 1, a)
    eve = shell.json("profiles", "create", "Eve", "--why", "new")["id"]
    shell.json("speakers", "assign", b, eve)
    planned = shell.json("speakers", "split", a, "--turns", "2", "--dry-run")
    assert (planned["speaker_id"], planned["label"], planned["seconds"]) == (None, "A-b", 7.0)
    made = shell.json("speakers", "split", a, "--from", "13", "--label", "guest", "--why", "two voices")
    assert made["turns"] == [{"number": 2, "start": 13.0, "end": 20.0}]
    details = shell.json("speakers", "show", made["speaker_id"], "--turns", "1")
    assert (details["label"], details["turns_total"], details["statistics"][0]["state"]) == ("guest", 1, "waiting")
    assert shell.json("profiles", "merge", eve, ada, "--why", "the same")["speakers"] == 2
    undone = shell.json("undo", "--yes", "--why", "they are not")
    assert (undone["undone"], undone["kind"], undone["why"]) == (True, "profiles-merged", "the same")
    assert shell.json("undo", "--dry-run")["kind"] == "speaker-split"
    assert shell.json("undo", "--yes")["kind"] == "speaker-split"
    empty = shell.json("profiles", "create", "Nobody")["id"]
    assert shell.json("profiles", "delete", empty, "--yes", "--why", "a slip")["name"] == "Nobody"
    assert shell.json("profiles", "rename", ada, "Ada")["name"] == "Ada"
    assert shell.json("speakers", "unassign", a, "--why", "not sure")["profile_id"] is None
    assert shell.json("speakers", "rename", a, "A.", "--why", "short")["name"] == "A."
    assert [p["name"] for p in shell.json("profiles", "list")] == ["Ada", "Eve"]


def test_people_read_tables(shell: Shell, db: SpeakerDB, ids: dict[str, str]) -> None:
    a, b = ids["A"], ids["B"]
    shell.ok("speakers", "assign", a, "--name", "Ada", "--create")
    shell.ok("speakers", "assign", b, "--name", "Ada")
    profile = db.profiles()[0].id
    shown = shell.ok("profiles", "show", profile)
    for word in ("Ada", "2 in 1 recording", "2/2", a, b, "does not fit", "(added)", "0:00:20", "mean similarity"):
        assert word in shown, word
    speaker = shell.ok("speakers", "show", a, "--turns", "1")
    for word in (a, "0:00:00", "8.00", "and 1 turn more; `--turns 2` shows all", "embedded", "to profile"):
        assert word in speaker, word
    assert "does not fit" not in shell.ok("profiles", "show", profile, "--rows", "0")
    planned = shell.ok("speakers", "split", a, "--turns", "1", "--dry-run")
    assert "would move to A-b" in planned
    assert "Nothing was changed." in planned
    done = shell.ok("speakers", "split", a, "--turns", "1")
    assert "1 turn (8.0 s) of" in done
    assert "next: speakerdb work" in done
    assert "Would be taken back." in shell.ok("undo", "--dry-run")
    assert "Taken back." in shell.ok("undo", "--yes")


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["speakers", "assign", "{a}"], "invalid-input"),
        (["speakers", "assign", "{a}", "prf_1", "--name", "Ada"], "invalid-input"),
        (["speakers", "assign", "{a}", "prf_1", "--create"], "invalid-input"),
        (["speakers", "assign", "{a}", "--name", "Nobody"], "not-found"),
        (["speakers", "assign", "{a}", "nobody"], "not-found"),
        (["speakers", "split", "{a}"], "invalid-input"),
        (["speakers", "split", "{a}", "--turns", "1-2"], "invalid-input"),
        (["speakers", "split", "{a}", "--from", "nan"], "invalid-input"),
        (["speakers", "split", "{a}", "--from", "2"], "invalid-input"),
        (["speakers", "split", "nobody", "--turns", "1"], "not-found"),
        (["speakers", "show", "nobody"], "not-found"),
        (["profiles", "show", "nobody"], "not-found"),
        (["profiles", "delete", "nobody", "--yes"], "not-found"),
        (["undo", "--yes"], "cannot-undo"),
        (["undo", "--event", "1", "--yes"], "invalid-input"),
        (["undo", "--event", "99", "--yes"], "not-found"),
        (["undo", "--event", "0", "--yes"], "usage"),
        (["undo", "--event", str(2**63), "--yes"], "usage"),
        (["undo"], "not-confirmed"),
    ],
)
def test_a_refusal_has_its_code_and_the_next_step(
    shell: Shell, ids: dict[str, str], args: list[str], code: str
) -> None:
    error = shell.refused(*(arg.format(a=ids["A"]) for arg in args))
    assert error["code"] == code
    assert error["hint"]


def test_a_destructive_verb_asks(
    shell: Shell, db: SpeakerDB, ids: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = db.create_profile("Nobody").id
    assert shell.refused("profiles", "delete", empty)["code"] == "not-confirmed"
    monkeypatch.setattr(session.Session, "check_terminal", lambda _: None)
    for answer, code in (("n\n", 12), ("y\n", 0)):
        monkeypatch.setattr("sys.stdin", Answer(answer))
        ran = shell.run("profiles", "delete", empty)
        assert ran[0] == code
        assert "Delete the profile Nobody" in ran[2]
    for answer, code in (("\n", 12), ("yes\n", 0)):
        monkeypatch.setattr("sys.stdin", Answer(answer))
        ran = shell.run("undo", "--json")
        assert ran[0] == code
        assert "Would be taken back." in ran[2], "the question is on standard error beside JSON"
        json.loads(ran[1])
    assert db.people.profile(empty).name == "Nobody"


class Answer:
    """Standard input with one line."""

    def __init__(self, line: str) -> None:
        self.line = line

    def readline(self) -> str:
        return self.line


def test_what_is_asked_about_is_what_is_taken_back(
    shell: Shell, db: SpeakerDB, ids: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    db.rename_speaker(ids["A"], "Ada")

    def meanwhile(self: Any, question: str, *, yes: bool) -> None:
        db.rename_speaker(ids["B"], "Bob")

    monkeypatch.setattr(session.Session, "check_terminal", lambda _: None)
    monkeypatch.setattr(session.Session, "confirm", meanwhile)
    assert shell.run("undo")[0] == 0
    assert (db.speaker(ids["A"]).name, db.speaker(ids["B"]).name) == (None, "Bob")
