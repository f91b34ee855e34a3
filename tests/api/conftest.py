from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from api_kit import LOCAL, Api
from starlette.testclient import TestClient

from speakerdb.api.app import create_app
from speakerdb.service import SpeakerDB
from speakerdb.settings import ApiSettings
from speakerdb.testing.factories import FakeExecutor, fake_settings
from tests.on_postgres import spare_databases

__all__ = ["spare_databases"]


ON_POSTGRESQL = ("test_api_people", "test_api_turns")
"""What asks the database's order, its locks and its pool of connections runs on PostgreSQL too."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__ in ON_POSTGRESQL and "catalogs" in metafunc.fixturenames:
        kinds = ["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)]
        metafunc.parametrize("catalogs", kinds, indirect=True)


@pytest.fixture
def catalogs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every library of a test has its catalog in an SQLite file, or in a database on PostgreSQL."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield
        return
    with request.getfixturevalue("spare_databases").as_catalogs(monkeypatch):
        yield


@pytest.fixture
def make_api(tmp_path: Path, catalogs: None) -> Iterator[Callable[..., Api]]:
    """Opens a library and its API; settings of `api` may be given, and others of the library."""
    with ExitStack() as stack:

        def make(*, client: tuple[str, int] = LOCAL, service: Any = None, settings: Any = None, **api: Any) -> Api:
            media = tmp_path / "media"
            media.mkdir(exist_ok=True)
            more = {"media_roots": (media,), "api": ApiSettings(**api)} | (settings or {})
            db = stack.enter_context(
                SpeakerDB.open(fake_settings(tmp_path / "library", **more), executor=FakeExecutor())
            )
            app = create_app(db, service=service)
            asking = TestClient(
                app, base_url="http://localhost", client=client, raise_server_exceptions=False, follow_redirects=False
            )
            return Api(db, stack.enter_context(asking), media)

        yield make


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    return make_api()


@pytest.fixture(autouse=True)
def no_unforeseen_error(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No request of a test may meet an error that nobody foresaw; a test that provokes one clears the log."""
    caplog.set_level(logging.INFO, "speakerdb")
    yield
    found = [record.getMessage() for record in caplog.records if record.getMessage().startswith("unexpected-error")]
    assert found == []
