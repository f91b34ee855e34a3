"""Tokens, roles, and who is served while there is no token."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from api_kit import Api, tokens

from speakerdb import access
from speakerdb.access import DAY, Access, is_loopback
from speakerdb.api.app import NOUNS, PREFIX
from speakerdb.api.health import outside
from speakerdb.catalog import database, schema
from speakerdb.errors import AlreadyExists, InvalidInput, NotFound
from speakerdb.reports.access import Role

ROUTES = [(PREFIX, each) for noun in NOUNS for each in noun.declared] + [("", each) for each in outside.declared]
PATHS = {
    "library": "default",
    "recording": "r", "speaker": "s", "profile": "p", "name": "paused", "entity": "e", "operation": "o", "token": "t",
    "lease": "work", "generation": "v3", "entity_id": "e",
}  # fmt: skip


def role_of(declared: Any) -> str:
    return str(declared.options["openapi_extra"]["x-role"])


@pytest.mark.parametrize(
    ("prefix", "route"), ROUTES, ids=[f"{route.method} {prefix}{route.path}" for prefix, route in ROUTES]
)
class TestEveryRoute:
    """Each route, whatever it does: the role is looked at before anything that was given."""

    def test_refuses_a_weaker_role_and_nobody(self, prefix: str, route: Any, shared: Shared) -> None:
        path = (prefix + route.path).format(**PATHS)
        if role_of(route) == "anyone":
            assert shared.api.client.request(route.method, path).status_code in (200, 503)
            return
        wanted = Role(role_of(route))
        shared.api.refused(route.method, path, 401, "unauthenticated")
        for role in Role:
            if not role.allows(wanted):
                problem = shared.api.refused(route.method, path, 403, "forbidden", headers=shared.keys[role])
                assert problem["details"] == {"role": wanted.value, "yours": role.value}

    def test_lets_its_own_role_through_to_what_was_given(self, prefix: str, route: Any, shared: Shared) -> None:
        if role_of(route) == "anyone" or route.path.endswith("/current/events"):
            return  # the stream is followed in test_api_migrations
        path = (prefix + route.path).format(**PATHS)
        answer = shared.api.client.request(route.method, path, headers=shared.keys[Role(role_of(route))], content=b"[]")
        assert answer.status_code not in (401, 403, 405), answer.text


class Shared:
    """One library for all routes: none of these requests changes anything, because nothing fits."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.keys = tokens(api)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from starlette.testclient import TestClient

    from speakerdb.api.app import create_app
    from speakerdb.service import SpeakerDB
    from speakerdb.testing.factories import FakeExecutor, fake_settings

    folder = tmp_path_factory.mktemp("roles")
    with (
        SpeakerDB.open(fake_settings(folder), executor=FakeExecutor()) as db,
        TestClient(create_app(db), base_url="http://localhost", raise_server_exceptions=False) as client,
    ):
        yield Shared(Api(db, client, folder))


def test_what_reads_is_for_readers_and_what_swaps_is_for_admins() -> None:
    roles = {f"{route.method} {route.path}": role_of(route) for _, route in ROUTES}
    assert {role for key, role in roles.items() if key.startswith("GET") and "token" not in key} <= {"reader", "anyone"}
    for admin in (
        "POST /migrations/current/finalize", "POST /migrations/current/rollback", "POST /migrations/current/retire",
        "POST /leases/{lease}/break", "PUT /live/{name}", "POST /tokens", "DELETE /tokens/{token}",
    ):  # fmt: skip
        assert roles[admin] == "admin", admin
    assert {key for key, role in roles.items() if role == "anyone"} == {
        "GET /health",
        "GET /ready",
        "GET /openapi.json",
    }


def test_only_the_hash_of_a_secret_is_kept_and_it_is_shown_once(api: Api) -> None:
    made = api.ok("POST", "/v1/tokens", json={"name": "ci", "role": "operator", "days": 3})
    secret = made["secret"]
    assert len(secret) > 43  # 256 bits in base 64, and the beginning
    with api.db.catalog.read() as tx:
        row = tx.execute(sa.select(schema.tokens)).one()
        assert row.digest == hashlib.sha256(secret.encode()).hexdigest()
        assert not any(secret in str(value) for value in row)
    assert row.expires_at - row.created_at == 3 * DAY
    headers = {"Authorization": f"Bearer {secret}"}
    assert api.ok("GET", "/v1/me", headers=headers) == {"name": "ci", "role": "operator", "address": "127.0.0.1"}
    assert secret not in str(api.events())


