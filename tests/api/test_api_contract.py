"""The OpenAPI document is what the API does: made-up requests, right and wrong, and whatever somebody might try by hand.

None of them meets an error that the error tree does not know, tells anything of the inside, or hurts the library.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from api_kit import LOCAL, TURNS, Api, tokens
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from starlette.testclient import TestClient

from speakerdb.api.app import NOUNS, PREFIX, create_app
from speakerdb.api.problems import OWN
from speakerdb.errors import SpeakerDBError
from speakerdb.reports.access import Role
from speakerdb.service import SpeakerDB
from speakerdb.settings import ApiSettings
from speakerdb.testing import invariants
from speakerdb.testing.factories import FakeExecutor, fake_settings

EXAMPLES = 5
BY_HAND = 200
CHECKS = [
    status_code_conformance, content_type_conformance, response_headers_conformance, response_schema_conformance,
    unsupported_method,
]  # fmt: skip
OPERATIONS = sorted(each.endpoint.__name__ for noun in NOUNS for each in noun.declared)
STREAM = "follow_migration"
"""It does not end by itself; test_api_migrations follows it."""
SECRETS = ("Traceback", "site-packages", 'File "', "sqlalchemy", "sqlite3.")


def codes() -> dict[str, int]:
    """Every code that an answer may have, with its status."""
    found = {code: own.status for code, own in OWN.items()}
    waiting: list[type[SpeakerDBError]] = [SpeakerDBError]
    while waiting:
        cls = waiting.pop()
        found[cls.code] = cls.http_status
        waiting.extend(cls.__subclasses__())
    return found


CODES = codes()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A library with something of everything. The tests of this module change it as they like; it must stay sound."""
    folder = tmp_path_factory.mktemp("contract")
    media = folder / "media"
    media.mkdir()
    settings_ = fake_settings(folder / "library", media_roots=(media,), api=ApiSettings(upload_mb=1, clip_mb=1))
    with SpeakerDB.open(settings_, executor=FakeExecutor()) as db:
        app = create_app(db)
        client = TestClient(app, base_url="http://localhost", client=LOCAL, raise_server_exceptions=False)
        with client:
            api = Api(db, client, media)
            for number in range(3):
                body = {"path": str(api.file(f"r{number}")), "id": f"r{number}", "turns": TURNS}
                api.ok("POST", "/v1/recordings", json=body)
            api.ok("POST", "/v1/profiles", json={"id": "ada", "name": "Ada"})
            db.work()
            yield api


@pytest.fixture(scope="module")
def key(house: Api) -> dict[str, str]:
    return tokens(house)[Role.ADMIN]


@pytest.fixture(scope="module")
def schema(house: Api, key: dict[str, str]) -> Any:
    return schemathesis.openapi.from_dict(house.ok("GET", "/v1/openapi.json"))


def judge(answer: Any, about: Any) -> None:
    """What is true of every answer, whatever was asked."""
    kind = answer.headers.get("content-type", "")
    if answer.status_code >= 400 and kind != "application/json":  # JSON: the two of readiness
        problem = answer.json()
        assert kind == "application/problem+json", about
        assert CODES.get(problem["code"]) == answer.status_code, (about, answer.text)
        assert problem["code"] != "internal", (about, answer.text)
    assert not any(secret in answer.text for secret in SECRETS), (about, answer.text)
    assert answer.headers["x-content-type-options"] == "nosniff", about


def _made_up(house: Api, key: dict[str, str], schema: Any, name: str, mode: GenerationMode) -> int:
    """Ask one operation with what the document allows, or forbids; how often."""
    number = 0

    @seed(20_261_128)
    @settings(
        max_examples=EXAMPLES, database=None, deadline=None, phases=[Phase.generate], print_blob=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=schema.find_operation_by_id(name).as_strategy(generation_mode=mode))
    def hold(case: Any) -> None:
        nonlocal number
        number += 1
        if mode is GenerationMode.POSITIVE and "wait" in (case.query or {}):
            case.query["wait"] = 5
        request = case.as_transport_kwargs(base_url="http://localhost", headers=key)
        sent = {SENT[name]: value for name, value in request.items() if name in SENT}
        answer = house.client.request(**sent)
        judge(answer, (case.method, sent["url"], sent.get("json"), sent.get("content")))
        case.validate_response(schemathesis.Response.from_any(answer), checks=CHECKS)

    try:
        hold()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, name  # an operation that takes nothing cannot be asked wrongly
    return number


