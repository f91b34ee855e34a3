"""Matches over HTTP: the same answers as the library itself gives, and clips that are not kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_kit import LOCAL, Api
from starlette.testclient import TestClient
from synthetic_voices import make_recording

from speakerdb.api.app import create_app
from speakerdb.reports import as_json
from speakerdb.service import SpeakerDB
from speakerdb.settings import ApiSettings
from speakerdb.testing.factories import fake_settings
from speakerdb.types import Kind


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A library of real sound with the spectral models; nothing of it is changed here."""
    folder = tmp_path_factory.mktemp("matches")
    media = folder / "media"
    media.mkdir()
    settings = fake_settings(
        folder / "library", dimensions={"v3": 64, "v4": 48}, media_roots=(media,), api=ApiSettings(clip_mb=1)
    )
    with SpeakerDB.open(settings) as db:
        for number in range(4):
            made = make_recording(media, f"talk{number}", [("A", number, 3.0), ("B", number + 1, 3.0)])
            db.add(made.path, made.turns, recording_id=f"talk{number}")
        db.work()
        profile = db.create_profile("Ada")
        db.assign(db.speakers(recording="talk0")[0].id, profile.id)
        db.work()
        client = TestClient(create_app(db), base_url="http://localhost", client=LOCAL, raise_server_exceptions=False)
        with client:
            yield Api(db, client, media)


def test_the_answer_is_that_of_the_library(real: Api) -> None:
    one = real.db.speakers(recording="talk1")[0].id
    profile = real.db.profiles()[0].id
    vector = [float(n % 7) for n in range(64)]
    for asked in (
        {"speaker": one}, {"speaker": one, "k": 2, "same_recording": True}, {"profile": profile},
        {"speaker": one, "kind": "profile"}, {"speaker": one, "library": "default", "generation": "v3"},
    ):  # fmt: skip
        same: Any = asked | {"kind": Kind(asked.get("kind", "speaker"))}
        assert real.ok("POST", "/v1/matches", json=asked) == as_json(real.db.match(**same)), asked
    answer = real.ok("POST", "/v1/matches", json={"vector": vector, "k": 3})
    assert [len(answer["matches"]), answer["query"]] == [3, "vector"]


def test_many_are_answered_in_their_order(real: Api) -> None:
    ids = [each.id for each in real.db.speakers()]
    answers = real.ok("POST", "/v1/matches/many", json={"speakers": ids * 3, "k": 2})
    assert [answer["query"] for answer in answers] == ids * 3
    assert answers[: len(ids)] == [as_json(each) for each in real.db.match_many(ids, k=2)]


def test_what_cannot_be_asked(real: Api) -> None:
    one = real.db.speakers()[0].id
    for wrong in (
        {}, {"speaker": one, "profile": "x"}, {"vector": []}, {"vector": [0.0] * 64}, {"vector": [1.0] * 63},
        {"vector": [1e39] * 64}, {"vector": ["x"] * 64}, {"speaker": one, "k": 0}, {"speaker": one, "k": 10**6},
        {"speaker": one, "generation": "v4"}, {"speaker": one, "generation": "nope"}, {"speaker": one, "kind": "cat"},
        {"speaker": one, "more": 1}, {"speaker": "a\0b"},
    ):  # fmt: skip
        real.refused("POST", "/v1/matches", 422, "invalid-input", json=wrong)
    for body in (b'{"vector": [NaN]}', b'{"vector": [Infinity, 1]}', b'{"vector": [1e999]}'):
        headers = {"Content-Type": "application/json"}
        real.refused("POST", "/v1/matches", 422, "invalid-input", content=body, headers=headers)
    real.refused("POST", "/v1/matches", 404, "not-found", json={"speaker": "nobody"})
    real.refused("POST", "/v1/matches", 404, "not-found", json={"speaker": one, "library": "nowhere"})
    real.refused("POST", "/v1/matches/many", 422, "invalid-input", json={"speakers": []})
    real.refused("POST", "/v1/matches/many", 422, "invalid-input", json={"speakers": ["x"] * 1001})
    real.refused("POST", "/v1/matches/many", 404, "not-found", json={"speakers": [one, "nobody"]})


def test_one_that_is_not_embedded_yet_is_no_empty_answer(api: Api) -> None:
    api.add("r0")
    one = api.db.speakers()[0].id
    api.refused("POST", "/v1/matches", 409, "not-embedded", json={"speaker": one})


def test_a_clip_is_answered_and_not_kept(real: Api, tmp_path: Path) -> None:
    clip = make_recording(tmp_path, "clip", [("A", 2, 4.0)]).path.read_bytes()
    answer = real.ok("POST", "/v1/matches/clip", content=clip, params={"k": 3})
    assert (answer["query"], answer["generation"], answer["decision"] != "none") == ("clip", "v3", True)
    best = real.db.speaker(answer["matches"][0]["id"])
    assert (best.recording_id, best.label) in {("talk1", "B"), ("talk2", "A")}  # the same voice
    profiles = real.ok("POST", "/v1/matches/clip", content=clip, params={"kind": "profile"})
    assert [match["name"] for match in profiles["matches"]] == ["Ada"]
    assert list(real.db.settings.uploads_folder.iterdir()) == []


def test_a_bad_clip_is_told_without_where_it_lay(real: Api) -> None:
    for content, status, code in (
        (b"", 422, "invalid-input"), (b"RIFF" + b"\xff" * 3000, 422, "media-unreadable"),
        (b"#EXTM3U\nhttp://127.0.0.1/x.ts\n", 422, "media-unreadable"), (b"x" * 1_100_000, 413, "too-large"),
    ):  # fmt: skip
        problem = real.refused("POST", "/v1/matches/clip", status, code, content=content)
        assert str(real.db.settings.data_dir) not in str(problem)
    real.refused("POST", "/v1/matches/clip", 422, "invalid-input", content=b"x", params={"generation": "v4"})
    assert list(real.db.settings.uploads_folder.iterdir()) == []


def test_every_field_of_an_answer_is_in_the_document(real: Api) -> None:
    from speakerdb.reports import MatchResult

    schemas = real.ok("GET", "/v1/openapi.json")["components"]["schemas"]
    assert set(schemas["MatchResult"]["properties"]) == {field.name for field in dataclasses.fields(MatchResult)}
