"""What only PostgreSQL has to prove: its clock, its one writer, its order of texts, its settings, its plans."""

import gc
import multiprocessing
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from speakerdb.catalog import database as database_module
from speakerdb.catalog import library, people, schema, trail, upgrade, vectors
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Database
from speakerdb.catalog.postgresql import STEP_BACK, ServerClock
from speakerdb.errors import ConfigurationError, DatabaseReadOnly, DatabaseUnavailable, InvalidInput, SpeakerDBError
from speakerdb.testing.servers.postgres import Databases
from tests.on_postgres import Spare

DAY = 86_400_000_000
PASSWORD = "of a role that a test makes"  # noqa: S105


def url_of(url: str, role: str) -> str:
    return sa.make_url(url).set(username=role, password=PASSWORD).render_as_string(hide_password=False)


@pytest.fixture
def url(spare_databases: Spare) -> Iterator[str]:
    lent = spare_databases.lend()
    yield lent
    spare_databases.give_back(lent)


@pytest.fixture
def opened(url: str) -> Iterator[Callable[..., Database]]:
    """Opens the test's database, as another process would."""
    made: list[Database] = []

    def make(address: str = url, **more: object) -> Database:
        made.append(Database(address, **more))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.close()


def server_time(database: Database) -> int:
    with database.read() as tx:
        return int(tx.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp()) * 1000000").scalar_one())


# Time