def test_a_token_is_made_once_for_an_id(api: Api) -> None:
    given = {"name": "ci", "role": "admin", "id": "deploy"}
    secret = api.ok("POST", "/v1/tokens", json=given)["secret"]
    headers = {"Authorization": f"bearer {secret}"}
    again = api.client.post("/v1/tokens", json=given, headers=headers)
    assert (again.status_code, again.json()["secret"]) == (200, None)
    api.refused("POST", "/v1/tokens", 409, "already-exists", json=given | {"role": "reader"}, headers=headers)
    assert len(api.ok("GET", "/v1/tokens", headers=headers)) == 1


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Bearer ", "Bearer x", "Basic dXNlcjpwYXNz", "Bearer " + "x" * 5000, "sdb_x", "Bearer sdb_é"],
)
def test_a_wrong_token_opens_nothing_also_where_none_is_needed(api: Api, given: str) -> None:
    headers = {"Authorization": given.encode("latin-1")}
    api.refused("GET", "/v1/me", 401, "unauthenticated", headers=headers)
    answer = api.client.get("/v1/me", headers=headers)
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_revoked_and_an_expired_token_open_nothing_and_no_door_opens_with_them(api: Api) -> None:
    access = api.db.access
    short, long = access.create("short", Role.READER, 1), access.create("long", Role.READER)
    assert access.check(str(short.secret)) is not None
    with api.db.catalog.job() as tx:
        tx.execute(sa.update(schema.tokens).where(schema.tokens.c.id == short.token.id).values(expires_at=1))
    assert access.check(str(short.secret)) is None
    access.revoke(long.token.id, why="lost")
    access.revoke(long.token.id)
    assert access.check(str(long.secret)) is None
    assert [view.state for view in access.tokens()] == ["expired", "revoked"]
    assert [event["why"] for event in api.events("token-revoked")] == ["lost"]
    api.refused("GET", "/v1/me", 401, "unauthenticated")


