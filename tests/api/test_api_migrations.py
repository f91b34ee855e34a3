"""A migration's whole life over HTTP, followed as it goes; and what takes longer than its request waits."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from api_kit import TURNS, Api, tokens
from starlette.testclient import WebSocketDenialResponse

from speakerdb.api import following
from speakerdb.catalog import schema
from speakerdb.errors import MediaMissing
from speakerdb.extraction.extract import Extracted, Task
from speakerdb.reports.access import Role
from speakerdb.testing import invariants
from speakerdb.testing.factories import FakeExecutor, fake_extract

CURRENT = "/v1/migrations/current"
WORK = "/v1/leases/work"


@pytest.fixture
def filled(api: Api) -> Api:
    for number in range(3):
        body = {"path": str(api.file(f"talk{number}")), "id": f"talk{number}", "turns": TURNS}
        api.ok("POST", "/v1/recordings", json=body)
    api.db.work()
    return api


def do(api: Api, verb: str, **body: Any) -> Any:
    return api.ok("POST", f"{CURRENT}/{verb}", json=body)


def test_of_two_who_start_the_same_at_once_both_are_told_what_runs(
    filled: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = filled
    plain = api.db.migrator.preflight

    def slow(target: str, **given: Any) -> Any:
        checked = plain(target, **given)
        monkeypatch.setattr(api.db.migrator, "preflight", plain)
        api.db.start_migration("v4")  # another one was faster
        return checked

    monkeypatch.setattr(api.db.migrator, "preflight", slow)
    told = api.client.post("/v1/migrations", json={"to": "v4"})
    assert (told.status_code, told.json()["state"]) == (200, "running")
    assert len(api.events("migration-started")) == 1


def test_there_and_back_and_there_for_good(filled: Api) -> None:
    api = filled
    api.refused("GET", CURRENT, 404, "not-found")
    assert api.ok("POST", "/v1/migrations/preflight", json={"to": "v4"})["recordings_to_extract"] == 3
    started = api.client.post("/v1/migrations", json={"to": "v4", "why": "better"})
    assert (started.status_code, started.json()["state"]) == (201, "running")
    again = api.client.post("/v1/migrations", json={"to": "v4"})
    assert (again.status_code, again.json()["id"]) == (200, started.json()["id"])
    assert do(api, "pause", why="quiet hours")["pause_reason"] == "quiet hours"
    assert do(api, "resume")["paused"] is False
    assert do(api, "first", recordings=["talk2"])["recordings"] == 1
    assert do(api, "retry")["recordings"] == 0
    refused = api.refused("POST", f"{CURRENT}/finalize", 409, "gate-failed", json={})
    assert any(check["verdict"] == "fail" for check in refused["details"]["report"]["checks"])
    api.db.work()
    assert do(api, "check")["watermark"] > 0
    swapped = do(api, "finalize", why="proven")
    assert (swapped["serving"], swapped["migration"]["state"]) == ("v4", "finalized")
    assert do(api, "rollback")["serving"] == "v3"
    api.refused("POST", f"{CURRENT}/rollback", 409, "no-migration", json={})
    api.ok("POST", "/v1/migrations", json={"to": "v4"})
    api.refused("POST", "/v1/migrations", 409, "migration-active", json={"to": "v3"})
    assert do(api, "cancel")["state"] == "cancelled"
    api.ok("POST", "/v1/migrations", json={"to": "v4"})
    api.db.work()
    do(api, "finalize")
    assert do(api, "retire", purge=True)["state"] == "retired"
    page = api.ok("GET", "/v1/migrations", params={"limit": 2})
    rest = api.ok("GET", "/v1/migrations", params={"limit": 2, "cursor": page["next"]})
    assert [each["state"] for each in page["items"] + rest["items"]] == ["retired", "cancelled", "rolled_back"]
    whys = {event["kind"]: event["why"] for event in reversed(api.events())}
    assert (whys["migration-started"], whys["migration-paused"]) == ("better", "quiet hours")
    assert {event["source"] for event in api.events("migration-finalized", "migration-retired")} == {"api 127.0.0.1"}
    invariants.check(api.db)


def test_what_failed_is_retried_and_waived(make_api: Callable[..., Api], filled: Api) -> None:
    api = filled

    def answer(task: Task) -> Extracted:
        if task.recording_id == "talk1":
            raise MediaMissing("It is gone.")
        return fake_extract(task)

    executor = api.db._executor
    assert isinstance(executor, FakeExecutor)
    executor.answer = answer
    api.ok("POST", "/v1/migrations", json={"to": "v4"})
    api.db.work()
    view = api.ok("GET", CURRENT)
    assert [(each["code"], each["count"]) for each in view["errors"]] == [("media-missing", 1)]
    assert do(api, "retry", code="media-missing", why="looked again")["recordings"] == 1
    api.db.work()
    for wrong in ({"why": "x"}, {"code": "media-missing"}, {"code": "media-missing", "why": ""}):
        api.refused("POST", f"{CURRENT}/waive", 422, "invalid-input", json=wrong)
    api.refused("POST", f"{CURRENT}/waive", 404, "not-found", json={"why": "x", "recordings": ["nobody"]})
    assert do(api, "waive", why="lost", recordings=["talk1"])["recordings"] == 1
    assert do(api, "finalize")["serving"] == "v4"
    # The source has what the target lacks, never the other way round: only what came later could be missing there.
    executor.answer = lambda task: answer(task) if task.generation.name == "v4" else _gone(task)
    body = {"path": str(api.file("late")), "id": "late", "turns": TURNS}
    api.ok("POST", "/v1/recordings", json=body)
    api.db.work()
    problem = api.refused("POST", f"{CURRENT}/rollback", 409, "not-confirmed", json={})
    assert problem["details"]["source_lag"] == 2
    assert do(api, "rollback", accept_lag=2)["serving"] == "v3"


def _gone(task: Task) -> Extracted:
    raise MediaMissing("It is gone.")


def test_what_cannot_be_started(filled: Api) -> None:
    api = filled
    for wrong in ({}, {"to": "v9"}, {"to": ""}, {"to": 4}, {"to": "v4", "more": True}):
        api.refused("POST", "/v1/migrations", 422, "invalid-input", json=wrong)
    for verb in ("pause", "resume", "cancel", "finalize", "rollback", "retire", "check"):
        problem = api.client.post(f"{CURRENT}/{verb}", json={}).json()
        assert (problem["status"], problem["code"]) in ((409, "no-migration"), (404, "not-found")), (verb, problem)
    (api.media / "talk0.wav").unlink()
    (api.media / "talk1.wav").unlink()
    (api.media / "talk2.wav").unlink()
    refused = api.refused("POST", "/v1/migrations", 409, "preflight-failed", json={"to": "v4"})
    assert "media" in {each["name"] for each in refused["details"]["report"]["checks"] if each["verdict"] == "fail"}
    assert api.client.post("/v1/migrations", json={"to": "v4", "force": True}).status_code == 201


class TestWhatTakesLong:
    def test_it_goes_on_and_its_answer_is_fetched(self, filled: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        api, go = filled, threading.Event()
        plain = api.db.preflight
        monkeypatch.setattr(api.db, "preflight", lambda target, **more: (go.wait(30), plain(target, **more))[1])
        params = {"wait": 0, "operation": "my-look"}
        first = api.client.post("/v1/migrations/preflight", json={"to": "v4"}, params=params)
        assert (first.status_code, first.headers["location"]) == (202, "/v1/operations/my-look")
        assert first.json()["state"] == "running"
        again = api.client.post("/v1/migrations/preflight", json={"to": "v4"}, params=params)
        assert (again.status_code, again.json()["started_at"]) == (202, first.json()["started_at"])
        api.refused("POST", f"{CURRENT}/check", 409, "already-exists", params=params)
        api.refused("POST", "/v1/migrations/preflight", 409, "already-exists", json={"to": "v3"}, params=params)
        for number in range(3):
            more = {"wait": 0, "operation": f"more-{number}"}
            assert api.client.post("/v1/migrations/preflight", json={"to": "v4"}, params=more).status_code == 202
        busy = api.client.post("/v1/migrations/preflight", json={"to": "v4"}, params={"wait": 0})
        assert (busy.status_code, busy.json()["code"], busy.headers["retry-after"]) == (503, "busy", "10")
        go.set()
        params["wait"] = 30
        done = api.ok("POST", "/v1/migrations/preflight", json={"to": "v4"}, params=params)
        view = api.ok("GET", "/v1/operations/my-look")
        assert (view["state"], view["result"], view["problem"]) == ("done", done, None)
        api.refused("GET", "/v1/operations/nobody", 404, "not-found")

    def test_its_error_is_told_and_kept(self, filled: Api) -> None:
        api = filled
        api.refused("POST", f"{CURRENT}/finalize", 409, "no-migration", json={}, params={"operation": "one"})
        view = api.ok("GET", "/v1/operations/one")
        assert (view["state"], view["problem"]["code"], view["result"]) == ("failed", "no-migration", None)
        api.refused("POST", f"{CURRENT}/finalize", 409, "no-migration", json={}, params={"operation": "one"})

    def test_a_bug_in_it_tells_nothing(
        self, filled: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken() -> None:
            raise RuntimeError("secret words")

        monkeypatch.setattr(filled.db, "check_gates", broken)
        filled.refused("POST", f"{CURRENT}/check", 500, "internal", params={"operation": "one"})
        assert filled.ok("GET", "/v1/operations/one")["problem"]["code"] == "internal"
        assert "secret words" not in caplog.text
        assert "unexpected-error" in caplog.text
        caplog.clear()


class TestFollowing:
    def test_events_are_sent_until_the_service_ends(self, filled: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        api = filled
        monkeypatch.setattr(following, "EVERY", 0.05)
        api.ok("POST", "/v1/migrations", json={"to": "v4"})
        ended = threading.Timer(1.0, api.client.app.state.house.following.close)  # type: ignore[attr-defined]
        ended.start()
        with api.client.stream("GET", f"{CURRENT}/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            text = answer.read().decode()
        events = [block for block in text.split("\n\n") if block]
        assert len(events) > 2
        assert events.pop() == 'event: error\ndata: {"code":"stopping"}'
        for block in events:
            name, number, data = block.split("\n")
            assert name == "event: progress"
            told = json.loads(data.removeprefix("data: "))
            assert number == f"id: {told['at']}"
            assert told["migration"]["target"] == "v4"
        ended.join()

    def test_a_socket_tells_the_same_and_sees_a_change(self, filled: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        api = filled
        monkeypatch.setattr(following, "EVERY", 0.05)
        with api.client.websocket_connect(f"{CURRENT}/socket", headers={"Host": "localhost"}) as socket:
            assert socket.receive_json()["migration"] is None
            api.db.start_migration("v4")
            while (told := socket.receive_json())["migration"] is None:
                pass
            assert told["migration"]["state"] == "running"
            api.client.app.state.house.following.close()  # type: ignore[attr-defined]
            while (message := socket.receive())["type"] == "websocket.send":
                pass
            assert message == {"type": "websocket.close", "code": 1001, "reason": "stopping"}

    def test_a_socket_opens_for_a_reader_only(self, filled: Api) -> None:
        keys = tokens(filled)
        for headers, status in (({}, 401), ({"Authorization": "Bearer x"}, 401), ({"Origin": "http://evil"}, 403)):
            with pytest.raises(WebSocketDenialResponse) as refused:
                filled.client.websocket_connect(f"{CURRENT}/socket", headers=headers).__enter__()
            assert refused.value.status_code == status
            assert refused.value.json()["code"] in ("unauthenticated", "foreign-origin")
        with filled.client.websocket_connect(f"{CURRENT}/socket", headers=keys[Role.READER]) as socket:
            assert socket.receive_json()["migration"] is None

    def test_too_many_are_refused_and_all_of_them_read_once(
        self, make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        api = make_api(streams=2)
        read = 0
        plain = api.db.migration

        def counted() -> Any:
            nonlocal read
            read += 1
            return plain()

        monkeypatch.setattr(api.db, "migration", counted)
        monkeypatch.setattr(following, "EVERY", 60.0)
        headers = {"Host": "localhost"}
        with (
            api.client.websocket_connect(f"{CURRENT}/socket", headers=headers) as one,
            api.client.websocket_connect(f"{CURRENT}/socket", headers=headers) as two,
        ):
            assert one.receive_json() == two.receive_json()
            api.refused("GET", f"{CURRENT}/events", 503, "busy")
        assert read == 1


def test_a_rebuild_and_a_repair_over_http(filled: Api) -> None:
    api = filled
    rebuilt = api.ok("POST", "/v1/indices/v3/rebuild", json={"why": "to be sure"})
    assert (rebuilt["documents"], rebuilt["generation"]) == (6, "v3")
    api.refused("POST", "/v1/indices/v9/rebuild", 422, "invalid-input", json={})
    plan = api.ok("POST", "/v1/repairs/plan", json={"vectors": True})
    assert [each["found"] for each in plan["generations"]] == [{}]
    report = api.ok("POST", "/v1/repairs", json={"generation": "v3", "vectors": True, "why": "asked"})
    assert report["generations"][0]["state"] == "done"
    run = api.ok("GET", "/v1/repairs")["items"][0]
    assert (run["who"], run["why"], run["kind"]) == (api.db.settings.actor, "asked", "walk")
    assert api.ok("GET", "/v1/repairs/status")["generations"][0]["generation"] == "v3"
    assert api.ok("GET", "/v1/repairs/quarantine")["items"] == []
    assert api.ok("POST", "/v1/repairs/quarantine/retry", json={"all": True})["documents"] == 0
    assert api.ok("POST", "/v1/repairs/quarantine/waive", json={"all": True, "why": "x"})["documents"] == 0
    api.refused("POST", "/v1/repairs", 422, "invalid-input", json={"force": ["deletions"]})
    key = tokens(api)[Role.OPERATOR]
    forced = {"force": ["deletions"], "why": "x"}
    assert api.refused("POST", "/v1/repairs", 403, "forbidden", json=forced, headers=key)["details"]["role"] == "admin"


def test_the_alias_leases_and_live_settings(filled: Api) -> None:
    api = filled
    assert api.ok("GET", "/v1/alias")["generation"] == "v3"
    assert api.ok("PUT", "/v1/alias", json={"generation": "v3", "why": "to be sure"})["moved"] is False
    api.refused("PUT", "/v1/alias", 422, "invalid-input", json={"generation": "v9", "why": "x"})
    api.refused("PUT", "/v1/alias", 422, "invalid-input", json={"generation": "v3"})
    assert {lease["name"] for lease in api.ok("GET", "/v1/leases")} >= {"work", "migration"}
    api.refused("POST", f"{WORK}/break", 409, "conflict", json={"why": "stuck"})
    api.refused("POST", "/v1/leases/nothing/break", 404, "not-found", json={"why": "stuck"})
    lease = api.db.catalog.acquire("work")
    assert api.ok("POST", f"{WORK}/break", json={"why": "stuck", "epoch": lease.epoch})["name"] == "work"
    (event,) = api.events("lease-broken")
    assert (event["why"], event["source"]) == ("stuck", "api 127.0.0.1")
    assert api.ok("PUT", "/v1/live/concurrency", json={"value": "3", "why": "more cores"})["concurrency"] == 3
    assert api.ok("GET", "/v1/live")["rows"][0]["why"] == "more cores"
    assert api.ok("DELETE", "/v1/live/concurrency")["concurrency"] is None
    api.refused("PUT", "/v1/live/concurrency", 422, "invalid-input", json={"value": "many"})
    api.refused("PUT", "/v1/live/nothing", 422, "invalid-input", json={"value": "1"})


def test_media_are_checked_moved_and_accepted(filled: Api) -> None:
    api = filled
    assert api.ok("POST", "/v1/media/check", json={})["report"]["states"] == {"ok": 3}
    new = api.media / "archive"
    new.mkdir()
    (api.media / "talk0.wav").rename(new / "talk0.wav")
    missing = api.ok("POST", "/v1/media/check", json={"deep": True})
    assert [each["recording_id"] for each in missing["wrong"]] == ["talk0"]
    api.refused("POST", "/v1/media/relocate", 403, "media-forbidden", json={"old": str(api.media), "new": "/etc"})
    body = {"old": str(api.media / "talk0.wav"), "new": str(new / "talk0.wav"), "why": "tidied"}
    assert api.ok("POST", "/v1/media/relocate", json=body, params={"dry_run": True})["report"]["relocated"] == 1
    assert api.ok("POST", "/v1/media/relocate", json=body)["report"]["relocated"] == 1
    (api.media / "talk1.wav").write_bytes(api.file("other", (5, 6)).read_bytes())
    api.refused("POST", "/v1/media/accept", 422, "invalid-input", json={})
    accepted = api.ok("POST", "/v1/media/accept", json={"all_changed": True, "why": "a better copy"})
    assert accepted["report"]["accepted"] == 1
    assert {event["why"] for event in api.events("media-accepted", "recording-relocated")} == {
        "tidied",
        "a better copy",
    }


def test_quarantine_comes_in_pages_that_hold_everything_once(filled: Api) -> None:
    api = filled
    api.ok("POST", "/v1/migrations", json={"to": "v4"})
    row = {
        "entity_id": "one", "difference": "stale", "code": "items-rejected", "message": "x", "attempts": 1, "first_at": 1,
        "last_at": 1, "next_at": 1,
    }  # fmt: skip
    with api.db.catalog.job() as tx:
        tx.execute(sa.insert(schema.quarantine), [row | {"generation": name} for name in ("v4", "v3")])
    first = api.ok("GET", "/v1/repairs/quarantine", params={"limit": 1})
    second = api.ok("GET", "/v1/repairs/quarantine", params={"limit": 1, "cursor": first["next"]})
    assert [each["generation"] for each in first["items"] + second["items"]] == ["v3", "v4"]