SENT = {"method": "method", "url": "url", "headers": "headers", "params": "params", "json": "json", "data": "content"}
"""What a made-up request is sent with, as our client calls it."""


def _texts(random_: random.Random) -> Iterator[str]:
    """What somebody might write where an id or a name is asked for."""
    fixed = [
        "..", "../..", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e", "....//", "%00", "a%00.wav", "%c0%ae%c0%ae", "%ff%fe",
        "' OR 1=1 --", "'; DROP TABLE recordings; --", '"', "{{7*7}}", "${jndi:ldap://x}", "<script>alert(1)</script>",
        "\u202e", "\U0001f600", "\ufeff", "a" * 5000, "%0d%0aSet-Cookie:%20x=1", "-1", "0", "9" * 40, "NaN", "null", "[]",
        "file:///etc/passwd", "http://127.0.0.1/", "\\\\host\\share", "C:\\Windows", "*", "%", "_", "~", ".", "con",
    ]  # fmt: skip
    yield from fixed
    while True:
        yield "".join(random_.choice(string.printable[:95] + "äß€") for _ in range(random_.randrange(1, 40)))


def _bodies(random_: random.Random) -> Iterator[tuple[bytes, str]]:
    """Bodies, and what they are said to be."""
    deep = b"[" * 50_000
    fixed: list[tuple[bytes, str]] = [
        (b"", "application/json"), (b"{", "application/json"), (deep, "application/json"), (b"{}", "text/xml"),
        (b"\x00" * 1000, "application/json"), (b"\xff" * 1000, "application/octet-stream"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "application/json"), (b"1" * 2_000_000, "application/json"),
        (b'{"__proto__": {"role": "admin"}, "role": "admin"}', "application/json"), (b"--x\r\n\r\n", "multipart/form-data"),
        (b'{"name": 1e400, "k": -1, "vector": [NaN]}', "application/json"), (b'"' + b"\\ud800" * 100 + b'"', "application/json"),
        (json.dumps({"name": "x" * 900_000}).encode(), "application/json"), (b"a=b&c=d", "application/x-www-form-urlencoded"),
        (json.dumps({"id": "../x", "path": "/etc/passwd", "turns": TURNS}).encode(), "application/json"),
        (json.dumps({"upload": "../catalog.db", "turns": TURNS}).encode(), "application/json"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "audio/wav"), (b"ID3" + b"\xff\xfb" * 4000, "audio/mpeg"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "audio/wav"), (b"#EXTM3U\nfile:///etc/passwd\n", "audio/wav"),
    ]  # fmt: skip
    yield from fixed
    while True:
        yield random_.randbytes(random_.randrange(0, 300)), random_.choice(["application/json", "audio/wav", "x/y", ""])