def test_use_is_noted_once_a_day(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    made = api.db.access.create("ci", Role.READER)
    now = api.db.catalog.now()
    for at in (now, now + 1000, now + DAY, now + DAY + 1000):
        monkeypatch.setattr(api.db.catalog.database, "_clock", lambda at=at: at)
        assert api.db.access.check(str(made.secret)) is not None
        assert api.db.access.tokens()[0].last_used_at == (now if at < now + DAY else now + DAY)


def test_what_a_token_may_not_be(api: Api) -> None:
    access: Access = api.db.access
    for name, days in (("", None), ("x" * 2000, None), ("a\nb", None), ("ok", 0), ("ok", 100_000)):
        with pytest.raises(InvalidInput):
            access.create(name, Role.READER, days)
    with pytest.raises(InvalidInput):
        access.create("ok", Role.READER, token_id="a\nb")  # noqa: S106
    with pytest.raises(NotFound, match="nobody"):
        access.revoke("nobody")
    access.create("ok", Role.READER, token_id="one")  # noqa: S106
    with pytest.raises(AlreadyExists):
        access.create("other", Role.READER, token_id="one")  # noqa: S106
    assert access.token("one").name == "ok"


def test_without_tokens_only_this_machine_is_served(make_api: Callable[..., Api]) -> None:
    here = make_api()
    assert here.ok("GET", "/v1/me") == {"name": None, "role": "admin", "address": "127.0.0.1"}
    for host in ("127.0.0.1:8765", "[::1]:8765", "localhost", "LOCALHOST:1"):
        here.ok("GET", "/v1/me", headers={"Host": host})
    # A page that lets its own name lead to this machine, a proxy that stands in front, and a page of elsewhere.
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.7:8765", ""):
        here.refused("GET", "/v1/me", 403, "loopback-only", headers={"Host": host})
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
        here.refused("GET", "/v1/me", 403, "loopback-only", headers={name: "127.0.0.1"})
    for origin in ("http://evil.example", "null", "http://localhost:3000"):
        here.refused("POST", "/v1/undo", 403, "foreign-origin", headers={"Origin": origin}, json={})
    here.refused("GET", "/v1/me", 403, "foreign-origin", headers={"Sec-Fetch-Site": "cross-site"})
    here.ok("GET", "/v1/me", headers={"Origin": "http://localhost"})


def test_another_machine_is_not_served_without_a_token_and_is_with_one(make_api: Callable[..., Api]) -> None:
    there = make_api(client=("192.0.2.7", 4711))
    problem = there.refused("GET", "/v1/me", 403, "loopback-only")
    assert "speakerdb token create" in problem["hint"]
    assert there.client.get("/v1/health").status_code == 200
    key = tokens(there)[Role.READER]
    found = there.ok("GET", "/v1/me", headers=key | {"Host": "voices.example.org"})
    assert found == {"name": "reader-1", "role": "reader", "address": "192.0.2.7"}


def test_a_trusted_proxy_says_who_asks_and_nobody_else_does(make_api: Callable[..., Api]) -> None:
    api = make_api(client=("10.0.0.2", 1), trusted_proxies=["10.0.0.0/24"])
    key = tokens(api)[Role.READER]

    def seen(forwarded: str) -> str:
        return str(api.ok("GET", "/v1/me", headers=key | {"X-Forwarded-For": forwarded})["address"])

    assert seen("203.0.113.9") == "203.0.113.9"
    assert seen("1.2.3.4, 203.0.113.9, 10.0.0.3") == "203.0.113.9"  # the first was written by whoever asks
    assert seen("garbage") == "10.0.0.2"
    assert seen("") == "10.0.0.2"
    assert api.ok("GET", "/v1/me", headers=key)["address"] == "10.0.0.2"


def test_origins_that_are_named_may_ask(make_api: Callable[..., Api]) -> None:
    api = make_api(cors_origins=["https://tools.example.org"])
    headers = {"Origin": "https://tools.example.org"}
    answer = api.client.get("/v1/me", headers=headers)
    assert answer.headers["access-control-allow-origin"] == "https://tools.example.org"
    asked = headers | {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}
    assert api.client.options("/v1/me", headers=asked).status_code == 200
    api.refused("GET", "/v1/me", 403, "foreign-origin", headers={"Origin": "https://other.example.org"})


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("[::1]", True), ("localhost", True),
        ("a.localhost", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False), ("::", False), ("10.0.0.1", False),  # noqa: S104
        ("localhost.example", False), ("127.0.0.1.example", False), ("", False), ("testclient", False),
    ],
)  # fmt: skip
def test_which_addresses_are_of_this_machine_alone(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_what_is_done_is_in_the_trail_with_who_from_where_and_why(api: Api) -> None:
    key = tokens(api)[Role.OPERATOR]
    body = {"name": "Ada", "id": "ada", "why": "the first guest"}
    api.ok("POST", "/v1/profiles", json=body, headers=key)
    api.ok("PUT", "/v1/profiles/ada/name", json={"name": "Ada L."}, headers=key | {"X-Why": "full name, ünï".encode()})
    api.ok("DELETE", "/v1/profiles/ada", headers=key)
    found = [(e["kind"], e["who"], e["source"], e["why"]) for e in api.events() if e["entity"] == "ada"]
    assert found == [
        ("profile-created", "operator-1", "api 127.0.0.1", "the first guest"),
        ("profile-renamed", "operator-1", "api 127.0.0.1", "full name, ünï"),
        ("profile-deleted", "operator-1", "api 127.0.0.1", None),
    ]
    api.refused("POST", "/v1/undo", 422, "invalid-input", json={}, headers=key | {"X-Why": "x" * 3000})


def test_without_tokens_the_user_of_this_machine_did_it(api: Api) -> None:
    api.ok("POST", "/v1/profiles", json={"name": "Ada"})
    (event,) = api.events("profile-created")
    assert (event["who"], event["source"]) == (api.db.settings.actor, "api 127.0.0.1")


def test_a_database_that_cannot_be_written_is_waited_for_once_and_not_by_every_request(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_SECONDS", 0.2)
    api = make_api()
    key = tokens(api)[Role.READER]
    waited: list[float] = []
    plain = api.db.catalog.job

    @contextmanager
    def timed() -> Iterator[Any]:
        begun = time.monotonic()
        try:
            with plain() as tx:
                yield tx
        finally:
            waited.append(time.monotonic() - begun)

    monkeypatch.setattr(api.db.catalog, "job", timed)
    clock = [0.0]
    monkeypatch.setattr(api.db.access, "_clock", lambda: clock[0])
    path = api.db.catalog.database.path
    assert path is not None
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")  # a process that stands still in the middle of a write
    try:
        for _ in range(5):
            assert api.client.get("/v1/me", headers=key).status_code == 200
        assert len(waited) == 1
    finally:
        writer.execute("ROLLBACK")
        writer.close()
    clock[0] += access.NOTED_AGAIN_SECONDS
    assert api.client.get("/v1/me", headers=key).status_code == 200
    assert len(waited) == 2
    assert all(one.last_used_at for one in api.db.access.tokens() if one.role is Role.READER)
