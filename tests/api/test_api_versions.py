"""The `ETag` of an answer stands for what the answer holds, whoever else writes while it is made."""

from __future__ import annotations

from contextvars import Context
from typing import Any

import pytest
from api_kit import TURNS, Api

from speakerdb.service import SpeakerDB


def _meanwhile(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, do: Any) -> None:
    """Right after the next call of a method, before its answer is sent, somebody else does something."""
    plain = getattr(owner, name)

    def called(*args: Any, **given: Any) -> Any:
        found = plain(*args, **given)
        monkeypatch.setattr(owner, name, plain)
        Context().run(do)  # it is no part of this request
        return found

    monkeypatch.setattr(owner, name, called)


def _speaker(db: SpeakerDB) -> str:
    return db.speakers(recording="r0")[0].id


def _transcript(api: Api, word: str) -> None:
    text = f"WEBVTT\n\n00:00.000 --> 00:01.000\n{word}\n"
    api.ok("PUT", "/v1/recordings/r0/transcript", content=text.encode(), headers={"Content-Type": "text/vtt"})


def test_who_read_what_was_changed_meanwhile_changes_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.add("r0")
    voice = _speaker(api.db)
    where = f"/v1/speakers/{voice}"
    _meanwhile(monkeypatch, api.db.voices, "speaker", lambda: api.db.rename_speaker(voice, "Ada"))
    seen = api.client.get(where)
    assert seen.json()["name"] is None
    tag = {"If-Match": seen.headers["etag"]}
    api.refused("PUT", f"{where}/name", 412, "version-conflict", json={"name": "Eve"}, headers=tag)
    assert api.db.speaker(voice).name == "Ada"


def test_so_it_is_with_what_one_has_written(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.add("r0")
    voice = _speaker(api.db)
    where = f"/v1/speakers/{voice}"
    _meanwhile(monkeypatch, api.db.people, "rename_speaker", lambda: api.db.rename_speaker(voice, "Ada"))
    mine = api.client.put(f"{where}/name", json={"name": "Eve"})
    assert mine.json()["name"] == "Eve"
    tag = {"If-Match": mine.headers["etag"]}
    api.refused("PUT", f"{where}/profile", 412, "version-conflict", json={"name": "Eve", "create": True}, headers=tag)


def test_the_version_of_a_recording_is_of_the_answer(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    path = api.file("talk")
    made = api.ok("POST", "/v1/recordings", json={"id": "r0", "path": str(path), "turns": TURNS})
    other = [TURNS[0] | {"end": 1.5}, TURNS[1]]
    change = {"turns": other}
    _meanwhile(monkeypatch, api.db.ingest, "recording", lambda: api.ok("PATCH", "/v1/recordings/r0", json=change))
    seen = api.client.get("/v1/recordings/r0")
    assert seen.json() == made
    tag = {"If-Match": seen.headers["etag"]}
    api.refused("DELETE", "/v1/recordings/r0", 412, "version-conflict", headers=tag)
    _meanwhile(
        monkeypatch, api.db.ingest, "edit", lambda: api.ok("PATCH", "/v1/recordings/r0", json={"recorded_at": 7})
    )
    mine = api.client.put("/v1/recordings/r0/turns", json={"turns": TURNS})
    assert mine.json()["recorded_at"] is None
    api.refused("DELETE", "/v1/recordings/r0", 412, "version-conflict", headers={"If-Match": mine.headers["etag"]})


def test_the_version_of_a_profile_and_of_a_transcript_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.add("r0")
    api.ok("POST", "/v1/profiles", json={"id": "ada", "name": "Ada"})
    _meanwhile(monkeypatch, api.db.voices, "profile", lambda: api.db.rename_profile("ada", "Eve"))
    seen = api.client.get("/v1/profiles/ada")
    assert seen.json()["name"] == "Ada"
    api.refused("DELETE", "/v1/profiles/ada", 412, "version-conflict", headers={"If-Match": seen.headers["etag"]})
    _transcript(api, "one")
    _meanwhile(monkeypatch, api.db.transcripts, "show", lambda: _transcript(api, "two"))
    said = api.client.get("/v1/recordings/r0/transcript", params={"form": "text"})
    assert "one" in said.text
    where = "/v1/recordings/r0/transcript"
    api.refused("DELETE", where, 412, "version-conflict", headers={"If-Match": said.headers["etag"]})


def test_what_was_read_by_the_id_of_a_merged_profile_can_be_changed_by_it(api: Api) -> None:
    for name in ("ada", "bob"):
        api.ok("POST", "/v1/profiles", json={"id": name, "name": name})
    api.ok("POST", "/v1/profiles/ada/merge", json={"into": "bob"})
    seen = api.client.get("/v1/profiles/ada")
    assert seen.json()["id"] == "bob"
    named = api.client.put("/v1/profiles/ada/name", json={"name": "Bo"}, headers={"If-Match": seen.headers["etag"]})
    assert (named.status_code, named.json()["name"]) == (200, "Bo")
    assert named.headers["etag"] == api.client.get("/v1/profiles/bob").headers["etag"]
