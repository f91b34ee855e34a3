"""What every answer has, and errors of every kind: told the same way, with nothing of the inside in them."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from api_kit import TURNS, Api, tokens

from speakerdb import metrics
from speakerdb.api import problems
from speakerdb.api.app import create_app
from speakerdb.errors import DatabaseUnavailable, IndexUnavailable
from speakerdb.reports.access import Role

SECRET = "words that nobody may read"  # noqa: S105


def test_what_is_not_there(api: Api) -> None:
    for path in ("/", "/v1", "/v1/nothing", "/v1/recordings/", "//", "/docs", "/redoc", "/openapi.json", "/v2/me"):
        api.refused("GET", path, 404, "no-such-route")
    for method, path in (("DELETE", "/v1/recordings"), ("POST", "/v1/me"), ("TRACE", "/v1/me"), ("OPTIONS", "/v1/me")):
        api.refused(method, path, 405, "method-not-allowed")
    assert api.client.request("DELETE", "/v1/recordings").headers["allow"]
    for path in ("/v1/recordings?library=a%00b", "/v1/recordings/a%00b"):
        api.refused("GET", path, 400, "bad-request")


def test_every_answer_obeys_browsers_and_has_an_id(api: Api) -> None:
    for path in ("/v1/me", "/v1/nothing", "/metrics", "/v1/recordings/none"):
        headers = api.client.get(path, headers={"X-Request-Id": "mine-1"}).headers
        assert headers["x-request-id"] == "mine-1"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "server" not in headers
    for wrong in ("", "a b", "x" * 100, "a\tb"):
        found = api.client.get("/v1/me", headers={"X-Request-Id": wrong}).headers["x-request-id"]
        assert found != wrong
        assert len(found) == 16


def test_a_body_that_is_no_json_or_another_thing(api: Api) -> None:
    for content, kind in (
        (b"{", "application/json"), (b"", "application/json"), (b"[]", "application/json"), (b"null", "application/json"),
        (b"\xff\xfe", "application/json"), (b'{"name": "x"}', "text/plain"), (b"name=x", "application/x-www-form-urlencoded"),
        (b'{"name": "x", "name2": 1}', "application/json"), (b'{"name": ' + b"9" * 5000 + b"}", "application/json"),
        (b"[" * 100_000, "application/json"), (b'{"name": "\\ud800"}', "application/json"),
        (b'{"name": "a\\u0000b"}', "application/json"), (b'{"name": "' + b"x" * 2000 + b'"}', "application/json"),
    ):  # fmt: skip
        answer = api.client.post("/v1/profiles", content=content, headers={"Content-Type": kind})
        assert answer.status_code in (400, 422), (content[:50], answer.text)
        assert answer.json()["code"] in ("bad-request", "invalid-input")
    assert api.events() == []


def test_a_large_body_is_refused_before_it_is_read_to_its_end(make_api: Callable[..., Api]) -> None:
    api = make_api(body_mb=0.01, turns_mb=0.05)
    headers = {"Content-Type": "application/json"}
    problem = api.refused("POST", "/v1/profiles", 413, "too-large", content=b" " * 10_001, headers=headers)
    assert problem["details"] == {"limit": 10_000}
    slow = Slow(api, "/v1/profiles")
    status, problem = slow.send([b" " * 1000] * 10_000, 0)
    assert (status, problem["code"]) == (413, "too-large")
    assert len(slow.left) > 9_900
    many = [{"start": n, "end": n + 1, "speaker": "A"} for n in range(1000)]
    api.refused("POST", "/v1/recordings", 422, "media-missing", json={"path": str(api.media / "x"), "turns": many})
    many *= 2
    api.refused("POST", "/v1/recordings", 413, "too-large", json={"path": str(api.media / "x"), "turns": many})


class Slow:
    """A client that sends what `pieces` gives, with pauses, straight to the application."""

    def __init__(self, api: Api, path: str, method: str = "POST") -> None:
        self.app = api.client.app
        self.scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "raw_path": path.encode(), "query_string": b"", "scheme": "http", "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 1), "root_path": "",
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        }  # fmt: skip

    def send(self, pieces: list[bytes], pause: float) -> tuple[int, dict[str, Any]]:
        left = self.left = list(pieces)
        answer: dict[str, Any] = {"body": b""}

        async def receive() -> dict[str, Any]:
            await anyio.sleep(pause)
            if left:
                return {"type": "http.request", "body": left.pop(0), "more_body": True}
            await anyio.sleep(3600)
            raise AssertionError("nobody waits for so long")

        async def send(message: dict[str, Any]) -> None:
            answer.update(status=message.get("status", answer.get("status")))
            answer["body"] += message.get("body", b"")

        async def run() -> None:
            await self.app(self.scope, receive, send)

        anyio.run(run)
        return int(answer["status"]), json.loads(answer["body"])


def test_a_slow_body_is_given_up(make_api: Callable[..., Api]) -> None:
    api = make_api(body_seconds=0.3)
    for method, path in (("POST", "/v1/profiles"), ("PUT", "/v1/uploads/a.wav"), ("POST", "/v1/matches/clip")):
        status, problem = Slow(api, path, method).send([b"{"], 0.01)  # the rest never comes
        assert (status, problem["code"]) == (408, "slow-body"), path
        status, problem = Slow(api, path, method).send([b" "] * 1000, 0.05)  # one by one: never too long between two
        assert (status, problem["code"]) == (408, "slow-body"), path
    assert list(api.db.settings.uploads_folder.iterdir()) == []


def test_more_than_may_wait_are_sent_away(make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch) -> None:
    api = make_api(threads=1, waiting=2, waiting_seconds=60)
    entered, go = threading.Event(), threading.Event()
    plain = api.db.status

    def blocked() -> Any:
        entered.set()
        assert go.wait(30)
        return plain()

    monkeypatch.setattr(api.db, "status", blocked)
    answers: list[int] = []
    house = api.client.app.state.house  # type: ignore[attr-defined]

    def ask() -> None:
        answers.append(api.client.get("/v1/status").status_code)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    threads[0].start()
    assert entered.wait(30)
    for thread in threads[1:]:
        thread.start()
    while house.turns.waiting < 2:
        pass
    answer = api.client.get("/v1/me")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "busy", "1")
    assert api.client.get("/v1/health").status_code == 200  # liveness needs no turn
    go.set()
    for thread in threads:
        thread.join()
    assert answers == [200, 200, 200]


def test_who_waits_too_long_is_sent_away(make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch) -> None:
    api = make_api(threads=1, waiting_seconds=0.05)
    entered, go = threading.Event(), threading.Event()

    def blocked() -> Any:
        entered.set()
        go.wait(30)
        raise IndexUnavailable("It is away.")

    monkeypatch.setattr(api.db, "status", blocked)
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(api.client.get("/v1/status").status_code))
    thread.start()
    assert entered.wait(30)
    api.refused("GET", "/v1/me", 503, "busy")
    go.set()
    thread.join()
    assert answers == [503]


def test_an_error_that_nobody_foresaw_tells_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(api.db, "status", broken)
    monkeypatch.setattr(api.db.ingest, "recording", lambda _: {"not": "a recording"})
    for path in ("/v1/status", "/v1/recordings/x"):
        answer = api.client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (500, "internal")
        assert SECRET not in answer.text
        assert "Traceback" not in answer.text
    assert SECRET not in caplog.text
    (first, *_) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("unexpected-error")]
    assert "route=/v1/status error=RuntimeError at=speakerdb/api/" in first
    caplog.clear()


def test_a_back_end_that_is_away_is_told_with_its_code(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise DatabaseUnavailable("The database is locked.")

    monkeypatch.setattr(api.db.access, "any_tokens", away)
    answer = api.client.get("/v1/me")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (
        503,
        "database-unavailable",
        "1",
    )
    api.refused("POST", "/v1/uploads/x", 405, "method-not-allowed")


def test_live_and_ready_are_two_things(make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch) -> None:
    class Starting:
        stopping = False

        def ready(self) -> tuple[bool, list[str]]:
            return False, ["Its jobs were not started."]

    api = make_api(service=Starting())
    assert api.client.get("/v1/health").json()["status"] == "alive"
    answer = api.client.get("/v1/ready")
    expected = {"status": "not-ready", "reasons": ["Its jobs were not started."]}
    assert (answer.status_code, answer.json()) == (503, expected)
    tokens(api)
    answer = api.client.get("/v1/ready")
    assert (answer.status_code, answer.json()["reasons"]) == (503, []), "who may ask nothing is told no reasons"


def test_without_a_service_readiness_asks_the_index_and_the_database(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api.ok("GET", "/v1/ready") == {"status": "ready", "reasons": []}

    def away(**_: object) -> None:
        raise IndexUnavailable("The index is away.")

    monkeypatch.setattr(api.db.serving, "resolve", away)
    answer = api.client.get("/v1/ready")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["index-unavailable: The index is away."])


def test_the_log_names_routes_and_no_person(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    key = tokens(api)[Role.OPERATOR]
    secret = key["Authorization"].partition(" ")[2]
    headers = key | {"X-Request-Id": "r-1"}
    api.client.get("/v1/profiles/Ada-Lovelace", headers=headers, params={"rows": 3})
    api.client.get("/v1/speakers?name=Ada-Lovelace", headers=key)
    line = next(r.getMessage() for r in caplog.records if "request=r-1" in r.getMessage())
    token = api.db.access.tokens()[1].id
    assert line.startswith(
        "request-ended request=r-1 method=GET route=/v1/profiles/{profile} status=404 code=not-found "
    )
    assert line.endswith(f"client=127.0.0.1 token={token}")
    ours = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("speakerdb"))
    assert "Lovelace" not in ours
    assert secret not in ours
    assert all(r.levelno == logging.INFO for r in caplog.records if r.name == "speakerdb.api")


def test_requests_are_counted_by_route(api: Api) -> None:
    api.client.get("/v1/profiles/nobody")
    api.client.get("/v1/profiles/nobody-else")
    text = metrics.render(api.db).decode()
    assert 'route="/v1/profiles/{profile}",status="404"} 2.0' in text
    assert "nobody-else" not in text
    shown = api.client.get("/metrics")
    assert shown.headers["content-type"].startswith("text/plain")
    assert "speakerdb_request_seconds_count" in shown.text


def test_every_code_of_the_door_is_told_by_something() -> None:
    for code, own in problems.OWN.items():
        problem = problems.of_error(problems.Refusal(code))
        assert problem is not None
        assert (problem.status, problem.code, problem.hint) == (own.status, code, own.hint)


def test_an_application_can_be_made_twice(api: Api) -> None:
    assert create_app(api.db).openapi() == api.client.app.openapi()  # type: ignore[attr-defined]


def test_a_validation_error_repeats_nothing_that_was_given(api: Api) -> None:
    body = {"path": SECRET, "turns": [{"start": SECRET, "end": 1, "speaker": "A"}], "more": TURNS}
    answer = api.client.post("/v1/recordings", json=body)
    assert answer.status_code == 422
    assert SECRET not in answer.text
    assert len(answer.json()["details"]["errors"]) == 2
