"""Requests that are strange on the wire: methods, origins, content types and addresses that nobody foresaw."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import ClassVar

import anyio
import pytest
from api_kit import TURNS, Api

from speakerdb import metrics
from speakerdb.api import health
from speakerdb.errors import NotFinite
from speakerdb.settings import ApiSettings


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "://", "null", "http://", "localhost"])
def test_an_origin_that_is_none_is_a_foreign_one(api: Api, origin: str) -> None:
    api.refused("GET", "/v1/me", 403, "foreign-origin", headers={"Origin": origin})


def test_a_refusal_of_a_method_names_all_that_the_address_knows(api: Api) -> None:
    for path, methods in (
        ("/v1/recordings", "GET, HEAD, POST"), ("/v1/recordings/a", "DELETE, GET, HEAD, PATCH"), ("/v1/undo", "POST"),
        ("/v1/live/paused", "DELETE, PUT"), ("/metrics", "GET, HEAD"),
    ):  # fmt: skip
        assert api.client.request("OPTIONS", path).headers["allow"] == methods


def test_head_is_answered_as_get_is(api: Api) -> None:
    for path in ("/v1/health", "/v1/ready", "/v1/recordings", "/metrics"):
        assert api.client.head(path).status_code == 200
    assert api.client.head("/v1/recordings/nobody").status_code == 404
    assert 'method="HEAD",route="/v1/health",status="200"' in metrics.render(api.db).decode()


def test_methods_that_a_client_makes_up_are_one_series(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    before = metrics.render(api.db).count(b"\n")
    api.client.request("MADEUP", "/v1/nothing")
    one = metrics.render(api.db).count(b"\n")
    for number in range(20):
        assert api.client.request(f"MADE{number}", "/v1/nothing").status_code == 404
    assert metrics.render(api.db).count(b"\n") == one > before
    assert "MADE" not in caplog.text


def test_a_misspelt_parameter_is_refused_and_nothing_is_done(api: Api) -> None:
    api.add("talk")
    problem = api.refused("DELETE", "/v1/recordings/talk?dryrun=true", 422, "invalid-input")
    assert problem["hint"] == "It knows: dry_run, why."
    assert api.ok("DELETE", "/v1/recordings/talk?dry_run=true")["removed"] is False
    assert api.refused("GET", "/v1/me?a=1", 422, "invalid-input")["hint"] == "It knows none."
    assert api.ok("GET", "/v1/events?kind=recording-added&kind=recording-removed&limit=5")["items"]
    assert api.client.get("/v1/health?a=1").status_code == 200


def test_a_body_of_another_kind_is_told_which_is_wanted(api: Api) -> None:
    body = b'{"name": "Ada"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        headers = {"Content-Type": kind}
        problem = api.refused("POST", "/v1/profiles", 422, "invalid-input", content=body, headers=headers)
        assert "application/json" in problem["hint"]
    for kind in ("application/json; charset=utf-8", "application/merge-patch+json"):
        sent = json.dumps({"name": kind}).encode()
        assert api.client.post("/v1/profiles", content=sent, headers={"Content-Type": kind}).status_code == 201, kind
    for method, path in (("PUT", "/v1/uploads/a.wav"), ("POST", "/v1/matches/clip")):
        api.refused(method, path, 422, "invalid-input", files={"file": b"RIFF"})
    assert api.ok("GET", "/v1/uploads")["items"] == []


def test_clips_wait_for_the_model_as_requests_wait_for_a_turn(make_api: Callable[..., Api]) -> None:
    api = make_api(waiting_seconds=0.05)
    models = api.client.app.state.house.models  # type: ignore[attr-defined]
    free, models._free = models._free, anyio.Semaphore(0)
    api.refused("POST", "/v1/matches/clip", 503, "busy", content=b"RIFF")
    assert models.waiting == 0
    models._free = free
    api.refused("POST", "/v1/matches/clip", 422, "media-unreadable", content=b"RIFF")
    assert list(api.db.settings.uploads_folder.iterdir()) == []


def test_answers_of_many_at_once_are_bounded_in_all(api: Api) -> None:
    body = {"speakers": ["a"] * 100, "k": 501}
    assert "50,000" in api.refused("POST", "/v1/matches/many", 422, "invalid-input", json=body)["detail"]
    api.refused("POST", "/v1/matches/many", 404, "not-found", json=body | {"k": 500})


def test_sound_without_a_voice_is_the_callers_to_mend() -> None:
    assert NotFinite.http_status == 422


def test_an_operation_that_is_asked_for_otherwise_is_another_one(api: Api) -> None:
    asked = "?operation=one"
    api.refused("POST", f"/v1/migrations/current/rollback{asked}", 404, "not-found", json={})
    api.refused("POST", f"/v1/migrations/current/rollback{asked}", 404, "not-found", json={"why": "again"})
    api.refused("POST", f"/v1/migrations/current/rollback{asked}", 409, "already-exists", json={"accept_lag": 5})


def test_the_header_says_why_a_repair_was_run(api: Api) -> None:
    api.ok("POST", "/v1/repairs", json={}, headers={"X-Why": "it was restored"})
    assert api.ok("GET", "/v1/repairs")["items"][0]["why"] == "it was restored"


def test_the_header_says_why_a_migration_is_paused(api: Api) -> None:
    api.ok("POST", "/v1/migrations", json={"to": "v4"})
    shown = api.ok("POST", "/v1/migrations/current/pause", json={}, headers={"X-Why": "the film is cut"})
    assert (shown["paused"], shown["pause_reason"]) == (True, "the film is cut")


def test_links_in_a_circle_are_no_place_for_files(api: Api) -> None:
    (api.media / "circle").symlink_to(api.media / "circle")
    api.add("talk")
    body = {"old": "/somewhere", "new": str(api.media / "circle" / "below")}
    answer = api.client.post("/v1/media/relocate", json=body)
    assert answer.status_code in (403, 404), answer.text


def test_a_recording_that_is_given_another_time_is_another_one(api: Api) -> None:
    body = {"id": "talk", "path": str(api.file("talk")), "turns": TURNS, "recorded_at": 5}
    api.ok("POST", "/v1/recordings", json=body)
    assert api.client.post("/v1/recordings", json=body).status_code == 200
    api.refused("POST", "/v1/recordings", 409, "already-exists", json=body | {"recorded_at": 6})
    assert api.ok("POST", "/v1/recordings", json=body | {"recorded_at": None})["recorded_at"] == 5


def test_a_kind_of_event_that_is_none_is_told(api: Api) -> None:
    problem = api.refused("GET", "/v1/events?kind=recording-aded", 422, "invalid-input")
    assert "recording-added" in problem["hint"]


def test_readiness_does_not_wait_for_a_database_that_hangs(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        stopping = False
        reasons: ClassVar[list[str]] = []

        def ready(self) -> tuple[bool, list[str]]:
            return True, self.reasons

    api = make_api(service=Failing())
    go = threading.Event()

    def hangs() -> bool:
        go.wait(30)
        return False

    monkeypatch.setattr(api.db.access, "any_tokens", hangs)
    monkeypatch.setattr(health, "PATIENCE_SECONDS", 0.05)
    assert api.ok("GET", "/v1/ready")["reasons"] == []  # nothing to tell: nobody is asked who they are
    Failing.reasons.append("The job check fails.")
    assert api.ok("GET", "/v1/ready") == {"status": "ready", "reasons": []}
    go.set()
    monkeypatch.setattr(health, "PATIENCE_SECONDS", 30.0)
    assert api.ok("GET", "/v1/ready")["reasons"] == ["The job check fails."]


@pytest.mark.parametrize(
    "given", ["*", "https://a.b/", "a.b", "https://*.a.b", "https://a.b/c", "ftp://a.b", "null", ""]
)
def test_what_no_browser_sends_as_an_origin_is_no_setting(given: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        ApiSettings(cors_origins=(given,))
    assert ApiSettings(cors_origins=("https://a.b:8443", "http://localhost:3000")).cors_origins


def test_who_follows_the_events_by_number_hears_of_a_removal(api: Api) -> None:
    """The events of what is removed go with it; their numbers are not given to others."""
    for name in ("one", "two"):
        api.add(name)
    seen = api.ok("GET", "/v1/events")["items"][-1]["id"]
    api.ok("DELETE", "/v1/recordings/two")
    (told,) = api.ok("GET", f"/v1/events?after={seen}")["items"]
    assert (told["kind"], told["entity"]) == ("recording-removed", "two")
    assert [event["entity"] for event in api.events()] == ["one", "two"]
