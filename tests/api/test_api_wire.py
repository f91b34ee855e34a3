"""Requests that are strange on the wire: methods, origins, content types and addresses that nobody foresaw."""

from __future__ import annotations

import pytest
from api_kit import Api

from speakerdb import metrics


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
