"""The servers of a run: started, ended, and gone with the run however it went."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from speakerdb.testing.servers import given, plugin, supervisor
from speakerdb.testing.servers.opensearch import Cluster, OpenSearch, OpenSearchServer
from speakerdb.testing.servers.postgres import Databases, PostgresServer

PLUGIN = "speakerdb.testing.servers.plugin"
PATIENCE = 120.0


def connected(url: str) -> psycopg.Connection[tuple[object, ...]]:
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(address, autocommit=True, connect_timeout=10)


def wait(condition: Callable[[], object]) -> None:
    late = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < late
        time.sleep(0.05)


@pytest.fixture
def environment(repository: Path) -> dict[str, str]:
    """That of a test run inside a test: our code, none of our servers."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SPEAKERDB_")}
    return {**ours, "PYTHONPATH": str(repository), "CI": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def inner_pytest(folder: Path, text: str, environment: dict[str, str], *more: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_inner.py").write_text(text)
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-p",
            "xdist",
            "-p",
            PLUGIN,
            "--rootdir",
            ".",
            *more,
        ],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


def test_a_database_is_fresh_and_of_utf_8(postgres: Databases) -> None:
    first, second = postgres.new_database(), postgres.new_database()
    assert first != second
    with connected(first) as connection:
        connection.execute("CREATE TABLE only_here (n int)")
    with connected(second) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
    postgres.drop([second])
    assert second not in postgres.made
    with pytest.raises(psycopg.OperationalError), connected(second):
        pass


def test_killing_postgres_loses_no_commit(own_postgres: PostgresServer) -> None:
    url = own_postgres.new_database()
    with connected(url) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (7)")
        family = own_postgres.family()
        assert len(family) > 2
        own_postgres.kill()
    assert own_postgres.pid is None
    assert not own_postgres.ready()
    assert not {process.pid for process in supervisor.processes()} & set(family)
    own_postgres.start()
    own_postgres.start()  # nothing where it runs
    with connected(url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(7,)]
    assert "automatic recovery" in own_postgres.log_tail(100)


def test_a_paused_postgres_answers_again_later(own_postgres: PostgresServer) -> None:
    with connected(own_postgres.new_database()) as connection:
        own_postgres.pause()
        # A new connection is taken by the system and answered by nobody.
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(
                make_url(own_postgres.url).set(drivername="postgresql").render_as_string(hide_password=False),
                connect_timeout=2,
            )
        own_postgres.resume()
        assert connection.execute("SELECT 1").fetchone() == (1,)
    own_postgres.pause()
    own_postgres.stop()  # a paused one too
    assert own_postgres.pid is None


def test_what_a_test_left_in_ruins_is_replaced_for_the_next(pytestconfig: pytest.Config) -> None:
    def lent() -> Iterator[PostgresServer]:
        return plugin._lent(pytestconfig, "PostgreSQL", "own-postgres", lambda run: PostgresServer(run, "own-postgres"))

    for server in lent():
        server.kill()
        (server.folder / "data" / "global" / "pg_control").unlink()
    for server in lent():
        assert server.ready()
        assert server.made == ()


def test_killing_opensearch_loses_no_write(own_opensearch: OpenSearchServer) -> None:
    mapping = {"type": "knn_vector", "dimension": 2, "method": {"name": "hnsw", "engine": "lucene"}}
    own_opensearch.ask("PUT", "/voices", {"settings": {"index.knn": True}, "mappings": {"properties": {"v": mapping}}})
    own_opensearch.ask("PUT", "/voices/_doc/1", {"v": [0.6, 0.8]})
    own_opensearch.kill()
    assert not own_opensearch.ready()
    own_opensearch.start()
    assert own_opensearch.ask("GET", "/voices/_doc/1")["_source"] == {"v": [0.6, 0.8]}
    own_opensearch.pause()
    with pytest.raises(OSError, match="timed out"):
        own_opensearch.ask("GET", "/", seconds=1)
    own_opensearch.resume()
    own_opensearch.empty()
    assert own_opensearch.ask("GET", "/_cat/indices?format=json") == []


def test_a_cluster_lives_on_without_one_of_its_nodes(cluster: Cluster) -> None:
    settings = {"number_of_shards": 1, "number_of_replicas": 2}
    cluster.nodes[0].ask("PUT", "/voices?wait_for_active_shards=all", {"settings": settings})
    cluster.nodes[0].ask("PUT", "/voices/_doc/1", {"n": 1})
    for node in cluster.nodes:
        if node.ask("GET", "/_cat/cluster_manager?format=json")[0]["node"] in node.known["name"]:
            node.kill()  # the one that leads
            break
    left = next(other for other in cluster.nodes if other is not node)
    left.ask("GET", "/_cluster/health?wait_for_nodes=2&timeout=60s", seconds=70)
    assert left.ask("GET", "/voices/_doc/1")["found"]
    node.start()
    assert left.ask("GET", "/_cluster/health?wait_for_nodes=3&timeout=60s", seconds=70)["number_of_nodes"] == 3


def test_only_what_bears_the_prefix_is_removed(opensearch: OpenSearch, opensearch_prefix: str) -> None:
    for name in ("a", "a-b", "c"):
        opensearch.ask("PUT", f"/{opensearch_prefix}{name}")
    opensearch.remove(f"{opensearch_prefix}a")
    left = opensearch.ask("GET", f"/_cat/indices/{opensearch_prefix}*?format=json&h=index")
    assert [row["index"] for row in left] == [f"{opensearch_prefix}c"]


LIFETIMES = """
import psycopg, pytest

seen = {}

def is_there(postgres, url):
    name = url.rpartition("/")[2]
    with postgres._connected() as connection:
        return bool(connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchall())

@pytest.fixture(scope="module")
def of_module(postgres):
    seen["module"] = postgres.new_database()
    yield seen["module"]
    assert is_there(postgres, seen["module"])

@pytest.fixture
def of_test(postgres):
    seen["fixture"] = postgres.new_database()
    yield seen["fixture"]
    assert is_there(postgres, seen["fixture"])

@pytest.fixture
def through_another(request, postgres):
    request.getfixturevalue("of_module")
    return postgres.new_database()

def test_first(postgres, through_another, of_test, of_module):
    seen["test"] = postgres.new_database()
    assert len(postgres.made) == 4

def test_second(postgres, of_module):
    assert postgres.made == (of_module,)
    assert is_there(postgres, seen["module"])
    assert not is_there(postgres, seen["fixture"]) and not is_there(postgres, seen["test"])

def test_the_end(request, postgres):
    print("FOLDER", postgres.folder, "PID", postgres.pid)
"""


def test_databases_go_with_what_made_them_and_the_server_goes_with_the_run(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    done = inner_pytest(tmp_path, LIFETIMES, environment, "-s")
    assert done.returncode == 0, done.stdout + done.stderr
    folder, pid = re.findall(r"FOLDER (\S+) PID (\d+)", done.stdout)[0]
    assert not Path(folder).parent.exists()
    assert int(pid) not in {process.pid for process in supervisor.processes()}


SHARED = """
import os, pytest

@pytest.mark.parametrize("n", range(4))
def test_names_its_server(postgres, n):
    with open(os.environ["NOTES"], "a") as notes:
        print(os.getpid(), postgres.url, postgres.folder, file=notes)
"""


def test_all_workers_of_a_run_share_one_server(tmp_path: Path, environment: dict[str, str]) -> None:
    notes = tmp_path / "notes"
    done = inner_pytest(tmp_path, SHARED, {**environment, "NOTES": str(notes)}, "-n", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    workers, urls, folders = (
        set(column) for column in zip(*map(str.split, notes.read_text().splitlines()), strict=True)
    )
    assert len(workers) == 2
    assert len(urls) == 1
    assert not Path(folders.pop()).parent.exists()


SLEEPS = """
import os, time

def test_sleeps(postgres):
    with open(os.environ["NOTES"] + ".part", "w") as notes:
        print(postgres.folder.parent, file=notes)
    os.rename(os.environ["NOTES"] + ".part", os.environ["NOTES"])
    time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_servers_end_with_a_run_that_is_killed(
    tmp_path: Path, environment: dict[str, str], how: signal.Signals
) -> None:
    (tmp_path / "test_inner.py").write_text(SLEEPS)
    notes = tmp_path / "notes"
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", PLUGIN, "--rootdir", "."],
        cwd=tmp_path,
        env={**environment, "NOTES": str(notes)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait(lambda: notes.exists() or run.poll() is not None)
        folder = Path(notes.read_text().strip())
        assert [Path(server.argv[0]).name for server in supervisor.servers_of(folder) if "sh" not in server.argv[0]]
        run.send_signal(how)
        run.wait(PATIENCE)
    finally:
        run.kill()
        run.wait()
    wait(lambda: not folder.exists())
    assert supervisor.servers_of(folder) == []
    # Nor the supervisor, which ends a moment after it has removed the folder.
    wait(lambda: not [process for process in supervisor.processes() if str(folder) in process.argv])


NEEDY = """
def test_one(opensearch): pass
def test_two(opensearch_prefix): pass
def test_three(cluster): pass
def test_without(): pass
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_was_not_tested_is_counted_last(tmp_path: Path, environment: dict[str, str], workers: str) -> None:
    nowhere = {**environment, "XDG_CACHE_HOME": "/dev/null"}
    done = inner_pytest(tmp_path, NEEDY, nowhere, "-n", workers)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 3 skipped" in done.stdout
    *_, last, _ = done.stdout.strip().splitlines()
    assert last.startswith("NOT TESTED: 3 tests need a real OpenSearch, which could not be started: /dev/null/")


def test_on_ci_they_fail(tmp_path: Path, environment: dict[str, str]) -> None:
    nowhere = {**environment, "XDG_CACHE_HOME": "/dev/null", "CI": "true"}
    done = inner_pytest(tmp_path, NEEDY, nowhere)
    assert done.returncode == 1
    assert "1 passed, 3 errors" in done.stdout
    assert "NOT TESTED without a real OpenSearch, which could not be started: /dev/null/" in done.stdout


def test_what_needs_no_server_can_be_chosen(tmp_path: Path, environment: dict[str, str]) -> None:
    done = inner_pytest(tmp_path, NEEDY, environment, "--strict-markers", "-m", "not servers")
    assert "1 passed, 3 deselected" in done.stdout


def test_given_addresses_reach_every_worker_and_not_the_product(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "conftest.py").write_text("from speakerdb.testing.servers import given\ngiven.take()\n")
    text = (
        "import os\n"
        "def test_it(opensearch, postgres):\n"
        "    assert opensearch.url == 'http://127.0.0.1:1'\n"
        "    assert postgres.url == 'postgresql://127.0.0.1:1/x'\n"
        "    assert not [name for name in os.environ if name.startswith('SPEAKERDB_')]\n"
    )
    named = {
        **environment,
        "SPEAKERDB_TEST_OPENSEARCH": "http://127.0.0.1:1/",
        "SPEAKERDB_TEST_POSTGRES": "postgresql://127.0.0.1:1/x",
    }
    for workers in ("0", "1"):
        done = inner_pytest(tmp_path, text, named, "-n", workers)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_program_says_how_to_reach_both_and_ends_them(
    tmp_path: Path, environment: dict[str, str], postgres: Databases, opensearch: OpenSearch
) -> None:
    named = {
        **environment,
        "SPEAKERDB_TEST_OPENSEARCH": opensearch.url,
        "SPEAKERDB_TEST_POSTGRES": postgres.url,
    }
    program = subprocess.Popen(
        [sys.executable, "-m", "speakerdb.testing.servers"], env=named, stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout is not None
        lines = [program.stdout.readline() for _ in range(4)]
    finally:
        program.send_signal(signal.SIGINT)
        rest, _ = program.communicate(timeout=PATIENCE)
    assert program.returncode == 0
    assert rest == ""
    names, values = zip(*(line.removeprefix("export ").strip().split("=", 1) for line in lines), strict=True)
    assert names == (
        "SPEAKERDB_DATABASE_URL",
        "SPEAKERDB_OPENSEARCH__HOSTS",
        "SPEAKERDB_TEST_POSTGRES",
        "SPEAKERDB_TEST_OPENSEARCH",
    )
    assert values[1] == values[3] == opensearch.url
    made = values[0].strip("'")
    assert make_url(made).database != make_url(postgres.url).database
    with pytest.raises(psycopg.OperationalError), connected(made):
        pass


@pytest.mark.parametrize(
    "wrong", [{given.OPENSEARCH: "http://127.0.0.1:1"}, {given.POSTGRES: "postgresql://ann:geheim@127.0.0.1:1/x"},
              {given.POSTGRES: "nonsense"}, {given.OPENSEARCH: "nonsense"}],
)  # fmt: skip
def test_the_program_says_which_named_server_it_cannot_use(
    wrong: dict[str, str], environment: dict[str, str], postgres: Databases, opensearch: OpenSearch
) -> None:
    named = {**environment, given.OPENSEARCH: opensearch.url, given.POSTGRES: postgres.url, **wrong}
    command = [sys.executable, "-m", "speakerdb.testing.servers", "run", "--", "true"]
    done = subprocess.run(command, env=named, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert f"the {'OpenSearch' if given.OPENSEARCH in wrong else 'PostgreSQL'} that was named" in done.stderr
    assert len(done.stderr.splitlines()) == 1, "no traceback, and nothing is said to be starting"
    assert "geheim" not in done.stderr
