"""A PostgreSQL that is stopped, killed, paused, full, or answers no more: each ends in the right error, and in recovery."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from speakerdb.catalog import postgresql, upgrade
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Database
from speakerdb.errors import BackendError, ConfigurationError, DatabaseUnavailable, LeaseHeld, LeaseLost
from speakerdb.extraction.extract import Extracted, Task
from speakerdb.service import SpeakerDB
from speakerdb.testing import invariants
from speakerdb.testing.factories import FakeExecutor, fake_extract, fake_settings, silence, two_voices
from speakerdb.testing.servers.postgres import PostgresServer

WRONG = "geheim"
ADD = "INSERT INTO libraries VALUES (:id, :id, 0)"


@pytest.fixture
def url(own_postgres: PostgresServer) -> str:
    made = own_postgres.new_database()
    database = Database(made)
    upgrade.upgrade(database)
    database.close()
    return made


@pytest.fixture
def open_database(url: str) -> Iterator[Callable[..., Database]]:
    opened: list[Database] = []

    def make(address: str = url) -> Database:
        opened.append(Database(address))
        return opened[-1]

    yield make
    for database in opened:
        database.close()


def add(database: Database, *names: str) -> None:
    with database.write() as tx:
        for name in names:
            tx.execute(sa.text(ADD), {"id": name})


def names(database: Database) -> list[str]:
    with database.read() as tx:
        return list(tx.scalars(sa.text("SELECT id FROM libraries ORDER BY id")))


def restart(server: PostgresServer) -> None:
    server.stop()
    server.start()


# Gone, and back


def test_a_restart_between_two_transactions_is_not_noticed(
    own_postgres: PostgresServer, open_database: Callable[..., Database]
) -> None:
    database = open_database()
    with database.read(), database.read(), database.read():  # three connections, all of them dead after it
        pass
    restart(own_postgres)
    add(database, "a")
    restart(own_postgres)
    assert names(database) == ["a"]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_what_a_lost_server_had_not_acknowledged_is_gone_as_a_whole(
    own_postgres: PostgresServer, open_database: Callable[..., Database], how: str
) -> None:
    database = open_database()
    add(database, "acknowledged")
    with pytest.raises(BackendError) as caught, database.write() as tx:  # noqa: PT012 - it is in the middle
        tx.execute(sa.text(ADD), {"id": "first"})
        getattr(own_postgres, how)()
        tx.execute(sa.text(ADD), {"id": "second"})
    assert caught.value.transient
    with pytest.raises(DatabaseUnavailable) as without, database.read():
        pytest.fail("there is no server")
    assert "database_url" in without.value.hint
    own_postgres.start()
    assert names(database) == ["acknowledged"]
    add(database, "first", "second")
    assert names(database) == ["acknowledged", "first", "second"]


def test_a_reader_whose_server_goes_hears_it(
    own_postgres: PostgresServer, open_database: Callable[..., Database]
) -> None:
    database = open_database()
    with pytest.raises(DatabaseUnavailable), database.read() as tx:  # noqa: PT012 - it is in the middle
        restart(own_postgres)
        tx.execute(sa.text("SELECT 1"))
    assert names(database) == []


def test_a_connection_that_is_ended_right_before_the_commit(open_database: Callable[..., Database]) -> None:
    database, other = open_database(), open_database()

    def end(connection: sa.Connection) -> None:
        pid = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
        with other.read() as tx:
            tx.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    sa.event.listen(database._engine, "commit", end, once=True)
    with pytest.raises(DatabaseUnavailable):
        add(database, "a")
    assert names(database) == []
    add(database, "a")
    assert names(database) == ["a"]


class Wire:
    """A wire on loopback to a server, that can be cut: after the server has done what it was told, before it could say so."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.cut_at = b""
        self._ends: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        threads = []
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._ends += [near, far]
                threads += [
                    threading.Thread(target=self._carry, args=(near, far, True)),
                    threading.Thread(target=self._carry, args=(far, near, False)),
                ]
                threads[-2].start()
                threads[-1].start()
        for thread in threads:
            thread.join()

    def _carry(self, source: socket.socket, target: socket.socket, outward: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if outward and self.cut_at and self.cut_at in data:
                    self.cut_at = b""
                    target.sendall(data)
                    source.shutdown(socket.SHUT_RDWR)  # nobody will hear the answer
                    target.settimeout(10)
                    continue
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for end in self._ends:
            end.close()


def test_a_commit_whose_answer_is_lost_can_be_repeated(
    own_postgres: PostgresServer, url: str, open_database: Callable[..., Database]
) -> None:
    address = sa.make_url(url)
    assert address.port is not None
    with closing(Wire(address.port)) as wire:
        through = open_database(address.set(port=wire.port).render_as_string(hide_password=False))
        add(through, "before")
        wire.cut_at = b"COMMIT\0"
        with pytest.raises(DatabaseUnavailable) as caught, through.write() as tx:
            tx.execute(sa.text(f"{ADD} ON CONFLICT DO NOTHING"), {"id": "a"})
        assert caught.value.transient
        for _ in range(2):  # whether it happened or not, doing it again is right
            with through.write() as tx:
                tx.execute(sa.text(f"{ADD} ON CONFLICT DO NOTHING"), {"id": "a"})
        assert names(through) == ["a", "before"]
        through.close()


def test_a_server_that_says_nothing_is_given_up(
    own_postgres: PostgresServer, open_database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database()
    add(database, "a")
    monkeypatch.setattr(postgresql, "STATEMENT_SECONDS", 1.0)
    monkeypatch.setattr(postgresql, "CONNECT_SECONDS", 2)
    late = open_database()
    try:
        with pytest.raises(DatabaseUnavailable), database.write() as tx:  # noqa: PT012 - it is in the middle
            tx.execute(sa.text(ADD), {"id": "b"})
            own_postgres.pause()
            tx.execute(sa.text(ADD), {"id": "c"})
        with pytest.raises(DatabaseUnavailable), late.read():
            pytest.fail("it does not answer")
    finally:
        own_postgres.resume()
    assert names(database) == names(late) == ["a"]


def test_a_statement_that_takes_too_long_is_ended(
    open_database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "STATEMENT_SECONDS", 0.5)
    database = open_database()
    with pytest.raises(DatabaseUnavailable, match="too long"), database.read() as tx:
        tx.execute(sa.text("SELECT pg_sleep(60)"))
    assert names(database) == []


def test_a_writer_that_stands_still_is_put_out(url: str, open_database: Callable[..., Database]) -> None:
    """As when its process is stopped: the others must not wait for ever."""
    standing, other = Database(url, writer_idle=0.3), open_database()
    with closing(standing), pytest.raises(DatabaseUnavailable), standing.write() as tx:  # noqa: PT012 - in the middle
        tx.execute(sa.text(ADD), {"id": "half"})
        add(other, "a")
        tx.execute(sa.text(ADD), {"id": "done"})
    assert names(other) == ["a"]


# Refused


def test_too_many_connections(own_postgres: PostgresServer, url: str, open_database: Callable[..., Database]) -> None:
    admin = open_database()
    with admin.write() as tx:
        tx.exec_driver_sql("CREATE ROLE narrow LOGIN PASSWORD 'geheim' CONNECTION LIMIT 1")
        tx.exec_driver_sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO narrow")
    try:
        narrow = sa.make_url(url).set(username="narrow", password=WRONG).render_as_string(hide_password=False)
        one, other = open_database(narrow), open_database(narrow)
        with one.read(), pytest.raises(DatabaseUnavailable) as caught, other.read():
            pytest.fail("one is allowed")
        assert caught.value.transient
        one.close()
        assert names(other) == []
        other.close()
    finally:
        with admin.write() as tx:
            tx.exec_driver_sql("DROP OWNED BY narrow")
            tx.exec_driver_sql("DROP ROLE narrow")


@pytest.mark.parametrize(
    "change", [{"password": "geheim"}, {"username": "nobody"}, {"database": "nothing"}, {"password": ""}]
)
def test_an_address_that_is_refused_is_to_be_mended(url: str, change: dict[str, str]) -> None:
    database = Database(sa.make_url(url).set(**change).render_as_string(hide_password=False))
    secrets = ["geheim", sa.make_url(url).password or ""]
    with pytest.raises(ConfigurationError) as caught, database.read():
        pytest.fail("let in")
    assert caught.value.exit_code == 2
    assert "database_url" in caught.value.hint
    assert ("PGPASSWORD" in caught.value.hint) == (change == {"password": ""})
    error: BaseException | None = caught.value
    while error is not None:
        for secret in secrets:
            assert secret not in f"{error} {error!r} {vars(error)}"
        error = error.__cause__ or error.__context__
    assert not any(secret in database.url for secret in secrets)


# Two machines


@dataclass
class Clock:
    now: int = 1_000_000_000_000

    def __call__(self) -> int:
        return self.now


def test_a_lease_of_another_machine_is_taken_when_it_has_expired(url: str, tmp_path: Path) -> None:
    """Nobody can see whether a process of another machine lives: only the expiry counts, by one clock."""
    clock = Clock()
    one, other = (Catalog(url, locks=tmp_path / name, lease_seconds=60, clock=clock) for name in ("one", "other"))
    lease = one.acquire("work")
    one.holder.close()  # what its end leaves behind there cannot be seen here
    with pytest.raises(LeaseHeld):
        other.acquire("work")
    clock.now += 61_000_000
    assert other.acquire("work").epoch == lease.epoch + 1
    with pytest.raises(LeaseLost), one.job(lease):
        pytest.fail("it was taken over")
    for catalog in (one, other):
        catalog.close()


# A whole library


def test_work_goes_on_where_a_killed_server_stopped_it(
    own_postgres: PostgresServer, tmp_path: Path, open_database: Callable[..., Database]
) -> None:
    deaths = iter([3, 7])
    death, seen = next(deaths), 0

    def answer(task: Task) -> Extracted:
        nonlocal death, seen
        seen += 1
        if seen == death:
            own_postgres.kill()
            death = next(deaths, -1)
        return fake_extract(task)

    settings = fake_settings(tmp_path, database_url=own_postgres.new_database(), batch_recordings=4)
    with SpeakerDB.open(settings, executor=FakeExecutor(answer)) as db:
        added = [db.add(None, two_voices(), recording_id=f"r{n}", waveform=silence(20)).recording_id for n in range(10)]
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                db.work()
            own_postgres.start()
        db.work()
        assert db.progress().recordings_done == len(added)
        invariants.check(db)