def _by_hand(house: Api, key: dict[str, str]) -> int:
    """Ask what somebody might try; how often."""
    random_ = random.Random(6)  # noqa: S311
    texts, bodies = _texts(random_), _bodies(random_)
    routes = [each for noun in NOUNS for each in noun.declared if each.endpoint.__name__ != STREAM]
    headers = [
        key, {}, {"Authorization": "Bearer " + "x" * 43}, {"Authorization": "Basic YTpi"}, key | {"Host": "evil.example"},
        key | {"Origin": "http://evil.example"}, key | {"If-Match": '"x"'}, key | {"X-Why": "\x7f" * 50},
        key | {"X-HTTP-Method-Override": "DELETE", "X-Forwarded-For": "127.0.0.1"}, key | {"Content-Length": "5"},
        key | {"Transfer-Encoding": "chunked"}, key | {"Range": "bytes=0-"}, key | {"Accept": "text/html"},
    ]  # fmt: skip
    for number in range(BY_HAND):
        route = random_.choice(routes)
        path = PREFIX + "/".join(next(texts) if part.startswith("{") else part for part in route.path.split("/"))
        content, kind = next(bodies)
        method = (
            route.method if number % 7 else random_.choice(["PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "PROPFIND"])
        )
        query = {random_.choice(["limit", "cursor", "wait", "library", "dry_run", "kind", "after"]): next(texts)}
        chosen = {name: value.encode() for name, value in random_.choice(headers).items()} | {
            "Content-Type": kind.encode()
        }
        answer = house.client.request(method, path, params=query, content=content, headers=chosen)
        judge(answer, (method, path, query, content[:80]))
    return BY_HAND


def test_an_answer_that_the_document_does_not_know_would_be_seen(house: Api, key: dict[str, str], schema: Any) -> None:
    case = schema.find_operation_by_id("show_health").Case()
    answer = house.client.get("/v1/health")
    case.validate_response(schemathesis.Response.from_any(answer), checks=CHECKS)
    answer._content = b'{"status": "dead", "version": 3}'
    with pytest.raises(BaseExceptionGroup):
        case.validate_response(schemathesis.Response.from_any(answer), checks=CHECKS)


def test_five_hundred_requests_hurt_nothing(house: Api, key: dict[str, str], schema: Any) -> None:
    """In one test: the library that all of them met must be sound after the last."""
    asked = _by_hand(house, key)
    for name in OPERATIONS:
        if name != STREAM:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                asked += _made_up(house, key, schema, name, mode)
    assert asked >= 500
    for lease in house.db.overview.leases():
        assert lease.state == "free", lease
    house.db.live.clear("paused")
    house.db.live.clear("quiet_hours")
    house.db.work()
    invariants.check(house.db)
    uploads = house.db.settings.uploads_folder
    assert [each.name for each in uploads.glob(".partial*")] == []
    inside = {each.name for each in house.db.settings.data_dir.iterdir()}
    assert {name.partition(".")[0] for name in inside} <= {
        "catalog",
        "index",
        "locks",
        "uploads",
        "speakerdb",
        "refused",
    }
    assert {each.suffix for each in house.media.iterdir()} == {".wav"}


def test_the_document_is_complete(house: Api, key: dict[str, str]) -> None:
    document = house.ok("GET", "/v1/openapi.json")
    ids = []
    for path, operations in document["paths"].items():
        assert path.startswith("/v1/") or path == "/metrics"
        for method, operation in operations.items():
            about = f"{method} {path}"
            ids.append(operation["operationId"])
            assert len(operation["description"]) > 10, about
            assert operation["tags"], about
            assert operation["x-role"] in ("anyone", "reader", "operator", "admin"), about
            assert (operation["security"] == []) == (operation["x-role"] == "anyone"), about
            problem = operation["responses"]["default"]["content"]["application/problem+json"]["schema"]
            assert problem == {"$ref": "#/components/schemas/ProblemDetails"}, about
            good = [answer for status, answer in operation["responses"].items() if status in ("200", "201")]
            assert good, about
            for answer in good:
                kinds = answer["content"]
                formed = any(each["name"] == "form" for each in operation.get("parameters", ()))
                assert len(kinds) == 1 or formed, about  # several only where one is asked for by `form`
                if "application/json" in kinds:
                    assert kinds["application/json"]["schema"], about
            named = set(path.replace("}", "{").split("{")[1::2])
            assert {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"} == named, about
    assert len(ids) == len(set(ids))
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_a_generator_of_clients_finds_a_name_and_a_schema_for_everything(house: Api, key: dict[str, str]) -> None:
    """Generators leave out a route whose body has no schema, and one of two models that they would call the same."""
    document = house.ok("GET", "/v1/openapi.json")
    names = list(document["components"]["schemas"])
    assert [name for name in names if "__" in name] == []
    assert len({name.replace("_", "").lower() for name in names}) == len(names)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                assert content["schema"], (method, path)


def test_the_document_names_no_folder_of_this_machine(house: Api, key: dict[str, str], tmp_path: Path) -> None:
    text = house.client.get("/v1/openapi.json").text
    assert str(Path.home()) not in text or str(Path.home()) == "/"
    assert str(house.db.settings.data_dir) not in text
