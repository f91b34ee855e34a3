"""rediarize and assignments at the command line and over HTTP: the same use case, and what each refuses."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from rediarize_kit import THREE, added, again, said_of, state_of, turns, turns_of
from starlette.testclient import TestClient

from speakerdb.catalog import assignments, schema
from speakerdb.catalog.adopting import NO_TURNS
from speakerdb.diarizers.asked import Asked
from speakerdb.diarizers.port import Hints
from speakerdb.errors import DiarizationFailed, SpeakerDBError
from speakerdb.extraction import storing_turns
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import silence
from tests.audio_files import write
from tests.lent_library import Shell
from tests.listen.conftest import Ear

LESS = turns((0.0, 10.0, "S0"), (10.0, 20.0, "S1"), (28.0, 28.5, "S2"))


@pytest.fixture
def ids(db: SpeakerDB, ear: Ear) -> dict[str, str]:
    """Three speakers, of whom a diarizer finds two, and somebody else; C has a name."""
    found = added(db, given=turns((0.0, 10.0, "A"), (10.0, 20.0, "B"), (20.0, 27.0, "C")))
    db.assign(found["C"], db.create_profile("Cem").id)
    db.rename_speaker(found["A"], "Anna")
    ear.turns = LESS
    db.extraction.keep("r", silence(30.0))
    return found


def test_a_day_at_the_command_line(shell: Shell, db: SpeakerDB, ids: dict[str, str]) -> None:
    out = shell.ok("rediarize", "r", "--dry-run")
    assert "3 turns become 3" in out
    assert "Anna" in out
    assert "nobody takes the place of C (Cem)" in out
    assert "refused: it stays as it is, unless `--accept-lost`" in out
    assert "0 recordings would change, 1 would be refused" in out
    assert "1 recording would change" in shell.ok("rediarize", "r", "--dry-run", "--accept-lost")
    assert state_of(db) is None
    out = shell.ok("rediarize", "r", "--num-speakers", "3", "--accept-lost", "--why", "heard badly")
    assert out.startswith("1 recording queued to be diarized again, 0:00:30 of audio.")
    assert "speakerdb work" in out
    assert db.work().recordings_diarized == 1
    out = shell.ok("assignments", "list", "r")
    assert "heard badly" in out
    assert "A (Anna), B, C (Cem)" in out
    out = shell.ok("assignments", "revert", "r", "--dry-run")
    assert "would come back" in out
    assert ids["C"] not in said_of(db)
    out = shell.ok("assignments", "revert", "r", "--why", "worse than before")
    assert "comes back" in out
    assert "is kept as set 2" in out
    assert said_of(db)[ids["C"]][0] == "C"
    assert "everything is as in set 1 already" in shell.ok("assignments", "revert", "r", "--to", "1")


def test_what_stays_as_it_is(shell: Shell, client: TestClient, db: SpeakerDB, ids: dict[str, str]) -> None:
    shell.ok("rediarize", "r")
    assert db.work().recordings_failed == 1
    assert shell.ok("assignments", "keep", "r", "--why", "heard it") == "1 recording left as it is.\n"
    assert shell.ok("assignments", "keep", "--library", "default") == "Nothing was to be done.\n"
    db.rediarizing.queue(["r"], Asked())
    assert post(client, "/recordings/r/assignments/keep", json={"why": "heard it"}) == {"recordings": 1}
    db.rediarizing.queue(["r"], Asked())
    assert post(client, "/assignments/keep", json={"library": "default"}) == {"recordings": 1}
    assert post(client, "/assignments/keep", 404, json={"library": "nowhere"})["code"] == "not-found"
    assert state_of(db) is None


def test_what_is_kept_is_what_was_read(client: TestClient, db: SpeakerDB, ids: dict[str, str]) -> None:
    db.rediarizing.queue(["r"], Asked())
    where = "/recordings/r/assignments/keep"
    refused = post(client, where, 412, json={}, headers={"If-Match": '"1-1"'})
    assert (refused["code"], state_of(db)) == ("version-conflict", "queued")
    assert not [e for e in db.events(limit=9) if e["kind"] == "assignments-kept"]
    seen = client.get("/v1/recordings/r").headers["ETag"]
    assert post(client, where, json={}, headers={"If-Match": seen}) == {"recordings": 1}
    assert state_of(db) is None


@pytest.mark.parametrize("id", ["we ird; $(id) [red]", "-x"])
def test_what_is_advised_names_the_recording_as_one_word(
    shell: Shell, db: SpeakerDB, ear: Ear, tmp_path: Path, id: str
) -> None:
    """Each command is taken by a shell, and by the command line, as it is shown; what it advises in turn too."""
    file = write(tmp_path / "a.wav", np.zeros(480_000), 16_000, codec="pcm_s16le")
    found = dict(db.add(file, THREE, recording_id=id).speakers)
    db.work()
    db.rename_speaker(found["C"], "Cem")
    ear.turns = turns((0.0, 10.0, "S0"), (10.0, 20.0, "S1"))
    db.rediarizing.queue([id], Asked(Hints(num_speakers=2)))
    (error,) = db.work().errors
    (problem,) = db.status().problems
    with db.catalog.read() as tx:
        before = storing_turns.read(tx, id)
        assert before is not None
        refused = storing_turns.unmapped(before, [before.voices["C"]], Asked(Hints(num_speakers=2)))
    assert refused is not None
    assert (error.code, problem.code, refused.code) == ("names-unmapped",) * 3
    look, keep = _commands(refused.hint or "")
    assert look == problem.command
    shown = shell.ok(*_words(look))
    assert ("nobody takes the place of C (Cem)" in shown, "1 would be refused" in shown) == (True, True)
    (told,) = [line for line in shown.splitlines() if "refused:" in line]
    assert _commands(told)[0] == keep
    assert shell.ok(*_words(keep)) == "1 recording left as it is.\n"
    assert db.status().problems == ()


@pytest.mark.parametrize("id", ["we ird; $(id) [red]", "-x"])
def test_every_hint_names_what_it_is_about_as_one_word(db: SpeakerDB, id: str) -> None:
    db.add(None, recording_id=id, waveform=silence(20.0))
    refused: list[SpeakerDBError] = []

    def hints(*acts: Callable[[], object]) -> None:
        for act in acts:
            with pytest.raises(SpeakerDBError) as found:
                act()
            refused.append(found.value)

    hints(lambda: db.rediarizing.keep([id]))  # it awaits its first turns
    db.work()
    db.extraction.keep(id, None)
    hints(lambda: db.rediarizing.queue([id], Asked()))  # nobody can listen to it
    db.extraction.keep(id, silence(20.0))
    db.rediarizing.queue([id], Asked())
    db.work()
    with db.catalog.change() as tx:
        assignments.remember(tx, id, "rediarized", "somebody", db.catalog.now())
    hints(lambda: db.rediarizing.revert(id, to=999))
    with db.catalog.change() as tx:
        tx.execute(sa.delete(schema.turns))
        tx.execute(sa.update(schema.recordings).values(turns_digest=NO_TURNS))
    other = turns((0.0, 10.0, "A"))
    hints(lambda: db.rediarizing.keep([id]), lambda: db.add(None, other, recording_id=id, waveform=silence(20.0)))
    told = [command for error in refused for command in _commands(error.hint or "")]
    assert [error.code for error in refused] == [
        "needs-turns", "media-missing", "not-found", "needs-turns", "invalid-input",
    ]  # fmt: skip
    assert len(told) == 7
    for command in told:
        assert id in [word.removeprefix("--id=") for word in _words(command)]
        assert id != "-x" or "-- -x" in command or "--id=-x" in command
    into, merged = db.people.make_profile("Ada", profile_id=id)[0].id, db.create_profile("Ada B.").id
    db.merge_profiles(merged, into)
    assert _words(db.explain.about(merged).command)[-1] == id


def test_what_has_no_turns_to_keep_is_not_told_to_be_kept(shell: Shell, db: SpeakerDB, ids: dict[str, str]) -> None:
    """What an index had told of."""
    with db.catalog.change() as tx:
        tx.execute(sa.delete(schema.turns))
        tx.execute(sa.update(schema.recordings).values(turns_digest=NO_TURNS))
    shown = shell.ok("rediarize", "r", "--dry-run")
    assert "refused: it stays as it is" in shown
    assert "assignments keep" not in shown
    with db.catalog.read() as tx:
        before = storing_turns.read(tx, "r")
        assert before is not None
        refused = storing_turns.unmapped(before, list(before.voices.values()), Asked())
    assert refused is not None
    assert "assignments keep" not in (refused.hint or "")


def _commands(told: str) -> list[str]:
    """The commands that a text tells of, which holds no other backtick."""
    return [part for part in told.split("`")[1::2] if part.startswith("speakerdb ")]


def _words(command: str) -> list[str]:
    first, *rest = shlex.split(command)
    assert first == "speakerdb"
    return rest


def test_json(shell: Shell, db: SpeakerDB, ids: dict[str, str]) -> None:
    found = shell.json("rediarize", "r", "--dry-run")
    (plan,) = found["plans"]
    assert found["errors"] == []
    assert {one["speaker"]["id"] for one in plan["mapped"]} == {ids["A"], ids["B"]}
    assert (plan["refused"], [one["id"] for one in plan["lost"]]) == (True, [ids["C"]])
    assert shell.json("rediarize", "r", "--accept-lost")["recordings"] == 1
    db.work()
    (kept,) = shell.json("assignments", "list", "r")
    report = shell.json("assignments", "revert", "r", "--to", kept["number"])
    assert (report["done"], report["number"]) == (True, kept["number"])
    (named,) = [one["speaker"] for one in report["speakers"] if one["was"] == "gone"]
    assert (named["id"], named["profile_name"]) == (ids["C"], "Cem")


def test_what_is_refused(shell: Shell, db: SpeakerDB, ids: dict[str, str], ear: Ear) -> None:
    assert shell.refused("rediarize")["code"] == "invalid-input"
    assert shell.refused("rediarize", "r", "--library", "default")["code"] == "invalid-input"
    assert shell.refused("rediarize", "nobody")["code"] == "not-found"
    assert shell.refused("rediarize", "r", "--min-speakers", "3", "--max-speakers", "2")["code"] == "invalid-input"
    assert shell.refused("assignments", "revert", "r")["code"] == "not-found"
    assert shell.ok("assignments", "list", "r") == "Nothing of this recording was replaced.\n"
    ear.error = DiarizationFailed("It gave up.")
    code, out, err = shell.run("rediarize", "r", "--dry-run")
    assert code == DiarizationFailed.exit_code
    assert "r: error[diarization]: It gave up." in err
    assert "1 failed" in out


def test_a_library_at_the_command_line(shell: Shell, db: SpeakerDB, ids: dict[str, str]) -> None:
    db.add(None, recording_id="new", waveform=silence(20.0))
    out = shell.ok("rediarize", "--library", "default")
    assert out.splitlines() == [
        "0 recordings queued to be diarized again, 0:00:00 of audio.",
        "note: 1 recording without a file left out",
        "note: 1 recording left out that wait for their first diarization",
    ]


def post(client: TestClient, path: str, status: int = 200, **given: Any) -> Any:
    answer = client.post(f"/v1{path}", **given)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_over_http(client: TestClient, db: SpeakerDB, ids: dict[str, str]) -> None:
    plan = post(client, "/recordings/r/diarize/plan", json={"num_speakers": 3})
    assert plan["refused"]
    done = post(client, "/recordings/r/diarize", json={"accept_lost": True, "why": "heard badly"})
    assert done == {"recordings": 1, "audio_seconds": 30.0, "without_sound": 0, "awaiting": 0}
    db.work()
    found_by = client.get("/v1/recordings/r").json()["found_by"]
    assert (found_by["diarizer"], found_by["asked"]) == ("by hand", {"accept_lost": True})
    (kept,) = client.get("/v1/recordings/r/assignments").json()["items"]
    assert (kept["why"], kept["turns"]) == ("heard badly", 3)
    before = turns_of(db)
    dry = post(client, "/recordings/r/assignments/revert?dry_run=true", json={})
    assert (dry["done"], turns_of(db)) == (False, before)
    stale = client.get("/v1/recordings/r").headers["ETag"]
    report = post(
        client,
        "/recordings/r/assignments/revert",
        json={"to": kept["number"], "why": "no"},
        headers={"If-Match": stale},
    )
    assert report["done"]
    refused = post(client, "/recordings/r/assignments/revert", 412, json={}, headers={"If-Match": stale})
    assert refused["code"] == "version-conflict"
    lost = post(client, "/recordings/r/assignments/revert", 422, json={})
    assert lost["code"] == "names-unmapped"
    assert post(client, "/recordings/r/assignments/revert", json={"accept_lost": True, "names": "then"})["done"]
    assert post(client, "/recordings/r/assignments/revert", 404, json={"to": 999})["code"] == "not-found"


def test_what_is_refused_over_http(client: TestClient, db: SpeakerDB, ids: dict[str, str]) -> None:
    assert post(client, "/recordings/nobody/diarize", 404, json={})["code"] == "not-found"
    assert (
        post(client, "/recordings/r/diarize", 422, json={"min_speakers": 3, "max_speakers": 2})["code"]
        == "invalid-input"
    )
    assert post(client, "/recordings/r/diarize", 422, json={"speakers": 2})["code"] == "invalid-input"
    assert post(client, "/diarizations", json={"library": "default"})["without_sound"] == 1
    assert post(client, "/diarizations", 404, json={"library": "other"})["code"] == "not-found"
    assert db.rediarizing.sets("r") == ()


def test_the_events_hold_what_was_lost(db: SpeakerDB, ids: dict[str, str]) -> None:
    again(db, asked=Asked(accept_lost=True))
    (event,) = [e for e in db.events(limit=9) if e["kind"] == "recording-diarized"]
    assert [one["label"] for one in event["data"]["lost"]] == ["C"]
