"""Streams that stay open: who may follow is asked for at each step, and what ends one is no bug."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from api_kit import Api, tokens
from starlette.testclient import WebSocketDenialResponse

from speakerdb.api import following
from speakerdb.api.problems import Refusal
from speakerdb.reports.access import Role

EVENTS = "/v1/migrations/current/events"
SOCKET = "/v1/migrations/current/socket"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "EVERY", 0.05)


def test_a_token_that_was_revoked_hears_nothing_more(api: Api) -> None:
    made = tokens(api)[Role.READER]
    with api.client.websocket_connect(SOCKET, headers=made) as socket:
        assert socket.receive_json()["migration"] is None
        _revoke(api)
        while (message := socket.receive())["type"] == "websocket.send":
            pass
        assert (message["type"], message["code"], message["reason"]) == ("websocket.close", 1008, "unauthenticated")


def test_server_sent_events_end_with_the_reason(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tokens(api)[Role.READER]
    _when_told(api, 2, lambda: _revoke(api), monkeypatch)
    answer = api.client.get(EVENTS, headers=made)
    assert answer.text.endswith('event: error\ndata: {"code":"unauthenticated"}\n\n')


def test_who_followed_without_a_token_needs_one_from_the_first_on(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    _when_told(api, 2, lambda: tokens(api), monkeypatch)
    answer = api.client.get(EVENTS)
    assert answer.text.endswith('event: error\ndata: {"code":"unauthenticated"}\n\n')


def test_a_server_that_has_no_turn_left_ends_a_stream_and_calls_it_no_bug(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = api.client.app.state.house  # type: ignore[attr-defined]

    async def refused(_connection: Any) -> None:
        raise Refusal("busy")

    _when_told(api, 2, lambda: monkeypatch.setattr(house, "caller", refused), monkeypatch)
    assert api.client.get(EVENTS).text.endswith('event: error\ndata: {"code":"busy"}\n\n')


def test_a_socket_ends_so_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    house = api.client.app.state.house  # type: ignore[attr-defined]

    async def refused(_connection: Any) -> None:
        raise Refusal("busy")

    with api.client.websocket_connect(SOCKET, headers={"Host": "localhost"}) as socket:
        socket.receive_json()
        monkeypatch.setattr(house, "caller", refused)
        while (message := socket.receive())["type"] == "websocket.send":
            pass
        assert (message["code"], message["reason"]) == (1013, "busy")


def _when_told(api: Api, times: int, do: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do it when the library was read for followers so many times."""
    plain, read = api.db.migration, 0

    def counted() -> Any:
        nonlocal read
        read += 1
        if read == times:
            do()
        return plain()

    monkeypatch.setattr(api.db, "migration", counted)


def _revoke(api: Api) -> None:
    api.db.access.revoke(next(each.id for each in api.db.access.tokens() if each.role is Role.READER))


def test_who_begins_to_follow_a_server_that_ends_is_sent_elsewhere(api: Api) -> None:
    api.client.app.state.house.following.close()  # type: ignore[attr-defined]
    api.refused("GET", EVENTS, 503, "stopping")
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        api.client.websocket_connect(SOCKET, headers={"Host": "localhost"}),
    ):
        pass
    assert (refused.value.status_code, refused.value.json()["code"]) == (503, "stopping")
