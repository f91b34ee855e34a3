"""Fixtures that give tests real servers: the ones the environment names, else local ones, one of each for a whole run.

Loaded by `pytest_plugins = ["speakerdb.testing.servers.plugin"]` in the conftest of the root. Where a server cannot be
had, the tests that need it are skipped, and the last lines of the run say how many; on CI they fail.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import pytest

from speakerdb.testing.servers import downloads, given
from speakerdb.testing.servers.opensearch import Cluster, OpenSearch, OpenSearchServer, fresh_prefix
from speakerdb.testing.servers.postgres import Databases, PostgresServer
from speakerdb.testing.servers.run import NoServer, Run

POSTGRES = "PostgreSQL"
OPENSEARCH = "OpenSearch"
# What a test needs that uses a fixture.
NEEDS = {
    "postgres": POSTGRES,
    "own_postgres": POSTGRES,
    "opensearch": OPENSEARCH,
    "opensearch_prefix": OPENSEARCH,
    "own_opensearch": OPENSEARCH,
    "cluster": OPENSEARCH,
}
LOCAL = frozenset({"own_postgres", "own_opensearch", "cluster"})
NOT_TESTED = "NOT TESTED without a real "

_RUN = pytest.StashKey[Run]()
_DATABASES = pytest.StashKey[Databases]()


class Restorable(Protocol):
    """A server of our own that goes from test to test."""

    def resume(self) -> None: ...
    def start(self) -> None: ...
    def empty(self) -> None: ...
    def discard(self) -> None: ...


S = TypeVar("S", bound=Restorable)


def run_of(config: pytest.Config) -> Run:
    """The run of servers that this test run shares; the controller begins it, a worker of pytest-xdist joins it."""
    if _RUN not in config.stash:
        folder = getattr(config, "workerinput", {}).get("servers_folder")
        config.stash[_RUN] = Run.begin() if folder is None else Run.at(folder)
    return config.stash[_RUN]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "servers: needs a real PostgreSQL or OpenSearch; set by the fixtures it uses")
    given.give(getattr(config, "workerinput", {}).get("servers_given", {}))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells a worker of pytest-xdist, before it begins, which run it belongs to."""
    node.workerinput["servers_given"] = given.everything()
    node.workerinput["servers_folder"] = str(run_of(node.config).folder)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    if _RUN in config.stash:
        config.stash[_RUN].end()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not NEEDS.keys().isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.servers)
    # Who borrows a server waits for who has it. At the end of a run all workers would wait for one.
    items.sort(key=lambda item: LOCAL.isdisjoint(getattr(item, "fixturenames", ())))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetches what is missing before the first test, whose time is limited and to whom the network is closed."""
    config = session.config
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    given_too = {name for name in used if name in NEEDS and (name in LOCAL or given.get(given.OPENSEARCH) is None)}
    if config.option.collectonly or OPENSEARCH not in {NEEDS[name] for name in given_too}:
        return
    for artifact in (downloads.OPENSEARCH, downloads.KNN):
        if downloads.is_here(artifact):
            continue
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"fetching {artifact.filename}, {artifact.megabytes} MB, into {downloads.cache()}")
        try:
            run_of(config).once("downloads", lambda artifact=artifact: downloads.obtain(artifact))  # type: ignore[misc]
        except NoServer:
            return  # the first test that wants it says why, and so does every other


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Counts, loudly and last, what was not tested for want of a server."""
    missing: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        if NOT_TESTED in reason:
            missing[reason.partition(NOT_TESTED)[2].splitlines()[0]] += 1  # without the server's log
    for why, count in sorted(missing.items()):
        terminalreporter.write_line(
            f"NOT TESTED: {count} test{'s' if count > 1 else ''} need{'' if count > 1 else 's'} a real {why}", red=True
        )


def not_tested(what: str, why: NoServer) -> None:
    """Skips the test that runs; on CI it fails."""
    reason = f"{NOT_TESTED}{what}, which could not be started: {why}"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _had(what: str, start: Callable[[], S]) -> S:
    try:
        return start()
    except NoServer as why:
        not_tested(what, why)
        raise


def _started(server: S) -> S:
    server.start()
    return server


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Iterator[Databases]:
    """A PostgreSQL, shared by all tests; `.new_database()` is the address of a fresh empty database.

    A database lives as long as the fixture in which it was made, or to the end of the test that made it.
    """
    url = given.get(given.POSTGRES)
    databases: Databases
    if url is not None:
        databases = Databases(url)
    else:
        run = run_of(pytestconfig)
        databases = _had(POSTGRES, lambda: run.once("postgres", lambda: _started(PostgresServer(run))))
    pytestconfig.stash[_DATABASES] = databases
    yield databases
    databases.drop(databases.made)
    del pytestconfig.stash[_DATABASES]


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Iterator[None]:
    """Databases that a fixture makes go when the fixture does."""
    databases = request.config.stash.get(_DATABASES, None)
    before = set(databases.made) if databases is not None else set()
    mine: list[str] = []

    def drop() -> None:
        if databases is not None:
            databases.drop(mine)

    if databases is not None:
        fixturedef.addfinalizer(drop)  # before the fixture's own, so that it is called after them
    result = yield
    if databases is not None:
        mine += [url for url in databases.of_nobody if url not in before]
        databases.belongs(mine)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Databases that a test makes by itself go when it ends."""
    result = yield
    databases = item.config.stash.get(_DATABASES, None)
    if databases is not None:
        databases.drop(databases.of_nobody)
    return result


@pytest.fixture(scope="session")
def opensearch(pytestconfig: pytest.Config) -> OpenSearch:
    """An OpenSearch, shared by all tests: use `opensearch_prefix`, change no setting of the cluster, leave it running."""
    url = given.get(given.OPENSEARCH)
    if url is not None:
        return OpenSearch(url)
    run = run_of(pytestconfig)
    return _had(OPENSEARCH, lambda: run.once("opensearch", lambda: _started(OpenSearchServer(run))))


@pytest.fixture
def opensearch_prefix(opensearch: OpenSearch) -> Iterator[str]:
    """A prefix of this test's own for its indices and aliases; what bears it is removed afterwards."""
    prefix = fresh_prefix()
    yield prefix
    opensearch.remove(prefix)


def _lent(config: pytest.Config, what: str, name: str, make: Callable[[Run], S]) -> Iterator[S]:
    """A server that goes from test to test, one test of the run at a time. What the last left is put right or away."""
    run = run_of(config)

    def restored() -> S:
        server = make(run)
        try:
            server.resume()
            server.start()
            server.empty()
        except (NoServer, OSError):
            server.discard()
            return _started(make(run))
        return server

    with run.locked(f"{name}-lent"):
        yield _had(what, lambda: run.once(name, restored))


@pytest.fixture
def own_postgres(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    """A PostgreSQL without databases that the test may stop, kill, pause and start again."""
    yield from _lent(pytestconfig, POSTGRES, "own-postgres", lambda run: PostgresServer(run, "own-postgres"))


@pytest.fixture
def own_opensearch(pytestconfig: pytest.Config) -> Iterator[OpenSearchServer]:
    """An empty OpenSearch of one node that the test may stop, kill, pause and start again."""
    yield from _lent(
        pytestconfig,
        OPENSEARCH,
        "own-opensearch",
        lambda run: OpenSearchServer(run, "own-opensearch", heap=512, small=True),
    )


@pytest.fixture
def cluster(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """An empty OpenSearch of three small nodes; any of `cluster.nodes` may be stopped, killed, paused."""
    yield from _lent(pytestconfig, OPENSEARCH, "cluster", Cluster)
