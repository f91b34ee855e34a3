"""The metrics are read while nothing else is answered, by whoever might read them a moment ago."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from api_kit import Api, tokens

from speakerdb import metrics
from speakerdb.access import DAY
from speakerdb.api import scrapers
from speakerdb.reports.access import Role


class Frozen:
    """A database that answers nothing until it thaws."""

    def __init__(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        self._thawed = threading.Event()
        self._thawed.set()
        self.asked = 0
        read = api.db.catalog.read

        def watched() -> Any:
            self.asked += 1
            self._thawed.wait()
            return read()

        monkeypatch.setattr(api.db.catalog, "read", watched)

    def freeze(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for each in (scrapers, metrics):
            monkeypatch.setattr(each, "PATIENCE_SECONDS", 0.05)
        self._thawed.clear()

    def thaw(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for each in (scrapers, metrics):
            monkeypatch.setattr(each, "PATIENCE_SECONDS", 60.0)
        self._thawed.set()
        for thread in threading.enumerate():
            if thread.name == "speakerdb-scraper":
                thread.join()  # it has its answer now, and lets another one ask


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def later(self) -> None:
        self.now += scrapers.REMEMBERED_SECONDS


@pytest.fixture
def clock(api: Api, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """That of who is remembered."""
    made = Clock()
    monkeypatch.setattr(scrapers, "PATIENCE_SECONDS", 60.0)
    monkeypatch.setattr(api.client.app.state.house.remembered, "_clock", made)  # type: ignore[attr-defined]
    return made


@pytest.fixture
def frozen(api: Api, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Frozen]:
    made = Frozen(api, monkeypatch)
    yield made
    made.thaw(monkeypatch)


def scrape(api: Api, key: dict[str, str] | None = None) -> Any:
    return api.client.get("/metrics", headers=key)


def test_metrics_are_told_while_every_turn_is_taken(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrapers, "PATIENCE_SECONDS", 60.0)
    api = make_api(threads=1, waiting_seconds=0.05)
    house = api.client.app.state.house  # type: ignore[attr-defined]
    portal = api.client.portal
    assert portal is not None
    portal.call(house.turns._free.acquire)
    try:
        api.refused("GET", "/v1/me", 503, "busy")
        assert scrape(api).status_code == 200
        key = tokens(api)[Role.READER]
        assert scrape(api, key).status_code == 200
    finally:
        portal.call(_release, house)


async def _release(house: Any) -> None:
    house.turns._free.release()


@pytest.mark.parametrize("with_token", [False, True])
def test_a_frozen_database_is_told_of_for_as_long_as_it_is_frozen(
    api: Api, clock: Clock, frozen: Frozen, monkeypatch: pytest.MonkeyPatch, with_token: bool
) -> None:
    key = tokens(api)[Role.READER] if with_token else None
    assert "speakerdb_database_up" in scrape(api, key).text
    frozen.freeze(monkeypatch)
    metrics.of(api.db).gauges._read = None  # as when it is too old
    assert "speakerdb_database_up 0.0" in scrape(api, key).text
    clock.later()  # the rule for it waits two minutes
    clock.later()
    assert "speakerdb_database_up 0.0" in scrape(api, key).text


def test_who_was_never_seen_waits_little_and_is_told(
    api: Api, clock: Clock, frozen: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tokens(api)
    assert scrape(api, keys[Role.READER]).status_code == 200
    frozen.freeze(monkeypatch)
    api.refused("GET", "/metrics", 503, "database-unavailable", headers=keys[Role.ADMIN])
    api.refused("GET", "/metrics", 503, "database-unavailable", headers={"Authorization": "Bearer sdb_x"})
    frozen.thaw(monkeypatch)
    assert scrape(api, keys[Role.ADMIN]).status_code == 200
    api.refused("GET", "/metrics", 401, "unauthenticated", headers={"Authorization": "Bearer sdb_x"})


def test_a_token_that_is_taken_back_reads_metrics_for_a_minute_and_nothing_else(api: Api, clock: Clock) -> None:
    key = tokens(api)[Role.READER]
    assert scrape(api, key).status_code == 200
    api.db.access.revoke(api.db.access.check(key["Authorization"].partition(" ")[2]).id)  # type: ignore[union-attr]
    api.refused("GET", "/v1/me", 401, "unauthenticated", headers=key)
    assert scrape(api, key).status_code == 200
    clock.later()
    for _ in range(2):
        api.refused("GET", "/metrics", 401, "unauthenticated", headers=key)


def test_a_token_that_expires_ends_also_while_the_database_is_away(
    api: Api, clock: Clock, frozen: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = api.db.access.create("a", Role.READER, 1)
    key = {"Authorization": f"Bearer {made.secret}"}
    assert scrape(api, key).status_code == 200
    frozen.freeze(monkeypatch)
    clock.now += DAY / 1e6
    api.refused("GET", "/metrics", 503, "database-unavailable", headers=key)


def test_the_database_is_asked_once_a_minute_and_no_secret_is_kept(api: Api, clock: Clock, frozen: Frozen) -> None:
    key = tokens(api)[Role.READER]
    secret = key["Authorization"].partition(" ")[2]
    assert scrape(api, key).status_code == 200
    asked = frozen.asked
    remembered = api.client.app.state.house.remembered  # type: ignore[attr-defined]
    remembered.check(secret)
    assert frozen.asked == asked
    clock.later()
    remembered.check(secret)
    assert frozen.asked > asked
    remembered.check("sdb_wrong")
    assert len(remembered._said) == 1, "what is wrong is not kept: it would be a place for everybody who asks"
    assert secret not in repr(remembered._said)


def test_a_database_that_stands_still_is_not_asked_more_and_more(
    api: Api, clock: Clock, frozen: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tokens(api)[Role.READER]
    assert scrape(api, key).status_code == 200
    frozen.freeze(monkeypatch)
    asked = frozen.asked
    for number in range(2 * scrapers.ASKING):
        wrong = {"Authorization": f"Bearer sdb_{number}"}
        api.refused("GET", "/metrics", 503, "database-unavailable", headers=wrong)
    clock.later()
    metrics.of(api.db).gauges._read = (float("inf"), [])  # what reads them asks by itself
    assert scrape(api, key).status_code == 200, "whoever was seen reads on"
    assert frozen.asked == asked + scrapers.ASKING
    frozen.thaw(monkeypatch)
    api.refused("GET", "/metrics", 401, "unauthenticated", headers={"Authorization": "Bearer sdb_x"})