def test_time_is_the_servers_whatever_this_machine_says(
    opened: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 1000 * DAY)
    monkeypatch.setattr(time, "time", lambda: real() / 1e9 - DAY / 1e6)
    database = opened()
    for _ in range(3):
        assert abs(database.now() - server_time(database)) < DAY / 24
    with database.write():
        assert abs(database.now() - real() // 1000) < DAY / 24


def test_time_is_known_in_a_transaction_without_another_connection(
    opened: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = opened()
    with database.write():
        monkeypatch.setattr(database._engine, "connect", lambda: pytest.fail("asked for another connection"))
        assert database.now() <= database.now()


def test_a_clock_that_is_given_is_the_one(opened: Callable[..., Database]) -> None:
    assert opened(clock=lambda: 42).now() == 42


def test_noise_takes_no_time_back_and_a_clock_that_was_set_back_is_followed() -> None:
    clock = ServerClock()
    clock.learn(10 * DAY)
    first = clock()
    assert first >= 10 * DAY
    clock.learn(first - STEP_BACK // 2)  # an answer that came fast after one that came slowly
    assert clock() == first
    clock.learn(9 * DAY)
    assert 9 * DAY <= clock() < 10 * DAY
    clock.learn(11 * DAY)
    assert clock() >= 11 * DAY


def test_an_answer_that_was_under_way_for_long_takes_no_time_back(
    opened: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packet is lost, or the process stands still with the answer in its hands, while other threads go on."""
    database = opened()
    clock = database._dialect._clock  # type: ignore[union-attr]
    learn = clock.learn
    with monkeypatch.context() as patched, database.read():
        before = database.now()

        def late(server: int, *asked: int) -> None:
            time.sleep(1.5 * STEP_BACK / 1e6)
            assert database.now() > server + STEP_BACK
            learn(server, *asked)

        patched.setattr(clock, "learn", late)
        with database.read():
            assert database.now() > before + STEP_BACK, "what others hold would seem to stand still"
    with opened().read() as tx:
        there = tx.exec_driver_sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").scalar_one()
    assert abs(database.now() - there) < STEP_BACK


# One writer, and readers of one point in time


def count(tx: sa.Connection) -> int:
    return int(tx.exec_driver_sql("SELECT created_at FROM libraries WHERE id = 'l'").scalar_one())


def test_each_writer_sees_what_the_one_before_it_committed(opened: Callable[..., Database]) -> None:
    """Read, then write what follows from it: lost where a snapshot is older than the lock."""
    with opened().write() as tx:
        tx.exec_driver_sql("INSERT INTO libraries VALUES ('l', 'l', 0)")

    def add() -> None:
        database = opened()
        for _ in range(10):
            with database.write() as tx:
                statement = sa.text("UPDATE libraries SET created_at = :new").bindparams(new=count(tx) + 1)
                tx.execute(statement)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with opened().read() as tx:
        assert count(tx) == 40


def test_a_reader_sees_one_point_in_time_and_keeps_nobody_waiting(opened: Callable[..., Database]) -> None:
    one, other = opened(), opened()
    with one.read() as tx:  # before its first statement
        with other.write() as writing:
            writing.exec_driver_sql("INSERT INTO libraries VALUES ('l', 'l', 0)")
        assert tx.exec_driver_sql("SELECT count(*) FROM libraries").scalar() == 0
    with one.read() as tx:
        assert count(tx) == 0


def test_a_stream_that_is_not_read_to_its_end_ends_with_its_transaction(opened: Callable[..., Database]) -> None:
    """Closed later, by whoever collects it, it would break into the transaction that has the connection by then."""
    database = opened()
    with database.read() as tx:
        numbers = sa.select(sa.func.generate_series(1, 1000)).execution_options(yield_per=10)
        stream = tx.scalars(numbers)
        assert next(stream) == 1
    with database.write() as tx:
        tx.exec_driver_sql("INSERT INTO libraries VALUES ('l', 'l', 7)")
        del stream
        gc.collect()
        assert count(tx) == 7


def test_a_reader_cannot_write(opened: Callable[..., Database]) -> None:
    with pytest.raises(DatabaseReadOnly), opened().read() as tx:
        tx.exec_driver_sql("INSERT INTO libraries VALUES ('l', 'l', 0)")


def test_a_writer_that_waits_too_long_says_so(opened: Callable[..., Database], monkeypatch: pytest.MonkeyPatch) -> None:
    holding = opened()
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_SECONDS", 0.2)
    waiting = opened()
    with holding.write():
        with pytest.raises(DatabaseUnavailable, match="locked by another process"), waiting.write():
            pytest.fail("two write at once")
        with waiting.read():
            pass
    with waiting.write():
        pass


def test_connections_that_are_all_in_use_are_an_error_of_ours(opened: Callable[..., Database]) -> None:
    database = opened()
    database._engine.pool._timeout = 0.1  # type: ignore[attr-defined]
    taken = [database._engine.connect() for _ in range(15)]
    with pytest.raises(DatabaseUnavailable, match="in use"), database.read():
        pytest.fail("there is no connection left")
    for connection in taken:
        connection.close()


def _in_a_child(database: Database, answers: "multiprocessing.Queue[int]") -> None:
    with database.write() as tx:
        answers.put(tx.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def test_a_forked_child_talks_on_connections_of_its_own(opened: Callable[..., Database]) -> None:
    database = opened()
    with database.read() as tx:
        ours = tx.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.Queue[int] = context.Queue()
    child = context.Process(target=_in_a_child, args=(database, answers))
    child.start()
    theirs = answers.get(timeout=60)
    child.join()
    with database.read() as tx:
        assert tx.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() == ours != theirs


# The server's settings


@pytest.fixture
def set_default(postgres: Databases) -> Callable[[str], str]:
    """A database of its own whose sessions begin with a setting."""

    def make(setting: str) -> str:
        url = postgres.new_database()
        upgrading = Database(url)
        upgrade.upgrade(upgrading)
        with upgrading.write() as tx:
            name = tx.exec_driver_sql("SELECT current_database()").scalar_one()
            tx.exec_driver_sql(f'ALTER DATABASE "{name}" SET {setting}')
        upgrading.close()
        return url

    return make


@pytest.mark.parametrize(("weak", "wanted"), [("off", "on"), ("remote_apply", "remote_apply")])
def test_what_is_acknowledged_is_durable_whatever_the_default(
    set_default: Callable[[str], str], opened: Callable[..., Database], weak: str, wanted: str
) -> None:
    with opened(set_default(f"synchronous_commit = {weak}")).write() as tx:
        assert tx.exec_driver_sql("SHOW synchronous_commit").scalar() == wanted


def test_a_read_only_database_is_read_and_not_written(
    set_default: Callable[[str], str], opened: Callable[..., Database]
) -> None:
    database = opened(set_default("default_transaction_read_only = on"))
    with database.read() as tx:
        assert tx.exec_driver_sql("SELECT count(*) FROM libraries").scalar() == 0
    with pytest.raises(DatabaseReadOnly) as caught, database.write():
        pytest.fail("a writer must hear it before it begins")
    assert "primary" in caught.value.hint


def test_sessions_have_limits(opened: Callable[..., Database]) -> None:
    """Nothing waits for ever, and nobody who went away keeps others waiting."""
    with opened().write() as tx:
        for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
            assert tx.exec_driver_sql(f"SHOW {name}").scalar() != "0"
    with opened().read() as tx:
        # A reader keeps nobody waiting; it may think for longer between two answers.
        assert tx.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar() == "0"


def test_a_database_that_cannot_hold_every_name_is_refused(
    postgres: Databases, opened: Callable[..., Database]
) -> None:
    url = sa.make_url(postgres.new_database())
    admin = sa.create_engine(postgres.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f'DROP DATABASE "{url.database}"')
        connection.exec_driver_sql(
            f"CREATE DATABASE \"{url.database}\" ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0 LOCALE_PROVIDER libc"
        )
    database = opened(url.render_as_string(hide_password=False))
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="LATIN1") as caught, database.read():
            pytest.fail("opened")
        assert "UTF8" in caught.value.hint


def test_a_user_without_rights_is_told(postgres: Databases, opened: Callable[..., Database]) -> None:
    url = postgres.new_database()
    admin = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    role = f"test_{sa.make_url(url).database}"
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    try:
        theirs = url_of(url, role)
        database = opened(theirs)
        with pytest.raises(ConfigurationError) as caught:
            upgrade.upgrade(database)
        assert "rights" in caught.value.hint
        database.close()
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://ann:geheim@127.0.0.1:1/x",
        "postgresql://127.0.0.1:1/x?user=ann&password=geheim",
        "postgresql+psycopg://127.0.0.1:1/x?sslpassword=geheim&connect_timeout=2",
        "postgresql://ann:geheim@127.0.0.1:1/x?nonsense=1",
        "postgresql://ann:geh:eim@127.0.0.1:geheim/x",
        "postgresql+asyncpg://ann:geheim@127.0.0.1:1/x",
    ],
)
def test_no_secret_is_ever_shown(address: str) -> None:
    with pytest.raises((ConfigurationError, DatabaseUnavailable)) as caught:  # noqa: PT012 - either line may
        database = Database(address)
        assert "geheim" not in database.url
        database.now()
    error: BaseException | None = caught.value
    while error is not None:
        assert "geheim" not in str(error) + repr(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize("host", ["db.invalid", "im@db.invalid"])
def test_a_host_that_nobody_knows_is_named_unless_it_may_be_part_of_a_password(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(DatabaseUnavailable) as caught:
        Database(f"postgresql://ann:gehe@{host}:5432/x").now()
    assert "is not known to this machine" in caught.value.message
    assert ("db.invalid" in caught.value.message) == (host == "db.invalid")
    assert "%40" in caught.value.hint
    error: BaseException | None = caught.value
    while error is not None:
        assert "im@" not in str(error) + repr(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


# Texts and numbers


def test_names_come_in_the_order_of_code_points(opened: Callable[..., Database]) -> None:
    database = opened()
    names = ["a", "B", "_", "Ä", "Zoë", "zoe", "\uff41", "😀", "a b", "A-b", "a'b", "é", "e\u0301"]
    with database.write() as tx:
        home = library.ensure_library(tx, "default", 1)
        for name in names:
            people.insert(tx, home, name, 1)
        assert [view.name for view in people.listed(tx)] == sorted(names)
        found = tx.scalars(sa.select(schema.profiles.c.name).where(schema.profiles.c.name > "Z"))
        assert sorted(found) == sorted(name for name in names if name > "Z")


@pytest.mark.parametrize("text", ["a\0b", "half \ud83d a character"])
def test_what_no_database_can_hold_is_refused_and_never_found(url: str, tmp_path: Path, text: str) -> None:
    for address in (url, f"sqlite:///{tmp_path / 'c.db'}"):
        catalog = Catalog(address, locks=tmp_path / "locks")
        catalog.prepare(auto_upgrade=True)
        with pytest.raises(InvalidInput), catalog.change() as tx:
            library.ensure_library(tx, text, 1)
        with catalog.read() as tx:
            assert library.find_library(tx, text) is None
            with pytest.raises(SpeakerDBError) as caught:
                library.resolve_id(tx, schema.recordings, text, "recording")
            assert caught.value.code == "not-found"
        catalog.close()


def test_a_value_that_cannot_be_sent_is_the_givers_fault(url: str, tmp_path: Path) -> None:
    for address in (url, f"sqlite:///{tmp_path / 'c.db'}"):
        database = Database(address)
        upgrade.upgrade(database)
        with pytest.raises(InvalidInput), database.read() as tx:
            tx.execute(sa.select(schema.events).where(schema.events.c.who == "half \ud83d a character")).all()
        with pytest.raises(InvalidInput), database.read() as tx:
            tx.execute(sa.select(schema.events).where(schema.events.c.id == 2**70)).all()
        database.close()


def test_an_id_in_an_event_is_found_as_it_is_written(url: str, tmp_path: Path) -> None:
    for address in (url, f"sqlite:///{tmp_path / 'c.db'}"):
        database = Database(address)
        upgrade.upgrade(database)
        with database.write() as tx:
            for number, name in enumerate(["show_1", "SHOW_1", "showX1", "100%"]):
                row = {"at": number, "kind": "recording-added", "who": "me", "data": f'{{"a": "{name}"}}'}
                tx.execute(sa.insert(schema.events), [row])
        with database.read() as tx:
            assert [event["at"] for event in trail.events_naming(tx, "show_1", 10)] == [0]
            assert [event["at"] for event in trail.events_naming(tx, "100%", 10)] == [3]
        database.close()


# Plans


def test_what_waits_is_found_by_its_partial_index(opened: Callable[..., Database]) -> None:
    database = opened()
    with database.write() as tx:
        tx.exec_driver_sql(
            "INSERT INTO generations (name, fingerprint, dimension, definition, live, created_at)"
            " VALUES ('v3', '', 1, '', true, 0)"
        )
        tx.exec_driver_sql(
            "INSERT INTO projections (generation, entity_id, kind, library_id, version, indexed_version)"
            " SELECT 'v3', 'spk_' || n, 'speaker', 'l', 2, CASE WHEN mod(n, 1000) = 0 THEN 1 ELSE 2 END"
            " FROM generate_series(1, 20000) n"
        )
        tx.exec_driver_sql("ANALYZE projections")
    with database.read() as tx:
        asked = vectors._waiting.compile(dialect=tx.dialect)
        values = asked.params | {"in_generation": "v3", "row_limit": 500}
        plan = "\n".join(tx.exec_driver_sql(f"EXPLAIN {asked}", values).scalars())
        assert len(vectors.waiting_documents(tx, "v3", 500)) == 20
    assert "ix_projections_waiting" in plan
